"""Checkpoints: all that a run is, in one .npz file, written whole and read without trust.

The archive holds `about`, a text in JSON (the demo's name, step, options, state of the random
generator, the panels of the log), and arrays: log/COLUMN, the rows of the log so far, and
PART/NAME, the state of each part of the run: networks, optimizers, averages, batches; a / or %
inside a name is written as in a URL. The networks are made again by the demo, from its options.
The checkpoint before the last is kept.
"""

import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy
from numpy.lib import format as npy

from ..files import UsageError, replacing

FORMAT = 3
FILE, PREVIOUS = "checkpoint.npz", "checkpoint-previous.npz"
KINDS = {"demo": str, "step": int, "options": dict, "random": dict, "panels": dict}  # of `about`
NAME = r"about\.npy|[^/.][^/]{0,299}/[^/.][^/]{0,299}\.npy"  # of a member of the archive


class CheckpointError(UsageError):
    """A checkpoint that is missing, damaged, or of another run."""


class Checkpoint(NamedTuple):
    """A run after a step."""

    demo: str  # the name of the demo that made it
    step: int
    options: dict[str, Any]
    random: dict[str, Any]  # the state of the random generator
    panels: dict[str, list[str]]  # columns of the log, by the panel that they are drawn in
    log: dict[str, numpy.ndarray]
    parts: dict[str, dict[str, numpy.ndarray]]


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Put the checkpoint in the place of the folder's last one, which becomes the previous one.

    Raises UsageError, and leaves all as it is, for names that could not be read again.
    """
    about = checkpoint._asdict()
    parts = {"log": about.pop("log")} | about.pop("parts")
    arrays = {f"{_quoted(part)}/{_quoted(name)}": array
              for part, state in parts.items() for name, array in state.items()}
    for name in arrays:
        if not re.fullmatch(NAME, f"{name}.npy"):
            raise UsageError(f"{name!r} can't be saved: use names of 1 to 100 characters")
    if "log" in checkpoint.parts:
        raise UsageError("a part of a run can't be named log: that is its log's place")
    text = as_json({"format": FORMAT} | about)
    arrays["about"] = numpy.frombuffer(text.encode(), numpy.uint8)
    with replacing(folder / FILE, keep=folder / PREVIOUS) as file:
        numpy.savez(file, **arrays)


def as_json(value: Any) -> str:
    """JSON: NumPy's numbers as numbers, its arrays as lists; a path, or anything else, as text."""
    return json.dumps(value, default=lambda x: x.tolist() if hasattr(x, "tolist") else str(x))


def _quoted(name: str) -> str:
    """A name of one level, as a member of an archive may have it."""
    return re.sub(r"^\.|[/\\%]", lambda found: f"%{ord(found[0]):02X}", name)


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
            raise ValueError(
                f"it has format {about['format']}, and this version reads {FORMAT}: train again"
            )
        parts: dict[str, dict[str, numpy.ndarray]] = {"log": {}}
        for name, array in arrays.items():
            part, _, name_in_part = name.partition("/")
            parts.setdefault(unquote(part), {})[unquote(name_in_part)] = array
        log = parts.pop("log")
        table = numpy.stack([*log.values()]) if log else numpy.zeros((0, 0))
        if table.ndim != 2 or table.dtype.kind not in "fi" or (log and "step" not in log):
            raise ValueError("its log is no table of numbers by step")
        fields = {name: about[name] for name in KINDS}
        for name, value in fields.items():
            if not isinstance(value, KINDS[name]) or name == "step" and value < 0:
                raise ValueError(f"its {name} is {value!r}")
        if [name for columns in about["panels"].values() for name in columns] != [*log][1:]:
            raise ValueError("its panels are not those of its log")
        return Checkpoint(**fields, log=log, parts=parts)
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
        for member in members:
            # Ours are stored as they are, so that nothing unpacks to more than is there.
            if (member.compress_type != zipfile.ZIP_STORED
                    or member.compress_size != member.file_size):
                raise ValueError("it is packed")
            if not re.fullmatch(NAME, member.filename):
                raise ValueError(f"it holds {member.filename[:60]!r}")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("it claims more than it holds")
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
