"""Shapes, the papers' guidelines, weights that a seed gives again, and second derivatives."""

import math

import numpy
import pytest

import tinygan
from tinygan import Tensor, check_gradients
from tinygan.attention import SelfAttention
from tinygan.backend import to_device
from tinygan.files import UsageError
from tinygan.layers import Conv2d, Dense, OneHotCode, RandomTranslation, ReLU, Tanh
from tinygan.networks import (
    ClassDiscriminator,
    ResidualBlock,
    dcgan_discriminator,
    dcgan_generator,
    image_decoder,
    image_encoder,
    patch_discriminator,
)
from tinygan.normalization import BatchNorm, InstanceNorm, SpectralNorm


def images(size, channels, n=3):
    numbers = numpy.random.default_rng(0).random((n, size, size, channels), dtype="float32")
    return Tensor(2 * numbers - 1)


def kinds(network):
    return [type(layer) for layer in network.layers]


@pytest.mark.parametrize("size", [4, 8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_latents_become_images_and_images_logits(size, channels):
    G, D = dcgan_generator(6, size, channels, width=2), dcgan_discriminator(size, channels, 2)
    fake = G(Tensor(numpy.ones((3, 6), "float32") * [[1], [2], [3]]))
    assert fake.shape == (3, size, size, channels) and abs(fake.numpy()).max() <= 1
    assert D(fake).shape == (3, 1) and D(images(size, channels)).shape == (3, 1)


def test_a_discriminator_may_have_several_answers():
    assert dcgan_discriminator(8, 1, 2, outputs=5)(images(8, 1)).shape == (3, 5)


def test_the_label_picks_one_of_d_s_ten_answers():
    D = ClassDiscriminator(10, 28, channels=1, width=4, max_shift=1).eval()
    images = Tensor(numpy.random.default_rng(0).standard_normal((10, 28, 28, 1), dtype="float32"))
    answers = D.answers(images).numpy()
    labels = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    logits = D(images, to_device(numpy.array(labels))).numpy()
    assert logits.shape == (10, 1)
    numpy.testing.assert_array_equal(logits[:, 0], answers[range(10), labels])
    assert len(set(answers[0])) == 10


def test_d_learns_from_its_answer_to_the_label_alone():
    D = ClassDiscriminator(10, 28, channels=1, width=4, max_shift=1)
    last = D.answers.layers[-1]
    images, labels = numpy.ones((4, 28, 28, 1), dtype="float32"), numpy.array([7, 7, 2, 7])
    D(Tensor(images), to_device(labels)).sum().backward()
    moved = numpy.flatnonzero(last.bias.grad.numpy())
    assert list(moved) == [2, 7]


def test_a_discriminator_may_be_wrapped_and_attend():
    attention = SelfAttention(4, wrap=SpectralNorm)
    D = dcgan_discriminator(16, 1, 2, wrap=SpectralNorm, attention=attention)
    weights = [layer for layer in D.modules() if isinstance(layer, (Conv2d, Dense))]
    wrapped = [layer.layer for layer in D.modules() if isinstance(layer, SpectralNorm)]
    assert len(wrapped) == 8 and set(map(id, weights)) == set(map(id, wrapped))
    seen = []
    attention.forward = lambda x: seen.append(x.shape) or x
    assert D(images(16, 1)).shape == (3, 1) and seen == [(3, 4, 4, 4)]


def test_batchnorm_is_where_the_paper_has_it():
    G = dcgan_generator(6, 8, 1, width=2)
    assert kinds(G).count(BatchNorm) == 2 and kinds(G)[-1] is Tanh
    plain, normed = dcgan_discriminator(8, 1, 2), dcgan_discriminator(8, 1, 2, batchnorm=True)
    assert BatchNorm not in kinds(plain) and kinds(normed).count(BatchNorm) == 2
    assert kinds(normed).index(BatchNorm) > kinds(normed).index(Conv2d) + 1  # not at the input
    for network in (G, normed):  # before BatchNorm no bias
        for layer, after in zip(network.layers, network.layers[1:], strict=False):
            assert not isinstance(after, BatchNorm) or getattr(layer, "bias", None) is None


def test_without_batchnorm_the_weights_of_d_start_larger():
    scales = {}
    for batchnorm in (False, True):
        layers = dcgan_discriminator(28, 1, 32, batchnorm=batchnorm).layers
        scales[batchnorm] = [x.weight.std().item() for x in layers if isinstance(x, Conv2d)]
    he = [math.sqrt(2 / inputs) for inputs in (4 * 4 * 1, 4 * 4 * 32, 3 * 3 * 64)]
    numpy.testing.assert_allclose(scales[False], he, rtol=0.1)
    numpy.testing.assert_allclose(scales[True], 0.02, rtol=0.1)


def test_an_empty_image_stays_0_behind_the_entrance():
    D = dcgan_discriminator(8, 1, 2)
    empty = Tensor(-numpy.ones((1, 8, 8, 1), "float32"))
    assert not D.layers[1](D.layers[0](empty)).numpy().any()


def test_images_move_by_max_shift_which_a_run_can_change():
    D = dcgan_discriminator(8, 1, 2, max_shift=2)
    assert isinstance(D.translation, RandomTranslation) and D.translation is D.layers[1]
    x = images(8, 1)
    assert not numpy.array_equal(D(x).numpy(), D(x).numpy())
    D.translation.max_shift = 0
    assert numpy.array_equal(D(x).numpy(), D(x).numpy())


def test_codes_are_the_first_layer():
    assert kinds(dcgan_generator(6, 8, 1, 2, codes=6))[:2] == [OneHotCode, Dense]
    assert OneHotCode not in kinds(dcgan_generator(6, 8, 1, 2))


def test_more_codes_than_latents_is_a_usage_error():
    with pytest.raises(UsageError, match="7 codes are more than the 6 numbers"):
        dcgan_generator(6, 8, 1, 2, codes=7)


def test_the_same_seed_gives_the_same_weights():
    def states():
        tinygan.seed(3)
        return dcgan_generator(6, 8, 1, 2).state() | dcgan_discriminator(8, 1, 2).state()

    first, second = states(), states()
    assert all(numpy.array_equal(array, second[name]) for name, array in first.items())


# ---------------------------------------------------------------- from images to images


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_features_and_features_images(size, channels):
    features = image_encoder(channels, 2, blocks=1)(images(size, channels))
    assert features.shape == (3, size // 4, size // 4, 4)
    made = image_decoder(channels, 2)(features)
    assert made.shape == (3, size, size, channels) and abs(made.numpy()).max() <= 1


def test_no_image_sees_another_on_its_way():
    x, G = images(8, 1), [image_encoder(1, 2), image_decoder(1, 2)]
    numpy.testing.assert_allclose(
        G[1](G[0](x)).numpy()[:1], G[1](G[0](x[:1])).numpy(), rtol=1e-4, atol=1e-6)


def test_a_residual_block_adds_to_what_it_is_given():
    block, x = ResidualBlock(2), images(8, 2)
    added = block(x).numpy() - x.numpy()
    numpy.testing.assert_allclose(added, block.layers(x).numpy(), atol=1e-6)
    numpy.testing.assert_allclose(added.mean((1, 2)), 0, atol=1e-6)  # as InstanceNorm leaves it


def test_a_residual_block_has_right_gradients():
    block = ResidualBlock(2)
    for parameter in block.parameters():
        parameter.data = parameter.data.astype("float64") * 20
    numbers = numpy.random.default_rng(1).standard_normal((2, 4, 4, 2))
    check_gradients(block, numbers)


def test_a_residual_block_without_normalization_keeps_contrast():
    block, x = ResidualBlock(4, normalized=False), images(8, 4)
    assert InstanceNorm not in kinds(block.layers) and kinds(block.layers) == [Conv2d, ReLU, Conv2d]
    added, twice = (block.layers(y).numpy() for y in (x, x * 2.0))
    numpy.testing.assert_allclose(twice, 2 * added, rtol=1e-4, atol=1e-6)  # biases start at 0
    assert all(layer.bias is not None for layer in block.layers.layers[::2])


@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
def test_a_patch_discriminator_answers_for_each_patch(halvings):
    D, side = patch_discriminator(1, 2, halvings), 32 >> halvings
    assert D(images(32, 1)).shape == (3, side, side, 1)
    assert kinds(D).count(InstanceNorm) == max(0, halvings - 1)


@pytest.mark.parametrize(("halvings", "reach"), [(1, 8), (2, 18), (3, 38)])
def test_a_logit_sees_as_many_pixels_as_the_docstring_says(halvings, reach):
    D = patch_discriminator(1, 2, halvings)
    D.layers = [layer for layer in D.layers if not isinstance(layer, InstanceNorm)]
    x = Tensor(images(64, 1).data, requires_grad=True)
    middle = 32 >> halvings
    D(x)[0, middle, middle, 0].backward()
    rows = numpy.flatnonzero(x.grad.numpy()[0].any(axis=(1, 2)))
    assert rows[-1] - rows[0] + 1 == reach
