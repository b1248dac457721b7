"""Every function of functions.py: its values against NumPy's, its gradients to second order."""

import numpy
import pytest

import tinygan
from tinygan import functions
from tinygan.functions import ShapeError
from tinygan.gradcheck import check_gradients
from tinygan.layers import Embedding
from tinygan.normalization import BatchNorm
from tinygan.tensor import Tensor


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def positive(*shape, seed=0):
    return numpy.abs(normal(*shape, seed=seed)) + 0.5


MASK = numpy.array([True, False, True])


def moved(x, down, right):
    """Each image of (N, H, W, C) moved by itself, zeros coming in."""
    n, height, width, channels = x.shape
    wide = numpy.zeros((n, 3 * height, 3 * width, channels))
    for image, frame, i, j in zip(x, wide, down + height, right + width, strict=True):
        frame[i : i + height, j : j + width] = image
    return wide[:, height:-height, width:-width]


# name: (function, NumPy's way, inputs). The inputs keep clear of kinks by more than the step.
CASES = {
    "add": (functions.add, numpy.add, [normal(2, 3), normal(2, 3, seed=1)]),
    "add, broadcast": (functions.add, numpy.add, [normal(4, 1, 3), normal(2, 1, seed=1)]),
    "subtract": (functions.subtract, numpy.subtract, [normal(2, 3), normal(3, seed=1)]),
    "multiply": (functions.multiply, numpy.multiply, [normal(2, 3), normal(2, 1, seed=1)]),
    "divide": (functions.divide, numpy.divide, [normal(2, 3), positive(1, 3, seed=1)]),
    "negative": (functions.negative, numpy.negative, [normal(2, 3)]),
    "power 3": (lambda x: functions.power(x, 3), lambda x: x**3, [normal(2, 3)]),
    "power 1/2": (lambda x: x**0.5, lambda x: x**0.5, [positive(2, 3)]),
    "power -1": (lambda x: x**-1.0, lambda x: 1 / x, [positive(2, 3)]),
    "exp": (functions.exp, numpy.exp, [normal(2, 3)]),
    "log": (functions.log, numpy.log, [positive(2, 3)]),
    "sqrt": (functions.sqrt, numpy.sqrt, [positive(2, 3)]),
    "abs": (functions.abs, numpy.abs, [normal(2, 3)]),
    "maximum": (functions.maximum, numpy.maximum, [normal(2, 3), normal(3, seed=1)]),
    "maximum of a number": (lambda x: functions.maximum(0.1, x), lambda x: numpy.maximum(0.1, x),
                            [normal(2, 3)]),
    "minimum": (functions.minimum, numpy.minimum, [normal(2, 3), normal(3, seed=1)]),
    "minimum of a number": (lambda x: functions.minimum(0.1, x), lambda x: numpy.minimum(0.1, x),
                            [normal(2, 3)]),
    "where": (lambda a, b: functions.where(MASK, a, b), lambda a, b: numpy.where(MASK, a, b),
              [normal(2, 3), normal(2, 1, seed=1)]),
    "where, a number": (lambda x: functions.where(x > 0, x, 0.5),
                        lambda x: numpy.where(x > 0, x, 0.5), [normal(2, 3)]),
    "relu": (functions.relu, lambda x: numpy.maximum(x, 0), [normal(4, 3)]),
    "leaky_relu": (functions.leaky_relu, lambda x: numpy.where(x > 0, x, 0.2 * x), [normal(4, 3)]),
    "tanh": (functions.tanh, numpy.tanh, [normal(2, 3)]),
    "sigmoid": (functions.sigmoid, lambda x: 1 / (1 + numpy.exp(-x)), [normal(2, 3)]),
    "softplus": (functions.softplus, lambda x: numpy.log1p(numpy.exp(x)), [normal(2, 3)]),
    "sum": (functions.sum, numpy.sum, [normal(2, 3)]),
    "sum, axis": (lambda x: x.sum(axis=1), lambda x: x.sum(axis=1), [normal(2, 3, 4)]),
    "sum, axes": (lambda x: x.sum((0, -1), True), lambda x: x.sum((0, -1), keepdims=True),
                  [normal(2, 3, 4)]),
    "mean": (functions.mean, numpy.mean, [normal(2, 3)]),
    "mean, axis": (lambda x: x.mean(axis=-1), lambda x: x.mean(axis=-1), [normal(2, 3)]),
    "max": (functions.max, numpy.max, [normal(2, 3)]),
    "max, axis": (lambda x: x.max(axis=0), lambda x: x.max(axis=0), [normal(5, 3)]),
    "min": (functions.min, numpy.min, [normal(2, 3)]),
    "min, axis": (lambda x: x.min(axis=-1), lambda x: x.min(axis=-1), [normal(5, 3)]),
    "min, kept": (lambda x: x.min((0, 2), True), lambda x: x.min((0, 2), keepdims=True),
                  [normal(2, 3, 4)]),
    "var": (functions.var, numpy.var, [normal(2, 3)]),
    "var, axis": (lambda x: x.var(axis=0), lambda x: x.var(axis=0), [normal(5, 3)]),
    "var, axes": (lambda x: x.var((0, -1), True), lambda x: x.var((0, -1), keepdims=True),
                  [normal(2, 3, 4)]),
    "std": (functions.std, numpy.std, [normal(2, 3)]),
    "std, axis": (lambda x: x.std(axis=1), lambda x: x.std(axis=1), [normal(2, 3)]),
    "reshape": (lambda x: x.reshape(3, -1), lambda x: x.reshape(3, -1), [normal(2, 3)]),
    "transpose": (functions.transpose, numpy.transpose, [normal(2, 3, 4)]),
    "T": (lambda x: x.T, lambda x: x.T, [normal(2, 3, 4)]),
    "abs of Python": (lambda x: abs(x), lambda x: abs(x), [normal(2, 3)]),
    "transpose, axes": (lambda x: x.transpose(1, 2, 0), lambda x: x.transpose(1, 2, 0),
                        [normal(2, 3, 4)]),
    "broadcast_to": (lambda x: functions.broadcast_to(x, (4, 2, 3)),
                     lambda x: numpy.broadcast_to(x, (4, 2, 3)), [normal(2, 1)]),
    "sum_to": (lambda x: functions.sum_to(x, (3, 1)), lambda x: x.sum((0, 2))[:, None],
               [normal(2, 3, 4)]),
    "concatenate": (lambda a, b: functions.concatenate([a, b], axis=1),
                    lambda a, b: numpy.concatenate([a, b], axis=1),
                    [normal(2, 3), normal(2, 1, seed=1)]),
    "stack": (lambda a, b: functions.stack([a, b]), lambda a, b: numpy.stack([a, b]),
              [normal(2, 3), normal(2, 3, seed=1)]),
    "stack, axis": (lambda a, b: functions.stack([a, b, a], -1),
                    lambda a, b: numpy.stack([a, b, a], -1), [normal(2, 3), normal(2, 3, seed=1)]),
    "slice": (lambda x: x[1:, ::2], lambda x: x[1:, ::2], [normal(3, 4)]),
    "one row": (lambda x: x[-1], lambda x: x[-1], [normal(3, 4)]),
    "pairs": (lambda x: x[numpy.array([0, 2, 0]), numpy.array([1, 1, 1])],
              lambda x: x[[0, 2, 0], [1, 1, 1]], [normal(3, 4)]),
    "select": (functions.select, lambda x, i: x[i], [normal(5, 2), numpy.array([[1, 4], [1, 0]])]),
    "translate": (functions.translate, moved,
                  [normal(4, 3, 4, 2), numpy.array([1, -2, 0, 3]), numpy.array([-1, 0, 3, -4])]),
    "scatter": (lambda x: functions.scatter(x, numpy.array([1, 1, 0]), (3, 2)),
                lambda x: numpy.stack([x[2], x[0] + x[1], x[0] * 0]), [normal(3, 2)]),
    "matmul": (functions.matmul, numpy.matmul, [normal(2, 3), normal(3, 4, seed=1)]),
    "matmul, one column": (functions.matmul, numpy.matmul, [normal(5, 1), normal(1, 4, seed=1)]),
    "matmul, batches": (functions.matmul, numpy.matmul, [normal(5, 2, 3), normal(3, 4, seed=1)]),
    "matmul, two vectors": (functions.matmul, numpy.matmul, [normal(3), normal(3, seed=1)]),
    "matmul, matrix and vector": (functions.matmul, numpy.matmul,
                                  [normal(2, 3), normal(3, seed=1)]),
    "matmul, vector and matrix": (functions.matmul, numpy.matmul,
                                  [normal(3), normal(3, 4, seed=1)]),
    "matmul, batches and vector": (functions.matmul, numpy.matmul,
                                   [normal(5, 2, 3), normal(3, seed=1)]),
    "matmul, vector and batches": (functions.matmul, numpy.matmul,
                                   [normal(2), normal(5, 2, 3, seed=1)]),
    "softmax": (functions.softmax, lambda x: numpy.exp(x) / numpy.exp(x).sum(-1, keepdims=True),
                [normal(3, 4)]),
    "log_softmax": (lambda x: functions.log_softmax(x, axis=0),
                    lambda x: x - numpy.log(numpy.exp(x).sum(0)), [normal(3, 4)]),
}
cases = pytest.mark.parametrize("case", CASES)


@cases
def test_values_are_those_of_numpy(case):
    function, reference, inputs = CASES[case]
    output = function(*[Tensor(array) for array in inputs])
    assert output.dtype == numpy.float64
    numpy.testing.assert_allclose(output.numpy(), reference(*inputs), rtol=1e-12, atol=1e-15)


@cases
def test_gradients_to_second_order(case):
    function, _, inputs = CASES[case]
    check_gradients(function, *inputs)


@cases
def test_float32_stays_float32(case):
    function, _, inputs = CASES[case]
    tensors = [
        Tensor(array.astype("float32"), requires_grad=True) if array.dtype.kind == "f"
        else Tensor(array)
        for array in inputs
    ]
    output = function(*tensors)
    (output * 1.0).sum().backward()
    floats = [tensor for tensor in tensors if tensor.requires_grad]
    assert output.dtype == "float32"
    assert [tensor.grad.dtype for tensor in floats] == ["float32"] * len(floats)


def test_every_public_function_has_a_case():
    public = {
        name for name, value in vars(functions).items()
        if getattr(value, "__module__", "") == functions.__name__
        and not name.startswith("_") and not isinstance(value, type)
    }
    checked = {name.partition(",")[0].partition(" ")[0] for name in CASES}
    # The first two have no derivative, last_result is a helper.
    assert public - checked == {"one_hot", "class_labels", "last_result"}


# ---------------------------------------------------------------- narrow dtypes and empty axes

NARROW = {
    "truth values": numpy.random.default_rng(0).random((300, 4, 3)) > 0.3,
    "uint8": numpy.random.default_rng(1).integers(0, 256, (300, 4, 3)).astype("uint8"),
    "int8": numpy.random.default_rng(2).integers(-128, 128, (300, 4, 3)).astype("int8"),
    "int16": numpy.random.default_rng(3).integers(30_000, 32_768, (300, 4, 3)).astype("int16"),
    "int64": numpy.random.default_rng(4).integers(-9, 9, (300, 4, 3)),
}
no_float16_there = pytest.mark.cpu_only("the CPU that plays the device has no float16")
AXES = [None, 0, 1, -1, (0, 1), (0, 2), (0, 1, 2)]


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("x", NARROW.values(), ids=NARROW)
def test_integers_are_summed_and_averaged_as_numpy_does(x, axis):
    for keepdims in (False, True):
        for name in ("sum", "mean", "std", "var", "max", "min"):
            y = getattr(Tensor(x), name)(axis, keepdims)
            expected = getattr(x, name)(axis=axis, keepdims=keepdims)
            assert y.shape == expected.shape and y.dtype == expected.dtype
            numpy.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_the_share_of_what_holds_is_a_count():
    x = Tensor([[1.0], [2.0], [-1.0], [3.0]]) > 0
    assert x.sum(axis=0).numpy().tolist() == [3] and x.mean(axis=0).numpy().tolist() == [0.75]
    assert Tensor(numpy.full((10, 3), 200, "uint8")).mean(axis=0).numpy().tolist() == [200] * 3


@no_float16_there
@pytest.mark.parametrize("axis", [None, 0, (0, 1)])
def test_float16_is_averaged_in_float32(axis):
    x = Tensor(numpy.ones((100_000, 1), "float16"), requires_grad=True)
    assert (x.mean(axis).numpy() == 1).all() and (x.var(axis).numpy() == 0).all()
    x.mean().backward()
    assert x.mean(axis).dtype == x.var(axis).dtype == x.grad.dtype == "float16"


@no_float16_there
def test_float16_is_added_up_in_float32():
    x = Tensor(numpy.ones((4096, 3), "float16"))  # where 2048 + 1 is 2048
    assert x.sum(axis=0).numpy().tolist() == [4096] * 3 and x.sum(axis=0).dtype == "float16"
    assert functions.sum_to(x, (3,)).numpy().tolist() == [4096] * 3


@no_float16_there
def test_float16_is_normalised_in_float32():
    x = numpy.random.default_rng(0).normal(200, 3, (1000, 2)).astype("float16")
    layer = BatchNorm(2, momentum=0.5)
    layer(Tensor(x))
    numpy.testing.assert_allclose(layer.running_mean.numpy(), 100, rtol=1e-2)
    numpy.testing.assert_allclose(layer.running_variance.numpy(), 5, rtol=0.1)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (0,)])
def test_a_sum_of_no_numbers_is_0(shape):
    x = numpy.zeros(shape, "float32")
    for axis in [None, *range(x.ndim), tuple(range(x.ndim))]:
        y = Tensor(x).sum(axis)
        assert y.dtype == "float32" and numpy.array_equal(y.numpy(), x.sum(axis))


@pytest.mark.parametrize("function", ["mean", "std", "var", "max", "min"])
def test_no_numbers_have_no_mean_and_no_largest(function):
    x = Tensor(numpy.zeros((0, 3), "float32"))
    for axis in (None, 0, (0, 1)):
        with pytest.raises(ShapeError, match=r"over axis .* of \(0, 3\) there are no numbers"):
            getattr(x, function)(axis)
    assert getattr(x, function)(1).shape == (0,)


@pytest.mark.parametrize("function", [functions.softmax, functions.log_softmax])
def test_softmax_names_an_axis_that_does_not_exist_and_one_without_numbers(function):
    with pytest.raises(ShapeError, match=r"axis 2 does not exist in shape \(2, 3\)"):
        function(Tensor(numpy.zeros((2, 3))), axis=2)
    with pytest.raises(ShapeError, match="softmax: over axis 1"):
        function(Tensor(numpy.zeros((2, 0))), axis=1)


@pytest.mark.parametrize("integer", [numpy.int64, numpy.int32, numpy.uint8])
def test_integers_of_numpy_are_axes_and_sizes(integer):
    x = Tensor(numpy.arange(6.0).reshape(2, 3))
    one, zero = integer(1), integer(0)
    for name in ("sum", "mean", "max", "min", "var", "std"):
        expected = getattr(x.numpy(), name)
        for axis, plain in [(one, 1), ((zero, one), (0, 1)), ((one,), 1), ([zero], 0)]:
            numpy.testing.assert_allclose(getattr(x, name)(axis).numpy(), expected(axis=plain))
    assert functions.softmax(x, axis=one).shape == (2, 3)
    assert functions.concatenate([x, x], axis=one).shape == (2, 6)
    assert functions.stack([x, x], axis=one).shape == (2, 2, 3)
    assert functions.transpose(x, (one, zero)).shape == (3, 2)
    assert functions.reshape(x, integer(6)).shape == x.reshape(integer(6)).shape == (6,)
    assert x.reshape(integer(3), integer(2)).shape == x.reshape((3, 2)).shape == (3, 2)
    assert functions.broadcast_to(x, (integer(4), integer(2), integer(3))).shape == (4, 2, 3)
    assert functions.one_hot(numpy.array([1]), integer(3)).shape == (1, 3)


@pytest.mark.parametrize("axis", [2, -3, 1.0, "x", (0, 2), (0, 0.5), numpy.array([0, 1])], ids=str)
def test_what_is_no_axis_is_named(axis):
    with pytest.raises(ShapeError, match=r"does not exist in shape \(2, 3\)"):
        Tensor(numpy.zeros((2, 3))).sum(axis)


# ---------------------------------------------------------------- labels

NO_LABELS = {
    "a column": ([[1], [0]], ShapeError, r"\(2, 1\)"),
    "a number": (1, ShapeError, r"\(\)"),
    "floats": ([0.0, 1.0], ShapeError, "float"),
    "truth values": ([False, True], ShapeError, "bool"),
    "below 0": ([0, -1], ValueError, "from 0 to 2, not -1"),
    "too large": ([0, 3], ValueError, "from 0 to 2, not 3"),
}


@pytest.mark.parametrize("labels, error, message", NO_LABELS.values(), ids=NO_LABELS)
@pytest.mark.parametrize("function", [
    lambda labels: functions.one_hot(labels, 3), lambda labels: Embedding(3, 2)(labels)
], ids=["one_hot", "Embedding"])
def test_labels_of_another_shape_or_value_are_named(function, labels, error, message):
    for given in (labels, numpy.array(labels), *[Tensor(labels)] * (tinygan.device() == "cpu")):
        with pytest.raises(error, match=message):
            function(given)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int8", "uint64"])
def test_labels_may_be_integers_of_any_kind(dtype):
    labels = numpy.array([1, 0, 1], dtype)
    assert functions.one_hot(labels, 2).numpy().tolist() == [[0, 1], [1, 0], [0, 1]]


def test_an_index_below_0_still_counts_from_the_end():
    x = Tensor([[1.0], [2.0], [3.0]])
    assert x[-1].numpy().tolist() == [3] and x[numpy.array([-1, 0])].numpy().tolist() == [[3], [1]]
    with pytest.raises(ShapeError, match="index of a tensor"):
        x[numpy.array([0.5])]


def test_one_hot_is_a_constant_of_float32():
    expected = [[0, 0, 1], [1, 0, 0]]
    for labels in (numpy.array([2, 0]), Tensor([2, 0]), numpy.array([2, 0], "uint8")):
        y = functions.one_hot(labels, 3)
        assert y.numpy().tolist() == expected and y.dtype == "float32" and not y.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_of_numbers_keeps_to_float32_and_to_the_dtype_beside_it(dtype):
    x = Tensor(numpy.array([-1.0, 2.0], dtype))
    assert functions.where(x > 0, 1.0, 0.0).dtype == "float32"
    assert functions.where(x > 0, x, 0.1).dtype == functions.where(x > 0, 0.1, x).dtype == dtype
    assert functions.where(x > 0, 0.1, x).numpy()[1] == numpy.dtype(dtype).type(0.1)


def test_where_takes_a_condition_of_any_kind():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for condition in (True, [True, True], numpy.ones(2, bool), Tensor([1.0, 1.0]) == 1.0):
        assert functions.where(condition, x, 0.0).numpy().tolist() == [1, 2]


def test_shapes_that_do_not_fit_where_or_stack_are_named():
    x, other = Tensor(numpy.zeros((2, 3))), Tensor(numpy.zeros(2))
    with pytest.raises(ShapeError, match=r"where: shapes \(\) and \(2, 3\) and \(2,\)"):
        functions.where(True, x, other)
    with pytest.raises(ShapeError, match="must agree"):
        functions.stack([x, other])
    for axis in (3, -4):
        with pytest.raises(ShapeError, match=f"no axis {axis} among 3"):
            functions.stack([x, x], axis)


def test_the_extremes_of_bytes_do_not_wrap_around():
    pixels = Tensor(numpy.array([[0, 255], [7, 1]], "uint8"))
    assert pixels.min().item() == 0 and pixels.max().item() == 255
    assert functions.minimum(pixels, 5).numpy().tolist() == [[0, 5], [5, 1]]


@pytest.mark.parametrize("name", ["max", "min"])
def test_equal_extremes_share_the_gradient(name):
    x = Tensor([[2.0, 2.0, 2.0, 2.0], [1.0, 3.0, 3.0, 1.0]], requires_grad=True)
    getattr(x, name)(axis=1).sum().backward()
    halves = {"max": [0, 0.5, 0.5, 0], "min": [0.5, 0, 0, 0.5]}[name]
    assert x.grad.numpy().tolist() == [[0.25] * 4, halves]


def test_where_numbers_are_equal_minimum_and_maximum_give_the_gradient_to_the_first():
    for function in (functions.minimum, functions.maximum):
        a, b = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
        function(a, b).sum().backward()
        assert a.grad.item() == 1 and b.grad.item() == 0


def test_a_nan_passes_through_minimum_and_maximum():
    x = Tensor([numpy.nan, 1.0])
    for function in (functions.minimum, functions.maximum):
        assert numpy.isnan(function(x, 0.5).numpy()[0]) and numpy.isnan(function(0.5, x).numpy()[0])


def test_the_derivative_of_std_at_0_is_nan_as_its_docstring_says():
    assert "NaN" in functions.std.__doc__
    x = Tensor([2.0, 2.0], requires_grad=True)
    with numpy.errstate(all="ignore"):
        x.std().backward()
    assert numpy.isnan(x.grad.numpy()).all()
    x.grad = None
    ((x.var() + 1e-8) ** 0.5).backward()  # the way out
    assert x.grad.numpy().tolist() == [0, 0]
