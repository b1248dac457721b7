"""Several processes train one run, each with its part of every batch: data parallelism.

    OMP_NUM_THREADS=1 mpiexec -n 2 python demos/dcgan.py

All processes hold the same weights and draw the same random numbers, for the whole batch; each
keeps those of its own examples. Before an optimizer moves the weights it averages the gradients.
With B examples in a batch and B / P of them in the part of each of P processes,

    grad 1/B sum over the batch of l_i  =  1/P sum over p of (grad P/B sum over part p of l_i),

so that the weights are those of one process, but for rounding. What mixes the examples of a batch
sees its own part alone: BatchNorm and its statistics, as in PyTorch's DDP (Li et al. 2020,
"PyTorch Distributed"), MinibatchDeviation, losses.matching, a pool of earlier images, unrolled
steps of D.

MPI carries the numbers, through main memory also where they come from a GPU. The first process
alone prints, draws and writes; all stop at the same step. Without mpiexec nothing is imported.
"""

import io
import os
import re
import sys
import time
import traceback
import zlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy

from .. import files
from ..backend import to_device, to_host, world
from ..files import UsageError

LAUNCHED = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")  # by MPICH and its kin, or Open MPI
Arrays = Mapping[str, numpy.ndarray]
rank, size = 0, 1
_mpi: Any = None  # the communicator of all processes, where there are several


def start() -> None:
    """Meet the other processes, if mpiexec has started some.

    Raises UsageError where mpi4py is missing, or belongs to another MPI than mpiexec.
    """
    global rank, size, _mpi
    if _mpi is not None or not any(name in os.environ for name in LAUNCHED):
        return
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UsageError(f"mpiexec started this, but MPI can't be used ({error}): "
                         "pip install 'tinygan[mpi]'") from error
    rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
    if size == 1:
        return
    _mpi = MPI.COMM_WORLD
    files.writing = rank == 0
    if rank:
        sys.stdout, sys.stderr = io.StringIO(), io.StringIO()


def divide(settings: Namespace) -> None:
    """Give this process its part of the batch, and its GPU: the next of its machine.

    Raises UsageError for a batch that can't be divided evenly.
    """
    if size == 1:
        return
    if getattr(settings, "batch_size", size) % size:
        raise UsageError(f"a batch of {settings.batch_size} can't be divided among {size} "
                         f"processes: use --batch-size with a multiple of {size}")
    if hasattr(settings, "batch_size"):
        settings.batch_size //= size
    if settings.device == "gpu":
        from mpi4py import MPI

        settings.device = f"gpu:{_mpi.Split_type(MPI.COMM_TYPE_SHARED).rank}"


def whole(settings: Namespace) -> dict[str, Any]:
    """The settings of all processes together, for a checkpoint: as they were typed."""
    values = vars(settings) | {"processes": size}
    if size > 1 and "batch_size" in values:
        values["batch_size"] *= size
    if size > 1 and values["device"].startswith("gpu"):
        values["device"] = "gpu"
    return values


@contextmanager
def together() -> Iterator[None]:
    """In this block, a step, batches and random numbers are divided and gradients averaged."""
    alone = vars(world).copy()
    vars(world).update(rank=rank, size=size, average=_average)
    try:
        yield
    finally:
        vars(world).update(alone)


def _average(arrays: list[Any]) -> None:
    """Make each array the mean of those of all processes: one message for all arrays."""
    if size == 1:
        return
    flat = numpy.concatenate([to_host(array).reshape(-1) for array in arrays])
    _mean(flat)
    start = 0
    for array in arrays:
        array[...] = to_device(flat[start : start + array.size].reshape(array.shape))
        start += array.size


def _mean(numbers: numpy.ndarray) -> None:
    """Replace numbers, in place, by their mean over all processes."""
    from mpi4py import MPI

    _mpi.Allreduce(MPI.IN_PLACE, numbers)
    numbers /= size


def means(numbers: Mapping[str, float]) -> dict[str, float]:
    """Of each number the mean over all processes; a NaN or an infinity stays in it."""
    values = numpy.array([*numbers.values()], dtype=numpy.float64)
    if size > 1:
        _mean(values)
    return dict(zip(numbers, values.tolist(), strict=True))


def any_of(condition: bool) -> bool:
    """Whether it is true in at least one process."""
    return condition if size == 1 else means({"": float(condition)})[""] > 0


def others(states: Mapping[str, Arrays]) -> dict[str, dict[str, numpy.ndarray]]:
    """For the first process's checkpoint: what of the parts' states is another one elsewhere.

    By process, "process 1": {"pool: images": array}: statistics of BatchNorm, pools of images.
    """
    if size == 1:
        return {}
    mine = {f"{part}: {name}": array
            for part, state in states.items() for name, array in state.items()}
    sums = {name: zlib.crc32(array.tobytes()) for name, array in mine.items()}
    firsts = _mpi.bcast(sums)
    gathered = _mpi.gather({name: mine[name] for name in mine if sums[name] != firsts[name]})
    return {f"process {i}": arrays for i, arrays in enumerate(gathered or []) if arrays}


def own(parts: Mapping[str, Arrays], processes: int) -> dict[str, dict[str, numpy.ndarray]]:
    """The parts of a checkpoint as this process had them; what others() gave is left out.

    processes  that wrote it: if they were more or fewer, all begin where the first one was.
    """
    states = {name: dict(state) for name, state in parts.items()
              if not re.fullmatch(r"process \d+", name)}
    if processes != size:
        print(f"{processes} processes made this run and {size} continue it: it won't have the bits "
              f"that {processes} would give it")
    else:
        for name, array in parts.get(f"process {rank}", {}).items():
            part, _, name_in_part = name.partition(": ")
            states[part][name_in_part] = array
    return states


@contextmanager
def ending_together() -> Iterator[None]:
    """End all processes with an error in one of them: they would wait for it forever."""
    try:
        yield
    except BaseException as error:
        ended_well = isinstance(error, SystemExit) and not error.code
        if size == 1 or ended_well:
            raise
        if rank:
            time.sleep(1)  # for the first process to say what all of them met
            for line in sys.stderr.getvalue().splitlines()[-1:]:
                print(f"process {rank}: {line}", file=sys.__stderr__)
        if not isinstance(error, SystemExit | KeyboardInterrupt):
            traceback.print_exception(error, file=sys.__stderr__)
        sys.__stderr__.flush()
        time.sleep(0.3)  # for mpiexec to pass it on
        _mpi.Abort(error.code if isinstance(error, SystemExit) else 1)
