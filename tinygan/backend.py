"""The array backend: NumPy on the CPU or CuPy on the GPU, and the one random generator.

Every other file writes `xp.` where it would write `np.`; only this one knows what stands behind.
"""

import ctypes
import functools
import re
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from .files import UsageError


class DeviceError(UsageError):
    """The device that was asked for cannot be used."""


class _Backend:
    """Stands for the chosen array module: `xp.exp` is numpy.exp or cupy.exp."""

    def __init__(self, module: ModuleType):
        self._choose(module)

    def _choose(self, module: ModuleType) -> None:
        self.__dict__.clear()
        self.__dict__["module"] = module

    def __getattr__(self, name: str) -> Any:
        # Python calls this only where the instance has no such attribute: each name is
        # looked up in the module once, then found here as fast as in the module itself.
        value = getattr(self.module, name)
        self.__dict__[name] = value
        return value


xp = _Backend(np)
_device = "cpu"


def use_device(name: str = "cpu") -> None:
    """Choose where arrays live: "cpu", "gpu" or "gpu:1". Call it before any tensor is made.

    Raises DeviceError where the GPU cannot be used; there is no silent fall-back.
    """
    global _device
    choice = re.fullmatch(r"cpu|gpu(?::([0-9]{1,3}))?", name)
    if choice is None:
        raise DeviceError(f"unknown device {name!r}: use cpu, gpu or, for the second GPU, gpu:1")
    xp._choose(np if name == "cpu" else _working_cupy(int(choice[1] or 0)))
    _device = name


def device() -> str:
    """The name that was given to use_device, "cpu" at first."""
    return _device


def _working_cupy(number: int) -> ModuleType:
    """CuPy, after a kernel and a matrix product have really run on the GPU of that number.

    Importing CuPy proves little: it succeeds without a driver, and allocating an array
    succeeds where the libraries that compile and multiply are missing.
    """
    way_out = "or use --device cpu"
    try:
        import cupy
    except Exception as error:  # a broken installation raises more than ImportError
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise DeviceError(
                "CuPy is not installed: pip install 'tinygan[cuda12]' for a driver of CUDA 12, "
                f"'tinygan[cuda13]' for CUDA 13, {way_out}"
            ) from error
        raise DeviceError(
            f"CuPy is installed but does not load ({_first_line(error)}): reinstall it with "
            f"pip install --force-reinstall 'tinygan[cuda12]' or 'tinygan[cuda13]', {way_out}"
        ) from error
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status == 100:  # cudaErrorNoDevice, which CuPy does not name
            raise DeviceError(f"no NVIDIA GPU is visible: check nvidia-smi, {way_out}") from error
        if runtime.driverGetVersion() == 0:
            raise DeviceError(
                "no NVIDIA driver is installed: install one (then nvidia-smi shows the GPU), "
                f"{way_out}"
            ) from error
        raise DeviceError(
            f"CuPy and the NVIDIA driver do not fit ({_first_line(error)}): nvidia-smi shows the "
            "driver's CUDA version; install 'tinygan[cuda12]' for 12, 'tinygan[cuda13]' for 13, "
            f"{way_out}"
        ) from error
    if number >= count:
        raise DeviceError(
            f"there is no GPU {number}: {count} found, numbered from 0; "
            f"use --device gpu for the first, {way_out}"
        )
    try:
        runtime.setDevice(number)
        ones = cupy.ones((2, 2), dtype=cupy.float32)
        runs = float(((ones + ones) @ ones).sum()) == 16
    except Exception as error:  # ImportError, CUDARuntimeError, compiler and cuBLAS errors, OSError
        raise DeviceError(
            f"the GPU is there but CuPy cannot compute on it ({type(error).__name__}: "
            f"{_first_line(error)}): pip install 'tinygan[cuda12]' or 'tinygan[cuda13]', by the "
            f"driver's CUDA version, brings the libraries that it needs, {way_out}"
        ) from error
    if not runs:
        raise DeviceError(f"GPU {number} computes wrong sums: restart it, {way_out}")
    return cupy


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def to_device(array: Any) -> Any:
    """A copy on the device of a NumPy array; on the CPU the array itself."""
    return xp.asarray(array)


def to_host(array: Any) -> np.ndarray:
    """A copy in main memory of a device's array; on the CPU the array itself."""
    return array if isinstance(array, np.ndarray) else array.get()


def matrix_product(a: Any, b: Any) -> Any:
    """a @ b. A column times a row is each number by each: ten times faster written so."""
    return a * b if a.shape[-1] == 1 else a @ b


def column_sums(rows: Any) -> Any:
    """(M, C) -> (C,). NumPy is many times faster with a row of ones times the matrix."""
    if _device == "cpu":
        return xp.ones(len(rows), dtype=rows.dtype) @ rows
    return rows.sum(axis=0)


def fused(formula: Callable) -> Callable:
    """The same formula, number by number, as one kernel of the GPU; on the CPU nothing changes.

    Small networks wait for kernels to be launched, not for their arithmetic. A number that
    changes is an argument: others are compiled into the kernel. And each operation has an array
    in it: what is made of Python numbers alone, CuPy would compute in half precision.
    """
    compiled: dict[ModuleType, Callable] = {}

    @functools.wraps(formula)
    def on_the_device(*arguments: Any) -> Any:
        if _device == "cpu":
            return formula(*arguments)
        if xp.module not in compiled:
            compiled[xp.module] = xp.fuse(formula)
        return compiled[xp.module](*arguments)

    return on_the_device


@fused
def follow(mean: Any, latest: Any, share: float) -> None:
    """mean <- mean + share (latest - mean), in place: a moving average."""
    mean += share * (latest - mean)


BLOCK = 65_536  # numbers: what a core's own cache holds of an update's arrays


def blocks(*arrays: Any) -> Iterator[list[Any]]:
    """Arrays of one size as flat views of at most BLOCK numbers, side by side, to be changed.

    An update reads and writes each weight several times. Block by block the numbers stay in
    the cache meanwhile. On the GPU, where each call is dear, the block is the whole.
    """
    if not all(array.flags.c_contiguous for array in arrays):
        yield [*arrays]  # to flatten these would be to copy them
        return
    flat = [array.reshape(-1) for array in arrays]
    size = BLOCK if _device == "cpu" else max(1, flat[0].size)
    for start in range(0, flat[0].size, size):
        yield [array[start : start + size] for array in flat]


# Random numbers are always drawn on the host, so that a seed gives the same weights and the
# same noise on both devices. Other files draw through the functions below.
generator = np.random.default_rng()


def seed(number: int) -> None:
    """Start the random generator at a number: the same number, the same weights and noise."""
    generator.bit_generator.state = np.random.default_rng(number).bit_generator.state


def random_normal(*shape: int, scale: float = 1.0) -> Any:
    """float32 numbers from N(0, scale^2), of that shape, on the device."""
    return to_device(generator.standard_normal(shape, dtype=np.float32) * float(scale))


def random_uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Any:
    """float32 numbers, uniform in [low, high), of that shape, on the device."""
    return to_device(generator.random(shape, dtype=np.float32) * float(high - low) + float(low))


def _keep_freed_memory() -> None:
    """Ask glibc to reuse the memory of freed arrays instead of giving it back to the system.

    By default each large array gets fresh pages from the kernel, which zeroes them one by
    one: a third of the time of a convolutional training step. Both settings together; one
    alone makes it slower. Elsewhere than on Linux with glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 2**31 - 1)


_keep_freed_memory()
