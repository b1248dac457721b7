"""The steps of a training run, and everything around them: log, pictures, checkpoints, Ctrl-C."""

import argparse
import csv
import math
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy

from .. import backend, plots
from ..backend import xp
from ..files import UsageError, replacing
from ..layers import Module, require_same_arrays
from ..tensor import Tensor, no_grad
from . import checkpoints, notebook, processes, watch
from .checkpoints import Checkpoint, CheckpointError

PICTURES = 40  # in a run
# What a run leaves beside the pictures of its steps, with what demos draw at the end or later.
LEFT = (checkpoints.FILE, checkpoints.PREVIOUS, "log.csv", "figures.*", "samples.*", "curves.png",
        "interpolation.png", "roc.png", "strange.png", "marked.png", "digit-?.png", "sheet.png",
        "colour.png", "photographs.png", "enlarged.png", "mixed.png", "noise.png", "truncation.png",
        "nearest.png", "text.png", "words.png")
UNFINISHED = (".checkpoint.npz.*", ".*.csv.*", ".*.png.*", ".*.gif.*", ".figures.*", ".samples.*",
              "samples/.*.png.*")  # what a killed run was writing


class Run:
    """The steps of a training run, and all that happens between them.

        run = Run(settings, parts, pictures.draw, reading=game.reading)
        for step in run:
            ...                                   # the update, written out in the demo
            run.log(losses={"D loss": d_loss, "G loss": g_loss}, answers={...})

    settings  the options: steps, out, seed, resume, ... of options.parser
    parts     all that a checkpoint must hold, by name: whatever has state() and load_state()
    draw      writes the picture of a step to a path
    reading   explains the logged numbers, in a sentence or two that is printed at the end
    levels    (value, label) of a line to draw in curves.png, by the title of its panel
    epoch     steps in a pass over the data, for --epochs

    In settings.out it leaves samples.png and samples/, samples.gif, curves.png, checkpoint.npz
    and the checkpoint before it, and log.csv, written anew with each checkpoint. Ctrl-C finishes
    the step, saves, and says how to continue; a second Ctrl-C stops at once. A notebook shows
    samples.png, and at the end curves.png, under the cell. If a number that is logged was not
    finite at any step, the run goes back to its last checkpoint and watches: see watch.py.
    """

    def __init__(
        self,
        settings: argparse.Namespace,
        parts: Mapping[str, Any],
        draw: Callable[[Path], None],
        *,
        reading: str = "",
        levels: Mapping[str, tuple[float, str]] | None = None,
        epoch: int = 1,
    ):
        self.settings, self.parts, self.draw = settings, parts, draw
        self.reading, self.levels, self.out = reading, levels, Path(settings.out)
        if getattr(settings, "epochs", None):
            settings.steps = settings.epochs * (epoch // processes.size)
            settings.epochs = None  # from here on, and in the checkpoint, steps alone count
        self.picture_every = max(1, settings.steps // PICTURES)
        self.log_every = max(1, min(10, settings.steps // 100))
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.panels: dict[str, list[str]] = {}
        self.latest: dict[str, dict[str, Tensor | float]] = {}  # numbers, by panel and name
        self.sum = Tensor(0.0)  # of all that was logged since the last row
        self.stopped = self.interrupted = False  # interrupted: this process, the others later
        self.shown: set[str] = set()  # pictures that a notebook shows
        if settings.resume:
            self._load()
        else:
            self._remove(-1, *LEFT, *UNFINISHED)

    @property
    def time_left(self) -> float:
        """The part of the run that is left, from 1 down to 0: for learning rates that fall."""
        return 1 - (self.step - 1) / self.settings.steps

    @property
    def finished(self) -> bool:
        return self.step >= self.settings.steps

    def __iter__(self) -> Iterator[int]:
        """The numbers of the steps that are still to be made."""
        from tqdm import tqdm

        if self.step > self.settings.steps:
            raise UsageError(f"the run in {self.out} has made {self.step} steps already, which is "
                             f"more than --steps {self.settings.steps}")
        print(f"{self.settings.steps} steps on {backend.device()}; everything goes to {self.out}/")
        if self.step == 0:
            self.save()
        with ExitStack() as stack:
            if threading.current_thread() is threading.main_thread():  # others get no signals
                before = signal.signal(signal.SIGINT, self._stop)
                stack.callback(signal.signal, signal.SIGINT, before)
            bar = stack.enter_context(
                tqdm(total=self.settings.steps, initial=self.step, unit="step",
                     disable=processes.rank > 0)
            )
            watched = self.settings.watch
            if watched:
                stack.enter_context(self._watching())
            while not (self.finished or self.stopped):
                self.step += 1
                with processes.together():
                    yield self.step
                self.stopped = processes.any_of(self.stopped or self.interrupted)
                try:
                    if watched:
                        self._checked_parts()
                    self._after_step(bar)
                except watch.NotFinite as error:
                    if watched:
                        raise
                    watched = True
                    self._load()
                    bar.write(f"{error}: going back to step {self.step} to see where",
                              file=sys.stderr)
                    stack.enter_context(self._watching())
                bar.update(self.step - bar.n)
        self._finish()

    def log(self, numbers: Mapping[str, Any] | None = None, /, **panels: Mapping[str, Any]) -> None:
        """Note what this step measured: for each panel of curves.png, its numbers by name.

        A number is a Tensor or an array of one element, or a plain number; numbers that come
        first are a panel without a title. They are read from the device only when a row of log.csv
        is due. Raises UsageError for a name or a number that no row can have.
        """
        panels |= {} if numbers is None else {"": numbers}
        for values in panels.values():
            if not isinstance(values, Mapping):
                raise UsageError(f"a panel of the log is numbers by name, not {repr(values)[:60]}: "
                                 'use run.log(losses={"D loss": d_loss})')
        names = [name for values in panels.values() for name in values]
        for name in names:
            usable = isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable()
            if not usable or name == "step" or names.count(name) > 1:
                raise UsageError(f"a column of the log can't be named {name!r}: use a text of 1 to "
                                 '100 characters, each once in all panels, and not "step"')
        self.latest = {title: {name: _number(name, value) for name, value in values.items()}
                       for title, values in panels.items() if values}
        with no_grad():
            for values in self.latest.values():
                for value in values.values():
                    self.sum = self.sum + value  # a NaN or an infinity stays in a sum

    def curves(self) -> tuple[list[float], dict[str, dict[str, list[float]]]]:
        """The logged steps, and for each panel of a picture its curves by name."""
        return [row["step"] for row in self.rows], {
            title: {name: [row[name] for row in self.rows] for name in names}
            for title, names in self.panels.items()
        }

    def late(self, part: float) -> dict[str, float]:
        """The means of the logged numbers over the last part of the run, such as 1/10."""
        last = self.rows[-max(1, round(len(self.rows) * part)) :]
        return {name: sum(row[name] for row in last) / len(last) for name in [*last[0]][1:]}

    def frames(self) -> list[Path]:
        """The pictures of the run so far, in order."""
        pictures = (self.out / "samples").glob("*.png")
        return sorted(picture for picture in pictures if picture.stem.isdecimal())

    def _stop(self, *_: Any) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _after_step(self, bar: Any) -> None:
        picture_is_due = self.step % self.picture_every == 0
        if self.latest and self.step % self.log_every == 0:
            bar.set_postfix(self._add_row())
        if picture_is_due and processes.rank == 0:
            numbered = self.out / "samples" / f"{self.step:07}.png"
            self.draw(numbered)
            with replacing(self.out / "samples.png") as latest:
                shutil.copyfile(numbered, latest)
            self._show("samples.png")
        if picture_is_due or self.finished or self.stopped:
            self.save()

    def _add_row(self) -> dict[str, str]:
        """Read the latest numbers from the device into a row of the log; they are returned."""
        self._check_log()
        panels, numbers = {title: [*values] for title, values in self.latest.items()}, self._read()
        if self.rows and panels != self.panels:
            raise UsageError(f"the log has the columns {self.panels}, not {panels}")
        self.panels, numbers = panels, processes.means(numbers)
        self.rows.append({"step": self.step} | numbers)
        return {name: f"{value:.3f}" for name, value in numbers.items()}

    def _read(self) -> dict[str, float]:
        """The latest numbers, from the device."""
        return {name: float(x) for values in self.latest.values() for name, x in values.items()}

    def _finish(self) -> None:
        """Make what is made once, the animation and the curves, and say how it went."""
        if processes.rank == 0 and (frames := self.frames()):
            plots.save_animation(frames, self.out / "samples.gif")
        if self.rows:
            plots.save_curves(*self.curves(), self.out / "curves.png", self.levels)
            self._show("curves.png")
            print("In the last tenth of the run, on average: "
                  + ", ".join(f"{name} {value:.3f}" for name, value in self.late(1 / 10).items()))
        if self.rows and self.reading:
            print(textwrap.fill(self.reading, 88))
        if not self.finished:
            launcher = f"mpiexec -n {processes.size} " if processes.size > 1 else ""
            print(f"Stopped after step {self.step}; all is saved. Continue with:\n"
                  f"  {launcher}{notebook.command('--resume', '--out', str(self.out))}")

    def _show(self, name: str) -> None:
        """In a notebook, show a picture, always in the same place under the cell."""
        notebook.show(self.out / name, f"{id(self)} {name}", name in self.shown)
        self.shown.add(name)

    # ------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """Write a checkpoint: all that a resumed run needs to go on with the same bits.

        Raises watch.NotFinite, and writes nothing, where a number is not finite.
        """
        self._check_log()
        columns = self.rows[0] if self.rows else ()
        states = self._checked_parts()
        states |= processes.others(states)
        checkpoints.write(self.out, Checkpoint(
            self.settings.demo, self.step, processes.whole(self.settings),
            backend.generator.bit_generator.state, self.panels if self.rows else {},
            {name: numpy.array([row[name] for row in self.rows]) for name in columns},
            states,
        ))
        if self.rows:
            self._write_log()

    def _write_log(self) -> None:
        with (replacing(self.out / "log.csv") as path,
              open(path, "w", newline="", encoding="utf-8") as file):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows(row.keys() for row in self.rows[:1])
            writer.writerows([f"{value:.6g}" for value in row.values()] for row in self.rows)

    def _load(self) -> None:
        """Take over the newest checkpoint, or nothing of it, and drop what came after it."""
        saved = checkpoints.read(self.out)
        try:
            states = processes.own(saved.parts, saved.options.get("processes", 1))
            if states.keys() != self.parts.keys():
                raise ValueError(f"it has {', '.join(states)}, not {', '.join(self.parts)}")
            for name, part in self.parts.items():
                require_same_arrays(part.state(), states[name], name)
            rows = [dict(zip(saved.log, row, strict=True))
                    for row in zip(*(c.tolist() for c in saved.log.values()), strict=True)]
            backend.generator.bit_generator.state = saved.random
        except Exception as error:  # the random generator's state may be wrong in any way
            raise CheckpointError(f"{self.out}: the checkpoint does not fit: {error}") from error
        for name, part in self.parts.items():
            part.load_state(states[name])
        self.step, self.rows, self.panels = saved.step, rows, saved.panels
        self.sum = Tensor(0.0)
        self._write_log()
        for parameter in [p for part in self.parts.values() if isinstance(part, Module)
                          for p in part.parameters()]:
            parameter.grad = None
        self._remove(self.step, *UNFINISHED)

    def _remove(self, step: int, *patterns: str) -> None:
        """Remove the pictures of later steps than this one, and the files of these patterns.

        Where that fails, the first save says why.
        """
        if processes.rank:
            return
        with suppress(OSError):  # a name that is too long
            later = [picture for picture in self.frames() if int(picture.stem) > step]
            for path in [*later, *(path for name in patterns for path in self.out.glob(name))]:
                with suppress(OSError):
                    path.unlink()

    # ------------------------------------------------------------ numbers that go wrong

    def _watching(self) -> Any:
        """The block in which every new Tensor is looked at."""
        names = {part: name for name, part in self.parts.items() if isinstance(part, Module)}
        for module in [module for part in names for module in part.modules()]:
            names |= {member: f"{name} ({type(member).__name__})"
                      for name, member in module.members() if isinstance(member, Module)}
        return watch.watching(names, lambda: self.step)

    def _check_log(self) -> None:
        if not math.isfinite(processes.means({"sum": self.sum.item()})["sum"]):
            numbers = processes.means(self._read())
            values = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            raise watch.NotFinite(f"not all numbers up to step {self.step} are finite ({values})")
        self.sum = Tensor(0.0)

    def _checked_parts(self) -> dict[str, dict[str, numpy.ndarray]]:
        """The states of all parts, in main memory."""
        states = {part: owner.state() for part, owner in self.parts.items()}
        found = None
        try:
            for part, state in states.items():
                for name, array in state.items():
                    watch.check(array, self.step, f"{name} of {part}, after its update")
        except watch.NotFinite as error:
            found = error
        if processes.any_of(found is not None):  # all go back, or none
            raise found or watch.NotFinite(f"a number of step {self.step} is not finite")
        return states


def _number(name: str, value: Any) -> Tensor | float:
    """A logged value: on the device as a Tensor, which is not read yet, elsewhere as a float."""
    if isinstance(value, (numpy.ndarray, xp.ndarray)) and value.dtype.kind in "fiub":
        value = Tensor(value)
    if isinstance(value, Tensor) and value.data.size == 1:
        return value
    try:
        if not isinstance(value, str | Tensor):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    given = f"of shape {value.shape}" if hasattr(value, "shape") else repr(value)[:60]
    raise UsageError(f"{name!r} {given} can't be logged: use one number, such as loss.mean()")
