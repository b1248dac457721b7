"""Every differentiable function: its formula and its derivative, side by side.

A function computes y on arrays and hands `record` its parents with one derivative each. A
derivative takes dy, the gradient of the loss with respect to y, and y itself, and returns the
gradient with respect to that parent. It is written in the functions of this file, so it can be
differentiated again. An operand may also be a Python number or an array: a constant.

Functions with a kink (relu, abs, maximum, where, max) treat the mask that says which side
they are on as a constant: their second derivative is zero, as it is everywhere but at the kink.
"""

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from .backend import array_sum, fused, matrix_product, xp
from .tensor import Tensor, record

Operand = Tensor | float | Any  # Any: an array of the backend
Axis = int | tuple[int, ...] | None


class ShapeError(ValueError):
    """Shapes that do not fit together."""


# ---------------------------------------------------------------- arithmetic

# An operand of another shape than y's was broadcast: sum_to, under "shapes", adds up the
# gradients of all the places where each of its numbers was used.


def add(a: Operand, b: Operand) -> Tensor:
    """y = a + b,  dy/da = 1,  dy/db = 1."""
    return record(
        _broadcast(operator.add, a, b), (a, b),
        lambda dy, y: sum_to(dy, a.shape),
        lambda dy, y: sum_to(dy, b.shape),
    )


def subtract(a: Operand, b: Operand) -> Tensor:
    """y = a - b,  dy/da = 1,  dy/db = -1."""
    return record(
        _broadcast(operator.sub, a, b), (a, b),
        lambda dy, y: sum_to(dy, a.shape),
        lambda dy, y: sum_to(-dy, b.shape),
    )


def multiply(a: Operand, b: Operand) -> Tensor:
    """y = a b,  dy/da = b,  dy/db = a."""
    return record(
        _broadcast(operator.mul, a, b), (a, b),
        lambda dy, y: sum_to(dy * b, a.shape),
        lambda dy, y: sum_to(dy * a, b.shape),
    )


def divide(a: Operand, b: Operand) -> Tensor:
    """y = a / b,  dy/da = 1 / b,  dy/db = -y / b."""
    return record(
        _broadcast(operator.truediv, a, b), (a, b),
        lambda dy, y: sum_to(dy / b, a.shape),
        lambda dy, y: sum_to(-dy * y / b, b.shape),
    )


def negative(x: Tensor) -> Tensor:
    """y = -x,  dy/dx = -1."""
    return record(-x.data, (x,), lambda dy, y: -dy)


def power(x: Tensor, exponent: float) -> Tensor:
    """y = x^p for a number p,  dy/dx = p x^(p - 1)."""
    if isinstance(exponent, Tensor):
        raise TypeError("power: the exponent is a number; write exp(tensor * log(x)) otherwise")
    if exponent == 0:  # where 0 * x^-1 would be 0 * infinity at x = 0
        return record(xp.ones_like(x.data), (x,), lambda dy, y: dy * 0.0)
    return record(x.data**exponent, (x,), lambda dy, y: dy * (exponent * power(x, exponent - 1)))


def matmul(a: Operand, b: Operand) -> Tensor:
    """y = a b, the matrix product over the last two axes; earlier axes broadcast.

    (..., N, M) @ (..., M, O) -> (..., N, O);  da = dy b^T,  db = a^T dy.
    As in NumPy, an a with one axis counts as a row, such a b as a column; y lacks that axis.
    """
    shape_a, shape_b = _shape(a), _shape(b)
    if () in (shape_a, shape_b) or shape_a[-1] != shape_b[-2:][0]:
        raise ShapeError(
            f"matmul: {shape_a} @ {shape_b} does not fit: the last axis of the first must be as "
            "long as the last but one (or only one) of the second"
        )
    if len(shape_b) == 1:
        return matmul(a, b[:, None])[..., 0]
    if len(shape_a) == 1:
        return matmul(a[None], b)[..., 0, :]
    return record(
        matrix_product(_data(a), _data(b)), (a, b),
        lambda dy, y: sum_to(matmul(dy, _swap_last(b)), a.shape),
        lambda dy, y: sum_to(matmul(_swap_last(a), dy), b.shape),
    )


def _swap_last(x: Operand) -> Any:
    return x.transpose(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)


def _data(x: Operand) -> Any:
    return x._array if isinstance(x, Tensor) else x


def _shape(x: Operand) -> tuple[int, ...]:
    return getattr(_data(x), "shape", ())


def _broadcast(operation: Callable[..., Any], *operands: Operand) -> Any:
    try:
        return operation(*[_data(x) for x in operands])
    except ValueError:
        shapes = " and ".join(str(_shape(x)) for x in operands)
        raise ShapeError(
            f"{operation.__name__}: shapes {shapes} do not broadcast: seen from the last axis, "
            "lengths must be equal or 1"
        ) from None


# ---------------------------------------------------------------- number by number


def exp(x: Tensor) -> Tensor:
    """y = e^x,  dy/dx = y."""
    return record(xp.exp(x.data), (x,), lambda dy, y: dy * y)


def log(x: Tensor) -> Tensor:
    """y = ln x,  dy/dx = 1 / x."""
    return record(xp.log(x.data), (x,), lambda dy, y: dy / x)


def sqrt(x: Tensor) -> Tensor:
    """y = x^(1/2),  dy/dx = 1 / (2 y): infinite at 0; add a small number to an x that may be 0."""
    return record(xp.sqrt(x.data), (x,), lambda dy, y: dy * 0.5 / y)


def abs(x: Tensor) -> Tensor:
    """y = |x|,  dy/dx = sign(x)."""
    sign = xp.sign(x.data)
    return record(xp.abs(x.data), (x,), lambda dy, y: dy * sign)


def maximum(a: Operand, b: Operand) -> Tensor:
    """y = max(a, b), number by number; the gradient goes to the larger (to a where equal)."""
    y = _broadcast(xp.maximum, a, b)
    first = (_data(a) >= _data(b)).astype(y.dtype)
    return record(
        y, (a, b),
        lambda dy, y: sum_to(dy * first, a.shape),
        lambda dy, y: sum_to(dy * (1 - first), b.shape),
    )


def minimum(a: Operand, b: Operand) -> Tensor:
    """y = min(a, b), number by number; the gradient goes to the smaller (to a where equal)."""
    y = _broadcast(xp.minimum, a, b)
    first = (_data(a) <= _data(b)).astype(y.dtype)
    return record(
        y, (a, b),
        lambda dy, y: sum_to(dy * first, a.shape),
        lambda dy, y: sum_to(dy * (1 - first), b.shape),
    )


def where(condition: Any, a: Operand, b: Operand) -> Tensor:
    """y = a where the condition holds, else b; the gradient goes to whichever was taken."""
    if not hasattr(a, "dtype") and not hasattr(b, "dtype"):
        a = Tensor(a)  # two Python numbers make float32, as everywhere
    condition = xp.asarray(_data(condition), dtype=bool)
    y = _broadcast(xp.where, condition, a, b)
    first = condition.astype(y.dtype)
    return record(
        y, (a, b),
        lambda dy, y: sum_to(dy * first, a.shape),
        lambda dy, y: sum_to(dy * (1 - first), b.shape),
    )


def relu(x: Tensor) -> Tensor:
    """y = max(x, 0),  dy/dx = 1 where x > 0, else 0."""
    return record(xp.maximum(x.data, 0), (x,), lambda dy, y: dy * xp.sign(y.data))


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """y = max(x, s x) for a slope s from 0 to 1,  dy/dx = 1 where x > 0, else s."""
    if not 0 <= slope <= 1:
        raise ValueError(f"leaky_relu: the slope is from 0 to 1, not {slope}")
    return record(_leaky(x.data, slope), (x,), lambda dy, y: dy * _slopes(y.data, slope))


@fused
def _leaky(x: Any, slope: float) -> Any:
    y = slope * x
    return xp.maximum(x, y, out=y)


@fused
def _slopes(y: Any, slope: float) -> Any:
    # 1 where y > 0, else the slope. numpy.where and masked assignment take ten times as long.
    slopes = (y > 0).astype(y.dtype)
    return xp.maximum(slopes, slope, out=slopes)


def tanh(x: Tensor) -> Tensor:
    """y = tanh(x),  dy/dx = 1 - y^2."""
    return record(xp.tanh(x.data), (x,), lambda dy, y: dy * (1 - y * y))


def sigmoid(x: Tensor) -> Tensor:
    """y = 1 / (1 + e^-x),  dy/dx = y (1 - y).  Written as (1 + tanh(x/2)) / 2: no overflow."""
    return record(_sigmoid(x.data), (x,), lambda dy, y: dy * (y * (1 - y)))


@fused
def _sigmoid(x: Any) -> Any:
    return xp.tanh(x * 0.5) * 0.5 + 0.5


def softplus(x: Tensor) -> Tensor:
    """y = ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|),  dy/dx = sigmoid(x).

    The second form never overflows. -ln sigmoid(x) = softplus(-x): the losses are made of it.
    """
    return record(_softplus(x.data), (x,), lambda dy, y: dy * sigmoid(x))


@fused
def _softplus(x: Any) -> Any:
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


# ---------------------------------------------------------------- reductions


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = sum of x over the axes (None: all), or a count.  Each summand has dy/dx = 1."""
    reduced, kept = _reduced_axes(x, axis)
    y = array_sum(x.data, reduced)
    return record(
        y.reshape(kept) if keepdims else y, (x,),
        lambda dy, y: broadcast_to(reshape(dy, kept), x.shape),
    )


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = (1/n) sum of the n numbers of x over the axes (None: all), float64 for integers."""
    reduced, kept = _reduced_axes(x, axis, "mean")
    n = math.prod(x.shape[i] for i in reduced)
    y = array_sum(x.data, reduced, wide=True)
    y = y * (1 / n) if x.dtype.kind == "f" else y / n
    y = y.astype(x.dtype) if x.dtype == numpy.float16 else y
    return record(
        y.reshape(kept) if keepdims else y, (x,),
        lambda dy, y: broadcast_to(reshape(dy * (1 / n), kept), x.shape),
    )


def var(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = mean of (x - mean(x))^2 over the axes (None: all)."""
    centered = x - mean(x, axis, keepdims=True)
    return mean(centered * centered, axis, keepdims)


def std(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = var(x)^(1/2).  Where all numbers are equal dy/dx is 0/0, a NaN: see sqrt."""
    return sqrt(var(x, axis, keepdims))


def max(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = the largest number of x over the axes (None: all); equal ones share the gradient."""
    y, share = _extreme(xp.max, x, axis, keepdims)
    return record(y, (x,), lambda dy, y: share(dy))


def min(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """y = the smallest number of x over the axes (None: all); equal ones share the gradient."""
    y, share = _extreme(xp.min, x, axis, keepdims)
    return record(y, (x,), lambda dy, y: share(dy))


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """y_i = e^(x_i) / sum_j e^(x_j) along the axis.  dx = y (dy - sum_j dy_j y_j)."""
    axis, _ = _reduced_axes(x, axis, "softmax")
    powers = xp.exp(x.data - x.data.max(axis=axis, keepdims=True))
    y = powers / powers.sum(axis=axis, keepdims=True)
    return record(y, (x,), lambda dy, y: y * (dy - sum(dy * y, axis, keepdims=True)))


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    """y_i = x_i - ln sum_j e^(x_j) along the axis.  dx = dy - e^y sum_j dy_j."""
    axis, _ = _reduced_axes(x, axis, "log_softmax")
    shifted = x.data - x.data.max(axis=axis, keepdims=True)
    y = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))
    return record(y, (x,), lambda dy, y: dy - exp(y) * sum(dy, axis, keepdims=True))


def _reduced_axes(x: Tensor, axis: Axis, of_some: str = "") -> tuple[tuple[int, ...], ...]:
    """The axes that a reduction is over, in order, and the shape that is left with keepdims."""
    every = range(x.ndim)
    try:
        axes = every if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
        axes = tuple(sorted({every[i] for i in axes}))
    except (IndexError, TypeError):
        raise ShapeError(f"axis {axis} does not exist in shape {x.shape}") from None
    if of_some and not all(x.shape[i] for i in axes):
        raise ShapeError(f"{of_some}: over axis {axis} of {x.shape} there are no numbers")
    return axes, tuple(1 if i in axes else n for i, n in enumerate(x.shape))


def _extreme(choose: Callable, x: Tensor, axis: Axis, keepdims: bool) -> tuple[Any, Callable]:
    """The largest or smallest numbers, and dx from dy: each of k equal ones gets 1/k of it."""
    reduced, _ = _reduced_axes(x, axis, choose.__name__)
    y = choose(x.data, axis=reduced, keepdims=True)
    chosen = x.data == y

    def share(dy: Tensor) -> Tensor:
        shares = chosen.astype(dy.dtype)
        return reshape(dy, y.shape) * (shares / shares.sum(axis=reduced, keepdims=True))

    return y if keepdims else y.squeeze(reduced), share


# ---------------------------------------------------------------- shapes


def broadcast_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """y repeats x along new axes and axes of length 1.  dx = dy summed to x's shape."""
    if x.shape == shape:
        return x
    try:
        y = xp.broadcast_to(x.data, shape)
    except ValueError:
        raise ShapeError(f"broadcast_to: shape {x.shape} cannot be repeated to {shape}") from None
    return record(y, (x,), lambda dy, y: sum_to(dy, x.shape))


def sum_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """y sums x to a shape that broadcasts to x's.  dx = dy broadcast to x's shape.

    The adjoint of broadcasting is summation: what was used many times gathers many gradients.
    """
    if x.shape == shape:
        return x
    new_axes = x.ndim - len(shape)
    stretched = tuple(
        axis for axis in range(x.ndim)
        if axis < new_axes or shape[axis - new_axes] == 1 != x.shape[axis]
    )
    y = array_sum(x.data, stretched)
    y = y if y.shape == shape else y.reshape(shape)
    return record(y, (x,), lambda dy, y: broadcast_to(dy, x.shape))


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """y has x's numbers in another shape (one length may be -1).  dx = dy in x's shape."""
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if x.shape == shape:
        return x
    try:
        y = x.data.reshape(shape)
    except ValueError:
        raise ShapeError(f"reshape: shape {x.shape} does not fit into {shape}") from None
    return record(y, (x,), lambda dy, y: reshape(dy, x.shape))


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """y has x's axes in that order (None: reversed).  dx = dy with the axes put back."""
    axes = tuple(range(x.ndim))[::-1] if axes is None else tuple(axes)
    if sorted(axes) != list(range(x.ndim)):
        raise ShapeError(f"transpose: {axes} does not order the {x.ndim} axes of {x.shape}")
    inverse = sorted(range(x.ndim), key=axes.__getitem__)
    return record(x.data.transpose(axes), (x,), lambda dy, y: transpose(dy, inverse))


def concatenate(tensors: Sequence[Operand], axis: int = 0) -> Tensor:
    """y joins the tensors along an axis.  Each gets its own slice of dy."""
    shapes = [tensor.shape for tensor in tensors]
    try:
        y = xp.concatenate([_data(tensor) for tensor in tensors], axis=axis)
    except ValueError:
        raise ShapeError(f"concatenate: {shapes} must agree but for axis {axis}") from None

    def slice_of(start: int, stop: int) -> Callable[[Tensor, Tensor], Tensor]:
        index = (slice(None),) * (axis % y.ndim) + (slice(start, stop),)
        return lambda dy, y: select(dy, index)

    ends = itertools.accumulate((shape[axis] for shape in shapes), initial=0)
    return record(y, tuple(tensors), *itertools.starmap(slice_of, itertools.pairwise(ends)))


def stack(tensors: Sequence[Operand], axis: int = 0) -> Tensor:
    """y joins tensors of one shape along a new axis.  Each gets its own slice of dy."""
    count = tensors[0].ndim + 1
    if not -count <= axis < count:
        raise ShapeError(f"stack: there is no axis {axis} among {count}")
    index = (slice(None),) * (axis % count) + (None,)
    return concatenate([tensor[index] for tensor in tensors], axis)


def select(x: Tensor, index: Any) -> Tensor:
    """y = x[index], by integers, slices or integer arrays.  dx = dy where it was taken from."""
    index = tuple(_data(part) for part in index) if isinstance(index, tuple) else _data(index)
    try:
        y = x.data[index]
    except IndexError as error:
        raise ShapeError(f"index of a tensor of shape {x.shape}: {error}") from None
    return record(y, (x,), lambda dy, y: scatter(dy, index, x.shape))


def scatter(x: Tensor, index: Any, shape: tuple[int, ...]) -> Tensor:
    """y is zero but for y[index] += x; what is named twice adds up.  dx = dy[index]."""
    y = xp.zeros(shape, dtype=x.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is ... or isinstance(part, int | slice) for part in parts):
        y[index] = x.data
    else:
        xp.add.at(y, index, x.data)
    return record(y, (x,), lambda dy, y: select(dy, index))


def translate(x: Tensor, down: Operand, right: Operand) -> Tensor:
    """y[n, i, j, c] = x[n, i - down[n], j - right[n], c], and 0 where that is outside the image.

    x (N, H, W, C); down and right are integers (N,), one for each image.  dx = dy moved back.
    """
    (n, height, width, _), down, right = x.shape, _data(down), _data(right)
    rows = xp.arange(height)[:, None] - down[:, None, None]  # (N, H, 1): where y comes from
    columns = xp.arange(width) - right[:, None, None]  # (N, 1, W)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    y = x.data[xp.arange(n)[:, None, None], rows % height, columns % width]
    y = y * inside[..., None].astype(x.dtype)
    return record(y, (x,), lambda dy, y: translate(dy, -down, -right))


def one_hot(labels: Operand, count: int) -> Tensor:
    """y[n, k] = 1 where class_labels[n] = k, else 0: (N,) -> float32 (N, count), a constant."""
    labels = class_labels(labels, count, "one_hot")
    return Tensor((labels[:, None] == xp.arange(count)).astype(xp.float32))


def class_labels(labels: Operand, count: int, function: str) -> Any:
    """The labels that a function was given: integers (N,) from 0 to count - 1, on the device.

    Raises ShapeError for another shape or dtype and ValueError for another number, unless it is
    on a GPU already: a step would have to wait for it.
    """
    labels = _data(labels) if hasattr(labels, "dtype") else numpy.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ShapeError(f"{function}: not integers (N,): {labels.dtype} of shape {labels.shape}")
    wrong = labels[(labels < 0) | (labels >= count)] if isinstance(labels, numpy.ndarray) else ()
    if len(wrong):
        raise ValueError(f"{function}: labels are from 0 to {count - 1}, not {wrong[0]}")
    return xp.asarray(labels)


def last_result(function: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Remember the last result of a function of dy, which several derivatives need.

    A dy that is itself recorded is not kept: its history leads back to the derivatives, and
    the cycle would hold memory until the garbage collector finds it.
    """
    last: list[Any] = []

    def remembered(dy: Tensor) -> Any:
        if dy.requires_grad:
            return function(dy)
        if not last or last[0] is not dy:
            last[:] = [dy, function(dy)]
        return last[1]

    return remembered


# ---------------------------------------------------------------- Tensor's operators

Tensor.__add__ = Tensor.__radd__ = add
Tensor.__sub__ = subtract
Tensor.__rsub__ = lambda x, other: subtract(other, x)
Tensor.__mul__ = Tensor.__rmul__ = multiply
Tensor.__truediv__ = divide
Tensor.__rtruediv__ = lambda x, other: divide(other, x)
Tensor.__neg__ = negative
Tensor.__abs__ = abs
Tensor.__pow__ = power
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda x, other: matmul(other, x)
Tensor.__getitem__ = select
Tensor.sum, Tensor.mean, Tensor.var, Tensor.std = sum, mean, var, std
Tensor.max, Tensor.min = max, min
Tensor.reshape = lambda x, *shape: reshape(x, shape[0] if len(shape) == 1 else shape)
Tensor.transpose = lambda x, *axes: transpose(x, axes or None)
Tensor.T = property(transpose)
Tensor.__bool__ = lambda x: bool(x.item())
Tensor.__float__ = lambda x: float(x.item())
Tensor.__int__ = lambda x: int(x.item())


def _comparison(operation: Callable[[Any, Any], Any]) -> Callable[[Tensor, Operand], Tensor]:
    """Number by number, a Tensor of truth values: a constant."""
    return lambda x, other: Tensor(_broadcast(operation, x, other))


Tensor.__lt__, Tensor.__le__ = _comparison(operator.lt), _comparison(operator.le)
Tensor.__gt__, Tensor.__ge__ = _comparison(operator.gt), _comparison(operator.ge)
Tensor.__eq__, Tensor.__ne__ = _comparison(operator.eq), _comparison(operator.ne)


_ARITHMETIC = {
    "add": add, "subtract": subtract, "multiply": multiply, "divide": divide, "matmul": matmul,
    "less": operator.lt, "less_equal": operator.le, "equal": operator.eq,
    "greater": operator.gt, "greater_equal": operator.ge, "not_equal": operator.ne,
}


def _array_ufunc(x: Tensor, ufunc: Any, method: str, *operands: Any, **options: Any) -> Tensor:
    # `array * tensor` arrives here as numpy.multiply; numpy.exp and its like are refused.
    if method != "__call__" or options or ufunc.__name__ not in _ARITHMETIC:
        x.__array_function__(ufunc)
    operands = [a if isinstance(a, Tensor) else Tensor(a) for a in operands]
    return _ARITHMETIC[ufunc.__name__](*operands)


Tensor.__array_ufunc__ = _array_ufunc


def _not_in_place(x: Tensor, other: Operand) -> Any:
    if x.requires_grad:
        raise TypeError(
            "x += y (-=, *=, ...) on a tensor that requires a gradient, whose numbers the tape "
            "still needs: write x = x + y, or change a Parameter's x.data, which nothing records"
        )
    return NotImplemented  # then Python takes x = x + y


Tensor.__iadd__ = Tensor.__isub__ = Tensor.__imul__ = Tensor.__itruediv__ = _not_in_place
Tensor.__ipow__ = Tensor.__imatmul__ = _not_in_place
