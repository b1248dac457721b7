"""Every data set of images by its name, as --data has it."""

from pathlib import Path

from .downloads import ORIGINALS, original
from .folders import folder
from .shipped import DataError, Dataset, mnist


def load(
    name: str, data_dir: Path | None = None, part: str = "train", size: int = 28, channels: int = 1
) -> Dataset:
    """The data set of that name: "mnist", "mnist-full", "fashion" or "folder:PATH".

    data_dir is for mnist-full and fashion. Raises DataError, also where images are not of
    size x size pixels and so many channels.
    """
    kind, _, path = name.partition(":")
    if kind == "folder" and path:
        if part != "train":
            raise DataError(f"{name} has no {part!r} part: all of a folder is for training")
        return folder(path, size, channels)
    if name != "mnist" and name not in ORIGINALS:
        raise DataError(f"unknown data {name!r}: use mnist, {', '.join(ORIGINALS)} or folder:PATH")
    data = mnist(part) if name == "mnist" else original(name, part, data_dir)
    if data.images.shape[1:] != (size, size, channels):
        raise DataError(
            f"{name} has images of {data.images.shape[1:]}, not of {(size, size, channels)}: "
            "--size and --channels are for a folder"
        )
    return data
