"""What is probably wrong with a gradient: the patterns that mistakes leave in the numbers.

Used by gradcheck. A `check` is its _Check: a loss L = sum(outputs * v), v = check.cotangents[0],
that can be computed, differentiated by backprop and by differences, and computed with a moved
input. gradient is backprop's dL/dx, measured the one of the differences (NaN where nobody
looked), index the place where they differ most. A function returns "" where it knows nothing.
"""

import itertools
import re
from typing import Any

import numpy

from ..backend import to_device
from ..tensor import Tensor

AS_TENSORS = (
    "a derivative returns one Tensor, computed with Tensors alone (no .data, no .numpy(), no cast "
    "to float32): is there a `return`, and is every step one of tinygan's functions?"
)
IN_PLACE = (
    "a derivative changes dy in place (dy.data += ..., dy.data *= ...), but other inputs read the "
    "same array: compute a new one, as in dy * 2"
)
LEFT_OVER = (
    "something is left over from the first pass: a derivative adds into an array that outlives "
    "it, or changes an array of the forward pass in place; make a new array in every call"
)
CUT = (
    "is cut off the tape: look for .detach(), .data, .numpy(), no_grad(), or a grad() without "
    "create_graph=True on the way, and compute with Tensors instead"
)
BROADCAST = (
    "an input of shape {} was broadcast to {}, so each of its numbers was used several times: "
    "sum the gradient over the axes that were repeated"
)


def hint_from_numbers(
    check: Any,
    name: str,
    gradient: numpy.ndarray,
    measured: numpy.ndarray,
    index: tuple[int, ...],
) -> str:
    """The hint for a gradient whose numbers are wrong, the surest patterns first."""
    if not numpy.isfinite(gradient[index] + measured[index]):
        return (
            "this is no finite number: look for a division by 0, a log or a square root at 0, or "
            "an exp that overflows, in the derivative or in the function"
        )
    x = check.variables[name]
    if rough := _rough_spot(check, x, gradient[index], index):
        return rough
    tried = ~numpy.isnan(measured)
    if not check.is_first:
        part = "a part of it" if gradient[tried].any() else "all of it"
        return (
            f"the first derivative is right, but its own derivative is not: {part} {CUT} (or an "
            "operation that the derivative is made of has a wrong derivative itself)"
        )
    if not gradient[tried].any():
        return (
            f"backprop gives zero everywhere: either this input {CUT}; or its derivative "
            "multiplies by zero"
        )
    hint = (
        _dy_used_wrongly(check, name, gradient)
        or _constant_ratio(check, name, gradient[tried], measured[tried])
        or _ratio_by_sign(x.numpy()[tried], gradient[tried], measured[tried])
        or _transposed(gradient, measured)
        or _wrong_factors(check, name, gradient, measured)
        or _forgotten_sum(check, gradient - measured)
        or _wrong_places(check, name, index)
        or "no known pattern: write down the formula for this one number and follow it by hand"
    )
    return hint + _where_wrong(x.numpy(), tried, tried & ~_same(gradient, measured, tried))


def _same(a: Any, b: numpy.ndarray, where: Any = ...) -> Any:
    """Which numbers agree, to a hundred-thousandth of the largest of b."""
    return numpy.abs(a - b) <= 1e-5 * numpy.abs(b[where]).max(initial=1e-3)


def _unit(shape: tuple[int, ...], index: tuple[int, ...]) -> numpy.ndarray:
    unit = numpy.zeros(shape)
    unit[index] = 1
    return unit


def _where_wrong(x: numpy.ndarray, tried: numpy.ndarray, wrong: numpy.ndarray) -> str:
    if wrong.sum() == tried.sum():
        return ""
    text = f" (wrong are {wrong.sum()} of {tried.sum()} numbers"
    for side, there in [("negative", x < 0), ("positive", x > 0)]:
        if (wrong == (there & tried)).all():
            text += f": all those where the input is {side}, and no other"
    return text + ")"


def _rough_spot(check: Any, x: Tensor, backprop: float, index: tuple[int, ...]) -> str:
    """Whether it is the differences that cannot be trusted here."""
    unit, h = _unit(x.shape, index), check.step
    middle = check.loss().item()
    ahead = (check.moved(x, h * unit, check.loss).item() - middle) / h
    behind = (middle - check.moved(x, -h * unit, check.loss).item()) / h
    fine, coarse = (check.difference(x, unit, step) for step in (h / 100, h * 1000))
    roughness = max(abs(ahead - behind), abs(fine - (ahead + behind) / 2))
    if roughness < 0.01 * max(abs(ahead), abs(behind), abs(fine), 1e-3):
        return ""
    if abs(coarse - backprop) < 0.01 * abs(backprop):
        return (
            f"the function moves in jumps: differences over {h} mean nothing, while those over "
            f"{h * 1000} agree with backprop; look for float32 inside the function (a cast, an "
            "array made without a dtype) or for rounding"
        )
    slack = 1e-3 * abs(ahead - behind)
    if min(ahead, behind) - slack <= backprop <= max(ahead, behind) + slack:
        return (
            f"there is a kink (as that of relu at 0) within {h} of this input, with slope "
            f"{behind:.4g} on one side and {ahead:.4g} on the other: backprop may well be right; "
            "move the input away from the kink"
        )
    return ""


def _dy_used_wrongly(check: Any, name: str, gradient: numpy.ndarray) -> str:
    """A derivative is linear in dy: with 2 dy it gives twice as much."""
    v = check.cotangents[0]
    before, v.data = v.data, v.data * 2
    try:
        doubled = check.backprop()[name]
    finally:
        v.data = before
    if _same(doubled, 2 * gradient).all():
        return ""
    if _same(doubled, gradient).all():
        return "the incoming gradient is ignored: a derivative returns dy times dy/dx, not dy/dx"
    return "2 dy must give twice as much, but does not: multiply by dy just once, add no constant"


# ---------------------------------------------------------------- right but for a factor


def _constant_ratio(
    check: Any, name: str, gradient: numpy.ndarray, measured: numpy.ndarray
) -> str:
    ratio = float((gradient * measured).sum() / ((measured * measured).sum() or 1))
    if not _same(gradient, ratio * measured).all():
        return ""
    if abs(ratio + 1) < 1e-4:
        return "the sign is wrong everywhere: a minus is missing, or there is one too many"
    hints = []
    if abs(ratio - 2) < 1e-4:
        hints.append("everything is counted twice: is the same gradient added at two places?")
    if abs(ratio - 0.5) < 1e-4:
        hints.append("only half is there: a factor 2 or one of two uses of the input is missing")
    shapes = {"the input": check.variables[name].shape, "the output": check.cotangents[0].shape}
    for count, where in _counts(shapes).items():
        if abs(ratio / count - 1) < 1e-4:
            hints.append(
                f"{count} times too much, and {where} hold {count} numbers: this is the derivative "
                "of a sum where the function takes a mean (or a sum too many): divide by N"
            )
        if abs(ratio * count - 1) < 1e-4:
            hints.append(
                f"{count} times too little, and {where} hold {count} numbers: this is the "
                "derivative of a mean where the function takes a sum: do not divide by N"
            )
    if not hints and gradient.size > 1:
        hints.append(f"everywhere {ratio:.4g} times what it should be: a constant factor is wrong")
    return "; or ".join(hints)


def _ratio_by_sign(x: numpy.ndarray, gradient: numpy.ndarray, measured: numpy.ndarray) -> str:
    """Is it one factor where x is negative and another one where x is positive, as in a ReLU?"""
    ratios = []
    for there in (x < 0, x > 0):
        given, right = gradient[there], measured[there]
        ratios.append((given * right).sum() / ((right * right).sum() or 1))
        if len(given) < 2 or not _same(given, ratios[-1] * right).all():
            return ""
    below, above = (f"{ratio + 0.0:.4g}" for ratio in ratios)
    return (
        f"backprop gives {below} times the right number where the input is negative, and {above} "
        "times where it is positive: look at these two cases in the derivative"
    )


def _counts(shapes: dict[str, tuple[int, ...]]) -> dict[int, str]:
    """How many numbers lie along one or more axes, and along which."""
    counts: dict[int, str] = {}
    for owner, shape in shapes.items():
        for many in range(1, len(shape) + 1):
            for axes in itertools.combinations(range(len(shape)), many):
                count = int(numpy.prod([shape[axis] for axis in axes]))
                where = ", ".join(map(str, axes))
                if count > 1:
                    counts.setdefault(count, f"axes ({where}) of {owner} {shape}")
    return counts


# ---------------------------------------------------------------- matrices the wrong way round


def _transposed(gradient: numpy.ndarray, measured: numpy.ndarray) -> str:
    if gradient.ndim == 2 and gradient.shape == gradient.T.shape:
        if _same(gradient.T, measured).all():
            return "backprop's matrix is the right one transposed: transpose it back"
    return ""


def _wrong_factors(
    check: Any, name: str, gradient: numpy.ndarray, measured: numpy.ndarray
) -> str:
    """Are both gradients matrix products of dy and another input, but not the same one?"""
    v = check.cotangents[0].numpy()
    for other, matrix in check.variables.items():
        if other == name:
            continue
        factors = {"dy": v, "dy^T": v.T}
        label = re.sub(r"argument \d+ \((\w+)\)", r"\1", other)
        matrix = matrix.numpy()
        turned = {label: matrix, f"{label}^T": matrix.T}
        pairs = [*itertools.product(factors, turned), *itertools.product(turned, factors)]
        arrays = factors | turned
        products = {
            f"{left} @ {right}": arrays[left] @ arrays[right]
            for left, right in pairs
            if arrays[left].ndim == arrays[right].ndim == 2
            and arrays[left].shape[1] == arrays[right].shape[0]
        }
        fitting = {key: value for key, value in products.items() if value.shape == gradient.shape}
        given = [key for key, value in fitting.items() if _same(gradient, value).all()]
        right = [key for key, value in fitting.items() if _same(measured, value).all()]
        if given and right:
            return f"backprop computes {given[0]}, but the right matrix product is {right[0]}"
    return ""


# ---------------------------------------------------------------- paths that were forgotten


def _forgotten_sum(check: Any, error: numpy.ndarray) -> str:
    """Along an axis, is the error a + b y? That is how a mean or a variance moves the output."""
    output = check.outputs()[0].numpy()
    if output.shape != error.shape or numpy.isnan(error).any():
        return ""
    for axis, length in enumerate(error.shape):
        if length < 4:
            continue
        errors, outputs = (
            numpy.moveaxis(array, axis, -1).reshape(-1, length) for array in (error, output)
        )
        ones = numpy.ones_like(outputs)
        for columns, forgotten in [
            ([ones], "sum that is subtracted (the mean) is"),
            ([outputs], "sum that is divided by (the variance, a softmax's denominator) is"),
            ([ones, outputs], "sums that are subtracted and divided by (mean, variance) are"),
        ]:
            fit = numpy.stack(columns, axis=-1)  # (slices, length, 1 or 2)
            explained = (fit @ numpy.linalg.pinv(fit) @ errors[..., None])[..., 0]
            if _same(explained, errors).all():
                return (
                    f"the {forgotten} taken for constant along axis {axis}: but each number of the "
                    "input moves it, and through it all outputs along that axis"
                )
    return ""


def _wrong_places(check: Any, name: str, index: tuple[int, ...]) -> str:
    """Which outputs does this one number move, and whose gradients does it get?"""
    x, v = check.variables[name], check.cotangents[0]
    if v.data.size > 1000:
        return ""
    step = check.step * _unit(x.shape, index)
    ahead, behind = (
        check.moved(x, by, lambda: check.outputs()[0]).numpy() for by in (step, -step)
    )
    slopes = (ahead - behind) / (2 * check.step)
    before, passed = v.data, numpy.empty(v.shape)
    for place in numpy.ndindex(v.shape):
        v.data = to_device(_unit(v.shape, place))
        passed[place] = check.backprop()[name][index]
    v.data = before
    least = 1e-5 * max(numpy.abs(slopes).max(), numpy.abs(passed).max())
    moved, heard = numpy.abs(slopes) > least, numpy.abs(passed) > least
    if not moved.any():
        return (
            "the function is flat here, so no gradient may pass, but the derivative lets dy "
            "through: check its mask (> or >=, of the input or of the output)"
        )
    if (heard & ~moved).any():
        here, there = (
            tuple(int(i) for i in numpy.argwhere(mask)[0]) for mask in (moved, heard & ~moved)
        )
        return (
            f"this number moves the output at {here}, but gets the gradient of the output at "
            f"{there}, which it does not move: check the order of the axes, and that stride and "
            "padding are those of the function"
        )
    if not heard.any():
        return (
            "this number moves the output, but no gradient comes back to it: a case or a path of "
            "the function is missing in the derivative"
        )
    if (moved & ~heard).any():
        if _broadcasts(x.shape, v.shape):
            return BROADCAST.format(x.shape, v.shape)
        return (
            f"this number moves {moved.sum()} outputs, but gets the gradient of {heard.sum()} of "
            "them: follow every path, and add up (+=, not =) where a number is used several times"
        )
    return ""


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    pairs = zip(shape[::-1], to[::-1], strict=False)
    return shape != to and len(shape) <= len(to) and all(n in (1, m) for n, m in pairs)


# ---------------------------------------------------------------- derivatives that raise


def hint_from_error(error: Exception, x: Tensor, dy_shape: tuple[int, ...]) -> str:
    """The hint for a derivative that stops, or whose result has not its input's shape."""
    found = re.search(r"has shape \((.*?)\), but its input has shape \((.*?)\)", str(error))
    if isinstance(error, AttributeError | TypeError):
        return AS_TENSORS
    if not found:
        return (
            f"a derivative stops with {type(error).__name__}. dy has the output's shape, "
            f"{dy_shape}, and a derivative returns a Tensor of its input's shape, {x.shape}: "
            "transpose, reshape or sum until the shapes fit"
        )
    given, wanted = (
        tuple(int(n) for n in group.split(",") if n.strip()) for group in found.groups()
    )
    if _broadcasts(wanted, given):
        return BROADCAST.format(wanted, given)
    if given == wanted[::-1]:
        return "the shape is the right one transposed: transpose the derivative, or its factors"
    if _broadcasts(given, wanted):
        return (
            "the derivative sums over an axis along which this input was not repeated: sum only "
            "over axes that the input has not, or has with length 1"
        )
    if len(given) == len(wanted) == 4 and given[::3] == wanted[::3]:
        return (
            "only height and width differ: do stride, padding and size in the derivative agree "
            "with those of the function?"
        )
    return "each number of the input needs one gradient: follow the shapes through the derivative"
