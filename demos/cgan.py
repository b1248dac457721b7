"""Conditional GAN: handwritten digits to order. Both networks are told the label.

Mirza and Osindero, "Conditional Generative Adversarial Nets", 2014. G gets the label y beside the
noise, D judges whether an image is a real example of its label:

    min over G, max over D of  E log D(x | y) + E log(1 - D(G(z | y) | y))                (eq. 2)

The networks are those of dcgan.py, and so are the departures. Given the label, G is less likely
to drop a digit: no other demo's samples are as near to real ones. D gets the label by the
projection of Miyato and Koyama 2018. `--digit 7 --count 16` has the run in --out draw sixteen
sevens. At the end: how far 5,000 samples are from real digits, and the share that shows the digit
that was asked for; with `--few 10`, the case of small medical data sets, G and D see ten images
of each digit, and the figures are what samples add to a classifier, beside shifts and turns.
"""

import argparse
import math
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, plots, training
from tinygan.backend import random_integers, random_normal
from tinygan.datasets import from_bytes
from tinygan.functions import concatenate, one_hot
from tinygan.layers import Module
from tinygan.losses import R1_EVERY
from tinygan.optimizers import Adam, ExponentialMovingAverage

CLASSES, BETAS = 10, (0.0, 0.9)  # of Adam, as in dcgan.py


class Generator(Module):
    """Latents (N, Z) and labels (N,) to images (N, size, size, channels) in [-1, 1].

    A label becomes sqrt(CLASSES) at its place and 0 elsewhere: as large as latents on average,
    it isn't drowned out by them.
    """

    def __init__(self, latent: int, size: int, channels: int, width: int):
        self.layers = networks.dcgan_generator(latent + CLASSES, size, channels, width)

    def forward(self, latents: Tensor, labels: Any) -> Tensor:
        label = one_hot(labels, CLASSES) * math.sqrt(CLASSES)
        return self.layers(concatenate([latents, label], axis=1))


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "cgan", __doc__, steps=8_000, batch_size=32, latent=16, lr=4e-3, d_lr=2e-3, r1=0.3,
        translate=1, width=32, data="mnist", measure=5000)
    add = parser.add_argument
    add("--few", type=training.positive(int), metavar="N",
        help="learn from N images of each class alone, and measure what samples add to them")
    add("--digit", type=int, choices=range(CLASSES), metavar="K",
        help="do not train: draw this digit with the run in --out, 0 to 9")
    add("--count", type=training.positive(int), default=16, metavar="N",
        help="how many to draw with --digit")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    G = Generator(settings.latent, 28, 1, settings.width)
    D = networks.ClassDiscriminator(CLASSES, 28, 1, settings.width, max_shift=settings.translate)
    return {"G": G, "D": D, "average of G": ExponentialMovingAverage(G, decay=0.999)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> training.Pictures:
    G = parts["average of G"].network
    return training.Pictures(G, settings.latent, classes=CLASSES, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    data = datasets.load(settings.data, settings.data_dir)
    if data.labels is None:
        raise training.UsageError(
            f"{settings.data} has no labels to learn from: use mnist, mnist-full or fashion")
    if settings.few:
        data = datasets.few(data, settings.few)
    parts, game = build(settings), losses.NonSaturating()
    G, D, average = parts.values()
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_d = Adam(D.parameters(), settings.d_lr, betas=BETAS)
    batches = datasets.Batches(*data, batch_size=settings.batch_size, seed=settings.seed)
    drawn = pictures(settings, parts)
    run = training.Run(
        settings, {**parts, "Adam of G": adam_g, "Adam of D": adam_d, "batches": batches},
        drawn.draw, reading=game.reading, levels={"losses": (game.balance, "D loss in balance")},
        epoch=len(batches),
    )

    def order() -> tuple[Tensor, Any]:
        """What G makes of random labels, and the labels."""
        labels = random_integers(0, CLASSES, settings.batch_size)
        return G(Tensor(random_normal(settings.batch_size, settings.latent)), labels), labels

    for step in run:
        adam_g.lr = settings.lr * run.time_left
        adam_d.lr = settings.d_lr * run.time_left
        # No shifts in the last 40 %: G must learn true positions.
        D.answers.translation.max_shift = settings.translate if run.time_left > 0.4 else 0

        # (1) Update D: minimise -log D(x | y) - log(1 - D(G(z | y) | y)). D judges pairs: a
        # good image beside the wrong label is no real pair, so that G must do as it is told.
        images, labels = next(batches)
        real = Tensor(from_bytes(images))
        with no_grad():
            fake, asked = order()
        real_logits, fake_logits = D(real, labels), D(fake, asked)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.r1 and step % R1_EVERY == 0:  # on D's gradient by the images alone
            penalty = losses.r1_penalty(lambda x, y=labels: D(x, y), real)
            objective = d_loss + (settings.r1 * R1_EVERY) * penalty
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -log D(G(z | y) | y).
        with D.frozen():
            g_loss = game.generator(D(*order()))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        average.update()

        with no_grad():
            run.log(losses={"D loss": d_loss, "G loss": g_loss},
                    answers=game.answers(real_logits, fake_logits))

    drawn.draw_interpolation(run.out / "interpolation.png")
    if run.finished:
        (metrics.report_few if settings.few else metrics.report_digits)(settings, drawn)


def draw_digit(settings: argparse.Namespace) -> None:
    """Write count pictures of the digit as digit-K.png into the folder of the run."""
    trained, labels = training.load(settings.out), numpy.full(settings.count, settings.digit)
    path = settings.out / f"digit-{settings.digit}.png"
    plots.save_grid(trained.pictures().samples(settings.count, settings.seed, labels), path)
    print(f"{settings.count} times the digit {settings.digit}, after step {trained.step}: {path}")


if __name__ == "__main__":
    training.main(options(), train, instead={"digit": draw_digit})
