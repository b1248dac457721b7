"""Images from a folder: JPEG and PNG files of any size, cut and resized alike."""

import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy

from .batches import DataError, Dataset

_LARGEST_IMAGE = 1 << 25  # pixels that Pillow may unpack
_DENSEST_IMAGE = 8 * 1032  # pixels in a byte: deflate packs at most 1032 bytes of 8 pixels in one


def folder(path: str | Path, size: int = 28, channels: int = 1) -> Dataset:
    """The JPEG and PNG images in a folder and its subfolders, sorted by path; no labels.

    Each is turned upright, cut to its central square and resized to (size, size, channels),
    channels 1 (grey) or 3 (RGB); transparent pixels become white, and an animation is its first
    picture. Images that cannot be read are left out, with a warning that names them. Raises
    DataError if none is left.
    """
    require_size(size, channels)
    return Dataset(numpy.stack(read_all(
        image_files(path), lambda file: _read_image(file, size, channels)
    )), None)


def require_size(size: int, channels: int) -> None:
    """Raise DataError for a size or a count of channels that no image is read in."""
    if size < 1 or size * size > _LARGEST_IMAGE or channels not in (1, 3):
        raise DataError(
            f"size {size}, channels {channels}: expected size >= 1, channels 1 or 3, and at most "
            f"{_LARGEST_IMAGE:,} pixels"
        )


def image_files(path: str | Path) -> list[Path]:
    """The JPEG and PNG files in a folder and its subfolders, sorted. Raises DataError for none."""
    suffixes = (".jpg", ".jpeg", ".png")
    try:
        files = (file for file in Path(path).rglob("*") if file.suffix.lower() in suffixes)
        paths = sorted(file for file in files if os.path.isfile(file))
    except OSError:  # a name that is too long, a disk that is gone
        paths = []
    if not paths:
        raise DataError(f"{path} is no folder with images: expected {', '.join(suffixes)} in it")
    return paths


def read_all(files: Iterable[Path], read: Callable[[Path], Any]) -> list[Any]:
    """read(file) of every file but those that cannot be read: a warning names them.

    Raises DataError if none is left.
    """
    from tqdm import tqdm

    images, broken = [], []
    for file in tqdm(files, desc="images", leave=False, disable=None):
        try:
            images.append(read(file))
        except Exception as error:  # damaged files make Pillow raise nearly anything
            broken.append(f"{file} ({str(error) or type(error).__name__})")
    if broken:
        named = ", ".join(broken[:10]) + (", ..." if len(broken) > 10 else "")
        message = f"{len(broken)} of {len(images) + len(broken)} images cannot be read: {named}"
        if not images:
            raise DataError(f"{message}; use JPEG or PNG files that a viewer can open")
        warnings.warn(f"{message}; the others are used", stacklevel=3)
    return images


def picture(path: Path, size: int, channels: int, half: int | None = None) -> numpy.ndarray:
    """One JPEG or PNG file as a folder's images are read: uint8 (size, size, channels).

    half 0 or 1 is the left or the right half of a picture that is twice as wide as high.
    Raises DataError where it cannot be read.
    """
    try:
        return _read_image(Path(path), size, channels, half)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"{path} cannot be read as a picture ({error}): use JPEG or PNG") from error


def _read_image(path: Path, size: int, channels: int, half: int | None = None) -> numpy.ndarray:
    """One picture as uint8 (size, size, channels). Raises whatever Pillow raises."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        length = path.stat().st_size
        if image.width * image.height > _DENSEST_IMAGE * length:
            raise ValueError(f"{image.width} x {image.height} pixels in {length:,} bytes")
        if half is None:
            image.draft(mode, (size, size))  # a JPEG is decoded near the size that is needed
        if image.width * image.height > _LARGEST_IMAGE:
            raise ValueError(f"more than {_LARGEST_IMAGE:,} pixels")
        if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
            image = Image.fromarray((numpy.asarray(image) // 257).astype(numpy.uint8))
        image = ImageOps.exif_transpose(image).convert("RGBA")
        if half is not None:  # cut before it is resized: no half may shine into the other
            if image.width != 2 * image.height:
                raise ValueError(f"{image.width} x {image.height} is not twice as wide as high")
            left = half * image.height
            image = image.crop((left, 0, left + image.height, image.height))
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert(mode)
    return numpy.asarray(image).reshape(size, size, channels)
