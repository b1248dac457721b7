"""Pix2Pix: a picture from its outline, learned from pairs.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017. G is a
U-Net: it goes down to a few pixels and up again, and skips carry each layer's details across. D
sees the outline x beside the true or the made picture, and judges patches of them. L1 holds G near
the truth; where many colours are right it alone would choose one between them, which D refuses:

    min over G, max over D of  E log D(x, y) + E log(1 - D(x, G(x))) + l1 E |y - G(x)|    (eq. 4)

Departures: 32 x 32 pixels, narrow networks; -log D(x, G(x)) for G, as in the paper's code; no
Dropout; InstanceNorm in D. Pictures are made by a moving average of G with running statistics, so
that a drawing gets the same colours alone and among others (the paper takes the batch's); --colour
FILE colours your own. At the end: the 368 held-out emoji, each pixel snapped to the artists' 28
colours, beside their outlines and the colours of the nearest training outline.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, plots, training
from tinygan.backend import drawn, generator, to_device, xp
from tinygan.datasets import from_bytes
from tinygan.functions import concatenate
from tinygan.layers import Conv2d, ConvTranspose2d, LeakyReLU, Module, ReLU, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

BETAS, SHOWN = (0.5, 0.999), 16  # of Adam; pairs in a picture


class UNet(Module):
    """Images (N, S, S, 1) to images (N, S, S, 3) in [-1, 1]; S is a multiple of 16."""

    def __init__(self, width: int, skips: int):
        def step(layer: type, inputs: int, outputs: int, activation: Module) -> Sequential:
            resized = layer(inputs, outputs, kernel=4, stride=2, padding=1, bias=False)
            return Sequential(resized, BatchNorm(outputs), activation)

        self.skips, sizes = skips, [width, 2 * width, 3 * width, 4 * width, 4 * width]
        self.entrance = Sequential(
            Conv2d(1, width, kernel=3, padding=1, bias=False), BatchNorm(width), LeakyReLU())
        # from (N, S, S, W) to (N, S/2, S/2, 2W) and so on to (N, S/16, S/16, 4W)
        self.downs = [step(Conv2d, *pair, LeakyReLU()) for pair in itertools.pairwise(sizes)]
        # and back; with skips, all but the first are given twice as many channels
        self.ups = [step(ConvTranspose2d, wide * (1 + skips if i else 1), narrow, ReLU())
                    for i, (wide, narrow) in enumerate(itertools.pairwise(sizes[::-1]))]
        self.exit = Sequential(Conv2d((1 + skips) * width, 3, kernel=3, padding=1), Tanh())

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.entrance(x)]
        for down in self.downs:
            seen.append(down(seen[-1]))
        y = seen.pop()
        for up in self.ups:
            y, skipped = up(y), seen.pop()
            if self.skips:
                y = concatenate([y, skipped], axis=3)
        return self.exit(y)


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "pix2pix", __doc__, steps=3000, batch_size=16, lr=1e-3, d_lr=4e-4, width=16, size=32)
    add = parser.add_argument
    add("--data", default="emoji", metavar="NAME",
        help="emoji, or folder:PATH with two subfolders of the same names, or pairs side by side")
    add("--l1", type=training.from_zero(), default=50.0, metavar="WEIGHT",
        help="of |y - G(x)|; paper: 100")
    add("--adversarial", type=training.from_zero(), default=1.0, metavar="WEIGHT",
        help="of D in G's loss; 0: L1 alone")
    add("--skips", type=int, choices=(0, 1), default=1, help="0: G without skips")
    add("--halvings", type=training.from_zero(5, int), default=2, metavar="N",
        help="of D: its patches are 3, 8, 18, 38 pixels wide with 0, 1, 2, 3")
    add("--measure", type=training.from_zero(1000, int), default=1000, metavar="N",
        help="held-out emoji to measure at the end; 0: none")
    add("--colour", type=Path, metavar="FILE",
        help="do not train: colour this drawing with the run in --out")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    if settings.size % 16:
        raise training.UsageError(f"--size {settings.size}: expected a multiple of 16")
    G = UNet(settings.width, settings.skips)
    D = networks.patch_discriminator(1 + 3, settings.width, settings.halvings)
    return {"G": G, "D": D, "average of G": ExponentialMovingAverage(G, decay=0.995)}


class Pictures:
    """Rows of held-out outlines, what G makes of them, and the true pictures."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        self.G = parts["average of G"].network
        pairs = datasets.pairs(settings.data, "held-out", size=settings.size)
        rows = numpy.linspace(0, len(pairs.sources) - 1, SHOWN).astype(int)  # of all kinds
        self.outlines, self.truth = (from_bytes(images[rows]) for images in pairs)

    def draw(self, path: Path) -> None:
        rows = [numpy.repeat(self.outlines, 3, axis=3), training.apply(self.G, self.outlines)]
        plots.save_grid(numpy.concatenate([*rows, self.truth]), path, columns=SHOWN)


pictures = Pictures


def train(settings: argparse.Namespace) -> None:
    parts, game = build(settings), losses.NonSaturating()
    G, D, average = parts.values()
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_d = Adam(D.parameters(), settings.d_lr, betas=BETAS)
    batches = datasets.Batches(*datasets.pairs(settings.data, size=settings.size),
                               batch_size=settings.batch_size, seed=settings.seed)
    learners = {"Adam of G": adam_g, "Adam of D": adam_d, "batches": batches}
    run = training.Run(settings, parts | learners, Pictures(settings, parts).draw,
                       reading=game.reading, epoch=len(batches))
    for _ in run:
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling
        mirrored = to_device(drawn(generator.random, settings.batch_size, 1, 1, 1) < 0.5)
        x, y = (Tensor(from_bytes(xp.where(mirrored, images[:, :, ::-1], images)))
                for images in next(batches))
        made = G(x)

        # (1) Update D: minimise -log D(x, y) - log(1 - D(x, G(x))), the mean over all patches.
        real_logits, made_logits = (D(concatenate([x, z], axis=3)) for z in (y, made.detach()))
        d_loss = game.discriminator(real_logits, made_logits)
        adam_d.zero_grad()
        (d_loss * 0.5).backward()  # D learns at half the speed of G (section 3.3)
        adam_d.step()

        # (2) Update G: minimise -log D(x, G(x)) + l1 |y - G(x)|.
        with D.frozen():
            g_loss = game.generator(D(concatenate([x, made], axis=3)))
        l1 = abs(y - made).mean()
        adam_g.zero_grad()
        (settings.adversarial * g_loss + settings.l1 * l1).backward()
        adam_g.step()
        average.update()
        run.log(losses={"D loss": d_loss, "G loss": g_loss}, distance={"L1": l1})
    if run.finished and settings.measure and settings.data == "emoji":
        outlines = datasets.emoji("held-out").sources
        metrics.report_colours(settings, training.apply(average.network, from_bytes(outlines)))


def colour(settings: argparse.Namespace) -> None:
    """Write the drawing and what G makes of it into the folder of the run."""
    G = training.load(settings.out).parts["average of G"].network
    drawing = from_bytes(datasets.picture(settings.colour, settings.size, 1))[None]
    both = [numpy.repeat(drawing, 3, axis=3), training.apply(G, drawing)]
    path = settings.out / "colour.png"
    plots.save_grid(numpy.concatenate(both), path, columns=2)
    print(f"{settings.colour} and its colours: {path}")


if __name__ == "__main__":
    training.main(options(), train, instead={"colour": colour})
