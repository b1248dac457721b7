"""What the numbers mean, and which of the known failures they look like, in words."""

from collections.abc import Sequence
from typing import Any

import numpy

from ..losses import Game, Minimax, Wasserstein

LATE = 40  # pictures that a judgement looks back on, about two seconds
EARLY = 150  # steps without one

# The failures of demos/break_it.py by the signs that its docstring names, and the cures.
HEALTHY = ("All is well", "G finds nearly all modes, and D cannot tell its points from real ones.",
           "Lower both rates to settle it.")
WEAK = ("Mode collapse", "G huddles on a few modes, and moves on as D notices. D's loss is that of "
        "a draw: it is too weak.", "Packs of two, unrolled steps, a higher rate for D.")
STRONG = ("D too strong", "D sees through everything, and G sits on a few modes.",
          "Fewer steps of D, a lower rate for D, an R1 penalty.")
SATURATED = ("Saturation", "D is sure of itself, and log(1 - D(G(z))) is flat there: G does not "
             "move.", "The non-saturating game.")
COLLAPSE = ("Mode collapse", "G makes points on a few modes only, however different its latents.",
            "Packs of two, unrolled steps, a faster D.")
SWING = ("Swinging", "The losses swing: each player runs on to where the other was.",
         "beta 1 of 0.5 or less, lower rates, an R1 penalty.")
EXPLODED = ("Explosion", "The losses have left all bounds.",
            "zero_grad before backward, lower rates; then start anew.")
MIXED = ("Mixed batches", "D answers otherwise in G's step: its BatchNorm sees others there.",
         "No BatchNorm in D, or real and generated points alike in both steps.")
ON_ITS_WAY = ("On its way", "G is still looking for modes, or gathering on them.", "Patience.")
TOO_EARLY = ("Too early to say", "The players have just begun.", "Patience.")


def about(game: Game, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Of the latest row, what D's answers mean; of the last ones, the failure and what helps.

    rows  numbers by name, as Picture.draw gives them, with the step
    """
    failure, sign, helps = judgement(game, rows)
    return {"meaning": meaning(game, rows[-1]), "failure": failure, "sign": sign, "helps": helps}


def meaning(game: Game, row: dict[str, Any]) -> str:
    real, fake = row.get("D(x)"), row.get("D(G(z))")
    if isinstance(game, Wasserstein):
        distance = row.get("Wasserstein estimate")
        if distance is None:
            return ""
        if distance < 0:
            return "The critic puts real points below generated ones: it runs after G."
        return (f"The critic puts real points {distance:.2f} above generated ones: up to a factor, "
                "how far G's points have to be carried.")
    if real is None or fake is None:
        return "Press play, or let D and G take one step each."
    if not isinstance(game, Minimax):
        return (f"D's mean answer is {real:.2f} to real points and {fake:.2f} to generated ones. "
                f"While it can't tell them apart, its loss is {game.balance:g}.")
    says = (f"D(x) = {real:.2f}: D gives a real point {real:.0%} to be real. "
            f"D(G(z)) = {fake:.2f}: it gives a generated one {fake:.0%}. ")
    if real - fake > 0.6:
        return says + "It sees through G."
    if real - fake < 0.1:
        return says + "It can't tell them apart: G is good, or D is bad. Look at the points."
    return says + "It is ahead, and G learns from it."


def judgement(game: Game, rows: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """What it looks like, the sign of that, and what helps. By the rules of break_it.py."""
    last, late = rows[-1], rows[-LATE:]
    if last["step"] and None in (last["D loss"], last["G loss"]):
        return EXPLODED
    if last["step"] < EARLY:
        return TOO_EARLY

    def mean(name: str) -> float:
        values = [row[name] for row in late if row.get(name) is not None]
        return float(numpy.mean(values)) if values else 0.0

    d_losses = [row["D loss"] for row in late if row["D loss"] is not None]
    d_loss, modes, on_one = mean("D loss"), mean("modes"), mean("on a mode")
    swing, huddles, found = numpy.std(d_losses), mean("spread") < 0.5, modes > 0.85 and on_one > 0.4
    if isinstance(game, Wasserstein):  # of its loss neither size nor sign says anything
        return HEALTHY if found else COLLAPSE if huddles else ON_ITS_WAY
    if abs(d_loss) > 4 * game.balance or swing > 2 * game.balance or abs(mean("G loss")) > 100:
        return EXPLODED
    if "D(G(z)) in G's step" in last and mean("D(G(z)) in G's step") - mean("D(G(z))") > 0.1:
        return MIXED
    if found:
        return HEALTHY
    if swing > 0.25 * game.balance:
        return SWING
    if d_loss < 0.62 * game.balance and modes < 0.7:
        return SATURATED if type(game) is Minimax and on_one < 0.15 else STRONG
    if huddles:
        return WEAK if abs(d_loss - game.balance) < 0.07 * game.balance else COLLAPSE
    return ON_ITS_WAY
