"""unfold, fold and the convolutions: against plain loops, as adjoints, to second order."""

from typing import NamedTuple

import numpy
import pytest

from tinygan import Tensor, check_gradients, grad
from tinygan.convolution import conv2d, conv_transpose2d, conv_weight, fold, unfold
from tinygan.functions import ShapeError, matmul


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


class Case(NamedTuple):
    """Images (n, height, width, inputs) and a kernel; the images are conv2d's input."""

    n: int
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int

    def count(self, size):
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def rows(self):
        return self.count(self.height)

    @property
    def columns(self):
        return self.count(self.width)


CASES = {
    "one pixel": Case(1, 1, 1, 1, 1, 1, 1, 0),
    "plain": Case(2, 5, 5, 3, 4, 3, 1, 0),
    "same size": Case(2, 4, 5, 2, 3, 3, 1, 1),
    "halved as in DCGAN": Case(2, 8, 6, 2, 3, 4, 2, 1),
    "halved, kernel 5": Case(1, 7, 9, 2, 2, 5, 2, 2),
    "odd sizes that leave a rest": Case(2, 8, 7, 2, 3, 3, 2, 0),
    "a rest under padding": Case(1, 6, 8, 2, 2, 3, 2, 1),
    "stride does not divide kernel": Case(2, 8, 11, 2, 2, 5, 3, 1),
    "stride larger than kernel": Case(2, 7, 10, 2, 3, 2, 3, 0),
    "stride much larger, with a rest": Case(1, 8, 10, 2, 2, 1, 4, 0),
    "kernel 1": Case(3, 4, 5, 3, 2, 1, 1, 0),
    "kernel 1, stride 2": Case(1, 5, 4, 2, 3, 1, 2, 0),
    "kernel 2": Case(1, 4, 4, 1, 2, 2, 2, 0),
    "padding larger than needed": Case(2, 2, 3, 2, 2, 3, 1, 4),
    "padding larger, stride 2": Case(1, 3, 2, 2, 2, 2, 2, 3),
    "kernel as large as the image": Case(2, 4, 4, 3, 2, 4, 1, 0),
    "kernel larger than the image": Case(1, 2, 2, 2, 3, 4, 2, 1),
    "one channel": Case(2, 6, 6, 1, 1, 3, 1, 1),
    "one output": Case(2, 4, 4, 3, 1, 4, 4, 0),
    "empty batch": Case(0, 6, 5, 2, 3, 3, 2, 1),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
filled = pytest.mark.parametrize("case", [c for c in CASES.values() if c.n],
                                 ids=[name for name, c in CASES.items() if c.n])


def images(case, seed=0):
    return normal(case.n, case.height, case.width, case.inputs, seed=seed)


def small_images(case, seed=0):
    return normal(case.n, case.rows, case.columns, case.outputs, seed=seed)


def weight(case):
    return normal(case.kernel, case.kernel, case.inputs, case.outputs, seed=9)


# ---------------------------------------------------------------- the definitions, as plain loops


def padded(x, padding):
    return numpy.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def places(rows, columns, kernel, stride):
    """(i, j, the patch's slices of the image): every place of the kernel."""
    for i in range(rows):
        for j in range(columns):
            down = slice(stride * i, stride * i + kernel)
            yield i, j, (slice(None), down, slice(stride * j, stride * j + kernel))


def looped_conv2d(x, w, case):
    x = padded(x, case.padding)
    y = numpy.zeros((len(x), case.rows, case.columns, w.shape[3]))
    for i, j, patch in places(case.rows, case.columns, case.kernel, case.stride):
        y[:, i, j] = numpy.einsum("nabc,abco->no", x[patch], w)
    return y


def looped_conv_transpose2d(x, w, case, size):
    p = case.padding
    y = numpy.zeros((len(x), size[0] + 2 * p, size[1] + 2 * p, w.shape[2]))
    for i, j, patch in places(x.shape[1], x.shape[2], case.kernel, case.stride):
        y[patch] += numpy.einsum("nc,aboc->nabo", x[:, i, j], w)
    return y[:, p : p + size[0], p : p + size[1]]


def looped_conv_weight(x, y, case):
    x = padded(x, case.padding)
    w = numpy.zeros((case.kernel, case.kernel, x.shape[3], y.shape[3]))
    for i, j, patch in places(case.rows, case.columns, case.kernel, case.stride):
        w += numpy.einsum("nabc,no->abco", x[patch], y[:, i, j])
    return w


# ---------------------------------------------------------------- unfold and fold


@cases
def test_unfold_takes_every_patch_as_a_row(case):
    x = padded(images(case), case.padding)
    y = unfold(Tensor(x), case.kernel, case.stride).numpy()
    assert y.shape == (case.n, case.rows, case.columns, case.kernel**2 * case.inputs)
    for i, j, patch in places(case.rows, case.columns, case.kernel, case.stride):
        assert numpy.array_equal(y[:, i, j], x[patch].reshape(case.n, y.shape[3]))


@cases
def test_fold_adds_every_patch_where_it_was_taken_from(case):
    size = (case.height + 2 * case.padding, case.width + 2 * case.padding)
    columns = normal(case.n, case.rows, case.columns, case.kernel**2 * case.inputs)
    expected = numpy.zeros((case.n, *size, case.inputs))
    for i, j, patch in places(case.rows, case.columns, case.kernel, case.stride):
        expected[patch] += columns[:, i, j].reshape(
            case.n, case.kernel, case.kernel, case.inputs
        )
    y = fold(Tensor(columns), size, case.kernel, case.stride)
    numpy.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-14)


@filled
def test_fold_is_the_adjoint_of_unfold(case):
    x = padded(images(case), case.padding)
    columns = unfold(Tensor(x), case.kernel, case.stride).numpy()
    y = normal(*columns.shape, seed=1)
    folded = fold(Tensor(y), x.shape[1:3], case.kernel, case.stride).numpy()
    assert (columns * y).sum() == pytest.approx((x * folded).sum(), rel=1e-12, abs=1e-12)


def test_unfold_of_ones_and_fold_count_the_patches_of_a_pixel():
    columns = unfold(Tensor(numpy.ones((1, 3, 3, 1))), 2)
    counts = fold(columns, (3, 3), 2).numpy()[0, :, :, 0]
    assert counts.tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


@filled
def test_gradients_of_unfold_and_fold_to_second_order(case):
    size = (case.height + 2 * case.padding, case.width + 2 * case.padding)
    columns = normal(case.n, case.rows, case.columns, case.kernel**2 * case.inputs)
    check_gradients(lambda x: unfold(x, case.kernel, case.stride),
                    padded(images(case), case.padding))
    check_gradients(lambda x: fold(x, size, case.kernel, case.stride), columns)


# ---------------------------------------------------------------- the convolutions


@cases
def test_conv2d_is_the_sum_over_the_patch(case):
    x, w = images(case), weight(case)
    y = conv2d(Tensor(x), Tensor(w), case.stride, case.padding)
    assert y.shape == (case.n, case.rows, case.columns, case.outputs)
    numpy.testing.assert_allclose(y.numpy(), looped_conv2d(x, w, case), rtol=1e-12, atol=1e-13)


@cases
def test_conv_transpose2d_paints_a_weighted_kernel_for_each_pixel(case):
    x, w, size = small_images(case), weight(case), (case.height, case.width)
    y = conv_transpose2d(Tensor(x), Tensor(w), case.stride, case.padding, size)
    expected = looped_conv_transpose2d(x, w, case, size)
    assert y.shape == expected.shape
    numpy.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-13)


@cases
def test_conv_transpose2d_gives_the_smallest_size_unless_told(case):
    x, w = Tensor(small_images(case)), Tensor(weight(case))
    smallest = tuple(
        case.stride * (count - 1) + case.kernel - 2 * case.padding
        for count in (case.rows, case.columns)
    )
    if min(smallest) < 1:
        with pytest.raises(ShapeError, match=f"{smallest[0]} x {smallest[1]}"):
            conv_transpose2d(x, w, case.stride, case.padding)
        return
    y = conv_transpose2d(x, w, case.stride, case.padding)
    given = conv_transpose2d(x, w, case.stride, case.padding, smallest)
    assert y.shape[1:3] == smallest and numpy.array_equal(y.numpy(), given.numpy())
    assert all(case.count(n) == m for n, m in zip(smallest, x.shape[1:3], strict=True))


@cases
def test_conv_weight_is_the_sum_over_all_places(case):
    x, y = images(case), small_images(case, seed=1)
    w = conv_weight(Tensor(x), Tensor(y), case.kernel, case.stride, case.padding)
    assert w.shape == weight(case).shape
    numpy.testing.assert_allclose(w.numpy(), looped_conv_weight(x, y, case), rtol=1e-12, atol=1e-13)


@cases
def test_conv2d_is_the_product_of_patches_and_weights(case):
    # the plain version, in the library's own functions
    x, w = images(case), Tensor(weight(case))
    patches = unfold(Tensor(padded(x, case.padding)), case.kernel, case.stride)
    plain = matmul(patches, w.reshape(-1, case.outputs)).numpy()
    y = conv2d(Tensor(x), w, case.stride, case.padding).numpy()
    numpy.testing.assert_allclose(y, plain, rtol=1e-12, atol=1e-13)


@cases
def test_conv_transpose2d_is_the_fold_of_a_product(case):
    x, w = Tensor(small_images(case)), Tensor(weight(case))
    p = case.padding
    columns = matmul(x, w.reshape(-1, case.outputs).transpose())
    painted = fold(columns, (case.height + 2 * p, case.width + 2 * p), case.kernel, case.stride)
    plain = painted[:, p : p + case.height, p : p + case.width].numpy()
    y = conv_transpose2d(x, w, case.stride, p, (case.height, case.width)).numpy()
    numpy.testing.assert_allclose(y, plain, rtol=1e-12, atol=1e-13)


def test_conv2d_does_not_turn_the_kernel_around():
    x = numpy.arange(4.0).reshape(1, 1, 4, 1)
    kernel = numpy.zeros((2, 2, 1, 1))
    kernel[0, :, 0, 0] = [10, 1]  # a cross-correlation: 10 x[j] + x[j + 1]
    y = conv2d(Tensor(numpy.concatenate([x, x], axis=1)), Tensor(kernel))
    assert y.numpy().reshape(-1).tolist() == [1, 12, 23]


@filled
def test_the_three_functions_are_one_sum(case):
    # <conv2d(x, w), y> = <x, conv_transpose2d(y, w)> = <w, conv_weight(x, y)>
    x, y, w = images(case), small_images(case, seed=1), weight(case)
    convolved = conv2d(Tensor(x), Tensor(w), case.stride, case.padding).numpy()
    painted = conv_transpose2d(
        Tensor(y), Tensor(w), case.stride, case.padding, (case.height, case.width)
    ).numpy()
    met = conv_weight(Tensor(x), Tensor(y), case.kernel, case.stride, case.padding).numpy()
    whole = (convolved * y).sum()
    assert whole == pytest.approx((x * painted).sum(), rel=1e-12, abs=1e-12)
    assert whole == pytest.approx((w * met).sum(), rel=1e-12, abs=1e-12)


@filled
def test_gradients_of_conv2d_to_second_order_by_both_arguments(case):
    check_gradients(
        lambda x, w: conv2d(x, w, case.stride, case.padding), images(case), weight(case)
    )


@filled
def test_gradients_of_conv_transpose2d_to_second_order_by_both_arguments(case):
    size = (case.height, case.width)
    check_gradients(
        lambda x, w: conv_transpose2d(x, w, case.stride, case.padding, size),
        small_images(case), weight(case),
    )


@filled
def test_gradients_of_conv_weight_to_second_order_by_both_arguments(case):
    check_gradients(
        lambda x, y: conv_weight(x, y, case.kernel, case.stride, case.padding),
        images(case), small_images(case),
    )


@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
@pytest.mark.parametrize("by", ["x", "w"])
def test_third_derivatives(function, by):
    def slopes(x, w):
        wanted = {"x": x, "w": w}[by]
        return grad((function(x, w, 2, 1) ** 3).sum(), [wanted], create_graph=True)[0]

    check_gradients(slopes, normal(1, 3, 4, 2), normal(4, 4, 2, 2, seed=1) * 0.5)


def test_an_empty_batch_gives_weight_gradients_of_zero():
    w = Tensor(numpy.ones((3, 3, 2, 2)), requires_grad=True)
    x = Tensor(numpy.zeros((0, 4, 4, 2)), requires_grad=True)
    conv_transpose2d(conv2d(x, w, 1, 1), w, 1, 1).sum().backward()
    assert x.grad.shape == x.shape and w.grad.shape == w.shape and not w.grad.numpy().any()


@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
def test_how_the_numbers_lie_in_memory_does_not_matter(function):
    x, w = normal(2, 5, 4, 3), normal(3, 3, 3, 3, seed=1)
    expected = function(Tensor(x), Tensor(w), 2, 1).numpy()
    channels_first = numpy.ascontiguousarray(x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    every_second = numpy.repeat(x, 2, axis=2)[:, :, ::2]
    turned = numpy.asfortranarray(w)
    for same in (channels_first, every_second):
        y = function(Tensor(same), Tensor(turned), 2, 1)
        numpy.testing.assert_allclose(y.numpy(), expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
def test_inputs_are_left_as_they_were(function):
    x, w = normal(2, 5, 4, 3), normal(3, 3, 3, 3, seed=1)
    before = x.copy(), w.copy()
    a, b = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    (function(a, b, 2, 1) ** 2).sum().backward()
    assert numpy.array_equal(x, before[0]) and numpy.array_equal(w, before[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (1, 2, 0)])
def test_the_dtype_stays(function, dtype, kernel, stride, padding):
    x = Tensor(normal(2, 6, 6, 3).astype(dtype), requires_grad=True)
    w = Tensor(normal(kernel, kernel, 3, 3).astype(dtype), requires_grad=True)
    y = function(x, w, stride, padding)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == w.grad.dtype == dtype


# ---------------------------------------------------------------- what does not fit


def zeros(*shape):
    return Tensor(numpy.zeros(shape))


ERRORS = {
    "not images": (lambda: conv2d(zeros(2, 3), zeros(3, 3, 1, 1)),
                   [r"conv2d: images are (N, H, W, C), got shape (2, 3)"]),
    "not images, transposed": (lambda: conv_transpose2d(zeros(5, 5, 1), zeros(3, 3, 1, 1)),
                               ["conv_transpose2d", "(N, H, W, C)", "(5, 5, 1)"]),
    "not images, unfold": (lambda: unfold(zeros(4), 2), ["unfold", "(N, H, W, C)", "(4,)"]),
    "not patches": (lambda: fold(zeros(4), (3, 3), 2), ["fold", "(4,)"]),
    "kernel not square": (lambda: conv2d(zeros(1, 5, 5, 1), zeros(3, 2, 1, 1)),
                          ["conv2d: weight is (K, K, ", "(3, 2, 1, 1)"]),
    "kernel without channels": (lambda: conv_transpose2d(zeros(1, 5, 5, 1), zeros(3, 3)),
                                ["conv_transpose2d: weight is (K, K, ", "(3, 3)"]),
    "channels": (lambda: conv2d(zeros(1, 5, 5, 3), zeros(3, 3, 4, 8)),
                 ["(1, 5, 5, 3)", "3 channels", "(3, 3, 4, 8)", "4", "(K, K, C, O)"]),
    "channels, transposed": (lambda: conv_transpose2d(zeros(1, 5, 5, 8), zeros(3, 3, 8, 4)),
                             ["(1, 5, 5, 8)", "8 channels", "(3, 3, 8, 4)", "4", "(K, K, O, C)"]),
    "kernel larger than image": (lambda: conv2d(zeros(2, 3, 7, 1), zeros(5, 5, 1, 1), 2),
                                 ["kernel", "5", "3", "(3 + 2 * 0 - 5) // 2 + 1 = 0"]),
    "padding takes all": (lambda: conv_transpose2d(zeros(1, 2, 2, 1), zeros(3, 3, 1, 1), 1, 2),
                          ["(1, 2, 2, 1)", "0 x 0", "1 (OH - 1) + 3 - 2 * 2"]),
    "size that conv2d would not take there": (
        lambda: conv_transpose2d(zeros(1, 3, 3, 1), zeros(4, 4, 1, 1), 2, 1, (8, 6)),
        ["(1, 3, 3, 1)", "6 x 6", "1 more", "8 x 6"]),
    "images of another size, conv_weight": (
        lambda: conv_weight(zeros(1, 5, 5, 2), zeros(1, 4, 4, 3), 3),
        ["(1, 5, 5, 2)", "(1, 4, 4, 3)"]),
    "as many pixels, but others, conv_weight": (
        lambda: conv_weight(zeros(1, 6, 4, 2), zeros(1, 2, 4, 3), 3),
        ["(1, 6, 4, 2)", "(1, 2, 4, 3)"]),
    "not images, conv_weight": (lambda: conv_weight(zeros(5, 5), zeros(3, 3), 3), ["(5, 5)"]),
    "stride 0": (lambda: conv2d(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), 0),
                 ["stride 0", "1 or more"]),
    "stride 0, transposed": (lambda: conv_transpose2d(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), 0),
                             ["stride 0", "1 or more"]),
    "kernel 0": (lambda: unfold(zeros(1, 5, 5, 1), 0), ["kernel 0", "1 or more"]),
    "padding below 0": (lambda: conv2d(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), 1, -1),
                        ["padding", "-1"]),
    "padding below 0, transposed": (
        lambda: conv_transpose2d(zeros(1, 5, 5, 1), zeros(3, 3, 1, 1), 1, -1), ["padding", "-1"]),
    "patches of another image": (lambda: fold(zeros(1, 2, 2, 9), (5, 5), 3),
                                 ["(1, 2, 2, 9)", "5 x 5", "kernel 3", "(N, 3, 3, 9 C)"]),
    "patches of another kernel": (lambda: fold(zeros(1, 3, 3, 8), (5, 5), 3),
                                  ["(1, 3, 3, 8)", "kernel 3", "9 C"]),
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_gives_the_shapes_and_the_arithmetic(error):
    call, parts = ERRORS[error]
    with pytest.raises(ShapeError) as caught:
        call()
    assert [part for part in parts if part not in str(caught.value)] == []
