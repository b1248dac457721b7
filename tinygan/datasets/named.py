"""Every data set of images by its name, as --data has it; "mnist" and "characters" ship."""

from pathlib import Path

import numpy

from .batches import DataError, Dataset
from .characters import ATTRIBUTES, characters
from .downloads import ORIGINALS, check_part, original
from .folders import folder, folder_of


def mnist(part: str = "train") -> Dataset:
    """The first 10,000 digits of MNIST, shuffled: 9,000 to "train" on, 1,000 "held-out", 28x28x1.

    Where they come from, and their licence: data/README.md.
    """
    check_part(part)
    rows = slice(9000) if part == "train" else slice(9000, 10000)
    with numpy.load(Path(__file__).parent / "data" / "mnist_10k.npz", allow_pickle=False) as file:
        return Dataset(file["images"][rows, :, :, None], file["labels"][rows])


def uci_digits(side: int = 22) -> Dataset:
    """1,797 digits of other writers than MNIST's, 8 x 8 grey levels enlarged: 28 x 28 x 1, labels.

    side is what the 8 x 8 pixels are enlarged to, bilinearly, in the middle of 28 x 28 pixels: at
    22 the strokes are as large as MNIST's. Raises DataError for a side that is not from 8 to 28.
    Where they come from, and their licence: data/README.md.
    """
    from PIL import Image

    if not 8 <= side <= 28:
        raise DataError(f"a side of {side} pixels: expected 8 to 28")
    with numpy.load(Path(__file__).parent / "data" / "uci_digits.npz", allow_pickle=False) as file:
        small, labels = file["images"], file["labels"]
    grey = numpy.round(small * (255 / 16)).astype(numpy.uint8)  # 0 to 16 as published
    images = numpy.zeros((len(grey), 28, 28, 1), numpy.uint8)
    start = (28 - side) // 2
    for image, digit in zip(images, grey, strict=True):
        enlarged = Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR)
        image[start : start + side, start : start + side, 0] = enlarged
    return Dataset(images, labels)


def few(data: Dataset, count: int) -> Dataset:
    """The first count images of each label. Raises DataError where a label has fewer."""
    labels, found = numpy.unique(data.labels, return_counts=True)
    if not 1 <= count <= found.min():
        raise DataError(f"{count} images of each label: use 1 to {found.min()}")
    rows = [numpy.flatnonzero(data.labels == label)[:count] for label in labels]
    return Dataset(*(array[numpy.concatenate(rows)] for array in data))


def load(
    name: str, data_dir: Path | None = None, size: int = 28, channels: int = 1
) -> Dataset:
    """The training part of "mnist", "characters", "mnist-full" or "fashion", or "folder:PATH".

    The labels of characters are the colours of their hair, whether it shows or not. data_dir is
    for mnist-full and fashion. Raises DataError, also where images are not of size x size pixels
    and so many channels.
    """
    if name == "characters":
        images, attributes, _ = characters()
        data = Dataset(images, attributes[:, [*ATTRIBUTES].index("hair")])
    elif name == "mnist":
        data = mnist()
    elif name in ORIGINALS:
        data = original(name, data_dir=data_dir)
    else:
        names = ", ".join(["mnist", "characters", *ORIGINALS])
        return folder(folder_of(name, f"{names} or folder:PATH"), size, channels)
    found = data.images.shape[1:]
    if found != (size, size, channels):
        raise DataError(
            f"{name} has images of {found}, not of {(size, size, channels)}: other sizes and "
            f"channels than --size {found[0]} --channels {found[2]} are for a folder"
        )
    return data
