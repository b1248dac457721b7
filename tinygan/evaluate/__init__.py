"""How good the samples of checkpoints are:  python -m tinygan.evaluate CHECKPOINT..."""

import argparse
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from . import backend, datasets, metrics, training
from .checkpoints import Generator
from .classifier import as_images
from .files import UsageError, replacing

HELD_OUT, GAUSSIAN = "held-out real digits", "Gaussian fit of the pixels"
CENTERS = 1000  # that k_means finds

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
        prog="python -m tinygan.evaluate", allow_abbrev=False,
        description="Measure the samples of generators of digits, beside held-out real digits and "
        "a Gaussian fit of the pixels.",
    )
    add, whole = parser.add_argument, training.positive(int)
    add("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT",
        help="checkpoint.npz, or the folder of a run")
    add("--count", type=whole, default=5000, metavar="N", help="samples of each (default: 5000)")
    add("--seed", type=training.from_zero(training.MOST, int), default=0,
        help="the same seed gives the same figures (default: 0)")
    add("--train", action="store_true", help="also train a classifier on the samples of each and "
        "test it on real digits (half a minute each)")
    add("--parzen", action="store_true", help="also the log-likelihood of Goodfellow et al. 2014, "
        "and what shows its weakness")
    add("--json", type=Path, metavar="PATH", help="also write all figures as JSON")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--debug", action="store_true", help="show the traceback of an error")
    chosen = parser.parse_args()
    if chosen.count < 1000:
        parser.error(f"argument --count: 1000 or above, not {chosen.count}")
    return chosen


def load_digit_generator(path: Path) -> Generator:
    """The generator of a checkpoint. Raises UsageError unless it makes images of digits."""
    generator = training.load_generator(path)
    data, image = generator.options.get("data"), generator.samples(1)
    if data not in ("mnist", "mnist-full") or image.shape[1:] != (28, 28, 1):
        raise UsageError(
            f"{path} was trained on {data}, but these figures know only digits of 28 x 28: give a "
            "run with --data mnist or mnist-full"
        )
    if not numpy.isfinite(image).all():
        raise UsageError(f"{path} makes images of nan: give an earlier checkpoint")
    return generator


def subjects(
    generators: dict[str, Generator], count: int, seed: int
) -> Iterator[tuple[str, numpy.ndarray, numpy.ndarray | None]]:
    """Name, images and labels of all that is measured: the two floors, then the generators."""
    held_out = datasets.mnist("held-out")
    yield HELD_OUT, as_images(held_out), held_out.labels
    yield GAUSSIAN, metrics.gaussian_fit(as_images(datasets.mnist()), count, seed), None
    for name, generator in generators.items():
        labels = numpy.arange(count) % generator.classes if generator.classes else None
        yield name, generator.samples(count, seed, labels), labels


def points(images: numpy.ndarray) -> numpy.ndarray:
    """Images as points with coordinates in [0, 1], float64 (N, H*W*C)."""
    return (images.reshape(len(images), -1).astype(numpy.float64) + 1) / 2


def table(titles: list[str], rows: dict[str, list[str]]) -> str:
    """Titles and cells to the right of each row's name, in columns as wide as they need."""
    lines = [["", *titles], *([name, *cells] for name, cells in rows.items())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width
                                        in zip(cells, widths[1:], strict=True))
        for name, *cells in lines
    )


def print_figures(found: dict[str, dict[str, Any]]) -> None:
    """The table of all figures that somebody has, the shares of the digits, how to read them."""
    shown = [f for f in FIGURES if any(row.get(f[1]) is not None for row in found.values())]
    print(table([title for title, *_ in shown], {
        name: ["-" if row.get(figure) is None else f"{row[figure]:.{places}f}"
               for _, figure, places, _ in shown]
        for name, row in found.items()
    }))
    print("\n" + table([f"digit {i}" for i in range(10)], {
        name: [f"{share:.1%}" for share in row["histogram"]] for name, row in found.items()
    }) + "\n")
    for title, _, _, reading in shown:
        print(textwrap.fill(f"{title}: {reading}.", 92, subsequent_indent="    "))


def print_parzen(found: dict[str, dict[str, float]]) -> None:
    """The table of log-likelihoods, and why they say little."""
    print("\n" + table(["nats", "error", "sigma"], {
        name: [f"{row['log_likelihood']:.0f}", f"{row['error']:.0f}", f"{row['deviation']:.2f}"]
        for name, row in found.items()
    }) + "\n")
    print(textwrap.fill(
        "Parzen windows: mean log-likelihood of 500 held-out digits under Gaussians at the "
        "samples, whose width suits 500 other ones, as in Goodfellow et al. 2014. Higher was "
        "taken for better, but few blurred means of clusters get more than many real digits.",
        92, subsequent_indent="    "))


def main() -> None:
    from tqdm import tqdm

    settings = options()
    backend.use_device(settings.device)
    generators: dict[str, Generator] = {}
    for path in settings.checkpoints:
        generator = load_digit_generator(path)
        generators[f"{path}, step {generator.step}"] = generator
    held_out = points(as_images(datasets.mnist("held-out")))

    def parzen(samples: numpy.ndarray) -> dict[str, float]:
        return metrics.parzen_log_likelihood(samples, held_out[:500], held_out[500:])._asdict()

    figures: dict[str, dict[str, Any]] = {}
    windows: dict[str, dict[str, float]] = {}
    bar = tqdm(subjects(generators, settings.count, settings.seed), total=2 + len(generators),
               unit="set", leave=False, disable=None)
    for name, images, labels in bar:
        row = figures[name] = metrics.measure(images, labels)._asdict()
        if settings.train and name == HELD_OUT:  # read by what learned from real digits
            row["accuracy_score"] = row["conditional_accuracy"]
        elif settings.train:
            row["accuracy_score"] = metrics.accuracy_score(images, labels, settings.seed)
        if settings.parzen and name != HELD_OUT:
            windows[name] = parzen(points(images))
    if settings.parzen:
        real = points(as_images(datasets.mnist()))
        windows[f"{len(real):,} real training digits"] = parzen(real)
        windows[f"{CENTERS:,} means of clusters of them"] = parzen(metrics.k_means(real, CENTERS))
    if settings.json:
        found = {"count": settings.count, "seed": settings.seed, "figures": figures}
        with replacing(settings.json) as path:
            path.write_text(json.dumps(found | {"parzen": windows}, indent=2) + "\n")
    print(f"{settings.count:,} samples of each, and the 1,000 held-out digits\n")
    print_figures(figures)
    if windows:
        print_parzen(windows)


if __name__ == "__main__":
    training.run_main(main)
