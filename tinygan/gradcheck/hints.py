"""Guesses at what is wrong with a gradient, from the pattern the mistake left in its numbers.

check     the checker's _Check: the loss L = sum(outputs * v), where v = check.cotangents[0]
gradient  backprop's dL/dx for x = check.variables[name]
measured  that of finite differences, NaN where it was not tried
index     where the two differ most
"""

import math
from typing import Any

import numpy

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
MISUSED_DY = (
    "2 dy must give twice as much, but does not: either the incoming gradient is ignored, or "
    "it is used twice, or something is added; a derivative returns dy times dy/dx"
)
TRANSPOSED = "this is the right one transposed: transpose it back, or its factors"
NOT_FINITE = "not a finite number: look for a division by 0, a log or a square root at 0"
UNKNOWN = "no known pattern: follow this number by hand; must some matrix be transposed?"
FACTORS = {
    -1: "the sign is wrong everywhere: a minus is missing, or there is one too many",
    2: "everything is counted twice: is the same gradient added in two places?",
    1 / 2: "only half is there: is a factor 2, or one of two uses of the input, missing?",
}


def hint_from_error(error: Exception, x_shape: tuple[int, ...], dy_shape: tuple[int, ...]) -> str:
    """The hint for a derivative that raises, or whose result does not have its input's shape."""
    if isinstance(error, AttributeError | TypeError):
        return AS_TENSORS
    if f"has shape {x_shape[::-1]}, but" in str(error):
        return TRANSPOSED
    lengths = zip(x_shape[::-1], dy_shape[::-1], strict=False)
    if len(x_shape) <= len(dy_shape) and all(n in (1, m) for n, m in lengths):
        return (
            f"{x_shape} was broadcast to {dy_shape}, so each of its numbers was used several "
            "times: sum the gradient over the axes that were repeated"
        )
    return (
        f"dy has the output's shape, {dy_shape}, and a derivative returns a Tensor of its input's "
        f"shape, {x_shape}: transpose, reshape or sum; do stride, padding and size agree?"
    )


def hint_from_numbers(
    check: Any, name: str, gradient: numpy.ndarray, measured: numpy.ndarray, index: tuple[int, ...]
) -> str:
    """The hint for a gradient whose numbers are wrong, the surest patterns first."""
    if not numpy.isfinite(gradient[index] + measured[index]):
        return NOT_FINITE
    x, v, tried = check.variables[name], check.cotangents[0], ~numpy.isnan(measured)
    if kink := _kink(check, x, index):
        return kink
    if check.order == "second":
        part = "a part of it" if gradient[tried].any() else "all of it"
        return f"the first derivative is right, but its own derivative is not: {part} {CUT}"
    if not gradient[tried].any():
        return f"backprop gives zero everywhere: either it multiplies by 0, or this input {CUT}"
    if not _same(check.at(v, 2 * v.numpy(), check.backprop)[name], 2 * gradient):
        return MISUSED_DY
    if gradient.ndim > 1 and _same(gradient.T, measured):
        return TRANSPOSED
    return (
        _constant_factor([x.data.size, v.data.size], gradient[tried], measured[tried])
        or _factor_by_sign(x.numpy()[tried], gradient[tried], measured[tried])
        or _forgotten_statistic(check.outputs()[0].numpy(), gradient - measured)
        or _wrong_places(check, name, index)
        or UNKNOWN
    )


def unit(shape: tuple[int, ...], index: tuple[int, ...]) -> numpy.ndarray:
    """Zeros, with a one at the index."""
    array = numpy.zeros(shape)
    array[index] = 1
    return array


def _same(a: numpy.ndarray, b: numpy.ndarray) -> bool:
    """Whether the shapes agree, and the numbers to a hundred-thousandth of the largest."""
    close = 1e-5 * numpy.abs(b).max(initial=1e-3)
    return a.shape == b.shape and bool((numpy.abs(a - b) <= close).all())


def _factor(gradient: numpy.ndarray, measured: numpy.ndarray) -> float | None:
    """The one factor by which all numbers are wrong, or None."""
    factor = float((gradient * measured).sum() / ((measured * measured).sum() or 1)) + 0.0
    return factor if len(gradient) > 1 and _same(gradient, factor * measured) else None


def _kink(check: Any, x: Any, index: tuple[int, ...]) -> str:
    """Is the slope not the same on both sides? Then finite differences cannot be trusted."""
    h, direction = check.step, unit(x.shape, index)
    # One step is shorter, so that the rounding of float32 shows as well.
    losses = [float(check.at(x, x.numpy() + by * direction, check.loss)) for by in (-h, 0, h / 10)]
    behind, ahead = numpy.diff(losses) / (h, h / 10)
    if abs(ahead - behind) < 0.01 * max(abs(ahead), abs(behind), 1e-3):
        return ""
    return (
        f"within {h} of this input the slope is {behind:.4g} on one side and {ahead:.4g} on the "
        "other: at a kink (like relu's at 0) backprop may well be right, so move the input away; "
        "elsewhere look for float32 inside the function"
    )


def _constant_factor(sizes: list[int], gradient: numpy.ndarray, measured: numpy.ndarray) -> str:
    """Every number is wrong by the same factor."""
    factor = _factor(gradient, measured)
    if not factor:
        return ""
    for value, hint in FACTORS.items():
        if math.isclose(factor, value, rel_tol=1e-4):
            return hint
    hint = f"everywhere {factor:.4g} times what it should be"
    taken, right, ratio = ("sum", "mean", factor) if factor > 1 else ("mean", "sum", 1 / factor)
    n = round(ratio)
    if math.isclose(ratio, n, rel_tol=1e-4) and any(n > 1 and size % n == 0 for size in sizes):
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


def _forgotten_statistic(y: numpy.ndarray, error: numpy.ndarray) -> str:
    """Along an axis, is the error a + b y? That is how a mean or a variance moves the output y."""
    # Three numbers or fewer are fitted too easily.
    axes = [axis for axis, length in enumerate(error.shape) if length > 3]
    for axis in axes if y.shape == error.shape else []:
        ys, errors = (numpy.moveaxis(array, axis, -1)[..., None] for array in (y, error))
        for fit, forgotten in [
            (ys**0, "sum that is subtracted (the mean) is"),
            (ys, "sum that is divided by (the variance, a softmax's denominator) is"),
            (numpy.concatenate([ys**0, ys], -1), "sums of both kinds (mean, variance) are"),
        ]:
            if _same(fit @ numpy.linalg.pinv(fit) @ errors, errors):
                return (
                    f"the {forgotten} taken for constant along axis {axis}, although each number "
                    "of the input moves it, and through it every output along that axis"
                )
    return ""


def _wrong_places(check: Any, name: str, index: tuple[int, ...]) -> str:
    """Does this number get the gradients of just those outputs that it moves?"""
    x, v = check.variables[name], check.cotangents[0]

    def gradient(cotangent: numpy.ndarray) -> float:
        return abs(check.at(v, cotangent, check.backprop)[name][index])

    step = check.step * unit(x.shape, index)
    ahead, behind = (check.at(x, x.numpy() + by, check.outputs)[0].numpy() for by in (step, -step))
    slopes = numpy.abs(ahead - behind) / (2 * check.step)
    least = 1e-5 * max(slopes.max(), gradient(v.numpy()))
    moved = slopes > least
    if gradient(numpy.where(moved, 0, v.numpy())) > least:
        return (
            "this number gets the gradient of an output which it does not move: check the order "
            "of the axes, the order of factors, the mask, the stride, the padding"
        )
    heard = sum(gradient(unit(v.shape, tuple(place))) > least for place in numpy.argwhere(moved))
    if heard < moved.sum():
        return (
            f"this number moves {moved.sum()} outputs, but gets the gradient of {heard} of them: "
            "follow every path, and add up (+=, not =) where a number is used several times"
        )
    return ""
