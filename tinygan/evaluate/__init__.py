"""How good the digits of trained runs are:  python -m tinygan.evaluate RUN..."""

import argparse
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from .. import backend, datasets, metrics, training
from ..datasets import from_bytes
from ..files import UsageError, replacing
from ..training.options import LARGEST

HELD_OUT, GAUSSIAN = "held-out real digits", "Gaussian fit of the pixels"

# The columns of the table: title, figure, digits after the point, how to read it.
FIGURES = (
    ("Frechet", "frechet_distance", 2,
     "distance of Gaussians fitted to features of the samples and of the 9,000 real training "
     "digits; lower is better, and fewer samples make it larger"),
    ("of 1,000", "frechet_of_1000", 2,
     "the same of the first 1,000 samples, to be compared with the 1,000 held-out digits"),
    ("kernel", "kernel_distance", 4,
     "squared distance that does not depend on the number of samples; 0, up to chance, if perfect"),
    ("error", "kernel_error", 4, "standard error of the kernel distance"),
    ("precision", "precision", 3,
     "share of samples that lie among real digits; faint and noisy images do, too, since they lie "
     "in the middle of all: read it with recall"),
    ("recall", "recall", 3, "share of real digits that lie among samples: variety"),
    ("entropy", "entropy", 3,
     "of the shares of the ten digits, in nats: 2.303 if all are equal, 0 if there is one"),
    ("as asked", "conditional_accuracy", 3, "share of samples seen as the digit of their label"),
    ("score", "accuracy_score", 3,
     "share of held-out digits read right by a classifier that learned from samples alone, with "
     "their labels or, where they have none, those that the shipped classifier sees"),
)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tinygan evaluate", allow_abbrev=False,
        description="Measure the samples of generators of digits, beside held-out real digits and "
        "a Gaussian fit of the pixels.",
    )
    add, whole = parser.add_argument, training.positive(int)
    add("runs", type=Path, nargs="+", metavar="RUN",
        help="the folder of a run, or its checkpoint.npz")
    add("--count", type=whole, default=5000, metavar="N", help="samples of each (default: 5000)")
    add("--seed", type=training.from_zero(LARGEST, int), default=0,
        help="the same seed gives the same figures (default: 0)")
    add("--train", action="store_true", help="also train a classifier on the samples of each and "
        "test it on real digits (half a minute each)")
    add("--json", type=Path, metavar="PATH", help="also write all figures as JSON")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--debug", action="store_true", help="show the traceback of an error")
    chosen = parser.parse_args()
    if chosen.count < 1000:
        parser.error(f"argument --count: 1000 or above, not {chosen.count}")
    return chosen


def load_digits(path: Path) -> tuple[str, training.Pictures]:
    """A run and what draws its pictures. Raises UsageError unless these are digits."""
    trained = training.load(path)
    pictures, data = trained.pictures(), getattr(trained.settings, "data", "no images")
    digits = isinstance(pictures, training.Pictures) and data in ("mnist", "mnist-full")
    image = pictures.samples(1) if digits else numpy.zeros(1)
    if image.shape[1:] != (28, 28, 1):
        raise UsageError(
            f"{path} was trained on {data}, but these figures know only digits of 28 x 28: give a "
            "run with --data mnist or mnist-full"
        )
    if not numpy.isfinite(image).all():
        raise UsageError(f"{path} draws images of NaN: give an earlier checkpoint")
    return f"{path}, step {trained.step}", pictures


def subjects(
    runs: dict[str, training.Pictures], count: int, seed: int
) -> Iterator[tuple[str, numpy.ndarray, numpy.ndarray | None]]:
    """Name, images and labels of everything that is measured: ceiling and floor, then the runs."""
    held_out = datasets.mnist("held-out")
    yield HELD_OUT, from_bytes(held_out.images), held_out.labels
    yield GAUSSIAN, metrics.gaussian_fit(from_bytes(datasets.mnist().images), count, seed), None
    for name, pictures in runs.items():
        labels = numpy.arange(count) % pictures.classes if pictures.classes else None
        yield name, pictures.samples(count, seed, labels), labels


def print_figures(found: dict[str, dict[str, Any]]) -> None:
    """The table of all figures that somebody has, the shares of the digits, how to read them."""
    shown = [f for f in FIGURES if any(row.get(f[1]) is not None for row in found.values())]
    print(training.table([title for title, *_ in shown], {
        name: ["-" if row.get(figure) is None else f"{row[figure]:.{places}f}"
               for _, figure, places, _ in shown]
        for name, row in found.items()
    }))
    print("\n" + training.table([f"digit {i}" for i in range(10)], {
        name: [f"{share:.1%}" for share in row["histogram"]] for name, row in found.items()
    }) + "\n")
    for title, _, _, reading in shown:
        print(textwrap.fill(f"{title}: {reading}.", 92, subsequent_indent="    "))


def main() -> None:
    from tqdm import tqdm

    settings = options()
    backend.use_device(settings.device)
    runs = dict(load_digits(path) for path in settings.runs)
    figures: dict[str, dict[str, Any]] = {}
    bar = tqdm(subjects(runs, settings.count, settings.seed), total=2 + len(runs),
               unit="set", leave=False, disable=None)
    for name, images, labels in bar:
        row = figures[name] = metrics.measure(images, labels)._asdict()
        if settings.train and name == HELD_OUT:  # read by what learned from real digits
            row["accuracy_score"] = row["conditional_accuracy"]
        elif settings.train:
            row["accuracy_score"] = metrics.accuracy_score(images, labels, settings.seed)
    if settings.json:
        found = {"count": settings.count, "seed": settings.seed, "figures": figures}
        with replacing(settings.json) as path:
            path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{settings.count:,} samples of each, and the 1,000 held-out digits\n")
    print_figures(figures)
