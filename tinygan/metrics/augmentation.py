"""What augmentation is for: how well a classifier reads real digits that learned from others.

Classifiers learn from real, changed or generated digits with their labels and are tested on
MNIST's 1,000 held-out ones, as in Ravuri and Vinyals 2019.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy

from .. import datasets, training
from ..datasets import Dataset, from_bytes, to_bytes
from .classifier import accuracy, shipped_classifier, train_classifier
from .translations import intersection_over_union

STEPS = 500  # in which each classifier learns, in batches of up to 64
# Augmentation that needs no network, in columns; "teach": the images as they are.
PLAIN = {"shift": 2, "scale": 0.15, "strokes": True}
COLUMNS = {"teach": None, "augmented": PLAIN, "turned, too": PLAIN | {"angle": 15}}


def accuracy_from(
    data: Dataset, *, count: int, seed: int = 0, augmentation: Mapping[str, Any] | None = None
) -> float:
    """How well classifiers read held-out digits that learned from these: the mean of count of them.

    Each has a seed of its own. They see the images as they are, or each time changed by
    datasets.augmented with the options in augmentation.
    """
    held_out, answers = datasets.mnist("held-out"), []
    epochs = max(1, STEPS // (len(data.images) // min(64, len(data.images))))
    for number in range(seed, seed + count):
        learned, passes = data, epochs
        if augmentation is not None:
            learned, passes = datasets.augmented(data, epochs, seed=number, **augmentation), 1
        answers.append(accuracy(train_classifier(learned, number, passes, max_shift=0), held_out))
    return float(numpy.mean(answers))


def report_translations(
    settings: argparse.Namespace, sources: Dataset, made: numpy.ndarray, found: numpy.ndarray, *,
    ink: float,
) -> None:
    """Print and write whether translated digits kept their structure, and what they teach.

    made are the translations of the sources, in [-1, 1]; found is what a parser takes for the ink
    of the sources, bool; both are (N, 28, 28, 1). Pixels brighter than ink are ink.
    settings.measure classifiers learn from each.
    """
    how, rows = {"count": settings.measure, "seed": settings.seed}, {}
    mask, translated = from_bytes(sources.images) > ink, Dataset(to_bytes(made), sources.labels)
    for name, data in ("as they are", sources), ("translated", translated):
        rows[name] = {
            "read right": accuracy(shipped_classifier(), data),
            "ink IoU": intersection_over_union(from_bytes(data.images) > ink, mask),
        } | {title: accuracy_from(data, **how, augmentation=changes)
             for title, changes in COLUMNS.items()}
    rows["translated"]["parser's IoU"] = intersection_over_union(found, mask)
    rows["MNIST's own"] = {"teach": accuracy_from(datasets.mnist(), **how)}
    training.report(settings.out, rows, {
        "sources": sources.images, "images": translated.images, "labels": sources.labels,
        "parsed": found})


def report_few(settings: argparse.Namespace, pictures: training.Pictures) -> None:
    """Print and write what a generator's samples add to settings.few digits a class.

    At least 1,000 samples are drawn. Beside them: the few alone, the few shifted and turned by up
    to 15 degrees, and what all of MNIST's training digits teach. Nothing happens where
    settings.measure is 0 or the data are no digits.
    """
    if not settings.measure or settings.data not in ("mnist", "mnist-full"):
        return
    data = datasets.load(settings.data, settings.data_dir)
    few, count = datasets.few(data, settings.few), max(1000, settings.measure)
    labels = (numpy.arange(count) % 10).astype(numpy.uint8)
    samples = Dataset(to_bytes(pictures.samples(count, settings.seed, labels)), labels)
    again = numpy.arange(count) % len(few.images)
    half = Dataset(*(numpy.concatenate([real[again], made])
                     for real, made in zip(few, samples, strict=True)))
    sets = {f"{settings.few} of each digit": few, "samples": samples, "as many of both": half,
            "all of MNIST": data}
    how = {"count": 3, "seed": settings.seed}
    changes = {"teach": None, "shifted and turned": {"shift": 2, "angle": 15}}
    training.report(settings.out, {
        name: {title: accuracy_from(some, **how, augmentation=change)
               for title, change in changes.items()} for name, some in sets.items()
    }, {"images": samples.images, "labels": labels})
