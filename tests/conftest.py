"""What all tests share: the device they run on, and random numbers that start afresh.

    pytest                        NumPy
    pytest --device gpu           CuPy on a GPU (gpu:1: on the second)
    pytest --device cupy-on-cpu   CuPy without a GPU: see cupy_on_cpu/cuda_on_cpu.py
"""

import importlib
import os
import sys
from pathlib import Path

import pytest

import tinygan
from tinygan.backend import DeviceError

CUPY_ON_CPU = Path(__file__).with_name("cupy_on_cpu")
DEVICE = pytest.StashKey[str]()  # what the library is told: cpu, gpu, ...


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu",
                     help="where arrays live: cpu, gpu, gpu:1, or cupy-on-cpu (CuPy, no GPU)")


def pytest_configure(config):
    config.addinivalue_line("markers", "cpu_only(reason): says something of NumPy alone")
    device = config.getoption("--device")
    try:
        if device == "cupy-on-cpu":
            device = "gpu"
            load_cupy_on_cpu()
            os.environ["PYTHONPATH"] = str(CUPY_ON_CPU)  # for the programs that tests start
            # What goes wrong in a function that CuPy's compiled code calls.
            config.addinivalue_line("filterwarnings",
                                    "error::pytest.PytestUnraisableExceptionWarning")
        tinygan.use_device(device)
        config.stash[DEVICE] = device
    except (DeviceError, ImportError) as error:
        raise pytest.UsageError(str(error)) from error


def load_cupy_on_cpu():
    """Make `import cupy` CuPy on the CPU. Raises ImportError, which says what is missing."""
    if "cupy" not in sys.modules:
        sys.path.insert(0, str(CUPY_ON_CPU))
        importlib.import_module("cupy")


@pytest.fixture(autouse=True)
def _afresh(request):
    """No test depends on the random numbers or the device of what ran before it."""
    device = request.config.stash[DEVICE]
    marker = request.node.get_closest_marker("cpu_only")
    if marker and device != "cpu":
        pytest.skip(f"for NumPy alone: {marker.args[0]}")
    _choose(device)
    tinygan.seed(0)
    yield
    _choose(device)


def _choose(device):
    if tinygan.device() != device:
        tinygan.use_device(device)


@pytest.fixture
def with_cupy():
    """`--device gpu` can be used in this test."""
    if tinygan.device() == "cpu":
        try:
            load_cupy_on_cpu()
        except ImportError as error:
            pytest.skip(str(error))


@pytest.fixture
def cuda_on_cpu(with_cupy):
    """The device of cuda_on_cpu.py, which counts what it is asked for."""
    if "cuda_on_cpu" not in sys.modules:
        pytest.skip("a GPU does not count: use --device cupy-on-cpu")
    return sys.modules["cuda_on_cpu"]
