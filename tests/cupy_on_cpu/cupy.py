"""Found in place of CuPy where this folder comes first on Python's path.

    PYTHONPATH=tests/cupy_on_cpu python demos/mnist_gan.py --device gpu

The first `import cupy` runs this file: it starts the device of cuda_on_cpu.py, then loads the
real CuPy and leaves it in its own place.
"""

import importlib
import sys
from pathlib import Path

import cuda_on_cpu

_path = sys.path[:]
sys.path[:] = [entry for entry in _path if Path(entry).resolve() != cuda_on_cpu.FOLDER]
del sys.modules["cupy"]
try:
    cuda_on_cpu.start()
    importlib.import_module("cupy")
    cuda_on_cpu.take_over_kernels()
finally:
    sys.path[:] = _path
