"""Images from a folder: JPEG, PNG, WebP and BMP files of any size, cut and resized alike."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy

from .batches import DataError, Dataset

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_NAMES = "JPEG, PNG, WebP or BMP"
_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp")
_OTHERS = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl")  # only named
_LARGEST_IMAGE = 1 << 25  # pixels that Pillow may unpack
_DENSEST_IMAGE = 8 * 1032  # pixels in a byte: deflate packs at most 1032 bytes of 8 pixels in one
# Pillow 13 leaves a colour that stands for transparent in the file's own depth.
_DEPTHS = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}


def folder(path: str | Path, size: int = 28, channels: int = 1) -> Dataset:
    """The JPEG, PNG, WebP and BMP images in a folder and below it, sorted by path; no labels.

    Links are followed, to each folder once; what is hidden, such as the copies that a Mac puts
    into an archive, is left out; ~ is the home folder. Each image is turned upright, cut to its
    central square and resized to (size, size, channels), channels 1 (grey) or 3 (RGB);
    transparent pixels become white, and an animation is its first picture. Images that cannot be
    read, and pictures of other formats, are left out, with a warning that names them. Raises
    DataError if none is left.
    """
    require_size(size, channels)
    return Dataset(numpy.stack(read_all(
        image_files(path), lambda file: _read_image(file, size, channels)
    )), None)


def folder_of(name: str, choices: str) -> Path:
    """The PATH of "folder:PATH". Raises DataError for any other name, with the choices."""
    kind, _, path = name.partition(":")
    if kind != "folder" or not path:
        raise DataError(f"unknown data {name!r}: use {choices}")
    return Path(path)


def require_size(size: int, channels: int) -> None:
    """Raise DataError for a size or a count of channels that no image is read in."""
    if size < 1 or size * size > _LARGEST_IMAGE or channels not in (1, 3):
        raise DataError(
            f"size {size}, channels {channels}: expected size >= 1, channels 1 or 3, and at most "
            f"{_LARGEST_IMAGE:,} pixels"
        )


def image_files(path: str | Path) -> list[Path]:
    """The images in a folder and below it, sorted. Raises DataError where there is none."""
    files = sorted(_files(os.path.expanduser(path)))
    paths = [file for file in files if file.suffix.lower() in _SUFFIXES]
    others = [file for file in files if file.suffix.lower() in _OTHERS]
    if not paths:
        raise DataError(f"{path} is no folder with images: expected {', '.join(_SUFFIXES)} in it")
    if others:
        warnings.warn(f"pictures passed over: {len(others)}, such as {others[0]}; save them as "
                      f"{_NAMES}", stacklevel=3)
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
            raise DataError(f"{message}; use {_NAMES} files that a viewer can open")
        warnings.warn(f"{message}; the others are used", stacklevel=3)
    return images


def _files(folder: str) -> Iterator[Path]:
    """The files in a folder and below it that are not hidden, each folder once."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back, or here from another place
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        paths = (Path(place, name) for name in names if not name.startswith("."))
        yield from filter(os.path.isfile, paths)


def picture(
    path: Path, size: int | None, channels: int, half: int | None = None
) -> numpy.ndarray:
    """One such file as a folder's images are read: uint8 (size, size, channels).

    With size None it keeps its size and shape: (H, W, channels).
    half 0 or 1 is the left or the right half of a picture that is twice as wide as high.
    Raises DataError where it cannot be read.
    """
    try:
        return _read_image(Path(os.path.expanduser(path)), size, channels, half)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"{path} cannot be read as a picture ({error}): use {_NAMES}") from error


def _read_image(
    path: Path, size: int | None, channels: int, half: int | None = None
) -> numpy.ndarray:
    """One picture as uint8 (H, W, channels), see picture(). Raises whatever Pillow raises."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    with Image.open(path, formats=_FORMATS) as image:
        length = path.stat().st_size
        if image.width * image.height > max(_DENSEST_IMAGE * length, 1 << 20):
            raise ValueError(f"{image.width} x {image.height} pixels in {length:,} bytes")
        if size and half is None:
            image.draft(mode, (size, size))  # a JPEG is decoded near the size that is needed
        if image.width * image.height > _LARGEST_IMAGE:
            raise ValueError(f"more than {_LARGEST_IMAGE:,} pixels")
        clear, depth = image.info.get("transparency"), image.tile[0][3] if image.tile else ""
        if clear is not None and depth in _DEPTHS:
            scaled = numpy.multiply(clear, _DEPTHS[depth]).astype(int).tolist()
            image.info["transparency"] = tuple(scaled) if isinstance(clear, tuple) else scaled
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
            grey = numpy.asarray(image)
            bands = (grey // 257, numpy.where(grey == clear, 0, 255))
            image = Image.merge("LA", [Image.fromarray(band.astype(numpy.uint8)) for band in bands])
        image = image.convert("RGBA")
        if half is not None:  # cut before it is resized: no half may shine into the other
            if image.width != 2 * image.height:
                raise ValueError(f"{image.width} x {image.height} is not twice as wide as high")
            left = half * image.height
            image = image.crop((left, 0, left + image.height, image.height))
        if size:
            image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert(mode)
    return numpy.asarray(image).reshape(image.height, image.width, channels)
