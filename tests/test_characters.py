"""The characters that ship, and the classifier that reads their attributes."""

import numpy
import pytest

from tinygan.datasets import ATTRIBUTES, DataError, characters, held_out_combinations, load
from tinygan.datasets.characters import PARTS


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
