"""BatchNorm, LayerNorm and InstanceNorm: their values, their statistics, and the fused form."""

import numpy
import pytest

from tinygan import Tensor, check_gradients, grad
from tinygan.backend import to_device
from tinygan.convolution import conv2d
from tinygan.functions import ShapeError
from tinygan.normalization import BatchNorm, InstanceNorm, LayerNorm, ModulatedConv2d, batch_norm
from tinygan.normalization import normalized as plain


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
