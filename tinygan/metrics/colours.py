"""Pictures in a few colours, as artists draw emoji: is each pixel of the right one?"""

import argparse

import numpy

from .. import datasets, training
from ..datasets import from_bytes, to_bytes
from .distances import nearest


def snapped(images: numpy.ndarray, palette: numpy.ndarray) -> numpy.ndarray:
    """The nearest of M colours of each pixel: uint8 (N, H, W, 3) and (M, 3) to int (N, H, W)."""
    pixels = images.reshape(-1, 3).astype(numpy.float32)
    return nearest(pixels, palette.astype(numpy.float32))[0].reshape(images.shape[:-1])


def colour_figures(
    made: numpy.ndarray, truth: numpy.ndarray, palette: numpy.ndarray
) -> dict[str, float]:
    """How near pictures are to the true ones, both uint8 (N, H, W, 3); M colours (M, 3).

    Per-pixel accuracy, per-class accuracy and intersection over union are those of Long et al.
    2015, which Isola et al. 2017 take over, the classes being the colours that the truth has:

    pixel      pixels of the right colour
    class      the same for each colour by itself, the mean over the colours
    IoU        pixels of a colour in both over pixels of it in either, the mean over the colours
    L1         mean |made - truth|, of numbers from -1 to 1
    histogram  intersection of how often each colour is there: 1 where all are as frequent as in
               the truth, wherever they are
    """
    count = len(palette)
    pairs = snapped(truth, palette) * count + snapped(made, palette)
    confusion = numpy.bincount(pairs.ravel(), minlength=count**2).reshape(count, count)
    right, true, found = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    there = true > 0
    union = true + found - right
    return {
        "pixel": float(right.sum() / confusion.sum()),
        "class": float((right[there] / true[there]).mean()),
        "IoU": float((right[there] / union[there]).mean()),
        "L1": float(abs(from_bytes(made) - from_bytes(truth)).mean()),
        "histogram": float(numpy.minimum(true, found).sum() / confusion.sum()),
    }


def report_colours(settings: argparse.Namespace, made: numpy.ndarray) -> None:
    """Print and write the figures of what G made of the held-out emoji, (N, 32, 32, 3).

    Beside them: the outlines as they are, and the colours of the nearest training outline. The
    first settings.measure emoji are measured.
    """
    train, held_out = (datasets.emoji(part) for part in ("train", "held-out"))
    outlines, truth = (images[: settings.measure] for images in held_out)
    rows, _ = nearest(*(images.reshape(len(images), -1).astype(numpy.float32)
                        for images in (outlines, train.sources)))
    pictures = {
        "the outline as it is": numpy.repeat(outlines, 3, axis=3),
        "nearest training outline": train.targets[rows],
        "G": to_bytes(made[: settings.measure]),
    }
    palette = datasets.emoji_palette()
    training.report(
        settings.out,
        {name: colour_figures(images, truth, palette) for name, images in pictures.items()},
        {"images": pictures["G"], "truth": truth, "outlines": outlines},
    )
