"""What augmentation is for: how well a classifier reads real digits that learned from others.

Ravuri and Vinyals 2019 measure samples so. Beside it, whether a translation kept the structure.
"""

from collections.abc import Mapping
from typing import Any

import numpy

from .. import datasets
from ..datasets import Dataset
from .classifier import accuracy, train_classifier

STEPS = 500  # in which each classifier learns, in batches of up to 64


def accuracy_from(
    data: Dataset, *, count: int, seed: int = 0, augmentation: Mapping[str, Any] | None = None
) -> float:
    """How well classifiers that learned from these digits read MNIST's 1,000 held-out ones.

    The mean of count classifiers, each from a seed of its own. They see the images as they are, or
    each time changed as datasets.augmented does with the options in augmentation.
    """
    held_out, batch = datasets.mnist("held-out"), min(64, len(data.images))
    epochs = max(1, STEPS // (len(data.images) // batch))
    answers = []
    for number in range(seed, seed + count):
        learned, passes = data, epochs
        if augmentation is not None:
            learned, passes = datasets.augmented(data, epochs, seed=number, **augmentation), 1
        answers.append(accuracy(train_classifier(learned, number, passes, max_shift=0), held_out))
    return float(numpy.mean(answers))


def intersection_over_union(ink: numpy.ndarray, other: numpy.ndarray) -> float:
    """Pixels that are ink in both images over pixels that are ink in either, averaged over images.

    bool (N, ...), twice; 1 where the structure is the same. Images without ink have none in common.
    """
    pixels = tuple(range(1, ink.ndim))
    common, either = (ink & other).sum(pixels), (ink | other).sum(pixels)
    return float((common / numpy.maximum(either, 1)).mean())
