"""SRGAN: photographs four times as large. The mean squared error blurs; a discriminator doesn't.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", 2017. Of all the large photographs x that a small one may have come from, the squared
error asks G for the mean, which is blurred; D asks for one that looks real:

    min over G  content(x, G(low)) - w D(G(low))                                          (eq. 3)

First G learns alone, on the squared error (SRResNet; its average is kept), then against D.
Departures: content in pixels, as there is no VGG here (--content features: those of D); G adds to a
bicubic enlargement; it resizes and convolves, since pixel shuffle (--upscale shuffle) leaves a
pattern; no BatchNorm; D judges patches, has the hinge loss and R1. `--enlarge FILE` enlarges your
own photograph with the run in --out. At the end, on three held-out photographs: PSNR, which the
squared error wins, and texture, which D wins.
"""

import argparse
import math
from pathlib import Path
from typing import Any

from tinygan import Tensor, datasets, losses, metrics, plots, training
from tinygan.datasets import from_bytes
from tinygan.layers import Conv2d, LeakyReLU, Module, PixelShuffle, Sequential, Upsample
from tinygan.networks import ResidualBlock
from tinygan.optimizers import Adam, ExponentialMovingAverage

FEATURES = 0.03  # with it content in features has as steep a slope by G(low) as in pixels


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
            convolution(3, width), LeakyReLU(),                                 # (N, H, W, width)
            *(ResidualBlock(width, normalized=False) for _ in range(3)),
            *twice(), *twice(),                                                 # (N, 4H, 4W, width)
            Conv2d(width, 3, kernel=3, padding=1, scale=1e-4),                  # (N, 4H, 4W, 3)
        )

    def forward(self, low: Tensor) -> Tensor:
        height, width = (4 * side for side in low.shape[1:3])
        return self.layers(low) + datasets.bicubic(low.data, height, width)


def options() -> argparse.ArgumentParser:
    parser = training.parser("srgan", __doc__, steps=2200, batch_size=16, lr=1e-3, d_lr=1e-3,
                             r1=1e-3, width=24, size=256)
    add = parser.add_argument
    add("--data", default="photos", help="photos (eight, which ship with tinygan) or folder:PATH, "
        "photographs that are cut to squares of --size")
    add("--alone", type=training.from_zero(1), default=0.55, metavar="PART",
        help="share of the run, at its start, in which G learns without D")
    add("--adversarial", type=training.from_zero(), default=0.008, metavar="W",
        help="weight of D's answer beside the content")
    add("--content", choices=("pixels", "features"), default="pixels",
        help="in what G(low) must be near to the truth while D plays; features: those of D")
    add("--upscale", choices=("resize", "shuffle"), default="resize",
        help="resize and convolve, or shuffle channels into pixels")
    add("--measure", type=int, choices=(0, 1), default=1, help="0: no figures at the end")
    add("--enlarge", type=Path, metavar="FILE", help="do not train: enlarge this photograph")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    G, width = Generator(settings.width, settings.upscale), settings.width
    D = Sequential(                                                             # (N, S, S, 3)
        convolution(3, width, kernel=4, stride=2), LeakyReLU(),                 # (N, S/2, S/2, W)
        convolution(width, 2 * width, kernel=4, stride=2), LeakyReLU(),         # (N, S/4, S/4, 2W)
        convolution(2 * width, 4 * width, kernel=4, stride=2), LeakyReLU(),     # (N, S/8, S/8, 4W)
        convolution(4 * width, 1),                                              # (N, S/8, S/8, 1)
    )
    return {"G": G, "D": D, "squared error": ExponentialMovingAverage(G, decay=0.99),
            "average of G": ExponentialMovingAverage(G, decay=0.99)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> metrics.PhotographPieces:
    return metrics.PhotographPieces(parts["squared error"].network, parts["average of G"].network)


def train(settings: argparse.Namespace) -> None:
    photographs, parts = datasets.load_photographs(settings.data, settings.size), build(settings)
    crops = datasets.Crops(photographs, batch_size=settings.batch_size, seed=settings.seed)
    G, D, squared_error, average = parts.values()
    features, game = Sequential(*D.layers[:-1]), losses.Hinge()
    adam_alone = Adam(G.parameters(), settings.lr, betas=(0.9, 0.999))
    adam_g = Adam(G.parameters(), settings.lr, betas=(0.9, 0.999))
    adam_d = Adam(D.parameters(), settings.d_lr, betas=(0.5, 0.999))
    learners = {"Adam alone": adam_alone, "Adam of G": adam_g, "Adam of D": adam_d, "crops": crops}
    run = training.Run(settings, parts | learners, pictures(settings, parts).draw,
                       reading="While G learns alone, D's numbers are 0. " + game.reading)

    alone = round(settings.alone * settings.steps)
    for step in run:
        low, high = (Tensor(from_bytes(images)) for images in next(crops))
        fake = G(low)  # made once: D learns from its numbers, then G through it
        real_logits = fake_logits = d_loss = Tensor(0.0)
        if step <= alone:
            # (0) Update G alone: minimise (x - G(low))^2.
            adam_alone.lr = settings.lr * min(1, 2 * (1 - (step - 1) / alone))
            content = ((fake - high) ** 2).mean()
            adam_alone.zero_grad()
            content.backward()
            adam_alone.step()
            squared_error.update()
        else:
            falling = min(1, 2 * (1 - (step - 1 - alone) / (settings.steps - alone)))
            adam_g.lr, adam_d.lr = settings.lr / 2 * falling, settings.d_lr * falling
            # (1) Update D: minimise max(0, 1 - D(x)) + max(0, 1 + D(G(low))), patch by patch.
            real_logits, fake_logits = D(high), D(fake.detach())
            d_loss = objective = game.discriminator(real_logits, fake_logits)
            if settings.r1 and step % losses.R1_EVERY == 0:
                penalty = losses.r1_penalty(D, high)  # D's patches add up in it: a small weight
                objective = d_loss + (settings.r1 * losses.R1_EVERY) * penalty
            adam_d.zero_grad()
            objective.backward()
            adam_d.step()
            # (2) Update G: minimise content(x, G(low)) - w D(G(low)).
            with D.frozen():
                content = ((fake - high) ** 2).mean()
                if settings.content == "features":
                    true = features(high)
                    content = FEATURES * ((features(fake) - true) ** 2).mean() / (true**2).mean()
                g_loss = content + settings.adversarial * game.generator(D(fake))
            adam_g.zero_grad()
            g_loss.backward()
            adam_g.step()
        average.update()
        run.log(losses={"D loss": d_loss}, content={"content": content},
                answers=game.answers(real_logits, fake_logits))

    if run.finished and settings.measure:
        metrics.report_photographs(run.out, {
            name: lambda low, G=part.network: training.apply_in_tiles(G, low, factor=4)
            for name, part in (("squared error", squared_error), ("SRGAN", average))})


def enlarge(settings: argparse.Namespace) -> None:
    """Write a photograph of one's own, four times as large, into the folder of the run."""
    low = datasets.picture(settings.enlarge, None, channels=3)
    G = training.load(settings.out).parts["average of G"].network
    made, path = training.apply_in_tiles(G, low, factor=4), settings.out / "enlarged.png"
    plots.save_grid(from_bytes(made[None]), path, columns=1, scale=1)
    print(f"{low.shape[1]} x {low.shape[0]} pixels, four times enlarged: {path}")


if __name__ == "__main__":
    training.main(options(), train, instead={"enlarge": enlarge})
