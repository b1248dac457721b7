"""Why the GPU that was asked for cannot be used, and what to do. A first reader may skip this."""

from types import ModuleType

from .backend import DeviceError

WAY_OUT = "or use --device cpu"


def working_cupy(number: int) -> ModuleType:
    """CuPy, after a kernel and a matrix product have really run on the GPU of that number.

    Importing CuPy proves little: it succeeds without a driver, and allocating an array
    succeeds where the libraries that compile and multiply are missing.
    Raises DeviceError, which says what is missing and how to get it.
    """
    cupy = _import_cupy()
    count = _count_gpus(cupy.cuda.runtime)
    if number >= count:
        raise DeviceError(
            f"there is no GPU {number}: {count} found, numbered from 0; "
            f"use --device gpu for the first, {WAY_OUT}"
        )
    try:
        cupy.cuda.runtime.setDevice(number)
        ones = cupy.ones((2, 2), dtype=cupy.float32)
        runs = float(((ones + ones) @ ones).sum()) == 16
    except Exception as error:  # ImportError, CUDARuntimeError, compiler and cuBLAS errors, OSError
        raise DeviceError(
            f"the GPU is there but CuPy cannot compute on it ({type(error).__name__}: "
            f"{_first_line(error)}): pip install 'tinygan[cuda12]' or 'tinygan[cuda13]', by the "
            f"driver's CUDA version, brings the libraries that it needs, {WAY_OUT}"
        ) from error
    if not runs:
        raise DeviceError(f"GPU {number} computes wrong sums: restart it, {WAY_OUT}")
    return cupy


def _import_cupy() -> ModuleType:
    try:
        import cupy
    except Exception as error:  # a broken installation raises more than ImportError
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise DeviceError(
                "CuPy is not installed: pip install 'tinygan[cuda12]' for a driver of CUDA 12, "
                f"'tinygan[cuda13]' for CUDA 13, {WAY_OUT}"
            ) from error
        raise DeviceError(
            f"CuPy is installed but does not load ({_first_line(error)}): reinstall it with "
            f"pip install --force-reinstall 'tinygan[cuda12]' or 'tinygan[cuda13]', {WAY_OUT}"
        ) from error
    return cupy


def _count_gpus(runtime: ModuleType) -> int:
    try:
        return runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status == 100:  # cudaErrorNoDevice, which CuPy does not name
            raise DeviceError(f"no NVIDIA GPU is visible: check nvidia-smi, {WAY_OUT}") from error
        if runtime.driverGetVersion() == 0:
            raise DeviceError(
                "no NVIDIA driver is installed: install one (then nvidia-smi shows the GPU), "
                f"{WAY_OUT}"
            ) from error
        raise DeviceError(
            f"CuPy and the NVIDIA driver do not fit ({_first_line(error)}): nvidia-smi shows the "
            "driver's CUDA version; install 'tinygan[cuda12]' for 12, 'tinygan[cuda13]' for 13, "
            f"{WAY_OUT}"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
