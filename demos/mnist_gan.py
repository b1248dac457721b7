"""The GAN of 2014 on handwritten digits: two dense networks that learn from one another.

A generator G makes images from noise, a discriminator D learns to tell them from real ones,
and G learns to be taken for real. Goodfellow et al., "Generative Adversarial Nets", 2014.
"""

import argparse
import math

from tinygan import Tensor, datasets, losses, no_grad, training
from tinygan.backend import random_normal
from tinygan.functions import sigmoid
from tinygan.layers import Dense, Flatten, LeakyReLU, Reshape, Sequential, Shift, Tanh
from tinygan.optimizers import Adam, ExponentialMovingAverage

# The penalty needs a gradient of a gradient, as dear as the rest of the step. Every fourth
# step with four times the weight does the same (Karras et al. 2020, appendix B).
R1_EVERY = 4


def make_generator(latent: int, image: tuple[int, ...]) -> Sequential:
    """Latents z (N, latent) to images (N, H, W, C) in [-1, 1]."""
    last = Dense(512, math.prod(image))
    last.bias.data[:] = -1.5  # so that the first images are dark, as the real ones are
    return Sequential(
        Dense(latent, 256), LeakyReLU(0.2),
        Dense(256, 512), LeakyReLU(0.2),
        last, Tanh(), Reshape(*image),
    )


def make_discriminator(image: tuple[int, ...]) -> Sequential:
    """Images (N, H, W, C) to logits (N, 1): the larger, the surer D is that they are real."""
    return Sequential(
        Shift(1.0), Flatten(),  # the empty background becomes 0, and what is 0 moves no weight
        Dense(math.prod(image), 512), LeakyReLU(0.2),
        Dense(512, 256), LeakyReLU(0.2),
        Dense(256, 1),
    )


def options() -> argparse.Namespace:
    parser = training.parser(
        __doc__, out="runs/mnist_gan", steps=12_000, batch_size=32, latent=16, lr=2e-3
    )
    parser.add_argument("--loss", default="non-saturating", choices=losses.GAMES,
                        help="the game; minimax is equation 1 of the paper")
    parser.add_argument("--d-steps", type=training.positive(int), default=1, metavar="K",
                        help="updates of D in a step (the paper's k)")
    parser.add_argument("--g-steps", type=training.positive(int), default=1, metavar="M",
                        help="updates of G in a step")
    parser.add_argument("--r1", type=training.from_zero(), default=1.0, metavar="GAMMA",
                        help="weight of the penalty on D's gradient at real images; 0 is without")
    return training.parse(parser)


def main() -> None:
    settings = options()
    data = datasets.load(settings.data, settings.data_dir)
    image = data.images.shape[1:]
    G, D = make_generator(settings.latent, image), make_discriminator(image)
    game = losses.GAMES[settings.loss]()
    adam_g, adam_d = Adam(G.parameters(), settings.lr), Adam(D.parameters(), settings.lr)
    average = ExponentialMovingAverage(G, decay=0.999)
    run = training.Run(
        settings, len(data.images), game, sample=average.average,
        parts={"G": G, "D": D, "Adam of G": adam_g, "Adam of D": adam_d, "average of G": average},
    )
    real_batches = datasets.batches(
        data, settings.batch_size, settings.seed, first=run.step * settings.d_steps
    )

    def noise() -> Tensor:
        return Tensor(random_normal(settings.batch_size, settings.latent))

    for step in run:
        # Both rates fall to zero over the run: the players settle instead of circling.
        adam_d.lr = adam_g.lr = settings.lr * run.share_left

        # (1) Update D: minimise -log D(x) - log(1 - D(G(z))).
        for _ in range(settings.d_steps):
            real = Tensor(next(real_batches)[0])
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
            run.log({
                "D loss": d_loss, "G loss": g_loss,
                "D(x)": sigmoid(real_logits).mean(), "D(G(z))": sigmoid(fake_logits).mean(),
            })


if __name__ == "__main__":
    training.run_main(main)
