"""What every demo needs around its update: options, progress, log, pictures, checkpoints."""

import argparse
import contextlib
import csv
import math
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy

from . import backend, checkpoints, plots, watch
from .checkpoints import Checkpoint, CheckpointError, load_generator
from .files import UsageError, replacing
from .layers import Module, require_same_arrays
from .tensor import Tensor, no_grad

__all__ = ["CheckpointError", "Run", "UsageError", "from_zero", "interpolate", "load_generator",
           "parse", "parser", "positive", "run_main"]

ONCE = {"resume", "overwrite", "watch", "debug"}  # options that a resumed run does not inherit
MOST = 1_000_000_000  # no count of anything is larger
KINDS = {int: "whole number", float: "number"}
PICTURES = 40  # grids of samples in a run
SAMPLES = 64  # images in a grid, in rows of 8; with labels 10 of each class, a class to a row


# ---------------------------------------------------------------- options


def positive(kind: type) -> Callable[[str], Any]:
    """A type for argparse: a number above zero, and up to 1e9 if it is a whole one."""
    if kind is int:
        return _number(int, lambda value: 0 < value <= MOST, f"above 0, up to {MOST:,}")
    return _number(float, lambda value: 0 < value < math.inf, "above 0")


def from_zero(limit: float = math.inf, kind: type = float) -> Callable[[str], Any]:
    """A type for argparse: a number from zero to below the limit."""
    return _number(kind, lambda value: 0 <= value < limit, f"from 0 to below {limit}")


def _number(kind: type, fits: Callable[[Any], bool], range_: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {KINDS[kind]} {range_}")
        return value

    return parse


def parser(
    description: str, out: str, steps: int, images: bool = True, **defaults: Any
) -> argparse.ArgumentParser:
    """The options that all demos share, with their defaults; a demo adds its own to it.

    images=False leaves out what is about data sets of images.
    """
    options = argparse.ArgumentParser(
        description=description, formatter_class=_Help, allow_abbrev=False
    )
    add, whole = options.add_argument, positive(int)
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    length = options.add_mutually_exclusive_group()
    length.add_argument("--steps", type=whole, default=steps, help="steps of training")
    add("--batch-size", type=whole, default=64, metavar="N", help="examples in a batch")
    add("--latent", type=whole, default=100, metavar="N", help="numbers in a latent z ~ N(0, 1)")
    add("--lr", type=positive(float), default=2e-4, help="learning rate of Adam")
    add("--seed", type=from_zero(MOST, int), default=0, help="the same seed gives the same run")
    if images:
        length.add_argument("--epochs", type=whole, help="the same, in passes over the data")
        add("--data", default="mnist", help="mnist (9,000 digits that ship with tinygan: no "
            "network), mnist-full, fashion (both downloaded unless in --data-dir) or folder:PATH")
        add("--data-dir", type=Path, metavar="PATH", help="where the files of those two are")
    add("--out", type=Path, default=Path(out), metavar="PATH", help="folder for all results")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--overwrite", action="store_true", help="replace the run that --out holds")
    add("--watch", action="store_true", help="stop at the first number that is not finite and say "
        "where it appeared (slow; done by itself, from the last checkpoint, when a loss is nan)")
    add("--debug", action="store_true", help="show the traceback of an error")
    options.set_defaults(**defaults)
    return options


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with the defaults shown, where there are any, and the description's lines kept."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of the command line, or with --resume those of the checkpoint under them.

    Also chooses the device and starts the random generator.
    """
    options = parser.parse_args()
    if options.resume:
        parser.set_defaults(**_saved(parser, checkpoints.read(options.out).options))
        options = parser.parse_args()
    elif checkpoints.exists(options.out) and not options.overwrite:
        raise UsageError(
            f"{options.out} holds a run already: continue it with --resume, replace it with "
            "--overwrite, or choose another folder with --out"
        )
    backend.use_device(options.device)
    backend.seed(options.seed)
    return options


def _saved(parser: argparse.ArgumentParser, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a checkpoint, read as if they were typed, and refused where those would be."""
    known = vars(parser.parse_args([])).keys() - {"out", *ONCE}
    kept = {name: value for name, value in saved.items() if name in known and value is not None}
    words = []
    for name, value in kept.items():
        option = "--" + name.replace("_", "-")
        words += [option] * value if isinstance(value, bool) else [f"{option}={value}"]
    options = vars(parser.parse_args(words))
    return {name: options[name] for name in kept}


def run_main(main: Callable[[], None]) -> None:
    """Run a demo's main; a UsageError becomes one sentence and exit status 2.

    Where a number was not finite, the run is made again from its last checkpoint and watched.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # for paths that are no proper text
    try:
        try:
            return main()
        except watch.NotFinite as error:
            if "--watch" in sys.argv:
                raise
            print(f"{error}: going back to the last checkpoint to see where", file=sys.stderr)
            sys.argv[1:] = [word for word in sys.argv[1:] if word != "--overwrite"]
            sys.argv += ["--resume", "--watch"]
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (UsageError, MemoryError) as error:
        if "--debug" in sys.argv:
            raise
        advice = ""
        if isinstance(error, MemoryError):
            advice = "; a smaller --batch-size needs less"
        if isinstance(error, watch.NotFinite):
            advice = "; a lower --lr usually helps (the last good checkpoint is kept)"
        print(f"error: {error}{advice}", file=sys.stderr)
        sys.exit(2)


# ---------------------------------------------------------------- the run


class Run:
    """The steps of a training run, and all that happens between them.

        run = Run(options, images, game, sample, parts)
        for step in run:
            ...                                   # the update, written out in the demo
            run.log({"D loss": d_loss, ...})

    images   how many there are to train on, which is the length of an epoch
    game     of losses.py: how to read its numbers is printed at the end
    sample   makes images (N, H, W, C) in [-1, 1] from latents (N, latent), or if there are
             classes from (N, latent + classes), the label one-hot beside the latent
    parts    all that a checkpoint must hold, by name: what has state() and load_state()
    classes  how many labels sample takes, 0 for none
    draw     writes the picture of a step to a path, where sample makes something else than
             images; then there is samples.html, to step through, but no interpolation.png

    In options.out it leaves samples.png and samples/ (a grid of always the same latents),
    samples.gif, interpolation.png, log.csv, curves.png, checkpoint.npz and the one before it.
    Ctrl-C finishes the step, saves, and says how to go on; a second Ctrl-C stops at once.
    Raises watch.NotFinite when a number that is logged was not finite at any step.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        images: int,
        game: Any,
        sample: Callable[[Tensor], Tensor],
        parts: Mapping[str, Any],
        classes: int = 0,
        draw: Callable[[Path], None] | None = None,
    ):
        self.options, self.game, self.sample, self.parts = options, game, sample, parts
        self.classes, self.draw, self.out = classes, draw, Path(options.out)
        if getattr(options, "epochs", None):
            batches = images // options.batch_size * options.epochs
            options.steps = max(1, batches // getattr(options, "d_steps", 1))
            options.epochs = None  # from here on, and in the checkpoint, steps alone count
        self.picture_every = max(1, options.steps // PICTURES)
        self.log_every = max(1, min(10, options.steps // 100))
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.latest: Mapping[str, Tensor] = {}
        self.sum = Tensor(0.0)  # of all that was logged since the last row
        self.stopped = False
        # A generator of its own: what is drawn for pictures must not change the training.
        random = numpy.random.default_rng(options.seed + 1)
        self.fixed = random.standard_normal((SAMPLES, options.latent), dtype=numpy.float32)
        if options.resume:
            self._load()
        else:
            self._prepare_folder()

    def __iter__(self) -> Iterator[int]:
        """The numbers of the steps that are still to be made."""
        from tqdm import tqdm

        print(f"{self.options.steps} steps on {backend.device()}; everything goes to {self.out}/")
        if self.step == 0:
            self.save()
        before = signal.signal(signal.SIGINT, self._stop)
        watching = watch.watching(self._names()) if self.options.watch else contextlib.nullcontext()
        try:
            with watching, tqdm(total=self.options.steps, initial=self.step, unit="step") as bar:
                while self.step < self.options.steps and not self.stopped:
                    self.step += 1
                    watch.step = self.step
                    yield self.step
                    if self.options.watch:
                        self._checked_parts()
                    if self.step % self.log_every == 0:
                        bar.set_postfix(self._write_row())
                    if self.step % self.picture_every == 0:
                        self._save_samples()
                        self.save()
                    bar.update()
            self.save()
            self._finish()
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def share_left(self) -> float:
        """The share of the run that is left, from 1 down to 0: for learning rates that fall."""
        return 1 - (self.step - 1) / self.options.steps

    def log(self, values: Mapping[str, Tensor]) -> None:
        """Note what this step measured. It is read from the device only when a row is due."""
        self.latest = values
        with no_grad():
            for value in values.values():
                self.sum = self.sum + value  # a NaN or an infinity stays in a sum

    def _stop(self, *_: Any) -> None:
        self.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _write_row(self) -> dict[str, str]:
        row = {"step": self.step} | {name: value.item() for name, value in self.latest.items()}
        self._check_log()
        if self.rows and self.rows[0].keys() != row.keys():
            raise UsageError(f"the log has the columns {[*self.rows[0]]}, not {[*row]}")
        self.rows.append(row)
        try:
            with open(self.out / "log.csv", "a", newline="") as file:
                _write_rows(file, [row], header=len(self.rows) == 1)
        except OSError as error:
            raise UsageError(f"cannot write {self.out / 'log.csv'}: {error.strerror}") from error
        return {name: f"{value:.3f}" for name, value in row.items() if name != "step"}

    def _pictures(self, latents: numpy.ndarray, labels: numpy.ndarray) -> numpy.ndarray:
        latents = backend.to_device(latents)
        if self.classes:
            latents = checkpoints.with_labels(latents, backend.to_device(labels), self.classes)
        with no_grad():
            return self.sample(Tensor(latents)).numpy()

    def _save_samples(self) -> None:
        numbered = self.out / "samples" / f"{self.step:07}.png"
        if self.draw:
            self.draw(numbered)
        else:
            self._save_grid(numbered)
        with replacing(self.out / "samples.png") as latest:
            shutil.copyfile(numbered, latest)

    def _save_grid(self, path: Path) -> None:
        latents, columns = self.fixed, 8
        if self.classes:  # the same ten latents in every row
            latents, columns = numpy.tile(self.fixed[:10], (self.classes, 1)), 10
        labels = numpy.repeat(numpy.arange(self.classes), 10)
        plots.save_grid(self._pictures(latents, labels), path, columns)

    def _finish(self) -> None:
        """Make what is made once, the animation, curves and interpolation, and say how it went."""
        frames = sorted((self.out / "samples").glob("*.png"))
        if frames:
            plots.save_animation(frames, self.out / "samples.gif")
            if self.draw:
                plots.save_player(frames, self.out / "samples.html")
        if not self.draw:
            latents = interpolate(self.fixed[:8], self.fixed[8:16], 12)
            labels = numpy.repeat(numpy.arange(8), 12) % max(1, self.classes)
            pictures = self._pictures(latents, labels)
            plots.save_grid(pictures, self.out / "interpolation.png", columns=12)
        if self.rows:
            self._save_curves()
            last = self.rows[-max(1, len(self.rows) // 10) :]
            means = {name: sum(row[name] for row in last) / len(last) for name in last[0]}
            del means["step"]
            print("In the last tenth of the run, on average: "
                  + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))
            print(textwrap.fill(self.game.reading, 88))
        if self.step < self.options.steps:
            print(f"Stopped after step {self.step}; all is saved. Go on with:\n"
                  f"  python {sys.argv[0]} --resume --out {self.out}")

    def curves(self) -> tuple[list[float], dict[str, dict[str, list[float]]]]:
        """The logged steps, and for each panel of a picture its curves by name."""
        columns = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        steps = columns.pop("step")
        losses = {name: column for name, column in columns.items() if "loss" in name}
        others = {name: column for name, column in columns.items() if "loss" not in name}
        return steps, {"losses": losses, "D's answers" if "D(x)" in others else "estimate": others}

    def _save_curves(self) -> None:
        plots.save_curves(
            *self.curves(),
            self.out / "curves.png",
            {"losses": (self.game.balance, "D loss in balance")},
        )

    # ------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """Write a checkpoint: all that a resumed run needs to go on with the same bits.

        Raises watch.NotFinite, and writes nothing, where a number is not finite.
        """
        self._check_log()
        checkpoints.write(self.out, Checkpoint(
            self.step, vars(self.options), backend.generator.bit_generator.state, self.classes,
            self._network(),
            {name: numpy.array([row[name] for row in self.rows])
             for name in (self.rows[0] if self.rows else ())},
            self._checked_parts(),
        ))

    def _network(self) -> list[Any] | None:
        """Which part makes the pictures, and its layers, so that it can be made from the file."""
        for part, owner in self.parts.items():
            if self.sample in (owner, getattr(owner, "average", None)):
                try:
                    return [part, checkpoints.describe(self.sample)]
                except ValueError:
                    return None  # layers of the demo's own: no file can tell how to make them
        return None

    def _load(self) -> None:
        """Take over the newest checkpoint, or nothing of it, and drop what came after it."""
        saved = checkpoints.read(self.out)
        try:
            if saved.parts.keys() != self.parts.keys():
                raise ValueError(f"it has {', '.join(saved.parts)}, not {', '.join(self.parts)}")
            for part, owner in self.parts.items():
                require_same_arrays(owner.state(), saved.parts[part], part)
            rows = [dict(zip(saved.log, row, strict=True))
                    for row in zip(*(c.tolist() for c in saved.log.values()), strict=True)]
            backend.generator.bit_generator.state = saved.random
        except Exception as error:  # the random generator's state may be wrong in any way
            raise CheckpointError(f"{self.out}: the checkpoint does not fit: {error}") from error
        for part, owner in self.parts.items():
            owner.load_state(saved.parts[part])
        self.step, self.rows = saved.step, rows
        with replacing(self.out / "log.csv") as path, open(path, "w", newline="") as file:
            _write_rows(file, self.rows, header=True)
        for picture in (self.out / "samples").glob("*.png"):
            if picture.stem.isdecimal() and int(picture.stem) > self.step:
                picture.unlink()
        for folder in (self.out, self.out / "samples"):
            for unfinished in folder.glob(".*.*"):  # what a killed run was writing
                unfinished.unlink()

    def _prepare_folder(self) -> None:
        """Make the folder, without what a run before this one left there."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.out / "samples", ignore_errors=True)
            for name in (checkpoints.FILE, checkpoints.PREVIOUS, "log.csv"):
                (self.out / name).unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot use {self.out}: {error.strerror}; choose another folder with --out"
            ) from error

    # ------------------------------------------------------------ numbers that go wrong

    def _names(self) -> dict[Any, str]:
        """Every module of the run by a name for messages, such as "layers.3 (Dense)"."""
        names: dict[Any, str] = {}
        modules = [(part, owner) for part, owner in self.parts.items() if isinstance(owner, Module)]
        while modules:
            name, module = modules.pop()
            names[module] = name
            modules += [(f"{inner} ({type(member).__name__})", member)
                        for inner, member in module.members() if isinstance(member, Module)]
        return names

    def _check_log(self) -> None:
        if not math.isfinite(self.sum.item()):
            values = ", ".join(f"{name} {value.item():.4g}" for name, value in self.latest.items())
            raise watch.NotFinite(f"not all numbers up to step {self.step} are finite ({values})")
        self.sum = Tensor(0.0)

    def _checked_parts(self) -> dict[str, dict[str, numpy.ndarray]]:
        """The states of all parts, in main memory."""
        states = {part: owner.state() for part, owner in self.parts.items()}
        for part, state in states.items():
            for name, array in state.items():
                watch.check(array, f"{name} of {part}, after its update")
        return states


def _write_rows(file: TextIO, rows: list[dict[str, float]], header: bool) -> None:
    writer = csv.DictWriter(file, rows[0] if rows else [])
    if header and rows:
        writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)


def interpolate(start: numpy.ndarray, end: numpy.ndarray, count: int) -> numpy.ndarray:
    """count latents on the way from start to end, row by row: (N, Z), (N, Z) -> (N*count, Z).

    Along the arc rather than the chord: in high dimensions all latents lie near a sphere, and
    the middle of a chord is a point that G never saw (White 2016).
    """
    share = numpy.linspace(0, 1, count, dtype=numpy.float32)[None, :, None]
    first, last = start[:, None, :], end[:, None, :]
    cosine = (first * last).sum(2, keepdims=True)
    cosine /= numpy.linalg.norm(first, axis=2, keepdims=True)
    cosine /= numpy.linalg.norm(last, axis=2, keepdims=True)
    angle = numpy.arccos(numpy.clip(cosine, -0.999, 0.999))
    arc = (numpy.sin((1 - share) * angle) * first + numpy.sin(share * angle) * last)
    return (arc / numpy.sin(angle)).reshape(-1, start.shape[1]).astype(numpy.float32)
