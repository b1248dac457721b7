"""The search for the first number that is not finite. It rests unless a run has gone wrong.

A NaN (0/0, infinity - infinity) spreads: one step later all weights are NaN, and nothing tells
where it began. A run whose losses are no longer finite is therefore made again from its last
checkpoint, with the same bits and open eyes: under `watching`, every array is looked at as soon
as it is made. That takes time, and copies from the device; at all other times nobody looks.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy

from .backend import to_host
from .files import UsageError

names: Mapping[Any, str] | None = None  # of the modules; None: nobody is watching
step = 0  # of the run
_places: list[str] = []  # where the program is, from the outermost: network, layer


class NotFinite(UsageError):
    """A NaN or an infinity where there should be a number."""


@contextmanager
def watching(modules: Mapping[Any, str]) -> Iterator[None]:
    """Inside this block all that is computed goes through check(); modules have these names."""
    global names
    names = modules
    try:
        yield
    finally:
        names = None


def call(place: str, function: Callable, *inputs: Any) -> Any:
    """function(*inputs); what it makes is made at that place."""
    _places.append(place)
    try:
        return function(*inputs)
    finally:
        _places.pop()


def located(what: str) -> str:
    """For example "matmul, in layers.3 (Dense), in D"."""
    return ", in ".join([what, *reversed(_places)])


def check(array: Any, what: str) -> None:
    """Raise NotFinite, with the place, where an array of floats holds anything else."""
    numbers = to_host(array)
    if numbers.dtype.kind == "f" and not numpy.isfinite(numbers).all():
        kind = "nan" if numpy.isnan(numbers).any() else "infinity"
        raise NotFinite(
            f"the first number that is not finite ({kind}) appears at step {step}, in an array "
            f"of shape {numbers.shape}: {located(what)}"
        )
