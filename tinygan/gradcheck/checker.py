"""Gradients checked against finite differences, in float64, to second order."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy

from .. import functions
from ..backend import to_device, to_host, xp
from ..tensor import TapeError, Tensor, backpropagate, record
from . import hints

STEP = 1e-6  # h of the differences: their error is about h^2 f''' / 6 + 1e-16 f / h
TOLERANCE = 1e-6  # of a directional derivative, relative to |gradient| |direction|
DIRECTIONS = 3
LONGEST = 10.0  # direction, as that of a hundred numbers
PLACES = 1000  # that are tried one by one once a direction disagrees


class GradientMismatch(AssertionError):
    """Backprop and finite differences disagree: the message says where, by how much, and a hint."""


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
    # [seed, 1] so that v is not what default_rng(seed) gave the caller as an input.
    randomness = numpy.random.default_rng([seed, 1])
    title = _name(function)
    with _in_float64(function) as variables:
        tensors = [variable(value) for value in inputs]
        for name, tensor in zip(_argument_names(function, len(tensors)), tensors, strict=True):
            if tensor.requires_grad:
                variables[name] = tensor
        if not variables:
            raise ValueError(f"{title}: no input is a float array: nothing to check")
        shape = _checked_output(function, tensors).shape
        v = variable(randomness.standard_normal(shape))

        def first() -> list[Tensor]:
            return [function(*tensors)]

        _Check(f"{title}, first derivative", first, [v], variables).run(randomness)
        if order < 2:
            return
        inner = list(variables.values())

        def second() -> list[Tensor]:
            return _gradients(functions.sum(function(*tensors) * v), inner, create_graph=True)

        cotangents = [Tensor(to_device(randomness.standard_normal(x.shape))) for x in inner]
        variables["the incoming gradient"] = v
        _Check(f"{title}, second derivative", second, cotangents, variables).run(randomness)


class _Check:
    """L = sum of outputs * cotangents, and its derivatives by the variables in two ways."""

    def __init__(
        self,
        title: str,
        outputs: Callable[[], list[Tensor]],
        cotangents: list[Tensor],
        variables: dict[str, Tensor],
    ):
        self.title, self.outputs = title, outputs
        self.cotangents, self.variables = cotangents, variables
        self.is_first, self.step = title.endswith("first derivative"), STEP
        self.received: list[tuple[Tensor, Any]] = []  # each dy that an output got, and a copy

    def loss(self) -> Tensor:
        def watch(dy: Tensor, y: Tensor) -> Tensor:
            self.received.append((dy, dy.data.copy()))
            return dy

        total = Tensor(0.0)
        for output, v in zip(self.outputs(), self.cotangents, strict=True):
            total = total + functions.sum(record(output.data, (output,), watch) * v)
        return total

    def backprop(self) -> dict[str, numpy.ndarray]:
        """dL/dx for every x, by name. Raises GradientMismatch where the walk itself fails."""
        loss, self.received = self.loss(), []
        try:
            gradients = _gradients(loss, list(self.variables.values()))
        except (TapeError, ValueError, TypeError, AttributeError) as error:
            raise self.failed_walk(error) from error
        found = dict(zip(self.variables, gradients, strict=True))
        for name, gradient in found.items():
            if not isinstance(gradient, Tensor) or gradient.dtype != numpy.float64:
                raise self.mismatch(
                    f" by {name}: what comes back is a {type(gradient).__name__} of "
                    f"{gradient.dtype}, not a Tensor of float64", hints.AS_TENSORS,
                )
        if any(not (to_host(dy.data) == to_host(copy)).all() for dy, copy in self.received):
            raise self.mismatch(": the incoming gradient dy has changed", hints.IN_PLACE)
        return {name: gradient.numpy() for name, gradient in found.items()}

    def failed_walk(self, error: Exception) -> GradientMismatch:
        """The mismatch for a derivative that raises: the first argument that it happens to."""
        for name, x in self.variables.items():
            loss = self.loss()
            try:
                _gradients(loss, [x])
            except Exception as again:
                hint = hints.hint_from_error(again, x, self.cotangents[0].shape)
                return self.mismatch(f" by {name}: {again}", hint)
        return self.mismatch(f": {error}", hints.AS_TENSORS)

    def difference(self, x: Tensor, direction: numpy.ndarray, step: float = STEP) -> float:
        """The central difference of the loss along the direction."""
        ahead = self.moved(x, step * direction, self.loss).item()
        return (ahead - self.moved(x, -step * direction, self.loss).item()) / (2 * step)

    def moved(self, x: Tensor, by: numpy.ndarray, compute: Callable[[], Any]) -> Any:
        """What compute() gives while x is x + by."""
        before = x.data
        try:
            x.data = before + to_device(by)
            return compute()
        finally:
            x.data = before

    def run(self, randomness: numpy.random.Generator) -> None:
        gradients, again = self.backprop(), self.backprop()
        for name, x in self.variables.items():
            gradient = gradients[name]
            if not numpy.array_equal(gradient, again[name], equal_nan=True):
                raise self.mismatch(f" by {name}: the second time it differs", hints.LEFT_OVER)
            for _ in range(DIRECTIONS):
                direction = randomness.standard_normal(x.shape)
                # Not too far when there are many numbers: some activation would pass its kink.
                direction /= max(1.0, numpy.linalg.norm(direction) / LONGEST)
                along = float((gradient * direction).sum())
                scale = numpy.linalg.norm(gradient) * numpy.linalg.norm(direction)
                measured = self.difference(x, direction)
                if not abs(along - measured) <= TOLERANCE * (1 + max(scale, abs(measured))):
                    raise self.worst_place(name, gradient, randomness)

    def worst_place(
        self, name: str, gradient: numpy.ndarray, randomness: numpy.random.Generator
    ) -> GradientMismatch:
        """The mismatch at the number of x whose gradient is most wrong."""
        x = self.variables[name]
        measured = numpy.full(gradient.size, numpy.nan)  # where a place was not tried
        places = randomness.permutation(gradient.size)[:PLACES]
        for place in places:
            direction = numpy.zeros(gradient.size)
            direction[place] = 1
            measured[place] = self.difference(x, direction.reshape(x.shape))
        error = numpy.abs(gradient.reshape(-1) - measured)[places]
        place = places[numpy.argmax(numpy.nan_to_num(error, nan=numpy.inf))]
        index = tuple(int(i) for i in numpy.unravel_index(place, gradient.shape))
        measured = measured.reshape(gradient.shape)
        given, right = gradient[index] + 0.0, measured[index] + 0.0  # so that -0 is shown as 0
        ratio = given / right + 0.0 if right else float("nan")
        return self.mismatch(
            f" by {name} at index {index} of shape {gradient.shape}: backprop gave {given:.8g}, "
            f"finite differences {right:.8g} (ratio {ratio:.4g})",
            hints.hint_from_numbers(self, name, gradient, measured, index),
        )

    def mismatch(self, what: str, hint: str) -> GradientMismatch:
        return GradientMismatch(f"{self.title}{what}\nhint: {hint}")


def _gradients(loss: Tensor, inputs: list[Tensor], create_graph: bool = False) -> list[Tensor]:
    """d(loss)/dx for each x: zeros where the loss does not depend on it."""
    found = backpropagate(loss, inputs, create_graph) if loss.requires_grad else {}
    return [found[x] if x in found else Tensor(xp.zeros_like(x.data)) for x in inputs]


def _checked_output(function: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    """f(inputs), after making sure that the function can be checked."""
    before = [tensor.numpy().copy() for tensor in inputs]
    output, again = function(*inputs), function(*inputs)
    for number, (tensor, copy) in enumerate(zip(inputs, before, strict=True)):
        if not numpy.array_equal(tensor.numpy(), copy, equal_nan=True):
            raise ValueError(f"{_name(function)} changes its argument {number}: work on a copy")
    if not isinstance(output, Tensor):
        raise ValueError(
            f"{_name(function)} answers with a {type(output).__name__}, not with one Tensor: end "
            "it with `return record(...)`, or pick one of its results"
        )
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


def variable(value: Any) -> Tensor:
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
        parameters = getattr(function, "named_parameters", dict)()
        yield {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
    finally:
        for name, tensor in state.items():
            tensor.data = before[name]


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """What a function, or the forward of a Module, takes by position."""
    try:
        signature = inspect.signature(getattr(function, "forward", function), eval_str=True)
    except (TypeError, ValueError, NameError):  # built in, or annotated with unknown names
        return []
    return [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]


def _argument_names(function: Any, count: int) -> list[str]:
    """argument 0 (x), argument 1 (weight), ...: with the signature's names where it has them."""
    names = [f" ({parameter.name})" for parameter in parameters_of(function)]
    return [f"argument {i}{name}" for i, name in enumerate((names + [""] * count)[:count])]
