"""What the styles of a generator do: mixed, pulled to their mean, layer by layer.

Letters: N images, Z numbers of a latent z, W of a style w, L layers with a style each, P pixels of
all layers. G has mapping, z (N, Z) -> w (N, W); synthesis, styles (N, L, W) and noise (N, P) ->
images in [-1, 1]; and sides, the heights of the L layers' images.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy

from .. import datasets, plots, training
from ..datasets import ATTRIBUTES, from_bytes, to_bytes
from .attributes import character_figures, real_characters, shipped_attribute_classifier
from .digits import FEWEST, FLOOR, gaussian_fit

PSI = (0.8, 0.6, 0.4)  # of truncation, as it is measured
STEP = 0.01  # between two points of a path, of its whole length


class Styles:
    """The styles of many latents, and the images that G makes of them, in main memory.

    w is (N, W), styles are (N, L, W).
    """

    def __init__(self, G: Any, latent: int, *, seed: int = 0):
        self.G, self.latent, self.random = G, latent, numpy.random.default_rng(seed + 1)
        self.sides = numpy.array(G.sides)
        self.mean = self.map(self.latents(4000)).mean(axis=0)

    def latents(self, count: int) -> numpy.ndarray:
        return self.random.standard_normal((count, self.latent), dtype=numpy.float32)

    def map(self, z: numpy.ndarray) -> numpy.ndarray:
        """w (N, W) of latents (N, Z)."""
        return training.apply(self.G.mapping, z)

    def images(self, styles: numpy.ndarray, noise: float = 1.0) -> numpy.ndarray:
        """Images of styles, or of a w for all layers, with random noise times a factor."""
        if styles.ndim == 2:
            styles = self.mixed(styles, styles, self.sides > 0)
        shape = len(styles), int((self.sides**2).sum())
        random = self.random.standard_normal(shape, dtype=numpy.float32) * numpy.float32(noise)
        return training.apply(self.G.synthesis, styles, random)

    @staticmethod
    def mixed(w: numpy.ndarray, other: numpy.ndarray, layers: numpy.ndarray) -> numpy.ndarray:
        """Styles: w in these layers, bool (L,) or (N, L), the other w elsewhere."""
        return numpy.where(layers[..., None], w[:, None], other[:, None])

    def truncated(self, w: numpy.ndarray, psi: float) -> numpy.ndarray:
        """mean + psi (w - mean): nearer to what is frequent. Karras et al. 2019, appendix B."""
        return self.mean + numpy.float32(psi) * (w - self.mean)

    def draw(self, out: Path) -> None:
        """Write the pictures of the papers.

        mixed.png          a row gives the styles of all layers but the largest, a column theirs
        noise.png          rows: one noise, another, none, and where the first two differ
        truncation.png     columns: psi from 1 to 0
        interpolation.png  columns: from one w to another
        """
        w = self.map(self.latents(16))
        rows, columns = w[:8], w[8:]
        images = self.images(w, 0)
        pairs = rows.repeat(8, axis=0), numpy.tile(columns, (8, 1))
        inside = self.images(self.mixed(*pairs, self.sides < self.sides.max()), 0)
        table = [numpy.ones_like(images[:1]), images[8:]]
        for row in range(8):
            table += [images[row : row + 1], inside[8 * row : 8 * row + 8]]
        plots.save_grid(numpy.concatenate(table), out / "mixed.png", columns=9)

        one, other, none = (self.images(w[:12], noise) for noise in (1, 1, 0))
        lines = numpy.concatenate([one, other, none, abs(one - other) - 1])
        plots.save_grid(lines, out / "noise.png", columns=12)

        part = numpy.tile(numpy.linspace(0, 1, 12, dtype=numpy.float32), 8)[:, None]
        mean = numpy.broadcast_to(self.mean, rows.shape)
        for name, ends in ("truncation", mean), ("interpolation", columns):
            way = (1 - part) * rows.repeat(12, axis=0) + part * ends.repeat(12, axis=0)
            plots.save_grid(self.images(way, 0), out / f"{name}.png", columns=12)


def path_lengths(styles: Styles, count: int) -> dict[str, dict[str, float]]:
    """How much images change on the way from one latent to another, on arcs in Z, on lines in W.

    The mean of |f(x) - f(x')|^2 / STEP^2, f being the classifier's features over their spread, x
    and x' two images that are STEP of a way apart, at random places. Karras et al. 2019, eq. 2
    and 3. As much change is a longer path where it is not even but sudden.
    """
    z, other = styles.latents(count), styles.latents(count)
    z, other = (a / numpy.linalg.norm(a, axis=1, keepdims=True) for a in (z, other))
    w, other_w = styles.map(z), styles.map(other)
    angle = numpy.arccos((z * other).sum(axis=1, keepdims=True))
    start = styles.random.random((count, 1), dtype=numpy.float32) * (1 - STEP)

    def seen(w: numpy.ndarray) -> numpy.ndarray:
        features, _ = shipped_attribute_classifier().see(styles.images(w, 0))
        return features / real_characters().spread

    def arc(t: numpy.ndarray) -> numpy.ndarray:
        return styles.map(numpy.sin((1 - t) * angle) * z + numpy.sin(t * angle) * other)

    def line(t: numpy.ndarray) -> numpy.ndarray:
        return (1 - t) * w + t * other_w

    rows = {}
    for name, way in ("paths in Z", arc), ("paths in W", line):
        squares = ((seen(way(start)) - seen(way(start + STEP))) ** 2).sum(axis=1)
        rows[name] = {"path length": float(squares.mean() / STEP**2)}
    return rows


def followed(styles: Styles, count: int) -> dict[str, dict[str, float]]:
    """For the layers of each size: how often an attribute is that of the w which styles them.

    Another w styles all other layers, and only pairs whose images differ in the attribute count.
    Beside it what chance gives: how often a third image has it. All as the classifier reads them.
    """
    def read(some: numpy.ndarray) -> numpy.ndarray:
        return shipped_attribute_classifier().see(styles.images(some))[1]

    w, other, third = (styles.map(styles.latents(count)) for _ in range(3))
    own, others = read(w), read(other)
    made = {f"styles of {side} x {side}": read(styles.mixed(w, other, styles.sides == side))
            for side in numpy.unique(styles.sides)}
    differs = own != others
    shares = {name: ((values == own) & differs).sum(axis=0) / numpy.maximum(1, differs.sum(axis=0))
              for name, values in {**made, "by chance": read(third)}.items()}
    return {name: dict(zip(ATTRIBUTES, row.tolist(), strict=True)) for name, row in shares.items()}


def report_styles(settings: argparse.Namespace, styles: Styles) -> None:
    """Print and write the figures of settings.measure images, 1,000 at least, of characters.

    Of samples, of mixed ones, whose second w begins at any layer but the first, and of truncated
    ones, between a Gaussian fit of the pixels and held-out characters; path_lengths; followed.
    Nothing happens where that option is 0 or the data are no characters.
    """
    if not settings.measure or settings.data != "characters":
        return
    count = max(FEWEST, settings.measure)
    w, other = (styles.map(styles.latents(count)) for _ in range(2))
    first = styles.random.integers(1, len(styles.sides), size=(count, 1))
    layers = numpy.arange(len(styles.sides)) < first
    real = from_bytes(datasets.characters().images)
    images = {
        FLOOR: gaussian_fit(real, count, settings.seed),
        "samples of G": styles.images(w),
        "mixed styles": styles.images(styles.mixed(w, other, layers)),
        **{f"truncation {psi}": styles.images(styles.truncated(w, psi)) for psi in PSI},
        "held-out characters": from_bytes(datasets.characters("held-out").images),
    }
    rows = {name: character_figures(some) for name, some in images.items()}
    rows |= path_lengths(styles, 2 * FEWEST) | followed(styles, 2 * FEWEST)
    arrays = {"images": images["samples of G"], "mixed": images["mixed styles"]}
    training.report(settings.out, rows, {name: to_bytes(array) for name, array in arrays.items()})
