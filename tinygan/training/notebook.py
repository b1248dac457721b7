"""Where a run is started: a command line or a notebook, whose IPython is never imported here."""

import os
import shlex
import subprocess
import sys
from pathlib import Path


def running() -> bool:
    """Whether this is the kernel of a notebook, which has imported IPython before."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return hasattr(get_shell(), "kernel")


def in_a_cell() -> bool:
    """Whether no program was started, not even by %run: sys.argv is that of the kernel."""
    return running() and Path(sys.argv[0]).name.startswith("ipykernel")


def command(*words: str) -> str:
    """What starts the same program with these words, ready to be pasted."""
    if in_a_cell():
        return f"arguments={[*words]}"
    quoted = subprocess.list2cmdline if os.name == "nt" else shlex.join
    return quoted(["%run" if running() else "python", sys.argv[0], *words])


def show(picture: Path, place: str, again: bool) -> None:
    """In a notebook, show a PNG under the cell; again: in place of what was shown there."""
    if running():
        from IPython.display import Image, display

        display(Image(filename=str(picture)), display_id=place, update=again)
