"""Images from a folder: JPEG and PNG files of any size, cut and resized alike."""

import os
import warnings
from pathlib import Path

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
    from tqdm import tqdm

    if size < 1 or size * size > _LARGEST_IMAGE or channels not in (1, 3):
        raise DataError(
            f"size {size}, channels {channels}: expected size >= 1, channels 1 or 3, and at most "
            f"{_LARGEST_IMAGE:,} pixels"
        )
    suffixes = (".jpg", ".jpeg", ".png")
    try:
        files = (file for file in Path(path).rglob("*") if file.suffix.lower() in suffixes)
        paths = sorted(file for file in files if os.path.isfile(file))
    except OSError:  # a name that is too long, a disk that is gone
        paths = []
    if not paths:
        raise DataError(f"{path} is no folder with images: expected {', '.join(suffixes)} in it")
    images, broken = [], []
    for file in tqdm(paths, desc="images", leave=False, disable=None):
        try:
            images.append(_read_image(file, size, channels))
        except Exception as error:  # damaged files make Pillow raise nearly anything
            broken.append(f"{file} ({str(error) or type(error).__name__})")
    if broken:
        named = ", ".join(broken[:10]) + (", ..." if len(broken) > 10 else "")
        message = f"{len(broken)} of {len(paths)} images cannot be read: {named}"
        if not images:
            raise DataError(f"{message}; use JPEG or PNG files that a viewer can open")
        warnings.warn(f"{message}; the others are used", stacklevel=2)
    return Dataset(numpy.stack(images), None)


def picture(path: Path, size: int | None, channels: int) -> numpy.ndarray:
    """One JPEG or PNG file as a folder's images are read: uint8 (size, size, channels).

    With size None it keeps its size and shape: (H, W, channels).

    Raises DataError where it cannot be read.
    """
    try:
        return _read_image(Path(path), size, channels)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"{path} cannot be read as a picture ({error}): use JPEG or PNG") from error


def _read_image(path: Path, size: int | None, channels: int) -> numpy.ndarray:
    """One picture as uint8 (H, W, channels), see picture(). Raises whatever Pillow raises."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        length = path.stat().st_size
        if image.width * image.height > _DENSEST_IMAGE * length:
            raise ValueError(f"{image.width} x {image.height} pixels in {length:,} bytes")
        if size:
            image.draft(mode, (size, size))  # a JPEG is decoded near the size that is needed
        if image.width * image.height > _LARGEST_IMAGE:
            raise ValueError(f"more than {_LARGEST_IMAGE:,} pixels")
        if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
            image = Image.fromarray((numpy.asarray(image) // 257).astype(numpy.uint8))
        image = ImageOps.exif_transpose(image).convert("RGBA")
        if size:
            image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert(mode)
    return numpy.asarray(image).reshape(image.height, image.width, channels)
