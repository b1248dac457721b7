"""Points in the plane, where one sees which modes a generator finds."""

import math
from typing import Any, NamedTuple

import numpy

from ..backend import random_integers, random_normal, to_device


class Mixture(NamedTuple):
    """Gaussians of one standard deviation around centers, float32 (M, 2), all equally likely."""

    centers: numpy.ndarray
    deviation: float

    def samples(self, count: int) -> Any:
        """float32 (count, 2), from the library's random generator, on the device."""
        centers = to_device(self.centers)[random_integers(0, len(self.centers), count)]
        return centers + random_normal(count, 2, scale=self.deviation)


def ring(deviation: float = 0.01) -> Mixture:
    """Eight Gaussians on the circle of radius 1, as in PacGAN (Lin et al. 2018, section 4.1)."""
    angles = numpy.arange(8) * (2 * math.pi / 8)
    centers = numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1)
    return Mixture(centers.astype(numpy.float32), deviation)


def grid() -> Mixture:
    """25 Gaussians at -4, -2, 0, 2, 4 in both directions, deviation 0.05, as in PacGAN."""
    places = numpy.arange(-4, 5, 2, dtype=numpy.float32)
    return Mixture(numpy.stack(numpy.meshgrid(places, places), axis=2).reshape(25, 2), 0.05)


def spiral() -> Mixture:
    """One arm that winds twice around the middle, out to radius 1, deviation 0.02.

    200 centers at equal distances along it, too close together to leave gaps.
    """
    # The radius grows with the angle; so the arm's length grows nearly as the angle's square.
    angles = 4 * math.pi * numpy.sqrt((numpy.arange(200) + 0.5) / 200)
    circle = numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1)
    return Mixture((circle * (angles / (4 * math.pi))[:, None]).astype(numpy.float32), 0.02)


def moons() -> Mixture:
    """Two half circles of radius 2/3 that reach into one another, deviation 0.04.

    scikit-learn's two moons, scaled to lie around the middle: 100 centers along each.
    """
    angles = math.pi * (numpy.arange(100) + 0.5) / 100
    upper = numpy.stack([numpy.cos(angles) - 0.5, numpy.sin(angles) - 0.25], axis=1)
    return Mixture(numpy.concatenate([upper, -upper]).astype(numpy.float32) * (2 / 3), 0.04)


PLANE = {"ring": ring, "grid": grid, "spiral": spiral, "moons": moons}
