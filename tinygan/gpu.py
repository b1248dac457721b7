"""Why the GPU that was asked for cannot be used, and what to do. A first reader may skip this."""

from types import ModuleType

from .backend import DeviceError

INSTALL = "pip install 'tinygan[cuda12]' for a driver of CUDA 12, 'tinygan[cuda13]' for CUDA 13"


def working_cupy(number: int) -> ModuleType:
    """CuPy, after a kernel and a matrix product have really run on the GPU of that number.

    Importing CuPy proves little: it succeeds without a driver, and allocating an array
    succeeds where the libraries that compile and multiply are missing.
    Raises DeviceError, which says what is missing and how to get it.
    """
    try:
        import cupy
    except Exception as error:  # a broken installation raises more than ImportError
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise _refusal("CuPy is not installed", INSTALL) from error
        problem = f"CuPy is installed but does not load ({_first_line(error)})"
        raise _refusal(problem, f"{INSTALL}, with --force-reinstall") from error

    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status == 100:  # cudaErrorNoDevice, which CuPy does not name
            raise _refusal("no NVIDIA GPU is visible", "check nvidia-smi") from error
        if runtime.driverGetVersion() == 0:
            remedy = "install one (then nvidia-smi shows the GPU)"
            raise _refusal("no NVIDIA driver is installed", remedy) from error
        problem = f"CuPy and the NVIDIA driver do not fit ({_first_line(error)})"
        remedy = f"nvidia-smi shows the driver's CUDA version; {INSTALL}"
        raise _refusal(problem, remedy) from error
    if number >= count:
        remedy = f"{count} found, numbered from 0; use --device gpu for the first"
        raise _refusal(f"there is no GPU {number}", remedy)

    try:
        runtime.setDevice(number)
        ones = cupy.ones((2, 2), dtype=cupy.float32)
        runs = float(((ones + ones) @ ones).sum()) == 16
    except Exception as error:  # ImportError, CUDARuntimeError, compiler and cuBLAS errors, OSError
        reason = f"{type(error).__name__}: {_first_line(error)}"
        problem = f"the GPU is there but CuPy cannot compute on it ({reason})"
        raise _refusal(problem, f"{INSTALL}, brings the libraries that it needs") from error
    if not runs:
        raise _refusal(f"GPU {number} computes wrong sums", "restart it")
    return cupy


def _refusal(problem: str, remedy: str) -> DeviceError:
    return DeviceError(f"{problem}: {remedy}, or use --device cpu")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
