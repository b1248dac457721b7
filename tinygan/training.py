"""What every demo needs around its update: options, progress, log, pictures, checkpoints."""

import argparse
import csv
import json
import math
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy

from . import backend, plots
from .files import UsageError, replacing
from .tensor import Tensor, no_grad

FORMAT = 1  # of checkpoints
PICTURES = 40  # grids of samples in a run
SAMPLES = 64  # images in a grid


class CheckpointError(UsageError):
    """A checkpoint that is missing, damaged, or of another run."""


# ---------------------------------------------------------------- options


def positive(kind: type) -> Callable[[str], Any]:
    """A type for argparse: a finite number above zero."""
    return _number(kind, lambda value: 0 < value < math.inf, "above 0")


def from_zero(limit: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: a number from zero to below the limit."""
    return _number(float, lambda value: 0 <= value < limit, f"from 0 to below {limit}")


def _number(kind: type, fits: Callable[[Any], bool], range_: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not a {kind.__name__} {range_}")
        return value

    return parse


def parser(description: str, out: str, steps: int, **defaults: Any) -> argparse.ArgumentParser:
    """The options that all demos share, with their defaults; a demo adds its own to it."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=_Help, allow_abbrev=False
    )
    add, whole = options.add_argument, positive(int)
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    length = options.add_mutually_exclusive_group()
    length.add_argument("--steps", type=whole, default=steps, help="steps of training")
    length.add_argument("--epochs", type=whole, help="the same, in passes over the data")
    add("--batch-size", type=whole, default=64, metavar="N", help="images in a batch")
    add("--latent", type=whole, default=100, metavar="N", help="numbers in a latent z ~ N(0, 1)")
    add("--lr", type=positive(float), default=2e-4, help="learning rate of Adam")
    add("--seed", type=int, default=0, help="the same seed gives the same run")
    add("--data", default="mnist", help="mnist (9,000 digits that ship with tinygan: no network), "
        "mnist-full, fashion (both downloaded unless in --data-dir) or folder:PATH")
    add("--data-dir", type=Path, metavar="PATH", help="where the files of those two are")
    add("--out", type=Path, default=Path(out), metavar="PATH", help="folder for all results")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--overwrite", action="store_true", help="replace the run that --out holds")
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
    if options.seed < 0:
        parser.error(f"argument --seed: 0 or above, not {options.seed}")
    if options.resume:
        saved = json.loads(str(read_checkpoint(options.out / "checkpoint.npz")["options"]))
        own = vars(options).keys() - {"resume", "overwrite", "debug"}
        parser.set_defaults(**{name: saved[name] for name in saved.keys() & own})
        options = parser.parse_args()
    elif (options.out / "checkpoint.npz").exists() and not options.overwrite:
        raise UsageError(
            f"{options.out} holds a run already: continue it with --resume, replace it with "
            "--overwrite, or choose another folder with --out"
        )
    backend.use_device(options.device)
    backend.seed(options.seed)
    return options


def run_main(main: Callable[[], None]) -> None:
    """Run a demo's main; a UsageError becomes one sentence and exit status 2."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except UsageError as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


# ---------------------------------------------------------------- the run


class Run:
    """The steps of a training run, and all that happens between them.

        run = Run(options, images, game, sample, parts)
        for step in run:
            ...                                   # the update, written out in the demo
            run.log({"D loss": d_loss, ...})

    images  how many there are to train on, which is the length of an epoch
    game    of losses.py: how to read its numbers is printed at the end
    sample  makes images (N, H, W, C) in [-1, 1] from latents (N, latent)
    parts   all that a checkpoint must hold, by name: what has state() and load_state()

    In options.out it leaves samples.png and samples/ (a grid of always the same latents),
    samples.gif, interpolation.png, log.csv, curves.png and checkpoint.npz. Ctrl-C finishes the
    step, saves, and says how to go on; a second Ctrl-C stops at once.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        images: int,
        game: Any,
        sample: Callable[[Tensor], Tensor],
        parts: Mapping[str, Any],
    ):
        self.options, self.game, self.sample, self.parts = options, game, sample, parts
        self.out: Path = options.out
        if options.epochs:
            batches = images // options.batch_size * options.epochs
            options.steps = max(1, batches // getattr(options, "d_steps", 1))
            options.epochs = None  # from here on, and in the checkpoint, steps alone count
        self.picture_every = max(1, options.steps // PICTURES)
        self.log_every = max(1, min(10, options.steps // 100))
        self.step = 0
        self.rows: list[dict[str, float]] = []
        self.latest: Mapping[str, Tensor] = {}
        self.stopped = False
        # A generator of its own: what is drawn for pictures must not change the training.
        self.fixed = numpy.random.default_rng(options.seed + 1).standard_normal(
            (SAMPLES, options.latent), dtype=numpy.float32
        )
        if options.resume:
            self._load()
        else:
            self._prepare_folder()

    def __iter__(self) -> Iterator[int]:
        """The numbers of the steps that are still to be made."""
        from tqdm import tqdm

        print(f"{self.options.steps} steps on {backend.device()}; everything goes to {self.out}/")
        before = signal.signal(signal.SIGINT, self._stop)
        try:
            with tqdm(total=self.options.steps, initial=self.step, unit="step") as bar:
                while self.step < self.options.steps and not self.stopped:
                    self.step += 1
                    yield self.step
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

    def _stop(self, *_: Any) -> None:
        self.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _write_row(self) -> dict[str, str]:
        row = {"step": self.step} | {name: value.item() for name, value in self.latest.items()}
        for name, value in row.items():
            if not math.isfinite(value):
                raise UsageError(
                    f"{name} is {value} at step {self.step}: a lower --lr usually helps; the "
                    f"last checkpoint, in {self.out}, is kept"
                )
        self.rows.append(row)
        try:
            with open(self.out / "log.csv", "a", newline="") as file:
                writer = csv.DictWriter(file, row)
                if len(self.rows) == 1:
                    writer.writeheader()
                writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        except OSError as error:
            raise UsageError(f"cannot write {self.out / 'log.csv'}: {error.strerror}") from error
        return {name: f"{value:.3f}" for name, value in row.items() if name != "step"}

    def _pictures(self, latents: numpy.ndarray) -> numpy.ndarray:
        with no_grad():
            return self.sample(Tensor(backend.to_device(latents))).numpy()

    def _save_samples(self) -> None:
        numbered = self.out / "samples" / f"{self.step:07}.png"
        plots.save_grid(self._pictures(self.fixed), numbered)
        with replacing(self.out / "samples.png") as latest:
            shutil.copyfile(numbered, latest)

    def _finish(self) -> None:
        """Make what is made once, the animation, curves and interpolation, and say how it went."""
        frames = sorted((self.out / "samples").glob("*.png"))
        if frames:
            plots.save_animation(frames, self.out / "samples.gif")
        latents = interpolate(self.fixed[:8], self.fixed[8:16], 12)
        plots.save_grid(self._pictures(latents), self.out / "interpolation.png", columns=12)
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

    def _save_curves(self) -> None:
        columns = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        steps = columns.pop("step")
        losses = {name: column for name, column in columns.items() if "loss" in name}
        answers = {name: column for name, column in columns.items() if "loss" not in name}
        plots.save_curves(
            steps,
            {"losses": losses, "D's answers": answers},
            self.out / "curves.png",
            {"losses": (self.game.balance, "D loss in balance")},
        )

    # ------------------------------------------------------------ checkpoints

    def save(self) -> None:
        """Write checkpoint.npz: all that a resumed run needs to go on with the same bits."""
        arrays = {
            "format": numpy.array(FORMAT),
            "step": numpy.array(self.step),
            "options": numpy.array(json.dumps(vars(self.options), default=str, sort_keys=True)),
            "generator": numpy.array(json.dumps(backend.generator.bit_generator.state)),
        }
        for part, owner in self.parts.items():
            arrays |= {f"{part}/{name}": array for name, array in owner.state().items()}
        with replacing(self.out / "checkpoint.npz") as file:
            numpy.savez(file, **arrays)

    def _load(self) -> None:
        path = self.out / "checkpoint.npz"
        arrays = read_checkpoint(path)
        try:
            for part, owner in self.parts.items():
                prefix = f"{part}/"
                owner.load_state({
                    name.removeprefix(prefix): array
                    for name, array in arrays.items() if name.startswith(prefix)
                })
        except ValueError as error:
            raise CheckpointError(f"{path} does not fit this run: {error}") from error
        self.step = int(arrays["step"])
        backend.generator.bit_generator.state = json.loads(str(arrays["generator"]))
        self._take_up_log()

    def _take_up_log(self) -> None:
        """Read log.csv, and drop the rows and pictures that came after the checkpoint."""
        path = self.out / "log.csv"
        if path.exists():
            with open(path, newline="") as file:
                lines = [row for row in csv.DictReader(file) if int(row["step"]) <= self.step]
            self.rows = [{name: float(text) for name, text in line.items()} for line in lines]
            with replacing(path) as temporary, open(temporary, "w", newline="") as file:
                writer = csv.DictWriter(file, lines[0] if lines else [])
                if lines:
                    writer.writeheader()
                writer.writerows(lines)
        for picture in (self.out / "samples").glob("*.png"):
            if int(picture.stem) > self.step:
                picture.unlink()

    def _prepare_folder(self) -> None:
        """Make the folder, without what a run before this one left there."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self.out / "samples", ignore_errors=True)
            for name in ("checkpoint.npz", "log.csv"):
                (self.out / name).unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot use {self.out}: {error.strerror}; choose another folder with --out"
            ) from error


def read_checkpoint(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays of a checkpoint. Raises CheckpointError where it is missing or damaged."""
    try:
        with numpy.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no checkpoint {path}: start without --resume, or give its folder with --out"
        ) from error
    except Exception as error:  # zipfile, zlib, struct, NumPy: damage shows in many ways
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged: {error}") from error
    if "format" not in arrays or int(arrays["format"]) != FORMAT:
        raise CheckpointError(
            f"{path} has format {arrays.get('format')}, this version of tinygan reads {FORMAT}"
        )
    return arrays


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
