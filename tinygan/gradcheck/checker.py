"""check_gradients: backprop's gradients against finite differences, in float64."""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy

from .. import functions
from ..backend import to_device, to_host, xp
from ..tensor import TapeError, Tensor, backpropagate, history, record
from . import hints

# A central difference with the step h is off by about h^2 f'''/6 (the curve) and ROUNDING f/h.
STEP = 1e-5  # h, in units of each number's own size
STEPS = numpy.array([10.0**-k for k in range(1, 12)])  # tried where STEP does not show agreement
ROUNDING = 2.0**-52
# Where all numbers of x but the least move L by the same "level", relative to that level:
AGREES = 1e-6  # so small a difference is agreement
WRONG = 1e-4  # so large a difference is a mistake, if it is five times its own uncertainty
UNSURE = 4e-4  # so large an uncertainty would hide a gradient that is 1 % wrong
NEGLIGIBLE = 1e-8  # relative to the outputs: what moves L by less is as good as zero
NOISE = 1e6  # rounding errors so many times too large come from float32
PLACES = 1000  # how many numbers are varied one at a time, and how many groups of numbers


class GradientMismatch(AssertionError):
    """Backprop and finite differences disagree: says where, by how much, and gives a hint."""


class Unfit(ValueError):
    """Finite differences cannot judge this function, or not at these inputs: says why."""


def check_gradients(
    function: Callable[..., Tensor], *inputs: Any, order: int = 2, seed: int = 0
) -> None:
    """Check the gradients of a function of Tensors; for a Module, its parameters' gradients too.

    For y = f(x_1, x_2, ...) let L = sum(v * y), where v is random: with v = 1 a softmax would
    pass with any factor on its gradient, because its outputs always sum to 1. Along a random
    direction u, u times backprop's dL/dx_i must equal (L(x_i + h u) - L(x_i - h u)) / 2h. In u
    each number of x_i gets the weight at which it moves L as much as the others, so that a large
    gradient hides no small one. Where the two differ, smaller and larger h show how far the
    finite difference can be trusted; if it cannot, ever smaller groups of numbers are tried.

    Order 2 checks the function (x_1, x_2, ..., v) -> (dL/dx_1, dL/dx_2, ...) in the same way.

    inputs: arrays or Tensors. Floats are checked as float64; integers are passed on as they are.
    Raises GradientMismatch, or ValueError if the function cannot be checked: it returns something
    other than one float64 Tensor, changes its input, is not deterministic, or is so steep or so
    flat at these inputs that finite differences are too inaccurate.
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
            raise Unfit(f"{title}: no input is a float array: nothing to check")
        y = _checked_output(title, function, tensors)
        v = _cotangent(y.numpy(), randomness)
        first = _Check(title, "first", lambda: [function(*tensors)], [v], variables)
        slopes = first.run(randomness)
        if order < 2:
            return

        def gradients() -> list[Tensor]:
            loss = functions.sum(function(*tensors) * v)
            return _gradients(loss, variables.values(), create_graph=True)

        cotangents = [_cotangent(slope, randomness) for slope in slopes.values()]
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
    step: float = 1e-6  # of the hints
    largest: float = 0.0  # part of an output in L: its rounding errors are all over L

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

        loss = self.loss(watch)
        tape = history(loss) if loss.requires_grad else []
        gradients = _gradients(loss, [*self.variables.values(), *tape])
        for name, gradient in zip(self.variables, gradients, strict=False):
            kind = f"{type(gradient).__name__} of {gradient.dtype}"
            if kind != "Tensor of float64":
                raise self.mismatch(f" by {name}: backprop gave a {kind}", hints.AS_TENSORS)
        if any((dy.data != copy).any() for dy, copy in received):
            raise self.mismatch(": the incoming gradient dy has changed", hints.IN_PLACE)
        for y, dy in zip(tape, gradients[len(self.variables) :], strict=True):
            self.largest = max(self.largest, numpy.abs(dy.numpy() * y.numpy()).max(initial=0))
        return {x: dx.numpy() for x, dx in zip(self.variables, gradients, strict=False)}

    def at(self, x: Tensor, numbers: numpy.ndarray, compute: Callable[[], Any]) -> Any:
        """What compute() gives while x holds these numbers."""
        before, x.data = x.data, to_device(numbers)
        result = compute()
        x.data = before
        return result

    def excess(self, x: Tensor, gradient: numpy.ndarray, by: numpy.ndarray, h: float) -> float:
        """The finite difference of L along a direction with the step h, less what backprop says.

        NaN if the step is lost in the rounding of x. Outputs that do not move cancel exactly.
        """
        numbers = x.numpy()
        ahead, behind = numbers + h * by, numbers - h * by
        if not numpy.allclose(ahead - behind, 2 * h * by, rtol=0.01, atol=0):
            return numpy.nan
        # Within at(), since an output can be x itself.
        outputs = [
            self.at(x, side, lambda: [y.data for y in self.outputs()]) for side in (ahead, behind)
        ]
        moved = sum(
            float(((y - z) * v.data).sum())
            for y, z, v in zip(*outputs, self.cotangents, strict=True)
        )
        return (moved - float((gradient * (ahead - behind)).sum())) / (2 * h)

    def run(self, randomness: numpy.random.Generator) -> dict[str, numpy.ndarray]:
        """Every variable's gradient. Raises GradientMismatch if one is wrong, or else Unfit."""
        try:
            gradients, again = self.backprop(), self.backprop()
        except (TapeError, ValueError, TypeError, AttributeError) as error:
            raise self.failed_backprop(error) from error
        unjudged = ""
        for name, gradient in gradients.items():
            if not numpy.array_equal(gradient, again[name], equal_nan=True):
                raise self.mismatch(f" by {name}: a second pass differs", hints.LEFT_OVER)
            order = numpy.abs(gradient * _sizes(self.variables[name])).ravel().argsort()
            if not numpy.isfinite(gradient).all():
                raise self.worst_place(name, gradient, order, STEP)
            groups = [order] * (gradient.size > 0)
            for tried, places in enumerate(groups):  # groups grows on the way
                if self.is_judged(name, gradient, places, randomness):
                    continue
                if len(places) == 1 or tried > PLACES:
                    index = tuple(int(i) for i in numpy.unravel_index(places[0], gradient.shape))
                    unjudged = unjudged or f"{name} at index {index} of shape {gradient.shape}"
                    break
                groups += numpy.array_split(places, 2)
        if unjudged:
            raise Unfit(
                f"{self.name}, {self.order} derivative by {unjudged} cannot be judged, because "
                "finite differences are too inaccurate at this input: check at another, of "
                "ordinary size and away from kinks, poles and flat places"
            )
        return gradients

    def is_judged(
        self, name: str, gradient: numpy.ndarray, places: numpy.ndarray,
        randomness: numpy.random.Generator,
    ) -> bool:
        """Is the gradient right at these places? False if finite differences cannot tell.

        Raises GradientMismatch if it is wrong.
        """
        x, sizes = self.variables[name], _sizes(self.variables[name])
        influence = numpy.abs(gradient * sizes)
        largest = max(self.largest, influence.max()) or 1.0
        among = influence.flat[places]
        least = NEGLIGIBLE * largest
        level = among[among >= least].min() if among.max() >= least else least
        even = sizes * level / numpy.maximum(influence, level)
        noise = ROUNDING * largest / STEPS
        close = AGREES * level + numpy.minimum(3 * noise, WRONG * level)
        for signs in (numpy.where(gradient < 0, -1, 1), randomness.choice([-1, 1], x.shape)):
            direction = numpy.zeros(x.shape)
            # Not all alike, so that two mistakes do not cancel.
            uneven = signs * even * randomness.uniform(0.5, 1.5, x.shape)
            direction.flat[places] = uneven.flat[places]
            with numpy.errstate(all="ignore"):  # a large step may leave the function's domain
                if abs(self.excess(x, gradient, direction, STEP)) <= close[STEPS == STEP]:
                    continue
                excess = numpy.array([self.excess(x, gradient, direction, h) for h in STEPS])
            if (abs(excess) <= close).any():
                continue
            if numpy.isnan(excess[-1]) and len(places) > 1:  # too unlike for the finest steps
                return False
            noise = ROUNDING * max(1, largest) / STEPS
            error, doubt, h = _best(excess, noise)
            if (numpy.abs(numpy.diff(excess[4:7])) > NOISE * noise[5:7]).all():
                error, doubt, h = numpy.inf, 0.0, STEP
            if abs(error) > max(5 * doubt, WRONG * level):
                # Where it is steep, backprop itself suffers from the rounding of x.
                nudged = self.at(x, x.numpy() * (1 + 4 * ROUNDING), self.backprop)[name]
                doubt += float(numpy.abs((nudged - gradient) * direction).sum())
            if abs(error) > max(5 * doubt, WRONG * level) and len(places) <= PLACES:
                raise self.worst_place(name, gradient, places, h)
            negligible = among.max() + abs(error) + doubt < least
            if not (max(doubt, abs(error) / 5) <= UNSURE * level or negligible):
                return False
        return True

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

    def worst_place(
        self, name: str, gradient: numpy.ndarray, places: numpy.ndarray, h: float
    ) -> GradientMismatch:
        """The mismatch at the number of x whose gradient is most wrong."""
        x, sizes = self.variables[name], _sizes(self.variables[name])
        measured = numpy.full(gradient.shape, numpy.nan)  # NaN where a place was not tried
        others = numpy.random.default_rng(0).permutation(gradient.size)
        places = numpy.union1d(places[:PLACES], others[: max(0, PLACES - len(places))])
        for place in places:
            direction = numpy.zeros(gradient.shape)
            direction.flat[place] = sizes.flat[place]
            measured.flat[place] = self.excess(x, 0 * direction, direction, h) / sizes.flat[place]
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


def _typical(numbers: numpy.ndarray) -> float:
    """The median size of those that are neither 0 nor infinite; 1 if there are none."""
    sizes = numpy.abs(numbers)
    sizes = sizes[numpy.isfinite(sizes) & (sizes > 0)]
    return float(numpy.median(sizes)) if sizes.size else 1.0


def _sizes(x: Tensor) -> numpy.ndarray:
    """How large a step each number of x takes, for h = 1: as large as it is, but never zero."""
    return numpy.maximum(numpy.abs(x.numpy()), 0.01 * _typical(x.numpy()))


def _cotangent(y: numpy.ndarray, randomness: numpy.random.Generator) -> Tensor:
    """A random v for the output y, smaller where y is large, so that it drowns no other output."""
    scale = numpy.fmax(1, numpy.abs(y) / max(1, _typical(y)))
    return variable(randomness.standard_normal(y.shape) / scale)


def _best(excess: numpy.ndarray, noise: numpy.ndarray) -> tuple[float, float, float]:
    """Of what was measured with all STEPS: the most certain, its uncertainty, and its step."""
    better = excess[1:] + numpy.diff(excess) / 99  # without the error of the curve, h^2 f'''/6
    jumps = numpy.abs(numpy.diff(better))
    doubts = numpy.maximum(jumps[:-1], jumps[1:] / 10) + noise[2:-1]
    if numpy.isnan(doubts).all():
        return numpy.nan, numpy.inf, STEP
    best = int(numpy.nanargmin(doubts))
    return float(better[1 + best]), float(doubts[best]), float(STEPS[2 + best])


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
        raise Unfit(f"{name} returns a {kind}, not one Tensor: forgot `record(...)`?")
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
