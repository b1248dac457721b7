"""Images translated from one kind to another, and back: do they still show the same?"""

import argparse
from collections.abc import Callable

import numpy

from .. import datasets, training
from ..datasets import Pairs, from_bytes, to_bytes
from ..tensor import Tensor
from .classifier import shipped_classifier
from .digits import FEWEST, measure
from .distances import nearest

Translator = Callable[[Tensor], Tensor]


def intersection_over_union(ink: numpy.ndarray, other: numpy.ndarray) -> float:
    """Pixels that are ink in both images over pixels that are ink in either: the images' mean.

    bool (N, ...), twice; 1 where the structure is the same, 0 where neither image has ink.
    """
    pixels = tuple(range(1, ink.ndim))
    common, either = (ink & other).sum(pixels), (ink | other).sum(pixels)
    return float((common / numpy.maximum(either, 1)).mean())


def report_round_trips(
    settings: argparse.Namespace, data: Pairs, G: Translator, F: Translator
) -> None:
    """Print and write the figures of G(x) and F(y), beside those of x and y as they are.

    The first settings.measure images of each kind in data, uint8, are measured. For all kinds,
    "trip L1" is the mean |F(G(x)) - x| or |G(F(y)) - y|, of numbers from -1 to 1.

    --data digits  how many are read right, and of the ones and the nines alone. The shipped
                   classifier reads what should be MNIST's, and round trips; F(y) is read as the
                   nearest of x. "ink IoU" is with the source, ink being brighter than the middle;
                   "Frechet" the distance from MNIST's digits, if there are 1,000 images
    --data emoji   each x has its y: "L1" to it, and "ink IoU" with it, ink being darker
    """
    kinds = [from_bytes(images[: settings.measure]) for images in data]
    digits, labels, arrays = settings.data == "digits", [], {}
    if digits:
        labels = [datasets.uci_digits().labels, datasets.mnist("held-out").labels]
    rows: dict[str, dict[str, float]] = {}

    def read(images: numpy.ndarray) -> numpy.ndarray:
        return shipped_classifier().see(images)[1]

    def read_as_uci(images: numpy.ndarray) -> numpy.ndarray:
        found, _ = nearest(*(some.reshape(len(some), -1) for some in (images, kinds[0])))
        return labels[0][found]

    for i, names, there, back, reader in (
        (0, ("x", "G(x)"), G, F, read), (1, ("y", "F(y)"), F, G, read_as_uci)
    ):
        source, other, made = kinds[i], kinds[1 - i], training.apply(there, kinds[i])
        trip = training.apply(back, made)
        truth = labels[i][: len(source)] if digits else None
        for name, images in zip(names, (source, made), strict=True):
            row = rows[name] = {}
            if digits:
                right = reader(images) == truth
                row["read right"] = float(right.mean())
                row |= {f"{digit}s": float(right[truth == digit].mean())
                        for digit in (1, 9) if digit in truth}
                row["ink IoU"] = intersection_over_union(images > 0, source > 0)
                if i == 0 and len(images) >= FEWEST:
                    row["Frechet"] = measure(images)["Frechet"]
            elif settings.data == "emoji":
                row["L1"] = float(abs(images - other).mean())
                row["ink IoU"] = intersection_over_union(
                    *(some.mean(axis=-1) < 0 for some in (images, other)))
            arrays[name] = to_bytes(images)
        row["trip L1"] = float(abs(trip - source).mean())
        if digits:
            row["trip right"] = float((read(trip) == truth).mean())
            arrays[f"labels of {names[0]}"] = truth
    if digits:
        rows["MNIST's own"] = {"read right": float((read(kinds[1]) == truth).mean())}
    training.report(settings.out, rows, arrays)
