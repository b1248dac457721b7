"""A pool of earlier images, so that D does not forget what G once made."""

from collections.abc import Mapping

import numpy

from ..backend import drawn, generator, to_device, to_host, xp
from ..files import UsageError
from ..layers import require_same_arrays
from ..tensor import Tensor


class ImagePool:
    """Of each batch that passes, about half stays here, and earlier images go in its place.

    Shrivastava et al. 2017, section 2.3; 50 images in CycleGAN. It is a part of a run: a resumed
    run finds it again.

        pool = ImagePool(64, (28, 28, 1))
        D(pool.exchange(fake))

    count  of images that it holds, at least as many as a batch; 0: images pass unchanged
    shape  (H, W, C) of an image
    """

    def __init__(self, count: int, shape: tuple[int, ...]):
        self.images = xp.zeros((count, *shape), dtype=numpy.float32)
        self.held = 0

    def exchange(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) as constants: each with probability 1/2 an earlier one in its place.

        Raises UsageError for more images than the pool can hold.
        """
        count, n = len(self.images), len(images)
        if not count:
            return images.detach()
        if n > count:
            raise UsageError(f"a pool of {count} images is too small for a batch of {n}")
        if self.held < count:  # the first ones are kept, and D sees them as they are
            fits = min(n, count - self.held)
            self.images[self.held : self.held + fits] = images.data[:fits]
            self.held += fits
            return images.detach()
        places = to_device(generator.permutation(count)[:n])
        stays = to_device(drawn(generator.random, n, 1, 1, 1) < 0.5)
        earlier = self.images[places]
        self.images[places] = xp.where(stays, images.data, earlier)
        return Tensor(xp.where(stays, earlier, images.data))

    def state(self) -> dict[str, numpy.ndarray]:
        """The images, and how many there are."""
        return {"images": to_host(self.images).copy(), "held": numpy.array(self.held)}

    def load_state(self, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Take over what state() gave. Raises ValueError for anything else."""
        require_same_arrays(self.state(), arrays, "ImagePool")
        if arrays["held"] > len(self.images):
            raise ValueError(f"ImagePool holds {len(self.images)}, not {arrays['held']} images")
        self.images[...] = to_device(arrays["images"])
        self.held = int(arrays["held"])
