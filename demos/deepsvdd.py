"""DeepSVDD: what does not belong lies far from the centre of what does.

Ruff et al., "Deep One-Class Classification", 2018. A network phi maps images of one digit as near
as it can to a fixed centre c; the score of an image is |phi(x) - c|^2. One-class (eq. 4):

    min over W  mean |phi(x; W) - c|^2 + decay / 2 |W|^2

--nu 0.1: soft boundary (eq. 3), a sphere of radius R that leaves so many training images outside,
and more of the unseen ones, to which phi was not fitted:

    min over R, W  R^2 + mean max(0, |phi(x; W) - c|^2 - R^2) / nu + decay / 2 |W|^2

This is no GAN, though courses list it so; it stands beside AnoGAN, with the same question. What
keeps phi from answering c to all: no biases, no bounded activations, c not 0 (propositions 1 to 3).
"""

import argparse
from math import sqrt
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, layers, metrics, plots, training
from tinygan.backend import to_device, xp
from tinygan.functions import relu
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam

FEATURES, DECAY, LEAST = 32, 1e-6, 0.1  # LEAST |c_i|: weights of 0 would reach a centre of 0


def options() -> argparse.ArgumentParser:
    parser = training.parser("deepsvdd", __doc__, steps=1000, batch_size=64, lr=1e-3, width=16)
    metrics.digits_option(parser)
    add = parser.add_argument
    add("--nu", type=training.from_zero(1), default=0.0, metavar="NU",
        help="soft boundary: the share of training images outside the sphere; 0: one-class")
    add("--pretrain", type=training.from_zero(1), default=0.2, metavar="PART",
        help="part of the run in which phi is the encoder of an autoencoder")
    add("--no-batchnorm", action="store_true", help="without BatchNorm, so that phi can collapse")
    add("--bias", action="store_true", help="with the biases that the paper forbids")
    add("--centre-zero", action="store_true", help="with the centre at 0")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    width, bias = settings.width, settings.bias

    def activation(channels: int) -> list[layers.Module]:  # not affine: a shift would be a bias
        norm = [] if settings.no_batchnorm else [BatchNorm(channels, affine=False)]
        return [*norm, layers.LeakyReLU(0.1)]

    wide = 25 * width  # inputs of an output: weights start from N(0, 2 / inputs), He et al. 2015
    phi = layers.Sequential(
        layers.Conv2d(1, width, kernel=5, stride=2, padding=2, bias=bias, scale=sqrt(2 / 25)),
        *activation(width),  # (N, 14, 14, width)
        layers.Conv2d(width, width, kernel=5, stride=2, padding=2, bias=bias, scale=sqrt(2 / wide)),
        *activation(width), layers.Flatten(),  # (N, 49 width)
        layers.Dense(49 * width, FEATURES, bias=bias),
    )
    decoder = layers.Sequential(
        *activation(FEATURES), layers.Dense(FEATURES, 49 * width, bias=False),
        layers.Reshape(7, 7, width), *activation(width),
        layers.ConvTranspose2d(width, width, kernel=4, stride=2, padding=1, scale=sqrt(3 / wide)),
        *activation(width),  # (N, 14, 14, width)
        layers.ConvTranspose2d(width, 1, kernel=4, stride=2, padding=1, scale=sqrt(3 / wide)),
    )
    sphere = layers.Module()  # which is saved, but learns nothing by gradients
    sphere.centre = Tensor(xp.zeros(FEATURES, dtype=xp.float32))
    sphere.radius_squared = Tensor(xp.zeros((), dtype=xp.float32))
    return {"phi": phi, "decoder": decoder, "sphere": sphere}


def normalize_contrast(images: numpy.ndarray) -> numpy.ndarray:
    """Each image less its mean, over its mean absolute value."""
    centred = images - images.mean(axis=(1, 2, 3), keepdims=True)
    return centred / abs(centred).mean(axis=(1, 2, 3), keepdims=True)


class Extremes:
    """Held-out images: the least and the most strange of the digit, then those of the others."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        self.phi, _, self.sphere = parts.values()
        self.data = metrics.one_digit(settings.digit)
        self.normal = normalize_contrast(self.data.normal)

    def scores(self, images: numpy.ndarray) -> numpy.ndarray:
        """|phi(x) - c|^2 of contrast-normalised images, in evaluation mode: (N,)."""
        answers = training.apply(self.phi.eval(), images) - self.sphere.centre.numpy()
        self.phi.train()
        return (answers**2).sum(axis=1)

    def draw(self, path: Path) -> None:
        order = self.scores(normalize_contrast(self.data.judged[:300])).argsort()  # enough to see
        kinds = (order[~self.data.strange[order]], order[self.data.strange[order]])
        rows = numpy.concatenate([some for kind in kinds for some in (kind[:12], kind[-12:])])
        plots.save_grid(self.data.judged[rows], path, columns=12)


pictures = Extremes


def train_one(settings: argparse.Namespace) -> dict[str, numpy.ndarray] | None:
    """The scores of the held-out images, or None where the run was stopped."""
    parts = build(settings)
    (phi, decoder, sphere), view = parts.values(), Extremes(settings, parts)
    nu, last, first = settings.nu, settings.steps, int(settings.pretrain * settings.steps) + 1
    adam_both = Adam(phi.parameters() + decoder.parameters(), settings.lr, betas=(0.9, 0.999))
    adam_phi = Adam(phi.parameters(), settings.lr, betas=(0.9, 0.999))
    batches = datasets.Batches(view.normal, batch_size=settings.batch_size, seed=settings.seed)
    run = training.Run(settings, {**parts, "Adam of the autoencoder": adam_both,
                                  "Adam of phi": adam_phi, "batches": batches}, view.draw)
    for step in run:
        x = Tensor(next(batches)[0])
        if step < first:
            # (1) Update phi and the decoder: minimise mean (decoder(phi(x)) - x)^2.
            loss = ((decoder(phi(x)) - x) ** 2).mean()
            adam_both.zero_grad()
            loss.backward()
            adam_both.step()
        else:
            # (2) Update phi alone: its answers go to the centre, or into the sphere around it.
            if step == first and not settings.centre_zero:
                mean = training.apply(phi.eval(), view.normal).mean(axis=0)
                phi.train()
                mean[abs(mean) < LEAST] = numpy.copysign(LEAST, mean[abs(mean) < LEAST])
                sphere.centre.data[:] = to_device(mean)
            if nu and step % 20 == 0:  # for given weights the best R^2 is a quantile
                sphere.radius_squared.data[...] = numpy.quantile(view.scores(view.normal), 1 - nu)
            squares = ((phi(x) - sphere.centre) ** 2).sum(axis=1)
            loss = squares.mean()
            if nu and step > first + last // 5:  # at first the sphere means nothing
                loss = relu(squares - sphere.radius_squared).mean() * (1 / nu)
            decay = sum((weight**2).sum() for weight in phi.parameters()) * (DECAY / 2)
            adam_phi.lr = settings.lr * (1 if run.time_left > 0.25 else 0.1)
            adam_phi.zero_grad()
            (loss + decay).backward()
            adam_phi.step()
        run.log(loss={"loss": loss})
    if not run.finished:
        return None
    scores = view.scores(normalize_contrast(view.data.judged))
    print(f"Scores: mean {scores.mean():.4g}, deviation {scores.std():.4g}.")
    if nu:
        seen, unseen = view.scores(view.normal), scores[~view.data.strange]
        sphere.radius_squared.data[...] = numpy.quantile(seen, 1 - nu)
        run.save()
        outside = [(part > numpy.quantile(seen, 1 - nu)).mean() for part in (seen, unseen)]
        print("Outside the sphere: {:.3f} of training, {:.3f} of unseen images.".format(*outside))
    return {"DeepSVDD": scores}


def train(settings: argparse.Namespace) -> None:
    metrics.over_digits(settings, train_one)


if __name__ == "__main__":
    training.main(options(), train)
