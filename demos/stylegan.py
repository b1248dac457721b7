"""StyleGAN: characters in pixel art, whose coarse and fine traits come from styles of their own.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
with the demodulation of "Analyzing and Improving the Image Quality of StyleGAN", 2020, eq. 3. A
mapping network f makes w of z. The image starts from a learned constant, w is the style of each
convolution on the way to full size, and noise n is there for what is random in an image:

    w = f(z / |z|),   x_0 = constant,   x_l = LeakyReLU(conv(x_(l-1); style w) + b_l n_l)

Mixing regularisation: some images get the styles of their later layers from another z. Layers can't
count on one another then, and the face of one w goes with the clothes of another. Departures: small
images and networks, DCGAN's D, neither blur nor path length regularisation. At the end: figures of
samples, of mixed and of truncated ones, paths in Z and in W, what follows which styles; pictures of
the papers: mixed.png, noise.png, truncation.png, interpolation.png.
"""

import argparse
import itertools
import math
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, training
from tinygan.backend import generator, random_normal, to_device, xp
from tinygan.datasets import from_bytes
from tinygan.functions import concatenate, leaky_relu, sqrt, tanh, where
from tinygan.layers import Dense, Module, Parameter, Upsample
from tinygan.losses import R1_EVERY
from tinygan.normalization import ModulatedConv2d
from tinygan.optimizers import Adam, ExponentialMovingAverage

BETAS, SLOWER = (0.0, 0.99), 3  # f learns three times more slowly, in the paper a hundred times


class Mapping(Module):
    """z (N, Z) to w (N, Z). Only the direction of z counts."""

    def __init__(self, latent: int, depth: int):
        scale = SLOWER * math.sqrt(2 / latent)
        self.layers = [Dense(latent, latent, scale=scale) for _ in range(depth)]

    def forward(self, z: Tensor) -> Tensor:
        w = z / sqrt((z * z).mean(axis=1, keepdims=True) + 1e-8)
        for layer in self.layers:  # Adam's steps are small beside weights that are divided again
            w = leaky_relu(layer(w) / SLOWER)
        return w


class StyledLayer(Module):
    """x (N, S, S, inputs), w (N, W) and noise (N, S, S, 1) to (N, S, S, outputs)."""

    def __init__(self, inputs: int, outputs: int, latent: int):
        self.convolution = ModulatedConv2d(inputs, outputs, latent=latent)
        self.strength = Parameter(xp.zeros(1, dtype=xp.float32))  # of the noise

    def forward(self, x: Tensor, w: Tensor, noise: Any) -> Tensor:
        return leaky_relu(self.convolution(x, w) + self.strength * noise) * math.sqrt(2)


class Generator(Module):
    """z (N, Z) to images (N, S, S, C): one layer at 4 x 4 pixels, two at each larger size.

    Each size adds its colours to the image of the size before, enlarged. sides: of each layer.
    """

    def __init__(self, latent: int, depth: int, size: int, channels: int, width: int):
        sizes = int(math.log2(size / 4)) + 1
        if size != 2 ** (sizes + 1):
            raise training.UsageError(f"--size {size} is not 4, 8, 16, 32 or so on")
        widths = [min(3, sizes - i) * width for i in range(sizes)]              # 48, 32, 16
        steps = [(widths[0], widths[0])]
        for before, after in itertools.pairwise(widths):
            steps += [(before, after), (after, after)]
        self.mapping, self.double = Mapping(latent, depth), Upsample(2)
        self.constant = Parameter(random_normal(1, 4, 4, widths[0]))
        self.layers = [StyledLayer(*step, latent) for step in steps]
        self.sides = [2 ** ((layer + 5) // 2) for layer in range(len(steps))]   # 4, 8, 8, 16, 16
        self.colours = [ModulatedConv2d(width, channels, latent=latent, kernel=1, demodulate=False)
                        for width in widths]

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(concatenate([self.mapping(z)[:, None]] * len(self.layers), axis=1))

    def synthesis(self, styles: Tensor, noise: Any = None) -> Tensor:
        """Styles (N, L, W), one for each layer, and noise for all pixels of all layers (N, P)."""
        noise, start = self.noise(len(styles)) if noise is None else noise, 0
        x, image = concatenate([self.constant] * len(styles)), 0.0
        for number, (layer, side) in enumerate(zip(self.layers, self.sides, strict=True)):
            w, end = styles[:, number], start + side**2
            if number % 2:  # the first of a size
                x, image = self.double(x), self.double(image)
            x = layer(x, w, noise[:, start:end].reshape(-1, side, side, 1))
            if number % 2 == 0:  # the last of a size
                image = image + self.colours[number // 2](x, w)
            start = end
        return tanh(0.5 * image)

    def noise(self, count: int) -> Any:
        """N(0, 1); after training always the same."""
        shape = count, sum(side**2 for side in self.sides)
        if self.training:
            return random_normal(*shape)
        return to_device(numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32))


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "stylegan", __doc__, steps=10_000, batch_size=16, latent=32, lr=2.5e-3, d_lr=1e-3, r1=1.0,
        width=16, data="characters", size=16, channels=3, measure=5000)
    parser.add_argument("--mapping", type=training.from_zero(20, int), default=2, metavar="N",
        help="layers of the mapping network; 0: w is the direction of z")
    parser.add_argument("--mixing", type=training.from_zero(1.01), default=0.3, metavar="SHARE",
        help="of images that get two styles in training, from 0 to 1")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    size, channels = settings.size, settings.channels
    G = Generator(settings.latent, settings.mapping, size, channels, settings.width)
    D = networks.dcgan_discriminator(size, channels, 2 * settings.width, deviation=True)
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
    drawn = pictures(settings, parts)
    run = training.Run(
        settings, {**parts, "Adam of G": adam_g, "Adam of D": adam_d, "batches": batches},
        drawn.draw, reading=game.reading, levels={"losses": (game.balance, "D loss in balance")},
        epoch=len(batches))
    count, layers = settings.batch_size, numpy.arange(len(G.layers))

    def samples() -> Tensor:
        """Images of one w, or of two: then the second begins at any layer but the first."""
        w = G.mapping(Tensor(random_normal(2 * count, settings.latent)))
        begin = generator.integers(1, len(layers), size=(count, 1))
        begin[generator.random(count) >= settings.mixing] = len(layers)
        first = to_device((layers < begin)[:, :, None])                         # (N, L, 1)
        return G.synthesis(where(first, w[:count, None], w[count:, None]))

    for step in run:
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling

        # (1) Update D: minimise -log D(x) - log(1 - D(G(z))).
        real = Tensor(from_bytes(*next(batches)))
        with no_grad():
            fake = samples()
        real_logits, fake_logits = D(real), D(fake)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.r1 and step % R1_EVERY == 0:
            objective = d_loss + (settings.r1 * R1_EVERY) * losses.r1_penalty(D, real)
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
