"""What a page draws of one moment: few points, in few bytes, so that it costs little of the run."""

import argparse
import base64
from statistics import NormalDist
from typing import Any

import numpy

from .. import losses
from ..backend import to_host
from ..datasets import Mixture
from ..metrics import count_modes
from ..networks import packed
from ..plots import landscape
from ..tensor import Tensor, grad, no_grad

SHOWN, MEASURED = 400, 1000  # points on the page; samples in which modes are counted
ARROWS = 96  # can be divided into packs of 1 to 4
ROWS = 15  # of the grid of latents


def encoded(array: Any, scale: float) -> str:
    """Numbers from -scale to scale as whole ones of two bytes, in base64. NaN becomes 0."""
    whole = numpy.clip(numpy.nan_to_num(to_host(array)) * (32767 / scale), -32767, 32767)
    return base64.b64encode(whole.astype("<i2").tobytes()).decode()


def number(value: Any) -> float | None:
    """To four digits; None for what is not finite, since JSON has no such number."""
    value = float(value)
    return float(f"{value:.4g}") if numpy.isfinite(value) else None


def spread(points: numpy.ndarray, centers: numpy.ndarray) -> float:
    """Over what share of M centers points are spread: exp(entropy of the nearest one) / M."""
    nearest = numpy.linalg.norm(points[:, None] - centers, axis=2).argmin(axis=1)
    shares = numpy.bincount(nearest) / len(points)
    shares = shares[shares > 0]
    return float(numpy.exp(-(shares * numpy.log(shares)).sum())) / len(centers)


class Picture:
    """Draws a laboratory: its G, D, game and latents, as a demo made them, with data around 0."""

    def __init__(self, lab: Any, settings: argparse.Namespace, mixture: Mixture):
        self.lab, self.settings, self.mixture = lab, settings, mixture
        self.side = 1.4 * max(float(abs(mixture.centers).max()), 0.3)
        # Lines of the grid at even shares of N(0, 1): each of its cells gets as many points.
        lines = [NormalDist().inv_cdf((i + 0.5) / ROWS) for i in range(ROWS)]
        width = lab.latents.shape[1]
        grid = numpy.zeros((ROWS * ROWS, max(width, 2)), dtype=numpy.float32)
        grid[:, :2] = numpy.stack(numpy.meshgrid(lines, lines), axis=2).reshape(-1, 2)
        samples = to_host(lab.latents.data)[:MEASURED]
        self.latents = Tensor(numpy.concatenate([grid[:, :width], samples]))

    def frame(self) -> dict[str, Any]:
        """What stays for the whole run, from a random generator that the training knows not."""
        random = numpy.random.default_rng(0)
        centers, deviation = self.mixture
        real = centers[random.integers(len(centers), size=SHOWN)]
        real = real + deviation * random.standard_normal(real.shape)
        return {"real": encoded(real, 2 * self.side), "side": self.side, "rows": ROWS}

    def draw(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The picture for the page, and the numbers that stand beside it."""
        lab, settings = self.lab, self.settings
        with no_grad():
            points = lab.G(self.latents).data
        samples = points[ROWS * ROWS :]
        shown = to_host(samples[:SHOWN])
        lab.D.eval()  # BatchNorm must not take the plane for a batch
        slopes = self._slopes(samples[:ARROWS])
        land = landscape(lambda packs: lab.game.answer(lab.D(packs)), shown, settings.pack,
                         self.side, cells=32 if settings.pack == 1 else 24, fillings=4)
        lab.D.train()
        longest = max(float(numpy.linalg.norm(slopes, axis=1).max()), 1e-12)
        modes = count_modes(samples, *self.mixture)
        picture = {  # with points as far as twice the side, which the page leaves out
            "fake": encoded(shown, 2 * self.side),
            "sheet": encoded(points[: ROWS * ROWS], 2 * self.side),
            "land": encoded(land, 1.0),
            "pushes": encoded(-slopes, longest),
        }
        numbers = {"D loss": lab.d_loss, "G loss": lab.g_loss, **lab.answers}
        found = {"modes": float(modes.covered) / modes.of, "on a mode": float(modes.on_one),
                 "spread": spread(shown, self.mixture.centers)}
        return picture, {name: number(value) for name, value in (numbers | found).items()}

    def _slopes(self, points: Any) -> numpy.ndarray:
        """The gradient of G's loss by its points: (ARROWS, 2)."""
        settings, fake = self.settings, Tensor(points, requires_grad=True)
        real = Tensor(self.lab.mixture.centers[numpy.arange(ARROWS) % len(self.mixture.centers)])
        loss = losses.unrolled(
            self.lab.game, self.lab.D, packed(real, settings.pack), packed(fake, settings.pack),
            steps=settings.unrolled, rate=settings.unrolled_lr,
        )
        return grad(loss, [fake])[0].numpy()
