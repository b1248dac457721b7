"""Guesses at what is wrong with a gradient, from the pattern the mistake left in its numbers.

check     the checker's _Check: the loss L = sum(outputs * v), where v = check.cotangents[0]
gradient  backprop's dL/dx for x = check.variables[name]
measured  that of finite differences, NaN where it was not tried
index     where the two differ most
"""

import math
from typing import Any

import numpy

from ..backend import to_device
from ..tensor import Tensor

AS_TENSORS = (
    "a derivative returns one Tensor, computed from Tensors alone (no .data, no .numpy(), no cast "
    "to float32): is there a `return`, and is every step one of tinygan's functions?"
)
IN_PLACE = "a derivative changes dy in place, but others read it too: make a new one, as in dy * 2"
LEFT_OVER = "something is left over from the first pass: does a derivative add into a kept array?"
CUT = (
    "is cut off the tape: look for .detach(), .data, .numpy(), no_grad(), or a grad() without "
    "create_graph=True on the way, and compute with Tensors instead"
)
TRANSPOSED = "this is the right one transposed: transpose it back, or its factors"
NOT_FINITE = "not a finite number: look for a division by 0, a log or a square root at 0"
UNKNOWN = "no known pattern: follow this number by hand; must some matrix be transposed?"


def hint_from_numbers(
    check: Any, name: str, gradient: numpy.ndarray, measured: numpy.ndarray, index: tuple[int, ...]
) -> str:
    """The hint for a gradient whose numbers are wrong, the surest patterns first."""
    if not numpy.isfinite(gradient[index] + measured[index]):
        return NOT_FINITE
    x = check.variables[name]
    if rough := _rough_spot(check, x, index):
        return rough
    tried = ~numpy.isnan(measured)
    if check.order == "second":
        part = "a part of it" if gradient[tried].any() else "all of it"
        return f"the first derivative is right, but its own derivative is not: {part} {CUT}"
    if not gradient[tried].any():
        return f"backprop gives zero everywhere: either it multiplies by 0, or this input {CUT}"
    return (
        _misused_dy(check, name, gradient)
        or _constant_factor([x.data.size, check.cotangents[0].data.size],
                            gradient[tried], measured[tried])
        or _factor_by_sign(x.numpy()[tried], gradient[tried], measured[tried])
        or (TRANSPOSED if _same(gradient.T, measured) else "")
        or _forgotten_statistic(check, gradient - measured)
        or _wrong_places(check, name, index)
        or UNKNOWN
    )


def hint_from_error(error: Exception, x_shape: tuple[int, ...], dy_shape: tuple[int, ...]) -> str:
    """The hint for a derivative that raises, or whose result does not have its input's shape."""
    if isinstance(error, AttributeError | TypeError):
        return AS_TENSORS
    if f"has shape {x_shape[::-1]}, but" in str(error):
        return TRANSPOSED
    if x_shape != dy_shape and _broadcasts(x_shape, dy_shape):
        return (
            f"{x_shape} was broadcast to {dy_shape}, so each of its numbers was used several "
            "times: sum the gradient over the axes that were repeated"
        )
    return (
        f"dy has the output's shape, {dy_shape}, and a derivative returns a Tensor of its input's "
        f"shape, {x_shape}: transpose, reshape or sum; do stride, padding and size agree?"
    )


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    axes = zip(shape[::-1], to[::-1], strict=False)
    return len(shape) <= len(to) and all(n in (1, m) for n, m in axes)


def unit(shape: tuple[int, ...], index: tuple[int, ...]) -> numpy.ndarray:
    """Zeros, with a one at the index."""
    array = numpy.zeros(shape)
    array[index] = 1
    return array


def _same(a: numpy.ndarray, b: numpy.ndarray) -> bool:
    """Whether the shapes agree, and the numbers to a hundred-thousandth of the largest."""
    close = 1e-5 * numpy.abs(b).max(initial=1e-3)
    return a.shape == b.shape and bool((numpy.abs(a - b) <= close).all())


def _rough_spot(check: Any, x: Tensor, index: tuple[int, ...]) -> str:
    """Whether it is finite differences that cannot be trusted here."""
    h, direction = check.step, unit(x.shape, index)
    losses = [check.moved(x, step * direction, check.loss) for step in (-h, 0, h)]
    behind, ahead = numpy.diff(losses) / h
    slopes = [behind, ahead, check.difference(x, direction, h / 100)]
    if numpy.ptp(slopes) < 0.01 * max(numpy.abs(slopes).max(), 1e-3):
        return ""
    return (
        f"within {h} of this input the slope is {behind:.4g} on one side and {ahead:.4g} on the "
        "other: at a kink (like relu's at 0) backprop may well be right, so move the input away; "
        "elsewhere look for float32 inside the function"
    )


def _misused_dy(check: Any, name: str, gradient: numpy.ndarray) -> str:
    v = check.cotangents[0]
    before, v.data = v.data, v.data * 2
    doubled = check.backprop()[name]
    v.data = before
    if _same(doubled, 2 * gradient):
        return ""
    return (
        "2 dy must give twice as much, but does not: either the incoming gradient is ignored, or "
        "it is used twice, or something is added; a derivative returns dy times dy/dx"
    )


def _factor(gradient: numpy.ndarray, measured: numpy.ndarray) -> float | None:
    """The one factor by which all numbers are wrong, or None."""
    factor = float((gradient * measured).sum() / ((measured * measured).sum() or 1)) + 0.0
    return factor if len(gradient) > 1 and _same(gradient, factor * measured) else None


def _constant_factor(sizes: list[int], gradient: numpy.ndarray, measured: numpy.ndarray) -> str:
    factor = _factor(gradient, measured)
    if not factor:
        return ""
    known = {
        -1: "the sign is wrong everywhere: a minus is missing, or there is one too many",
        2: "everything is counted twice: is the same gradient added in two places?",
        1 / 2: "only half is there: is a factor 2, or one of two uses of the input, missing?",
    }
    for value, hint in known.items():
        if math.isclose(factor, value, rel_tol=1e-4):
            return hint
    hint = f"everywhere {factor:.4g} times what it should be"
    for ratio, taken, right in [(factor, "sum", "mean"), (1 / factor, "mean", "sum")]:
        n = round(ratio)
        if n > 1 and math.isclose(ratio, n, rel_tol=1e-4) and any(size % n == 0 for size in sizes):
            hint += f": is this the derivative of a {taken} over {n} numbers, not of a {right}?"
    return hint


def _factor_by_sign(x: numpy.ndarray, gradient: numpy.ndarray, measured: numpy.ndarray) -> str:
    """One factor where x is negative and another where it is positive, as in a ReLU."""
    below, above = (_factor(gradient[side], measured[side]) for side in (x < 0, x > 0))
    if below is None or above is None:
        return ""
    return (
        f"backprop gives {below:.4g} times the right number where the input is negative, and "
        f"{above:.4g} times where it is positive: look at these two cases in the derivative"
    )


def _forgotten_statistic(check: Any, error: numpy.ndarray) -> str:
    """Along an axis, is the error a + b y? That is how a mean or a variance moves the output."""
    output = check.outputs()[0].numpy()
    if output.shape != error.shape:
        return ""
    for axis in [axis for axis, length in enumerate(error.shape) if length > 3]:
        y, errors = (numpy.moveaxis(array, axis, -1)[..., None] for array in (output, error))
        for fit, forgotten in [
            (y**0, "sum that is subtracted (the mean) is"),
            (y, "sum that is divided by (the variance, a softmax's denominator) is"),
            (numpy.concatenate([y**0, y], -1), "sums of both kinds (mean, variance) are"),
        ]:
            if _same(fit @ numpy.linalg.pinv(fit) @ errors, errors):
                return (
                    f"the {forgotten} taken for constant along axis {axis}, although each number "
                    "of the input moves it, and through it every output along that axis"
                )
    return ""


def _wrong_places(check: Any, name: str, index: tuple[int, ...]) -> str:
    """Which outputs does this one number move, and whose gradients does it get?"""
    x, v = check.variables[name], check.cotangents[0]
    if v.data.size > 1000:
        return ""
    step = check.step * unit(x.shape, index)
    ahead, behind = (check.moved(x, by, lambda: check.outputs()[0]) for by in (step, -step))
    slopes = numpy.abs(ahead - behind) / (2 * check.step)
    before, passed = v.data, numpy.empty(v.shape)
    for place in numpy.ndindex(v.shape):
        v.data = to_device(unit(v.shape, place))
        passed[place] = abs(check.backprop()[name][index])
    v.data = before
    least = 1e-5 * max(slopes.max(), passed.max())
    moved, heard = slopes > least, passed > least
    if (heard & ~moved).any():
        place = tuple(numpy.argwhere(heard & ~moved)[0].tolist())
        return (
            f"this number gets the gradient of the output at {place}, which it does not move: "
            "check the order of the axes, the order of factors, the mask, the stride, the padding"
        )
    if (moved & ~heard).any():
        return (
            f"this number moves {moved.sum()} outputs, but gets the gradient of {heard.sum()} of "
            "them: follow every path, and add up (+=, not =) where a number is used several times"
        )
    return ""
