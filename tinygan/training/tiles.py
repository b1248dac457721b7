"""A convolutional network on one picture of any size, in the memory that a tile needs."""

from collections.abc import Callable

import numpy

from ..backend import to_device
from ..datasets import from_bytes, to_bytes
from ..tensor import Tensor, no_grad


def apply_in_tiles(
    network: Callable[[Tensor], Tensor], picture: numpy.ndarray, *, factor: int = 1,
    tile: int = 64, margin: int = 12,
) -> numpy.ndarray:
    """What the network makes of a picture: uint8 (H, W, C) -> uint8 (factor H, factor W, C).

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
