"""The digits that ship with the package, and what a data set is."""

from pathlib import Path
from typing import NamedTuple

import numpy

from ..files import UsageError


class DataError(UsageError):
    """Data that is missing, damaged or of another kind than it should be."""


class Dataset(NamedTuple):
    """Real examples in main memory: images uint8 (N, H, W, C), labels uint8 (N,) or None."""

    images: numpy.ndarray
    labels: numpy.ndarray | None


def mnist(part: str = "train") -> Dataset:
    """The first 10,000 digits of MNIST, shuffled: 9,000 to "train" on, 1,000 "held-out", 28x28x1.

    Where they come from, and their licence: data/README.md.
    """
    check_part(part)
    rows = slice(9000) if part == "train" else slice(9000, 10000)
    with numpy.load(Path(__file__).parent / "data" / "mnist_10k.npz", allow_pickle=False) as file:
        return Dataset(file["images"][rows, :, :, None], file["labels"][rows])


def check_part(part: str) -> None:
    """Raise DataError for a part that no data set has."""
    if part not in ("train", "held-out"):
        raise DataError(f"unknown part {part!r}: use train or held-out")
