"""What networks draw: the grids of a run, interpolations, samples, parts of a photograph."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy

from .. import plots
from ..backend import to_device
from ..datasets import from_bytes, to_bytes
from ..files import UsageError
from ..functions import ShapeError
from ..layers import Module
from ..normalization import standing_statistics
from ..tensor import Tensor, no_grad

GRID = 64  # images in the grid of a run, in rows of 8; with classes, 10 of each, a class to a row
BLOCK = 500  # images that are made at a time
BATCH = 64  # for standing statistics


class Pictures:
    """Images from latents z ~ N(0, 1), and from labels where the generator has classes.

    generate  makes images (N, H, W, C) in [-1, 1] from latents (N, latent), a Tensor, and if
              there are classes from labels (N,), an array of integers, as its second argument
    latent    numbers in a latent
    classes   how many labels there are, 0 for none
    seed      of the latents in draw() and draw_interpolation()
    """

    def __init__(
        self, generate: Callable[..., Tensor], latent: int, *, classes: int = 0, seed: int = 0
    ):
        self.generate, self.latent, self.classes = generate, latent, classes
        # A generator of its own: what is drawn for pictures must not change the training.
        random = numpy.random.default_rng(seed + 1)
        self.fixed = random.standard_normal((GRID, latent), dtype=numpy.float32)

    def from_latents(
        self, latents: numpy.ndarray, labels: numpy.ndarray | None = None
    ) -> numpy.ndarray:
        """Images (N, H, W, C) in main memory from latents (N, latent) and labels (N,), if any.

        Raises UsageError for labels that the generator does not take.
        """
        if labels is not None and not self.classes:
            raise UsageError("this generator knows no labels: it was trained without them")
        if labels is not None and not (0 <= labels.min() and labels.max() < self.classes):
            raise UsageError(f"labels from 0 to {self.classes - 1}, not {labels}")
        return apply(self.generate, latents, *([] if labels is None else [labels]))

    def samples(
        self, count: int, seed: int = 0, labels: numpy.ndarray | None = None
    ) -> numpy.ndarray:
        """Images (count, H, W, C) from latents of that seed; labels (count,) are drawn if None."""
        random = numpy.random.default_rng(seed)
        latents = random.standard_normal((count, self.latent), dtype=numpy.float32)
        if self.classes and labels is None:
            labels = random.integers(self.classes, size=count)
        return self.from_latents(latents, labels)

    def draw(self, path: Path) -> None:
        """Write a grid of images, always of the same latents, as a PNG."""
        if not self.classes:
            return plots.save_grid(self.from_latents(self.fixed), path)
        latents = numpy.tile(self.fixed[:10], (self.classes, 1))  # the same ten in every row
        labels = numpy.repeat(numpy.arange(self.classes), 10)
        plots.save_grid(self.from_latents(latents, labels), path, columns=10)

    def draw_interpolation(self, path: Path) -> None:
        """Write a PNG of eight rows, each on the way from one latent to another."""
        latents = interpolate(self.fixed[:8], self.fixed[8:16], 12)
        labels = numpy.repeat(numpy.arange(8), 12) % self.classes if self.classes else None
        plots.save_grid(self.from_latents(latents, labels), path, columns=12)


class Truncated(Pictures):
    """Pictures from latents of which no number is beyond a threshold: truer, and more alike.

    The truncation trick of Brock et al. 2019, section 3.1: what is beyond is drawn anew until
    nothing is. If standing, generate is a network whose BatchNorm takes its statistics from such
    latents, anew for each picture: those of other latents, or of other weights, do not fit.
    """

    def __init__(
        self, generate: Module, latent: int, *, threshold: float = math.inf,
        standing: bool = True, **options: int,
    ):
        super().__init__(generate, latent, **options)
        self.threshold, self.standing = threshold, standing

    def from_latents(
        self, latents: numpy.ndarray, labels: numpy.ndarray | None = None
    ) -> numpy.ndarray:
        random = numpy.random.default_rng(0)
        if self.standing:
            standing_statistics(self.generate, lambda: self.samples_of(random))
        return super().from_latents(self.truncated(latents, random), labels)

    def truncated(self, latents: numpy.ndarray, random: numpy.random.Generator) -> numpy.ndarray:
        while (beyond := abs(latents) > self.threshold).any():
            anew = random.standard_normal(latents.shape, dtype=numpy.float32)
            latents = numpy.where(beyond, anew, latents)
        return latents

    def samples_of(self, random: numpy.random.Generator) -> None:
        """Have the network make a batch."""
        latents = random.standard_normal((BATCH, self.latent), dtype=numpy.float32)
        labels = [random.integers(self.classes, size=BATCH)] if self.classes else []
        apply(self.generate, self.truncated(latents, random), *labels)


def apply(
    network: Callable[..., Tensor], inputs: numpy.ndarray, *more: numpy.ndarray
) -> numpy.ndarray:
    """network(inputs, ...), block by block and without a tape, from and to main memory.

    inputs (N, ...) become a Tensor; more arrays of N rows, such as labels, stay arrays.
    """
    with no_grad():
        return numpy.concatenate([
            network(Tensor(to_device(inputs[start : start + BLOCK])),
                    *(to_device(array[start : start + BLOCK]) for array in more)).numpy()
            for start in range(0, len(inputs), BLOCK)
        ])


def apply_in_tiles(
    network: Callable[[Tensor], Tensor], picture: numpy.ndarray, *, factor: int = 1,
    tile: int = 64, margin: int = 12,
) -> numpy.ndarray:
    """What a network makes of a picture of any size: uint8 (H, W, C) to (factor H, factor W, C).

    network  images (1, h, w, C) in [-1, 1] to (1, factor h, factor w, C), of any h and w
    tile     rows and columns of the picture that are made at a time
    margin   pixels around a tile that the network sees, too: if it looks no further than that,
             the result is that of the whole picture, and no seam shows
    """
    height, width, channels = picture.shape
    made = numpy.empty((factor * height, factor * width, channels), numpy.uint8)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            up, back = min(top, margin), min(left, margin)  # as far as there is a picture
            seen = picture[top - up : top + tile + margin, left - back : left + tile + margin]
            with no_grad():
                image = network(Tensor(to_device(from_bytes(seen[None]))))
            rows, columns = min(tile, height - top), min(tile, width - left)
            inner = to_bytes(image.data[0])[factor * up :, factor * back :]
            part = made[factor * top :, factor * left :][: factor * rows, : factor * columns]
            part[...] = inner[: factor * rows, : factor * columns]
    return made


def interpolate(start: numpy.ndarray, end: numpy.ndarray, count: int) -> numpy.ndarray:
    """count latents on the way from start to end, row by row: (N, Z), (N, Z) -> (N*count, Z).

    Along the arc rather than the chord: in high dimensions all latents lie near a sphere, and
    the middle of a chord is a point that G never saw (White 2016). The length goes evenly from
    one end's to the other's. Where there is no arc, from or to 0 or for Z = 1, it is the chord.
    Raises ShapeError.
    """
    start, end = numpy.asarray(start, numpy.float64), numpy.asarray(end, numpy.float64)
    if start.ndim != 2 or start.shape != end.shape or count < 1:
        raise ShapeError(f"interpolate takes two arrays of one shape (N, Z) and a count above 0, "
                         f"not {start.shape}, {end.shape} and {count}")
    part = numpy.linspace(0, 1, count)[:, None]
    ways = [_way(*ends, part) for ends in zip(start, end, strict=True)]
    return numpy.reshape(ways, (-1, start.shape[1])).astype(numpy.float32)


def _way(start: numpy.ndarray, end: numpy.ndarray, part: numpy.ndarray) -> numpy.ndarray:
    """The points at each part of the way, (count, 1) from 0 to 1: (Z,), (Z,) -> (count, Z)."""
    way = (1 - part) * start + part * end
    length, other_length = numpy.linalg.norm(start), numpy.linalg.norm(end)
    if len(start) > 1 and length and other_length:
        first, last = start / length, end / other_length
        aside = last - (first @ last) * first  # what turns first towards last
        angle = numpy.arctan2(numpy.linalg.norm(aside), first @ last)
        if numpy.linalg.norm(aside) < 1e-7:  # of opposite ends all arcs are equally long: any
            axis = abs(first).argmin()
            aside = numpy.eye(len(first))[axis] - first[axis] * first
        aside = aside / numpy.linalg.norm(aside)
        arc = numpy.cos(part * angle) * first + numpy.sin(part * angle) * aside
        way[1:-1] = (((1 - part) * length + part * other_length) * arc)[1:-1]  # the ends are exact
    return way
