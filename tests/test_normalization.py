"""The norms: their values, their statistics, the fused form, and spectral norm of weights."""

import copy

import numpy
import pytest

import tinygan
from tinygan import Tensor, check_gradients, grad
from tinygan.backend import to_device
from tinygan.convolution import conv2d
from tinygan.functions import ShapeError
from tinygan.layers import Conv2d, ConvTranspose2d, Dense, Embedding, ReLU, Sequential
from tinygan.normalization import (
    BatchNorm,
    ConditionalBatchNorm,
    InstanceNorm,
    LayerNorm,
    ModulatedConv2d,
    SpectralNorm,
    batch_norm,
    standing_statistics,
)
from tinygan.normalization import normalized as plain
from tinygan.optimizers import SGD


def normal(*shape, seed=0, dtype="float64"):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(dtype)


def use(layer, *arrays):
    return layer(*[Tensor(array) for array in arrays]).numpy()


def normalized(x, axes):
    variance = ((x - x.mean(axes, keepdims=True)) ** 2).mean(axes, keepdims=True)
    return (x - x.mean(axes, keepdims=True)) / numpy.sqrt(variance + 1e-5)


@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 5, 3)])
def test_batch_norm_normalizes_each_feature_over_the_batch(shape):
    layer, x = BatchNorm(3), normal(*shape) * 3 + 5
    layer.scale.data[...] = to_device(numpy.array([1.0, 2.0, -3.0]))
    layer.shift.data[...] = to_device(numpy.array([0.0, 1.0, 2.0]))
    expected = normalized(x, tuple(range(len(shape) - 1))) * [1, 2, -3] + [0, 1, 2]
    numpy.testing.assert_allclose(use(layer, x), expected, rtol=1e-10, atol=1e-10)


def test_batch_norm_is_exact_far_from_zero():
    x = normal(1000, 2)
    y = use(BatchNorm(2), (x + 1000).astype("float32"))  # where E x^2 - (E x)^2 would be noise
    numpy.testing.assert_allclose(y, normalized(x, 0), atol=1e-3)


def test_batch_norm_treats_pixels_as_rows():
    x = normal(2, 4, 5, 3)
    dense, images = BatchNorm(3), BatchNorm(3)
    by_pixel, by_image = use(dense, x.reshape(-1, 3)), use(images, x)
    assert numpy.array_equal(by_pixel, by_image.reshape(-1, 3))
    for name, array in dense.state().items():
        assert numpy.array_equal(array, images.state()[name])


@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_running_statistics_follow_the_batches(momentum):
    layer = BatchNorm(3, momentum=momentum)
    mean, variance = numpy.zeros(3), numpy.ones(3)
    for seed in range(4):
        x = normal(8, 3, seed=seed) * 2 + [1, 2, 3]
        use(layer, x)
        mean += momentum * (x.mean(0) - mean)
        variance += momentum * (x.var(0, ddof=1) - variance)  # the paper's algorithm 2, step 10
    numpy.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=1e-5)
    numpy.testing.assert_allclose(layer.running_variance.numpy(), variance, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1), (32, 1), (2, 4, 4, 1)])
def test_the_running_variance_is_the_unbiased_one(shape):
    layer, x = BatchNorm(1, momentum=1.0), normal(*shape)
    y = use(layer, x)
    numpy.testing.assert_allclose(layer.running_variance.numpy(), [x.var(ddof=1)], rtol=1e-5)
    numpy.testing.assert_allclose(y, (x - x.mean()) / numpy.sqrt(x.var() + 1e-5), rtol=1e-5)


def test_batch_norm_in_eval_uses_its_running_statistics_and_leaves_them():
    layer = BatchNorm(2, epsilon=0.5).eval()
    layer.running_mean.data[...] = to_device(numpy.array([1.0, -2.0]))
    layer.running_variance.data[...] = to_device(numpy.array([3.5, 8.5]))
    layer.scale.data[...] = to_device(numpy.array([4.0, 6.0]))
    layer.shift.data[...] = to_device(numpy.array([0.5, 0.25]))
    before, x = layer.state(), normal(5, 2)
    expected = (x - [1, -2]) / [2, 3] * [4, 6] + [0.5, 0.25]
    numpy.testing.assert_allclose(use(layer, x), expected, rtol=1e-6, atol=1e-6)
    for name, array in layer.state().items():
        assert numpy.array_equal(array, before[name])


def test_in_eval_an_image_does_not_depend_on_its_batch():
    layer, x = BatchNorm(3), normal(4, 3)
    use(layer, x)
    layer.eval()
    assert numpy.array_equal(use(layer, x)[:1], use(layer, x[:1]))


def test_batch_norm_of_one_row_is_an_error_that_names_eval():
    with pytest.raises(ShapeError, match=r"\(1, 3\).*eval\(\)"):
        use(BatchNorm(3), normal(1, 3))


def test_batch_norm_of_other_features_names_both_lengths():
    with pytest.raises(ShapeError, match=r"BatchNorm\(3\).*\(2, 4\)"):
        use(BatchNorm(3), normal(2, 4))


@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 5, 3)])
def test_layer_norm_normalizes_each_example_by_itself(shape):
    layer, x = LayerNorm(3), normal(*shape) * 3 + 5
    layer.scale.data[...] = to_device(numpy.array([1.0, 2.0, -3.0]))
    layer.shift.data[...] = to_device(numpy.array([0.0, 1.0, 2.0]))
    expected = normalized(x, tuple(range(1, len(shape)))) * [1, 2, -3] + [0, 1, 2]
    numpy.testing.assert_allclose(use(layer, x), expected, rtol=1e-10)
    assert numpy.array_equal(use(layer, x)[:1], use(layer, x[:1]))


def test_layer_norm_of_other_features_is_an_error():
    with pytest.raises(ShapeError, match=r"\(2, 1\)"):
        use(LayerNorm(3), normal(2, 1))


def test_instance_norm_normalizes_each_channel_of_each_image():
    layer, x = InstanceNorm(), normal(3, 4, 5, 2) * 3 + 5
    numpy.testing.assert_allclose(use(layer, x), normalized(x, (1, 2)), rtol=1e-10)
    numpy.testing.assert_allclose(use(layer, x)[:1], use(layer, x[:1]), rtol=1e-12)
    numpy.testing.assert_allclose(use(layer.eval(), x), normalized(x, (1, 2)), rtol=1e-10)
    assert layer.state() == {} and use(layer, x.astype("float32")).dtype == "float32"


@pytest.mark.parametrize("shape", [(3, 1, 1, 2), (3, 4), (3, 4, 5)])
def test_instance_norm_of_what_is_no_image_is_an_error(shape):
    with pytest.raises(ShapeError, match=f"InstanceNorm.*{shape[0]}, {shape[1]}"):
        use(InstanceNorm(), normal(*shape))


def test_instance_norm_has_right_gradients():
    check_gradients(InstanceNorm(), normal(2, 2, 3, 2) * 2 + 1)


@pytest.mark.parametrize("demodulate", [True, False])
def test_a_modulated_convolution_has_a_weight_for_each_image(demodulate):
    layer = ModulatedConv2d(3, 4, latent=5, demodulate=demodulate)
    layer.bias.data[...] = to_device(normal(4))
    x, w = normal(2, 6, 5, 3), normal(2, 5, seed=1)
    made = use(layer, x, w)
    styles = w @ layer.style.weight.numpy() + layer.style.bias.numpy() + 1
    for image, style, y in zip(x, styles, made, strict=True):
        weight = layer.weight.numpy() * style[:, None]
        if demodulate:
            weight /= numpy.sqrt((weight**2).sum(axis=(0, 1, 2)) + 1e-8)
        expected = conv2d(Tensor(image[None]), Tensor(weight), padding=1).numpy()[0]
        numpy.testing.assert_allclose(y, expected + layer.bias.numpy(), rtol=1e-6, atol=1e-6)


def test_demodulated_numbers_are_as_large_whatever_weight_and_style():
    for factor in (1, 50):
        layer = ModulatedConv2d(32, 32, latent=4)
        layer.weight.data *= factor
        y = use(layer, normal(4, 16, 16, 32), factor * normal(4, 4, seed=1))
        assert y[:, 1:-1, 1:-1].std() == pytest.approx(1, rel=0.1)


# ---------------------------------------------------------------- plain and fused


INPUTS = [normal(5, 3) * 2 + 1, normal(3, seed=1), normal(3, seed=2)]


def fused(x, scale, shift):
    return batch_norm(x, scale, shift)[0]


def test_the_plain_formula_is_that_of_numpy():
    x = INPUTS[0]
    numpy.testing.assert_allclose(plain(Tensor(x), 0, 1e-5), normalized(x, 0), rtol=1e-12)


@pytest.mark.parametrize("axes", [0, 1, (0, 1)])
def test_gradients_of_the_plain_formula_to_second_order(axes):
    check_gradients(lambda x: plain(x, axes, 1e-5), INPUTS[0])


def test_gradients_of_the_fused_form_to_second_order():
    check_gradients(fused, *INPUTS)


def test_the_fused_form_gives_mean_and_variance():
    _, mean, variance = batch_norm(*[Tensor(array) for array in INPUTS])
    numpy.testing.assert_allclose(Tensor(mean), INPUTS[0].mean(0), rtol=1e-13)
    numpy.testing.assert_allclose(Tensor(variance), INPUTS[0].var(0), rtol=1e-13)


def test_the_fused_form_is_the_plain_one_in_value_and_two_orders_of_derivatives():
    def in_two_orders(function):
        x, scale, shift = (Tensor(array, requires_grad=True) for array in INPUTS)
        y = function(x, scale, shift)
        weighed = (y * Tensor(normal(5, 3, seed=3))).sum()
        slopes = grad(weighed, [x, scale, shift], create_graph=True)
        curvatures = grad(sum((slope**2).sum() for slope in slopes), [x, scale])
        return [y, *slopes, *curvatures]

    def by_formula(x, scale, shift):
        return plain(x, 0, 1e-5) * scale + shift

    for a, b in zip(in_two_orders(fused), in_two_orders(by_formula), strict=True):
        numpy.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


# ---------------------------------------------------------------- told by a condition


@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 5, 3)])
def test_each_example_gets_its_own_scale_and_shift(shape):
    layer, x, condition = ConditionalBatchNorm(3, 2), normal(*shape), normal(shape[0], 2, seed=1)
    scale, shift = layer.scale.weight.numpy(), layer.shift.weight.numpy()
    assert scale.shape == shift.shape == (2, 3) and (scale != shift).all()
    y, plain_y = use(layer, x, condition), normalized(x, tuple(range(len(shape) - 1)))
    for example, told, expected in zip(y, condition, plain_y, strict=True):
        numpy.testing.assert_allclose(
            example, expected * (1 + told @ scale) + told @ shift, rtol=1e-6, atol=1e-6)


def test_without_a_condition_it_is_batch_norm():
    layer, batch_norm_alone, x = ConditionalBatchNorm(3, 2), BatchNorm(3), normal(4, 2, 2, 3)
    numpy.testing.assert_allclose(
        use(layer, x, numpy.zeros((4, 2))), use(batch_norm_alone, x), rtol=1e-12)
    state = layer.state()
    assert len(layer.parameters()) == 2
    for name in ("running_mean", "running_variance"):
        assert numpy.array_equal(state[f"normalized.{name}"], batch_norm_alone.state()[name])
    layer.eval(), batch_norm_alone.eval()
    numpy.testing.assert_allclose(
        use(layer, x, numpy.zeros((4, 2))), use(batch_norm_alone, x), rtol=1e-6)


def test_gradients_by_the_input_and_the_condition_to_second_order():
    layer = ConditionalBatchNorm(2, 3)
    check_gradients(layer, normal(4, 2), normal(4, 3, seed=1))
    wrapped = ConditionalBatchNorm(2, 3, wrap=SpectralNorm).eval()
    assert isinstance(wrapped.scale, SpectralNorm) and isinstance(wrapped.shift, SpectralNorm)
    check_gradients(wrapped, normal(2, 1, 2, 2), normal(2, 3, seed=1))


# ---------------------------------------------------------------- standing statistics


def test_standing_statistics_are_the_means_over_the_batches():
    network = Sequential(Dense(2, 3), BatchNorm(3), ReLU(), BatchNorm(3, momentum=0.5))
    batches = [normal(50, 2, seed=seed, dtype="float32") * 2 + 1 for seed in range(4)]
    for _ in range(3):  # what was there before has no part in it
        use(network, normal(50, 2) - 9)
    weights, waiting = network.state(), iter(batches)
    standing_statistics(network, lambda: network(Tensor(next(waiting))), len(batches))
    hidden = [use(network.layers[0], batch) for batch in batches]
    first, second = network.layers[1], network.layers[3]
    numpy.testing.assert_allclose(
        first.running_mean, numpy.mean([h.mean(0) for h in hidden], 0), rtol=1e-5)
    numpy.testing.assert_allclose(
        first.running_variance, numpy.mean([h.var(0, ddof=1) for h in hidden], 0), rtol=1e-5)
    later = [numpy.maximum(normalized(h, 0), 0) for h in hidden]  # as the second layer sees them
    numpy.testing.assert_allclose(
        second.running_mean, numpy.mean([h.mean(0) for h in later], 0), rtol=1e-4)
    assert not any(module.training for module in network.modules())
    assert (first.momentum, second.momentum) == (0.1, 0.5)
    for name, array in network.state().items():
        assert numpy.array_equal(array, weights[name]) == ("running" not in name)
    numpy.testing.assert_allclose(  # so that the samples are normalised, on average
        use(first, numpy.concatenate(hidden)).mean(0), 0, atol=1e-5)


def test_standing_statistics_leave_the_rest_in_eval():
    network = Sequential(SpectralNorm(Dense(2, 3)), BatchNorm(3))
    before = network.layers[0].u.numpy().copy()
    standing_statistics(network, lambda: network(Tensor(normal(8, 2))), 2)
    assert numpy.array_equal(network.layers[0].u.numpy(), before)


# ---------------------------------------------------------------- weights of a spectrum


SPECTRAL = {  # (the layer, what it is given)
    "Dense": (lambda: Dense(4, 3), normal(5, 4)),
    "Conv2d": (lambda: Conv2d(2, 3, kernel=3, padding=1), normal(2, 4, 4, 2)),
    "ConvTranspose2d": (lambda: ConvTranspose2d(3, 2, kernel=4, stride=2, padding=1),
                        normal(2, 3, 3, 3)),
    "Embedding": (lambda: Embedding(5, 3), numpy.array([1, 4, 0])),
}
every_weight = pytest.mark.parametrize("name", SPECTRAL)


def as_matrix(layer):
    weight = layer.weight.numpy()
    return weight.reshape(-1, weight.shape[-1])


def given(array):
    return array if array.dtype.kind == "i" else Tensor(array)


def settled(layer, x, steps=200):
    """The layer after many steps of the power iteration."""
    for _ in range(steps):
        layer(x)
    return layer


@every_weight
def test_the_weight_is_divided_by_its_largest_singular_value(name):
    make, array = SPECTRAL[name]
    plain_layer, x = make(), given(array)
    layer = settled(SpectralNorm(plain_layer), x)
    sigma = numpy.linalg.svd(as_matrix(plain_layer), compute_uv=False)[0]
    assert abs(sigma - 1) > 0.01  # there is something to divide by
    by_hand = copy.deepcopy(plain_layer)
    by_hand.weight.data = by_hand.weight.data / float(sigma)
    for mode in (True, False):
        numpy.testing.assert_allclose(layer.train(mode)(x), by_hand(x), rtol=1e-5, atol=1e-6)


def test_the_bound_is_the_new_largest_singular_value():
    plain_layer, x = Dense(4, 3, bias=False), Tensor(normal(5, 4))
    one, three = (SpectralNorm(plain_layer, bound=bound) for bound in (1.0, 3.0))
    numpy.testing.assert_allclose(
        settled(three, x)(x).numpy(), 3 * settled(one, x)(x).numpy(), rtol=1e-5)


def test_a_step_of_the_power_iteration_is_that_of_the_paper():
    layer, x = SpectralNorm(Dense(4, 3)), Tensor(normal(2, 4))
    weight = layer.layer.weight.numpy()
    u = layer.u.numpy().astype("float64")
    for _ in range(3):
        y = layer(x)
        v = weight @ u / numpy.linalg.norm(weight @ u)
        u = weight.T @ v / numpy.linalg.norm(weight.T @ v)
        numpy.testing.assert_allclose(layer.u.numpy(), u, rtol=1e-5)
    sigma = numpy.linalg.norm(weight @ u)
    numpy.testing.assert_allclose(y, x.numpy() @ (weight / sigma) + layer.layer.bias.numpy(),
                                  rtol=1e-5, atol=1e-6)


def test_only_training_makes_steps():
    layer, x = SpectralNorm(Dense(4, 3)), Tensor(normal(2, 4))
    layer(x)
    before = layer.eval().state()
    first = use(layer, normal(2, 4))
    assert numpy.array_equal(use(layer, normal(2, 4)), first)
    assert all(numpy.array_equal(array, before[name]) for name, array in layer.state().items())


def test_it_goes_on_from_its_state_with_the_same_bits():
    layer, x = SpectralNorm(Dense(4, 3)), normal(2, 4, dtype="float32")
    use(layer, x)
    other = SpectralNorm(Dense(4, 3))
    other.load_state(layer.state())
    assert layer.state().keys() == {"layer.weight", "layer.bias", "u"}
    assert [*layer.named_parameters()] == ["layer.weight", "layer.bias"]
    for _ in range(3):
        assert numpy.array_equal(use(layer, x), use(other, x))


@every_weight
def test_its_gradient_passes_through_sigma(name):
    """In eval u stands still, as for the derivative: to second order by weight and input."""
    make, array = SPECTRAL[name]
    layer = make()
    layer.weight.data = layer.weight.data.astype("float64") + 0.3  # where sigma is well apart
    layer = settled(SpectralNorm(layer), given(array), 5).eval()
    check_gradients(layer, array)


def test_once_settled_its_gradient_is_that_of_the_largest_singular_value():
    layer = Dense(4, 3, bias=False)
    layer.weight.data = to_device(normal(4, 3, seed=2))
    matrix, x = as_matrix(layer).copy(), normal(5, 4)
    norm = settled(SpectralNorm(layer), Tensor(x))
    weights, direction = normal(5, 3, seed=3), normal(4, 3, seed=4)
    (norm(Tensor(x)) * Tensor(weights)).sum().backward()

    def loss(w):
        return (x @ (w / numpy.linalg.svd(w, compute_uv=False)[0]) * weights).sum()

    slope = (loss(matrix + 1e-5 * direction) - loss(matrix - 1e-5 * direction)) / 2e-5
    assert (layer.weight.grad.numpy() * direction).sum() == pytest.approx(slope, rel=1e-6)
    # As a constant, sigma would leave this: another number.
    sigma = numpy.linalg.svd(matrix, compute_uv=False)[0]
    assert abs((x.T @ weights / sigma * direction).sum() - slope) > 0.1 * abs(slope)


def test_the_length_of_the_weight_does_not_matter():
    """So that the gradient has no part along the weight."""
    layer, x = SpectralNorm(Dense(4, 3, bias=False)), Tensor(normal(5, 4, dtype="float32"))
    y = settled(layer, x)(x)
    (y * y).sum().backward()
    weight = layer.layer.weight
    assert abs((weight.grad * weight).sum().item()) < 1e-4 * abs(weight.grad).sum().item()
    weight.data *= 7
    numpy.testing.assert_allclose(layer(x), y, rtol=1e-5, atol=1e-6)


def test_it_is_called_many_times_before_the_walk_back():
    """As in D's step, on real and on generated images: u moves, what was recorded stays."""
    layer, x = SpectralNorm(Dense(4, 1)), Tensor(normal(6, 4, dtype="float32"))
    sgd = SGD(layer.parameters(), 0.1)
    for _ in range(2):
        loss = (layer(x) * layer(x)).sum() - layer(x).sum()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    assert numpy.isfinite(layer.layer.weight.numpy()).all()


def test_a_vector_of_another_length_gives_the_same():
    """An average of unit vectors, such as the moving average of G has."""
    layer, x = SpectralNorm(Dense(4, 3)), normal(5, 4, dtype="float32")
    use(layer, x)
    expected = use(layer.eval(), x)
    layer.u.data = layer.u.data * 0.5
    numpy.testing.assert_allclose(use(layer, x), expected, rtol=1e-5)


def test_a_layer_without_a_weight_is_refused():
    with pytest.raises(TypeError, match="ReLU has no weight"):
        SpectralNorm(ReLU())


def test_the_seed_gives_the_vector():
    tinygan.seed(1)
    one = SpectralNorm(Dense(4, 3)).state()
    tinygan.seed(1)
    assert numpy.array_equal(SpectralNorm(Dense(4, 3)).state()["u"], one["u"])
