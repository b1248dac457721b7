"""BigGAN: every layer is told the class, and a dial trades variety for fidelity.

Brock, Donahue and Simonyan, "Large Scale GAN Training for High Fidelity Natural Image Synthesis",
2019. cgan.py tells G the label once, beside z. Here every BatchNorm has its scale and shift from an
embedding of the class, which all layers share, and from z (skip-z), and pixels attend to one
another (Zhang et al. 2019). The game is hinge:

    D: min E max(0, 1 - l(x, y)) + E max(0, 1 + l(G(z, y), y)),    G: min -E l(G(z, y), y)

At the end the truncation trick: numbers of z beyond a threshold are drawn anew, and samples become
truer and more alike; without it they are little better than cgan.py's. BatchNorm takes its
statistics anew for each threshold (standing statistics). Departures: cgan.py's convolutions; one
step of D for one of G; all of z in every layer, as in their deep model; R1, not `--spectral-norm`.
"""

import argparse
import math
from typing import Any

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, plots, training
from tinygan.attention import SelfAttention
from tinygan.backend import random_integers, random_normal
from tinygan.datasets import from_bytes
from tinygan.functions import concatenate, relu, reshape, tanh
from tinygan.layers import ConvTranspose2d, Dense, Embedding, Module, Sequential
from tinygan.normalization import ConditionalBatchNorm, SpectralNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

BETAS, EMBEDDING = (0.0, 0.9), 16  # of Adam, as in cgan.py; numbers that stand for a class
SHAPES = {"characters": (6, 16, 3)}  # classes (the colours of hair), side and channels
DIGITS = (10, 28, 1)
PARTS = ("attention", "skip-z", "standing-statistics")
THRESHOLDS = (2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.1)


class Generator(Module):
    """Latents (N, Z) and labels (N,) to images (N, S, S, C) in [-1, 1]."""

    def __init__(
        self, latent: int, classes: int, size: int, channels: int, width: int, skip: bool,
        wrap: Any, attention: Module,
    ):
        self.skip, self.attention, self.quarter = skip, attention, size // 4
        self.embedding = Embedding(classes, EMBEDDING)
        pixels, halves = self.quarter**2, {"kernel": 4, "stride": 2, "padding": 1}
        self.start = wrap(Dense(EMBEDDING + latent, pixels * 2 * width, bias=False, scale=0.02))
        told = EMBEDDING + skip * latent
        self.norms = [ConditionalBatchNorm(n, told, wrap=wrap) for n in (2 * width, width)]
        self.half = wrap(ConvTranspose2d(2 * width, width, bias=False, **halves))
        self.whole = wrap(ConvTranspose2d(width, channels, **halves))

    def forward(self, latents: Tensor, labels: Any) -> Tensor:
        label = self.embedding(labels)
        told = concatenate([label, latents], axis=1)
        x = reshape(self.start(told), (len(latents), self.quarter, self.quarter, -1))
        told = told if self.skip else label
        x = self.attention(relu(self.norms[0](x, told)))             # (N, S/4, S/4, 2W)
        x = relu(self.norms[1](self.half(x), told))                  # (N, S/2, S/2, W)
        return tanh(self.whole(x))                                   # (N, S, S, C)


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "biggan", __doc__, steps=12_000, batch_size=32, latent=16, lr=2.5e-3, d_lr=4e-3, r1=0.3,
        translate=1, width=32, data="mnist", measure=5000)
    add, weight = parser.add_argument, training.from_zero()
    add("--spectral-norm", type=weight, default=0.0, metavar="BOUND",
        help="divide weights by their largest singular value, and take them times this; 0: don't")
    add("--orthogonal", type=weight, default=0.0, metavar="WEIGHT",
        help="of the penalty on columns of G's weights that point the same way")
    add("--without", choices=PARTS, help="switch this off")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    shape, width, without = SHAPES.get(settings.data, DIGITS), settings.width, settings.without
    bound = settings.spectral_norm
    wrap = (lambda layer: SpectralNorm(layer, bound=bound)) if bound else Sequential  # one in a row
    attend = [Sequential() if without == "attention" else SelfAttention(2 * width, wrap=wrap)
              for _ in range(2)]
    G = Generator(settings.latent, *shape, width, without != "skip-z", wrap, attend[0])
    D = networks.ClassDiscriminator(
        *shape, width, max_shift=settings.translate, wrap=wrap, attention=attend[1])
    return {"G": G, "D": D, "average of G": ExponentialMovingAverage(G, decay=0.999)}


def pictures(settings: Any, parts: dict[str, Any], threshold: float = math.inf) -> Any:
    return training.Truncated(
        parts["average of G"].network, settings.latent, threshold=threshold, seed=settings.seed,
        classes=parts["D"].classes, standing=settings.without != "standing-statistics")


def train(settings: argparse.Namespace) -> None:
    _, side, channels = SHAPES.get(settings.data, DIGITS)
    data = datasets.load(settings.data, settings.data_dir, size=side, channels=channels)
    if data.labels is None:
        raise training.UsageError(f"{settings.data} has no labels to learn from: use mnist, "
                                  "mnist-full, fashion or characters")
    parts, game = build(settings), losses.Hinge()
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

    def order() -> tuple[Tensor, Any]:  # what G makes of random labels, and the labels
        labels = random_integers(0, drawn.classes, settings.batch_size)
        return G(Tensor(random_normal(settings.batch_size, settings.latent)), labels), labels

    for step in run:
        adam_g.lr, adam_d.lr = settings.lr * run.time_left, settings.d_lr * run.time_left
        # No shifts in the last 40 %: G must learn true positions.
        D.answers.translation.max_shift = settings.translate if run.time_left > 0.4 else 0

        # (1) Update D: real pairs of image and label are to get 1 or more, made ones -1 or less.
        images, labels = next(batches)
        real = Tensor(from_bytes(images))
        with no_grad():
            fake, asked = order()
        real_logits, fake_logits = D(real, labels), D(fake, asked)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.r1 and step % losses.R1_EVERY == 0:
            penalty = losses.r1_penalty(lambda x, y=labels: D(x, y), real)
            objective = d_loss + (settings.r1 * losses.R1_EVERY) * penalty
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -E l(G(z, y), y).
        with D.frozen():
            g_loss = objective = game.generator(D(*order()))
        if settings.orthogonal:
            weights = [weight for weight in G.parameters() if weight.ndim > 1]
            objective = g_loss + settings.orthogonal * losses.orthogonal_penalty(weights)
        adam_g.zero_grad()
        objective.backward()
        adam_g.step()
        average.update()

        with no_grad():
            run.log(losses={"D loss": d_loss, "G loss": g_loss},
                    answers=game.answers(real_logits, fake_logits))

    drawn.draw_interpolation(run.out / "interpolation.png")
    if run.finished:
        more = {f"truncated at {threshold}": pictures(settings, parts, threshold)
                for threshold in THRESHOLDS}
        if rows := metrics.report_digits(settings, drawn, more):
            curve = {name: (row["recall"], row["precision"])
                     for name, row in [*rows.items()][1:-1]}  # between floor and ceiling
            plots.save_path(curve, run.out / "truncation.png", "recall", "precision")


if __name__ == "__main__":
    training.main(options(), train)
