"""The laboratory: watch a GAN learn points in the plane, lose some of their modes, and be cured.

Red are generated points, blue real ones; the colour beneath is what D answers there, the arrows
show where the gradient of its loss pushes G's points. G learns forty times as fast as D, outruns
it, and finds a few modes only: mode collapse. tinygan lab shows it live, and lets you change it on
the way. Remedies, which can be combined:

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
from tinygan.networks import bend, dense_network, packed
from tinygan.optimizers import Adam

SHOWN, ARROWS = 480, 120  # points in the view, and how many of them with an arrow
MEASURED = 2500  # samples, as in VEEGAN and PacGAN


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "ring", __doc__, steps=10_000, batch_size=128, latent=2, lr=2e-3, d_lr=5e-5, beta1=0.5,
        beta2=0.999, r1=0.0, width=128,
    )
    add = parser.add_argument
    add("--data", default="ring", choices=datasets.PLANE, help="where the real points lie")
    add("--loss", default="non-saturating", choices=losses.GAMES,
        help="the game; wasserstein with a gradient penalty")
    add("--penalty", type=training.from_zero(), default=10.0, metavar="WEIGHT",
        help="of that penalty")
    add("--pack", type=int, default=1, choices=range(1, 5), metavar="1...4",
        help="points that D sees at a time; a batch is of N packs, as in the paper's code")
    add("--unrolled", type=int, default=0, choices=range(21), metavar="0...20",
        help="steps of D that G looks ahead")
    add("--unrolled-lr", type=training.positive(float), default=0.02, metavar="RATE",
        help="rate of these steps, which are plain gradient descent")
    add("--bend", action="store_true", help="start D with kinks where the data are")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    """G: latents (N, latent) to points (N, 2).  D: packs (N, 2 pack) of points to logits (N, 1)."""
    G = dense_network(settings.latent, 2, settings.width)
    return {"G": G, "D": dense_network(2 * settings.pack, 1, settings.width)}


def start(settings: argparse.Namespace, mixture: datasets.Mixture) -> "Laboratory":
    parts = build(settings)
    if settings.bend:
        points = Tensor(mixture.samples(settings.width * settings.pack))
        bend(parts["D"].layers[0], packed(points, settings.pack))
    return Laboratory(settings, parts, mixture)


class Laboratory:
    """The players, their game, and what is shown: always the same real points and latents."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any],
                 mixture: datasets.Mixture | None = None):
        self.settings, self.G, self.D = settings, parts["G"], parts["D"]
        self.game = losses.GAMES[settings.loss]()
        self.mixture = mixture or datasets.PLANE[settings.data]()
        self.latents = Tensor(random_normal(MEASURED, settings.latent))
        self.real = Tensor(self.mixture.samples(SHOWN))
        betas = (settings.beta1, settings.beta2)
        self.adam_g = Adam(self.G.parameters(), settings.lr, betas=betas)
        self.adam_d = Adam(self.D.parameters(), settings.d_lr, betas=betas)
        self.run: training.Run | None = None

    def generated(self) -> Tensor:
        count = self.settings.batch_size * self.settings.pack
        return self.G(Tensor(random_normal(count, self.settings.latent)))

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


def update_d(lab: Laboratory) -> None:
    """(1) Update D, which sees packs of real or of generated points."""
    settings, D, game = lab.settings, lab.D, lab.game
    lab.points = Tensor(lab.mixture.samples(settings.batch_size * settings.pack))
    with no_grad():
        real = packed(lab.points, settings.pack)
        fake = packed(lab.generated(), settings.pack)
    real_logits, fake_logits = D(real), D(fake)
    lab.d_loss = objective = game.discriminator(real_logits, fake_logits)
    if settings.loss == "wasserstein":  # whose critic must not grow steep
        objective = objective + settings.penalty * losses.gradient_penalty(D, real, fake)
    if settings.r1:
        objective = objective + settings.r1 * losses.r1_penalty(D, real)
    lab.adam_d.zero_grad()
    objective.backward()
    lab.adam_d.step()
    with no_grad():
        lab.answers = game.answers(real_logits, fake_logits)


def update_g(lab: Laboratory) -> None:
    """(2) Update G, against D as it is or as it will be."""
    lab.g_loss = lab.loss_of_g(lab.points, lab.generated())
    lab.adam_g.zero_grad()
    lab.g_loss.backward()
    lab.adam_g.step()


def train(settings: argparse.Namespace) -> None:
    lab = start(settings, datasets.PLANE[settings.data]())
    parts = {"G": lab.G, "D": lab.D, "Adam of G": lab.adam_g, "Adam of D": lab.adam_d}
    game = lab.game
    run = lab.run = training.Run(settings, parts, lab.draw, reading=game.reading,
                                 levels={"losses": (game.balance, "D loss in balance")})
    for _ in run:
        lab.adam_g.lr, lab.adam_d.lr = settings.lr * run.time_left, settings.d_lr * run.time_left
        update_d(lab)
        update_g(lab)
        run.log(losses={"D loss": lab.d_loss, "G loss": lab.g_loss}, answers=lab.answers)

    if run.finished:
        metrics.report_modes(settings, lab.samples().numpy(), lab.mixture)


if __name__ == "__main__":
    training.main(options(), train)
