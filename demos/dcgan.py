"""DCGAN: generator and discriminator of convolutions, on digits or a folder of images.

Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", 2016. The game is that of mnist_gan.py, equation 1 of Goodfellow
et al. 2014; what is new are the networks, which stand in tinygan/networks.py with the paper's
guidelines (section 3) beside the lines that follow them. Convolutions know that neighbouring
pixels belong together, and half the distance to real digits remains.

Departures: D has a penalty on its gradient in place of BatchNorm and sees images shifted a
little, part of z becomes one of ten codes, so that G need not fill the gaps between digits, and
the pictures are those of a moving average of G. The paper's settings are
  --batchnorm --r1 0 --lr 2e-4 --d-lr 2e-4 --beta1 0.5 --beta2 0.999
  --batch-size 128 --codes 0 --latent 100 --translate 0
At the end: how far 5,000 samples are from real digits, between a Gaussian fit of the pixels and
held-out digits.
"""

import argparse
from typing import Any

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, training
from tinygan.backend import random_normal
from tinygan.datasets import from_bytes
from tinygan.losses import R1_EVERY
from tinygan.optimizers import Adam, ExponentialMovingAverage


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "dcgan", __doc__, steps=8_000, batch_size=32, latent=26, lr=4e-3, d_lr=2e-3, beta1=0.0,
        beta2=0.9, r1=1.0, codes=10, translate=1, width=32, data="mnist", size=28, channels=1,
        measure=5000,
    )
    parser.add_argument("--batchnorm", action="store_true", help="BatchNorm in D as well as in G")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    size, channels, width = settings.size, settings.channels, settings.width
    G = networks.dcgan_generator(settings.latent, size, channels, width, settings.codes)
    D = networks.dcgan_discriminator(
        size, channels, width, settings.translate, settings.batchnorm
    )
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
    game = losses.NonSaturating()
    betas = (settings.beta1, settings.beta2)
    adam_g = Adam(G.parameters(), settings.lr, betas=betas)
    adam_d = Adam(D.parameters(), settings.d_lr, betas=betas)
    batches = datasets.Batches(data.images, batch_size=settings.batch_size, seed=settings.seed)
    drawn = pictures(settings, parts)
    run = training.Run(
        settings, {**parts, "Adam of G": adam_g, "Adam of D": adam_d, "batches": batches},
        drawn.draw, reading=game.reading, levels={"losses": (game.balance, "D loss in balance")},
        epoch=len(batches),
    )

    def noise() -> Tensor:
        return Tensor(random_normal(settings.batch_size, settings.latent))

    for step in run:
        adam_g.lr = settings.lr * run.time_left
        adam_d.lr = settings.d_lr * run.time_left
        # No shifts in the last 40 %: G must learn true positions.
        D.translation.max_shift = settings.translate if run.time_left > 0.4 else 0

        # (1) Update D: minimise -log D(x) - log(1 - D(G(z))). Real and generated images go
        # through D in batches of their own: mixed, BatchNorm would tell D which is which.
        (images,) = next(batches)
        real = Tensor(from_bytes(images))
        with no_grad():
            fake = G(noise())
        real_logits, fake_logits = D(real), D(fake)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.r1 and step % R1_EVERY == 0:
            objective = d_loss + (settings.r1 * R1_EVERY) * losses.r1_penalty(D, real)
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -log D(G(z)).
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
