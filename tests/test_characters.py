"""The characters that ship, and the classifier that reads their attributes."""

import subprocess
import sys

import numpy
import pytest

from tinygan import Tensor, metrics
from tinygan.datasets import (
    ATTRIBUTES,
    Characters,
    DataError,
    characters,
    from_bytes,
    held_out_combinations,
    load,
)
from tinygan.datasets.characters import PARTS
from tinygan.metrics import attributes


@pytest.mark.parametrize("part, count", [("train", 9000), ("held-out", 1000)])
def test_characters_have_their_counts_types_and_all_values(part, count):
    images, attributes, parts = characters(part)
    assert images.shape == (count, 16, 16, 3) and parts.shape == (count, 16, 16)
    assert {array.dtype.name for array in (images, attributes, parts)} == {"uint8"}
    for values, column in zip(ATTRIBUTES.values(), attributes.T, strict=True):
        assert set(column) == set(range(len(values)))
    assert set(parts.ravel()) == set(range(len(PARTS)))


def test_all_characters_are_different():
    images = numpy.concatenate([characters(part).images for part in ("train", "held-out")])
    assert len({image.tobytes() for image in images}) == 10_000


def test_parts_and_attributes_are_those_of_the_images():
    images, attributes, parts = characters("held-out")
    columns = dict(zip(ATTRIBUTES, attributes.T, strict=True))
    assert (images[parts == PARTS.index("background")] == 255).all()
    for part, attribute in ("hat", "hat"), ("glasses", "glasses"):
        shown = (parts == PARTS.index(part)).any(axis=(1, 2))
        numpy.testing.assert_array_equal(shown, columns[attribute] > 0)


def test_where_hair_shows_its_colour_can_be_seen():
    some = characters()
    hair = some.attributes[:, [*ATTRIBUTES].index("hair")]
    for value, name in enumerate(ATTRIBUTES["hair"]):
        seen = some.images[some.shows_hair() & (hair == value)]
        masks = some.parts[some.shows_hair() & (hair == value)] == PARTS.index("hair")
        red, _, blue = seen[masks].astype(int).mean(axis=0)
        assert (blue > red) == (name == "blue")
    assert 0.88 < some.shows_hair().mean() < 0.89


def test_load_finds_them_by_name_with_the_colours_of_their_hair_as_labels():
    data = load("characters", size=16, channels=3)
    some = characters()
    numpy.testing.assert_array_equal(data.images, some.images)
    numpy.testing.assert_array_equal(data.labels, some.attributes[:, 2])
    with pytest.raises(DataError, match="--size 16 --channels 3"):
        load("characters")


def test_held_out_combinations_are_values_of_hair_clothes_and_hat():
    combinations = held_out_combinations()
    assert combinations.shape == (25, 3)
    limits = [len(ATTRIBUTES[name]) for name in ("hair", "clothes", "hat")]
    assert (combinations < limits).all()
    rows = characters().attributes[:, [2, 3, 4]]
    assert (rows[:, None] == combinations).all(axis=2).any(axis=1).sum() == 9000 - 7609


# ---------------------------------------------------------------- the classifier that reads them


@pytest.fixture(scope="module")
def held_out():
    return characters("held-out")


def test_the_shipped_classifier_reads_all_attributes(held_out):
    right = metrics.attribute_accuracies(metrics.shipped_attribute_classifier(), held_out)
    assert [*right] == [*ATTRIBUTES]
    assert min(right.values()) > 0.97 and right["mood"] > 0.99
    assert attributes.WEIGHTS.stat().st_size < 1_000_000


def test_it_sees_floats_block_by_block_and_refuses_bytes(held_out):
    classifier, images = metrics.shipped_attribute_classifier(), from_bytes(held_out.images)
    features, values = classifier.see(images)
    assert features.shape == (1000, 64) and features.dtype == "float64"
    assert values.shape == (1000, 8)
    some, same = classifier.see(images[-3:])
    numpy.testing.assert_allclose(features[-3:], some, atol=1e-4)
    numpy.testing.assert_array_equal(values[-3:], same)
    with pytest.raises(DataError, match="from_bytes"):
        classifier.see(held_out.images)


def test_its_loss_is_the_sum_over_the_attributes():
    logits = Tensor(numpy.zeros((3, sum(attributes.VALUES)), "float32"))
    labels = Tensor(characters().attributes[:3])
    expected = numpy.log(attributes.VALUES).sum()
    assert attributes.attribute_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_a_classifier_learns_and_the_same_seed_gives_the_same_weights():
    few = Characters(*(array[:256] for array in characters()))
    once, again = (metrics.train_attribute_classifier(few, seed=3, epochs=12) for _ in range(2))
    right = metrics.attribute_accuracies(once, few)
    assert right["glasses"] > 0.9 and right["skin"] > 0.5  # 0.64 and 0.25 by chance
    for name, array in once.state().items():
        assert array.dtype == "float32"
        numpy.testing.assert_array_equal(array, again.state()[name])


def test_figures_tell_held_out_characters_from_shuffled_pixels(held_out):
    images = from_bytes(held_out.images)
    real = metrics.character_figures(images)
    order = numpy.random.default_rng(0).permutation(256)
    shuffled = metrics.character_figures(images.reshape(-1, 256, 3)[:, order].reshape(images.shape))
    assert real["Frechet"] < 1 and min(real["precision"], real["recall"]) > 0.9
    assert shuffled["Frechet"] > 10 and shuffled["precision"] < 0.5


def test_the_command_says_what_is_wrong():
    words = [sys.executable, "-m", "tinygan.metrics.attributes", "--seed", "-1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "-1" in done.stderr and "metrics.attributes" in done.stderr


@pytest.mark.slow
def test_the_command_trains_the_shipped_classifier_again(tmp_path, held_out):
    words = [sys.executable, "-m", "tinygan.metrics.attributes", "--out", str(tmp_path / "it")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and "mood" in done.stdout
    again = attributes.read_weights(attributes.AttributeClassifier, tmp_path / "it")
    assert min(metrics.attribute_accuracies(again, held_out).values()) > 0.96
