"""Pictures and arrays from a trained run:  python -m tinygan.sample RUN"""

import argparse
from pathlib import Path

import numpy

from .. import backend, plots, training
from ..files import UsageError, replacing
from ..training.options import LARGEST

ROWS = 8  # of a grid, unless there are classes: then one of each


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tinygan sample", allow_abbrev=False,
        description="Draw pictures with a trained run: samples of its generator, a row for each "
        "class if it has labels. Runs that draw something else, such as points, draw the "
        "picture that they show during training.",
    )
    add, whole = parser.add_argument, training.positive(int)
    add("run", type=Path, metavar="RUN", help="the folder of a run, or its checkpoint.npz")
    add("--out", type=Path, default=Path("generated.png"), metavar="PATH",
        help="the picture (default: generated.png)")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--debug", action="store_true", help="show the traceback of an error")
    add = parser.add_argument_group("for generators that draw from latents").add_argument
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


def draw_samples(settings: argparse.Namespace, pictures: training.Pictures) -> int:
    """Write samples, each class in its turn, row by row, or one class alone; how many.

    Raises UsageError where that class cannot be had.
    """
    digit, classes = settings.digit, pictures.classes
    if digit is not None and not classes:
        raise UsageError(
            f"{settings.run} was trained without labels and cannot draw the digit {digit} alone: "
            "leave --digit out, or train demos/cgan.py"
        )
    if digit is not None and digit >= classes:
        raise UsageError(f"--digit {digit}: {settings.run} knows 0 to {classes - 1}")
    columns = settings.columns or 8
    count = settings.count or columns * (ROWS if digit is not None else classes or ROWS)
    columns = min(columns, count)
    rows = -(-count // columns)
    random = numpy.random.default_rng(settings.seed or 0)
    if settings.interpolate:
        ends = random.standard_normal((2 * rows, pictures.latent), dtype=numpy.float32)
        latents = training.interpolate(ends[:rows], ends[rows:], columns)[:count]
    else:
        latents = random.standard_normal((count, pictures.latent), dtype=numpy.float32)
    labels = None
    if classes:
        row = numpy.arange(count) // columns
        labels = row % classes if digit is None else numpy.full(count, digit)
    images = pictures.from_latents(latents, labels)
    plots.save_grid(images, settings.out, columns)
    if settings.npz:
        arrays = {"images": images, "latents": latents} | ({"labels": labels} if classes else {})
        with replacing(settings.npz) as path, open(path, "wb") as file:
            numpy.savez_compressed(file, **arrays)
    return count


def main() -> None:
    settings = options()
    backend.use_device(settings.device)
    trained = training.load(settings.run)
    pictures, drawn = trained.pictures(), "picture"
    if isinstance(pictures, training.Pictures):
        drawn = f"{draw_samples(settings, pictures)} images"
    else:
        for name in ("npz", "count", "columns", "seed", "digit", "interpolate"):
            if getattr(settings, name) not in (None, False):
                raise UsageError(f"{settings.run} does not draw from latents: leave --{name} out")
        pictures.draw(settings.out)
    written = " and ".join(str(path) for path in (settings.out, settings.npz) if path)
    print(f"{drawn} after step {trained.step}: {written}")
