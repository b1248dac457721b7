"""The GAN of 2014 on handwritten digits: two dense networks that learn from each other.

Goodfellow et al., "Generative Adversarial Nets", 2014. A generator G makes images from noise z,
a discriminator D learns to tell them from real ones, x, and G learns to pass for real:

    min over G, max over D of  E log D(x) + E log(1 - D(G(z)))                            (eq. 1)

Departures from the paper, each an option: G maximises log D(G(z)) instead (--loss minimax for
equation 1), D is kept smooth by a penalty on its gradient (--r1 0: none), Adam, 16 latents
rather than 100 (--latent 100), and the pictures are those of a moving average of G. At the end:
how far 5,000 samples are from real digits, between a Gaussian fit of the pixels and held-out
digits.
"""

import argparse
import math
from typing import Any

from tinygan import Tensor, datasets, losses, metrics, no_grad, training
from tinygan.backend import random_normal
from tinygan.datasets import from_bytes
from tinygan.layers import AddConstant, Dense, Flatten, LeakyReLU, Reshape, Sequential, Tanh
from tinygan.losses import R1_EVERY
from tinygan.optimizers import Adam, ExponentialMovingAverage


def make_generator(latent: int, image: tuple[int, ...]) -> Sequential:
    """Latents z (N, latent) to images (N, H, W, C) in [-1, 1]."""
    last = Dense(512, math.prod(image))
    last.bias.data[:] = -1.5  # so that the first images are dark, as the real ones are
    return Sequential(
        Dense(latent, 256), LeakyReLU(0.2),  # (N, 256)
        Dense(256, 512), LeakyReLU(0.2),  # (N, 512)
        last, Tanh(), Reshape(*image),  # (N, H, W, C)
    )


def make_discriminator(image: tuple[int, ...]) -> Sequential:
    """Images (N, H, W, C) to logits (N, 1): the larger, the surer D is that they are real."""
    return Sequential(
        # The empty background becomes 0: a zero input adds nothing to a weight's gradient.
        AddConstant(1.0), Flatten(),  # (N, H*W*C)
        Dense(math.prod(image), 512), LeakyReLU(0.2),  # (N, 512)
        Dense(512, 256), LeakyReLU(0.2),  # (N, 256)
        Dense(256, 1),  # (N, 1)
    )


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "mnist_gan", __doc__, steps=12_000, batch_size=32, latent=16, lr=2e-3, d_steps=1, r1=1.0,
        data="mnist", size=28, channels=1, measure=5000,
    )
    parser.add_argument("--g-steps", type=training.positive(int), default=1, metavar="M",
                        help="updates of G in a step")
    parser.add_argument("--loss", default="non-saturating", choices=losses.GAMES,
                        help="the game; minimax is equation 1 of the paper")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    image = (settings.size, settings.size, settings.channels)
    G, D = make_generator(settings.latent, image), make_discriminator(image)
    return {"G": G, "D": D, "average of G": ExponentialMovingAverage(G, decay=0.999)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> training.Pictures:
    G = parts["average of G"].network
    return training.Pictures(G, settings.latent, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    data = datasets.load(
        settings.data, settings.data_dir, size=settings.size, channels=settings.channels
    )
    parts = build(settings)
    G, D, average = parts.values()
    game = losses.GAMES[settings.loss]()
    adam_g, adam_d = Adam(G.parameters(), settings.lr), Adam(D.parameters(), settings.lr)
    batches = datasets.Batches(data.images, batch_size=settings.batch_size, seed=settings.seed)
    drawn = pictures(settings, parts)
    run = training.Run(
        settings, {**parts, "Adam of G": adam_g, "Adam of D": adam_d, "batches": batches},
        drawn.draw, reading=game.reading, levels={"losses": (game.balance, "D loss in balance")},
        epoch=max(1, len(batches) // settings.d_steps),
    )

    def noise() -> Tensor:
        return Tensor(random_normal(settings.batch_size, settings.latent))

    for step in run:
        # Both rates fall to zero over the run: the players settle instead of circling.
        adam_d.lr = adam_g.lr = settings.lr * run.time_left

        # (1) Update D: minimise -log D(x) - log(1 - D(G(z))).
        for _ in range(settings.d_steps):
            (images,) = next(batches)
            real = Tensor(from_bytes(images))
            # D learns from fake as from any image. G must not move in D's step, so nothing of
            # G is recorded: for the gradients the same as G(z).detach(), and half the work.
            with no_grad():
                fake = G(noise())
            real_logits, fake_logits = D(real), D(fake)
            d_loss = game.discriminator(real_logits, fake_logits)
            objective = d_loss
            if settings.r1 and step % R1_EVERY == 0:
                objective = d_loss + (settings.r1 * R1_EVERY) * losses.r1_penalty(D, real)
            adam_d.zero_grad()  # backward() adds to the gradients that are there
            objective.backward()
            adam_d.step()

        # (2) Update G: minimise -log D(G(z)), or what the chosen game has in its place.
        for _ in range(settings.g_steps):
            # The gradient passes through D on its way to G, but D must not move in G's step.
            with D.frozen():
                g_loss = game.generator(D(G(noise())))
            adam_g.zero_grad()
            g_loss.backward()
            adam_g.step()
        average.update()

        with no_grad():
            run.log(losses={"D loss": d_loss, "G loss": g_loss},
                    answers=game.answers(real_logits, fake_logits))

    drawn.draw_interpolation(run.out / "interpolation.png")
    if run.finished:
        metrics.report_digits(settings, drawn)


if __name__ == "__main__":
    training.main(options(), train)
