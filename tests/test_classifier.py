"""The classifier learns, is the same each time, and reads the digits."""

import math
import subprocess
import sys

import numpy
import pytest

import tinygan
from tinygan import Tensor, check_gradients, datasets
from tinygan.datasets import Dataset, from_bytes
from tinygan.metrics.classifier import (
    WEIGHTS,
    DigitClassifier,
    accuracy,
    cross_entropy,
    shipped_classifier,
    train_classifier,
)
from tinygan.training.pictures import BLOCK


def test_cross_entropy_is_minus_the_log_of_the_probability_of_the_label():
    logits = Tensor(numpy.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    loss = cross_entropy(logits, Tensor([1, 2])).item()
    assert loss == pytest.approx(-(math.log(0.25) + math.log(0.8)) / 2)
    check_gradients(lambda x: cross_entropy(x, Tensor([1, 0, 2, 2])),
                    numpy.random.default_rng(0).standard_normal((4, 3)))


LABELS = numpy.array([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:, None], r"\(4, 1\)"),
        (LABELS[:3], "3 labels for 4 rows"),
        (LABELS[None], r"\(1, 4\)"),
        (LABELS * 1.0, "float64"),
        (LABELS - 1, "from 0 to 4, not -1"),
        (LABELS + 2, "from 0 to 4, not 5"),
    ],
)
def test_labels_that_do_not_fit_the_logits_are_named(labels, message):
    logits = Tensor(numpy.random.default_rng(0).standard_normal((4, 5)))
    for given in (labels, *[Tensor(labels)] * (tinygan.device() == "cpu")):
        with pytest.raises(ValueError, match=f"cross_entropy: .*{message}"):
            cross_entropy(logits, given)
    assert cross_entropy(logits, LABELS).item() == cross_entropy(logits, Tensor(LABELS)).item()


def test_the_shipped_classifier_reads_98_of_100_held_out_digits():
    assert accuracy(shipped_classifier(), datasets.mnist("held-out")) >= 0.98
    assert WEIGHTS.stat().st_size < 1_000_000


def test_what_the_classifier_sees_does_not_depend_on_the_images_beside():
    images = from_bytes(datasets.mnist("held-out").images[: BLOCK + 3])
    classifier = shipped_classifier()
    all_features, all_digits = classifier.see(images)
    features, digits = classifier.see(images[-5:])
    assert all_features.shape == (len(images), 84) and all_features.dtype == numpy.float64
    numpy.testing.assert_allclose(all_features[-5:], features, atol=1e-4)
    numpy.testing.assert_array_equal(all_digits[-5:], digits)


def test_a_classifier_learns_and_the_same_seed_gives_the_same_weights():
    few = Dataset(*(array[:320] for array in datasets.mnist()))
    classifier = train_classifier(few, seed=3, epochs=6)
    assert accuracy(classifier, few) > 0.6  # of ten digits
    again = train_classifier(few, seed=3, epochs=6).state()
    for name, array in classifier.state().items():
        assert array.dtype == numpy.float32
        numpy.testing.assert_array_equal(array, again[name])


def command(*options):
    words = [sys.executable, "-m", "tinygan.metrics.classifier", *map(str, options)]
    return subprocess.run(words, capture_output=True, text=True)


def test_the_command_says_what_it_does_and_what_is_wrong():
    done = command("--help")
    assert done.returncode == 0 and "--seed" in done.stdout and not done.stderr
    done = command("--seed", -1)
    assert done.returncode == 2 and "-1" in done.stderr


@pytest.mark.slow
def test_the_command_trains_the_shipped_classifier_again(tmp_path):
    done = command("--out", tmp_path / "weights")
    assert done.returncode == 0 and "%" in done.stdout
    classifier = DigitClassifier()
    with numpy.load(tmp_path / "weights", allow_pickle=False) as file:
        classifier.load_state(dict(file))
    assert accuracy(classifier.eval(), datasets.mnist("held-out")) >= 0.98
