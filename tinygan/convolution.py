"""Convolution as one matrix product: unfold and fold, conv2d and conv_transpose2d.

Letters: N batch, H x W image, C channels in, O channels out, K kernel, S stride, P padding;
OH x OW is the smaller side of a convolution, with OH = (H + 2P - K) // S + 1.
Images are (N, H, W, C), so that a patch is copied in runs of K*C numbers and the product of
patches and weights is the next (N, OH, OW, O) as it stands.
"""

from typing import Any

from .backend import xp
from .functions import ShapeError, crop, matmul, pad, reshape, transpose
from .tensor import Tensor, record


def unfold(x: Tensor, kernel: int, stride: int = 1) -> Tensor:
    """Every patch of every image as a row of numbers; also known as im2col.

    y[n, i, j, (a, b, c)] = x[n, S i + a, S j + b, c]: (N, H, W, C) -> (N, OH, OW, K*K*C), no
    padding. Its derivative is fold: a pixel gathers the gradients of all its patches.
    Raises ShapeError where the kernel is larger than the image.
    """
    _require_images(x, "unfold")
    n, height, width, channels = x.shape
    rows, columns = (_count(size, kernel, stride, 0) for size in (height, width))
    image, line, pixel, channel = x.data.strides
    patches = xp.lib.stride_tricks.as_strided(
        x.data,
        (n, rows, columns, kernel, kernel, channels),
        (image, stride * line, stride * pixel, line, pixel, channel),
    )
    y = patches.reshape(n, rows, columns, kernel * kernel * channels)  # the one copy
    return record(y, (x,), lambda dy, y: fold(dy, (height, width), kernel, stride))


def fold(columns: Tensor, size: tuple[int, int], kernel: int, stride: int = 1) -> Tensor:
    """The adjoint of unfold, also known as col2im: every patch added where it was taken from.

    (N, OH, OW, K*K*C) -> (N, H, W, C) with size = (H, W). Its derivative is unfold.

    Image and kernel are cut into blocks of S x S pixels. The patches' blocks at one place of
    the kernel lie side by side in the image, so one addition places them all: (K/S)^2
    additions of long runs in place of K^2 of scattered pixels.
    """
    _require_images(columns, "fold")
    n, rows, cols, numbers = columns.shape
    height, width = size
    expected = tuple(_count(length, kernel, stride, 0) for length in size)
    if (rows, cols) != expected or numbers % kernel**2:
        raise ShapeError(
            f"fold: columns of shape {columns.shape} do not fit an image of {height} x {width}: "
            f"kernel {kernel} and stride {stride} give (N, {expected[0]}, {expected[1]}, "
            f"{kernel * kernel} C)"
        )
    channels = numbers // kernel**2
    patches = columns.data.reshape(n, rows, cols, kernel, kernel, channels)
    places = range(0, kernel, stride)
    high = max(rows + len(places) - 1, -(-height // stride))  # blocks, rounded up
    wide = max(cols + len(places) - 1, -(-width // stride))
    blocks = xp.zeros((n, high, stride, wide, stride, channels), dtype=columns.dtype)
    for a, top in enumerate(places):
        for b, left in enumerate(places):
            part = patches[:, :, :, top : top + stride, left : left + stride]
            down, right = part.shape[3:5]  # S, but less where S does not divide K
            target = blocks[:, a : a + rows, :down, b : b + cols, :right]
            target += part.transpose(0, 1, 3, 2, 4, 5)
    y = blocks.reshape(n, high * stride, wide * stride, channels)[:, :height, :width]
    return record(y, (columns,), lambda dy, y: unfold(dy, kernel, stride))


def conv2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """y[n, i, j, o] = sum over a, b, c of x[n, S i + a - P, S j + b - P, c] weight[a, b, c, o].

    x (N, H, W, C), weight (K, K, C, O) -> (N, OH, OW, O): a cross-correlation, as everywhere
    in deep learning. Raises ShapeError where channels or sizes do not fit.
    """
    _require_images(x, "conv2d")
    kernel, channels_out = _kernel_of(weight, "conv2d"), weight.shape[3]
    if x.shape[3] != weight.shape[2]:
        raise ShapeError(
            f"conv2d: x {x.shape} has {x.shape[3]} channels, but weight {weight.shape} is for "
            f"{weight.shape[2]}: they are (N, H, W, C) and (K, K, C, O)"
        )
    columns = unfold(_pad_images(x, padding), kernel, stride)
    n, rows, cols, numbers = columns.shape
    # (N*OH*OW, K*K*C) @ (K*K*C, O)
    patches = reshape(columns, (n * rows * cols, numbers))
    y = matmul(patches, reshape(weight, (numbers, channels_out)))
    return reshape(y, (n, rows, cols, channels_out))


def conv_transpose2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """The adjoint of conv2d with the same weight: each pixel of x paints a weighted kernel.

    y[n, S i + a - P, S j + b - P, o] += x[n, i, j, c] weight[a, b, o, c].
    x (N, OH, OW, C), weight (K, K, O, C) -> (N, H, W, O) with H = S (OH - 1) + K - 2P, the
    smallest of the sizes that conv2d would take to OH.
    Raises ShapeError where channels or sizes do not fit.
    """
    _require_images(x, "conv_transpose2d")
    kernel, channels_out = _kernel_of(weight, "conv_transpose2d"), weight.shape[2]
    n, rows, cols, channels = x.shape
    if channels != weight.shape[3]:
        raise ShapeError(
            f"conv_transpose2d: x {x.shape} has {channels} channels, but weight {weight.shape} is "
            f"for {weight.shape[3]}: they are (N, H, W, C) and (K, K, O, C)"
        )
    size = (stride * (rows - 1) + kernel, stride * (cols - 1) + kernel)
    if min(size) <= 2 * padding:
        raise ShapeError(
            f"conv_transpose2d: x {x.shape}, kernel {kernel}, stride {stride} give "
            f"{size[0]} x {size[1]} pixels, and padding {padding} takes away all of them"
        )
    numbers = kernel * kernel * channels_out
    # (N*OH*OW, C) @ (C, K*K*O)
    columns = matmul(
        reshape(x, (n * rows * cols, channels)), transpose(reshape(weight, (numbers, channels)))
    )
    painted = fold(reshape(columns, (n, rows, cols, numbers)), size, kernel, stride)
    return crop(painted, _image_widths(padding))


def _pad_images(x: Tensor, padding: int) -> Tensor:
    return pad(x, _image_widths(padding))


def _image_widths(padding: int) -> tuple[tuple[int, int], ...]:
    return ((0, 0), (padding, padding), (padding, padding), (0, 0))


def _count(size: int, kernel: int, stride: int, padding: int) -> int:
    """How many patches lie along a side: (size + 2 padding - kernel) // stride + 1."""
    if kernel < 1 or stride < 1:
        raise ShapeError(f"kernel {kernel} and stride {stride} must be 1 or more")
    count = (size + 2 * padding - kernel) // stride + 1
    if count < 1:
        raise ShapeError(
            f"a kernel of {kernel} does not fit into {size} pixels: "
            f"({size} - {kernel}) // {stride} + 1 = {count}; use more padding"
        )
    return count


def _require_images(x: Any, function: str) -> None:
    if x.ndim != 4:
        raise ShapeError(f"{function}: images are (N, H, W, C), got shape {x.shape}")


def _kernel_of(weight: Tensor, function: str) -> int:
    if weight.ndim != 4 or weight.shape[0] != weight.shape[1]:
        raise ShapeError(f"{function}: weight is (K, K, ., .), got shape {weight.shape}")
    return weight.shape[0]
