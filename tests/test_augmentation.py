"""Plain augmentation, and what a classifier learns from images that are not those of its test."""

import json

import numpy
import pytest
from test_demos import run

from tinygan import datasets
from tinygan.datasets import DataError, Dataset
from tinygan.metrics import accuracy_from, augmentation, intersection_over_union


def cross():
    """An upright and a level stroke, apart."""
    images = numpy.zeros((2, 28, 28, 1), numpy.uint8)
    images[0, 4:24, 13:15] = images[1, 13:15, 4:24] = 255
    return Dataset(images, numpy.array([3, 7], numpy.uint8))


def test_images_that_may_not_change_stay_as_they_are():
    copies = datasets.augmented(cross(), 3)
    assert copies.images.shape == (6, 28, 28, 1) and list(copies.labels) == [3, 7] * 3
    numpy.testing.assert_array_equal(copies.images, numpy.tile(cross().images, (3, 1, 1, 1)))


def test_every_copy_is_another_and_the_same_seed_makes_the_same():
    one, again, other = (datasets.augmented(cross(), 5, seed=seed, shift=2, scale=0.1)
                         for seed in (1, 1, 2))
    numpy.testing.assert_array_equal(one.images, again.images)
    assert len({image.tobytes() for image in [*one.images, *other.images]}) == 20


@pytest.mark.parametrize(("change", "axis"), [({"shift": 5}, 0), ({"scale": 0.4}, 1)])
def test_strokes_move_or_grow_by_as_much_as_they_may(change, axis):
    images = datasets.augmented(cross(), 300, **change).images[::2, :, :, 0]
    rows = [numpy.flatnonzero(image.max(axis=1) > 127) for image in images]
    moved = [(row[0] + row[-1]) / 2 - 13.5 for row in rows]
    grown = [len(row) / 20 for row in rows]
    assert numpy.ptp(moved) == pytest.approx([10, 0][axis], abs=1)
    assert numpy.ptp(grown) == pytest.approx([0, 0.8][axis], abs=0.15)


def test_a_quarter_turn_makes_one_stroke_of_the_other():
    turned = datasets.augmented(cross(), 400, angle=90).images
    nearest = abs(turned[::2].astype(int) - cross().images[1]).mean(axis=(1, 2, 3)).min()
    assert nearest < 3 < abs(cross().images[0].astype(int) - cross().images[1]).mean()


def test_colours_are_refused():
    colours = Dataset(numpy.zeros((2, 4, 4, 3), numpy.uint8), None)
    with pytest.raises(DataError, match=r"images of \(4, 4, 3\): .* grey"):
        datasets.augmented(colours, 1)


def test_a_third_of_the_strokes_is_thicker_and_a_third_thinner():
    images = datasets.augmented(cross(), 300, strokes=True).images
    areas, counts = numpy.unique((images > 127).sum(axis=(1, 2, 3)), return_counts=True)
    assert list(areas) == [0, 40, 88] and counts.min() > 150


def test_few_are_the_first_of_each_label():
    few = datasets.few(datasets.mnist(), 3)
    assert list(few.labels) == [digit for digit in range(10) for _ in range(3)]
    zeros = datasets.mnist().images[datasets.mnist().labels == 0]
    numpy.testing.assert_array_equal(few.images[:3], zeros[:3])
    with pytest.raises(DataError, match="9000 images of each label: use 1 to [0-9]+"):
        datasets.few(datasets.mnist(), 9000)


def test_intersection_over_union():
    one = numpy.array([[True, True, False], [False] * 3, [True] * 3])
    other = numpy.array([[False, True, True], [False] * 3, [True] * 3])
    assert intersection_over_union(one, other) == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_right_labels_teach_and_wrong_ones_do_not(monkeypatch):
    monkeypatch.setattr(augmentation, "STEPS", 60)
    few = datasets.few(datasets.mnist(), 30)
    wrong = Dataset(few.images, (few.labels + 1) % 10)
    right = accuracy_from(few, count=1)
    assert right > 0.6 and accuracy_from(wrong, count=1) < 0.1
    assert accuracy_from(few, count=1) == right
    assert accuracy_from(few, count=1, augmentation={"shift": 1}) != right


@pytest.mark.slow
def test_cgan_with_few_images_measures_what_its_samples_add(tmp_path, monkeypatch):
    monkeypatch.setattr(augmentation, "STEPS", 20)
    run("cgan", tmp_path, "--steps=3", "--batch-size=4", "--width=2", "--few=2", "--measure=1000")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [*figures] == ["2 of each digit", "samples", "as many of both", "all of MNIST"]
    assert all(0 <= figure <= 1 for row in figures.values() for figure in row.values())
