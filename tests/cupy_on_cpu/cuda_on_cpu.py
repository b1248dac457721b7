"""A CUDA device for the real CuPy on a machine that has none: its memory is main memory.

CuPy has two halves. One decides what happens: shapes, dtypes, which kernel, what is copied
where. It is the wheel's own here, unchanged, and it is what tests of tinygan on the GPU are
about. The other does it, through CUDA: allocate, copy, compile, launch. That half is this file.

    allocate, copy     CuPy's compiled files find CUDA's functions in tables of pointers, which
                       they read when they are imported. start() puts functions of this file
                       there before that.
    compile, launch    CuPy writes its kernels in CUDA C++. g++ compiles them, with cuda_on_cpu.h
                       for what C++ lacks; a launch calls them. They are kept on disk.
    matrix products    cuBLAS is a library of NVIDIA's; NumPy stands in for it.

What it shows: that a program runs on CuPy, with the right numbers and dtypes, and how often it
launches kernels, copies, and waits for the device (`counting`). What it cannot show: races and
anything else that comes of running at the same time, how long things take, a pointer to the
wrong memory, the rounding of a GPU. A kernel runs as one thread, and one that needs more is
refused, as for boolean masks. CUB and cuTENSOR, which a GPU uses for some sums, are off; random
numbers of the device, sorting, FFT, linear solvers, float16 and complex numbers fail.
It leans on private names of CuPy, so it takes one version only, and tests/test_device.py
compares it with NumPy.
"""

import collections
import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy

VERSION = "14.2.0"
FOLDER = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygan"
FLAGS = ["-std=c++14", "-O1", "-fPIC", "-w"]
LINK = ["-shared", "-nodefaultlibs", "-lm", "-lc", "-lgcc"]  # no libstdc++: it takes long

# ---------------------------------------------------------------- what happened

counts = collections.Counter()  # of what the host asked of the device
kernels = collections.Counter()  # launches by the kernel's name


@contextlib.contextmanager
def counting():
    """The launches, copies and waits inside the block, complete when it ends.

        with counting() as counts:
            step()
        counts["launches"], counts["to device"], counts["to host"], counts["waits"]

    A launch is anything that the device does on its own memory: a kernel, a matrix product, a
    copy from there to there, filling with zeros.
    """
    before, inside = counts.copy(), collections.Counter()
    yield inside
    inside.update(counts - before)


def _launched(name):
    counts["launches"] += 1
    kernels[name] += 1


# ---------------------------------------------------------------- the tables of pointers

find = PathFinder.find_spec


class Unusable(ImportError):
    """CuPy cannot be run here; the message says what is missing."""


_functions = {"runtime": {}, "driver": {}}  # by module and name: signature in C, function


def _stands_for(module, signature):
    def note(function):
        _functions[module][function.__name__] = (signature, function)
        return function

    return note


def start():
    """Make ready for `import cupy`. Raises Unusable with what is missing."""
    found = find("cupy")
    if found is None or found.origin is None:
        raise Unusable(
            "CuPy on the CPU needs CuPy's wheel (no GPU, no driver, no CUDA): "
            "pip install 'tinygan[cupy-on-cpu]'"
        )
    version = re.search(r"'(.+)'", Path(found.origin).with_name("_version.py").read_text())[1]
    if version != VERSION:
        raise Unusable(
            f"CuPy on the CPU leans on private names of CuPy {VERSION}, and {version} is "
            "installed: pip install 'tinygan[cupy-on-cpu]'"
        )
    if shutil.which("g++") is None:
        raise Unusable("CuPy on the CPU compiles its kernels with g++: install it (apt: g++)")
    os.environ["CUPY_ACCELERATORS"] = ""  # no CUB: its kernels are machine code of a GPU
    import cupy_backends.cuda.api.driver
    import cupy_backends.cuda.api.runtime
    import cupy_backends.cuda.libs

    for module, replaced in _functions.items():
        module = getattr(cupy_backends.cuda.api, module)
        for name, (signature, function) in replaced.items():
            _replace(module, name, signature, function)
    cupy_backends.cuda.libs.cublas = sys.modules["cupy_backends.cuda.libs.cublas"] = _cublas()


_C_TYPES = {
    "PyObject *": ctypes.py_object, "intptr_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t,
    "int": ctypes.c_int, "unsigned int": ctypes.c_uint,
}


def _replace(module, name, signature, function):
    """Put a function where Cython code and Python code will look for that of the module."""
    found = str(module.__pyx_capi__[name]).split('"')[1]
    if found != signature:
        raise Unusable(f"{module.__name__}.{name} is {found}, not {signature}")
    result, arguments = re.fullmatch(r"(.+?) ?\((.*)\)", signature).groups()
    types = [_C_TYPES[a.replace(" __pyx_skip_dispatch", "")] for a in arguments.split(", ")
             if a != "void"]
    takes = sum("__pyx" not in a for a in arguments.split(", ")) if types else 0

    # An exception in it is printed by ctypes and goes no further: see tests/conftest.py.
    pointer = ctypes.PYFUNCTYPE(_C_TYPES[result], *types)(lambda *all_: function(*all_[:takes]))
    text = ctypes.create_string_buffer(signature.encode())
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p] * 3
    module.__pyx_capi__[name] = new_capsule(
        ctypes.cast(pointer, ctypes.c_void_p), ctypes.addressof(text), None
    )
    setattr(module, name, function)
    # The capsule holds addresses only: what is there must live as long as the process.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(pointer))
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(text))


# ---------------------------------------------------------------- the device and its memory

_libc = ctypes.CDLL(None)
_libc.aligned_alloc.restype = ctypes.c_void_p
_libc.aligned_alloc.argtypes = [ctypes.c_size_t] * 2
_libc.free.argtypes = [ctypes.c_void_p]


@_stands_for("runtime", "int (int __pyx_skip_dispatch)")
def getDeviceCount():
    return 1


@_stands_for("runtime", "int (int __pyx_skip_dispatch)")
def getDevice():
    return 0


@_stands_for("runtime", "PyObject *(int, int __pyx_skip_dispatch)")
def setDevice(number):
    pass


@_stands_for("runtime", "PyObject *(void)")
def _ensure_context():
    pass


@_stands_for("runtime", "int (int, int, int __pyx_skip_dispatch)")
def deviceGetAttribute(attribute, number):
    return {75: 9, 76: 0}[attribute]  # the compute capability: 9.0, as an H100 has it


@_stands_for("runtime", "intptr_t (size_t, int __pyx_skip_dispatch)")
def malloc(size):
    address = _libc.aligned_alloc(512, (size + 511) // 512 * 512)
    return ctypes.memset(address, 0xFB, size)  # -2.6e36 as float32: what was not written shows


@_stands_for("runtime", "intptr_t (size_t, unsigned int, int __pyx_skip_dispatch)")
def hostAlloc(size, flags):
    return malloc(size)


@_stands_for("runtime", "PyObject *(intptr_t, int __pyx_skip_dispatch)")
def free(address):
    _libc.free(address)


@_stands_for("runtime", "PyObject *(intptr_t, int __pyx_skip_dispatch)")
def freeHost(address):
    _libc.free(address)


@_stands_for("runtime", "int (intptr_t, int __pyx_skip_dispatch)")
def pointerGetMemoryType(address):
    return 2  # memory of the device


@_stands_for(
    "runtime", "PyObject *(intptr_t, intptr_t, size_t, int, intptr_t, int __pyx_skip_dispatch)"
)
def memcpyAsync(target, source, size, kind, stream):
    if kind in (3, 4):  # 4 leaves it to the addresses: CuPy uses it on the device
        _launched("copy")
    else:
        counts[{1: "to device", 2: "to host"}[kind]] += 1
    ctypes.memmove(target, source, size)


@_stands_for("runtime", "PyObject *(intptr_t, intptr_t, size_t, int, int __pyx_skip_dispatch)")
def memcpy(target, source, size, kind):
    counts["waits"] += 1
    memcpyAsync(target, source, size, kind, 0)


@_stands_for(
    "runtime", "PyObject *(intptr_t, int, size_t, intptr_t, int __pyx_skip_dispatch)"
)
def memsetAsync(address, byte, size, stream):
    _launched("fill")
    ctypes.memset(address, byte, size)


# ---------------------------------------------------------------- streams: all is done at once


@_stands_for("runtime", "PyObject *(int __pyx_skip_dispatch)")
def deviceSynchronize():
    counts["waits"] += 1


@_stands_for("runtime", "PyObject *(intptr_t, int __pyx_skip_dispatch)")
def streamSynchronize(stream):
    counts["waits"] += 1


@_stands_for("runtime", "PyObject *(intptr_t, int __pyx_skip_dispatch)")
def eventSynchronize(event):
    counts["waits"] += 1


@_stands_for("runtime", "int (intptr_t, int __pyx_skip_dispatch)")
def streamIsCapturing(stream):
    return 0


@_stands_for("runtime", "intptr_t (unsigned int, int __pyx_skip_dispatch)")
def eventCreateWithFlags(flags):
    return 1


@_stands_for("runtime", "PyObject *(intptr_t, intptr_t, int __pyx_skip_dispatch)")
def eventRecord(event, stream):
    pass


@_stands_for("runtime", "PyObject *(intptr_t, int __pyx_skip_dispatch)")
def eventQuery(event):
    return 0  # it has happened


@_stands_for("runtime", "PyObject *(intptr_t, int __pyx_skip_dispatch)")
def eventDestroy(event):
    pass


# ---------------------------------------------------------------- kernels

_libraries = {}  # by the number that CuPy knows it by
_kernels = {}  # by such a number: name and function


def take_over_kernels():
    """After `import cupy`: g++ compiles what CuPy would give to NVIDIA's compiler."""
    import cupy.cuda.compiler

    cupy.cuda.compiler._compile_module_with_cache = _compile_kernels


def _compile_kernels(source, options=(), **_):
    import cupy.cuda.function

    source = source.replace("#include <cupy/complex.cuh>\n", "")
    if refused := re.search(r"\b(float16|complex)\b(?!\.cuh)", source):
        raise NotImplementedError(f"CuPy on the CPU has no {refused[1]} numbers:\n{source}")
    source = _for_one_thread(source)
    for name in re.findall(r'extern "C" __global__ void (\w+)', source):
        source += f'\nextern "C" void run_{name}(void** arguments) {{ run({name}, arguments); }}\n'
    include = ["-I", str(Path(cupy.__file__).parent / "_core" / "include")]
    # What all kernels begin with is compiled once, which halves the time that each takes. g++
    # looks for NAME.h.gch where it is told to include NAME.h.
    begin = (FOLDER / "cuda_on_cpu.h").read_text() + "".join(
        f"#include <cupy/{name}>\n" for name in ("carray.cuh", "atomics.cuh", "math_constants.h")
    )
    header = _compile(begin, ".h.gch", include)
    include += ["-include", str(header.with_suffix(""))]
    path = _compile(source, ".so", include, stands_on=header.name)
    number = len(_libraries) + 1
    _libraries[number] = ctypes.CDLL(str(path))
    module = cupy.cuda.function.Module()
    module.load(b"%d" % number)
    return module


def _for_one_thread(source):
    """CuPy's kernel, so that one thread does what thousands do on a GPU.

    A function of each number is a loop (CUPY_FOR) that is right for any number of threads. A
    reduction is written for blocks of 512 threads that wait for one another, each of which
    makes _block_stride sums: that becomes a block of one, which has nobody to wait for.
    """
    if "__syncthreads" not in source:
        if "CUPY_FOR" not in source:
            raise NotImplementedError(f"a kernel that needs its threads:\n{source}")
        return source
    head, parameter, body = source.partition("const int _block_stride) {")
    if not parameter or body.count("512") != 3:
        raise NotImplementedError(f"a reduction of another kind:\n{source}")
    return head + "const int) { const int _block_stride = 1;" + body.replace("512", "1")


def _compile(source, suffix, include=(), stands_on=""):
    """The path of the library (.so) or header (.h.gch) that g++ makes, from the cache if there."""
    parts = "\0".join([VERSION, _compiler(), *FLAGS, stands_on, source])
    path = CACHE / (hashlib.sha256(parts.encode()).hexdigest()[:32] + suffix)
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        # Made under another name and renamed: other processes see all of it or nothing.
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            given, made = Path(folder) / "given", Path(folder) / "made"
            given.write_text(source)
            kind = ["c++", given, *LINK] if suffix == ".so" else ["c++-header", given]
            done = subprocess.run(["g++", *FLAGS, *include, "-x", *kind, "-o", made],
                                  capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"g++ cannot compile this:\n{source}\n{done.stderr[:3000]}")
            os.replace(made, path)
    return path


@functools.cache
def _compiler():
    return subprocess.run(["g++", "--version"], capture_output=True, text=True).stdout


@_stands_for("driver", "intptr_t (PyObject *, int __pyx_skip_dispatch)")
def moduleLoadData(number):
    return int(number)


@_stands_for("driver", "PyObject *(intptr_t, int __pyx_skip_dispatch)")
def moduleUnload(module):
    pass


@_stands_for("driver", "intptr_t (intptr_t, PyObject *, int __pyx_skip_dispatch)")
def moduleGetFunction(module, name):
    number = len(_kernels) + 1
    _kernels[number] = name, _libraries[module][f"run_{name}"]
    return number


@_stands_for(
    "driver", "PyObject *(intptr_t, unsigned int, unsigned int, unsigned int, unsigned int, "
    "unsigned int, unsigned int, unsigned int, intptr_t, intptr_t, intptr_t, "
    "int __pyx_skip_dispatch)"
)
def launchKernel(kernel, *grid_block_memory_stream_arguments_extra):
    name, function = _kernels[kernel]
    _launched(name)
    function(ctypes.c_void_p(grid_block_memory_stream_arguments_extra[-2]))


# ---------------------------------------------------------------- matrix products


def _cublas():
    """A module with what CuPy calls of cuBLAS for a product. Matrices are stored by columns."""
    cublas = ModuleType("cupy_backends.cuda.libs.cublas")
    names = ["OP_N", "OP_T", "COMPUTE_32F", "COMPUTE_32F_PEDANTIC", "COMPUTE_32F_FAST_TF32",
             "COMPUTE_64F", "COMPUTE_64F_PEDANTIC", "GEMM_DEFAULT", "GEMM_DEFAULT_TENSOR_OP",
             "POINTER_MODE_HOST", "POINTER_MODE_DEVICE"]
    vars(cublas).update({f"CUBLAS_{name}": number for number, name in enumerate(names)})
    cublas.create, cublas.destroy = lambda: 1, lambda handle: None
    cublas.setMathMode = cublas.setPointerMode = lambda handle, mode: None
    cublas.getPointerMode = lambda handle: cublas.CUBLAS_POINTER_MODE_HOST

    def gemmEx(handle, turn_a, turn_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c,
               c_type, ldc, *_):
        _launched("matrix product")
        _product(turn_a, turn_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, _DTYPES[c_type])

    def gemmStridedBatchedEx(handle, turn_a, turn_b, m, n, k, alpha, a, a_type, lda, stride_a,
                             b, b_type, ldb, stride_b, beta, c, c_type, ldc, stride_c, batch, *_):
        _launched("matrix product")
        dtype = _DTYPES[c_type]
        for i in range(batch):
            start_a, start_b, start_c = (
                start + i * stride * dtype.itemsize
                for start, stride in ((a, stride_a), (b, stride_b), (c, stride_c))
            )
            _product(turn_a, turn_b, m, n, k, alpha, start_a, lda, start_b, ldb, beta, start_c,
                     ldc, dtype)

    def batched(dtype):
        def gemmBatched(handle, turn_a, turn_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc,
                        batch):
            _launched("matrix product")
            starts = (_array(pointers, (batch,), numpy.dtype("uint64")) for pointers in (a, b, c))
            for start_a, start_b, start_c in zip(*starts, strict=True):
                _product(turn_a, turn_b, m, n, k, alpha, int(start_a), lda, int(start_b), ldb,
                         beta, int(start_c), ldc, dtype)

        return gemmBatched

    cublas.gemmEx, cublas.gemmStridedBatchedEx = gemmEx, gemmStridedBatchedEx
    cublas.sgemmBatched, cublas.dgemmBatched = map(batched, _DTYPES.values())
    return cublas


_DTYPES = {0: numpy.dtype("float32"), 1: numpy.dtype("float64")}  # CUDA_R_32F, CUDA_R_64F


def _product(turn_a, turn_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, dtype):
    """C <- alpha A B + beta C for A (m, k), B (k, n) and C (m, n), A and B turned if asked."""
    A = _columns(a, k, m, lda, dtype).T if turn_a else _columns(a, m, k, lda, dtype)
    B = _columns(b, n, k, ldb, dtype).T if turn_b else _columns(b, k, n, ldb, dtype)
    C = _columns(c, m, n, ldc, dtype)
    alpha, beta = (_array(address, (1,), dtype)[0] for address in (alpha, beta))
    C[...] = alpha * (A @ B) + beta * C if beta else alpha * (A @ B)


def _columns(address, rows, columns, apart, dtype):
    """The matrix whose columns start `apart` numbers from one another."""
    return _array(address, (rows, columns), dtype, (dtype.itemsize, apart * dtype.itemsize))


def _array(address, shape, dtype, strides=None):
    """The numbers that are there."""
    interface = {"version": 3, "data": (address, False), "shape": shape, "typestr": dtype.str,
                 "strides": strides}
    return numpy.asarray(SimpleNamespace(__array_interface__=interface))
