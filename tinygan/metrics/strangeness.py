"""What does not belong: one digit is normal, the other nine are strange.

The protocol of Ruff et al. 2018: a model sees about 900 training images of one digit and gives each
of the 1,000 held-out digits a score, the higher the stranger. Figures are AUROCs in percent.
"""

import argparse
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from .. import datasets, plots, training
from ..datasets import from_bytes
from ..datasets.batches import require_floats
from .distances import nearest
from .roc import auroc, roc_curve

Scores = dict[str, numpy.ndarray]  # by the name of what gave them, (N,)


class OneDigit(NamedTuple):
    """Images (N, 28, 28, 1) in [-1, 1]: those to learn from, and those to judge."""

    normal: numpy.ndarray  # training images of the digit
    judged: numpy.ndarray  # the 1,000 held-out images
    strange: numpy.ndarray  # bool: whether a judged image shows another digit


def one_digit(digit: int) -> OneDigit:
    training_digits, held_out = datasets.mnist(), datasets.mnist("held-out")
    normal = training_digits.images[training_digits.labels == digit]
    return OneDigit(from_bytes(normal), from_bytes(held_out.images), held_out.labels != digit)


def squared_distances(x: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
    """|x - y|^2 of each example, (N,). Raises DataError for bytes, whose differences wrap."""
    require_floats(x - y)
    return ((x - y) ** 2).reshape(len(x), -1).sum(axis=1)


def pasted_strokes(
    data: OneDigit, seed: int = 0, reach: int = 4
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The normal judged images with a piece of another digit's stroke each, and masks of where.

    The piece is what lies within reach pixels of a random pixel of ink in a strange judged image,
    at its own place. The mask is where the image became brighter by a quarter or more, in eight
    pixels at least: a piece that hides in the digit's own ink is drawn anew. (N, 28, 28, 1) each.
    """
    random = numpy.random.default_rng(seed)
    rows, columns = numpy.mgrid[:28, :28]
    normal, foreign = data.judged[~data.strange], data.judged[data.strange]
    pasted, masks = normal.copy(), numpy.zeros(normal.shape, dtype=bool)
    for i, image in enumerate(normal):
        while masks[i].sum() < 8:
            other = foreign[random.integers(len(foreign))]
            row, column, _ = random.choice(numpy.argwhere(other > 0))
            near = (rows - row) ** 2 + (columns - column) ** 2 <= reach**2
            pasted[i] = numpy.maximum(image, numpy.where(near[..., None], other, -1))
            masks[i] = pasted[i] - image > 0.5
    return pasted, masks


def judge_strokes(
    data: OneDigit, seed: int, repair: Callable[[numpy.ndarray], numpy.ndarray]
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Print the AUROC by pixel of |x - repair(x)| on pasted strokes; the images and their repair.

    Beside it stands that of the nearest normal image in place of the repaired one.
    """
    pasted, masks = pasted_strokes(data, seed)
    repaired = repair(pasted)
    rows, _ = nearest(*(images.reshape(len(images), -1) for images in (pasted, data.normal)))
    found = [100 * auroc(abs(pasted - other).ravel(), masks.ravel())
             for other in (repaired, data.normal[rows])]
    print("AUROC by pixel, strokes of other digits pasted in: {:.1f} %; with the nearest normal "
          "image in place of G(z), {:.1f} %.".format(*found))
    return pasted, repaired


def classical_scores(data: OneDigit) -> Scores:
    """What needs no network: squared distances to the mean of the normal images, to the nearest
    one, and to the plane of their first 32 principal components."""
    normal, judged = (images.reshape(len(images), -1) for images in (data.normal, data.judged))
    mean = normal.mean(axis=0)
    centred, (_, _, directions) = judged - mean, numpy.linalg.svd(normal - mean, False)
    off_plane = centred - centred @ directions[:32].T @ directions[:32]
    return {
        "distance to the mean": (centred**2).sum(axis=1),
        "nearest neighbour": nearest(judged, normal)[1],
        "PCA, 32 components": (off_plane**2).sum(axis=1),
    }


def digits_option(parser: argparse.ArgumentParser) -> None:
    """Add --digit, which is normal, and --digits for several in turn."""
    def several(text: str) -> str:
        if not re.fullmatch(r"[0-9]-[0-9]", text) or text[0] > text[2]:
            raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 0-9")
        return text

    parser.add_argument("--digit", type=int, choices=range(10), default=4, metavar="K",
                        help="the digit that is normal")
    parser.add_argument("--digits", type=several, metavar="A-B",
                        help="train on each of these digits in turn, in folders of --out; "
                        "random numbers go on from one to the next")


def over_digits(
    settings: argparse.Namespace, train_one: Callable[[argparse.Namespace], Scores | None]
) -> None:
    """Train on --digit in --out, or on each of --digits in a folder there; report all scores.

    train_one returns None where its run was stopped, which ends the rest.
    """
    several = settings.digits
    digits = range(int(several[0]), int(several[2]) + 1) if several else [settings.digit]
    if several:
        training.require_free(settings, *(settings.out / f"digit-{digit}" for digit in digits))
    rows: dict[str, dict[str, float]] = {}
    arrays: dict[str, Any] = {}
    for digit in digits:
        one = argparse.Namespace(**vars(settings) | {"digit": digit, "digits": None})
        one.out = settings.out / f"digit-{digit}" if several else settings.out
        found, data = train_one(one), one_digit(digit)
        if found is None:
            return
        curves = {}
        for name, scores in (classical_scores(data) | found).items():
            rows.setdefault(name, {})[str(digit)] = 100 * auroc(scores, data.strange)
            curves[name] = roc_curve(scores, data.strange)
            arrays["_".join([str(digit), *re.findall(r"\w+", name)])] = scores
        plots.save_roc(curves, one.out / "roc.png")
    means = {name: {"mean": sum(row.values()) / len(row)} for name, row in rows.items()}
    print("AUROC in percent, by the normal digit:")
    training.report(settings.out, {name: row | means[name] for name, row in rows.items()}, arrays)
