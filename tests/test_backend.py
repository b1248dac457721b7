"""The device, the errors of a GPU that cannot be used, random numbers, and the allocator.

The machines that these tests run on rarely have a GPU: a module of a few lines stands in for
CuPy, and fails in each way that a real installation does.
"""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import numpy
import pytest

import tinygan
from tinygan import backend
from tinygan.backend import DeviceError, to_device, to_host, xp
from tinygan.files import UsageError


@pytest.fixture
def on_cpu():
    tinygan.use_device("cpu")


class CUDARuntimeError(RuntimeError):
    """As CuPy's: it knows CUDA's number of the error."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def raise_(error):
    raise error


class FakeCuPy(ModuleType):
    """A CuPy with one GPU that works. Its arrays are NumPy's."""

    float32 = numpy.float32

    def __init__(self, **runtime):
        super().__init__("cupy")
        self.chosen = []
        working = {
            "CUDARuntimeError": CUDARuntimeError,
            "getDeviceCount": lambda: 1,
            "driverGetVersion": lambda: 12080,
            "setDevice": self.chosen.append,
        }
        self.cuda = SimpleNamespace(runtime=SimpleNamespace(**working | runtime))

    def ones(self, shape, dtype):
        return numpy.ones(shape, dtype)

    def tanh(self, array):
        return "the GPU's tanh"


def installed(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "cupy", module)


def refusal(name):
    """The sentence with which use_device refuses; the device must be as before."""
    with pytest.raises(DeviceError) as caught:
        tinygan.use_device(name)
    assert tinygan.device() == "cpu" and xp.module is numpy
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400
    return sentence


# ---------------------------------------------------------------- choosing


@pytest.mark.parametrize(
    "name", ["cuda", "gpu:", "gpu:x", "gpu:-1", "gpu:1:2", "GPU", "cpu:0", "cpu:", ""]
)
def test_an_unknown_device_is_named_with_those_that_there_are(on_cpu, name):
    sentence = refusal(name)
    assert repr(name) in sentence and "cpu, gpu or" in sentence and "gpu:1" in sentence


def test_a_refusal_is_a_mistake_that_the_user_can_mend():
    assert issubclass(DeviceError, UsageError)


@pytest.mark.parametrize(("name", "number"), [("gpu", 0), ("gpu:0", 0), ("gpu:1", 1)])
def test_a_gpu_that_works_is_chosen_by_its_number(on_cpu, monkeypatch, name, number):
    cupy = FakeCuPy(getDeviceCount=lambda: 2)
    installed(monkeypatch, cupy)
    tinygan.use_device(name)
    assert tinygan.device() == name and cupy.chosen == [number]


def test_after_the_choice_every_function_is_that_of_the_device(on_cpu, monkeypatch):
    installed(monkeypatch, FakeCuPy())
    assert xp.tanh is numpy.tanh
    tinygan.use_device("gpu")
    assert xp.tanh(1.0) == "the GPU's tanh"
    tinygan.use_device("cpu")
    assert xp.tanh is numpy.tanh


def test_a_function_that_the_device_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = xp.no_such_function


# ---------------------------------------------------------------- a GPU that cannot be used


def test_cupy_is_missing(on_cpu, monkeypatch):
    installed(monkeypatch, None)  # which makes `import cupy` fail as if it were not there
    sentence = refusal("gpu")
    assert sentence.startswith("CuPy is not installed")
    assert "pip install 'tinygan[cuda12]'" in sentence and "or use --device cpu" in sentence


@pytest.mark.parametrize(
    "failure",
    [
        "raise ImportError('libcuda.so.1: cannot open shared object file\\nand more lines')",
        "import a_module_that_cupy_needs_and_that_is_not_there",
        "import numpy; numpy.float_",  # an old CuPy beside NumPy 2
        "raise OSError('libnvrtc.so.12: cannot open shared object file')",
    ],
)
def test_cupy_is_broken(on_cpu, monkeypatch, tmp_path, failure):
    (tmp_path / "cupy.py").write_text(failure)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    sentence = refusal("gpu")
    assert sentence.startswith("CuPy is installed but does not load (")
    assert "--force-reinstall" in sentence and "or use --device cpu" in sentence


def no_count(status, message):
    return lambda: raise_(CUDARuntimeError(status, message))


FAILURES = {
    "no driver": (
        {"getDeviceCount": no_count(35, "cudaErrorInsufficientDriver: driver version is "
                                    "insufficient for CUDA runtime version"),
         "driverGetVersion": lambda: 0},
        "no NVIDIA driver is installed: install one",
    ),
    "driver too old for the wheel": (
        {"getDeviceCount": no_count(35, "cudaErrorInsufficientDriver: driver version is "
                                    "insufficient for CUDA runtime version")},
        "CuPy and the NVIDIA driver do not fit (cudaErrorInsufficientDriver: driver version is "
        "insufficient for CUDA runtime version): nvidia-smi shows",
    ),
    "no device": (
        {"getDeviceCount": no_count(100, "cudaErrorNoDevice: no CUDA-capable device is detected")},
        "no NVIDIA GPU is visible: check nvidia-smi",
    ),
    "device that is busy": (
        {"setDevice": lambda number: raise_(CUDARuntimeError(46, "cudaErrorDevicesUnavailable"))},
        "the GPU is there but CuPy cannot compute on it (CUDARuntimeError: "
        "cudaErrorDevicesUnavailable)",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_the_runtime_refuses(on_cpu, monkeypatch, failure):
    runtime, start = FAILURES[failure]
    installed(monkeypatch, FakeCuPy(**runtime))
    sentence = refusal("gpu")
    assert sentence.startswith(start) and sentence.endswith("or use --device cpu")


@pytest.mark.parametrize(("name", "count"), [("gpu:1", 1), ("gpu:7", 2)])
def test_a_number_beyond_the_last_gpu(on_cpu, monkeypatch, name, count):
    cupy = FakeCuPy(getDeviceCount=lambda: count)
    installed(monkeypatch, cupy)
    sentence = refusal(name)
    assert sentence.startswith(f"there is no GPU {name[4:]}: {count} found, numbered from 0")
    assert "--device gpu" in sentence and "or use --device cpu" in sentence
    assert cupy.chosen == []


class Unlinked:
    """An array whose allocation succeeds, though the libraries that compute are missing."""

    def __init__(self, sums=None, product=None):
        self.sums, self.product = sums, product

    def __add__(self, other):
        return raise_(self.sums) if self.sums else self

    def __matmul__(self, other):
        return raise_(self.product)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (Unlinked(sums=RuntimeError("Failed to find libnvrtc.so\nThen a page of advice")),
         "RuntimeError: Failed to find libnvrtc.so"),
        (Unlinked(product=ImportError("libcublas.so.12: cannot open shared object file")),
         "ImportError: libcublas.so.12: cannot open shared object file"),
        (Unlinked(product=OSError()), "OSError: OSError"),
    ],
)
def test_libraries_do_not_load_at_the_first_kernel_or_product(on_cpu, monkeypatch, arrays, reason):
    cupy = FakeCuPy()
    cupy.ones = lambda shape, dtype: arrays
    installed(monkeypatch, cupy)
    sentence = refusal("gpu")
    assert sentence.startswith(f"the GPU is there but CuPy cannot compute on it ({reason})")
    assert "pip install 'tinygan[cuda12]'" in sentence and sentence.endswith("or use --device cpu")


@pytest.mark.parametrize("number", [2, numpy.nan])
def test_a_gpu_that_computes_wrong_sums(on_cpu, monkeypatch, number):
    cupy = FakeCuPy()
    cupy.ones = lambda shape, dtype: numpy.full(shape, number, dtype)
    installed(monkeypatch, cupy)
    assert refusal("gpu") == "GPU 0 computes wrong sums: restart it, or use --device cpu"


# ---------------------------------------------------------------- copies


def test_an_array_comes_back_from_the_device_as_it_went():
    array = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    back = to_host(to_device(array))
    assert isinstance(back, numpy.ndarray) and back.dtype == array.dtype
    assert numpy.array_equal(back, array)


def test_on_the_cpu_nothing_is_copied(on_cpu):
    array = numpy.zeros(3)
    assert to_device(array) is array and to_host(array) is array


def test_an_array_of_the_gpu_is_fetched():
    class OnGPU:
        def get(self):
            return "its copy"

    assert to_host(OnGPU()) == "its copy"


# ---------------------------------------------------------------- several operations in one


@pytest.mark.parametrize("rows", [1, 5])
def test_sums_of_columns(rows):
    array = numpy.arange(3.0 * rows).reshape(rows, 3)
    sums = backend.column_sums(to_device(array))
    assert numpy.array_equal(to_host(sums), array.sum(0)) and sums.dtype == array.dtype


def test_a_mean_follows_what_is_latest_in_place():
    mean, latest = to_device(numpy.array([1.0, -2.0])), to_device(numpy.array([3.0, 0.0]))
    backend.move_towards(mean, latest, 0.25)
    assert to_host(mean).tolist() == [1.5, -1.5] and to_host(latest).tolist() == [3.0, 0.0]


def test_a_fused_formula_has_its_numbers_as_arguments():
    @backend.fused
    def formula(x, slope):
        return xp.maximum(x, slope * x)

    x = to_device(numpy.array([-2.0, 1.0], "float32"))
    for slope in (0.5, 0.25):
        y = formula(x, slope)
        assert to_host(y).tolist() == [-2 * slope, 1.0] and y.dtype == "float32"
    assert formula.__name__ == "formula"


# ---------------------------------------------------------------- random numbers


def draws():
    return [to_host(array) for array in (backend.random_normal(50), backend.random_uniform(2, 3))]


def test_the_same_seed_gives_the_same_numbers():
    tinygan.seed(7)
    first = draws()
    tinygan.seed(7)
    for a, b in zip(first, draws(), strict=True):
        assert numpy.array_equal(a, b)


def test_another_seed_and_the_next_draw_give_others():
    tinygan.seed(7)
    first, second = draws()[0], draws()[0]
    tinygan.seed(8)
    third = draws()[0]
    assert not numpy.array_equal(first, second) and not numpy.array_equal(first, third)


def test_a_seed_reaches_those_who_hold_the_generator_already():
    held = backend.generator
    tinygan.seed(3)
    a = held.random(4)
    tinygan.seed(3)
    assert held is backend.generator and numpy.array_equal(held.random(4), a)


# The bounds are five standard errors of a sample of 100,000.


def test_normal_numbers_have_their_mean_and_scale():
    x = to_host(backend.random_normal(1000, 100, scale=3.0))
    assert x.shape == (1000, 100)
    assert abs(x.mean()) < 5 * 3 / 100_000**0.5
    assert abs(x.std() / 3 - 1) < 5 / 200_000**0.5


def test_uniform_numbers_fill_their_interval():
    x = to_host(backend.random_uniform(1000, 100, low=-1.0, high=3.0))
    assert x.shape == (1000, 100) and -1 <= x.min() < -0.99 and 2.99 < x.max() < 3
    assert abs(x.mean() - 1) < 5 * (4 / 12**0.5) / 100_000**0.5


@pytest.mark.parametrize("number", [0.5, numpy.float64(0.5)])
def test_random_numbers_are_float32(number):
    assert backend.random_normal(3, scale=number).dtype == "float32"
    assert backend.random_uniform(3, low=number, high=2 * number).dtype == "float32"


# ---------------------------------------------------------------- the allocator


def test_glibc_is_asked_to_keep_freed_memory_by_both_settings(monkeypatch):
    asked = {}
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=asked.__setitem__))
    backend._keep_freed_memory()
    # M_TRIM_THRESHOLD is -1 and M_MMAP_THRESHOLD -3 in malloc.h; the values are ints of C.
    assert asked.keys() == {-1, -3} and all(1 << 29 < value < 1 << 31 for value in asked.values())


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_than_on_linux_no_library_is_opened(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("a library was opened"))
    backend._keep_freed_memory()


@pytest.mark.parametrize(
    "library", [lambda name: SimpleNamespace(), lambda name: raise_(OSError("no such library"))]
)
def test_without_glibc_nothing_happens(monkeypatch, library):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", library)
    backend._keep_freed_memory()
