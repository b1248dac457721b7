"""The search for the first number that is not finite, from outside the tape.

A NaN (0/0, infinity - infinity) spreads: one step later all weights are NaN, and nothing tells
where it began. A run whose losses are no longer finite therefore goes back to its last
checkpoint and makes those steps again, with the same bits, inside `watching`: there every new
Tensor is looked at, and the stack of calls says where it was made. Outside that block the
engine knows nothing of this file, and pays nothing for it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy

from ..backend import to_host
from ..files import UsageError
from ..layers import Module
from ..tensor import Tensor, backpropagate, operation_name, record


class NotFinite(UsageError):
    """A NaN or an infinity where there should be a number."""


@contextmanager
def watching(names: Mapping[Module, str], step: Callable[[], int] = int) -> Iterator[None]:
    """Inside this block a Tensor that is not finite raises NotFinite, with the step and the place.

    names are those of the modules; step() is the number of the step that is being made.
    """
    make = Tensor.__init__
    places: dict[int, str] = {}  # by id(): a new Tensor at the address of an old one replaces it

    def make_and_look(tensor: Tensor, *arguments: Any, **options: Any) -> None:
        make(tensor, *arguments, **options)
        places[id(tensor)] = place = _place(names, places)
        try:
            check(tensor.data, step(), place)
        except NotFinite:
            Tensor.__init__ = make  # it is found
            for parent in sys._getframe(1).f_locals.get("parents", ()):  # if record has called
                if isinstance(parent, Tensor):
                    check(parent.data, step(), f"an input of {place}")
            raise

    Tensor.__init__ = make_and_look
    try:
        yield
    finally:
        Tensor.__init__ = make


def _place(names: Mapping[Module, str], places: Mapping[int, str]) -> str:
    """Where the program is, from the innermost call to the outermost.

    For example "matmul, in layers.3 (Dense), in D", or "multiply, in the derivative of tanh, in
    layers.1 (Tanh), in G", where the tanh was recorded in that layer.
    """
    place, frame = [], sys._getframe(2)
    while frame is not None:
        if frame.f_code is record.__code__:
            place.append(operation_name(frame.f_locals["derivatives"]))
        elif frame.f_code is Module.__call__.__code__:
            module = frame.f_locals["self"]
            place.append(names.get(module, type(module).__name__))
        elif frame.f_code is backpropagate.__code__ and "tensor" in frame.f_locals:
            made = places.get(id(frame.f_locals["tensor"]), "a tensor")
            place.append(f"the derivative of {made}")
        frame = frame.f_back
    return ", in ".join(place) or "a new Tensor"


def check(array: Any, step: int, where: str) -> None:
    """Raise NotFinite, with step and place, where an array of floats holds anything else."""
    numbers = to_host(array)
    if numbers.dtype.kind == "f" and not numpy.isfinite(numbers).all():
        kind = "nan" if numpy.isnan(numbers).any() else "infinity"
        raise NotFinite(
            f"the first number that is not finite ({kind}) appears at step {step}, in an array of "
            f"shape {array.shape}: {where}"
        )
