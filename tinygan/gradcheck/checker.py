"""check_gradients: backprop's gradients against finite differences, in float64."""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy

from .. import functions
from ..backend import to_device, to_host, xp
from ..tensor import TapeError, Tensor, backpropagate, record
from . import hints

STEP = 1e-6  # h: a central difference is off by about h^2 f''' / 6 + 1e-16 f / h
TOLERANCE = 1e-6  # of a directional derivative, relative to |gradient| |direction|
DIRECTIONS = 3
LONGEST_DIRECTION = 10.0  # about the length of a random direction in a hundred dimensions
PLACES = 1000  # how many numbers are varied one at a time once a direction disagrees


class GradientMismatch(AssertionError):
    """Backprop and finite differences disagree: says where, by how much, and gives a hint."""


def check_gradients(
    function: Callable[..., Tensor], *inputs: Any, order: int = 2, seed: int = 0
) -> None:
    """Check the gradients of a function of Tensors; for a Module, its parameters' gradients too.

    For y = f(x_1, x_2, ...) let L = sum(v * y), where v is random: with v = 1 a softmax would
    pass with any factor on its gradient, because its outputs always sum to 1. Along a random
    direction u, backprop's dL/dx_i must equal (L(x_i + h u) - L(x_i - h u)) / 2h. Where it does
    not, the numbers of x_i are varied one at a time to find the worst.

    Order 2 checks the function (x_1, x_2, ..., v) -> (dL/dx_1, dL/dx_2, ...) in the same way.

    inputs: arrays or Tensors. Floats are checked as float64; integers are passed on as they are.
    Raises GradientMismatch, or ValueError if the function cannot be checked: it returns something
    other than one float64 Tensor, changes its input, or is not deterministic.
    """
    # [seed, 1] so that v is not what default_rng(seed) gave the caller as an input.
    randomness = numpy.random.default_rng([seed, 1])
    title = getattr(function, "__name__", type(function).__name__)
    with _in_float64(function) as variables:
        tensors = [variable(value) for value in inputs]
        names = [f" ({parameter.name})" for parameter in parameters_of(function)]
        for i, tensor in enumerate(tensors):
            if tensor.requires_grad:
                variables[f"argument {i}{''.join(names[i : i + 1])}"] = tensor
        if not variables:
            raise ValueError(f"{title}: no input is a float array: nothing to check")
        y = _checked_output(title, function, tensors)
        v = variable(randomness.standard_normal(y.shape))
        _Check(title, "first", lambda: [function(*tensors)], [v], variables).run(randomness)
        if order < 2:
            return

        def gradients() -> list[Tensor]:
            loss = functions.sum(function(*tensors) * v)
            return _gradients(loss, variables.values(), create_graph=True)

        cotangents = [variable(randomness.standard_normal(x.shape)) for x in variables.values()]
        inputs_and_v = variables | {"the incoming gradient": v}
        _Check(title, "second", gradients, cotangents, inputs_and_v).run(randomness)


@dataclass
class _Check:
    """L = sum(outputs * cotangents), and its derivative with respect to each variable, twice."""

    name: str
    order: str
    outputs: Callable[[], list[Tensor]]
    cotangents: list[Tensor]
    variables: dict[str, Tensor]
    step: float = STEP

    def loss(self, watch: Callable[[Tensor, Tensor], Tensor] = lambda dy, y: dy) -> Tensor:
        """L. On the way back, watch is called with the gradient that each output receives."""
        total = Tensor(0.0)
        for output, v in zip(self.outputs(), self.cotangents, strict=True):
            total = total + functions.sum(record(output.data, (output,), watch) * v)
        return total

    def backprop(self) -> dict[str, numpy.ndarray]:
        """dL/dx of every variable x, by name."""
        received: list[tuple[Tensor, Any]] = []

        def watch(dy: Tensor, y: Tensor) -> Tensor:
            received.append((dy, dy.data.copy()))
            return dy

        gradients = _gradients(self.loss(watch), self.variables.values())
        for name, gradient in zip(self.variables, gradients, strict=True):
            kind = f"{type(gradient).__name__} of {gradient.dtype}"
            if kind != "Tensor of float64":
                raise self.mismatch(f" by {name}: backprop gave a {kind}", hints.AS_TENSORS)
        if any((dy.data != copy).any() for dy, copy in received):
            raise self.mismatch(": the incoming gradient dy has changed", hints.IN_PLACE)
        return {x: dx.numpy() for x, dx in zip(self.variables, gradients, strict=True)}

    def at(self, x: Tensor, numbers: numpy.ndarray, compute: Callable[[], Any]) -> Any:
        """What compute() gives while x holds these numbers."""
        before, x.data = x.data, to_device(numbers)
        result = compute()
        x.data = before
        return result

    def difference(self, x: Tensor, direction: numpy.ndarray) -> float:
        """The central difference of the loss along the direction."""
        numbers, by = x.numpy(), self.step * direction
        ahead, behind = self.at(x, numbers + by, self.loss), self.at(x, numbers - by, self.loss)
        return float(ahead - behind) / (2 * self.step)

    def run(self, randomness: numpy.random.Generator) -> None:
        """Raise GradientMismatch if any variable's gradient is wrong."""
        try:
            gradients, again = self.backprop(), self.backprop()
        except (TapeError, ValueError, TypeError, AttributeError) as error:
            raise self.failed_backprop(error) from error
        for name, x in self.variables.items():
            gradient = gradients[name]
            if not numpy.array_equal(gradient, again[name], equal_nan=True):
                raise self.mismatch(f" by {name}: a second pass differs", hints.LEFT_OVER)
            for _ in range(DIRECTIONS):
                direction = randomness.standard_normal(x.shape)
                # Not too far when there are many numbers: some activation would cross its kink.
                direction /= max(1.0, numpy.linalg.norm(direction) / LONGEST_DIRECTION)
                along = float((gradient * direction).sum())
                scale = numpy.linalg.norm(gradient) * numpy.linalg.norm(direction)
                measured = self.difference(x, direction)
                if not abs(along - measured) <= TOLERANCE * (1 + max(scale, abs(measured))):
                    raise self.worst_place(name, gradient)

    def failed_backprop(self, error: Exception) -> GradientMismatch:
        """The mismatch for a derivative that raises, which names the first argument it is of."""
        for name, x in self.variables.items():
            loss = self.loss()
            try:
                _gradients(loss, [x])
            except Exception as again:
                hint = hints.hint_from_error(again, x.shape, self.cotangents[0].shape)
                return self.mismatch(f" by {name}: {again}", hint)
        return self.mismatch(f": {error}", hints.AS_TENSORS)

    def worst_place(self, name: str, gradient: numpy.ndarray) -> GradientMismatch:
        """The mismatch at the number of x whose gradient is most wrong."""
        measured = numpy.full(gradient.shape, numpy.nan)  # NaN where a place was not tried
        places = numpy.random.default_rng(0).permutation(gradient.size)[:PLACES]
        for place in places:
            direction = numpy.zeros(gradient.shape)
            direction.flat[place] = 1
            measured.flat[place] = self.difference(self.variables[name], direction)
        errors = numpy.nan_to_num(abs(gradient - measured).flat[places], nan=numpy.inf)
        worst = numpy.unravel_index(places[errors.argmax()], gradient.shape)
        index = tuple(int(i) for i in worst)
        given, right = gradient[index] + 0.0, measured[index] + 0.0  # so that -0 is shown as 0
        ratio = given / right + 0.0 if right else float("nan")
        return self.mismatch(
            f" by {name} at index {index} of shape {gradient.shape}: backprop gave {given:.8g}, "
            f"finite differences {right:.8g} (ratio {ratio:.4g})",
            hints.hint_from_numbers(self, name, gradient, measured, index),
        )

    def mismatch(self, what: str, hint: str) -> GradientMismatch:
        return GradientMismatch(f"{self.name}, {self.order} derivative{what}\nhint: {hint}")


def _gradients(loss: Tensor, xs: Collection[Tensor], create_graph: bool = False) -> list[Tensor]:
    """d(loss)/dx for each x: zeros if the loss does not depend on it."""
    found = backpropagate(loss, xs, create_graph) if loss.requires_grad else {}
    return [found[x] if x in found else Tensor(xp.zeros_like(x.data)) for x in xs]


def _checked_output(name: str, function: Callable[..., Any], inputs: list[Tensor]) -> Tensor:
    """f(inputs). Raises ValueError if the function is not one that can be checked."""
    before = [tensor.numpy().copy() for tensor in inputs]
    output, again = function(*inputs), function(*inputs)
    for number, (tensor, copy) in enumerate(zip(inputs, before, strict=True)):
        if not numpy.array_equal(tensor.numpy(), copy, equal_nan=True):
            raise ValueError(f"{name} changes its argument {number}: work on a copy")
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise ValueError(f"{name} returns a {kind}, not one Tensor: forgot `record(...)`?")
    if output.dtype != numpy.float64:
        advice = "look for a cast or a float32 constant"
        raise ValueError(f"{name} returns {output.dtype} for float64 inputs: {advice}")
    if not numpy.array_equal(output.numpy(), again.numpy(), equal_nan=True):
        raise ValueError(
            f"{name} returns different numbers for the same input: draw its random numbers "
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
    """Give a Module float64 parameters and state, and put everything back afterwards."""
    tensors = getattr(function, "named_tensors", dict)().values()
    before = [(tensor, tensor.data) for tensor in tensors]
    try:
        for tensor, data in before:
            if data.dtype.kind == "f":
                tensor.data = data.astype(numpy.float64)
        parameters = getattr(function, "named_parameters", dict)()
        yield {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
    finally:
        for tensor, data in before:
            tensor.data = data


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """What a function, or the forward of a Module, takes by position."""
    try:
        signature = inspect.signature(getattr(function, "forward", function), eval_str=True)
    except (TypeError, ValueError, NameError):  # built in, or annotated with unknown names
        return []
    return [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
