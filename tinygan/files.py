"""Files are replaced whole or not at all, and what goes wrong is said in one sentence."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

writing = True  # not in several processes at once: see training/processes.py


class UsageError(Exception):
    """A mistake that the person at the keyboard can mend: one sentence that says how."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows."""
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Lend a temporary path in the same folder; once it is written, put it in path's place.

    Whatever happens meanwhile, path holds either its old or its new content, whole; or, with
    keep, a path for the old content, keep holds the old one while path is not there.
    Raises UsageError where the system refuses (no space, no permission, not a folder).
    """
    path = Path(os.path.expanduser(path))
    if not writing:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
        return
    temporary = None
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a file")  # a folder, or a device: root could replace that
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(path.suffix, f".{path.name}.", path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "r+b") as file:  # Windows flushes only what it may write
            os.fsync(file.fileno())  # on the disk before the old content goes
        temporary.chmod(0o644)
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}; "
            "make room or give another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
