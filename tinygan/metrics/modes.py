"""How many modes of a mixture in the plane a generator finds."""

from typing import Any, NamedTuple

import numpy

from .. import training
from ..backend import to_host, xp
from ..datasets import Mixture
from ..tensor import Tensor


class Modes(NamedTuple):
    """What count_modes found."""

    captured: int  # modes with at least one sample on them
    covered: int  # modes with a fifth or more of the samples that are due to them
    on_one: float  # fraction of the samples that lie on a mode
    of: int  # modes there are

    def shares(self) -> dict[str, Tensor]:
        """Two curves to log, from 0 to 1."""
        return {"modes covered": Tensor(self.covered / self.of), "on a mode": Tensor(self.on_one)}


def count_modes(samples: Any, centers: numpy.ndarray, deviation: float) -> Modes:
    """How many of M modes samples (N, 2) reach, and what fraction of the samples lies on one.

    A sample lies on the mode whose centre, of (M, 2), is nearest, if that is at most 3 deviations
    away; one such sample captures the mode (Srivastava et al. 2017, "VEEGAN", section 4.1;
    Lin et al. 2018, "PacGAN", section 4.1). N / M samples are due to each mode. For samples on a
    GPU the numbers stay there, as float32 arrays.
    """
    on_host = isinstance(samples, numpy.ndarray)
    arrays, dtype = (numpy, None) if on_host else (xp, numpy.float32)
    distances = arrays.linalg.norm(samples[:, None] - arrays.asarray(centers), axis=2)  # (N, M)
    nearest = distances.argmin(axis=1)[:, None] == arrays.arange(len(centers))
    counts = (nearest & (distances <= 3 * deviation)).sum(axis=0, dtype=dtype)  # (M,)
    captured = (counts > 0).sum(dtype=dtype)
    covered = (5 * len(centers) * counts >= len(samples)).sum(dtype=dtype)
    numbers = captured, covered, counts.sum() / len(samples)
    return Modes(*(number.item() if on_host else number for number in numbers), len(centers))


def report_modes(settings: Any, samples: numpy.ndarray, mixture: Mixture) -> None:
    """Print and write the modes that samples (N, 2) of G find, between those of as many points
    strewn over the square around the mixture, the floor, and of as many real ones."""
    random, side = numpy.random.default_rng(settings.seed), abs(mixture.centers).max()
    points = {
        "points strewn over the square": random.uniform(-side, side, samples.shape),
        "samples of G": samples,
        "real points": to_host(mixture.samples(len(samples))),
    }
    found = {name: count_modes(array, *mixture)._asdict() for name, array in points.items()}
    training.report(settings.out, found, points)
