"""Tensor and the tape: which operation made which tensor, and the walk back along it."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter
from typing import Any

import numpy

from .backend import to_device, to_host, xp

# A derivative takes dy, the gradient of the loss with respect to an operation's output y, and
# y itself, and returns the gradient with respect to one parent: dy * dy/dparent.
Derivative = Callable[["Tensor", "Tensor"], "Tensor"]

_ages = itertools.count()  # of tensors and of changes
# When numbers last changed, by the id() of their Tensor or of their memory; 0 stands for any.
_changes = {0: -1}
# Of each thread and asyncio task: the no_grad blocks it is in, and the tensor whose derivatives
# it computes, if anything changed since that was recorded.
_no_grad_blocks: ContextVar[tuple[list[bool], ...]] = ContextVar("no_grad_blocks", default=())
_walked: ContextVar["Tensor | None"] = ContextVar("walked", default=None)


class TapeError(RuntimeError):
    """The tape cannot be walked: no scalar, nothing recorded, or freed already."""


class Tensor:
    """An array that remembers how it was computed.

    data           the numbers, on the device; an integer or a float array of any shape
    requires_grad  whether gradients flow to this tensor
    grad           after backward(): a Tensor of the same shape, or None

    Operators (+, @, ==, ...) and methods (sum, reshape, ...) are given to it in functions.py.
    Python numbers and lists become float32 (integers stay integers); arrays keep their dtype.
    A copy or a pickle has the numbers, but neither their history nor a gradient.

    After data = ..., data *= ... or an optimizer's step, backward() raises a TapeError where it
    would need the old numbers. It can't see what writes into the array, such as data[0] = ... or
    numpy.clip(x.data, -1, 1, out=x.data): x.data = x.data afterwards says that they changed.
    Raises TypeError for integer data that requires a gradient, and for data without numbers.
    """

    __slots__ = ("_array", "requires_grad", "grad", "operation", "parents", "derivatives", "age",
                 "__weakref__")
    __hash__ = object.__hash__  # `==` compares numbers; sets and dicts still go by identity

    def __init__(self, data: Any, requires_grad: bool = False):
        if not isinstance(data, xp.ndarray):
            if isinstance(data, Tensor):
                raise TypeError("this is a Tensor already: use .detach() for one without history")
            if isinstance(data, list | tuple) and any(isinstance(x, Tensor) for x in data):
                raise TypeError("a new Tensor has no history: join Tensors by functions.stack")
            keeps_dtype = hasattr(data, "dtype")
            data = numpy.asarray(data)
            if data.dtype == numpy.float64 and not keeps_dtype:
                data = data.astype(numpy.float32)
        if data.dtype.kind not in "fiub":
            raise TypeError(f"a Tensor holds numbers, not {data.dtype}")
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(
                f"{data.dtype} data of shape {data.shape} has no gradient: use .astype('float32')"
            )
        self._array = data if isinstance(data, xp.ndarray) else to_device(data)
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.operation = ""
        self.parents: tuple[Tensor, ...] | None = ()
        self.derivatives: tuple[Derivative, ...] = ()
        self.age = next(_ages)

    shape = property(attrgetter("_array.shape"))
    ndim = property(attrgetter("_array.ndim"))
    dtype = property(attrgetter("_array.dtype"))

    def _set_data(self, array: Any) -> None:
        # The same array was changed in place: Python assigns it after data *= 2.
        changed = self if array is not self._array else _memory(array)
        self._array = array
        _changes[0] = _changes[id(changed)] = next(_ages)

    data = property(attrgetter("_array"), _set_data)

    def __getstate__(self) -> tuple[Any, bool]:
        return self._array, self.requires_grad and not self.operation

    def __setstate__(self, state: tuple[Any, bool]) -> None:
        Tensor.__init__(self, *state)  # in another process ages count from 0 again

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> "Iterator[Tensor]":
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        """For example Tensor([1. 2.], shape=(2,), float32, from tanh)."""
        numbers = numpy.array2string(to_host(self.data), precision=4, threshold=20, edgeitems=2)
        origin = f", from {self.operation}" if self.operation else ""
        if self.requires_grad and not self.operation:
            origin = ", requires_grad"
        return f"Tensor({numbers}, shape={self.shape}, {self.dtype}{origin})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        """What numpy.asarray(x) makes of it: the numbers alone."""
        return numpy.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_function__(self, function: Callable, *_: Any) -> Any:
        raise TypeError(
            f"numpy.{function.__name__} would cut the tape: no gradient flows through NumPy. Use "
            "tinygan.functions, or x.numpy() where the numbers alone are wanted"
        )

    def numpy(self) -> numpy.ndarray:
        """The numbers as a NumPy array in main memory."""
        return to_host(self.data)

    def item(self) -> float:
        """The one number of a tensor that has one. On the GPU this waits for it."""
        return self.data.item()

    def detach(self) -> "Tensor":
        """The same numbers without their history: no gradient flows through this tensor."""
        return Tensor(self.data)

    def backward(self, create_graph: bool = False) -> None:
        """Add d(self)/dx to x.grad for every tensor x with requires_grad that self came from.

        The tape is freed on the way, unless create_graph, which also records the walk itself,
        so that the gradients can be differentiated again.
        Raises TapeError if self is not a scalar or has no history.
        """
        gradients = backpropagate(self, None, create_graph)
        for leaf, gradient in gradients.items():
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient


def record(data: Any, parents: tuple[Any, ...], *derivatives: Derivative) -> Tensor:
    """The tensor of an operation's result, linked to its parents by one derivative each.

    Parents that are numbers or arrays are constants: no gradient flows to them.
    """
    walked = _walked.get()
    if walked is not None:
        for tensor in (parent for parent in parents if isinstance(parent, Tensor)):
            _require_unchanged(tensor, walked)
    output = Tensor(data)
    if not any(_no_grad_blocks.get()):
        linked = [
            (parent, derivative)
            for parent, derivative in zip(parents, derivatives, strict=True)
            if isinstance(parent, Tensor) and parent.requires_grad
        ]
        if linked:
            output.requires_grad = True
            output.operation = operation_name(derivatives)
            output.parents, output.derivatives = zip(*linked, strict=True)
    return output


def operation_name(derivatives: Sequence[Derivative]) -> str:
    """The name of the function in which the derivatives were written."""
    return derivatives[0].__qualname__.partition(".")[0]


def _memory(array: Any) -> Any:
    return array if array.base is None else array.base  # of which it is a view


def _require_unchanged(tensor: Tensor, walked: Tensor) -> None:
    """Raise TapeError if what a derivative reads changed after its operation was recorded."""
    change = max(_changes.get(id(owner), 0) for owner in (tensor, _memory(tensor._array)))
    if tensor.age <= walked.age < change:  # what is younger was made on the way back
        raise TapeError(
            f"the derivative of {walked.operation} needs numbers of shape {tensor.shape} that have "
            "changed since: call backward() before the optimizer's step, or compute the loss anew"
        )


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block nothing is recorded: for pictures and for samples that D learns from.

    It holds for the thread or asyncio task that entered it. Blocks may overlap in any way.
    """
    block = [True]
    _no_grad_blocks.set((*_no_grad_blocks.get(), block))
    try:
        yield
    finally:
        block.clear()  # a generator may be closed elsewhere than where it entered the block
        _no_grad_blocks.set(tuple(filter(None, _no_grad_blocks.get())))


def grad(output: Tensor, inputs: Sequence[Tensor], create_graph: bool = False) -> list[Tensor]:
    """d(output)/dx for each x of inputs, without touching any .grad.

    Only the paths that lead to the inputs are walked. With create_graph the result can be
    differentiated again, as a gradient penalty needs it.
    Raises TapeError if output is not a scalar, or an input had no part in it.
    """
    gradients = backpropagate(output, inputs, create_graph)
    for number, tensor in enumerate(inputs):
        if tensor not in gradients:
            raise TapeError(
                f"input {number}, of shape {tensor.shape}, had no part in the output: was it made "
                "with requires_grad=True, and is there no detach() or no_grad() on the way?"
            )
    return [gradients[tensor] for tensor in inputs]


def backpropagate(
    output: Tensor, inputs: Sequence[Tensor] | None, create_graph: bool
) -> dict[Tensor, Tensor]:
    """The gradients of output by the inputs it came from (None: by all leaves), as a dict.

    A tensor is always younger than its parents. Walking from the youngest to the oldest, a
    tensor's gradient is therefore complete (all its uses have added their part) before it is
    passed on: no recursion and no topological sort is needed.
    """
    if output.data.size != 1:
        raise TapeError(
            f"gradients start from a scalar loss, but this tensor has shape {output.shape}: "
            "take its .mean() or .sum() first"
        )
    if not output.requires_grad:
        raise TapeError(
            "nothing to differentiate: no tensor with requires_grad=True went into this one "
            "(or it was computed under no_grad, or detached)"
        )
    tape = history(output)
    wanted = {tensor for tensor in tape if not tensor.parents} if inputs is None else set(inputs)
    useful = set(wanted)
    for tensor in tape:  # from the oldest: does a wanted tensor lie behind this one?
        if any(parent in useful for parent in tensor.parents):
            useful.add(tensor)

    gradients = {output: Tensor(xp.ones_like(output.data))}
    blocks = _no_grad_blocks.set(() if create_graph else ([True],))
    walked = _walked.set(None)
    try:
        while tape:
            tensor = tape.pop()  # nothing holds on to what was visited: its memory is freed
            useful.discard(tensor)
            if tensor.age < _changes[0]:
                _walked.set(tensor)
            dy = (gradients.get if tensor in wanted else gradients.pop)(tensor, None)
            for parent, derivative in zip(tensor.parents, tensor.derivatives, strict=True):
                if dy is None or parent not in useful:
                    continue
                part = derivative(dy, tensor)
                if part.shape != parent.shape:
                    raise TapeError(
                        f"the derivative of {tensor.operation} has shape {part.shape}, but its "
                        f"input has shape {parent.shape}: they must be the same"
                    )
                before = gradients.get(parent)
                gradients[parent] = part if before is None else before + part
            if not create_graph and tensor.operation:
                tensor.parents, tensor.derivatives = None, ()
        found = {tensor: gradients[tensor] for tensor in wanted if tensor in gradients}
        arrays = set()
        for tensor, gradient in found.items():  # each has its own memory, to be changed in place
            if gradient.data.base is not None or id(gradient.data) in arrays:
                found[tensor] = record(gradient.data.copy(), (gradient,), lambda dy, y: dy)
            arrays.add(id(gradient.data))
        return found
    finally:
        _no_grad_blocks.reset(blocks)
        _walked.reset(walked)


def history(output: Tensor) -> list[Tensor]:
    """The tape: every tensor that output came from and gradients flow to, the oldest first."""
    seen, to_visit = {output}, [output]
    while to_visit:
        tensor = to_visit.pop()
        if tensor.parents is None:
            raise TapeError(
                f"the tape behind a result of {tensor.operation} is freed: backward() ran over it "
                "already. Compute it anew, or call the first backward with create_graph=True"
            )
        for parent in tensor.parents:
            if parent not in seen:
                seen.add(parent)
                to_visit.append(parent)
    return sorted(seen, key=lambda tensor: tensor.age)
