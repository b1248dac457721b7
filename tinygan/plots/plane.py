"""GANs in the plane: one moment of a run as in GAN Lab, and several runs side by side."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy

from ..datasets import Mixture
from ..files import replacing
from ..tensor import Tensor, no_grad


def landscape(
    answer: Callable[[Tensor], Tensor], generated: numpy.ndarray, pack: int, side: float, *,
    cells: int = 64, fillings: int = 16,
) -> numpy.ndarray:
    """D's answers (cells, cells) in [0, 1] over the square from -side to side, y upwards.

    answer     what D answers (N, 1) to packs of points (N, 2 pack)
    generated  points (M, 2) that fill up the packs: each cell is the mean over so many fillings

    Answers beyond [0, 1] are no probabilities, so they are scaled for the colours to span them.
    """
    ticks = numpy.linspace(-side, side, cells, dtype=numpy.float32)
    points = numpy.stack(numpy.meshgrid(ticks, ticks), axis=2).reshape(-1, 2)
    others = generated[: fillings * (pack - 1)].reshape(fillings if pack > 1 else 1, -1)
    packs = numpy.hstack([points.repeat(len(others), 0), numpy.tile(others, (len(points), 1))])
    with no_grad():
        answers = answer(Tensor(packs)).numpy().reshape(cells, cells, -1).mean(axis=2)
    if answers.min() < 0 or answers.max() > 1:
        answers = (answers - answers.min()) / max(numpy.ptp(answers), 1e-12)
    return answers


def save_laboratory(
    path: Path,
    real: numpy.ndarray,
    fake: numpy.ndarray,
    pushes: numpy.ndarray,
    landscape: numpy.ndarray,
    side: float,
    steps: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    last: int,
    title: str = "",
) -> None:
    """Write one moment of a GAN in the plane as a PNG, as in GAN Lab (Kahng et al. 2019).

    real, fake  points (N, 2)
    pushes      (P, 2): where the loss of G pushes each of the first P of fake, drawn to one scale
    landscape   (R, R) in [0, 1]: D's answers from -side to side, upwards row by row
    panels      curves over the steps as in save_curves, on an axis that goes to step last
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    # Fixed places: a layout that is worked out anew for every frame takes longer than the rest.
    figure = Figure(figsize=(8.8, 4.4))
    axes = figure.add_axes((0.055, 0.1, 0.41, 0.82))
    ticks = numpy.linspace(-side, side, len(landscape))
    # Closer around 1/2, where D's answers are while it is in balance.
    below = numpy.array([0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.45, 0.48])
    land = axes.contourf(ticks, ticks, landscape, [*below, *1 - below[::-1]], alpha=0.6,
                         colors=[*colormaps["RdBu"](numpy.linspace(0, 1, 2 * len(below) - 1))])
    figure.colorbar(land, cax=figure.add_axes((0.48, 0.1, 0.015, 0.82)), spacing="uniform",
                    label="D's answer: 1 real, 0 generated")
    axes.scatter(*real.T, s=4, color="navy", label="real")
    axes.scatter(*fake.T, s=4, color="crimson", label="generated")
    # The longest arrow is a quarter of the half side; no gradient at all is no arrow.
    longest = numpy.linalg.norm(pushes, axis=1).max(initial=1e-12)
    axes.quiver(*fake[: len(pushes)].T, *(pushes / longest * side / 4).T, angles="xy",
                scale_units="xy", scale=1, width=0.004, color="black", alpha=0.7)
    axes.set(xlim=(-side, side), ylim=(-side, side), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper right", fontsize=8)
    for number, (name, curves) in enumerate(panels.items()):
        panel = figure.add_axes((0.63, 0.58 - 0.48 * number, 0.335, 0.34))
        for label, values in curves.items():
            panel.plot(steps, values, linewidth=1, label=label)
        panel.set(xlim=(0, last))
        panel.set_title(name, fontsize=10)
        panel.legend(loc="upper right", fontsize=8)
    if panels:
        panel.set(xlabel="step")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=90)


def save_sheet(
    runs: Mapping[str, tuple[numpy.ndarray, Sequence[int], Mapping[str, Sequence[float]]]],
    mixture: Mixture,
    path: Path,
) -> None:
    """Write several runs as a PNG: of each its samples (red) over real points (grey), and curves.

    runs: by name, samples (N, 2), steps, and by their names the curves over these, in [0, 1].
    """
    from matplotlib.figure import Figure

    random = numpy.random.default_rng(0)  # a picture must not change a training
    real = mixture.centers[random.integers(len(mixture.centers), size=1000)]
    real = real + mixture.deviation * random.standard_normal(real.shape)
    across = 1 if len(runs) < 3 else 3
    down, side = math.ceil(len(runs) / across), 1.6 * abs(mixture.centers).max()
    figure = Figure(figsize=(6.6 * across, 2.9 * down), layout="constrained")
    panels = figure.subplots(down, 2 * across, width_ratios=[1, 1.3] * across).reshape(-1, 2)
    for (points, lines), name in zip(panels, runs, strict=False):
        samples, steps, curves = runs[name]
        points.scatter(*real.T, s=3, color="lightgrey")
        points.scatter(*samples.T, s=3, color="crimson")
        points.set(title=name, xlim=(-side, side), ylim=(-side, side), aspect="equal")
        for label, values in curves.items():
            lines.plot(steps, values, label=label)
        lines.set(xlabel="step", ylim=(-0.03, 1.03))
        if curves:
            lines.legend(fontsize=7)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=90)
