"""The array module, NumPy on the CPU or CuPy on the GPU, and the one random generator.

Every other file writes `xp.exp` where it would write `np.exp`.
"""

import contextlib
import ctypes
import functools
import re
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from .files import UsageError


class DeviceError(UsageError):
    """The device that was asked for cannot be used."""


class _Backend:
    """Stands for the chosen array module: `xp.exp` is numpy.exp or cupy.exp."""

    def _choose(self, module: ModuleType) -> None:
        self.__dict__ = {"module": module}

    def __getattr__(self, name: str) -> Any:
        # Python calls this only where the instance has no such attribute: each name is
        # looked up in the module once, then found here as fast as in the module itself.
        value = getattr(self.module, name)
        self.__dict__[name] = value
        return value


xp = _Backend()
xp._choose(np)
_device = "cpu"


def use_device(name: str = "cpu") -> None:
    """Choose where arrays live: "cpu", "gpu" or "gpu:1". Call it before any tensor is made.

    Raises DeviceError where the GPU cannot be used; there is no silent fall-back.
    """
    global _device
    choice = re.fullmatch(r"cpu|gpu(?::([0-9]{1,3}))?", name)
    if choice is None:
        raise DeviceError(f"unknown device {name!r}: use cpu, gpu or, for the second GPU, gpu:1")
    from .gpu import working_cupy  # which builds on this file

    xp._choose(np if name == "cpu" else working_cupy(int(choice[1] or 0)))
    _device = name


def device() -> str:
    """The name that was given to use_device, "cpu" at first."""
    return _device


def to_device(array: Any) -> Any:
    """A copy of a NumPy array on the device; on the CPU the array itself."""
    return xp.asarray(array)


def to_host(array: Any) -> np.ndarray:
    """A copy of a device's array in main memory; on the CPU the array itself."""
    return array if isinstance(array, np.ndarray) else array.get()


# ---------------------------------------------------------------- random numbers

# They are always drawn on the host, so that a seed gives the same weights and the same noise on
# both devices.
generator = np.random.default_rng()


def seed(number: int) -> None:
    """Start the random generator at a number: the same number, the same weights and noise."""
    generator.bit_generator.state = np.random.default_rng(number).bit_generator.state


# Where this process stands among those that train together. It is alone, except in the steps of a
# run on several: see training/processes.py. average(arrays) replaces each by its mean over all.
world = SimpleNamespace(rank=0, size=1, average=lambda arrays: None)


def drawn(draw: Callable, *shape: int, axis: int = 0, **options: Any) -> np.ndarray:
    """draw(size=shape): numbers for a batch, whose examples lie along an axis; on the host.

    Each process draws for all of them, as one process with the whole batch would, and keeps the
    numbers of its own examples.
    """
    if world.size == 1 or not shape:
        return draw(size=shape, **options)
    whole = [*shape]
    whole[axis] *= world.size
    return np.split(draw(size=tuple(whole), **options), world.size, axis)[world.rank]


def random_normal(*shape: int, scale: float = 1.0) -> Any:
    """float32 numbers from N(0, scale^2), of that shape, on the device."""
    numbers = drawn(generator.standard_normal, *shape, dtype=np.float32)
    return to_device(numbers * float(scale))


def random_uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Any:
    """float32 numbers, uniform in [low, high), of that shape, on the device."""
    numbers = drawn(generator.random, *shape, dtype=np.float32)
    return to_device(numbers * float(high - low) + float(low))


def random_integers(low: int, high: int, *shape: int, axis: int = 0) -> Any:
    """Whole numbers from low to below high, of that shape, on the device."""
    return to_device(drawn(functools.partial(generator.integers, low, high), *shape, axis=axis))


# ---------------------------------------------------------------- faster than written plainly


def matrix_product(a: Any, b: Any) -> Any:
    """a @ b. A column times a row is each number by each: ten times faster written so."""
    return a * b if a.shape[-1] == 1 else a @ b


def array_sum(x: Any, axes: tuple[int, ...], wide: bool = False) -> Any:
    """x.sum(axes); that of float16 is added up in float32, and stays so if wide.

    NumPy sums columns many times faster as a row of ones times a matrix.
    """
    in_columns = _device == "cpu" and x.ndim > 1 and axes == tuple(range(x.ndim - 1))
    if in_columns and x.dtype.char in "fd" and x.size:  # float32 or float64
        rows = x.reshape(-1, x.shape[-1])
        return xp.ones(len(rows), dtype=x.dtype) @ rows
    if x.dtype == np.float16:
        return x.sum(axis=axes, dtype=np.float32).astype(np.float32 if wide else np.float16)
    return x.sum(axis=axes)


def fused(formula: Callable) -> Callable:
    """The same formula, number by number, as one kernel of the GPU; on the CPU nothing changes.

    Small networks wait for kernels to be launched, not for their arithmetic. Numbers that change
    must be arguments: the others are compiled in. Each operation needs an array: what is made of
    Python numbers alone CuPy computes in half precision.
    """
    compiled = functools.cache(lambda module: module.fuse(formula))

    @functools.wraps(formula)
    def on_the_device(*arguments: Any) -> Any:
        return (formula if _device == "cpu" else compiled(xp.module))(*arguments)

    return on_the_device


@fused
def move_towards(mean: Any, latest: Any, rate: float) -> None:
    """mean <- mean + rate (latest - mean), in place: a moving average."""
    mean += rate * (latest - mean)


def _keep_freed_memory() -> None:
    """Ask glibc to reuse the memory of freed arrays instead of giving it back to the system.

    By default the kernel zeroes fresh pages for each large array: a third of the time of a
    convolutional training step. One of the two settings alone makes it slower.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # where there is no mallopt
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD of malloc.h
            mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


_keep_freed_memory()
