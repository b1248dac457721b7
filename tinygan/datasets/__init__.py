"""Data: digits that ship with the package, the original IDX files, image folders, batches;
points in the plane.

Letters: N images, H high, W wide, C channels. Pixels stay bytes until a batch is taken.
"""

import gzip
import hashlib
import http.client
import math
import os
import urllib.error
import urllib.request
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..backend import generator, random_normal, to_device
from ..files import UsageError, replacing

PARTS = ("train", "held-out")

_CHUNK = 1 << 20  # bytes read at a time
_LARGEST_DOWNLOAD = 1 << 26  # bytes
_LARGEST_IDX = 1 << 30  # elements; EMNIST, the largest relative of MNIST, has 0.6e9
_LARGEST_IMAGE = 1 << 25  # pixels that Pillow may unpack
_DENSEST_IMAGE = 8 * 1032  # pixels in a byte: deflate packs at most 1032 bytes of 8 pixels in one


class DataError(UsageError):
    """Data that is missing, damaged or of another kind than it should be."""


class Dataset(NamedTuple):
    """Real examples in main memory: images uint8 (N, H, W, C), labels uint8 (N,) or None."""

    images: np.ndarray
    labels: np.ndarray | None


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


def mnist(part: str = "train") -> Dataset:
    """Real digits that ship with the package: 9,000 to "train" on, 1,000 "held-out", 28x28x1.

    They are the first 10,000 of MNIST's training set, shuffled once (data/README.md).
    """
    _check_part(part)
    rows = slice(9000) if part == "train" else slice(9000, 10000)
    with np.load(Path(__file__).parent / "data" / "mnist_10k.npz", allow_pickle=False) as file:
        return Dataset(file["images"][rows, :, :, None], file["labels"][rows])


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise DataError(f"unknown part {part!r}: use {' or '.join(PARTS)}")


def batches(
    dataset: Dataset, batch_size: int, seed: int = 0, first: int = 0
) -> Iterator[tuple[Any, Any | None]]:
    """Endless batches from number `first` on: images float32 (batch_size, H, W, C) in [-1, 1]
    and labels int64 (batch_size,) or None, both on the device.

    The order in an epoch depends on the seed and the epoch's number alone: a run that resumes
    at batch k sees what it would have seen. What is left over at an epoch's end is dropped.
    Raises DataError if the data set holds less than one batch.
    """
    images, labels = dataset
    if not 1 <= batch_size <= len(images):
        raise DataError(f"a batch of {batch_size} from {len(images)} images: use 1 to that many")
    if seed < 0 or first < 0:
        raise DataError(f"seed {seed} and first batch {first} must not be negative")
    per_epoch = len(images) // batch_size
    labels = None if labels is None else labels.astype(np.int64)

    def endless() -> Iterator[tuple[Any, Any | None]]:
        epoch, number = divmod(first, per_epoch)
        while True:
            order = np.random.default_rng((seed, epoch)).permutation(len(images))
            for start in range(number * batch_size, per_epoch * batch_size, batch_size):
                rows = order[start : start + batch_size]
                pixels = images[rows].astype(np.float32)
                pixels /= 127.5  # not * (1 / 127.5): white must become exactly 1
                pixels -= 1
                yield to_device(pixels), None if labels is None else to_device(labels[rows])
            epoch, number = epoch + 1, 0

    return endless()  # what is wrong has been said by now, not at the first batch


class Originals(NamedTuple):
    """A data set published as four gzipped IDX files: where they lie and how to know them."""

    mirrors: tuple[str, ...]  # tried in this order
    checksums: dict[str, str]  # SHA-256 of each .gz file
    hint: str  # the way out when no mirror answers


ORIGINALS = {
    "mnist-full": Originals(  # LeCun et al. 1998: 60,000 digits to train on, 10,000 held out
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        "--data mnist needs no download",
    ),
    "fashion": Originals(  # Xiao et al. 2017: ten kinds of clothes in the same format
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        {
            "train-images": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        "on Debian and Ubuntu: apt-get install dataset-fashion-mnist, then "
        "--data-dir /usr/share/datasets/fashion-mnist",
    ),
}


def original(name: str, part: str = "train", data_dir: Path | None = None) -> Dataset:
    """One part of a data set in ORIGINALS: images (N, H, W, 1) and labels 0 to 9.

    The files are read from data_dir or data_dir/NAME if they are there, gzipped or not, else
    downloaded into data_dir/NAME, since those of all sets have the same names. Without data_dir
    NAME lies in $XDG_CACHE_HOME/tinygan or ~/.cache/tinygan. Raises DataError.
    """
    _check_part(part)
    source = ORIGINALS[name]
    if data_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folders = [cache / "tinygan" / name]
    else:
        folders = [Path(data_dir), Path(data_dir) / name]
    stem = "train" if part == "train" else "t10k"
    paths = []
    for file in (f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz"):
        dotted = file.replace("-idx", ".idx")  # as some copies have it
        names = (file, file.removesuffix(".gz"), dotted, dotted.removesuffix(".gz"))
        places = [place / name for place in folders for name in names]
        found = next(filter(os.path.isfile, places), None)
        paths.append(found or download(source, file, folders[-1]))
    images, labels = (read_idx(path) for path in paths)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{paths[0]} has shape {images.shape} and {paths[1]} {labels.shape}: "
            "expected (N, H, W) and (N,), use two files that belong together"
        )
    if labels.max() > 9:
        raise DataError(f"{paths[1]} holds the label {labels.max()}: expected 0 to 9")
    return Dataset(images[..., None], labels)


def download(source: Originals, file: str, folder: Path, timeout: float = 20.0) -> Path:
    """Fetch a file from the first mirror that has the right one; return its path in folder.

    timeout: seconds to wait whenever a mirror is silent. Nothing is written before the SHA-256
    is checked, and then under another name first: an interrupted download leaves no trace, and
    several processes may fill one folder. Raises DataError with what each mirror answered.
    """
    answers = []
    for mirror in source.mirrors:
        try:
            content = _fetch(mirror + file, source.checksums[file.partition("-idx")[0]], timeout)
            with replacing(folder / file) as partial:
                partial.write_bytes(content)
            return folder / file
        except urllib.error.HTTPError as error:
            error.close()
            answers.append(f"{mirror} answered: {error}")
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)  # without the wrapping of a URLError
            answers.append(f"{mirror} answered: {reason}")
    raise DataError(
        f"{file} cannot be downloaded ({'; '.join(answers)}): put it and the other IDX files, "
        f"gzipped or not, into {folder}, or name their folder with --data-dir ({source.hint})"
    )


def _fetch(url: str, checksum: str, timeout: float) -> bytearray:
    """What an address sends, if it is the right file. Raises OSError or HTTPException."""
    from tqdm import tqdm

    request = urllib.request.Request(url, headers={"User-Agent": "tinygan"})
    content, name = bytearray(), url.rpartition("/")[2]
    with urllib.request.urlopen(request, timeout=timeout) as response:
        size = response.length  # None where the mirror does not tell
        with tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=None) as progress:
            while len(content) <= _LARGEST_DOWNLOAD and (chunk := response.read1(_CHUNK)):
                content += chunk
                progress.update(len(chunk))
    if hashlib.sha256(content).hexdigest() != checksum:
        promised = "" if size is None else f" of {size:,}"
        raise OSError(f"{len(content):,}{promised} bytes, whose SHA-256 is not the original's")
    return content


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not: uint8 labels (N,) or images (N, H, W).

    The format: 00 00 08 and the number of dimensions, each dimension as four bytes, high byte
    first, then the elements (LeCun et al., the MNIST database). No more is unpacked than the
    dimensions call for. Raises DataError for everything else.
    """
    elements, shape = bytearray(), None
    try:
        with open(path, "rb") as file:
            unpack = gzip.open if file.read(2) == b"\x1f\x8b" else open
        with unpack(path, "rb") as file:
            magic = file.read(4)
            if magic not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
                raise DataError(
                    f"{path} starts with {magic.hex(' ') or 'nothing'}: expected an IDX file, "
                    "00 00 08 01 for labels or 00 00 08 03 for images"
                )
            sizes = file.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise EOFError("it ends inside its header")
            shape = tuple(np.frombuffer(sizes, ">u4").tolist())
            count = math.prod(shape)
            if not 1 <= count <= _LARGEST_IDX:
                raise DataError(f"{path} claims {shape}: expected 1 to {_LARGEST_IDX:,} elements")
            # In chunks, since the header may promise more than there is; up to one byte beyond
            # the promise, which finds trailing bytes and makes gzip check its own sum.
            while chunk := file.read(min(_CHUNK, count + 1 - len(elements))):
                elements += chunk
            if len(elements) != count:
                raise EOFError(f"it has {'fewer' if len(elements) < count else 'more'}")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: expected {shape or 'a header'}, found "
            f"{len(elements):,} elements ({error}); replace it by a good copy"
        ) from error
    return np.frombuffer(elements, np.uint8).reshape(shape)


def folder(path: str | Path, size: int = 28, channels: int = 1) -> Dataset:
    """The JPEG and PNG images in a folder and its subfolders, sorted by path; no labels.

    Each is turned upright, cut to its central square and resized to (size, size, channels),
    channels 1 (grey) or 3 (RGB); what is transparent becomes white; of an animation the first
    picture counts. Images that cannot be read are named in a warning and left out. Raises
    DataError if none remains.
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
    return Dataset(np.stack(images), None)


def _read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """One picture as uint8 (size, size, channels). Raises whatever Pillow raises."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        length = path.stat().st_size
        if image.width * image.height > _DENSEST_IMAGE * length:
            raise ValueError(f"{image.width} x {image.height} pixels in {length:,} bytes")
        image.draft(mode, (size, size))  # a JPEG is decoded near the size that is needed
        if image.width * image.height > _LARGEST_IMAGE:
            raise ValueError(f"more than {_LARGEST_IMAGE:,} pixels")
        if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        image = ImageOps.exif_transpose(image).convert("RGBA")
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert(mode)
    return np.asarray(image).reshape(size, size, channels)


# ---------------------------------------------------------------- points in the plane


class Mixture(NamedTuple):
    """Gaussians of one standard deviation around centers, float32 (M, 2), all equally likely."""

    centers: np.ndarray
    deviation: float

    def samples(self, count: int) -> Any:
        """float32 (count, 2), from the library's random generator, on the device."""
        centers = to_device(self.centers[generator.integers(len(self.centers), size=count)])
        return centers + random_normal(count, 2, scale=self.deviation)


def ring(deviation: float = 0.01) -> Mixture:
    """Eight Gaussians on the circle of radius 1, as in PacGAN (Lin et al. 2018, section 4.1)."""
    angles = np.arange(8) * (2 * math.pi / 8)
    return Mixture(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32), deviation)


def grid() -> Mixture:
    """25 Gaussians at -4, -2, 0, 2, 4 in both directions, deviation 0.05, as in PacGAN."""
    places = np.arange(-4, 5, 2, dtype=np.float32)
    return Mixture(np.stack(np.meshgrid(places, places), axis=2).reshape(25, 2), 0.05)


def spiral() -> Mixture:
    """One arm in two turns from the middle out to radius 1, deviation 0.02.

    200 centers at equal distances along it, so near to one another that no gaps are seen.
    """
    # The radius grows with the angle a; the arm's length, then, nearly with the angle's square.
    angles = 4 * math.pi * np.sqrt((np.arange(200) + 0.5) / 200)
    arm = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (angles / (4 * math.pi))[:, None]
    return Mixture(arm.astype(np.float32), 0.02)


PLANE = {"ring": ring, "grid": grid, "spiral": spiral}
