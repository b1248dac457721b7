"""Attention against its formulas, and what it is at first."""

import numpy
import pytest

from tinygan import Tensor, check_gradients
from tinygan.attention import SelfAttention, WordAttention
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


# ---------------------------------------------------------------- to words

PRESENT = to_device(numpy.array([[True, True, False], [True, False, False]]))


def looking():
    """Attention of images with 3 channels to words with 4 features, in float64."""
    layer = WordAttention(4, 3)
    layer.project.weight.data = to_device(normal(4, 3, seed=5))
    return layer


def test_attention_to_words_is_the_formula_of_the_paper():
    h, words, layer = normal(2, 2, 2, 3), normal(2, 3, 4, seed=1), looking()
    seen, table = layer(Tensor(to_device(h)), Tensor(to_device(words)), PRESENT)
    assert seen.shape == h.shape and table.shape == (2, 4, 3)
    U = layer.project.weight.numpy()
    for n, count in (0, 2), (1, 1):
        for j, pixel in enumerate(h[n].reshape(4, 3)):
            scores = numpy.array([pixel @ (words[n, t] @ U) for t in range(count)])
            shares = numpy.exp(scores) / numpy.exp(scores).sum()
            expected = sum(shares[t] * (words[n, t] @ U) for t in range(count))
            numpy.testing.assert_allclose(seen.numpy()[n].reshape(4, 3)[j], expected)
            numpy.testing.assert_allclose(table.numpy()[n, j, :count], shares)
            assert not table.numpy()[n, j, count:].any()


def test_what_fills_up_a_caption_is_not_looked_at():
    layer = looking()
    h, words = (Tensor(to_device(normal(*shape))) for shape in [(2, 2, 2, 3), (2, 3, 4)])
    before = layer(h, words, PRESENT)[0].numpy()
    words.data[1, 1:] += 7
    assert numpy.array_equal(layer(h, words, PRESENT)[0].numpy(), before)
    words.data[1, 0] += 7
    after = layer(h, words, PRESENT)[0].numpy()
    assert (after[1] != before[1]).all() and numpy.array_equal(after[0], before[0])


def test_attention_to_words_has_the_right_derivatives():
    layer, h, words = looking(), normal(2, 2, 2, 3), normal(2, 3, 4, seed=1)
    arguments = [Tensor(to_device(array), requires_grad=True) for array in (h, words)]
    for which in 0, 1:
        check_gradients(lambda h, words, _, which=which: layer(h, words, PRESENT)[which],
                        *arguments, layer.project.weight)


def test_words_for_what_is_no_image_are_refused():
    with pytest.raises(ShapeError, match=r"WordAttention.*\(4, 3\)"):
        looking()(Tensor(normal(4, 3)), Tensor(normal(4, 3, 4)), PRESENT)
