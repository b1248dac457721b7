"""Photographs, their small versions, and random crops of both: to learn how to enlarge them.

Photographs are arrays (H, W, 3) of any H and W. A small version is a quarter as high and wide,
reduced by bicubic(): in training, at the end of a run and for photographs of one's own alike.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from ..backend import to_device, world
from .batches import DataError, Endless, from_bytes, to_bytes
from .downloads import check_part
from .folders import folder, folder_of

FACTOR = 4
_HELD_OUT = ("astronaut", "chelsea", "coffee")


def photographs(part: str = "train") -> dict[str, numpy.ndarray]:
    """Photographs uint8 (H, W, 3) by name, the longer side 256: eight to "train", three "held-out".

    Where they come from, and their licences: data/README.md.
    """
    check_part(part)
    with numpy.load(Path(__file__).parent / "data" / "photos.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file if (name in _HELD_OUT) == (part == "held-out")}


def load_photographs(name: str, size: int = 256) -> Sequence[numpy.ndarray]:
    """The photographs to train on: "photos", or "folder:PATH", cut to squares of that size.

    Raises DataError for any other name, and where there are none.
    """
    if name == "photos":
        return [*photographs().values()]
    return folder(folder_of(name, "photos or folder:PATH"), size, channels=3).images


# ---------------------------------------------------------------- smaller and larger


def bicubic(images: Any, height: int, width: int) -> Any:
    """Images (N, H, W, C) as (N, height, width, C), float32, as Pillow's BICUBIC makes them.

    Each new pixel is a weighted mean of old ones near it in both directions. Weights follow the
    cubic of Keys 1981 with a = -1/2, which is stretched where an image gets smaller, so that every
    old pixel counts (an antialiased reduction), and cut off at the image's border.
    """
    n, old_height, old_width, channels = images.shape
    rows, columns = _weights(old_height, height), _weights(old_width, width)
    lines = to_device(rows) @ images.reshape(n, old_height, old_width * channels)
    pixels = to_device(columns) @ lines.reshape(n * height, old_width, channels)
    return pixels.reshape(n, height, width, channels)


@functools.lru_cache(maxsize=32)
def _weights(old: int, new: int) -> numpy.ndarray:
    """What each of the old pixels along a side adds to each of the new ones: (new, old)."""
    scale = max(1.0, old / new)
    centers = (numpy.arange(new) + 0.5) * (old / new) - 0.5
    x = abs(numpy.arange(old) - centers[:, None]) / scale
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = numpy.where(x < 1, near, numpy.where(x < 2, far, 0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(numpy.float32)


def reduced(photograph: numpy.ndarray) -> numpy.ndarray:
    """A photograph uint8 (4H, 4W, C) at a quarter of its size, as bytes: (H, W, C).

    Rows and columns beyond a multiple of four are cut off.
    """
    height, width = (side // FACTOR for side in photograph.shape[:2])
    high = photograph[: height * FACTOR, : width * FACTOR]
    return to_bytes(bicubic(to_device(from_bytes(high[None])), height, width))[0]


def enlarged(photograph: numpy.ndarray) -> numpy.ndarray:
    """The bicubic enlargement of a photograph uint8 (H, W, C), as bytes: (4H, 4W, C)."""
    height, width = (side * FACTOR for side in photograph.shape[:2])
    return to_bytes(bicubic(to_device(from_bytes(photograph[None])), height, width))[0]


# ---------------------------------------------------------------- crops


class Crops(Endless):
    """Endless batches of random crops, small and large: low (N, S/4, S/4, C), high (N, S, S, C).

        crops = Crops(load_photographs("photos"), batch_size=16)
        low, high = next(crops)                 # uint8, on the device

    Every photograph is as likely as another, every place in it, too, and every crop may be
    mirrored and turned: eight ways. A small crop is cut from the small photograph, so that its
    border knows of what lies beyond. What batch number n holds depends on the seed and n alone.
    Raises DataError for a size that is no multiple of four, and where no photograph is larger.
    """

    def __init__(
        self, photographs: Sequence[numpy.ndarray], *, batch_size: int, size: int = 48,
        seed: int = 0,
    ):
        self.batch_size, self.side, self.seed = batch_size, size // FACTOR, seed
        # A crop may begin at any pixel of a photograph: each has sixteen small versions.
        starts = [(i, j) for i in range(FACTOR) for j in range(FACTOR)]
        shifted = [[photograph[i:, j:] for i, j in starts] for photograph in photographs]
        fits = [views for views in shifted if min(views[-1].shape[:2]) >= size]
        if size % FACTOR or not fits:
            raise DataError(
                f"crops of {size} x {size} pixels from photographs of "
                f"{sorted({p.shape[:2] for p in photographs})}: use a multiple of {FACTOR}, and "
                f"photographs at least {FACTOR - 1} pixels larger"
            )
        self.pairs = [[(reduced(view), view) for view in views] for views in fits]

    def __next__(self) -> list[Any]:
        random = numpy.random.default_rng((self.seed, self.drawn))
        self.drawn += 1
        crops = [self._crop(random) for _ in range(self.batch_size * world.size)]
        crops = crops[world.rank * self.batch_size :][: self.batch_size]  # those of this process
        return [to_device(numpy.stack(images)) for images in zip(*crops, strict=True)]

    def _crop(self, random: numpy.random.Generator) -> list[numpy.ndarray]:
        versions = self.pairs[random.integers(len(self.pairs))]
        pair, side = versions[random.integers(len(versions))], self.side
        top, left = (random.integers(length - side + 1) for length in pair[0].shape[:2])
        turns, mirrored = random.integers(4), random.integers(2)
        crop = []
        for image, pixels in zip(pair, (1, FACTOR), strict=True):
            down, right = (slice(pixels * start, pixels * (start + side)) for start in (top, left))
            turned = numpy.rot90(image[down, right], turns)
            crop.append(turned[:, ::-1] if mirrored else turned)
        return crop
