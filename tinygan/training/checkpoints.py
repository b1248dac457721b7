"""Checkpoints: all that a run is, in one .npz file, written whole and read without trust.

The archive holds `about`, a text in JSON (step, options, state of the random generator, the
layers of G), and arrays: log/COLUMN, the rows of the log so far, and PART/NAME, the state of each
part of the run: networks, optimizers, averages. The file before the last one is kept beside it.
"""

import io
import json
import math
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from numpy.lib import format as npy

from . import layers
from .backend import to_device, xp
from .files import UsageError, replacing
from .layers import Module
from .tensor import Tensor, no_grad

FORMAT = 2
FILE, PREVIOUS = "checkpoint.npz", "checkpoint-previous.npz"
NAME = r"about\.npy|[^/.][^/]{0,99}/[^/.][^/]{0,99}\.npy"  # of a member of the archive

LAYERS = {
    name: kind for name, kind in vars(layers).items()
    if isinstance(kind, type) and issubclass(kind, Module) and kind is not Module
}


class CheckpointError(UsageError):
    """A checkpoint that is missing, damaged, or of another run."""


class Checkpoint(NamedTuple):
    """A run after a step. network is [the part that makes its pictures, its layers], or None."""

    step: int
    options: dict[str, Any]
    random: dict[str, Any]  # the state of the random generator
    classes: int  # labels that G takes: 0 for none
    network: list[Any] | None
    log: dict[str, numpy.ndarray]
    parts: dict[str, dict[str, numpy.ndarray]]


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Put the checkpoint in the place of the folder's last one, which becomes the previous one."""
    about = checkpoint._asdict()
    arrays = {f"log/{name}": column for name, column in about.pop("log").items()}
    for part, state in about.pop("parts").items():
        arrays |= {f"{part}/{name}": array for name, array in state.items()}
    text = json.dumps({"format": FORMAT} | about, default=str)
    arrays["about"] = numpy.frombuffer(text.encode(), numpy.uint8)
    with replacing(folder / FILE, keep=folder / PREVIOUS) as file:
        numpy.savez(file, **arrays)


def exists(folder: Path) -> bool:
    """Whether the folder holds a run."""
    return any(os.path.exists(Path(folder) / name) for name in (FILE, PREVIOUS))


def read(path: Path) -> Checkpoint:
    """A checkpoint file, or the newest whole one in the folder of a run.

    Raises CheckpointError where there is none. No more memory is used than the file is large.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return _read(path)
    try:
        return _read(path / FILE)
    except CheckpointError as error:
        if not os.path.exists(path / PREVIOUS):
            raise
        previous = _read(path / PREVIOUS)
        print(f"{error}; the one before it, of step {previous.step}, is used", file=sys.stderr)
        return previous


def _read(path: Path) -> Checkpoint:
    try:
        arrays = _arrays(path)
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"it has format {about['format']}, expected {FORMAT}")
        parts: dict[str, dict[str, numpy.ndarray]] = {"log": {}}
        for name, array in arrays.items():
            part, _, name_in_part = name.partition("/")
            parts.setdefault(part, {})[name_in_part] = array
        log = parts.pop("log")
        table = numpy.stack([*log.values()]) if log else numpy.zeros((0, 0))
        if table.ndim != 2 or table.dtype.kind not in "fi" or (log and "step" not in log):
            raise ValueError("its log is no table of numbers by step")
        return Checkpoint(
            _whole(about, "step"), _fields(about, "options"), _fields(about, "random"),
            _whole(about, "classes"), about["network"], log, parts,
        )
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no checkpoint {path}: name the folder of a run, or its {FILE}; "
            "a new run starts without --resume"
        ) from error
    except Exception as error:  # zipfile, NumPy, json: damage shows in many ways
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged ({error})") from error


def _arrays(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays of an archive by their names, as large as the file, whatever it claims."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # Ours are stored as they are, so that nothing unpacks to more than is there.
        if (any(member.compress_type != zipfile.ZIP_STORED
                or member.compress_size != member.file_size for member in members)
                or sum(member.file_size for member in members) > path.stat().st_size):
            raise ValueError("it is packed, or claims more than it holds")
        for member in members:
            if not re.fullmatch(NAME, member.filename):
                raise ValueError(f"it holds {member.filename[:60]!r}")
        return {member.filename[: -len(".npy")]: _array(archive.read(member))
                for member in members}


def _array(content: bytes) -> numpy.ndarray:
    """The array of an .npy file."""
    file = io.BytesIO(content)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("it holds an array of another version of the .npy format")
    shape, by_columns, dtype = npy.read_array_header_1_0(file)
    numbers = numpy.frombuffer(content, dtype, offset=file.tell())  # refuses Python objects
    array = numbers.reshape(shape, order="F" if by_columns else "C")
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"it holds an array of shape {shape} and dtype {dtype}")
    return array


def _whole(about: dict[str, Any], name: str) -> int:
    if not isinstance(about[name], int) or about[name] < 0:
        raise ValueError(f"its {name} is {about[name]!r}, expected a whole number from 0")
    return about[name]


def _fields(about: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(about[name], dict):
        raise ValueError(f"its {name} is {about[name]!r}, expected names and values")
    return about[name]


# ---------------------------------------------------------------- networks as text


def describe(module: Module) -> list[Any]:
    """[class, arguments, keyword arguments], the Modules among the arguments described likewise.

    Raises ValueError for a class that is not from layers.py: a file can't bring its code along.
    """
    kind = type(module).__name__
    if LAYERS.get(kind) is not type(module):
        raise ValueError(f"{kind} is not a class of layers.py")
    arguments, options = module.made_from
    described = [describe(item) if isinstance(item, Module) else item for item in arguments]
    return [kind, described, options]


def build(description: list[Any]) -> Module:
    """The module that was described, with new weights. Raises what a wrong description causes."""
    kind, arguments, options = description
    return LAYERS[kind](
        *(build(item) if isinstance(item, list) else item for item in arguments), **options
    )


def _require_room(description: list[Any], numbers: int) -> None:
    """Raise ValueError where the described network is far larger than its file, of so many numbers.

    A layer's weights hold at most the product of its sizes, a kernel counted twice; pictures
    grow by strides and factors, to 64 times their side at most.
    """
    claimed, growth, waiting = 0, 1, [description]
    while waiting:
        kind, arguments, options = waiting.pop()
        waiting += [item for item in arguments if isinstance(item, list)]
        sizes = [*arguments, *options.values(), options.get("kernel", 1)]
        claimed += math.prod(max(1, size) for size in sizes if isinstance(size, int))
        factor = arguments[:1] or [options.get("factor", 2)]
        growth *= factor[0] if kind == "Upsample" else options.get("stride", 1)
        if options.get("padding", 0) > options.get("kernel", 0):
            raise ValueError("its padding is larger than its kernel")
    if growth > 64 or claimed > 65_536 + 8 * numbers:
        raise ValueError("its layers are larger than its arrays")


def with_labels(latents: Any, labels: Any, classes: int) -> Any:
    """What a G with classes takes: latents (N, Z) beside labels (N,), all on the device.

    A label becomes sqrt(classes) at its place and 0 elsewhere: as large as latents on average,
    it isn't drowned out by them. (N, Z + classes)
    """
    one_hot = xp.eye(classes, dtype=latents.dtype)[labels]
    return xp.concatenate([latents, one_hot * math.sqrt(classes)], axis=1)


class Generator:
    """The network that makes the pictures of a run.

    options  of the run, by name
    step     after which it was saved
    classes  how many labels it takes, 0 for none
    """

    def __init__(self, network: Module, checkpoint: Checkpoint):
        self.network = network.eval()
        self.options, self.step = checkpoint.options, checkpoint.step
        self.classes, self.latent = checkpoint.classes, int(checkpoint.options["latent"])

    def samples(
        self, count: int, seed: int = 0, labels: numpy.ndarray | None = None
    ) -> numpy.ndarray:
        """Images (count, H, W, C) from latents of that seed; labels (count,) are drawn if None."""
        random = numpy.random.default_rng(seed)
        latents = random.standard_normal((count, self.latent), dtype=numpy.float32)
        if self.classes and labels is None:
            labels = random.integers(self.classes, size=count)
        return self.from_latents(latents, labels)

    def from_latents(
        self, latents: numpy.ndarray, labels: numpy.ndarray | None = None
    ) -> numpy.ndarray:
        """Images (N, H, W, C), in [-1, 1], from latents (N, latent) and labels (N,), if any.

        Raises UsageError for labels that the network does not take.
        """
        if labels is not None:
            if self.classes == 0:
                raise UsageError("this generator knows no labels: it was trained without them")
            if labels.min() < 0 or labels.max() >= self.classes:
                raise UsageError(f"labels from 0 to {self.classes - 1}, not {labels}")
            latents = with_labels(to_device(latents), to_device(labels), self.classes)
        with no_grad():
            return numpy.concatenate([
                self.network(Tensor(to_device(latents[start : start + 500]))).numpy()
                for start in range(0, len(latents), 500)
            ])


def load_generator(path: Path) -> Generator:
    """The generator of a checkpoint, or of a run's folder. Raises CheckpointError."""
    checkpoint = read(path)
    if checkpoint.network is None:
        raise CheckpointError(
            f"the generator of {path} has layers of its own: make it in Python and load its arrays"
        )
    try:
        part, description = checkpoint.network
        arrays = checkpoint.parts[part]
        numbers = sum(array.size for array in arrays.values())
        _require_room(description, numbers)
        if not 0 < checkpoint.options["latent"] + checkpoint.classes <= numbers:
            raise ValueError("its latents are larger than its arrays")
        network = build(description)
        network.load_state({name: arrays[name] for name in network.state()})
        generator = Generator(network, checkpoint)
        if generator.samples(1).ndim != 4:
            raise ValueError("it makes no images")
        return generator
    except Exception as error:  # a description may be wrong in any way
        raise CheckpointError(f"{path} does not hold a generator ({error!r})") from error
