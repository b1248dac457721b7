"""The laboratory: watch a GAN learn points in the plane, lose some of their modes, and be cured.

Red are generated points, blue real ones; the colour beneath is what D answers there, the arrows
show where the gradient of its loss pushes G's points. G learns forty times as fast as D, outruns
it, and finds a few modes only: mode collapse. Remedies, which can be combined:

--pack 2      D sees points in pairs and so notices when they are all alike.
              Lin et al. 2018, "PacGAN".
--unrolled 5  G's loss is taken against the D of five steps later: what D would learn about
              a collapse tells G now (the arrows, too, then follow that later D). Metz et al.
              2017, "Unrolled Generative Adversarial Networks", section 2.2.
              Here with a D as fast as G: --lr 1e-3 --d-lr 1e-3 --steps 800.
--bend        D's first layer starts with its kinks where the data are, not all in the middle.
              No cure by itself; beside --pack it finds more of the grid. (No paper; ours.)

At the end: how many modes 2,500 samples find, between points strewn over the square and real
ones. A sample is on the nearest mode if at most 3 deviations away; one such sample finds it.
"""

import argparse
from pathlib import Path
from typing import Any

from tinygan import Tensor, datasets, grad, losses, metrics, no_grad, plots, training
from tinygan.backend import random_normal
from tinygan.functions import reshape
from tinygan.layers import Dense, LeakyReLU, Sequential
from tinygan.optimizers import Adam

SHOWN, ARROWS = 480, 120  # points in the view, and how many of them with an arrow
MEASURED = 2500  # samples, as in VEEGAN and PacGAN


def make_network(inputs: int, outputs: int, width: int) -> Sequential:
    """G: latents (N, latent) to points (N, 2).  D: packs (N, 2 pack) of points to logits (N, 1)."""
    return Sequential(Dense(inputs, width), LeakyReLU(0.2), Dense(width, width), LeakyReLU(0.2),
                      Dense(width, outputs))


def bend(first: Dense, packs: Tensor) -> None:
    """Start D's first layer with kinks where the data are: unit i is 0 at the i-th of packs.

    With biases of 0 all kinks pass through the middle, and D is slow to tell modes apart.
    """
    first.bias.data[:] = -(packs.data * first.weight.data.T).sum(axis=1)


def packed(points: Tensor, pack: int) -> Tensor:
    """Points (N, 2) side by side in packs (N / pack, 2 pack); all of one pack are of one kind."""
    return reshape(points, (-1, 2 * pack))


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "ring", __doc__, steps=10_000, batch_size=128, latent=2, lr=2e-3, d_lr=5e-5, width=128
    )
    add = parser.add_argument
    add("--data", default="ring", choices=datasets.PLANE, help="where the real points lie")
    add("--loss", default="non-saturating", choices=losses.GAMES,
        help="the game; wasserstein with a gradient penalty")
    add("--pack", type=int, default=1, choices=range(1, 5), metavar="1...4",
        help="points that D sees at a time; a batch is of N packs, as in the paper's code")
    add("--unrolled", type=int, default=0, choices=range(21), metavar="0...20",
        help="steps of D that G looks ahead")
    add("--unrolled-lr", type=training.positive(float), default=0.02, metavar="RATE",
        help="rate of these steps, which are plain gradient descent")
    add("--bend", action="store_true", help="start D with kinks where the data are")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    G = make_network(settings.latent, 2, settings.width)
    return {"G": G, "D": make_network(2 * settings.pack, 1, settings.width)}


class Laboratory:
    """What is shown: always the same real points and latents, as G and D stand."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        self.settings, self.G, self.D = settings, parts["G"], parts["D"]
        self.game, self.mixture = losses.GAMES[settings.loss](), datasets.PLANE[settings.data]()
        self.latents = Tensor(random_normal(MEASURED, settings.latent))
        self.real = Tensor(self.mixture.samples(SHOWN))
        self.run: training.Run | None = None

    def samples(self) -> Tensor:
        with no_grad():
            return self.G(self.latents)

    def loss_of_g(self, real: Tensor, fake: Tensor) -> Tensor:
        """On points (N, 2), against D as it is or as it will be."""
        real, fake = packed(real, self.settings.pack), packed(fake, self.settings.pack)
        return losses.unrolled(self.game, self.D, real, fake, steps=self.settings.unrolled,
                               rate=self.settings.unrolled_lr)

    def draw(self, path: Path) -> None:
        fake = Tensor(self.samples().data[:SHOWN], requires_grad=True)
        (slopes,) = grad(self.loss_of_g(self.real, fake), [fake])
        side = 1.4 * float(abs(self.mixture.centers).max())
        land = plots.landscape(lambda packs: self.game.answer(self.D(packs)), fake.numpy(),
                               self.settings.pack, side)
        plots.save_laboratory(
            path, self.real.numpy(), fake.numpy(), -slopes.numpy()[:ARROWS], land, side,
            *(self.run.curves() if self.run else ([], {})), self.settings.steps,
            f"step {self.run.step}" if self.run else "",
        )


pictures = Laboratory


def train(settings: argparse.Namespace) -> None:
    parts = build(settings)
    G, D = parts.values()
    mixture, pack, batch = datasets.PLANE[settings.data](), settings.pack, settings.batch_size
    if settings.bend:
        bend(D.layers[0], packed(Tensor(mixture.samples(settings.width * pack)), pack))
    laboratory = Laboratory(settings, parts)
    game = laboratory.game
    adam_g, adam_d = Adam(G.parameters(), settings.lr), Adam(D.parameters(), settings.d_lr)
    run = laboratory.run = training.Run(
        settings, {**parts, "Adam of G": adam_g, "Adam of D": adam_d}, laboratory.draw,
        reading=game.reading, levels={"losses": (game.balance, "D loss in balance")},
    )

    def generated() -> Tensor:
        return G(Tensor(random_normal(batch * pack, settings.latent)))

    for _ in run:
        adam_g.lr, adam_d.lr = settings.lr * run.time_left, settings.d_lr * run.time_left

        # (1) Update D, which sees packs of real or of generated points.
        points = Tensor(mixture.samples(batch * pack))
        with no_grad():
            real, fake = packed(points, pack), packed(generated(), pack)
        real_logits, fake_logits = D(real), D(fake)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.loss == "wasserstein":  # whose critic must not grow steep
            objective = d_loss + 10.0 * losses.gradient_penalty(D, real, fake)
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G, against D as it is or as it will be.
        g_loss = laboratory.loss_of_g(points, generated())
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()

        with no_grad():
            run.log(losses={"D loss": d_loss, "G loss": g_loss},
                    answers=game.answers(real_logits, fake_logits))

    if run.finished:
        metrics.report_modes(settings, laboratory.samples().numpy(), mixture)


if __name__ == "__main__":
    training.main(options(), train)
