"""The optimizers against their written-out formulas, their state, and who is moved by a step."""

import copy

import numpy
import pytest

import tinygan
from tinygan import Tensor, losses, no_grad
from tinygan.backend import random_normal, to_device, to_host
from tinygan.layers import Dense, LeakyReLU, Parameter, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.optimizers import BLOCK, SGD, Adam, ExponentialMovingAverage, RMSProp

STEPS = 5


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def sgd(w, gradients, lr=0.1, momentum=0.0):
    v = 0
    for g in gradients:
        v = momentum * v + g
        w = w - lr * v
    return w


def rmsprop(w, gradients, lr=0.1, decay=0.99, epsilon=1e-8):
    v = 0
    for g in gradients:
        v = decay * v + (1 - decay) * g**2
        w = w - lr * g / (numpy.sqrt(v) + epsilon)
    return w


def adam(w, gradients, lr=0.1, betas=(0.5, 0.999), epsilon=1e-8):
    m = v = 0
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        w = w - lr * m_hat / (numpy.sqrt(v_hat) + epsilon)
    return w


OPTIMIZERS = {
    "SGD": (SGD, sgd, {}),
    "SGD with momentum": (SGD, sgd, {"momentum": 0.9}),
    "RMSProp": (RMSProp, rmsprop, {}),
    "RMSProp, other constants": (RMSProp, rmsprop, {"decay": 0.5, "epsilon": 0.1}),
    "Adam": (Adam, adam, {}),
    "Adam, other constants": (Adam, adam, {"betas": (0.9, 0.99), "epsilon": 0.1}),
}
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)
kinds = pytest.mark.parametrize("kind", [SGD, RMSProp, Adam])


def stepped(name, w, gradients, lr=0.1):
    """The numbers of a parameter after one step for each gradient."""
    kind, _, options = OPTIMIZERS[name]
    parameter = Parameter(to_device(w.copy()))
    optimizer = kind([parameter], lr, **options)
    for gradient in gradients:
        parameter.grad = Tensor(gradient)
        optimizer.step()
    return parameter.numpy()


# ---------------------------------------------------------------- formulas


@optimizers
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 2, 3, 1)])
def test_several_steps_are_those_of_the_formula(name, shape):
    _, formula, options = OPTIMIZERS[name]
    w, gradients = normal(*shape), [normal(*shape, seed=i + 1) for i in range(STEPS)]
    expected = formula(w, gradients, **options)
    numpy.testing.assert_allclose(stepped(name, w, gradients), expected, rtol=1e-12)


@optimizers
@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_long_arrays_move_to_their_last_number(name, size):
    _, formula, options = OPTIMIZERS[name]
    w, gradients = normal(size), [normal(size, seed=i + 1) for i in range(2)]
    expected = formula(w, gradients, **options)
    numpy.testing.assert_allclose(stepped(name, w, gradients), expected, rtol=1e-9)


@optimizers
def test_a_gradient_may_lie_in_memory_as_it_likes(name):
    _, formula, options = OPTIMIZERS[name]
    w = normal(2, BLOCK)
    gradients = [
        normal(BLOCK, 2, seed=1).T,
        numpy.broadcast_to(normal(BLOCK, seed=2), w.shape),
        normal(4, BLOCK, seed=3)[::2],
    ]
    expected = formula(w, gradients, **options)
    numpy.testing.assert_allclose(stepped(name, w, gradients), expected, rtol=1e-9)


@optimizers
def test_a_parameter_may_lie_in_memory_as_it_likes(name):
    _, formula, options = OPTIMIZERS[name]
    w, gradients = normal(4, 3), [normal(3, 4, seed=i + 1) for i in range(3)]
    kind = OPTIMIZERS[name][0]
    parameter = Parameter(to_device(w.copy()).T)
    optimizer = kind([parameter], 0.1, **options)
    for gradient in gradients:
        parameter.grad = Tensor(gradient)
        optimizer.step()
    expected = formula(w.T, gradients, **options)
    numpy.testing.assert_allclose(parameter.numpy(), expected, rtol=1e-12)


@optimizers
def test_a_step_leaves_the_gradient_as_it_was(name):
    gradient = normal(3, 4, seed=1)
    before = gradient.copy()
    stepped(name, normal(3, 4), [gradient, gradient])
    assert numpy.array_equal(gradient, before)


def test_the_first_step_of_adam_is_the_learning_rate_whatever_the_gradient():
    # Kingma and Ba 2015, section 2.1: |m'| / sqrt(v') is 1 in the first step.
    for size in (1e-3, 1.0, 1e3):
        moved = stepped("Adam", numpy.zeros(2), [numpy.array([size, -size])], lr=0.01)
        numpy.testing.assert_allclose(moved, [-0.01, 0.01], rtol=1e-4)


def test_the_constants_of_adam_are_those_for_gans_unless_given():
    optimizer = Adam([Parameter(numpy.zeros(1))], 1e-3)
    assert optimizer.betas == (0.5, 0.999) and optimizer.epsilon == 1e-8


@optimizers
@pytest.mark.filterwarnings("error")
def test_a_gradient_of_zero_moves_nothing(name):
    w = normal(3, 4)
    assert numpy.array_equal(stepped(name, w, [numpy.zeros((3, 4))] * 2), w)


@kinds
def test_a_step_goes_downhill(kind):
    w = Parameter(to_device(numpy.array([3.0, -2.0])))
    optimizer = kind([w], 0.01)
    for _ in range(1000):
        optimizer.zero_grad()
        ((w - 1.0) ** 2).sum().backward()
        optimizer.step()
    numpy.testing.assert_allclose(w.numpy(), [1, 1], atol=0.02)


@kinds
def test_the_learning_rate_can_be_changed_on_the_way(kind):
    w = Parameter(to_device(numpy.zeros(1)))
    optimizer = kind([w], 1.0)
    w.grad = Tensor(numpy.ones(1))
    optimizer.lr = 1e-6
    optimizer.step()
    assert 0 < abs(w.numpy()[0]) < 1e-4


# ---------------------------------------------------------------- parameters and gradients


@optimizers
def test_a_step_moves_every_parameter(name):
    kind, _, options = OPTIMIZERS[name]
    network = Sequential(Dense(3, 4), BatchNorm(4), LeakyReLU(), Dense(4, 2))
    before = network.state()
    optimizer = kind(network.parameters(), 0.1, **options)
    (network(Tensor(normal(5, 3).astype("float32"))) ** 2 * Tensor([1.0, 2.0])).sum().backward()
    network.layers[0].bias.grad += 1.0  # BatchNorm takes the mean away, and with it a bias before
    optimizer.step()
    for parameter, array in network.named_parameters().items():
        assert (network.state()[parameter] != before[parameter]).all(), parameter
        assert array.dtype == "float32"


@kinds
def test_a_missing_gradient_names_the_parameter(kind):
    parameters = [Parameter(numpy.zeros(2)), Parameter(numpy.zeros((3, 4)))]
    optimizer = kind(parameters, 0.1)
    parameters[0].grad = Tensor(numpy.ones(2))
    with pytest.raises(ValueError, match=r"parameter 1, of shape \(3, 4\).*backward\(\)"):
        optimizer.step()


@kinds
def test_after_a_missing_gradient_nothing_has_moved(kind):
    parameters = [Parameter(numpy.zeros(2)), Parameter(numpy.zeros(2))]
    optimizer = kind(parameters, 0.1)
    before = optimizer.state()
    parameters[0].grad = Tensor(numpy.ones(2))
    with pytest.raises(ValueError, match="parameter 1"):
        optimizer.step()
    assert not parameters[0].numpy().any()
    for name, array in optimizer.state().items():
        assert numpy.array_equal(array, before[name])


@kinds
def test_zero_grad_forgets_the_gradients(kind):
    parameter = Parameter(numpy.zeros(2))
    parameter.grad = Tensor(numpy.ones(2))
    kind([parameter], 0.1).zero_grad()
    assert parameter.grad is None


@kinds
def test_an_optimizer_of_nothing_is_an_error(kind):
    with pytest.raises(ValueError, match=r"network\.parameters\(\)"):
        kind([], 0.1)


@kinds
@pytest.mark.parametrize("lr", [0, -0.1, float("nan")])
def test_a_learning_rate_that_is_not_above_zero_is_an_error(kind, lr):
    with pytest.raises(ValueError, match=f"above 0, not {lr}"):
        kind([Parameter(numpy.zeros(1))], lr)


@pytest.mark.parametrize(("kind", "extra"), [(SGD, 0.9), (RMSProp, 0.9), (Adam, (0.9, 0.999))])
def test_everything_after_the_learning_rate_is_named(kind, extra):
    with pytest.raises(TypeError, match="positional"):
        kind([Parameter(numpy.zeros(1))], 0.1, extra)


# ---------------------------------------------------------------- state


@optimizers
def test_a_run_that_goes_on_from_its_state_has_the_same_bits(name):
    kind, _, options = OPTIMIZERS[name]
    gradients = [normal(3, 4, seed=i).astype("float32") for i in range(6)]

    def run(optimizer, parameter, gradients):
        for gradient in gradients:
            parameter.grad = Tensor(gradient)
            optimizer.step()

    whole = Parameter(random_normal(3, 4))
    first = Parameter(to_device(whole.numpy().copy()))
    run(kind([whole], 0.1, **options), whole, gradients)

    before = kind([first], 0.1, **options)
    run(before, first, gradients[:3])
    second = Parameter(to_device(first.numpy().copy()))
    after = kind([second], 0.1, **options)
    after.load_state(copy.deepcopy(before.state()))
    run(before, first, gradients[:1])  # the one it came from goes its own way
    run(after, second, gradients[3:])
    assert numpy.array_equal(second.numpy(), whole.numpy())


@kinds
def test_state_counts_the_steps_and_is_a_copy(kind):
    parameter = Parameter(random_normal(3))
    optimizer = kind([parameter], 0.1)
    before = optimizer.state()
    parameter.grad = Tensor(normal(3))
    optimizer.step()
    assert before["steps"] == 0 and optimizer.state()["steps"] == 1
    assert all(not array.any() for array in before.values())
    assert all(array.all() for array in optimizer.state().values())


@kinds
def test_a_state_of_other_parameters_is_an_error_that_names_the_array(kind):
    optimizer = kind([Parameter(numpy.zeros(2)), Parameter(numpy.zeros(3))], 0.1)
    other = kind([Parameter(numpy.zeros(2)), Parameter(numpy.zeros(4))], 0.1)
    other.steps = 9
    with pytest.raises(ValueError, match=rf"{kind.__name__}: '.*\.1' is .*\(4,\).*\(3,\)"):
        optimizer.load_state(other.state())
    assert optimizer.state()["steps"] == 0


def test_a_state_of_another_optimizer_is_an_error():
    parameters = [Parameter(numpy.zeros(2))]
    with pytest.raises(ValueError, match="Adam needs an array"):
        Adam(parameters, 0.1).load_state(SGD(parameters, 0.1).state())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@optimizers
def test_weights_and_memory_keep_their_dtype(name, dtype):
    kind, _, options = OPTIMIZERS[name]
    parameter = Parameter(normal(3).astype(dtype))
    optimizer = kind([parameter], numpy.float64(0.1), **options)
    parameter.grad = Tensor(normal(3, seed=1).astype(dtype))
    optimizer.step()
    arrays = [array for key, array in optimizer.state().items() if key != "steps"]
    assert {array.dtype.name for array in [parameter.data, *arrays]} == {dtype}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_is_given_twice_moves_once(name):
    kind, _, options = OPTIMIZERS[name]
    once, twice = Parameter(normal(3)), Parameter(normal(3))
    for parameter, optimizer in [(once, kind([once], 0.1, **options)),
                                 (twice, kind([twice, twice, twice], 0.1, **options))]:
        parameter.grad = Tensor(normal(3, seed=1))
        optimizer.step()
    assert numpy.array_equal(once.numpy(), twice.numpy())


# ---------------------------------------------------------------- the moving average


def test_a_layer_that_is_used_three_times_is_averaged_once():
    layer = Dense(2, 2)
    network = Sequential(layer, Tanh(), layer, Tanh(), layer)
    network.again = {"same": [layer]}
    average = ExponentialMovingAverage(network, decay=0.5)
    before = layer.weight.numpy().copy()
    layer.weight.data += 1.0
    average.update()
    after = average.network.layers[0].weight.numpy()
    numpy.testing.assert_allclose(after, before + 9 / 11, atol=1e-6)  # d is 2 / 11 at first


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_what_has_no_average_is_taken_over(dtype):
    network = Sequential(Dense(2, 2))
    network.seen = Tensor(numpy.array([1, 0], dtype))
    average = ExponentialMovingAverage(network, decay=0.5)
    network.seen.data[...] = to_device(numpy.array([0, 1], dtype))
    average.update()
    seen = average.network.seen
    assert seen.dtype == dtype and seen.numpy().tolist() == [0, 1]
    again = ExponentialMovingAverage(network, decay=0.5)
    again.load_state(average.state())
    assert again.network.seen.numpy().tolist() == [0, 1]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_follows_weights_and_statistics_by_its_formula(decay):
    network = Sequential(Dense(3, 4), BatchNorm(4))
    average = ExponentialMovingAverage(network, decay=decay)
    expected = {name: array.astype("float64") for name, array in network.state().items()}
    for step in range(1, STEPS + 1):
        d = min(decay, (1 + step) / (10 + step))
        for i, tensor in enumerate(network.named_tensors().values()):
            tensor.data += to_device(normal(*tensor.shape, seed=10 * step + i))
        average.update()
        for name, array in network.state().items():
            expected[name] += (1 - d) * (array - expected[name])
    for name, array in average.network.state().items():
        numpy.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert array.dtype == "float32"


def test_the_average_reaches_the_last_number_of_a_long_array():
    network = Dense(300, 2 * BLOCK // 300 + 1)
    average = ExponentialMovingAverage(network, decay=0.5)
    before = network.weight.numpy().copy()
    network.weight.data += 1.0
    average.update()
    after = average.network.weight.numpy()
    numpy.testing.assert_allclose(after, before + 9 / 11, atol=1e-6)  # d is 2 / 11 at first


def test_the_average_starts_as_a_copy_at_rest():
    network = Sequential(Dense(3, 4), BatchNorm(4))
    average = ExponentialMovingAverage(network).network
    assert network.training and not average.training and not average.layers[1].training
    for name, array in average.state().items():
        assert numpy.array_equal(array, network.state()[name])
    before = average.state()
    for tensor in network.named_tensors().values():
        tensor.data += 1.0
    for name, array in average.state().items():
        assert numpy.array_equal(array, before[name])


def test_the_average_follows_what_load_state_gave_the_network():
    network = Dense(2, 1)
    average = ExponentialMovingAverage(network, decay=0.0)
    network.load_state({name: array + 5 for name, array in network.state().items()})
    average.update()
    assert numpy.array_equal(average.network.weight.numpy(), network.weight.numpy())


def test_an_average_that_goes_on_from_its_state_has_the_same_bits():
    network = Sequential(Dense(3, 4), BatchNorm(4))
    whole, before = ExponentialMovingAverage(network), ExponentialMovingAverage(network)

    def move(*averages):
        for tensor in network.named_tensors().values():
            tensor.data += random_normal(*tensor.shape)
        for average in averages:
            average.update()

    for _ in range(3):
        move(whole, before)
    after = ExponentialMovingAverage(network)
    after.load_state(before.state())
    for _ in range(3):
        move(whole, after)
    for name, array in whole.state().items():
        assert numpy.array_equal(array, after.state()[name])
    assert whole.state()["steps"] == 6


def test_a_state_of_another_network_is_an_error_that_changes_nothing():
    average = ExponentialMovingAverage(Dense(2, 1))
    before = average.state()
    with pytest.raises(ValueError, match=r"'weight' is float32 of shape \(3, 1\)"):
        average.load_state(ExponentialMovingAverage(Dense(3, 1)).state())
    with pytest.raises(ValueError, match="needs an array 'steps'"):
        average.load_state({name: a + 1 for name, a in before.items() if name != "steps"})
    for name, array in average.state().items():
        assert numpy.array_equal(array, before[name])


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5])
def test_a_decay_that_is_no_share_is_an_error(decay):
    with pytest.raises(ValueError, match=f"decay is from 0 to below 1, not {decay}"):
        ExponentialMovingAverage(Dense(2, 1), decay=decay)


# ---------------------------------------------------------------- a tiny GAN


class TinyGAN:
    """G and D, two dense layers each, and their two steps as in the demos."""

    def __init__(self, game=losses.NonSaturating, kind=Adam):
        self.G = Sequential(Dense(2, 8), LeakyReLU(), Dense(8, 2), Tanh())
        self.D = Sequential(Dense(2, 8), LeakyReLU(), Dense(8, 1))
        self.game = game()
        self.of_g, self.of_d = kind(self.G.parameters(), 0.01), kind(self.D.parameters(), 0.01)
        self.real = Tensor(random_normal(16, 2) * 0.1)

    def latents(self):
        return Tensor(random_normal(16, 2))

    def step_d(self):
        fake = self.G(self.latents()).detach()
        loss = self.game.discriminator(self.D(self.real), self.D(fake))
        self.of_d.zero_grad()
        loss.backward()
        self.of_d.step()
        return loss.item()

    def step_g(self):
        with self.D.frozen():
            loss = self.game.generator(self.D(self.G(self.latents())))
        self.of_g.zero_grad()
        loss.backward()
        self.of_g.step()
        return loss.item()


def moved(network, before):
    return [bool((array != before[name]).any()) for name, array in network.state().items()]


# The last bias of D shifts both logits alike: Wasserstein's critic does not feel it.
@pytest.mark.parametrize("game", [losses.Minimax, losses.NonSaturating, losses.LeastSquares])
@kinds
def test_a_step_of_d_moves_d_alone_and_a_step_of_g_moves_g_alone(game, kind):
    gan = TinyGAN(game, kind)
    g, d = gan.G.state(), gan.D.state()
    gan.step_d()
    assert moved(gan.G, g) == [False] * 4 and moved(gan.D, d) == [True] * 4
    g, d = gan.G.state(), gan.D.state()
    gan.step_g()
    assert moved(gan.G, g) == [True] * 4 and moved(gan.D, d) == [False] * 4


@kinds
def test_without_detach_and_frozen_only_the_gradients_differ(kind):
    careful, careless = TinyGAN(kind=kind), TinyGAN(kind=kind)
    for part in ("G", "D"):
        getattr(careless, part).load_state(getattr(careful, part).state())
    careless.real = careful.real
    tinygan.seed(5)
    careful.step_d(), careful.step_g()
    tinygan.seed(5)
    fake = careless.G(careless.latents())
    careless.of_d.zero_grad()
    careless.game.discriminator(careless.D(careless.real), careless.D(fake)).backward()
    assert careless.G.layers[0].weight.grad.numpy().any()  # computed for nothing
    careless.of_d.step()
    careless.of_g.zero_grad()
    careless.game.generator(careless.D(careless.G(careless.latents()))).backward()
    careless.of_g.step()
    for part in ("G", "D"):
        expected = getattr(careful, part).state()
        for name, array in getattr(careless, part).state().items():
            assert numpy.array_equal(array, expected[name])


def test_the_same_seed_gives_the_same_run():
    def run():
        tinygan.seed(4)
        gan = TinyGAN()
        numbers = [(gan.step_d(), gan.step_g()) for _ in range(5)]
        return numbers, gan.G.state()

    (first, g), (second, h) = run(), run()
    assert first == second and all(numpy.array_equal(g[name], h[name]) for name in g)


def test_the_generator_learns_where_the_data_are():
    gan = TinyGAN()
    gan.real = Tensor(random_normal(16, 2) * 0.05 + to_device(numpy.float32([0.6, -0.6])))

    def distance():
        with no_grad():
            return numpy.linalg.norm(to_host(gan.G(gan.latents()).data).mean(0) - [0.6, -0.6])

    before = distance()
    for _ in range(300):
        gan.step_d()
        gan.step_g()
    assert distance() < before / 2
