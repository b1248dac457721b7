"""Pictures and arrays from a trained run:  python -m tinygan.sample RUN"""

import argparse
from pathlib import Path
from typing import Any

import numpy

from .. import backend, plots, training
from ..files import UsageError, replacing
from ..training.options import LARGEST

ROWS = 8  # of a grid, unless there are classes: then one of each


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tinygan sample", allow_abbrev=False,
        description="Draw pictures with a trained run: samples of its generator, a row for each "
        "class if it has labels. Runs that draw something else, such as pairs of images, draw the "
        "picture that they show during training.",
    )
    add, whole = parser.add_argument, training.positive(int)
    add("run", type=Path, metavar="RUN", help="the folder of a run, or its checkpoint.npz")
    add("--out", type=Path, default=Path("generated.png"), metavar="PATH",
        help="the picture (default: generated.png)")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--debug", action="store_true", help="show the traceback of an error")
    latents = parser.add_argument_group("for generators that draw from latents")
    add = latents.add_argument
    add("--npz", type=Path, metavar="PATH",
        help="also write the arrays images, float32 (N, H, W, C) in [-1, 1], latents and labels")
    add("--count", type=whole, metavar="N",
        help=f"images (default: {ROWS} rows, or one for each class)")
    add("--columns", type=whole, metavar="N", help="images in a row (default: 8)")
    add("--seed", type=training.from_zero(LARGEST, int), metavar="N",
        help="the same seed gives the same images (default: 0)")
    add("--digit", type=training.from_zero(LARGEST, int), metavar="CLASS",
        help="draw images of this class alone")
    add("--interpolate", action="store_true", help="each row leads from one latent to another")
    return parser.parse_args()


def draw_latents(settings: argparse.Namespace, latent: int, count: int) -> numpy.ndarray:
    """Latents (count, latent): independent ones, or rows on the way from one to another."""
    random = numpy.random.default_rng(settings.seed or 0)
    if not settings.interpolate:
        return random.standard_normal((count, latent), dtype=numpy.float32)
    rows = -(-count // settings.columns)
    ends = random.standard_normal((2 * rows, latent), dtype=numpy.float32)
    return training.interpolate(ends[:rows], ends[rows:], settings.columns)[:count]


def choose_labels(settings: argparse.Namespace, classes: int, count: int) -> numpy.ndarray | None:
    """Labels (count,): the digit that was asked for, or each class in its turn, row by row.

    None for a generator without labels. Raises UsageError where a digit cannot be had.
    """
    digit = settings.digit
    if classes == 0 and digit is not None:
        raise UsageError(
            f"{settings.run} was trained without labels and cannot draw the digit {digit} alone: "
            "leave --digit out, or train demos/cgan.py"
        )
    if digit is not None and digit >= classes:
        raise UsageError(f"--digit {digit}: {settings.run} knows 0 to {classes - 1}")
    if classes == 0:
        return None
    row = numpy.arange(count) // settings.columns
    return row % classes if digit is None else numpy.full(count, digit)


def draw_any(settings: argparse.Namespace, pictures: Any) -> str:
    """Write the picture that the run shows during training; what was written."""
    for name in ("npz", "count", "columns", "seed", "digit", "interpolate"):
        if getattr(settings, name) not in (None, False):
            raise UsageError(f"{settings.run} does not draw from latents: leave --{name} out")
    pictures.draw(settings.out)
    return f"picture {{}}: {settings.out}"


def draw_samples(settings: argparse.Namespace, pictures: training.Pictures) -> str:
    """Write samples of a generator that draws from latents; what was written."""
    rows = ROWS if settings.digit is not None else pictures.classes or ROWS
    columns = settings.columns or 8
    count = settings.count or rows * columns
    settings.columns = min(columns, count)
    labels = choose_labels(settings, pictures.classes, count)
    latents = draw_latents(settings, pictures.latent, count)
    images = pictures.from_latents(latents, labels)
    plots.save_grid(images, settings.out, settings.columns)
    if settings.npz is None:
        return f"{count} images {{}}: {settings.out}"
    arrays = {"images": images, "latents": latents}
    with replacing(settings.npz) as path, open(path, "wb") as file:
        numpy.savez_compressed(file, **arrays, **({} if labels is None else {"labels": labels}))
    return f"{count} images {{}}: {settings.out} and {settings.npz}"


def main() -> None:
    settings = options()
    backend.use_device(settings.device)
    backend.seed(settings.seed or 0)
    trained = training.load(settings.run)
    pictures = trained.pictures()
    draw = draw_samples if isinstance(pictures, training.Pictures) else draw_any
    print(draw(settings, pictures).format(f"after step {trained.step}"))
