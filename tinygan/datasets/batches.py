"""What a data set is; its rows in batches, which a resumed run finds again; pixels as numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy

from ..backend import to_device, to_host, world
from ..files import UsageError
from ..layers import require_same_arrays


class DataError(UsageError):
    """Data that is missing, damaged or of another kind than it should be."""


class Dataset(NamedTuple):
    """Real examples in main memory: images uint8 (N, H, W, C), labels uint8 (N,) or None."""

    images: numpy.ndarray
    labels: numpy.ndarray | None


class Endless:
    """Batches without end, of which a resumed run need know only how many were drawn."""

    drawn = 0

    def __iter__(self) -> Any:
        return self

    def state(self) -> dict[str, numpy.ndarray]:
        """How many batches have been drawn."""
        return {"drawn": numpy.array(self.drawn)}

    def load_state(self, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Go on after as many batches as state() told. Raises ValueError for anything else."""
        require_same_arrays(self.state(), arrays, type(self).__name__)
        self.drawn = int(arrays["drawn"])


class Batches(Endless):
    """Endless batches of rows of arrays of equal length: images and their labels, pairs, texts.

        batches = Batches(images, labels, batch_size=64, seed=0)
        images, labels = next(batches)          # on the device, rows as they are

    The order in an epoch depends on the seed and the epoch's number alone, so that the count of
    batches drawn is all a resumed run needs. What is left over at an epoch's end is dropped.
    Raises DataError where the arrays differ in length or hold less than one batch.
    """

    def __init__(self, *arrays: numpy.ndarray, batch_size: int, seed: int = 0):
        lengths = {len(array) for array in arrays}
        if len(lengths) != 1:
            raise DataError(f"arrays of equal length are needed, not of {sorted(lengths)}")
        (self.rows,) = lengths
        if not 1 <= batch_size <= self.rows:
            raise DataError(
                f"a batch of {batch_size} from {self.rows} examples: use 1 to that many"
            )
        self.arrays, self.batch_size, self.seed = arrays, batch_size, seed
        self._epoch, self._order = -1, numpy.arange(0)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.rows // self.batch_size

    def __next__(self) -> list[Any]:
        batch = self.batch_size * world.size  # of which each process takes its part
        epoch, number = divmod(self.drawn, self.rows // batch)
        if epoch != self._epoch:
            order = numpy.random.default_rng((self.seed, epoch)).permutation(self.rows)
            self._epoch, self._order = epoch, order
        self.drawn += 1
        first = number * batch + world.rank * self.batch_size
        rows = self._order[first : first + self.batch_size]
        return [to_device(array[rows]) for array in self.arrays]


def from_bytes(images: Any) -> Any:
    """Pixels, uint8 from 0 to 255, as float32 in [-1, 1], on whichever device they are.

    Raises DataError for another dtype, whose range nobody can know.
    """
    dtype = getattr(images, "dtype", type(images).__name__)
    if dtype != numpy.uint8:
        raise DataError(
            f"from_bytes takes pixels as uint8 from 0 to 255, not {dtype}: images in [-1, 1] need "
            "no from_bytes, of those in [0, 1] give (255 * images).round().astype('uint8')"
        )
    pixels = images.astype(numpy.float32)
    pixels /= 127.5  # not * (1 / 127.5): white must become exactly 1
    pixels -= 1
    return pixels


def halved(images: Any) -> Any:
    """Images (N, 2H, 2W, C) at half their size: each pixel is the mean of four. (N, H, W, C)"""
    n, height, width, channels = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def to_bytes(images: Any) -> numpy.ndarray:
    """Pixels in [-1, 1] as uint8 from 0 to 255, in main memory; what lies outside is cut off.

    Raises DataError for numbers that are not floats.
    """
    require_floats(images)
    return numpy.clip(to_host(images) * 127.5 + 127.5, 0, 255).round().astype(numpy.uint8)


def require_floats(images: Any) -> None:
    """Raise DataError for images that cannot lie in [-1, 1], such as bytes."""
    dtype = getattr(images, "dtype", type(images).__name__)
    if getattr(dtype, "kind", "") != "f":
        raise DataError(f"images are arrays of floats in [-1, 1], not {dtype}: "
                        "from_bytes makes them of pixels from 0 to 255")
