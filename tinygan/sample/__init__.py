"""Pictures and arrays from a checkpoint:  python -m tinygan.sample CHECKPOINT"""

import argparse
from pathlib import Path

import numpy

from . import backend, plots, training
from .files import UsageError, replacing

ROWS = 8  # of a grid, unless there are classes: then one of each


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tinygan.sample", allow_abbrev=False,
        description="Draw samples from a trained generator; with labels, a row for each class.",
    )
    add, whole = parser.add_argument, training.positive(int)
    add("checkpoint", type=Path, help="checkpoint.npz, or the folder of a run")
    add("--out", type=Path, default=Path("generated.png"), metavar="PATH",
        help="the picture (default: generated.png)")
    add("--npz", type=Path, metavar="PATH",
        help="also write the arrays images, float32 (N, H, W, C) in [-1, 1], latents and labels")
    add("--count", type=whole, metavar="N",
        help=f"images (default: {ROWS} rows, or one for each class)")
    add("--columns", type=whole, default=8, metavar="N", help="images in a row (default: 8)")
    add("--seed", type=training.from_zero(training.MOST, int), default=0,
        help="the same seed gives the same images (default: 0)")
    add("--digit", type=int, metavar="CLASS", help="make images of this class alone")
    add("--interpolate", action="store_true", help="each row goes from one latent to another")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args()


def draw_latents(settings: argparse.Namespace, latent: int, count: int) -> numpy.ndarray:
    """Latents (count, latent): independent ones, or rows on the way from one to another."""
    random = numpy.random.default_rng(settings.seed)
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
            f"{settings.checkpoint} was trained without labels and cannot make the digit {digit} "
            "alone: leave --digit out, or train demos/cgan.py"
        )
    if digit is not None and not 0 <= digit < classes:
        raise UsageError(f"--digit {digit}: {settings.checkpoint} knows 0 to {classes - 1}")
    if classes == 0:
        return None
    row = numpy.arange(count) // settings.columns
    return row % classes if digit is None else numpy.full(count, digit)


def main() -> None:
    settings = options()
    backend.use_device(settings.device)
    generator = training.load_generator(settings.checkpoint)
    rows = ROWS if settings.digit is not None else generator.classes or ROWS
    count = settings.count or rows * settings.columns
    settings.columns = min(settings.columns, count)
    labels = choose_labels(settings, generator.classes, count)
    latents = draw_latents(settings, int(generator.options["latent"]), count)
    images = generator.from_latents(latents, labels)
    plots.save_grid(images, settings.out, settings.columns)
    written = [str(settings.out)]
    if settings.npz:
        arrays = {"images": images, "latents": latents}
        with replacing(settings.npz) as path, open(path, "wb") as file:
            numpy.savez_compressed(file, **arrays, **({} if labels is None else {"labels": labels}))
        written.append(str(settings.npz))
    print(f"{count} images after step {generator.step}: {' and '.join(written)}")


if __name__ == "__main__":
    training.run_main(main)
