"""StyleGAN: characters in pixel art, whose coarse and fine traits come from styles of their own.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
with the demodulation of "Analyzing and Improving the Image Quality of StyleGAN", 2020, eq. 3. A
mapping network f makes w of z. The image starts from a learned constant, w is the style of each
convolution on the way to full size, and noise n is for what is random in it, in these nothing:

    w = f(z / |z|),   x_0 = constant,   x_l = LeakyReLU(conv(x_(l-1); style w) + b_l n_l)

Mixing regularisation: some images get the styles of their later layers from another z. Layers can't
count on one another then, and one w's face goes with another's clothes. Departures: small images
and networks, DCGAN's D, neither blur nor path length regularisation. At the end: figures of
samples, mixed and truncated ones, paths in Z and W, what follows which styles; pictures of these.
"""

import argparse
import math
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, training
from tinygan.backend import drawn, generator, random_integers, random_normal, to_device, xp
from tinygan.functions import concatenate, leaky_relu, sqrt, tanh, where
from tinygan.layers import Dense, Module, Parameter, Upsample
from tinygan.normalization import ModulatedConv2d
from tinygan.optimizers import Adam, ExponentialMovingAverage

BETAS, SLOWER = (0.0, 0.99), 3  # f learns three times more slowly, in the paper a hundred times


class Generator(Module):
    """z (N, Z) to images (N, S, S, C): one layer at 4 x 4 pixels, two at each larger size.

    A size adds its colours to those of the size before, enlarged. sides: S of each of L layers.
    """

    def __init__(self, latent: int, depth: int, size: int, channels: int, width: int):
        sizes = int(math.log2(size / 4)) + 1
        if sizes < 1 or size != 2 ** (sizes + 1):
            raise training.UsageError(f"--size {size} is not 4, 8, 16, 32 or so on")
        self.sides = [2 ** ((layer + 5) // 2) for layer in range(2 * sizes - 1)]
        widths = [min(3, size // side) * width for side in self.sides]  # 48, 32, 32, 16, 16
        scale = SLOWER * math.sqrt(2 / latent)
        self.dense = [Dense(latent, latent, scale=scale) for _ in range(depth)]
        self.constant = Parameter(random_normal(1, 4, 4, widths[0]))
        self.layers = [ModulatedConv2d(before, after, latent=latent)
                       for before, after in zip([widths[0], *widths], widths, strict=False)]
        self.strength = Parameter(xp.zeros(len(widths), dtype=xp.float32))  # of the noise
        self.colours = [ModulatedConv2d(width, channels, latent=latent, kernel=1, demodulate=False)
                        for width in widths[::2]]
        self.double = Upsample(2)

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(concatenate([self.mapping(z)[:, None]] * len(self.layers), axis=1))

    def mapping(self, z: Tensor) -> Tensor:
        """w (N, Z). Only the direction of z counts."""
        w = z / sqrt((z * z).mean(axis=1, keepdims=True) + 1e-8)
        for layer in self.dense:  # Adam's steps are small beside weights that are divided again
            w = leaky_relu(layer(w) / SLOWER)
        return w

    def synthesis(self, styles: Tensor, noise: Any = None) -> Tensor:
        """Styles (N, L, W), one for each layer, and noise (N, P), for all pixels, to images."""
        n, ends = len(styles), numpy.cumsum([side**2 for side in self.sides]).tolist()
        if noise is None:
            noise = random_normal(n, ends[-1]) if self.training else xp.zeros((n, ends[-1]), "f")
        x, image = concatenate([self.constant] * n), 0.0
        for number, part in enumerate(xp.split(noise, ends[:-1], axis=1)):
            w, side = styles[:, number], self.sides[number]
            if number % 2:  # the first layer of a larger size
                x, image = self.double(x), self.double(image)
            part = self.strength[number] * part.reshape(n, side, side, 1)
            x = leaky_relu(self.layers[number](x, w) + part) * math.sqrt(2)
            if number % 2 == 0:  # the last layer of a size
                image = image + self.colours[number // 2](x, w)
        return tanh(0.5 * image)


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "stylegan", __doc__, steps=10_000, batch_size=16, latent=32, lr=2.5e-3, d_lr=2e-3, r1=1.0,
        width=16, data="characters", size=16, channels=3, measure=5000)
    parser.add_argument("--mapping", type=training.from_zero(20, int), default=2, metavar="N",
        help="layers of the mapping network; 0: w is the direction of z")
    parser.add_argument("--mixing", type=training.from_zero(1), default=0.3, metavar="SHARE",
        help="of images that get two styles in training; 0: no mixing regularisation")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    size, channels, width = settings.size, settings.channels, settings.width
    G = Generator(settings.latent, settings.mapping, size, channels, width)
    D = networks.dcgan_discriminator(size, channels, 4 * width, deviation=True)
    return {"G": G, "D": D, "average of G": ExponentialMovingAverage(G, decay=0.998)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> training.Pictures:
    return training.Pictures(parts["average of G"].network, settings.latent, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    data = datasets.load(
        settings.data, settings.data_dir, size=settings.size, channels=settings.channels)
    parts, game = build(settings), losses.NonSaturating()
    G, D, average = parts.values()
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_d = Adam(D.parameters(), settings.d_lr, betas=BETAS)
    batches = datasets.Batches(data.images, batch_size=settings.batch_size, seed=settings.seed)
    learners = {"Adam of G": adam_g, "Adam of D": adam_d, "batches": batches}
    run = training.Run(
        settings, parts | learners, pictures(settings, parts).draw, reading=game.reading,
        levels={"losses": (game.balance, "D loss in balance")}, epoch=len(batches))
    count, layers = settings.batch_size, xp.arange(len(G.layers))

    def samples() -> Tensor:
        """Images of one w, or of two: then the second begins at any layer but the first."""
        w = G.mapping(Tensor(random_normal(2 * count, settings.latent)))
        begin = random_integers(1, len(layers), count, 1)
        alone = to_device(drawn(generator.random, count, 1) >= settings.mixing)
        first = ((layers < begin) | alone)[:, :, None]                          # (N, L, 1)
        return G.synthesis(where(first, w[:count, None], w[count:, None]))

    for step in run:
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling

        # (1) Update D: minimise -log D(x) - log(1 - D(G(z))).
        real = Tensor(datasets.from_bytes(*next(batches)))
        with no_grad():
            fake = samples()
        real_logits, fake_logits = D(real), D(fake)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.r1 and step % losses.R1_EVERY == 0:
            objective = d_loss + (settings.r1 * losses.R1_EVERY) * losses.r1_penalty(D, real)
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -log D(G(z)).
        with D.frozen():
            g_loss = game.generator(D(samples()))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        average.update()

        with no_grad():
            run.log(losses={"D loss": d_loss, "G loss": g_loss},
                    answers=game.answers(real_logits, fake_logits))

    styles = metrics.Styles(average.network, settings.latent, seed=settings.seed)
    styles.draw(run.out)
    if run.finished:
        metrics.report_styles(settings, styles)


if __name__ == "__main__":
    training.main(options(), train)
