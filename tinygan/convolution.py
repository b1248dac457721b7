"""Convolution: unfold and fold, conv2d and conv_transpose2d.

Letters: N batch, H x W image, C channels in, O channels out, K kernel, S stride, P padding;
OH x OW is the smaller side of a convolution, with OH = (H + 2P - K) // S + 1.
Images are (N, H, W, C), so that a patch is copied in runs of K*C numbers and the product of
patches and weights is the next (N, OH, OW, O) as it stands.

A convolution is linear in the image x and in the weight w. With y of the smaller side,

    <conv2d(x, w), y>  =  <x, conv_transpose2d(y, w)>  =  <w, conv_weight(x, y)>

are one and the same sum of x * w * y over all places where they meet. Each of the three
functions is the derivative of the two others, so that all orders of derivatives are here.
"""

from typing import Any

from .backend import matrix_product, xp
from .functions import ShapeError, last_result
from .tensor import Tensor, record

# ---------------------------------------------------------------- patches, for the reader
#
# conv2d is unfold(x with P zeros around it) @ w, and conv_transpose2d is fold(y @ w^T) without its
# P outermost pixels. The versions further down do the same with fewer passes over memory.


def unfold(x: Tensor, kernel: int, stride: int = 1) -> Tensor:
    """Every patch of every image as a row of numbers; also known as im2col.

    y[n, i, j, (a, b, c)] = x[n, S i + a, S j + b, c]: (N, H, W, C) -> (N, OH, OW, K*K*C), no
    padding. Its derivative is fold: a pixel gathers the gradients of all its patches.
    Raises ShapeError where the kernel is larger than the image.
    """
    _require_images(x, "unfold")
    y, rows, columns = _patches(x.data, kernel, stride, 0)
    y = y.reshape(len(x), rows, columns, y.shape[1])
    return record(y, (x,), lambda dy, y: fold(dy, x.shape[1:3], kernel, stride))


def fold(columns: Tensor, size: tuple[int, int], kernel: int, stride: int = 1) -> Tensor:
    """The adjoint of unfold, also known as col2im: every patch added where it was taken from.

    y[n, S i + a, S j + b, c] += columns[n, i, j, (a, b, c)]: (N, OH, OW, K*K*C) -> (N, H, W, C)
    with size = (H, W). Its derivative is unfold.
    Raises ShapeError where the columns are not those of such an image.
    """
    _require_images(columns, "fold")
    n, rows, cols, numbers = columns.shape
    expected = tuple(_count(length, kernel, stride, 0) for length in size)
    if (rows, cols) != expected or numbers % kernel**2:
        raise ShapeError(
            f"fold: columns {columns.shape} do not fit an image of {size[0]} x {size[1]}: kernel "
            f"{kernel}, stride {stride} give (N, {expected[0]}, {expected[1]}, {kernel**2} C)"
        )
    patches = columns.data.reshape(n, rows, cols, kernel, kernel, numbers // kernel**2)
    y = xp.zeros((n, *size, patches.shape[-1]), dtype=columns.dtype)
    for a in range(kernel):
        for b in range(kernel):
            # The pixels at place (a, b) of all patches lie S apart in the image.
            down, right = slice(a, a + stride * rows, stride), slice(b, b + stride * cols, stride)
            y[:, down, right] += patches[:, :, :, a, b]
    return record(y, (columns,), lambda dy, y: unfold(dy, kernel, stride))


# ---------------------------------------------------------------- the three functions


def conv2d(
    x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, *, patches: Any = None
) -> Tensor:
    """y[n, i, j, o] = sum over a, b, c of x[n, S i + a - P, S j + b - P, c] weight[a, b, c, o].

    x (N, H, W, C), weight (K, K, C, O) -> (N, OH, OW, O): a cross-correlation, as everywhere
    in deep learning. patches are those of x, for a caller that has them already.
    Raises ShapeError where channels or sizes do not fit.
    """
    _require_fit(x, weight, 2, "conv2d", "(K, K, C, O)")
    patches = patches or _patches(x.data, len(weight), stride, padding)
    numbers, rows, columns = patches
    # (N*OH*OW, K*K*C) @ (K*K*C, O)
    y = matrix_product(numbers, weight.data.reshape(numbers.shape[1], -1))
    return record(
        y.reshape(len(x), rows, columns, weight.shape[3]), (x, weight),
        lambda dy, y: conv_transpose2d(dy, weight, stride, padding, x.shape[1:3]),
        lambda dy, y: conv_weight(x, dy, len(weight), stride, padding, patches=patches),
    )


def conv_transpose2d(
    x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """The adjoint of conv2d with the same weight: each pixel of x paints a weighted kernel.

    y[n, S i + a - P, S j + b - P, o] += x[n, i, j, c] weight[a, b, o, c].
    x (N, OH, OW, C), weight (K, K, O, C) -> (N, H, W, O); size is (H, W), one that conv2d
    takes to OH x OW. By default it is the smallest of these: H = S (OH - 1) + K - 2P.
    Raises ShapeError where channels or sizes do not fit.
    """
    _require_fit(x, weight, 3, "conv_transpose2d", "(K, K, O, C)")
    kernel, rows, columns = len(weight), x.shape[1], x.shape[2]
    smallest = tuple(stride * (n - 1) + kernel - 2 * padding for n in (rows, columns))
    size = tuple(size or smallest)
    counts = tuple(_count(n, kernel, stride, padding) for n in size) if min(size) > 0 else ()
    if counts != (rows, columns):
        raise ShapeError(
            f"conv_transpose2d: from x {x.shape} {stride} (OH - 1) + {kernel} - 2 * {padding} = "
            f"{smallest[0]} x {smallest[1]} pixels or up to {stride - 1} more can be made, 1 at "
            f"least, not {size[0]} x {size[1]}"
        )
    y = _paint(x.data, weight.data, stride, padding, size)

    @last_result
    def patches(dy: Tensor) -> Any:
        return _patches(dy.data, kernel, stride, padding)

    return record(
        y, (x, weight),
        lambda dy, y: conv2d(dy, weight, stride, padding, patches=patches(dy)),
        lambda dy, y: conv_weight(dy, x, kernel, stride, padding, patches=patches(dy)),
    )


def conv_weight(
    x: Tensor, y: Tensor, kernel: int, stride: int = 1, padding: int = 0, *, patches: Any = None
) -> Tensor:
    """w[a, b, c, o] = sum over n, i, j of x[n, S i + a - P, S j + b - P, c] y[n, i, j, o].

    x (N, H, W, C), y (N, OH, OW, O) -> (K, K, C, O): the gradient by the weight of conv2d.
    patches are those of x, for a caller that has them already.
    Raises ShapeError where y is not of the size that conv2d makes of x.
    """
    _require_images(x, "conv_weight")
    _require_images(y, "conv_weight")
    patches = patches or _patches(x.data, kernel, stride, padding)
    numbers, rows, columns = patches
    if y.shape[:3] != (len(x), rows, columns):
        raise ShapeError(
            f"conv_weight: x {x.shape}, kernel {kernel}, stride {stride} and padding {padding} "
            f"need y of shape ({len(x)}, {rows}, {columns}, O), not {y.shape}"
        )
    # (K*K*C, N*OH*OW) @ (N*OH*OW, O)
    w = matrix_product(numbers.T, y.data.reshape(-1, y.shape[3]))
    return record(
        w.reshape(kernel, kernel, x.shape[3], y.shape[3]), (x, y),
        lambda dw, w: conv_transpose2d(y, dw, stride, padding, x.shape[1:3]),
        lambda dw, w: conv2d(x, dw, stride, padding, patches=patches),
    )


# ---------------------------------------------------------------- on arrays


def _patches(x: Any, kernel: int, stride: int, padding: int) -> tuple[Any, int, int]:
    """The patches of the padded images as rows (N*OH*OW, K*K*C), and OH and OW."""
    n, height, width, channels = x.shape
    rows, columns = (_count(size, kernel, stride, padding) for size in (height, width))
    if padding:
        padded = xp.zeros((n, height + 2 * padding, width + 2 * padding, channels), dtype=x.dtype)
        padded[:, padding : padding + height, padding : padding + width] = x
        x = padded
    image, line, pixel, channel = x.strides
    view = xp.lib.stride_tricks.as_strided(
        x,
        (n, rows, columns, kernel, kernel, channels),
        (image, stride * line, stride * pixel, line, pixel, channel),
    )
    return view.reshape(n * rows * columns, kernel * kernel * channels), rows, columns


def _paint(x: Any, weight: Any, stride: int, padding: int, size: tuple[int, int]) -> Any:
    """conv_transpose2d on arrays.

    The image is cut into blocks of S pixels side by side. What one line of the kernel paints
    into one block is a matrix product and one addition: products this small are still in the
    cache when they are added, and K * K/S additions of long runs take the place of fold's K * K.
    """
    n, rows, columns, channels = x.shape
    kernel, channels_out = len(weight), weight.shape[2]
    height = max(stride * (rows - 1) + kernel, padding + size[0])
    blocks = max(columns + (kernel - 1) // stride, -(-(padding + size[1]) // stride))
    canvas = xp.zeros((n, height, blocks, stride, channels_out), dtype=x.dtype)
    pixels = x.reshape(n * rows * columns, channels)
    for a in range(kernel):
        for block, left in enumerate(range(0, kernel, stride)):
            part = weight[a, left : left + stride]  # (S or fewer, O, C)
            painted = matrix_product(pixels, part.reshape(-1, channels).T)
            canvas[:, a : a + stride * rows : stride, block : block + columns, : len(part)] += (
                painted.reshape(n, rows, columns, len(part), channels_out)
            )
    image = canvas.reshape(n, height, blocks * stride, channels_out)
    return image[:, padding : padding + size[0], padding : padding + size[1]]


# ---------------------------------------------------------------- shapes that do not fit


def _count(size: int, kernel: int, stride: int, padding: int) -> int:
    """How many patches lie along a side: (size + 2 padding - kernel) // stride + 1."""
    if kernel < 1 or stride < 1 or padding < 0:
        raise ShapeError(
            f"kernel {kernel} and stride {stride} must be 1 or more, padding {padding} 0 or more"
        )
    count = (size + 2 * padding - kernel) // stride + 1
    if count < 1:
        raise ShapeError(
            f"a kernel of {kernel} does not fit into {size} pixels with padding {padding}: "
            f"({size} + 2 * {padding} - {kernel}) // {stride} + 1 = {count}"
        )
    return count


def _require_images(x: Tensor, function: str) -> None:
    if x.ndim != 4:
        raise ShapeError(f"{function}: images are (N, H, W, C), got shape {x.shape}")


def _require_fit(x: Tensor, weight: Tensor, axis: int, function: str, letters: str) -> None:
    _require_images(x, function)
    if weight.ndim != 4 or weight.shape[0] != weight.shape[1]:
        raise ShapeError(f"{function}: weight is {letters}, got shape {weight.shape}")
    if x.shape[3] != weight.shape[axis]:
        raise ShapeError(
            f"{function}: x {x.shape} has {x.shape[3]} channels, but weight {weight.shape}, "
            f"{letters}, is for {weight.shape[axis]}"
        )
