"""How good the digits of trained runs are:  python -m tinygan.evaluate RUN..."""

import argparse
import json
import textwrap
from pathlib import Path

import numpy

from .. import backend, metrics, training
from ..files import UsageError, replacing
from ..training.options import LARGEST

# The columns of the table, with digits after the point, and how to read them.
PLACES = {"Frechet": 2, "kernel": 4, "precision": 3, "recall": 3, "as asked": 3, "score": 3}
READING = """\
Frechet and kernel are distances from the 9,000 real training digits: lower is better, and fewer
samples make the Frechet distance larger. Precision is the share of samples that lie among real
digits, recall the share of real digits that lie among samples; faint and noisy images lie among
real ones, too, so read the two together. As asked: the share seen as the digit of their label.
Score, with --train: the share of held-out digits read right by a classifier that learned from the
samples alone, with their labels or, where they have none, those that the shipped classifier sees.
"""


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
    pictures, data = trained.pictures(), getattr(trained.settings, "data", "something else")
    digits = isinstance(pictures, training.Pictures) and data in ("mnist", "mnist-full")
    image = pictures.samples(1) if digits else numpy.zeros(1)
    if image.shape[1:] != (28, 28, 1):
        raise UsageError(
            f"{path} was trained on {data}, but these figures are of all ten digits: give a "
            "run with --data mnist or mnist-full"
        )
    if not numpy.isfinite(image).all():
        raise UsageError(f"{path} draws images of NaN: give an earlier checkpoint")
    return f"{path}, step {trained.step}", pictures


def print_figures(rows: dict[str, dict[str, float]]) -> None:
    """The table of all figures that somebody has, and how to read it."""
    titles = [title for title in PLACES if any(title in row for row in rows.values())]
    print(training.table(titles, {
        name: [f"{row[title]:.{PLACES[title]}f}" if title in row else "-" for title in titles]
        for name, row in rows.items()
    }))
    print("\n" + textwrap.fill(READING, 92))


def main() -> None:
    from tqdm import tqdm

    settings = options()
    backend.use_device(settings.device)
    runs = dict(load_digits(path) for path in settings.runs)
    rows: dict[str, dict[str, float]] = {}
    for name, images, labels in tqdm(metrics.subjects(runs, settings.count, settings.seed),
                                     total=2 + len(runs), unit="set", leave=False, disable=None):
        row = rows[name] = metrics.measure(images, labels)
        if settings.train and name == metrics.CEILING:  # read by what learned from real digits
            row["score"] = row["as asked"]
        elif settings.train:
            row["score"] = metrics.accuracy_score(images, labels, settings.seed)
    if settings.json:
        found = {"count": settings.count, "seed": settings.seed, "figures": rows}
        with replacing(settings.json) as path:
            path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{settings.count:,} samples of each, and the 1,000 held-out digits\n")
    print_figures(rows)
