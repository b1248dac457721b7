"""Pix2Pix: a picture from its outline, learned from pairs.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017. G is a
U-Net: it goes down to a few pixels and up again, and skips carry each layer's details across. D
sees the outline x beside the true or the made picture, and judges patches of them. L1 holds G near
the truth; where many colours are right it alone would choose one between them, which D refuses:

    min over G, max over D of  E log D(x, y) + E log(1 - D(x, G(x))) + l1 E |y - G(x)|    (eq. 4)

Departures: 32 x 32 pixels and narrow networks; -log D(x, G(x)) for G, as in the paper's code; no
Dropout; D has InstanceNorm; pictures are made by a moving average of G, with BatchNorm's running
statistics, so that a drawing gets the same colours alone and among others (the paper takes the
batch's). `--colour FILE` colours a drawing of your own. At the end: the 368 held-out emoji, each
pixel snapped to the artists' 28 colours, beside their outlines and the nearest training outline.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, plots, training
from tinygan.backend import generator, to_device, xp
from tinygan.datasets import from_bytes
from tinygan.functions import concatenate
from tinygan.layers import Conv2d, ConvTranspose2d, LeakyReLU, Module, ReLU, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

BETAS, SHOWN = (0.5, 0.999), 16  # of Adam; pairs in a picture


class UNet(Module):
    """Images (N, S, S, 1) to images (N, S, S, 3) in [-1, 1]; S is a multiple of 16.

    Each halving is undone by a doubling, which sees what it made beside what the halving saw.
    """

    def __init__(self, width: int, skips: int):
        def down(inputs: int, outputs: int) -> Sequential:
            halving = Conv2d(inputs, outputs, kernel=4, stride=2, padding=1, bias=False)
            return Sequential(halving, BatchNorm(outputs), LeakyReLU())

        def up(inputs: int, outputs: int) -> Sequential:
            doubling = ConvTranspose2d(inputs, outputs, kernel=4, stride=2, padding=1, bias=False)
            return Sequential(doubling, BatchNorm(outputs), ReLU())

        w, both = width, 1 + skips
        self.skips = skips
        self.entrance = Sequential(
            Conv2d(1, w, kernel=3, padding=1, bias=False), BatchNorm(w), LeakyReLU())
        self.downs = [                                   # from (N, S, S, W)
            down(w, 2 * w),                              # (N, S/2, S/2, 2W)
            down(2 * w, 3 * w),                          # (N, S/4, S/4, 3W)
            down(3 * w, 4 * w),                          # (N, S/8, S/8, 4W)
            down(4 * w, 4 * w),                          # (N, S/16, S/16, 4W)
        ]
        self.ups = [
            up(4 * w, 4 * w), up(both * 4 * w, 3 * w), up(both * 3 * w, 2 * w), up(both * 2 * w, w),
        ]
        self.exit = Sequential(Conv2d(both * w, 3, kernel=3, padding=1), Tanh())

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
        help="emoji (outlines and colours) or folder:PATH, with two subfolders of the same file "
        "names, or with pairs side by side")
    add("--l1", type=training.from_zero(), default=50.0, metavar="WEIGHT",
        help="of |y - G(x)|; paper: 100")
    add("--adversarial", type=training.from_zero(), default=1.0, metavar="WEIGHT",
        help="of D's judgement in G's loss; 0: L1 alone")
    add("--skips", type=int, choices=(0, 1), default=1, help="0: G without skips")
    add("--halvings", type=training.from_zero(5, int), default=2, metavar="N",
        help="of D: its patches are 3, 8, 18, 38 pixels wide with 0, 1, 2, 3")
    add("--measure", type=training.from_zero(1_000_000, int), default=1000, metavar="N",
        help="held-out pairs to measure at the end; 0: none")
    add("--colour", type=Path, metavar="FILE",
        help="do not train: colour this drawing with the run in --out")
    return parser


def load(settings: argparse.Namespace, part: str = "train") -> datasets.Pairs:
    if settings.size % 16:
        raise training.UsageError(f"--size {settings.size}: expected a multiple of 16")
    return datasets.pairs(settings.data, part, size=settings.size)


def build(settings: argparse.Namespace) -> dict[str, Any]:
    G = UNet(settings.width, settings.skips)
    D = networks.patch_discriminator(1 + 3, settings.width, settings.halvings)
    return {"G": G, "D": D, "average of G": ExponentialMovingAverage(G, decay=0.995)}


class Pictures:
    """Rows of held-out outlines, what G makes of them, and the true pictures."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        self.G, pairs = parts["average of G"].network, load(settings, "held-out")
        rows = numpy.linspace(0, len(pairs.sources) - 1, SHOWN).astype(int)  # of all kinds
        self.outlines, self.truth = (from_bytes(images[rows]) for images in pairs)

    def draw(self, path: Path) -> None:
        made = training.apply(self.G, self.outlines)
        outlines = numpy.repeat(self.outlines, 3, axis=3)
        plots.save_grid(numpy.concatenate([outlines, made, self.truth]), path, columns=SHOWN)


pictures = Pictures


def train(settings: argparse.Namespace) -> None:
    pairs, parts, game = load(settings), build(settings), losses.NonSaturating()
    G, D, average = parts.values()
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_d = Adam(D.parameters(), settings.d_lr, betas=BETAS)
    batches = datasets.Batches(*pairs, batch_size=settings.batch_size, seed=settings.seed)
    learners = {"Adam of G": adam_g, "Adam of D": adam_d, "batches": batches}
    run = training.Run(settings, parts | learners, Pictures(settings, parts).draw,
                       reading=game.reading, epoch=len(batches))
    for _ in run:
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling
        # Half of the pairs are mirrored: as good a pair, and another one.
        mirrored = to_device(generator.random((settings.batch_size, 1, 1, 1)) < 0.5)
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
        made = training.apply(average.network, from_bytes(load(settings, "held-out").sources))
        metrics.report_colours(settings, made)


def colour(settings: argparse.Namespace) -> None:
    """Write the drawing and what G makes of it as colour.png into the folder of the run."""
    G = training.load(settings.out).parts["average of G"].network
    drawing = from_bytes(datasets.picture(settings.colour, settings.size, 1))[None]
    both = [numpy.repeat(drawing, 3, axis=3), training.apply(G, drawing)]
    plots.save_grid(numpy.concatenate(both), settings.out / "colour.png", columns=2)
    print(f"{settings.colour} and its colours: {settings.out / 'colour.png'}")


if __name__ == "__main__":
    training.main(options(), train, instead={"colour": colour})
