"""What can be set in the laboratory: one table, which every number from a page must pass."""

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

from ..datasets import PLANE, Mixture, ring
from ..files import UsageError
from ..losses import GAMES
from ..training.trained import load_demo

RING, BREAK_IT = load_demo("ring"), load_demo("break_it")
# PacGAN's ring has a deviation of 0.01: from the back row eight dots.
DATA = {name: make() for name, make in PLANE.items()} | {"ring": ring(deviation=0.05)}
MOST_POINTS, DRAWN_DEVIATION = 200, 0.05


class Control(NamedTuple):
    """One setting: what it is called on the page, its first value, and what it may be.

    bounds  the smallest and the largest number, or the words to choose from
    live    a change takes effect at once; of the others, the run starts anew
    broken  also works in the runs of break_it.py, which make one mistake each
    """

    label: str
    default: Any
    bounds: tuple
    help: str
    live: bool = True
    broken: bool = False


CONTROLS = {
    "data": Control("data", "ring", (*DATA, "drawn"), "where the real points lie; drawn: by you",
                    live=False, broken=True),
    "loss": Control("game", "non-saturating", (*GAMES,), "what the two players minimise"),
    "lr": Control("G's rate", 2e-3, (1e-6, 1.0), "how far G moves in a step", broken=True),
    "d_lr": Control("D's rate", 5e-5, (1e-6, 1.0), "how far D moves in a step"),
    "beta1": Control("beta 1", 0.5, (0.0, 0.999), "how long Adam remembers gradients"),
    "beta2": Control("beta 2", 0.999, (0.0, 0.9999), "how long Adam remembers their squares"),
    "d_steps": Control("steps of D", 1, (1, 20), "updates of D in a row"),
    "g_steps": Control("steps of G", 1, (1, 20), "updates of G in a row"),
    "pack": Control("packs of", 1, (1, 4), "points that D sees at a time (PacGAN)", live=False),
    "unrolled": Control("unrolled steps", 0, (0, 10), "steps of D that G looks ahead"),
    "unrolled_lr": Control("their rate", 0.02, (1e-4, 1.0), "of D's steps that G looks ahead"),
    "r1": Control("R1 penalty", 0.0, (0.0, 100.0), "weight of D's squared slope at real points"),
    "penalty": Control("gradient penalty", 10.0, (0.0, 100.0), "its weight in Wasserstein's game"),
    "bend": Control("bent D", 0, (0, 1), "1: D starts with its kinks at the data", live=False),
    "width": Control("width", 128, (2, 512), "units in each of two hidden layers", live=False),
    "latent": Control("latents", 2, (1, 64), "numbers that G makes a point of", live=False),
    "batch_size": Control("batch", 128, (2, 1024), "packs of points in an update", broken=True),
    "mistake": Control("mistake", "none", ("none", *BREAK_IT.NAMES), "one of break_it.py's, in its "
                       "own networks; there G's rate is 0.005", live=False, broken=True),
    "seed": Control("seed", 0, (0, 999_999), "the same seed gives the same run", live=False,
                    broken=True),
    "points": Control("points", "", (), "the drawn ones: x and y in hundredths", live=False,
                      broken=True),
}


def read(given: Mapping[str, Any]) -> argparse.Namespace:
    """Settings from what a page, a link or a command line gives; the others are the defaults.

    Raises UsageError for a name that is not in the table, and for a value outside its bounds.
    """
    settings = {name: control.default for name, control in CONTROLS.items()}
    for name, value in given.items():
        if name not in CONTROLS:
            raise UsageError(f"there is no setting {str(name)[:40]!r}: use {', '.join(CONTROLS)}")
        settings[name] = _value(name, CONTROLS[name], str(value))
    if settings["data"] == "drawn" and not settings["points"]:
        raise UsageError("draw some points first")
    return argparse.Namespace(**settings)


def _value(name: str, control: Control, text: str) -> Any:
    kind, bounds = type(control.default), control.bounds
    if name == "points":
        _read_points(text)
        return text
    if kind is str:
        if text not in bounds:
            raise UsageError(f"{name} is one of {', '.join(bounds)}, not {text[:40]!r}")
        return text
    try:
        value = kind(text)
    except ValueError:
        value = numpy.nan
    if not bounds[0] <= value <= bounds[1]:
        whole = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name} is {whole} from {bounds[0]} to {bounds[1]}, not {text[:40]!r}")
    return value


def _read_points(text: str) -> numpy.ndarray:
    """Points (N, 2) from "x,y,x,y,..." in hundredths. Raises UsageError where they are not that."""
    words = text[: 12 * MOST_POINTS].split(",") if text else []
    try:
        points = numpy.array([int(word) for word in words]).reshape(-1, 2) / 100
    except (ValueError, OverflowError, TypeError):
        raise UsageError("points are whole numbers, x,y,x,y,... in hundredths") from None
    if len(points) > MOST_POINTS or (abs(points) > 2).any():
        raise UsageError(f"points are at most {MOST_POINTS}, from -200 to 200 hundredths")
    return points.astype(numpy.float32)


def mixture(settings: argparse.Namespace) -> Mixture:
    if settings.data == "drawn":
        return Mixture(_read_points(settings.points), DRAWN_DEVIATION)
    return DATA[settings.data]


def in_force(settings: argparse.Namespace) -> argparse.Namespace:
    """The settings that the run follows: a run of break_it.py has most of its own."""
    if settings.mistake == "none":
        return settings
    kept = {name: getattr(settings, name) if control.broken else control.default
            for name, control in CONTROLS.items()}
    return argparse.Namespace(**kept, broken=settings.mistake)
