"""The classics of student code: each is caught, and the hint names what is wrong with it.

Every function computes the right values, so that the planted mistake is all there is to find.
At the end, what is right passes at a hundred random shapes.
"""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygan import (
    GradientMismatch,
    Tensor,
    check_gradients,
    convolution,
    functions,
    grad,
    normalization,
)
from tinygan.backend import xp
from tinygan.functions import matmul, mean, sum_to, transpose
from tinygan.tensor import record


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


MISTAKES = {}


def planted(hint, *inputs):
    """Register a function with a mistake: a part of the hint that it must get, and its inputs."""

    def register(function):
        MISTAKES[function.__name__] = (function, hint, inputs)
        return function

    return register


# ---------------------------------------------------------------- normalisation


def standardized(x):
    centered = x.data - x.data.mean(axis=0)
    return centered / xp.sqrt((centered * centered).mean(axis=0) + 1e-5)


def root(x):
    """1 / sqrt(variance) of each column."""
    centered = x - mean(x, axis=0)
    return (mean(centered * centered, axis=0) + 1e-5) ** -0.5


@planted("zero everywhere", normal(6, 3))
def batch_norm_with_dx_zeroed(x):
    return record(standardized(x), (x,), lambda dy, y: dy * 0.0)


@planted("that is subtracted (the mean) is taken for constant along axis 0", normal(6, 3))
def batch_norm_without_the_path_through_the_mean(x):
    return record(standardized(x), (x,), lambda dy, y: root(x) * (dy - y * mean(dy * y, 0)))


@planted("divided by (the variance, a softmax's denominator) is taken for constant along axis 0",
         normal(6, 3))
def batch_norm_without_the_path_through_the_variance(x):
    return record(standardized(x), (x,), lambda dy, y: root(x) * (dy - mean(dy, 0)))


@planted("(mean, variance) are taken for constant along axis 0", normal(6, 3))
def batch_norm_as_if_mean_and_variance_were_constants(x):
    return record(standardized(x), (x,), lambda dy, y: root(x) * dy)


@planted("(mean, variance) are taken for constant along axis 0",
         normal(6, 3), normal(3, seed=1), normal(3, seed=2))
def batch_norm_with_scale_and_constant_statistics(x, scale, shift):
    y = standardized(x) * scale.data + shift.data
    return record(
        y, (x, scale, shift),
        lambda dy, y: dy * scale * root(x),
        lambda dy, y: (dy * (x - mean(x, 0)) * root(x)).sum(0),
        lambda dy, y: dy.sum(0),
    )


@planted("the derivative of a mean over 6 numbers, not of a sum",
         normal(6, 3), normal(3, seed=1))
def shift_with_the_mean_of_dy(x, shift):
    return record(x.data + shift.data, (x, shift), lambda dy, y: dy, lambda dy, y: mean(dy, 0))


def softmaxed(x):
    powers = xp.exp(x.data)
    return powers / powers.sum(axis=-1, keepdims=True)


@planted("divided by (the variance, a softmax's denominator) is taken for constant along axis 1",
         normal(3, 5))
def softmax_without_its_cross_term(x):
    return record(softmaxed(x), (x,), lambda dy, y: dy * y)


@planted("everywhere 7 times what it should be", normal(3, 4))
def softmax_times_seven(x):
    return record(softmaxed(x), (x,), lambda dy, y: y * (dy - (dy * y).sum(-1, True)) * 7.0)


@planted("this number moves 5 outputs, but gets the gradient of 1 of them", normal(3, 5))
def log_softmax_without_its_sum(x):
    return record(xp.log(softmaxed(x)), (x,), lambda dy, y: dy)


# ---------------------------------------------------------------- broadcasting and sums


@planted("(4,) was broadcast to (3, 4), so each of its numbers was used several times",
         normal(3, 4), normal(4, seed=1))
def add_that_forgets_the_broadcast(a, b):
    return record(a.data + b.data, (a, b), lambda dy, y: dy, lambda dy, y: dy)


@planted("this number moves 3 outputs, but gets the gradient of 1 of them",
         normal(3, 4), normal(1, 4, seed=1))
def add_that_keeps_one_row_of_the_broadcast(a, b):
    return record(a.data + b.data, (a, b), lambda dy, y: dy, lambda dy, y: dy[:1])


@planted("(4,) was broadcast to (3, 4)",
         normal(3, 4), normal(4, seed=1))
def add_that_sums_over_everything(a, b):
    return record(a.data + b.data, (a, b), lambda dy, y: dy, lambda dy, y: dy.sum())


@planted("the derivative of a sum over 12 numbers, not of a mean", normal(3, 4))
def mean_with_the_derivative_of_a_sum(x):
    return record(x.data.mean(), (x,), lambda dy, y: dy * Tensor(xp.ones(x.shape)))


@planted("the derivative of a mean over 4 numbers, not of a sum", normal(3, 4))
def sum_with_the_derivative_of_a_mean(x):
    ones = Tensor(xp.ones(x.shape))
    return record(x.data.sum(axis=1), (x,), lambda dy, y: dy.reshape(3, 1) * ones * 0.25)


# ---------------------------------------------------------------- factors and signs


@planted("counted twice", normal(3, 5))
def square_counted_twice(x):
    return record(x.data**2, (x, x), lambda dy, y: dy * 2 * x, lambda dy, y: dy * 2 * x)


@planted("only half is there", normal(3, 5))
def square_without_its_two(x):
    return record(x.data**2, (x,), lambda dy, y: dy * x)


@planted("the sign is wrong everywhere", normal(3, 4), normal(3, 4, seed=1))
def subtract_that_adds(a, b):
    return record(a.data - b.data, (a, b), lambda dy, y: dy, lambda dy, y: dy)


@planted("the incoming gradient is ignored", normal(3, 4))
def tanh_that_ignores_dy(x):
    return record(xp.tanh(x.data), (x,), lambda dy, y: 1 - y * y)


@planted("2 dy must give twice as much", normal(3, 4))
def tanh_times_dy_twice(x):
    return record(xp.tanh(x.data), (x,), lambda dy, y: dy * dy * (1 - y * y))


@planted("no known pattern", normal(3, 4))
def tanh_of_x_for_y(x):
    return record(xp.tanh(x.data), (x,), lambda dy, y: dy * (1 - x * x))


# ---------------------------------------------------------------- order of axes


@planted("no known pattern",
         normal(3, 3), normal(3, 3, seed=1))
def square_product_without_its_transpose(a, b):
    return record(
        a.data @ b.data, (a, b),
        lambda dy, y: matmul(dy, b), lambda dy, y: matmul(transpose(a), dy),
    )


@planted("which it does not move: check the order of the axes, the order of factors",
         normal(3, 3), normal(3, 3, seed=1))
def square_product_in_the_wrong_order(a, b):
    return record(
        a.data @ b.data, (a, b),
        lambda dy, y: matmul(dy, transpose(b)), lambda dy, y: matmul(dy, transpose(a)),
    )


@planted("dy has the output's shape, (2, 4), and a derivative returns a Tensor of its input's "
         "shape, (2, 3): transpose", normal(2, 3), normal(3, 4, seed=1))
def product_that_does_not_fit(a, b):
    return record(
        a.data @ b.data, (a, b),
        lambda dy, y: matmul(dy, b), lambda dy, y: matmul(transpose(a), dy),
    )


@planted("this is the right one transposed", normal(2, 3), normal(3, 4, seed=1))
def product_with_a_transposed_gradient(a, b):
    return record(
        a.data @ b.data, (a, b),
        lambda dy, y: matmul(dy, transpose(b)), lambda dy, y: matmul(transpose(dy), a),
    )


@planted("the right one transposed: transpose it back", normal(4, 4))
def transpose_that_forgets_to_go_back(x):
    return record(x.data.T * 1.0, (x,), lambda dy, y: dy)


@planted("which it does not move: check the order of the axes", normal(2, 3, 4))
def transpose_with_the_axes_again_and_not_back(x):
    y = x.data.transpose(2, 0, 1)
    return record(y, (x,), lambda dy, y: dy.reshape(2, 3, 4))


# ---------------------------------------------------------------- kinks and masks


@planted("which it does not move: check the order of the axes, the order of factors, the mask",
         normal(3, 4))
def relu_with_greater_or_equal_of_the_output(x):
    return record(xp.maximum(x.data, 0), (x,), lambda dy, y: dy * (y.data >= 0))


@planted("backprop gives 0 times the right number where the input is negative, and 1 times where",
         normal(3, 4))
def leaky_relu_with_the_slope_forgotten(x):
    y = xp.maximum(x.data, 0.2 * x.data)
    return record(y, (x,), lambda dy, y: dy * (y.data > 0))


@planted("backprop gives 5 times the right number where the input is negative, and 0.2 times where",
         normal(3, 4))
def leaky_relu_with_its_two_slopes_swapped(x):
    y = xp.maximum(x.data, 0.2 * x.data)
    return record(y, (x,), lambda dy, y: dy * xp.where(y.data > 0, 0.2, 1.0))


@planted("within 1e-06 of this input the slope is 0 on one side",
         numpy.array([[-1.0, 0.0], [2.0, 1.0]]))
def relu_at_its_kink(x):
    return functions.relu(x)


@planted("at a kink (like relu's at 0) backprop may well be right, so move the input away",
         numpy.array([1.0, 2.0, 3.0]), numpy.array([0.0, 2.0, 4.0]))
def maximum_of_equal_numbers(a, b):
    return functions.maximum(a, b)


@planted("not a finite number: look for a division by 0, a log or a square root at 0",
         numpy.array([0.0, 1.0, 2.0]))
def norm_at_zero(x):
    return functions.sqrt(x * x)


# ---------------------------------------------------------------- the tape


@planted("zero everywhere: either it multiplies by 0, or this input is cut off the tape: look for "
         ".detach()",
         normal(3, 4), normal(3, 4, seed=1))
def product_with_a_detached_factor(a, b):
    return a * b.detach()


@planted("create_graph=True", normal(3))
def slope_without_create_graph(x):
    (slopes,) = grad((functions.tanh(x) ** 2).sum(), [x])
    return (slopes * slopes).sum()


@planted("changes dy in place", normal(3, 4), normal(3, 4, seed=1))
def subtract_that_turns_dy_round_in_place(a, b):
    def negated(dy, y):
        dy.data *= -1
        return dy

    return record(a.data - b.data, (a, b), lambda dy, y: dy, negated)


def _doubled(x):
    def in_place(dy, y):
        dy.data += dy.data
        return dy

    return record(2 * x.data, (x,), in_place)


@planted("changes dy in place", normal(3, 4), normal(3, 4, seed=1))
def sum_whose_second_part_adds_into_the_array_that_both_share(a, b):
    return a + _doubled(b)


_kept = xp.zeros((3, 4))


@planted("something is left over from the first pass", normal(3, 4))
def gradient_added_into_an_array_that_outlives_the_pass(x):
    def derivative(dy, y):
        global _kept
        _kept = _kept + dy.data * 2
        return Tensor(_kept)

    return record(2 * x.data, (x,), derivative)


@planted("is there a `return`", normal(3, 4))
def derivative_that_is_an_array(x):
    return record(3 * x.data, (x,), lambda dy, y: dy.data * 3)


@planted("is there a `return`", normal(3, 4))
def derivative_without_its_return(x):
    def derivative(dy, y):
        dy * 3

    return record(3 * x.data, (x,), derivative)


# ---------------------------------------------------------------- second derivatives


@planted("the first derivative is right, but its own derivative is not: all of it is cut off",
         normal(3, 4))
def tanh_of_cut_numbers(x):
    return record(xp.tanh(x.data), (x,), lambda dy, y: dy * (1 - y.data**2))


@planted("the first derivative is right, but its own derivative is not: a part of it is cut off",
         normal(3, 4))
def tanh_cut_in_half(x):
    return record(xp.tanh(x.data), (x,), lambda dy, y: dy * (1 - y * y.detach()))


@planted("the first derivative is right, but its own derivative is not: all of it is cut off",
         normal(3, 4))
def exp_with_a_derivative_on_arrays(x):
    return record(xp.exp(x.data), (x,), lambda dy, y: Tensor(dy.data * y.data))


# ---------------------------------------------------------------- convolutions


@planted("do stride, padding and size agree?", normal(2, 5, 5, 1),
         normal(3, 3, 1, 2, seed=1))
def convolution_whose_derivative_ignores_the_stride(x, weight):
    y = convolution.conv2d(x, weight, 2)
    return record(
        y.data, (x, weight),
        lambda dy, y: convolution.conv_transpose2d(dy, weight, 1),
        lambda dy, y: convolution.conv_weight(x, dy, 3, 2),
    )


@planted("the mask, the stride, the padding", normal(1, 4, 4, 1),
         normal(3, 3, 1, 2, seed=1))
def convolution_whose_derivative_ignores_the_padding(x, weight):
    y = convolution.conv2d(x, weight, 1, 1)
    return record(
        y.data, (x, weight),
        lambda dy, y: convolution.conv_transpose2d(dy, weight)[:, :4, :4],
        lambda dy, y: convolution.conv_weight(x, dy, 3, 1, 1),
    )


@planted("add up (+=, not =) where a number is used several times", normal(1, 4, 4, 1))
def unfold_whose_derivative_overwrites_what_overlaps(x):
    def overwriting_fold(dy, y):
        image = xp.zeros((1, 4, 4, 1))
        for i in range(3):
            for j in range(3):
                image[:, i : i + 2, j : j + 2] = dy.data[:, i, j].reshape(1, 2, 2, 1)
        return Tensor(image)

    return record(convolution.unfold(x, 2).data, (x,), overwriting_fold)


@planted("add up (+=, not =) where a number is used several times", normal(5, 2))
def rows_taken_twice_but_counted_once(x):
    def derivative(dy, y):
        image = xp.zeros((5, 2))
        image[[0, 2, 2]] = dy.data
        return Tensor(image)

    return record(x.data[[0, 2, 2]], (x,), derivative)


# ---------------------------------------------------------------- what spoils the differences


@planted("look for float32 inside the function", normal(3, 4))
def tanh_with_a_float32_inside(x):
    y = xp.tanh(x.data.astype("float32")).astype("float64")
    return record(y, (x,), lambda dy, y: dy * (1 - y * y))


@planted("backprop gave a Tensor of float32", normal(3, 4))
def tanh_with_a_float32_derivative(x):
    return record(
        xp.tanh(x.data), (x,),
        lambda dy, y: Tensor((dy.data * (1 - y.data**2)).astype("float32")),
    )


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_mistake_is_caught_with_the_right_hint(name, seed):
    function, hint, inputs = MISTAKES[name]
    with pytest.raises(GradientMismatch) as caught, numpy.errstate(all="ignore"):
        check_gradients(function, *inputs, seed=seed)
    assert str(caught.value).startswith(f"{name}, ")
    assert hint in str(caught.value)


def test_there_are_at_least_twenty_planted_mistakes():
    assert len(MISTAKES) >= 20


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: Tensor(xp.tanh(x.data.astype("float32"))), "returns float32 for float64 inputs"),
        (lambda x: functions.tanh(x).data, "returns a ndarray, not one Tensor"),
        (lambda x: (x, x), "returns a tuple, not one Tensor"),
    ],
)
def test_what_cannot_be_checked_is_said(function, what):
    with pytest.raises(ValueError, match=what):
        check_gradients(function, normal(3))


def test_a_function_that_changes_its_input_is_named():
    def clipped(x):
        xp.minimum(x.data, 1, out=x.data)
        return x * 1.0

    with pytest.raises(ValueError, match="clipped changes its argument 0: work on a copy"):
        check_gradients(clipped, numpy.array([0.5, 2.0]))


# ---------------------------------------------------------------- what is right passes

hundred = settings(max_examples=100, deadline=None, derandomize=True, database=None)
lengths = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)
shapes = st.lists(lengths, min_size=1, max_size=4).map(tuple)


@hundred
@given(shapes, seeds, st.data())
def test_broadcast_arithmetic_passes_at_a_hundred_shapes(shape, seed, data):
    own = [data.draw(st.sampled_from([1, length])) for length in shape]
    other = own[data.draw(st.integers(0, len(own))) :]
    a, b = normal(*shape, seed=seed), normal(*other, seed=seed + 1)
    function = data.draw(st.sampled_from([functions.add, functions.subtract, functions.multiply]))
    check_gradients(function, a, b)


@hundred
@given(shapes, seeds, st.sampled_from(["tanh", "softplus", "leaky_relu", "sigmoid", "exp"]))
def test_functions_of_one_number_pass_at_a_hundred_shapes(shape, seed, name):
    check_gradients(getattr(functions, name), normal(*shape, seed=seed))


@hundred
@given(shapes, seeds, st.sampled_from(["sum", "mean", "max", "softmax", "log_softmax"]), st.data())
def test_reductions_pass_at_a_hundred_shapes(shape, seed, name, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    reduce = getattr(functions, name)
    check_gradients(lambda x: reduce(x, axis), normal(*shape, seed=seed))


@hundred
@given(lengths, lengths, lengths, seeds)
def test_matrix_products_pass_at_a_hundred_shapes(n, m, o, seed):
    check_gradients(matmul, normal(n, m, seed=seed), normal(m, o, seed=seed + 1))


@hundred
@given(st.integers(3, 12), lengths, seeds)
def test_batch_norm_passes_at_a_hundred_shapes(n, features, seed):
    check_gradients(
        lambda x, scale, shift: normalization.batch_norm(x, scale, shift)[0],
        normal(n, features, seed=seed), normal(features, seed=seed + 1),
        normal(features, seed=seed + 2),
    )


@hundred
@given(st.data())
def test_convolutions_pass_at_a_hundred_shapes(data):
    kernel, stride = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    padding = data.draw(st.integers(0, kernel - 1))
    least = max(1, kernel - 2 * padding)
    height, width = (data.draw(st.integers(least, least + 3)) for _ in range(2))
    n, inputs, outputs = (data.draw(st.integers(1, 2)) for _ in range(3))
    seed = data.draw(seeds)
    weight = normal(kernel, kernel, inputs, outputs, seed=seed)
    image = normal(n, height, width, inputs, seed=seed + 1)
    small = convolution.conv2d(Tensor(image), Tensor(weight), stride, padding).shape
    check_gradients(lambda x, w: convolution.conv2d(x, w, stride, padding), image, weight)
    check_gradients(
        lambda y, w: convolution.conv_transpose2d(y, w, stride, padding, (height, width)),
        normal(*small, seed=seed + 2), weight,
    )


@hundred
@given(shapes, seeds)
def test_sum_to_passes_at_a_hundred_shapes(shape, seed):
    target = tuple(1 if i % 2 else length for i, length in enumerate(shape))[seed % len(shape) :]
    check_gradients(lambda x: sum_to(x, target), normal(*shape, seed=seed))
