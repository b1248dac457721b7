"""A trained run, made again from its checkpoint by the demo that trained it."""

import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from .. import backend
from ..files import UsageError
from . import checkpoints
from .checkpoints import CheckpointError
from .options import Settings, saved_settings

PACKAGE = Path(__file__).parents[1]


class Trained(NamedTuple):
    """A run with its weights: the demo's module, its options, what its build() made, the step."""

    demo: ModuleType
    settings: Settings
    parts: dict[str, Any]
    step: int

    def pictures(self) -> Any:
        """The demo's pictures(settings, parts): draw(path) writes a picture.

        Raises UsageError where the demo makes none.
        """
        if not hasattr(self.demo, "pictures"):
            raise UsageError(f"demos/{self.settings.demo}.py makes no pictures from a run")
        return self.demo.pictures(self.settings, self.parts)


def load_demo(name: str) -> ModuleType:
    """The demo of that name: from demos/ beside the package in a checkout, or from the package.

    Only names are looked up, never paths. Raises UsageError where there is no such demo.
    """
    files = [folder / "demos" / f"{name}.py" for folder in (PACKAGE, PACKAGE.parent)]
    file = next((file for file in files if file.is_file()), None)
    if not re.fullmatch("[a-z0-9_]+", name) or file is None:
        raise UsageError(f"there is no demo {name!r} in {PACKAGE.parent / 'demos'}")
    specification = importlib.util.spec_from_file_location(f"tinygan.demos.{name}", file)
    demo = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(demo)
    return demo


def load(path: Path) -> Trained:
    """The run of a checkpoint file, or of the folder that holds it.

    The demo's build() makes the networks from the saved options, and they take over the saved
    arrays; nothing in the file is run. Raises CheckpointError where that can't be done.
    """
    path = Path(os.path.expanduser(path))
    checkpoint = checkpoints.read(path)
    try:
        demo = load_demo(checkpoint.demo)
        settings = saved_settings(demo.options(), checkpoint)
        backend.seed(settings.seed)  # what build and pictures draw is what the run drew
        settings.out = path if path.is_dir() else path.parent
        parts = demo.build(settings)
        for name, part in parts.items():
            part.load_state(checkpoint.parts[name])
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # options and arrays of a file may be wrong in any way
        raise CheckpointError(f"{path} can't be made again ({error!r}): train again") from error
    return Trained(demo, settings, parts, checkpoint.step)
