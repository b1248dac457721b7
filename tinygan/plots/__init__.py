"""Pictures: grids of samples, curves of a run, animations.

Letters: N images, H high, W wide, C channels (1 grey, 3 colours); pixels are in [-1, 1].
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from ..files import replacing
from ..tensor import Tensor, history


def grid(images: numpy.ndarray, columns: int = 8, scale: int = 3, gap: int = 1) -> Any:
    """A Pillow picture of the images (N, H, W, C) in rows, each pixel scale x scale large."""
    from PIL import Image

    n, height, width, channels = images.shape
    rows = -(-n // columns)
    pixels = numpy.full(
        (rows, height + gap, columns, width + gap, channels), 255, dtype=numpy.uint8
    )
    for i, image in enumerate(images):
        shades = numpy.clip(image * 127.5 + 127.5, 0, 255).round()
        pixels[i // columns, :height, i % columns, :width] = shades
    whole = pixels.reshape(rows * (height + gap), columns * (width + gap), channels)
    whole = whole[: -gap or None, : -gap or None]
    picture = Image.fromarray(whole[:, :, 0] if channels == 1 else whole)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def save_grid(images: numpy.ndarray, path: Path, columns: int = 8) -> None:
    """Write grid(images) as a PNG."""
    with replacing(path) as file:
        grid(images, columns).save(file, format="PNG")


def save_animation(frames: Sequence[Path], path: Path, milliseconds: int = 120) -> None:
    """Write pictures of one size as a GIF that repeats, the last one shown for two seconds."""
    from PIL import Image

    durations = [milliseconds] * (len(frames) - 1) + [2000]
    with replacing(path) as file:
        pictures = [Image.open(frame) for frame in frames]
        pictures[0].save(
            file, format="GIF", save_all=True, append_images=pictures[1:], duration=durations,
            loop=0,
        )


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
            axes.plot(steps[window - 1 :], means, color=line.get_color(), label=name)
        if levels and title in levels:
            value, label = levels[title]
            axes.axhline(value, color="grey", linestyle=":", label=label)
        axes.set(title=title, xlabel="step")
        axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


# What matplotlib's player shows on its buttons are icons that it takes from the network.
_ICONS = {
    "minus": "-", "fast-backward": "|&lt;", "step-backward": "&lt;", "step-forward": "&gt;",
    "fast-forward": "&gt;|", "plus": "+", "play fa-flip-horizontal": "&#9664;",
    "pause": "&#10074;&#10074;", "play": "&#9654;",
}


def save_player(frames: Sequence[Path], path: Path, milliseconds: int = 250) -> None:
    """Write pictures of one size as an HTML page that plays them, stops, and steps through them.

    All is in the one file, which needs no network.
    """
    from matplotlib.animation import HTMLWriter
    from matplotlib.figure import Figure
    from PIL import Image

    with Image.open(frames[0]) as first:
        width, height = first.size
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    image = figure.figimage(numpy.zeros((height, width, 3), numpy.uint8))
    writer = HTMLWriter(fps=1000 / milliseconds, embed_frames=True, default_mode="once")
    with replacing(path) as file:
        with writer.saving(figure, file, dpi=100):
            for frame in frames:
                with Image.open(frame) as picture:
                    image.set_data(numpy.asarray(picture.convert("RGB")))
                writer.grab_frame()
        page = re.sub(r"<link[^>]*>", "", file.read_text())
        for name, sign in _ICONS.items():
            page = page.replace(f'<i class="fa fa-{name}"></i>', sign)
        file.write_text(page)


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
    panel.set(xlabel="step")
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=90)


def save_graph(
    output: Tensor, path: Path, names: Mapping[Tensor, str] | None = None, title: str = ""
) -> None:
    """Write the tape behind output as a PNG: what backward() will walk, so call it before that.

    White: an operation and the shape of its result. Red arrows: the ways of the gradients, from
    output up to the leaves, green, that receive one. Grey: what an operation used as a constant
    (data, what was detached or made under no_grad, frozen parameters); no gradient takes the
    dotted line. The tape keeps no constants: they are found in the derivatives that need them,
    and "(constant)" in a box stands for one that none needs (the b of a + b) or for a number.
    names says what tensors are. Raises TapeError where backward() has freed the tape.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tape = history(output)[::-1]  # from the youngest: a tensor comes after all that used it
    constants = {tensor: _constants(tensor) for tensor in tape}
    column, row = _layout(tape, constants)
    left, right = min(column.values()) - 0.7, max(column.values()) + 0.7
    bottom, top = min(row.values()) - 0.5, max(row.values()) + 0.5
    figure = Figure(figsize=(1.75 * (right - left), 0.6 * (top - bottom) + 1), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(left, right), ylim=(bottom, top), title=title)
    axes.axis("off")
    boxes = {}
    for tensor in row:
        name = (names or {}).get(tensor, "")
        if tensor.operation:
            lone = len(tensor.parents) + len(constants[tensor]) == 1
            label = tensor.operation + " (constant)" * (lone and tensor.operation in _OF_TWO)
            label, face, edge = f"{name} = {label}" if name else label, "white", "black"
        elif tensor in constants:
            label, face, edge = name or "leaf", "#d5f0d0", "green"
        else:
            label, face, edge = name or "constant", "#e6e6e6", "grey"
        boxes[tensor] = axes.text(
            column[tensor], row[tensor], f"{label}\n{tensor.shape or 'a number'}", size=9,
            ha="center", va="center", bbox={"boxstyle": "round", "fc": face, "ec": edge},
        ).get_bbox_patch()
    for tensor in tape:
        ways = [(used, tensor, "-", "grey", ":") for used in constants[tensor]]
        ways += [(tensor, parent, "-|>", "crimson", "-") for parent in set(tensor.parents)]
        for start, end, style, color, line in ways:
            look = {"arrowstyle": style, "color": color, "linestyle": line, "linewidth": 1.6,
                    "patchA": boxes[start], "patchB": boxes[end], "shrinkA": 2, "shrinkB": 2}
            axes.annotate("", (column[end], row[end]), (column[start], row[start]),
                          arrowprops=look, zorder=0)
    figure.legend(handles=[
        Line2D([], [], color="crimson", label="the way of the gradients in backward()"),
        Line2D([], [], color="grey", linestyle=":", label="used as a constant: no gradient"),
        Line2D([], [], color="green", marker="s", linestyle="", label="receives a gradient"),
    ], loc="outside lower center", fontsize=8, ncols=1 + (right - left > 4))
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


_OF_TWO = {"add", "subtract", "multiply", "divide", "maximum", "matmul"}


def _constants(tensor: Tensor) -> list[Tensor]:
    """What a recorded operation used, but no gradient flows to: held by its derivatives alone."""
    cells = [cell for function in tensor.derivatives for cell in function.__closure__ or ()]
    used = [cell.cell_contents for cell in cells]
    return list(dict.fromkeys(
        t for t in used if isinstance(t, Tensor) and not t.parents
        and all(t is not parent for parent in tensor.parents)
    ))


def _layout(
    tape: Sequence[Tensor], constants: Mapping[Tensor, Sequence[Tensor]]
) -> tuple[dict[Tensor, float], dict[Tensor, float]]:
    """Column and row of each tensor: below what it was made from, near to what it went into."""
    row, column, wishes = {tape[0]: 0}, {}, {tape[0]: [0.0]}
    for tensor in reversed(tape):
        if tensor.operation:
            row[tensor] = min((row[p] for p in tensor.parents if p.operation), default=0) - 1
    for tensor in tape:
        for used in (*tensor.parents, *constants[tensor]):
            if not used.operation:
                row[used] = max(row.get(used, -math.inf), row[tensor] + 1)
    # From below. In a row operations choose first and so form straight lines.
    for tensor in sorted(row, key=lambda t: (row[t], not t.operation, t in constants, t.age)):
        wish = sum(wishes[tensor]) / len(wishes[tensor])
        taken = [column[other] for other in column if row[other] == row[tensor]]
        free = (wish + side * step / 2 for step in range(2 * len(row)) for side in (1, -1))
        column[tensor] = next(x for x in free if all(abs(x - other) >= 1 for other in taken))
        inner = [id(parent) for parent in tensor.parents if parent.operation]
        for used in (*tensor.parents, *constants.get(tensor, ())):
            aside = 2 * inner.index(id(used)) - len(inner) + 1 if id(used) in inner else 0
            wishes.setdefault(used, []).append(column[tensor] + aside)
    return column, row
