"""The tape: what is recorded, the walk back, what is freed, and the errors on the way."""

import copy
import gc
import operator
import pickle
import re
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

import tinygan
from tinygan import Tensor, functions, grad, no_grad
from tinygan.backend import xp
from tinygan.functions import ShapeError
from tinygan.layers import Conv2d, ConvTranspose2d, Dense, Flatten, Parameter, ReLU, Sequential
from tinygan.losses import clip_weights
from tinygan.normalization import BatchNorm
from tinygan.optimizers import SGD, Adam
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


@pytest.mark.parametrize("ufunc", [numpy.exp, numpy.maximum, numpy.isnan, numpy.power, numpy.sin])
def test_a_ufunc_refuses_a_tensor_and_names_both_ways_out(ufunc):
    x = Tensor([1.0, 2.0], requires_grad=True)
    message = rf"numpy\.{ufunc.__name__} would cut the tape.*tinygan\.functions.*x\.numpy\(\)"
    with pytest.raises(TypeError, match=message):
        ufunc(*[x] * ufunc.nin)
    with pytest.raises(TypeError, match=message):
        ufunc(*[numpy.ones(2), x][-ufunc.nin :])


def test_no_ufunc_writes_a_tensor_into_an_array():
    x, array = Tensor([1.0, 2.0], requires_grad=True), numpy.ones(2)
    for refused in (lambda: numpy.add.reduce(x), lambda: operator.iadd(array, x),
                    lambda: numpy.multiply(x, 2, out=array), lambda: numpy.sqrt(x, out=array)):
        with pytest.raises(TypeError, match="would cut the tape"):
            refused()
    assert array.tolist() == [1, 1]


def test_the_arithmetic_of_numpy_is_that_of_the_operators():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = numpy.multiply(numpy.array([3.0, 4.0], "float32"), x)
    assert isinstance(y, Tensor) and y.dtype == "float32" and y.numpy().tolist() == [3, 8]
    numpy.subtract(y, x).sum().backward()
    assert x.grad.numpy().tolist() == [2, 3]


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


# ---------------------------------------------------------------- gradients are one's own

SHARED = {
    "a sum": lambda a, b, v: ((a + b) * v).sum(),
    "a difference": lambda a, b, v: ((a - b) * v).sum(),
    "nothing but a sum": lambda a, b, v: a.sum() + b.sum(),
    "a mean": lambda a, b, v: (a + b).mean(),
    "other shapes": lambda a, b, v: ((a.reshape(6) + b.T.reshape(6)) * v.reshape(6)).sum(),
    "transposed": lambda a, b, v: ((a.T + b.T) * v.T).sum(),
    "joined": lambda a, b, v: (functions.concatenate([a, b, a]) * 2.0).sum(),
    "stacked": lambda a, b, v: functions.stack([a, b]).sum(),
    "three times": lambda a, b, v: ((a + b + (a + b)) * v).sum(),
    "broadcast": lambda a, b, v: ((functions.broadcast_to(a, (4, 2, 3)) + b) * v).sum(),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("loss", SHARED.values(), ids=SHARED)
def test_a_gradient_changed_in_place_changes_no_other(loss, create_graph):
    a, b, v = (variable(numpy.arange(6.0).reshape(2, 3) + i) for i in range(3))
    loss(a, b, v).backward(create_graph)
    found = [x for x in (a, b, v) if x.grad is not None]
    before = [x.grad.numpy().copy() for x in found]
    numbers = [x.numpy().copy() for x in (a, b, v)]
    for x in found:
        x.grad.data *= 0.5
    for x, expected in zip(found, before, strict=True):
        assert numpy.array_equal(x.grad.numpy(), expected * 0.5)
    for x, expected in zip((a, b, v), numbers, strict=True):
        assert numpy.array_equal(x.numpy(), expected)


def test_what_grad_gives_shares_nothing_and_can_be_differentiated():
    a, b = variable([1.0, 2.0]), variable([3.0, 4.0])
    for_a, for_b = grad(((a + b) ** 2).sum(), [a, b], create_graph=True)
    assert not numpy.shares_memory(for_a.numpy(), for_b.numpy())
    (for_a * for_b).sum().backward()  # (2 (a + b))^2
    assert a.grad.numpy().tolist() == b.grad.numpy().tolist() == [32, 48]


# ---------------------------------------------------------------- numbers that changed since


def _through_clipping(w):
    network = ReLU()
    network.weight = w
    clip_weights(network, 0.5)


def _through_an_optimizer(w):
    w.grad = Tensor(xp.ones_like(w.data))
    SGD([w], 0.1).step()
    w.grad = None


def _through_load_state(w):
    network = ReLU()
    network.weight = w
    network.load_state({"weight": w.numpy() * 3})


CHANGES = {
    "multiplied": lambda w: setattr(w, "data", operator.imul(w.data, 10)),
    "added to": lambda w: setattr(w, "data", operator.iadd(w.data, 1)),
    "replaced": lambda w: setattr(w, "data", w.data * 10),
    "clipped": _through_clipping,
    "moved by an optimizer": _through_an_optimizer,
    "loaded": _through_load_state,
    "written into, and said": lambda w: (w.data.fill(3), setattr(w, "data", w.data)),
}
USES = {
    "matmul": (lambda x, w: x @ w, "matmul"),
    "multiply": (lambda x, w: x * w, "multiply"),
    "divide": (lambda x, w: x / w, "divide"),
    "log": (lambda x, w: functions.log(w) + x, "log"),
    "power": (lambda x, w: w**3 + x, "power"),
    "softplus": (lambda x, w: functions.softplus(w) + x, "softplus"),
    "a view": (lambda x, w: x @ w.T, "matmul"),
    "rows of it": (lambda x, w: x * w[:1], "multiply"),
    "detached": (lambda x, w: x * w.detach(), "multiply"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("use", USES)
def test_what_a_derivative_needs_must_not_change_before_it(use, change):
    compute, operation = USES[use]
    x = Tensor(numpy.ones((2, 2)), requires_grad=True)
    w = Parameter(numpy.array([[1.0, 2.0], [3.0, 4.0]]))
    y = compute(x, w).sum()
    change(w)
    if change is CHANGES["replaced"] and use in ("a view", "rows of it", "detached"):
        y.backward()  # the view has the old numbers still
        assert numpy.array_equal(x.grad.numpy(), {"a view": [[4, 6]] * 2,
                                                  "rows of it": [[1, 2]] * 2,
                                                  "detached": [[1, 2], [3, 4]]}[use])
        return
    message = rf"the derivative of {operation} needs numbers of shape .* changed since"
    with pytest.raises(TapeError, match=message):
        y.backward()


@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
def test_a_convolution_notices_new_weights(kind):
    layer, x = kind(2, 3, kernel=3), variable(numpy.ones((1, 4, 4, 2)))
    loss = layer(x).sum()
    layer.weight.data *= 2
    with pytest.raises(TapeError, match="the derivative of conv.* changed since"):
        loss.backward()


def test_both_losses_before_the_step_of_d():
    G, D = Dense(2, 3), Sequential(Dense(3, 4), ReLU(), Dense(4, 1))
    adam_d = Adam(D.parameters(), 1e-2)
    fake = G(Tensor(numpy.ones((5, 2), "float32")))
    d_loss, g_loss = functions.softplus(D(fake.detach())).mean(), -D(fake).mean()
    d_loss.backward()
    adam_d.step()
    with pytest.raises(TapeError, match="the derivative of matmul needs numbers of shape"):
        g_loss.backward()


def test_frozen_weights_are_needed_too():
    G, D = Dense(2, 3), Dense(3, 1)
    with D.frozen():
        loss = D(G(Tensor(numpy.ones((5, 2), "float32")))).sum()
    D.weight.data *= 2
    with pytest.raises(TapeError, match="matmul"):
        loss.backward()


def test_a_result_in_the_middle_that_changed():
    x = variable([1.0, 2.0])
    y = functions.exp(x)
    loss = y.sum()
    y.data *= 2
    with pytest.raises(TapeError, match="the derivative of exp"):
        loss.backward()


def test_the_derivative_of_a_recorded_gradient_notices_it():
    x, w = variable([1.0, 2.0]), variable([3.0, 4.0])
    (slope,) = grad(((x * w) ** 2).sum(), [x], create_graph=True)
    w.data += 1.0
    with pytest.raises(TapeError, match="changed since"):
        slope.sum().backward()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_no_derivative_needs_may_change(change):
    x, w = variable(numpy.ones((2, 2))), Parameter(numpy.ones((2, 2)))
    y = functions.stack([x + w, x - w, w.reshape(2, 2), w.T]).sum() + w.mean()
    change(w)
    y.backward()
    assert numpy.array_equal(w.grad.numpy(), numpy.full((2, 2), 2.25))


def test_what_changed_before_it_was_used_is_as_it_should_be():
    x, w = variable([1.0, 2.0]), variable([3.0, 4.0])
    loss = (x * x).sum()
    w.data *= 10
    (loss + (x * w).sum()).backward()
    assert x.grad.numpy().tolist() == [32, 44] and w.grad.numpy().tolist() == [1, 2]


def test_numbers_that_changed_long_ago_elsewhere_do_no_harm():
    """The id() of what is gone is given again, also to gradients on the way back."""
    x = variable(numpy.ones(3))
    y = x
    for _ in range(20):
        y = functions.exp(y * 0.1)
    for _ in range(2000):
        gone = Tensor(numpy.ones(3))
        gone.data *= 2
        gone.data = gone.data + 1
        del gone
    y.sum().backward()
    assert x.grad is not None


def test_a_loop_of_steps_raises_nothing():
    network = Sequential(Dense(3, 4), BatchNorm(4), ReLU(), Dense(4, 1))
    adam, x = Adam(network.parameters(), 1e-2), Tensor(numpy.ones((5, 3), "float32"))
    for _ in range(3):
        loss = (network(x) ** 2).mean()
        network(x)  # the running statistics move once more
        adam.zero_grad()
        loss.backward()
        adam.step()


# ---------------------------------------------------------------- copies and pickles

COPIES = {
    "deepcopy": copy.deepcopy, "copy": copy.copy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_has_the_numbers_and_records_for_itself(duplicate):
    x = variable([1.0, 2.0])
    (x * x).sum().backward()
    other = duplicate(x)
    assert type(other) is Tensor and other.requires_grad and other.grad is None
    (other * 3.0).sum().backward()
    assert other.grad.numpy().tolist() == [3, 3] and x.grad.numpy().tolist() == [2, 4]


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_result_has_no_history(duplicate):
    y = duplicate(variable([1.0, 2.0]) * 2.0)
    assert not y.requires_grad and y.numpy().tolist() == [2, 4]


def test_a_copy_moves_alone():
    layer = Dense(2, 1)
    twin = copy.deepcopy(layer)
    twin.weight.data *= 0
    assert layer.weight.numpy().any() and isinstance(twin.weight, Parameter)


def test_a_network_from_a_file_learns_in_a_new_process(tmp_path):
    network = Sequential(Dense(2, 3), BatchNorm(3), ReLU(), Dense(3, 1))
    for _ in range(200):
        network(Tensor(numpy.ones((4, 2), "float32") * 1.5))  # old tensors have high ages
    both = (network, Adam(network.parameters(), 0.1))
    (tmp_path / "both").write_bytes(pickle.dumps(both))
    code = (
        "import pickle, sys, numpy, tinygan\n"
        "tinygan.use_device(sys.argv[2])\n"
        "network, adam = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "x = tinygan.Tensor(numpy.eye(4, 2, dtype='float32'))\n"
        "before = network.state()\n"
        "(network(x) ** 2).mean().backward()\n"
        "adam.step()\n"
        "print(sum((before[name] != array).any() for name, array in network.state().items()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "both"), tinygan.device()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "8"  # all six parameters and both running statistics


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


def test_blocks_that_overlap_end_each_for_itself():
    x, first, second = variable(1.0), no_grad(), no_grad()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not (x * 2.0).requires_grad
    second.__exit__(None, None, None)
    assert (x * 2.0).requires_grad


def test_generators_that_overlap_leave_recording_as_it_was():
    def pictures():
        with no_grad():
            yield from range(3)

    x, first, second = variable(1.0), pictures(), pictures()
    next(first), next(second), first.close()
    assert not (x * 2.0).requires_grad
    second.close()
    assert (x * 2.0).requires_grad


def test_a_block_that_another_thread_closes_is_closed():
    def pictures():
        with no_grad():
            yield

    x, generator = variable(1.0), pictures()
    next(generator)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(generator.close).result()
        assert pool.submit(lambda: (x * 2.0).requires_grad).result()
    assert (x * 2.0).requires_grad


def test_a_function_can_be_wrapped_in_it_again_and_again():
    @no_grad()
    def double(x, depth):
        return double(x, depth - 1) if depth else x * 2.0

    x = variable(1.0)
    assert not double(x, 3).requires_grad and (x * 2.0).requires_grad


def test_no_grad_is_one_thread_s_own():
    x, entered, done = variable(1.0), threading.Event(), threading.Event()

    def draw():
        with no_grad():
            entered.set()
            done.wait(10)
            return (x * 2.0).requires_grad

    with ThreadPoolExecutor(2) as pool:
        drawing = pool.submit(draw)
        entered.wait(10)
        assert (x * 2.0).requires_grad  # here
        with no_grad():
            assert pool.submit(lambda: (x * 2.0).requires_grad).result()  # and in a third thread
        done.set()
        assert drawing.result() is False
    assert (x * 2.0).requires_grad


def test_after_an_error_on_the_way_back_recording_is_as_before():
    x = variable(1.0)

    def fails(dy, y):
        raise KeyError

    with pytest.raises(KeyError):
        record(x.data, (x,), fails).backward()
    assert (x * 2.0).requires_grad


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
