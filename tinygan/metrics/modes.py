"""How many modes of a mixture in the plane a generator finds."""

from typing import Any, NamedTuple

import numpy

from .. import training
from ..backend import to_host, xp
from ..datasets import Mixture
from ..tensor import Tensor


class Modes(NamedTuple):
    """What count_modes found: arrays () on the device, and M."""

    captured: Any  # modes with at least one sample on them
    covered: Any  # modes with a fifth or more of the samples that are due to them
    on_one: Any  # fraction of the samples that lie on a mode
    of: int  # modes there are

    def shares(self) -> dict[str, Tensor]:
        """Two curves to log, from 0 to 1."""
        shares = {"modes covered": self.covered / self.of, "on a mode": self.on_one}
        return {name: Tensor(share.astype(numpy.float32)) for name, share in shares.items()}


def count_modes(samples: Any, centers: numpy.ndarray, deviation: float) -> Modes:
    """How many of M modes samples (N, 2) reach, and what fraction of the samples lies on one.

    A sample lies on the mode whose centre, of (M, 2), is nearest, if that is at most 3 deviations
    away; one such sample captures the mode (Srivastava et al. 2017, "VEEGAN", section 4.1;
    Lin et al. 2018, "PacGAN", section 4.1). N / M samples are due to each mode.
    """
    distances = xp.linalg.norm(xp.asarray(samples)[:, None] - xp.asarray(centers), axis=2)  # (N, M)
    nearest = distances.argmin(axis=1)[:, None] == xp.arange(len(centers))
    counts = (nearest & (distances <= 3 * deviation)).sum(axis=0)  # (M,)
    covered = 5 * len(centers) * counts >= len(samples)
    return Modes((counts > 0).sum(), covered.sum(), counts.sum() / len(samples), len(centers))


def report_modes(settings: Any, samples: numpy.ndarray, mixture: Mixture) -> None:
    """Print and write the modes that samples (N, 2) of G find, between those of as many points
    strewn over the square around the mixture, the floor, and of as many real ones."""
    random, side = numpy.random.default_rng(settings.seed), abs(mixture.centers).max()
    points = {
        "points strewn over the square": random.uniform(-side, side, samples.shape),
        "samples of G": samples,
        "real points": to_host(mixture.samples(len(samples))),
    }
    found = {name: {figure: xp.asarray(x).item()
                    for figure, x in count_modes(array, *mixture)._asdict().items()}
             for name, array in points.items()}
    training.report(settings.out, found, points)
