"""Curves: the numbers of a run over its steps, and how well a score tells two kinds apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy

from ..files import replacing


def save_curves(
    steps: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
    levels: Mapping[str, tuple[float, str]] | None = None,
) -> None:
    """Write curves over the steps as a PNG: one panel for each title, one curve for each name.

    Faint: as logged; strong: the mean over a fiftieth of the run. levels marks, by the panel's
    title, a value that matters, with its label.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(panels), 3.6), layout="constrained")
    window = max(1, len(steps) // 50)
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0],
                                     panels.items(), strict=True):
        for name, values in curves.items():
            (line,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
            means = numpy.convolve(values, numpy.ones(window) / window, mode="valid")
            axes.plot(steps[window - 1 :], means, color=line.get_color(), label=_plain(name))
        if levels and title in levels:
            value, label = levels[title]
            axes.axhline(value, color="grey", linestyle=":", label=label)
        axes.set(title=_plain(title), xlabel="step")
        axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _plain(text: str) -> str:
    """A text in which Matplotlib finds no formula, and which it doesn't hide."""
    return (" " * text.startswith("_") + text).replace("$", r"\$")


def save_path(points: Mapping[str, tuple[float, float]], path: Path, x: str, y: str) -> None:
    """Write points (x, y) by name, each joined to the next, as a PNG with these axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*points.values(), strict=True), marker="o")
    for name, point in points.items():
        axes.annotate(_plain(name), point, (5, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel=x, ylabel=y)
    axes.margins(0.25, 0.1)  # for the names
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def save_roc(curves: Mapping[str, tuple[numpy.ndarray, numpy.ndarray]], path: Path) -> None:
    """Write ROC curves, by name (false positive rate, true positive rate), as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, (false_positives, true_positives) in curves.items():
        axes.plot(false_positives, true_positives, label=name)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(xlabel="normal examples above the threshold",
             ylabel="strange examples above the threshold", aspect="equal")
    axes.legend(loc="lower right")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)
