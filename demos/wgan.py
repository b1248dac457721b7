"""WGAN: the critic's loss estimates the distance between real and generated images.

The critic l gives every image a number. As long as it is 1-Lipschitz, E l(x) - E l(G(z)) is at
most the Wasserstein distance of the two distributions, and near it when the critic is good.
Unlike the losses of other games it should therefore fall as the pictures get better. It is
logged and drawn in curves.png, and with --track 1000 the Frechet distance beside it: the two fall
together at first, above all with --d-steps 5. Late in the run the estimate rises again although
the pictures go on getting better: the critic, at smaller rates, sees finer differences.

Two ways to keep the critic 1-Lipschitz, up to a factor:
  --penalty gradient  Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, eq. 3
  --penalty clip      Arjovsky, Chintala and Bottou, "Wasserstein GAN", 2017, with its settings
The settings of the paper of the gradient penalty, with its 100 latents, are
  --lr 1e-4 --d-lr 1e-4 --d-steps 5 --penalty-every 1 --codes 0 --latent 100 --translate 0
At the end: how far 5,000 samples are from real digits, between a Gaussian fit of the pixels and
held-out digits.
"""

import argparse
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, training
from tinygan.backend import random_normal
from tinygan.datasets import from_bytes
from tinygan.optimizers import Adam, ExponentialMovingAverage, RMSProp

CLIP = 0.01  # Arjovsky et al. 2017, algorithm 1
DEFAULTS = {  # learning rates of G and of the critic, and its updates in a step
    "gradient": {"lr": 4e-3, "d_lr": 2e-3, "d_steps": 1},
    "clip": {"lr": 5e-5, "d_lr": 5e-5, "d_steps": 5},
}


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "wgan", __doc__, steps=9_000, batch_size=32, latent=26, lr=None, d_lr=None, d_steps=None,
        codes=10, translate=1, width=32, data="mnist", size=28, channels=1, measure=5000,
    )
    add = parser.add_argument
    add("--penalty", default="gradient", choices=DEFAULTS,
        help="what keeps the critic 1-Lipschitz; sets --lr, --d-lr and --d-steps (the paper's "
        "n_critic) unless they are given: 4e-3, 2e-3 and 1, with clip 5e-5, 5e-5 and 5")
    add("--penalty-weight", type=training.positive(float), default=10.0, metavar="LAMBDA",
        help="weight of the gradient penalty; 1 is faster at first, not in the end")
    add("--penalty-every", type=training.positive(int), default=4, metavar="K",
        help="apply the gradient penalty every K steps, at K times its weight")
    add("--track", type=training.from_zero(100_000, int), default=0, metavar="N",
        help="at each picture log the Frechet distance of N samples, 1,000 or more, which the "
        "estimate should follow; 0: do not")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    size, channels, width = settings.size, settings.channels, settings.width
    G = networks.dcgan_generator(settings.latent, size, channels, width, settings.codes)
    # No BatchNorm: the penalty is on the slope at each image by itself, and an answer that
    # depends on the whole batch has none.
    critic = networks.dcgan_discriminator(size, channels, width, settings.translate)
    return {"G": G, "critic": critic, "average of G": ExponentialMovingAverage(G, decay=0.999)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> training.Pictures:
    G = parts["average of G"].network
    return training.Pictures(G, settings.latent, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    for name, value in DEFAULTS[settings.penalty].items():
        if getattr(settings, name) is None:
            setattr(settings, name, value)
    data = datasets.load(
        settings.data, settings.data_dir, size=settings.size, channels=settings.channels
    )
    parts = build(settings)
    G, critic, average = parts.values()
    game = losses.Wasserstein()
    gradient = settings.penalty == "gradient"
    if gradient:
        optimizer_g = Adam(G.parameters(), settings.lr, betas=(0.0, 0.9))
        optimizer_c = Adam(critic.parameters(), settings.d_lr, betas=(0.0, 0.9))
    else:
        optimizer_g = RMSProp(G.parameters(), settings.lr)
        optimizer_c = RMSProp(critic.parameters(), settings.d_lr)
    batches = datasets.Batches(data.images, batch_size=settings.batch_size, seed=settings.seed)
    drawn = pictures(settings, parts)
    run = training.Run(
        settings, {**parts, "optimizer of G": optimizer_g, "optimizer of the critic": optimizer_c,
                   "batches": batches},
        drawn.draw, reading=game.reading, levels={"losses": (game.balance, "D loss in balance")},
        epoch=max(1, len(batches) // settings.d_steps),
    )

    def noise() -> Tensor:
        return Tensor(random_normal(settings.batch_size, settings.latent))

    distance = {}
    for step in run:
        if settings.track and (not distance or step % run.picture_every == 0):
            quality = metrics.measure(drawn.samples(settings.track))
            distance = {"Frechet distance": Tensor(quality["Frechet"])}

        if gradient:  # rates that fall to zero, as in its paper's runs on CIFAR-10
            optimizer_g.lr = settings.lr * run.time_left
            optimizer_c.lr = settings.d_lr * run.time_left
        # No shifts in the last 40 %: G must learn true positions.
        critic.translation.max_shift = settings.translate if run.time_left > 0.4 else 0

        # (1) Update the critic: minimise E l(G(z)) - E l(x), minus the estimate.
        for _ in range(settings.d_steps):
            (images,) = next(batches)
            real = Tensor(from_bytes(images))
            with no_grad():
                fake = G(noise())
            real_answers, fake_answers = critic(real), critic(fake)
            c_loss = objective = game.discriminator(real_answers, fake_answers)
            if gradient and step % settings.penalty_every == 0:
                penalty = losses.gradient_penalty(critic, real, fake)
                objective = c_loss + settings.penalty_weight * settings.penalty_every * penalty
            optimizer_c.zero_grad()
            objective.backward()
            optimizer_c.step()
            if not gradient:
                losses.clip_weights(critic, CLIP)

        # (2) Update G: minimise -E l(G(z)).
        with critic.frozen():
            g_loss = game.generator(critic(G(noise())))
        optimizer_g.zero_grad()
        g_loss.backward()
        optimizer_g.step()
        average.update()

        with no_grad():
            run.log(losses={"critic loss": c_loss, "G loss": g_loss},
                    estimate=game.answers(real_answers, fake_answers),
                    **{"distance": distance} if distance else {})

    if distance:
        ranks = [numpy.argsort(numpy.argsort([row[name] for row in run.rows]))
                 for name in ("Wasserstein estimate", "Frechet distance")]
        print(f"Rank correlation of estimate and distance: {numpy.corrcoef(ranks)[0, 1]:.2f}")
    drawn.draw_interpolation(run.out / "interpolation.png")
    if run.finished:
        metrics.report_digits(settings, drawn)


if __name__ == "__main__":
    training.main(options(), train)
