"""Data: digits that ship with the package, the original IDX files, image folders, batches.

Letters: N images, H high, W wide, C channels. Pixels stay bytes until a batch is taken.
"""

import gzip
import hashlib
import http.client
import math
import os
import threading
import time
import urllib.error
import urllib.request
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygan.backend import UsageError, to_device

PARTS = ("train", "held-out")
NAMES = ("mnist", "mnist-full", "fashion", "folder:PATH")

_CHUNK = 1 << 20  # bytes read at a time
_LARGEST_IDX = 1 << 30  # bytes; the largest relative of MNIST (EMNIST by class) has 0.55e9
_LARGEST_IMAGE = 1 << 25  # pixels; what a small file may make Pillow unpack
_SLOWEST = 10_000  # bytes per second; a mirror that sends less counts as silent


class DataError(UsageError):
    """Data that is missing, damaged or of another kind than it should be."""


class Dataset(NamedTuple):
    """Real examples in main memory: images uint8 (N, H, W, C), labels uint8 (N,) or None."""

    images: np.ndarray
    labels: np.ndarray | None


def load(
    name: str,
    data_dir: Path | None = None,
    part: str = "train",
    *,
    size: int = 28,
    channels: int = 1,
) -> Dataset:
    """The data set of that name: "mnist", "mnist-full", "fashion" or "folder:PATH".

    data_dir is for mnist-full and fashion; size and channels are for a folder. Raises DataError.
    """
    kind, colon, path = name.partition(":")
    if name == "mnist":
        return mnist(part)
    if name == "mnist-full":
        return mnist_full(part, data_dir)
    if name == "fashion":
        return fashion(part, data_dir)
    if kind == "folder" and path:
        if part != "train":
            raise DataError(f"{name} has no {part!r} part: a folder is all for training")
        return folder(path, size, channels)
    raise DataError(f"unknown data {name!r}: use one of {', '.join(NAMES)}")


def mnist(part: str = "train") -> Dataset:
    """Real digits that ship with the package: 9,000 to "train" on, 1,000 "held-out", 28x28x1.

    They are the first 10,000 of MNIST's training set, shuffled once (data/README.md).
    """
    _check_part(part)
    rows = slice(0, 9000) if part == "train" else slice(9000, 10000)
    with np.load(Path(__file__).parent / "data" / "mnist_10k.npz", allow_pickle=False) as file:
        return Dataset(file["images"][rows, :, :, None], file["labels"][rows])


def mnist_full(part: str = "train", data_dir: Path | None = None) -> Dataset:
    """All of MNIST: 60,000 digits to "train" on, 10,000 "held-out" (LeCun et al. 1998).

    See _original for where the files come from. Raises DataError.
    """
    return _original(MNIST_FULL, part, data_dir)


def fashion(part: str = "train", data_dir: Path | None = None) -> Dataset:
    """Fashion-MNIST, ten kinds of clothes: 60,000 and 10,000 images (Xiao et al. 2017).

    See _original for where the files come from. Raises DataError.
    """
    return _original(FASHION, part, data_dir)


def batches(
    dataset: Dataset, batch_size: int, seed: int = 0, first: int = 0
) -> Iterator[tuple[Any, Any | None]]:
    """Endless batches from number `first` on: images float32 (batch_size, H, W, C) in [-1, 1]
    and labels int64 (batch_size,) or None, both on the device.

    The order in an epoch depends on the seed and the epoch's number alone: a run that resumes
    at batch k sees what it would have seen. What is left over at an epoch's end is dropped.
    """
    count = len(dataset.images)
    if not 1 <= batch_size <= count:
        raise DataError(f"a batch of {batch_size} from {count} images: use 1 to {count}")
    if seed < 0 or first < 0:
        raise DataError(f"seed {seed} and first batch {first} must not be negative")
    return _endless(dataset, batch_size, seed, first)


def _endless(
    dataset: Dataset, batch_size: int, seed: int, first: int
) -> Iterator[tuple[Any, Any | None]]:
    per_epoch = len(dataset.images) // batch_size
    epoch, number = divmod(first, per_epoch)
    while True:
        order = np.random.default_rng((seed, epoch)).permutation(len(dataset.images))
        for start in range(number * batch_size, per_epoch * batch_size, batch_size):
            rows = order[start : start + batch_size]
            images = dataset.images[rows].astype(np.float32)
            images /= 127.5  # in place, and not * (1 / 127.5): 255 must become exactly 1
            images -= 1
            labels = dataset.labels
            yield to_device(images), None if labels is None else to_device(
                labels[rows].astype(np.int64)
            )
        epoch, number = epoch + 1, 0


class Originals(NamedTuple):
    """A data set published as four gzipped IDX files: where it lies, how to know the files."""

    name: str
    mirrors: tuple[str, ...]  # tried in this order
    files: dict[str, tuple[int, str]]  # name: size in bytes, SHA-256
    hint: str  # the way out when no mirror answers


_FILES = {  # part: images, labels
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "held-out": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

MNIST_FULL = Originals(
    "mnist-full",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "train-images-idx3-ubyte.gz": (
            9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        "train-labels-idx1-ubyte.gz": (
            28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        "t10k-images-idx3-ubyte.gz": (
            1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        "t10k-labels-idx1-ubyte.gz": (
            4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    },
    "--data mnist needs no download",
)  # fmt: skip

FASHION = Originals(
    "fashion",
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    {
        "train-images-idx3-ubyte.gz": (
            26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        "train-labels-idx1-ubyte.gz": (
            29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        "t10k-images-idx3-ubyte.gz": (
            4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        "t10k-labels-idx1-ubyte.gz": (
            5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    },
    "on Debian or Ubuntu, apt-get install dataset-fashion-mnist and "
    "--data-dir /usr/share/datasets/fashion-mnist do without a download",
)  # fmt: skip


def _original(source: Originals, part: str, data_dir: Path | None) -> Dataset:
    """One part of the published files: images (N, H, W, 1) and labels 0 to 9.

    They are read from data_dir or data_dir/NAME where they are there, gzipped or not, else
    downloaded into data_dir/NAME (the sets' files have the same names); without data_dir,
    NAME lies in ~/.cache/tinygan, or in $XDG_CACHE_HOME/tinygan.
    """
    _check_part(part)
    if data_dir is None:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygan"
        folders = [parent / source.name]
    else:
        folders = [Path(data_dir), Path(data_dir) / source.name]
    paths = [_find(file, folders) or download(source, file, folders[-1]) for file in _FILES[part]]
    images, labels = (read_idx(path) for path in paths)
    if images.ndim != 3 or labels.ndim != 1:
        raise DataError(
            f"{paths[0]} holds shape {images.shape} and {paths[1]} shape {labels.shape}: "
            "expected images (N, H, W) and labels (N,); their names may be swapped"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{paths[0]} holds {len(images)} images but {paths[1]} {len(labels)} labels: "
            "use two files that belong together"
        )
    if labels.max() > 9:
        raise DataError(f"{paths[1]} holds the label {labels.max()}: expected 0 to 9")
    return Dataset(images[..., None], labels)


def _check_part(part: str) -> None:
    if part not in PARTS:
        raise DataError(f"unknown part {part!r}: use one of {', '.join(PARTS)}")


def _find(file: str, folders: list[Path]) -> Path | None:
    """The first copy of a file.gz under any of the names that are in use for it."""
    unpacked = file.removesuffix(".gz")
    dotted = unpacked.replace("-idx", ".idx")  # as some unpackers write it
    names = (file, unpacked, dotted + ".gz", dotted)
    candidates = (folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


def download(source: Originals, file: str, folder: Path, timeout: float = 20.0) -> Path:
    """Fetch a file from the first mirror that has the right one; return its path in folder.

    timeout: seconds to wait for an answer. Nothing is written before size and SHA-256 are
    checked, and then under another name first: an interrupted download leaves no trace, and
    several processes may fill one folder. Raises DataError with what each mirror answered.
    """
    answers = []
    for mirror in source.mirrors:
        try:
            content = _fetch(mirror + file, *source.files[file], timeout)
        except (OSError, http.client.HTTPException) as error:
            # URLError wraps the reason; its subclass HTTPError says it with the status.
            reason = error.reason if type(error) is urllib.error.URLError else error
            answers.append(f"{mirror} ({reason})")
        else:
            return _write(folder / file, content)
    raise DataError(
        f"no mirror has {file} of {source.name}: {', '.join(answers)}; "
        f"put the file, gzipped or not, into {folder} or name its folder with --data-dir "
        f"({source.hint})"
    )


def _fetch(url: str, size: int, checksum: str, timeout: float) -> bytearray:
    """What an address sends, if it is the right file. Raises OSError or HTTPException."""
    from tqdm import tqdm

    request = urllib.request.Request(url, headers={"User-Agent": "tinygan"})
    deadline = time.monotonic() + timeout + size / _SLOWEST
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=None)
    content = bytearray()
    with bar, urllib.request.urlopen(request, timeout=timeout) as response:
        while len(content) <= size and (chunk := response.read1(_CHUNK)):
            content += chunk
            bar.update(len(chunk))
            if time.monotonic() > deadline:
                raise TimeoutError(f"sent only {len(content):,} of {size:,} bytes in time")
    if len(content) != size:
        more = "or more " if len(content) > size else ""
        raise OSError(f"sent {len(content):,} {more}bytes instead of {size:,}")
    if hashlib.sha256(content).hexdigest() != checksum:
        raise OSError("sent another file: its SHA-256 differs")
    return content


def _write(path: Path, content: bytearray) -> Path:
    """Put a file in its place in one step, through a name that no one else uses."""
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error}): name another --data-dir") from error
    return path


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file, gzipped or not: uint8 labels (N,) or images (N, H, W).

    The format: 00 00 08 and the number of dimensions, each dimension as four bytes, high byte
    first, then the elements (LeCun et al., the MNIST database). No more is unpacked than the
    dimensions call for. Raises DataError for everything else.
    """
    elements = bytearray()
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with (gzip.open if packed else open)(path, "rb") as file:
            magic = file.read(4)
            if magic not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
                found = magic.hex(" ") or "nothing"
                raise DataError(
                    f"{path} starts with {found}: expected an IDX file of bytes, "
                    "00 00 08 01 for labels or 00 00 08 03 for images"
                )
            header = file.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise DataError(f"{path} ends inside its header: replace it by a whole copy")
            shape = np.frombuffer(header, ">u4").tolist()
            expected = math.prod(shape)
            if not 1 <= expected <= _LARGEST_IDX:
                raise DataError(
                    f"{path} claims the shape {tuple(shape)}: "
                    f"expected 1 to {_LARGEST_IDX:,} elements; replace it by a good copy"
                )
            # By chunks, since the header may promise more than there is; one byte further
            # than promised, which also makes gzip check its own sum.
            while chunk := file.read(min(_CHUNK, expected + 1 - len(elements))):
                elements += chunk
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error or type(error).__name__}), "
            f"after {len(elements):,} elements: replace it by a good copy"
        ) from error
    if len(elements) != expected:
        found = f"{len(elements):,}" if len(elements) < expected else "more"
        raise DataError(
            f"{path} holds {found} elements where its header promises {expected:,}, "
            f"shape {tuple(shape)}: replace it by a good copy"
        )
    return np.frombuffer(elements, np.uint8).reshape(shape)


def folder(path: str | Path, size: int = 28, channels: int = 1) -> Dataset:
    """The JPEG and PNG images in a folder and its subfolders, sorted by path; no labels.

    Each is turned upright, cut to its central square and resized to (size, size, channels),
    channels 1 (grey) or 3 (RGB); what is transparent becomes white; of an animation the first
    picture counts. Images that cannot be read are named in a warning and left out. Raises
    DataError if none remains.
    """
    from tqdm import tqdm

    if size < 1 or channels not in (1, 3):
        raise DataError(f"size {size}, channels {channels}: expected size >= 1, channels 1 or 3")
    if not Path(path).is_dir():
        raise DataError(f"{path} is not a folder: name one that holds JPEG or PNG images")
    suffixes = (".jpg", ".jpeg", ".png")
    paths = sorted(file for file in Path(path).rglob("*") if file.suffix.lower() in suffixes)
    images = np.empty((len(paths), size, size, channels), np.uint8)
    count, broken = 0, []
    for file in tqdm(paths, desc="images", leave=False, disable=None):
        try:
            images[count] = _read_image(file, size, channels)
            count += 1
        except Exception as error:  # damaged files make Pillow raise nearly anything
            broken.append(f"{file} ({error or type(error).__name__})")
    if broken:
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        listed = ", ".join(broken[:10]) + more
        message = f"{len(broken)} of {len(paths)} images cannot be read: {listed}"
        if not count:
            raise DataError(message + "; name a folder with good ones")
        warnings.warn(message + "; the others are used", stacklevel=2)
    if not paths:
        raise DataError(f"{path} holds no image: expected files {', '.join(suffixes)} in it")
    return Dataset(images[:count], None)


def _read_image(path: Path, size: int, channels: int) -> np.ndarray:
    """One picture as uint8 (size, size, channels). Raises whatever Pillow raises."""
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    with Image.open(path, formats=("JPEG", "PNG")) as image:
        image.draft(mode, (size, size))  # a JPEG is decoded near the size that is needed
        if image.width * image.height > _LARGEST_IMAGE:
            raise ValueError(f"more than {_LARGEST_IMAGE:,} pixels")
        if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off at 255
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        image = ImageOps.exif_transpose(image).convert("RGBA")
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", image.size, "white")
        pixels = np.asarray(Image.alpha_composite(white, image).convert(mode))
    return pixels.reshape(size, size, channels)
