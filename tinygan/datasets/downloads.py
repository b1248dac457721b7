"""MNIST and Fashion-MNIST as they were published: downloads, and the IDX format.

Nothing is trusted before its SHA-256 is checked, and no more is unpacked than a header promises.
"""

import gzip
import hashlib
import http.client
import math
import os
import sys
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy

from ..files import replacing
from .batches import DataError, Dataset

_CHUNK = 1 << 20  # bytes read at a time
_LARGEST_DOWNLOAD = 1 << 26  # bytes
_LARGEST_IDX = 1 << 30  # elements; EMNIST, the largest relative of MNIST, has 0.6e9


class Originals(NamedTuple):
    """A data set published as four gzipped IDX files: where they are, how to recognise them."""

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


def check_part(part: str) -> None:
    """Raise DataError for a part that no data set has."""
    if part not in ("train", "held-out"):
        raise DataError(f"unknown part {part!r}: use train or held-out")


def original(name: str, part: str = "train", data_dir: Path | None = None) -> Dataset:
    """One part of a data set in ORIGINALS: images (N, H, W, 1) and labels 0 to 9.

    Files in data_dir or data_dir/NAME are read, gzipped or not; missing ones are downloaded into
    data_dir/NAME, since every set uses the same file names. Without data_dir it is
    $XDG_CACHE_HOME/tinygan or ~/.cache/tinygan. Raises DataError.
    """
    check_part(part)
    source = ORIGINALS[name]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygan"
    base = cache if data_dir is None else Path(os.path.expanduser(data_dir))
    folders = [base, base / name]
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

    timeout: seconds that a mirror may stay silent. An interrupted download leaves nothing behind,
    and several processes may fill one folder. Raises DataError with what each mirror answered.
    """
    answers = []
    for mirror in source.mirrors:
        try:
            content = _fetch(mirror + file, source.checksums[file.partition("-idx")[0]], timeout)
            with replacing(folder / file) as partial:
                partial.write_bytes(content)
            return folder / file
        except (OSError, http.client.HTTPException) as error:
            answers.append(f"{mirror} answered: {error}")
    raise DataError(
        f"{file} cannot be downloaded ({'; '.join(answers)}): put it and the other IDX files, "
        f"gzipped or not, into {folder}, or name their folder with --data-dir ({source.hint})"
    )


def _fetch(url: str, checksum: str, timeout: float) -> bytes:
    """The content of an address, if it is the right file. Raises OSError or HTTPException."""
    print(f"downloading {url}", file=sys.stderr)
    request = urllib.request.Request(url, headers={"User-Agent": "tinygan"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        size = response.length  # None where the mirror does not tell
        content = response.read(_LARGEST_DOWNLOAD + 1)
    if hashlib.sha256(content).hexdigest() != checksum:
        promised = "" if size is None else f" of {size:,}"
        raise OSError(f"{len(content):,}{promised} bytes, whose SHA-256 is not the original's")
    return content


def read_idx(path: Path) -> numpy.ndarray:
    """The array of an IDX file, gzipped or not: uint8 labels (N,) or images (N, H, W).

    The format: 00 00 08 and the number of dimensions, each dimension as four bytes, high byte
    first, then the elements (LeCun et al., the MNIST database). Raises DataError for any other.
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
            shape = tuple(numpy.frombuffer(sizes, ">u4").tolist())
            count = math.prod(shape)
            if not 1 <= count <= _LARGEST_IDX:
                raise DataError(f"{path} claims {shape}: expected 1 to {_LARGEST_IDX:,} elements")
            # In chunks, since the header may promise more than there is; and one byte more than
            # promised, to find trailing bytes and to make gzip check its own sum.
            while chunk := file.read(min(_CHUNK, count + 1 - len(elements))):
                elements += chunk
            if len(elements) != count:
                raise EOFError(f"it has {'fewer' if len(elements) < count else 'more'}")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: expected {shape or 'a header'}, found "
            f"{len(elements):,} elements ({error}); replace it by a good copy"
        ) from error
    return numpy.frombuffer(elements, numpy.uint8).reshape(shape)
