"""Pictures: grids of samples, curves of a run, animations.

Letters: N images, H high, W wide, C channels (1 grey, 3 colours); pixels are in [-1, 1].
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from .files import replacing


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

    pictures = [Image.open(frame) for frame in frames]
    durations = [milliseconds] * (len(pictures) - 1) + [2000]
    with replacing(path) as file:
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
