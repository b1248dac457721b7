"""Gradients checked against finite differences, in float64, to second order."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy

from . import functions
from .backend import to_device, to_host
from .tensor import Tensor, walk

STEP = 1e-6  # h of the differences: their error is about h^2 f''' / 6 + 1e-16 f / h
TOLERANCE = 1e-6  # of a directional derivative, relative to |gradient| |direction|
DIRECTIONS = 3
PLACES = 1000  # that are tried one by one once a direction disagrees


class GradientMismatch(AssertionError):
    """Backprop and finite differences disagree: the message says where and by how much."""


def check_gradients(
    function: Callable[..., Tensor], *inputs: Any, order: int = 2, seed: int = 0
) -> None:
    """Check the gradients of a function of tensors; of a Module, by its parameters too.

    For y = f(x_1, x_2, ...) and a random v of y's shape, let L = sum(v * y). Backprop's
    dL/dx_i along a random direction u must equal the central difference
    (L(x_i + h u) - L(x_i - h u)) / 2h. Only a random v tests the whole Jacobian: with
    v = 1 a wrong softmax passes, because its outputs always sum to 1. Where a direction
    disagrees, the numbers of x_i are varied one by one to find the worst.

    Order 2 checks the function (x_1, x_2, ..., v) -> (dL/dx_1, dL/dx_2, ...) in the same way.

    inputs: arrays or Tensors. Floats are checked as float64; integers are passed on as they are.
    Raises GradientMismatch; ValueError where the function cannot be checked at all: it answers
    differently to the same input, changes its input, or leaves float64.
    """
    randomness = numpy.random.default_rng(seed)
    with _in_float64(function) as variables:
        tensors = [_variable(value) for value in inputs]
        for name, tensor in zip(_argument_names(function, len(tensors)), tensors, strict=True):
            if tensor.requires_grad:
                variables[name] = tensor
        if not variables:
            raise ValueError(f"{_name(function)}: no input is a float array: nothing to check")
        shape = _checked_output(function, tensors).shape
        v = _variable(randomness.standard_normal(shape))

        def first() -> list[Tensor]:
            return [function(*tensors)]

        _compare(f"{_name(function)}, first derivative", first, [v], variables, randomness)
        if order < 2:
            return
        inner = list(variables.values())

        def second() -> list[Tensor]:
            return _gradients(functions.sum(function(*tensors) * v), inner, create_graph=True)

        cotangents = [Tensor(to_device(randomness.standard_normal(x.shape))) for x in inner]
        variables["the incoming gradient"] = v
        _compare(f"{_name(function)}, second derivative", second, cotangents, variables, randomness)


def _compare(
    title: str,
    outputs: Callable[[], list[Tensor]],
    cotangents: list[Tensor],
    variables: dict[str, Tensor],
    randomness: numpy.random.Generator,
) -> None:
    """Raise GradientMismatch unless d(sum of outputs * cotangents)/dx is right for every x."""

    def loss() -> Tensor:
        pairs = zip(outputs(), cotangents, strict=True)
        return sum((functions.sum(output * v) for output, v in pairs), start=Tensor(0.0))

    def difference(x: Tensor, direction: numpy.ndarray) -> float:
        """The central difference of the loss along the direction."""
        before = x.data
        try:
            x.data = before + STEP * to_device(direction)
            after = loss().item()
            x.data = before - STEP * to_device(direction)
            return (after - loss().item()) / (2 * STEP)
        finally:
            x.data = before

    gradients = _gradients(loss(), list(variables.values()))
    for (name, x), tensor in zip(variables.items(), gradients, strict=True):
        gradient = tensor.numpy()
        for _ in range(DIRECTIONS):
            direction = randomness.standard_normal(x.shape)
            along = float((gradient * direction).sum())
            scale = numpy.linalg.norm(gradient) * numpy.linalg.norm(direction)
            measured = difference(x, direction)
            if not abs(along - measured) <= TOLERANCE * (1 + max(scale, abs(measured))):
                raise GradientMismatch(_report(title, name, x, gradient, difference, randomness))


def _report(
    title: str,
    name: str,
    x: Tensor,
    gradient: numpy.ndarray,
    difference: Callable[[Tensor, numpy.ndarray], float],
    randomness: numpy.random.Generator,
) -> str:
    """The sentence that names the number of x whose gradient is most wrong."""
    places = randomness.permutation(gradient.size)[:PLACES]
    measured = numpy.empty(len(places))
    for i, place in enumerate(places):
        direction = numpy.zeros(gradient.size)
        direction[place] = 1
        measured[i] = difference(x, direction.reshape(gradient.shape))
    backprop = gradient.reshape(-1)[places]
    worst = int(numpy.argmax(numpy.nan_to_num(numpy.abs(backprop - measured), nan=numpy.inf)))
    index = tuple(int(i) for i in numpy.unravel_index(places[worst], gradient.shape))
    ratio = backprop[worst] / measured[worst] if measured[worst] else float("nan")
    return (
        f"{title} by {name} at index {index} of shape {gradient.shape}: backprop gave "
        f"{backprop[worst]:.8g}, finite differences {measured[worst]:.8g} (ratio {ratio:.4g})"
    )


def _gradients(loss: Tensor, inputs: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    """d(loss)/dx for each x: zeros where the loss does not depend on it."""
    found = walk(loss, inputs, create_graph) if loss.requires_grad else {}
    return [found[x] if x in found else Tensor(x.data * 0.0) for x in inputs]


def _checked_output(function: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    """f(inputs), after making sure that the function can be checked."""
    before = [tensor.numpy().copy() for tensor in inputs]
    output, again = function(*inputs), function(*inputs)
    for number, (tensor, copy) in enumerate(zip(inputs, before, strict=True)):
        if not numpy.array_equal(tensor.numpy(), copy, equal_nan=True):
            raise ValueError(f"{_name(function)} changes its argument {number}: work on a copy")
    if output.dtype != numpy.float64:
        raise ValueError(
            f"{_name(function)} answers {output.dtype} to float64 inputs: look for a cast or a "
            "float32 constant; differences of float32 numbers are too coarse to check with"
        )
    if not numpy.array_equal(output.numpy(), again.numpy(), equal_nan=True):
        raise ValueError(
            f"{_name(function)} answers differently to the same input: draw its random numbers "
            "outside, and put layers such as Dropout into .eval()"
        )
    return output


def _variable(value: Any) -> Tensor:
    """A float64 copy that requires a gradient; integers as they are."""
    array = to_host(value.data if isinstance(value, Tensor) else numpy.asarray(value))
    if array.dtype.kind != "f":
        return Tensor(to_device(array))
    return Tensor(to_device(array.astype(numpy.float64)), requires_grad=True)


@contextmanager
def _in_float64(function: Any) -> Iterator[dict[str, Tensor]]:
    """Lend a Module float64 parameters and state, and give them back as they were."""
    state = getattr(function, "named_tensors", dict)()
    before = {name: tensor.data for name, tensor in state.items()}
    try:
        for tensor in state.values():
            if tensor.dtype.kind == "f":
                tensor.data = tensor.data.astype(numpy.float64)
        yield dict(getattr(function, "named_parameters", dict)())
    finally:
        for name, tensor in state.items():
            tensor.data = before[name]


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _argument_names(function: Any, count: int) -> list[str]:
    """argument 0 (x), argument 1 (weight), ...: with the signature's names where it has them."""
    try:
        names = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        names = []
    positional = [p.name for p in names if p.kind is not p.VAR_POSITIONAL][:count]
    positional += [""] * (count - len(positional))
    return [f"argument {i}" + f" ({name})" * bool(name) for i, name in enumerate(positional)]
