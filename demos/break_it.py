"""The classic mistakes in a GAN, each made on purpose, beside the healthy run.

The data are a ring of eight Gaussians, the game is that of mnist_gan.py. At the end: means over the
last quarter of the run. A mode is covered if it gets a fifth or more of the samples that are due
to it. What to expect of --break NAME, and why (the game: Goodfellow et al. 2014, section 3):

no-detach: G finds few modes. D's loss runs back through the fake into G, which then follows the
  gradient of -log D - log(1 - D), least where D answers 1/2: it is pushed away from modes that it
  has not found. (A zero_grad of G right before its backward() hides this: then it costs time.)
no-zero-grad: The losses explode, and samples end far from the ring. backward() adds to the
  gradients that are there: each step follows the sum of all since the start (or --resume).
saturating: G finds next to nothing. D is strong, as in d-too-strong, but G minimises
  log(1 - D(G(z))), whose slope by the logit is D(G(z)): what most needs to move weighs least.
simultaneous: G answers the D from before its last step, and at most seeds finds the modes later.
  By plain gradient descent the smallest GAN even spirals away (see tests/test_break_it.py).
beta1-0.9: The losses swing and most modes are lost. Adam remembers ten gradients now, not two:
  each player keeps running towards where the other was, and overshoots.
mixed-batchnorm: D sees through G in its own step and seems fooled in G's. BatchNorm takes mean
  and variance over real and fake together in D's step, but over fakes alone in G's.
d-too-strong: G sits on a few modes. D has a start of 300 steps and makes two to G's one.
d-too-weak: D's loss is near its balance, 2 log 2 = 1.386, yet the samples are bad. At a tenth of
  G's rate D cannot keep up, and tells G next to nothing about the data.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from tinygan import Tensor, datasets, losses, no_grad, plots, seed, training
from tinygan.backend import random_normal
from tinygan.functions import concatenate, sigmoid
from tinygan.metrics import count_modes
from tinygan.networks import dense_network
from tinygan.optimizers import Adam

NAMES = ["healthy", *re.findall(r"^([a-z0-9.-]+): ", __doc__, re.MULTILINE)]
RING, LATENT, WIDTH, RATE = datasets.ring(deviation=0.05), 8, 128, 5e-3


def options() -> argparse.ArgumentParser:
    parser = training.parser("break_it", __doc__, steps=1000, batch_size=128)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--break", dest="broken", choices=NAMES, default="healthy", metavar="NAME",
                      help="the mistake to make, see above")
    what.add_argument("--all", action="store_true", help="every mistake in turn, on one sheet")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    """G: latents (N, LATENT) to points (N, 2).  D: points (N, 2) to logits (N, 1)."""
    mixed = settings.broken == "mixed-batchnorm"
    return {"G": dense_network(LATENT, 2, WIDTH), "D": dense_network(2, 1, WIDTH, batch_norm=mixed)}


class View:
    """The players, their game, and what is shown: samples, always of the same latents; curves."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        self.broken, self.batch, self.mixture = settings.broken, settings.batch_size, RING
        self.G, self.D = parts["G"], parts["D"]
        self.game = losses.Minimax() if self.broken == "saturating" else losses.NonSaturating()
        betas = (0.9 if self.broken == "beta1-0.9" else 0.5, 0.999)
        self.adam_g = Adam(self.G.parameters(), RATE, betas=betas)
        self.adam_d = Adam(self.D.parameters(), RATE, betas=betas)
        self.latents, self.run = Tensor(random_normal(1000, LATENT)), None

    def set_rate(self, rate: float) -> None:
        self.adam_g.lr, self.adam_d.lr = rate, rate / (10 if self.broken == "d-too-weak" else 1)

    def samples(self) -> Tensor:
        with no_grad():
            return self.G(self.latents)

    def panel(self) -> tuple[Any, list[float], dict[str, list[float]]]:
        steps, curves = self.run.curves() if self.run else ([], {})
        return self.samples().numpy(), steps, curves.get("answers", {}) | curves.get("modes", {})

    def draw(self, path: Path) -> None:
        plots.save_sheet({self.broken: self.panel()}, RING, path)


pictures = View


def update_d(view: View) -> None:
    """(1) Update D: minimise -log D(x) - log(1 - D(G(z)))."""
    broken, batch, G, D = view.broken, view.batch, view.G, view.D
    strong = 302 if view.adam_d.steps == 0 else 2  # updates of a strong D, with a start of 300
    for _ in range(strong if broken in ("d-too-strong", "saturating") else 1):
        real, fake = Tensor(view.mixture.samples(batch)), G(Tensor(random_normal(batch, LATENT)))
        # The tape leads from the fake back into G. detach() cuts it: same numbers, no way
        # for D's gradients into G. (no_grad, as in mnist_gan.py, records no tape at all.)
        if broken != "no-detach":
            fake = fake.detach()
        # One pass for both: only BatchNorm lets one sample change another's answer.
        both = D(concatenate([real, fake]))
        real_logits, fake_logits = both[: len(real)], both[len(real) :]
        if broken != "no-zero-grad":
            view.adam_d.zero_grad()
        view.d_loss = view.game.discriminator(real_logits, fake_logits)
        view.d_loss.backward()
        if broken != "simultaneous":
            view.adam_d.step()
    with no_grad():
        view.answers = view.game.answers(real_logits, fake_logits)


def update_g(view: View) -> None:
    """(2) Update G: minimise -log D(G(z))."""
    with view.D.frozen():
        logits = view.D(view.G(Tensor(random_normal(view.batch, LATENT))))
        view.g_loss = view.game.generator(logits)
        view.g_loss.backward()
    if view.broken == "simultaneous":
        view.adam_d.step()  # only now: G's gradient was taken at the D before this step
    view.adam_g.step()
    # Cleared here, as much code does, so that what a missing detach adds is there for G.
    if view.broken != "no-zero-grad":
        view.adam_g.zero_grad()
    view.answers["D(G(z)) in G's step"] = sigmoid(logits.detach()).mean()


def train_one(settings: argparse.Namespace) -> View:
    """One run, with the mistake of that name in it, or none ("healthy")."""
    seed(settings.seed)
    view = View(settings, build(settings))
    parts = {"G": view.G, "D": view.D, "Adam of G": view.adam_g, "Adam of D": view.adam_d}
    run = view.run = training.Run(settings, parts, view.draw)
    modes = count_modes(view.samples().data, *RING).shares()
    for step in run:
        view.set_rate(RATE * run.time_left)  # falls to zero: the players settle, not circle
        update_d(view)
        update_g(view)
        if step % run.log_every == 0:
            modes = count_modes(view.samples().data, *RING).shares()
        run.log(losses={"D loss": view.d_loss}, answers=view.answers, modes=modes)
    return view


def train(settings: argparse.Namespace) -> None:
    """The chosen run in --out and the healthy one in a folder there; with --all, all in folders."""
    if settings.all:
        training.require_free(settings, *(settings.out / name for name in NAMES))
    views: dict[str, View] = {}
    for name in NAMES if settings.all else dict.fromkeys([settings.broken, "healthy"]):
        one = argparse.Namespace(**vars(settings) | {"broken": name, "all": False})
        if settings.all or name != settings.broken:
            one.out, one.resume = settings.out / name, False
        views[name] = train_one(one)
        if not views[name].run.finished:
            return
    panels = {name: view.panel() for name, view in views.items()}
    plots.save_sheet(panels, RING, settings.out / "sheet.png")
    training.report(settings.out, {name: view.run.late(1 / 4) for name, view in views.items()},
                    {name: samples for name, (samples, *_) in panels.items()})


if __name__ == "__main__":
    training.main(options(), train)
