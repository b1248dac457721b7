"""Digits as the classifier sees them, beside real ones and a Gaussian fit of the pixels."""

import functools
from typing import Any, NamedTuple

import numpy

from .. import datasets, training
from ..datasets import Dataset, from_bytes, to_bytes
from .classifier import accuracy, shipped_classifier, train_classifier
from .distances import Region, frechet_distance, kernel_distance, square_root

FLOOR, CEILING = "Gaussian fit of the pixels", "held-out real digits"
FEWEST = 1000  # images that can be measured: as many as there are held-out digits


class Quality(NamedTuple):
    """What measure finds in images of digits; real means the 9,000 training digits."""

    frechet_distance: float  # to the real ones
    frechet_of_1000: float  # of the first 1,000 images, as many as there are held-out digits
    kernel_distance: float
    kernel_error: float  # standard error of kernel_distance
    precision: float
    recall: float
    histogram: list[float]  # fractions of the digits 0 to 9, as the classifier sees them
    entropy: float  # -sum p ln p of these, in nats: ln 10 = 2.303 if all are equal
    conditional_accuracy: float | None  # fraction of images seen as the digit of their label


@functools.cache
def _real_digits() -> tuple[numpy.ndarray, Region]:
    """Spread (F,) of the features of the training digits, and the region of features / spread."""
    features, _ = shipped_classifier().see(from_bytes(datasets.mnist().images))
    spread = features.std(axis=0)
    return spread, Region(features / spread)


def _see(images: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Features (N, F) in units of their spread, and digits (N,). Raises ValueError for too few."""
    if len(images) < FEWEST:
        raise ValueError(f"at least {FEWEST:,} images can be measured, not {len(images)}")
    features, digits = shipped_classifier().see(images)
    return features / _real_digits()[0], digits


def measure(images: numpy.ndarray, labels: numpy.ndarray | None = None) -> Quality:
    """All figures of at least 1,000 images (N, 28, 28, 1), of their labels (N,) if they have some.

    Raises ValueError for fewer images.
    """
    features, digits = _see(images)
    region = _real_digits()[1]
    histogram = numpy.bincount(digits, minlength=10) / len(digits)
    present = histogram[histogram > 0]
    return Quality(
        frechet_distance(features, region.points),
        frechet_distance(features[:FEWEST], region.points),
        *kernel_distance(features, region.points),
        region.holds(features),
        Region(features).holds(region.points),
        histogram.tolist(),
        float(-(present * numpy.log(present)).sum()),
        None if labels is None else float((digits == labels).mean()),
    )


def compare_digits(
    name: str, images: numpy.ndarray, labels: numpy.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """The main figures of images under a name, between those of as many from a Gaussian fit of the
    pixels, the floor, and of the 1,000 held-out digits, the ceiling.

    images (N, 28, 28, 1); labels (N,) add "as asked", the fraction seen as their digit. Raises
    ValueError for fewer than 1,000 images.
    """
    real, held_out = from_bytes(datasets.mnist().images), datasets.mnist("held-out")
    subjects = {
        FLOOR: (gaussian_fit(real, len(images)), None),
        name: (images, labels),
        CEILING: (from_bytes(held_out.images), None if labels is None else held_out.labels),
    }
    rows: dict[str, dict[str, float]] = {}
    for title, (drawn, ordered) in subjects.items():
        (features, digits), region = _see(drawn), _real_digits()[1]
        rows[title] = {
            "Frechet": frechet_distance(features, region.points),
            "precision": region.holds(features),
            "recall": Region(features).holds(region.points),
        }
        if ordered is not None:
            rows[title]["as asked"] = float((digits == ordered).mean())
    return rows


def report_digits(settings: Any, pictures: training.Pictures) -> None:
    """At the end of a run, print and write what compare_digits says of settings.measure samples.

    At least 1,000 are drawn. Nothing happens where that option is 0 or the data are no digits.
    """
    if not settings.measure or settings.data not in ("mnist", "mnist-full"):
        return
    count = max(FEWEST, settings.measure)
    labels = numpy.arange(count) % pictures.classes if pictures.classes else None
    images = pictures.samples(count, settings.seed, labels)
    arrays = {"images": to_bytes(images)} | ({} if labels is None else {"labels": labels})
    training.report(settings.out, compare_digits("samples of G", images, labels), arrays)


def gaussian_fit(images: numpy.ndarray, count: int, seed: int = 0) -> numpy.ndarray:
    """count images from a Gaussian with the mean and covariance of the pixels of images.

    It knows how bright pixels are and which go together, no more: every generator should beat it.
    """
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
    images (N, 28, 28, 1), labels (N,). It trains for half a minute.
    """
    if labels is None:
        _, labels = shipped_classifier().see(images)
    learned = train_classifier(Dataset(to_bytes(images), labels), seed)
    return accuracy(learned, datasets.mnist("held-out"))
