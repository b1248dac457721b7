"""The tape: what is recorded, the walk back, what is freed, and the errors on the way."""

import gc
import operator
import re
import weakref

import numpy
import pytest

from tinygan import Tensor, functions, grad, no_grad
from tinygan.backend import xp
from tinygan.functions import ShapeError
from tinygan.layers import Conv2d, ConvTranspose2d, Dense, Flatten, Parameter, ReLU, Sequential
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam
from tinygan.tensor import TapeError, record


def variable(data):
    return Tensor(numpy.asarray(data, dtype=numpy.float64), requires_grad=True)


# ---------------------------------------------------------------- what a Tensor is


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, "int64"),
        (True, "bool"),
        ([1, 2], "int64"),
        (1.5, "float32"),
        ([1, 2.5], "float32"),
        ([[1.0], [2.0]], "float32"),
        (numpy.zeros(2), "float64"),
        (numpy.float64(1), "float64"),
        (numpy.zeros(2, "float32"), "float32"),
        (numpy.zeros(2, "uint8"), "uint8"),
    ],
)
def test_python_floats_become_float32_and_arrays_keep_their_dtype(data, dtype):
    tensor = Tensor(data)
    assert tensor.dtype == dtype
    assert tensor.shape == numpy.shape(data) and tensor.ndim == numpy.ndim(data)
    assert numpy.array_equal(tensor.numpy(), data)


@pytest.mark.parametrize("data", [1j, "text", None, [object()]])
def test_data_without_numbers_is_an_error(data):
    with pytest.raises(TypeError, match="a Tensor holds numbers, not"):
        Tensor(data)


def test_a_tensor_of_a_tensor_is_an_error_that_names_detach():
    with pytest.raises(TypeError, match=r"\.detach\(\)"):
        Tensor(Tensor(1.0))


def test_integers_that_require_a_gradient_are_an_error_that_names_dtype_and_shape():
    with pytest.raises(TypeError, match=r"int64 data of shape \(2, 3\).*astype\('float32'\)"):
        Tensor(numpy.zeros((2, 3), "int64"), requires_grad=True)


def test_item_is_a_python_number():
    assert Tensor([2.5]).item() == 2.5 and type(Tensor(2.5).item()) is float
    assert type(Tensor(2).item()) is int


def test_one_number_is_true_or_false():
    assert Tensor(0.5) and not Tensor(0.0)


def test_one_number_becomes_a_number_of_python():
    x = Tensor([[2.5]], requires_grad=True)
    assert float(x) == 2.5 and type(float(x)) is float
    assert int(x) == 2 and type(int(x)) is int and int(Tensor(7)) == 7
    assert f"{float(x * 2):.1f}" == "5.0"


def test_several_numbers_are_not_one():
    for kind in (float, int, bool):
        with pytest.raises(ValueError, match="size 1"):
            kind(Tensor([1.0, 2.0]))


# ---------------------------------------------------------------- NumPy


@pytest.mark.parametrize("make", [numpy.asarray, numpy.array])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_numpy_makes_an_array_of_its_numbers(make, shape):
    numbers = numpy.random.default_rng(0).random(shape, dtype="float32")
    x = Tensor(numbers, requires_grad=True)
    array = make(x)
    assert type(array) is numpy.ndarray and array.dtype == "float32" and array.shape == shape
    assert numpy.array_equal(array, numbers)
    assert make(x, dtype="float64").dtype == "float64"


def test_a_list_of_tensors_becomes_an_array_of_numbers():
    array = numpy.array([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])])
    assert array.dtype == "float32" and array.tolist() == [[1, 2], [3, 4]]


def test_numpy_array_is_a_copy_and_asarray_need_not_be():
    x = Tensor([1.0, 2.0])
    numpy.array(x)[0] = 7
    assert x.numpy()[0] == 1
    if xp.module is numpy:
        assert numpy.shares_memory(numpy.asarray(x), x.data)


@pytest.mark.parametrize(
    "function", [numpy.mean, numpy.sum, numpy.linalg.norm, numpy.reshape, numpy.concatenate]
)
def test_a_numpy_function_would_cut_the_tape_and_names_both_ways_out(function):
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    arguments = {numpy.reshape: (x, (2,)), numpy.concatenate: ([x, x],)}.get(function, (x,))
    message = rf"numpy\.{function.__name__} would cut the tape.*tinygan\.functions.*x\.numpy\(\)"
    with pytest.raises(TypeError, match=message):
        function(*arguments)


@pytest.mark.parametrize("ufunc", [numpy.exp, numpy.add, numpy.maximum, numpy.isnan])
def test_a_ufunc_refuses_a_tensor(ufunc):
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match="'Tensor' does not support ufuncs"):
        ufunc(*[x] * ufunc.nin)


def test_a_tensor_of_tensors_is_an_error_that_names_stack():
    x = Tensor(1.0, requires_grad=True)
    for several in ([x, x], (x, 2.0)):
        with pytest.raises(TypeError, match=r"functions\.stack"):
            Tensor(several)


def test_length_is_that_of_the_first_axis():
    assert len(Tensor(numpy.zeros((3, 2)))) == 3


def test_rows_can_be_unpacked():
    first, second = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert first.numpy().tolist() == [1, 2] and second.numpy().tolist() == [3, 4]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda x: Tensor([1.0, 2.0]), "Tensor([1. 2.], shape=(2,), float32)"),
        (lambda x: Tensor(3), "Tensor(3, shape=(), int64)"),
        (lambda x: x, "Tensor([0. 1.], shape=(2,), float32, requires_grad)"),
        (functions.relu, "Tensor([0. 1.], shape=(2,), float32, from relu)"),
        (lambda x: x + 1.0, "Tensor([1. 2.], shape=(2,), float32, from add)"),
        (lambda x: x.detach(), "Tensor([0. 1.], shape=(2,), float32)"),
    ],
)
def test_repr_shows_numbers_shape_dtype_and_origin(make, text):
    assert repr(make(Tensor([0.0, 1.0], requires_grad=True))) == text


def test_repr_of_many_numbers_is_short():
    assert len(repr(Tensor(numpy.zeros((1000, 1000))))) < 150


# ---------------------------------------------------------------- operators

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "@": lambda a, b: a @ b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}
LEFT = numpy.array([[1.0, -2.0], [3.0, 4.0]])
RIGHT = numpy.array([[2.0, -2.0], [5.0, -1.0]])


@pytest.mark.parametrize("sign", OPERATORS)
def test_arrays_may_stand_on_either_side_of_an_operator(sign, request):
    if request.config.getoption("--device") != "cpu":
        pytest.skip("NumPy's arrays and the GPU's do not mix")
    apply, expected = OPERATORS[sign], OPERATORS[sign](LEFT, RIGHT)
    a, b = Tensor(LEFT), Tensor(RIGHT)
    for left, right in [(a, b), (LEFT, b), (a, RIGHT)]:
        result = apply(left, right)
        assert isinstance(result, Tensor)
        assert numpy.array_equal(result.numpy(), expected)


@pytest.mark.parametrize("sign", [sign for sign in OPERATORS if sign != "@"])
def test_numbers_may_stand_on_either_side_of_an_operator(sign):
    apply, x = OPERATORS[sign], Tensor(LEFT)
    assert numpy.array_equal(apply(x, 3).numpy(), apply(LEFT, 3))
    assert numpy.array_equal(apply(2.5, x).numpy(), apply(2.5, LEFT))


@pytest.mark.parametrize("sign", ["+", "-", "*", "/"])
@pytest.mark.parametrize("number", [3, 0.1])
def test_a_number_leaves_float32_as_it_is(sign, number):
    x = Tensor([1.0, 2.0])
    assert OPERATORS[sign](x, number).dtype == OPERATORS[sign](number, x).dtype == "float32"


@pytest.mark.parametrize("sign", [">", "<", ">=", "<=", "==", "!="])
def test_comparisons_are_constants(sign):
    x = variable([1.0, 2.0])
    result = OPERATORS[sign](x, 1.5)
    assert result.dtype == "bool" and not result.requires_grad


@pytest.mark.parametrize("other", [Tensor([1.0, 3.0]), 1.0])
def test_equality_is_number_by_number(other):
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert (x == other).numpy().tolist() == [True, False]
    assert (x != other).numpy().tolist() == [False, True]
    assert (other == x).numpy().tolist() == [True, False]
    assert not (x == other).requires_grad and (x == x).numpy().all()


def test_sets_and_dicts_go_by_identity():
    x, same = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    assert len({x, same, x}) == 2 and {x: "x", same: "same"}[same] == "same"
    assert x in {x} and same not in {x} and x in [x]


def test_shapes_that_cannot_be_compared_are_named():
    for sign in ("==", "!=", ">"):
        with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\) do not broadcast"):
            OPERATORS[sign](Tensor([1.0, 2.0]), Tensor([1.0, 2.0, 3.0]))


def test_constants_get_no_gradient():
    x, constant = variable([1.0, 2.0]), Tensor([3.0, 4.0])
    (x * constant).sum().backward()
    assert constant.grad is None and x.grad.numpy().tolist() == [3, 4]


@pytest.mark.parametrize("sign", ["+", "-", "*", "/"])
def test_shapes_that_do_not_broadcast_are_named(sign):
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(2,\)"):
        OPERATORS[sign](Tensor(numpy.zeros((2, 3))), Tensor(numpy.ones(2)))


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 3), (2, 3)), ((3,), (2, 3)), ((2, 3), (2,)), ((2,), (3,)), ((), (3,)), ((3,), ())],
)
def test_a_product_that_does_not_fit_is_named(a, b):
    with pytest.raises(ShapeError, match=re.escape(f"matmul: {a} @ {b} does not fit")):
        Tensor(numpy.zeros(a)) @ Tensor(numpy.zeros(b))


def test_a_product_with_a_number_is_named():
    with pytest.raises(ShapeError, match=r"matmul: \(2, 3\) @ \(\)"):
        Tensor(numpy.zeros((2, 3))) @ 3.0


IN_PLACE = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv,
    "**=": operator.ipow, "@=": operator.imatmul,
}


@pytest.mark.parametrize("sign", IN_PLACE)
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x * 1.0, lambda x: Parameter(x.data)])
def test_what_requires_a_gradient_is_not_changed_in_place(sign, make):
    x = make(variable([[1.0, 2.0], [3.0, 4.0]]))
    before = x.numpy().copy()
    with pytest.raises(TypeError, match=r"x = x \+ y.*x\.data"):
        IN_PLACE[sign](x, 2.0)
    assert numpy.array_equal(x.numpy(), before)


@pytest.mark.parametrize("sign", [sign for sign in IN_PLACE if sign != "@="])
def test_what_requires_none_becomes_the_new_tensor(sign):
    x = Tensor(numpy.array([1.0, 2.0]))
    y = IN_PLACE[sign](x, 2.0)
    expected = IN_PLACE[sign](numpy.array([1.0, 2.0]), 2.0)
    assert y.numpy().tolist() == expected.tolist() and x.numpy().tolist() == [1, 2]


# ---------------------------------------------------------------- the walk back


def test_a_node_used_twice_adds_both_gradients():
    x = variable(3.0)
    (x * x + x).backward()
    assert x.grad.item() == 2 * 3 + 1


def test_the_two_ways_around_a_diamond_add_up():
    x = variable(0.5)
    middle = functions.exp(x)
    left, right = middle * 3.0, middle * middle
    (left * right).backward()  # 3 e^(3x)
    assert x.grad.item() == pytest.approx(9 * numpy.exp(1.5), rel=1e-14)


def test_a_short_and_a_long_way_from_one_node_add_up():
    # Whoever walks in the order of discovery passes x's gradient on before the long way is done.
    x = variable(2.0)
    h = x * 1.0
    long = h
    for _ in range(5):
        long = long * 1.0
    (h * long).backward()
    assert x.grad.item() == 4


def test_a_ladder_of_diamonds_is_walked_once_per_node():
    x = variable(1.0)
    y, calls = x, []

    def double(x):
        def derivative(dy, y):
            calls.append(1)
            return dy * 1.0

        return record(x.data, (x,), derivative)

    for _ in range(40):
        y = double(y)
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**40 and len(calls) == 40


@pytest.mark.parametrize("create_graph", [False, True])
def test_ten_thousand_operations_in_a_row(create_graph):
    x = variable(1.0)
    y = x
    for _ in range(10_000):
        y = y + 0.5
    y = y * y
    y.backward(create_graph=create_graph)
    assert y.item() == 5001.0**2 and x.grad.item() == 2 * 5001


def test_ten_thousand_operations_can_be_dropped_without_a_walk():
    y = x = variable(1.0)
    for _ in range(10_000):
        y = y * 1.0
    alive = weakref.ref(y)
    del y
    assert alive() is None and x.grad is None


def test_backward_adds_up_until_the_gradients_are_forgotten():
    x = variable([1.0, 2.0])
    (x * 3.0).sum().backward()
    (x * x).sum().backward()
    assert x.grad.numpy().tolist() == [5, 7]
    x.grad = None
    (x * 3.0).sum().backward()
    assert x.grad.numpy().tolist() == [3, 3]


def test_gradients_of_two_leaves_do_not_share_their_fate():
    a, b = variable([1.0]), variable([2.0])
    (a + b).sum().backward()
    (a * 5.0).sum().backward()
    assert a.grad.item() == 6 and b.grad.item() == 1


def test_backward_on_a_leaf_gives_one():
    x = variable(3.0)
    x.backward()
    assert x.grad.item() == 1


def test_only_leaves_keep_a_gradient():
    x = variable(3.0)
    h = x * 2.0
    (h * h).backward()
    assert h.grad is None and x.grad.item() == 24


def test_a_loss_of_one_number_may_have_axes():
    x = variable([[3.0]])
    (x * x).backward()
    assert x.grad.numpy().tolist() == [[6]]


def test_gradients_have_the_dtype_of_their_tensor():
    x = Tensor([1.0, 2.0], requires_grad=True)
    (x * x).mean().backward()
    assert x.grad.dtype == "float32"


# ---------------------------------------------------------------- constants by choice


def test_nothing_is_recorded_under_no_grad():
    x = variable([1.0])
    with no_grad():
        y = x * 2.0
    assert not y.requires_grad and not y.parents
    assert (x * 2.0).requires_grad


def test_recording_goes_on_after_an_error_under_no_grad():
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (variable(1.0) * 2.0).requires_grad


def test_no_grad_within_no_grad_ends_with_the_outer_one():
    x = variable(1.0)
    with no_grad():
        with no_grad():
            pass
        assert not (x * 2.0).requires_grad


def test_backward_under_no_grad_still_finds_first_gradients():
    x = variable(3.0)
    y = x * x
    with no_grad():
        y.backward()
    assert x.grad.item() == 6


def test_detach_keeps_the_numbers_and_drops_the_history():
    x = variable([1.0, 2.0])
    h = x * x
    (h.detach() * x).sum().backward()
    assert x.grad.numpy().tolist() == [1, 4]  # h is a constant: not 3 x^2
    assert numpy.array_equal(h.detach().numpy(), h.numpy()) and not h.detach().requires_grad


# ---------------------------------------------------------------- grad


def test_grad_answers_in_the_order_of_the_inputs():
    a, b = variable(2.0), variable(5.0)
    by_b, by_a = grad(a * b, [b, a])
    assert by_b.item() == 2 and by_a.item() == 5


def test_grad_does_not_touch_the_gradients_that_backward_left():
    x, weight = variable(2.0), variable(3.0)
    weight.grad = left = Tensor(7.0)
    grad(x * weight, [x])
    assert x.grad is None and weight.grad is left and left.item() == 7


def test_grad_of_a_tensor_in_the_middle():
    x = variable([1.0, 2.0])
    h = x * x
    by_h, by_x = grad((h * h).sum(), [h, x])
    assert by_h.numpy().tolist() == [2, 8] and by_x.numpy().tolist() == [4, 32]


def test_grad_of_a_tensor_in_the_middle_counts_all_its_uses():
    x = variable(2.0)
    h = x * 1.0
    (by_h,) = grad(h * functions.exp(h), [h])
    assert by_h.item() == pytest.approx(3 * numpy.exp(2), rel=1e-14)


def test_grad_of_a_tensor_by_itself_is_one():
    y = variable(2.0) * 3.0
    assert grad(y, [y])[0].item() == 1


def test_grad_of_a_tensor_that_had_no_part_names_it():
    x, other = variable(1.0), variable(numpy.zeros((2, 3)))
    with pytest.raises(TapeError, match=r"input 1, of shape \(2, 3\), had no part"):
        grad(x * 2.0, [x, other])


def test_second_order_through_grad():
    x = variable([0.5, -1.0])
    (first,) = grad(functions.tanh(x).sum(), [x], create_graph=True)
    (second,) = grad(first.sum(), [x])
    y = numpy.tanh([0.5, -1.0])
    numpy.testing.assert_allclose(first.numpy(), 1 - y**2, rtol=1e-14)
    numpy.testing.assert_allclose(second.numpy(), -2 * y * (1 - y**2), rtol=1e-14)


def test_fourth_derivative():
    x = variable(1.5)
    y = x**5
    for _ in range(4):
        (y,) = grad(y, [x], create_graph=True)
    assert y.item() == pytest.approx(120 * 1.5, rel=1e-14)


def test_second_order_through_backward():
    x = variable(3.0)
    (x * x * x).backward(create_graph=True)
    first, x.grad = x.grad, None
    first.backward()
    assert first.item() == 27 and x.grad.item() == 18


def test_gradients_are_constants_without_create_graph():
    x = variable(3.0)
    (first,) = grad(x * x, [x])
    assert not first.requires_grad


def test_a_loss_made_of_a_gradient_reaches_the_weights():
    # L = (d(w x^2)/dx)^2 = 4 w^2 x^2, dL/dw = 8 w x^2: as in a gradient penalty
    w, x = variable(3.0), variable(2.0)
    (slope,) = grad(w * x * x, [x], create_graph=True)
    (slope * slope).backward()
    assert w.grad.item() == 8 * 3 * 4


def test_grad_asks_only_the_derivatives_that_lead_to_its_inputs():
    asked = []

    def product(a, b):
        def by_a(dy, y):
            asked.append("a")
            return dy * b

        def by_b(dy, y):
            asked.append("b")
            return dy * a

        return record(a.data * b.data, (a, b), by_a, by_b)

    a, b = variable(2.0), variable(3.0)
    grad(product(a, b) * 1.0, [a])
    assert asked == ["a"]


def count_products(monkeypatch, compute):
    """How many matrix products compute() makes."""
    made, product = [], functions.matrix_product
    monkeypatch.setattr(functions, "matrix_product", lambda a, b: made.append(1) or product(a, b))
    compute()
    return len(made)


def test_an_input_gradient_computes_no_derivative_of_the_weights(monkeypatch):
    x, first, second = (variable(numpy.ones((4, 4))) for _ in range(3))
    loss = (functions.tanh(x @ first) @ second).sum()
    assert count_products(monkeypatch, lambda: grad(loss, [x])) == 2


def test_a_constant_input_costs_no_product_in_backward(monkeypatch):
    x, first, second = Tensor(numpy.ones((4, 4))), variable(numpy.eye(4)), variable(numpy.eye(4))
    loss = (functions.tanh(x @ first) @ second).sum()
    assert count_products(monkeypatch, loss.backward) == 3  # two weights, one activation


def test_grad_stops_at_the_tensor_that_was_asked_for(monkeypatch):
    x, first, second = (variable(numpy.ones((4, 4))) for _ in range(3))
    h = x @ first
    loss = (h @ second).sum()
    assert count_products(monkeypatch, lambda: grad(loss, [h])) == 1


# ---------------------------------------------------------------- errors of the walk


def test_backward_needs_a_scalar_and_names_the_shape():
    with pytest.raises(TapeError, match=r"shape \(2, 3\).*\.mean\(\) or \.sum\(\)"):
        (variable(numpy.zeros((2, 3))) * 2.0).backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tensor(1.0) * 2.0,
        lambda: (variable(1.0) * 2.0).detach(),
        lambda: variable(1.0) > 0,
    ],
)
def test_backward_needs_something_to_differentiate(make):
    with pytest.raises(TapeError, match="nothing to differentiate.*requires_grad=True"):
        make().backward()


def test_a_second_backward_names_the_operation_and_the_way_out():
    x = variable(1.0)
    y = functions.tanh(x)
    y.backward()
    with pytest.raises(TapeError, match="tanh is freed.*create_graph=True"):
        y.backward()
    assert x.grad.item() == pytest.approx(1 - numpy.tanh(1) ** 2)  # and adds nothing


def test_a_second_backward_over_a_shared_part_is_noticed():
    x = variable(1.0)
    shared = functions.exp(x)
    (shared * 2.0).backward()
    with pytest.raises(TapeError, match="exp is freed"):
        (shared * 3.0).backward()


def test_with_create_graph_a_second_backward_adds_the_same_again():
    x = variable(3.0)
    y = x * x
    y.backward(create_graph=True)
    y.backward(create_graph=True)
    assert x.grad.item() == 12


def twice(x):
    return record(x.data * 2, (x,), lambda dy, y: dy.sum())


def test_a_derivative_of_the_wrong_shape_is_named():
    with pytest.raises(TapeError, match=r"derivative of twice has shape \(\).*input.*\(3,\)"):
        twice(variable([1.0, 2.0, 3.0])).sum().backward()


# ---------------------------------------------------------------- memory


@pytest.fixture
def no_collector():
    """Memory is freed at once or, in this test, never."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def loss_and_intermediate():
    x = variable([1.0, 2.0])
    h = functions.tanh(x)
    return x, (h * h).sum(), weakref.ref(h)


def test_the_tape_keeps_what_it_needs_until_backward(no_collector):
    _, loss, intermediate = loss_and_intermediate()
    assert intermediate() is not None and loss.requires_grad


def test_backward_frees_the_tape_though_the_loss_lives_on(no_collector):
    x, loss, intermediate = loss_and_intermediate()
    loss.backward()
    assert intermediate() is None
    assert x.grad is not None and loss.item() > 0


def test_create_graph_keeps_the_tape(no_collector):
    _, loss, intermediate = loss_and_intermediate()
    loss.backward(create_graph=True)
    assert intermediate() is not None


def test_a_tape_that_is_dropped_unwalked_is_freed(no_collector):
    _, loss, intermediate = loss_and_intermediate()
    del loss
    assert intermediate() is None


def test_a_walk_frees_each_operation_as_it_passes(no_collector):
    alive_when_x_is_reached = []

    def first(x):
        def derivative(dy, y):
            alive_when_x_is_reached.append(late())
            return dy * 1.0

        return record(x.data * 1, (x,), derivative)

    h = functions.exp(first(variable(1.0)))
    late = weakref.ref(h)
    loss = h * h
    del h
    loss.backward()
    assert alive_when_x_is_reached == [None]


def test_a_training_step_leaves_no_reference_cycle(no_collector):
    network = Sequential(
        Conv2d(1, 3, kernel=3, stride=2, padding=1), BatchNorm(3), ReLU(),
        ConvTranspose2d(3, 2, kernel=4, stride=2, padding=1), Flatten(), Dense(8 * 8 * 2, 1),
    )
    adam = Adam(network.parameters(), 1e-3)
    x = Tensor(numpy.ones((2, 8, 8, 1), "float32"), requires_grad=True)

    def step():
        adam.zero_grad()
        loss = functions.softplus(-network(x)).mean()
        (slopes,) = grad(network(x).sum(), [x], create_graph=True)
        (loss + (slopes * slopes).sum()).backward()
        adam.step()

    step()  # what NumPy and the library make once is not the tape's
    x.grad = None
    gc.collect()
    step()
    assert gc.collect() == 0


def test_a_graph_of_gradients_that_is_dropped_leaves_no_reference_cycle(no_collector):
    network = Sequential(Dense(4, 3), BatchNorm(3), ReLU(), Dense(3, 1))
    x = Tensor(numpy.ones((2, 4), "float32"), requires_grad=True)

    def slopes():
        return grad((network(x) ** 2).sum(), [x], create_graph=True)[0]

    slopes()
    gc.collect()
    slopes()
    assert gc.collect() == 0
