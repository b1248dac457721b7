"""SRGAN: photographs four times as large. The mean squared error blurs; a discriminator does not.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", 2017. From a small photograph G makes a large one. Of all the large ones that it may have
come from, the squared error asks for the mean, which is blurred; D asks for one that looks real:

    L = content(x, G(low)) - w log D(G(low))                                              (eq. 3)

First G learns alone on the squared error (SRResNet, whose average is kept), then against D.
Departures: content in pixels, not in the features of a VGG, which is not shipped (--content
features: those of D); G adds to a bicubic enlargement, and resizes and convolves, since pixel
shuffle (--upscale shuffle) leaves a checkerboard; no BatchNorm; D judges patches, has R1 and
Miyato's hinge. `--enlarge FILE` enlarges your own photograph with the run in --out. At the end, on
three held-out photographs: PSNR, which the squared error wins, and texture, which D wins.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, no_grad, plots, training
from tinygan.backend import xp
from tinygan.datasets import bicubic, from_bytes
from tinygan.layers import Conv2d, LeakyReLU, Module, PixelShuffle, Sequential, Upsample
from tinygan.networks import ResidualBlock
from tinygan.optimizers import Adam, ExponentialMovingAverage


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Conv2d:
    scale = math.sqrt(2 / (kernel * kernel * inputs))  # He et al. 2015
    return Conv2d(inputs, outputs, kernel=kernel, stride=stride, padding=1, scale=scale)


class Generator(Module):
    """Small photographs (N, H, W, 3) in [-1, 1] to large ones (N, 4H, 4W, 3)."""

    def __init__(self, width: int, upscale: str):
        def twice() -> list[Module]:
            if upscale == "shuffle":
                return [convolution(width, 4 * width), PixelShuffle(2), LeakyReLU()]
            return [Upsample(2), convolution(width, width), LeakyReLU()]

        self.layers = Sequential(
            convolution(3, width), LeakyReLU(),                              # (N, H, W, width)
            *(ResidualBlock(width, normalized=False) for _ in range(3)),
            *twice(), *twice(),                                              # (N, 4H, 4W, width)
            Conv2d(width, 3, kernel=3, padding=1, scale=1e-4),               # (N, 4H, 4W, 3)
        )

    def forward(self, low: Tensor) -> Tensor:
        return self.layers(low) + bicubic(low.data, 4 * low.shape[1], 4 * low.shape[2])


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "srgan", __doc__, steps=2000, batch_size=16, lr=1e-3, d_lr=1e-3, r1=1.0, width=24,
        size=256,
    )
    add = parser.add_argument
    add("--data", default="photos",
        help="photos (eight that ship with tinygan) or folder:PATH, cut to squares of --size")
    add("--alone", type=training.from_zero(1), default=0.5, metavar="PART",
        help="share of the run, at its start, in which G learns on the squared error alone")
    add("--adversarial", type=training.from_zero(), default=0.01, metavar="W",
        help="weight of what D says beside the content")
    add("--content", choices=("pixels", "features"), default="pixels",
        help="in what a large photograph must be near to the true one: in features, those of D")
    add("--upscale", choices=("resize", "shuffle"), default="resize",
        help="resize and convolve, or convolve and shuffle channels into pixels, as the paper")
    add("--enlarge", type=Path, metavar="FILE",
        help="do not train: enlarge this photograph with the run in --out")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    width, G = settings.width, Generator(settings.width, settings.upscale)
    D = Sequential(                                                          # (N, S, S, 3)
        convolution(3, width, kernel=4, stride=2), LeakyReLU(),              # (N, S/2, S/2, W)
        convolution(width, 2 * width, kernel=4, stride=2), LeakyReLU(),      # (N, S/4, S/4, 2W)
        convolution(2 * width, 4 * width, kernel=4, stride=2), LeakyReLU(),  # (N, S/8, S/8, 4W)
        convolution(4 * width, 1),                                           # (N, S/8, S/8, 1)
    )
    averages = {name: ExponentialMovingAverage(G, decay=0.99)
                for name in ("squared error", "average of G")}
    return {"G": G, "D": D, **averages}
