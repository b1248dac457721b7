"""Digits as the classifier sees them, beside real ones and a Gaussian fit of the pixels."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy

from .. import datasets, training
from ..datasets import Dataset, from_bytes, to_bytes
from ..datasets.batches import require_floats
from .classifier import accuracy, require_digits, shipped_classifier, train_classifier
from .distances import Reference, square_root

FLOOR, CEILING = "Gaussian fit of the pixels", "held-out real digits"
FEWEST = 1000  # images that can be measured: as many as there are held-out digits


@functools.cache
def _real_digits() -> Reference:
    """The training digits as the classifier sees them."""
    return Reference(shipped_classifier().see(from_bytes(datasets.mnist().images))[0])


def measure(images: numpy.ndarray, labels: numpy.ndarray | None = None) -> dict[str, float]:
    """All figures of at least 1,000 images of digits (N, 28, 28, 1), by their titles in tables.

    Frechet, kernel    distances from the 9,000 training digits
    precision, recall  fraction of images among these digits, of these digits among images
    as asked           fraction of images seen as the digit of their label, if labels (N,) are given

    Raises ValueError for fewer images or other labels, DataError for images of another range.
    """
    if len(images) < FEWEST:
        raise ValueError(f"at least {FEWEST:,} images can be measured, not {len(images)}")
    if labels is not None and numpy.shape(labels) != (len(images),):
        raise ValueError(f"{len(images)} images need labels of shape ({len(images)},), not of "
                         f"{numpy.shape(labels)}")
    features, digits = shipped_classifier().see(images)
    figures = _real_digits().figures(features)
    if labels is not None:
        figures["as asked"] = float((digits == labels).mean())
    return figures


def subjects(
    runs: Mapping[str, training.Pictures], count: int, seed: int = 0
) -> Iterator[tuple[str, numpy.ndarray, numpy.ndarray | None]]:
    """Name, images and labels of what is measured: count samples of each of the runs, between as
    many of the Gaussian fit, the floor, and the 1,000 held-out digits, the ceiling."""
    yield FLOOR, gaussian_fit(from_bytes(datasets.mnist().images), count, seed), None
    for name, pictures in runs.items():
        labels = numpy.arange(count) % pictures.classes if pictures.classes else None
        yield name, pictures.samples(count, seed, labels), labels
    held_out = datasets.mnist("held-out")
    yield CEILING, from_bytes(held_out.images), held_out.labels


def report_digits(
    settings: Any, pictures: training.Pictures, more: Mapping[str, training.Pictures] | None = None
) -> dict[str, dict[str, float]]:
    """At the end of a run, print and write the figures of settings.measure samples, by name.

    At least 1,000 are drawn, and as many of more pictures, by their names. Nothing happens where
    that option is 0 or the data are no digits.
    """
    if not settings.measure or settings.data not in ("mnist", "mnist-full"):
        return {}
    count = max(FEWEST, settings.measure)
    measured = [*subjects({"samples of G": pictures} | dict(more or {}), count, settings.seed)]
    rows = {name: measure(images, labels if pictures.classes else None)
            for name, images, labels in measured}
    _, images, labels = measured[1]
    arrays = {"images": to_bytes(images)} | ({} if labels is None else {"labels": labels})
    arrays |= {f"images {name}": to_bytes(images) for name, images, _ in measured[2:-1]}
    training.report(settings.out, rows, arrays)
    return rows


def gaussian_fit(images: numpy.ndarray, count: int, seed: int = 0) -> numpy.ndarray:
    """count images from a Gaussian with the mean and covariance of the pixels of images.

    It knows how bright pixels are and which go together, no more: every generator should beat it.
    """
    require_floats(images)
    pixels = images.reshape(len(images), -1)
    noise = numpy.random.default_rng(seed).standard_normal((count, pixels.shape[1]))
    drawn = pixels.mean(axis=0) + noise @ square_root(numpy.cov(pixels, rowvar=False))
    return numpy.clip(drawn, -1, 1).astype(numpy.float32).reshape(count, *images.shape[1:])


def accuracy_score(
    images: numpy.ndarray, labels: numpy.ndarray | None = None, seed: int = 0
) -> float:
    """CAS: how well a classifier that learned from samples alone reads held-out real digits.

    Ravuri and Vinyals 2019. Samples that show another digit than their label lower it, and so does
    missing variety. Samples without labels get those that the shipped classifier sees.
    images (N, 28, 28, 1) in [-1, 1], labels (N,). It trains for half a minute.
    """
    require_digits(images)
    if labels is None:
        _, labels = shipped_classifier().see(images)
    learned = train_classifier(Dataset(to_bytes(images), labels), seed)
    return accuracy(learned, datasets.mnist("held-out"))
