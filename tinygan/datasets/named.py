"""Every data set of images by its name, as --data has it."""

from pathlib import Path

from .downloads import ORIGINALS, original
from .folders import folder
from .shipped import DataError, Dataset, mnist


def load(
    name: str, data_dir: Path | None = None, part: str = "train", size: int = 28, channels: int = 1
) -> Dataset:
    """The data set of that name: "mnist", "mnist-full", "fashion" or "folder:PATH".

    data_dir is for mnist-full and fashion; size and channels are for a folder. Raises DataError.
    """
    kind, _, path = name.partition(":")
    if name == "mnist":
        return mnist(part)
    if name in ORIGINALS:
        return original(name, part, data_dir)
    if kind != "folder" or not path:
        raise DataError(f"unknown data {name!r}: use mnist, {', '.join(ORIGINALS)} or folder:PATH")
    if part != "train":
        raise DataError(f"{name} has no {part!r} part: all of a folder is for training")
    return folder(path, size, channels)
