"""SelfAttention against its formula, and what it is at first."""

import numpy
import pytest

from tinygan import Tensor, check_gradients
from tinygan.attention import SelfAttention
from tinygan.backend import to_device
from tinygan.functions import ShapeError
from tinygan.normalization import SpectralNorm


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def learned(channels, **options):
    """One whose weights are those of no start, in float64."""
    layer = SelfAttention(channels, **options)
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = to_device(numpy.asarray(normal(*parameter.shape, seed=number + 1)))
    return layer


def use(layer, x):
    return layer(Tensor(x)).numpy()


def test_at_first_it_passes_the_image_as_it_is():
    x = normal(2, 3, 4, 16)
    assert numpy.array_equal(use(SelfAttention(16), x), x)


def test_it_is_the_formula_of_the_paper():
    x, layer = normal(2, 3, 2, 8), learned(8)
    query, key, value, out = (
        getattr(layer, name).weight.numpy() for name in ("query", "key", "value", "out"))
    assert query.shape == key.shape == (8, 1) and value.shape == (8, 4) and out.shape == (4, 8)
    for image, y in zip(x.reshape(2, 6, 8), use(layer, x).reshape(2, 6, 8), strict=True):
        for i in range(6):
            scores = numpy.array([(image[i] @ query) @ (image[j] @ key) for j in range(6)])
            shares = numpy.exp(scores) / numpy.exp(scores).sum()
            seen = sum(shares[j] * (image[j] @ value) for j in range(6))
            expected = image[i] + layer.gamma.item() * (seen @ out)
            numpy.testing.assert_allclose(y[i], expected, rtol=1e-10)


def test_a_pixel_moves_every_pixel_of_its_own_image_and_none_of_another():
    layer, x = learned(8), normal(2, 3, 3, 8)
    before = use(layer, x)
    x[0, 0, 0] += 1
    moved = (use(layer, x) != before).all(axis=3)
    assert moved[0].all() and not moved[1].any()


def test_pixels_in_another_order_are_answered_in_that_order():
    layer, x, order = learned(8), normal(1, 1, 6, 8), [3, 0, 5, 1, 2, 4]
    numpy.testing.assert_allclose(use(layer, x[:, :, order]), use(layer, x)[:, :, order], rtol=1e-9)


def test_its_layers_can_be_wrapped():
    layer = SelfAttention(8, wrap=SpectralNorm)
    assert {type(part) for part in (layer.query, layer.key, layer.value, layer.out)} == {
        SpectralNorm}
    assert len(layer.parameters()) == 5
    check_gradients(learned(4, wrap=SpectralNorm).eval(), normal(2, 2, 2, 4))


def test_what_is_no_image_is_refused():
    with pytest.raises(ShapeError, match=r"SelfAttention.*\(3, 8\)"):
        use(SelfAttention(8), normal(3, 8))
