"""The checker itself: it passes what is right, and catches one planted mistake after another."""

import re
import subprocess
import sys

import numpy
import pytest

import tinygan
from tinygan import GradientMismatch, Tensor, check_gradients, functions, grad, losses
from tinygan.backend import xp
from tinygan.functions import exp, matmul, mean, sum_to, transpose
from tinygan.gradcheck import main
from tinygan.layers import Conv2d, Dense, Dropout, Flatten, Module, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.tensor import record


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


# ---------------------------------------------------------------- operations with a derivative
# that can be given: the right one passes, so that it is the planted mistake that is caught.


def softmax(derivative):
    def softmax(x):
        powers = xp.exp(x.data)
        return record(powers / powers.sum(axis=-1, keepdims=True), (x,), derivative)

    return softmax


def standardize(derivative):
    def standardize(x):
        centered = x.data - x.data.mean(axis=0)
        y = centered / xp.sqrt((centered * centered).mean(axis=0) + 1e-5)
        return record(y, (x,), lambda dy, y: derivative(x, dy, y))

    return standardize


def root(x):
    """1 / sqrt(variance), for the derivatives of standardize."""
    centered = x - mean(x, axis=0)
    return (mean(centered * centered, axis=0) + 1e-5) ** -0.5


def average(derivative):
    def average(x):
        return record(x.data.mean(axis=-1), (x,), lambda dy, y: derivative(x, dy))

    return average


def add(derivative):
    def add(a, b):
        return record(a.data + b.data, (a, b), lambda dy, y: dy, lambda dy, y: derivative(b, dy))

    return add


def product(derivative):
    def product(a, b):
        return record(
            a.data @ b.data, (a, b),
            lambda dy, y: derivative(dy, b), lambda dy, y: matmul(transpose(a), dy),
        )

    return product


def tanh(derivative):
    def tanh(x):
        return record(xp.tanh(x.data), (x,), derivative)

    return tanh


def constant(x):
    return Tensor(x.data)


# name: (operation, the right derivative, the wrong one, inputs)
PLANTED = {
    "softmax, seven times too much": (
        softmax,
        lambda dy, y: y * (dy - (dy * y).sum(-1, True)),
        lambda dy, y: y * (dy - (dy * y).sum(-1, True)) * 7.0,
        [normal(3, 4)],
    ),
    "softmax without its sum": (
        softmax,
        lambda dy, y: y * (dy - (dy * y).sum(-1, True)),
        lambda dy, y: y * dy,
        [normal(3, 4)],
    ),
    "BatchNorm with dx zeroed": (
        standardize,
        lambda x, dy, y: root(x) * (dy - mean(dy, 0) - y * mean(dy * y, 0)),
        lambda x, dy, y: dy * 0.0,
        [normal(5, 3)],
    ),
    "BatchNorm without the path through the mean": (
        standardize,
        lambda x, dy, y: root(x) * (dy - mean(dy, 0) - y * mean(dy * y, 0)),
        lambda x, dy, y: root(x) * (dy - y * mean(dy * y, 0)),
        [normal(5, 3)],
    ),
    "BatchNorm without the path through the variance": (
        standardize,
        lambda x, dy, y: root(x) * (dy - mean(dy, 0) - y * mean(dy * y, 0)),
        lambda x, dy, y: root(x) * (dy - mean(dy, 0)),
        [normal(5, 3)],
    ),
    "mean that is a sum": (
        average,
        lambda x, dy: dy.reshape(-1, 1) * xp.ones(4) * 0.25,
        lambda x, dy: dy.reshape(-1, 1) * xp.ones(4),
        [normal(3, 4)],
    ),
    "broadcast without its sum": (
        add,
        lambda b, dy: sum_to(dy, b.shape),
        lambda b, dy: dy[0],
        [normal(3, 4), normal(4, seed=1)],
    ),
    "matrix product without its transpose": (
        product,
        lambda dy, b: matmul(dy, transpose(b)),
        lambda dy, b: matmul(dy, b),
        [normal(3, 3), normal(3, 3, seed=1)],
    ),
    "a sign": (
        tanh,
        lambda dy, y: dy * (1 - y * y),
        lambda dy, y: dy * (y * y - 1),
        [normal(3, 4)],
    ),
    "a thousandth too much": (
        tanh,
        lambda dy, y: dy * (1 - y * y),
        lambda dy, y: dy * (1 - y * y) * 1.001,
        [normal(3, 4)],
    ),
    "not a number": (
        tanh,
        lambda dy, y: dy * (1 - y * y),
        lambda dy, y: dy * float("nan"),
        [normal(3, 4)],
    ),
    "one number of many": (
        tanh,
        lambda dy, y: dy * (1 - y * y),
        lambda dy, y: dy * (1 - y * y) + dy * xp.eye(40)[3],
        [normal(50, 40)],
    ),
}
planted = pytest.mark.parametrize("name", PLANTED)


@planted
def test_the_right_derivative_passes(name):
    operation, right, _, inputs = PLANTED[name]
    check_gradients(operation(right), *inputs)


@planted
def test_a_planted_mistake_is_caught_in_the_first_order(name):
    operation, _, wrong, inputs = PLANTED[name]
    with pytest.raises(GradientMismatch, match="first derivative"):
        check_gradients(operation(wrong), *inputs, order=1)


@planted
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_caught_in_whatever_direction(name, seed):
    operation, _, wrong, inputs = PLANTED[name]
    with pytest.raises(GradientMismatch):
        check_gradients(operation(wrong), *inputs, seed=seed)


# name: (operation, a derivative whose values are right and whose own derivative is wrong, inputs)
CUT = {
    "tanh of detached numbers": (
        tanh, lambda dy, y: dy * (1 - y.detach() * y.detach()), [normal(3, 4)]
    ),
    "tanh, half of it": (tanh, lambda dy, y: dy * (1 - y * y.detach()), [normal(3, 4)]),
    "tanh of detached dy": (tanh, lambda dy, y: dy.detach() * (1 - y * y), [normal(3, 4)]),
    "BatchNorm with a constant root": (
        standardize,
        lambda x, dy, y: root(x.detach()) * (dy - mean(dy, 0) - y * mean(dy * y, 0)),
        [normal(5, 3)],
    ),
    "product of detached weights": (
        product, lambda dy, b: matmul(dy, transpose(b.detach())), [normal(3, 3), normal(3, 3)]
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_second_derivative_is_caught_in_the_second_order_alone(name):
    operation, derivative, inputs = CUT[name]
    check_gradients(operation(derivative), *inputs, order=1)
    with pytest.raises(GradientMismatch, match="second derivative"):
        check_gradients(operation(derivative), *inputs)


def test_a_forgotten_path_through_detach_is_caught():
    with pytest.raises(GradientMismatch, match="backprop gave -?0,"):
        check_gradients(constant, normal(3))


def test_a_derivative_of_the_wrong_shape_is_caught():
    def unsummed(b, dy):
        return dy

    with pytest.raises(GradientMismatch, match=r"derivative of add has shape \(3, 4\).*\(4,\)"):
        check_gradients(add(unsummed), normal(3, 4), normal(4))


def test_a_mistake_in_any_argument_is_caught():
    def scaled(a, b, c):
        return record(
            a.data + b.data + c.data, (a, b, c),
            lambda dy, y: dy, lambda dy, y: dy, lambda dy, y: dy * 2.0,
        )

    with pytest.raises(GradientMismatch, match=r"argument 2 \(c\).*ratio 2\)"):
        check_gradients(scaled, normal(3), normal(3), normal(3))


# ---------------------------------------------------------------- what the message names


def message(function, *inputs, **options):
    with pytest.raises(GradientMismatch) as caught:
        check_gradients(function, *inputs, **options)
    found, hint = str(caught.value).split("\n")
    assert hint.startswith("hint: ")
    return found


def test_the_message_names_function_order_argument_and_ratio():
    operation, _, wrong, inputs = PLANTED["softmax, seven times too much"]
    assert re.fullmatch(
        r"softmax, first derivative by argument 0 \(x\) at index \(\d, \d\) of shape \(3, 4\): "
        r"backprop gave \S+, finite differences \S+ \(ratio 7\)",
        message(operation(wrong), *inputs),
    )


def test_the_message_names_the_number_that_is_most_wrong():
    def one_wrong(x):
        factor = numpy.ones((4, 5))
        factor[2, 3], factor[0, 1] = 300, 1.5
        return record(x.data * 2, (x,), lambda dy, y: dy * 2 * Tensor(factor))

    text = message(one_wrong, normal(4, 5))
    gave, measured = re.search(r"gave (\S+), finite differences (\S+) ", text).groups()
    assert "at index (2, 3) of shape (4, 5)" in text and "(ratio 300)" in text
    assert float(gave) == pytest.approx(300 * float(measured), rel=1e-6)


def test_the_message_names_a_scalar_argument():
    wrong = tanh(lambda dy, y: dy)
    assert "argument 0 (x) at index () of shape ()" in message(wrong, numpy.array(0.5))


def test_the_message_names_the_second_derivative_and_by_what():
    def half(dy, y):
        return dy * (1 - y * y.detach())

    text = message(tanh(half), normal(3))
    assert text.startswith("tanh, second derivative by argument 0 (x) at index (")
    assert "(ratio 0.5)" in text

    def ignores_dy(dy, y):
        return dy.detach() * (1 - y * y)

    assert "second derivative by the incoming gradient" in message(tanh(ignores_dy), normal(3))


def test_arguments_without_a_name_are_numbered():
    def wrong(*tensors):
        return tensors[0] + tanh(lambda dy, y: dy)(tensors[1])

    assert "first derivative by argument 1 at index" in message(wrong, normal(3), normal(3))


# ---------------------------------------------------------------- Modules


class Wrong(Module):
    """A layer whose gradient by the shift is three times too much."""

    def __init__(self):
        self.inner = Dense(3, 2)

    def forward(self, x):
        shift = self.inner.bias
        triple = record(shift.data, (shift,), lambda dy, y: dy * 3.0)
        return matmul(x, self.inner.weight) + triple


def test_a_module_is_checked_by_its_parameters_under_their_names():
    text = message(Wrong(), normal(4, 3))
    assert text.startswith("Wrong, first derivative by inner.bias at index (")
    assert "of shape (2,)" in text and "(ratio 3)" in text


def test_a_module_whose_input_gradient_is_wrong_names_the_argument():
    class Bad(Dense):
        def forward(self, x):
            return super().forward(tanh(lambda dy, y: dy)(x))

    assert message(Bad(3, 2), normal(4, 3)).startswith("Bad, first derivative by argument 0 (x)")


def test_a_right_network_passes():
    network = Sequential(
        Conv2d(1, 2, kernel=3, stride=2, padding=1, scale=0.5), BatchNorm(2), Tanh(), Flatten(),
        Dense(8, 1),
    )
    check_gradients(network, normal(3, 4, 4, 1))


@pytest.mark.parametrize("right", [True, False])
def test_a_module_gets_everything_back_as_it_was(right):
    network = Sequential(BatchNorm(3), Dense(3, 2) if right else Wrong())
    before, held = network.state(), [p.data for p in network.parameters()]
    if right:
        check_gradients(network, normal(4, 3))
    else:
        message(network, normal(4, 3))
    assert all(p.data is array for p, array in zip(network.parameters(), held, strict=True))
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    after = network.state()
    changed = [name for name in before if not numpy.array_equal(before[name], after[name])]
    assert changed == [] and {array.dtype.name for array in after.values()} == {"float32"}


def test_a_network_in_eval_is_checked_with_its_running_statistics():
    layer = BatchNorm(3)
    layer(Tensor(normal(8, 3)))
    check_gradients(layer.eval(), normal(1, 3))


# ---------------------------------------------------------------- inputs


def test_float32_inputs_are_checked_as_float64():
    check_gradients(exp, normal(3).astype("float32"))
    check_gradients(exp, Tensor(normal(3).astype("float32"), requires_grad=True))


def test_integers_are_passed_on_as_they_are():
    seen = []

    def rows(x, indices):
        seen.append(indices.dtype)
        return functions.select(x, indices)

    check_gradients(rows, normal(3, 2), numpy.array([0, 2, 2]))
    assert set(seen) == {numpy.dtype("int64")}


def test_inputs_and_their_gradients_are_left_alone():
    array = normal(3)
    x = Tensor(array.copy(), requires_grad=True)
    check_gradients(exp, x)
    assert x.grad is None and numpy.array_equal(x.numpy(), array)


def test_without_a_float_there_is_nothing_to_check():
    with pytest.raises(ValueError, match="no input is a float array"):
        check_gradients(lambda i: Tensor(1.0), numpy.array([1, 2]))


def test_an_input_that_has_no_influence_passes():
    check_gradients(lambda a, b: a * 2.0, normal(3), normal(3))


def test_a_function_of_the_loss_kind_passes_to_second_order():
    check_gradients(losses.Minimax().discriminator, normal(4, 1), normal(4, 1, seed=1))


def test_the_global_generator_is_left_alone():
    tinygan.seed(0)
    expected = tinygan.backend.random_normal(3)
    tinygan.seed(0)
    check_gradients(exp, normal(3))
    assert (tinygan.backend.random_normal(3) == expected).all()


# ---------------------------------------------------------------- what cannot be checked


@pytest.mark.parametrize(
    "leak",
    [
        lambda x: Tensor(x.data.astype("float32")),
        lambda x: record(xp.tanh(x.data).astype("float32"), (x,), lambda dy, y: dy),
    ],
)
def test_a_leak_of_float32_is_named(leak):
    with pytest.raises(ValueError, match="returns float32 for float64 inputs: look for a cast"):
        check_gradients(leak, normal(3))


def test_a_function_that_changes_its_input_is_named():
    def in_place(a, b):
        b.data *= 2
        return a + b

    with pytest.raises(ValueError, match="in_place changes its argument 1: work on a copy"):
        check_gradients(in_place, normal(3), normal(3))


def test_a_function_that_draws_random_numbers_is_named():
    with pytest.raises(ValueError, match="Dropout returns different numbers for the same input"):
        check_gradients(Dropout(0.5), normal(30))
    check_gradients(Dropout(0.5).eval(), normal(30))


def test_a_function_that_counts_its_calls_is_named():
    calls = []

    def counting(x):
        calls.append(1)
        return x * float(len(calls))

    with pytest.raises(ValueError, match="counting returns different numbers"):
        check_gradients(counting, normal(3))


def test_a_function_that_uses_grad_can_be_checked():
    def squared_slope(x):  # as in a gradient penalty
        (slopes,) = grad((functions.tanh(x) ** 2).sum(), [x], create_graph=True)
        return (slopes * slopes).sum()

    check_gradients(squared_slope, normal(3))


# ---------------------------------------------------------------- the incoming gradient


def test_the_incoming_gradient_is_not_an_input_that_has_the_same_seed():
    seen = []

    def spy(x):
        return record(xp.exp(x.data), (x,), lambda dy, y: (seen.append(dy.numpy()), dy * y)[1])

    check_gradients(spy, numpy.random.default_rng(0).standard_normal(4), order=1, seed=0)
    assert not numpy.array_equal(seen[0], numpy.random.default_rng(0).standard_normal(4))


def test_frozen_parameters_are_left_out():
    network = Wrong()
    with network.frozen():
        check_gradients(network, normal(4, 3))


# ---------------------------------------------------------------- the command line

STUDENT = '''
import numpy
from tinygan import Tensor, functions
from tinygan.backend import xp
from tinygan.layers import Dense
from tinygan.tensor import record

def product(a: (2, 3), b: (3, 4)):
    return functions.matmul(a, b)

def double(x):
    return record(2 * x.data, (x,), lambda dy, y: dy * FACTOR)

def logarithm(x: numpy.array([0.5, 2.0]), base=2.0):
    return functions.log(x)

def _helper(x):
    raise RuntimeError("not to be checked")

network = Dense(3, 2)
'''


@pytest.fixture
def student(tmp_path):
    """A file of a student's functions, of which double() is right or wrong by the factor."""

    def write(factor=2, code=STUDENT):
        file = tmp_path / "student.py"
        file.write_text(code.replace("FACTOR", str(factor)))
        return str(file)

    return write


def test_a_file_whose_functions_are_right_is_said_to_be_right(student, capsys):
    assert main([student()]) == 0
    *functions_, network = capsys.readouterr().out.splitlines()
    assert functions_ == [
        "right  product: first and second derivative, with (2, 3), (3, 4)",
        "right  double: first and second derivative, with (3, 4)",
        "right  logarithm: first and second derivative, with (2,)",
    ]
    assert network.startswith("passed over  network cannot be called with (3, 4): ShapeError")


def test_a_mistake_in_a_file_is_said_and_gives_status_one(student, capsys):
    assert main([student(4)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "right", "WRONG", "hint:", "right", "passed"]
    assert "double, first derivative by argument 0 (x) at index" in lines[1]
    assert "counted twice" in lines[2]


def test_one_function_or_module_of_a_file_can_be_named(student, capsys):
    assert main([student(4) + ":product", "--order", "1"]) == 0
    assert capsys.readouterr().out == "right  product: first derivative, with (2, 3), (3, 4)\n"
    assert main([student(4) + ":network", "--shape", "4,3"]) == 0
    assert main([student(4) + ":double", "--shape", "2", "--seed", "3"]) == 1


def test_the_command_runs_without_a_warning_of_python(student):
    run = subprocess.run(
        [sys.executable, "-m", "tinygan.gradcheck", student(3)], capture_output=True, text=True
    )
    assert run.returncode == 1 and run.stderr == ""
    assert "everywhere 1.5 times what it should be" in run.stdout


def test_the_help_names_the_convention(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "FILE.py[:function]" in text and "def matmul(a: (2, 3), b: (3, 4))" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "there is no Python file nowhere.py: give FILE.py or FILE.py:function"),
        (["FILE:nothing"], "has no function nothing"),
        (["FILE:network"], "network cannot be called with (3, 4): ShapeError"),
        (["FILE:product", "--shape", "2,x"], "argument --shape: invalid"),
        (["FILE:product", "--shape", "2,3"], "product cannot be called with (2, 3): TypeError"),
        ([], "the following arguments are required"),
    ],
)
def test_bad_usage_gives_one_sentence_and_status_two(student, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([argument.replace("FILE", student()) for argument in arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [("def f(:", "does not load: SyntaxError"), ("import missing_thing", "ModuleNotFoundError"),
     ("x = 1", "has no function whose name")],
)
def test_a_file_that_cannot_be_used_gives_status_two(student, capsys, code, message):
    with pytest.raises(SystemExit) as stop:
        main([student(code=code)])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


EVERY_KIND = """
import functools, sys
from tinygan import Tensor, functions
from tinygan.functions import exp
from tinygan.layers import Module, Parameter
from tinygan.tensor import record

def double(x, factor=2):
    return record(2 * x.data, (x,), lambda dy, y: dy * factor)

class Remembering:
    def __init__(self, function):
        self.function = function
    def __call__(self, x):
        return self.function(x)

@Remembering
def in_an_object(x):
    return double(x, 3)

def logged(function):
    @functools.wraps(function)
    def inner(*inputs):
        return function(*inputs)
    return inner

@logged
def wrapped(x):
    return double(x, 3)

partly = functools.partial(double, factor=3)

class Layer(Module):
    def __init__(self):
        self.weight = Parameter([[2.0], [1.0]])
    def forward(self, x: (3, 2)):
        return double(x, 3) @ self.weight

layer = Layer()

def needs_a_path(path):
    return open(path)

def gives_a_number(x):
    return 3.0

def stops(x):
    sys.exit(0)

def main():
    raise AssertionError("main() was run")

def after(x):
    return double(x)

if __name__ == "__main__":
    main()
sys.exit(0)
"""


def test_every_kind_of_function_is_checked_or_named_with_the_reason(student, capsys):
    assert main([student(code=EVERY_KIND)]) == 1
    out = capsys.readouterr().out
    found = {words[1].rstrip(":,"): words[0] for line in out.splitlines()
             if (words := line.replace("passed over", "passed").split())[0] != "hint:"}
    wrong = [line.split(",")[0].split()[1] for line in out.splitlines() if line[:5] == "WRONG"]
    assert len(wrong) == 4 and {"wrapped", "Layer"} <= set(wrong)
    assert found["double"] == found["after"] == "right"
    for name, reason in {
        "needs_a_path": "cannot be called with (3, 4): TypeError",
        "gives_a_number": "gives a float, not a Tensor", "stops": "SystemExit",
        "main": "takes no inputs", "Layer": "is a class: give an object of it a name",
    }.items():
        line = next(line for line in out.splitlines() if line.startswith(f"passed over  {name} "))
        assert reason in line
    assert "ends itself with sys.exit()" in out and "exp" not in found


@pytest.mark.parametrize("code", ["import sys\nsys.exit()", "def main():\n    pass",
                                  "def f(x):\n    return 1", "from tinygan.functions import exp"])
def test_where_nothing_was_checked_the_status_is_two(student, capsys, code):
    with pytest.raises(SystemExit) as stop:
        main([student(code=code)])
    assert stop.value.code == 2 and "student.py" in capsys.readouterr().err


# ---------------------------------------------------------------- what public reports name


def reciprocal(x):
    """1/x, whose derivative is 10 % too large for |x| > 1."""
    return record(1 / x.data, (x,), lambda dy, y: -dy / (x * x) * (1 + 0.1 * (abs(x) > 1.0)))


def wave(x, phase=0.0, size=1.0, factor=1024 * numpy.pi):
    return record(size * numpy.sin(factor * x.data + phase), (x,),
                  lambda dy, y: dy * wave(x, phase + numpy.pi / 2, size * factor))


@pytest.mark.parametrize("seed", range(5))
def test_a_small_gradient_beside_a_large_one_is_judged_too(seed):
    with pytest.raises(GradientMismatch, match=r"index \(1,\)") as found:
        check_gradients(reciprocal, numpy.array([0.002, 2.0]), seed=seed)
    assert "transposed" not in str(found.value)  # which a vector cannot be
    images = numpy.random.default_rng(seed).uniform(0.1, 2, (28, 28))
    with pytest.raises(GradientMismatch):
        check_gradients(reciprocal, images, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_what_curves_much_or_is_large_is_not_accused(seed):
    x, b = numpy.random.default_rng(seed).standard_normal((2, 6))
    check_gradients(wave, x, seed=seed)
    check_gradients(lambda a, b: a * 1e6 + b, x, b, seed=seed)
    check_gradients(lambda x: x**8, 3 * x, seed=seed)
    check_gradients(functions.log, numpy.array([1e-3, 0.1, 2.0]), seed=seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_one_percent_is_found(seed, scale):
    x = numpy.random.default_rng(seed).standard_normal((4, 5)) * scale
    with pytest.raises(GradientMismatch):
        check_gradients(lambda x: record(x.data**2, (x,), lambda dy, y: dy * x * 2.02), x)


def test_one_wrong_number_of_784_is_found():
    factor = numpy.full(784, 3.0)
    factor[300] = 3.03
    x = numpy.random.default_rng(0).standard_normal(784)
    with pytest.raises(GradientMismatch, match=r"\(300,\)"):
        check_gradients(lambda x: record(x.data * 3, (x,), lambda dy, y: dy * Tensor(factor)), x)
