"""The laboratory: watch a GAN learn points in the plane, lose some of their modes, and be cured.

In the view red are generated points, blue real ones; the colour beneath them is what D answers
there, and the arrows show where the gradient of its loss pushes G's points. The data are eight
Gaussians on a ring, 25 on a grid, or a spiral. G learns forty times as fast as D, outruns it, and
finds a few modes only, or runs from one to the next: mode collapse. Remedies, also together:

--pack 2      D sees points in pairs and so notices when they are all alike.
              Lin et al. 2018, "PacGAN".
--unrolled 5  G's loss is taken against the D of five steps later: what D would learn about
              a collapse tells G now (the arrows, too, then follow that later D). Metz et al.
              2017, "Unrolled Generative Adversarial Networks", section 2.2.
              Here with a D as fast as G: --lr 1e-3 --d-lr 1e-3 --steps 800.
--bend        D's first layer starts with its kinks where the data are, not all in the middle.
              No cure by itself; beside --pack it finds more of the grid. (No paper; ours.)

At the end: how many modes 2,500 samples find, between points strewn at random and real ones. A
sample is on the nearest mode if at most 3 deviations away; one such sample finds it.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, grad, losses, no_grad, plots, training
from tinygan.backend import random_normal, to_device
from tinygan.functions import reshape
from tinygan.layers import Dense, LeakyReLU, Sequential
from tinygan.metrics import Modes, count_modes
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


def generator_loss(
    game: losses.Minimax, D: Sequential, real: Tensor, fake: Tensor, steps: int, rate: float
) -> Tensor:
    """G's loss against the D that D would become in some more steps of gradient descent.

    w[0] = D's weights,  w[k+1] = w[k] - rate dL_D(w[k]; real, fake) / dw,  L_G(w[steps]; fake)

    Every w[k] but the first depends on fake: create_graph records how, and the gradient runs
    through D's answer to what G does. D stays as it is.
    """
    later = copy.deepcopy(D) if steps else D
    layers = [layer for layer in later.layers if isinstance(layer, Dense)]
    for _ in range(steps):
        d_loss = game.discriminator(later(real), later(fake))
        weights = [weight for layer in layers for weight in (layer.weight, layer.bias)]
        slopes = grad(d_loss, weights, create_graph=True)
        moved = [weight - rate * slope for weight, slope in zip(weights, slopes, strict=True)]
        for layer, weight, bias in zip(layers, moved[::2], moved[1::2], strict=True):
            layer.weight, layer.bias = weight, bias
    with later.frozen():  # weights that no step has moved are constants for G
        return game.generator(later(fake))


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "ring", __doc__, steps=10_000, batch_size=128, latent=2, lr=2e-3, d_lr=5e-5
    )
    add = parser.add_argument
    add("--width", type=training.positive(int), default=128, metavar="N",
        help="units in each of the two hidden layers of G and of D")
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
    width = settings.width
    G, D = make_network(settings.latent, 2, width), make_network(2 * settings.pack, 1, width)
    if settings.bend:
        bend(D.layers[0], real_packs(settings, width))
    return {"G": G, "D": D}


def real_packs(settings: argparse.Namespace, count: int) -> Tensor:
    points = datasets.PLANE[settings.data]().samples(count * settings.pack)
    return packed(Tensor(points), settings.pack)


class View:
    """Always the same real points and samples of the same latents, with D's answers beneath."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        self.settings, self.game = settings, losses.GAMES[settings.loss]()
        self.G, self.D = parts["G"], parts["D"]
        self.latents = Tensor(random_normal(MEASURED, settings.latent))
        self.real = real_packs(settings, SHOWN // settings.pack)
        self.mixture = datasets.PLANE[settings.data]()
        self.run: training.Run | None = None

    def samples(self) -> Tensor:
        with no_grad():
            return self.G(self.latents)

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """G's loss on packs, against D as it is or as it will be."""
        settings = self.settings
        return generator_loss(
            self.game, self.D, real, fake, settings.unrolled, settings.unrolled_lr
        )

    def draw(self, path: Path) -> None:
        pack, samples = self.settings.pack, self.samples()
        fake = Tensor(samples.data[:SHOWN], requires_grad=True)
        (slopes,) = grad(self.loss(self.real, packed(fake, pack)), [fake])
        steps, panels = self.run.curves() if self.run else ([], {})
        modes = count_modes(samples.data, *self.mixture)
        plots.save_laboratory(
            path, self.real.numpy().reshape(-1, 2), fake.numpy(), -slopes.numpy()[:ARROWS],
            lambda points: self.answers(points, fake.numpy()), 1.4 * abs(self.mixture.centers).max(),
            steps, panels, self.settings.steps,
            f"{modes.captured} of {len(self.mixture.centers)} found, {modes.on_one:.1%} on one",
        )

    def answers(self, points: numpy.ndarray, generated: numpy.ndarray) -> numpy.ndarray:
        """D's answers (N,) at points (N, 2), from 0 to 1.

        With --pack, the mean over 16 packs that are filled up with generated points.
        """
        pack = self.settings.pack
        others = generated[: 16 * (pack - 1)].reshape(16 if pack > 1 else 1, -1)
        packs = numpy.hstack([points.repeat(len(others), 0), numpy.tile(others, (len(points), 1))])
        with no_grad():
            answers = self.game.certainty(self.D(Tensor(to_device(packs)))).numpy()
        return answers.reshape(len(points), -1).mean(axis=1)


pictures = View


def train(settings: argparse.Namespace) -> Modes:
    """The run; what G has found at its end."""
    parts = build(settings)
    G, D = parts.values()
    view = View(settings, parts)
    game = view.game
    adam_g, adam_d = Adam(G.parameters(), settings.lr), Adam(D.parameters(), settings.d_lr)
    run = view.run = training.Run(
        settings, {**parts, "Adam of G": adam_g, "Adam of D": adam_d}, view.draw,
        reading=game.reading, levels={"losses": (game.balance, "D loss in balance")},
    )

    def fake_packs() -> Tensor:
        latents = random_normal(settings.batch_size * settings.pack, settings.latent)
        return packed(G(Tensor(latents)), settings.pack)

    for _ in run:
        adam_g.lr, adam_d.lr = settings.lr * run.time_left, settings.d_lr * run.time_left

        # (1) Update D, which sees packs of real or of generated points.
        real = real_packs(settings, settings.batch_size)
        with no_grad():
            fake = fake_packs()
        real_logits, fake_logits = D(real), D(fake)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.loss == "wasserstein":  # whose critic must not grow steep
            objective = d_loss + 10.0 * losses.gradient_penalty(D, real, fake)
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G, against D as it is or as it will be.
        g_loss = view.loss(real, fake_packs())
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()

        with no_grad():
            run.log(losses={"D loss": d_loss, "G loss": g_loss},
                    answers=game.answers(real_logits, fake_logits))
    return view
