"""AugGAN: labelled images of one kind, translated, are to teach a recogniser of another kind.

Huang et al., "AugGAN: Cross Domain Adaptation with GAN-based Data Augmentation", 2018. Cars are
labelled by day; translated into night the labels must still be right, but CycleGAN may drop a car
or move it. So a translator's encoder E also serves a parser P, which says what is where in the
image. The painter G and P are two decoders whose weights w_G and w_P are softly shared (3.3):

    L = L_GAN + cycle |x'' - x| + parsing H(P(E(x)), mask of x) - sharing log cos^2(w_G, w_P)

in both directions; x'' is x after the round trip. Here UCI's digits have labels, MNIST's have none,
and the mask is the ink. Departures: least squares and a pool; H is cross-entropy alone (paper: with
L1); the other direction's parser must find the mask of x in its translation, too (--source-only: as
in the paper). At the end: does the structure stay, and how well does a classifier read held-out
MNIST that learned from translations alone? Courses describe AugGAN as augmentation for small sets
of medical images, but the paper lacks labels at night, not images: for that case, a few labelled
images of each class, see cgan.py --few.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, plots, training
from tinygan.datasets import Batches, from_bytes
from tinygan.functions import concatenate, log, softplus
from tinygan.layers import AddConstant, Module, Sequential
from tinygan.optimizers import Adam, ExponentialMovingAverage

SHOWN, POOL = 14, 64  # digits of each kind in a picture, earlier ones from which D learns
INK = 0.1  # brighter pixels are ink; below, UCI's blurred strokes were wider than MNIST's


class Translator(Module):
    """Images (N, S, S, 1) to translations in [-1, 1] and to logits of ink, both (N, S, S, 1)."""

    def __init__(self, width: int):
        self.encoder = Sequential(AddConstant(1.0), networks.image_encoder(1, width))  # black: 0
        self.painter = networks.image_decoder(1, width)
        self.parser = Sequential(*networks.image_decoder(1, width).layers[:-1])  # without tanh

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(images)  # (N, S/4, S/4, 2 width)
        return self.painter(features), self.parser(features)

    def distance(self) -> Tensor:
        """-log cos^2 of the angle between the decoders' weights: 0 where they are parallel."""
        paint, parse = (concatenate([weight.reshape(-1) for weight in decoder.parameters()])
                        for decoder in (self.painter, self.parser))
        return log((paint**2).sum()) + log((parse**2).sum()) - 2.0 * log(abs((paint * parse).sum()))


def parsing_loss(logits: Tensor, images: Tensor) -> Tensor:
    """Cross-entropy of the logits of ink with where the ink of the images is, for each pixel."""
    ink = (images.data > INK).astype(images.dtype)
    return (softplus(logits) - logits * ink).mean()


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "auggan", __doc__, steps=1400, batch_size=16, lr=5e-4, d_lr=5e-4, width=16)
    add, weight = parser.add_argument, {"type": training.from_zero(), "metavar": "WEIGHT"}
    add("--parsing", **weight, default=3.0, help="of the parsing loss; 0: CycleGAN")
    add("--source-only", action="store_true", help="do not parse translations, as in the paper")
    add("--sharing", **weight, default=0.02, help="of the decoders' distance, if there is parsing")
    add("--cycle", **weight, default=3.0, help="of the cycle loss; paper: 10")
    add("--side", type=training.positive(int), default=22, metavar="PIXELS", help="of UCI's digits")
    add("--measure", type=training.from_zero(100, int), default=2, metavar="N",
        help="classifiers that learn from each set at the end; 0: nothing is measured")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    A, B = (Translator(settings.width) for _ in "AB")  # A makes MNIST of UCI, B UCI of MNIST
    width = settings.width * 3 // 2
    D_A, D_B = (Sequential(AddConstant(1.0), networks.patch_discriminator(1, width)) for _ in "AB")
    return {"A": A, "B": B, "D_A": D_A, "D_B": D_B,
            "average of A": ExponentialMovingAverage(A, decay=0.99),
            "average of B": ExponentialMovingAverage(B, decay=0.99)}


class Pictures:
    """Rows of UCI's digits: as they are, translated, parsed, there and back; then MNIST's."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        A, B = (parts[f"average of {name}"].network for name in "AB")
        uci, mnist = datasets.uci_digits(settings.side), datasets.mnist("held-out")
        self.kinds = [(uci.images[:SHOWN], A, B), (mnist.images[:SHOWN], B, A)]

    def draw(self, path: Path) -> None:
        rows = []
        for images, there, back in self.kinds:
            made, ink = translate(there, from_bytes(images))
            rows += [from_bytes(images), made, ink * 2.0 - 1, translate(back, made)[0]]
        plots.save_grid(numpy.concatenate(rows), path, columns=SHOWN)


pictures = Pictures


def translate(there: Translator, images: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The translations, and the ink that the parser finds in the images, bool."""
    return (training.apply(lambda x: there(x)[0], images),
            training.apply(lambda x: there(x)[1], images) > 0)


def train(settings: argparse.Namespace) -> None:
    uci, parts = datasets.uci_digits(settings.side), build(settings)
    A, B, D_A, D_B, average_a, average_b = parts.values()
    game, batch = losses.LeastSquares(), settings.batch_size
    adam_g = Adam(A.parameters() + B.parameters(), settings.lr)
    adam_d = Adam(D_A.parameters() + D_B.parameters(), settings.d_lr)
    xs = Batches(uci.images, batch_size=batch, seed=settings.seed)
    ys = Batches(datasets.mnist().images, batch_size=batch, seed=settings.seed + 1)
    pool_x, pool_y = (training.ImagePool(POOL, (28, 28, 1)) for _ in "xy")
    learners = {"Adam of A and B": adam_g, "Adam of D": adam_d, "batches of UCI": xs,
                "batches of MNIST": ys, "pool of UCI": pool_x, "pool of MNIST": pool_y}
    draw = Pictures(settings, parts).draw
    run = training.Run(settings, parts | learners, draw, reading=game.reading)
    for _ in run:
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling
        x, y = Tensor(from_bytes(next(xs)[0])), Tensor(from_bytes(next(ys)[0]))
        (fake_y, x_logits), (fake_x, y_logits) = A(x), B(y)

        # (1) Update D_A and D_B: minimise (D(real) - 1)^2 / 2 + D(translated)^2 / 2.
        d_loss = (game.discriminator(D_A(x), D_A(pool_x.exchange(fake_x)))
                  + game.discriminator(D_B(y), D_B(pool_y.exchange(fake_y))))
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()

        # (2) Update A and B: minimise (D(translated) - 1)^2 / 2, what round trips lose, and what
        # the parsers don't find: the mask of x in x and in its translation.
        with D_A.frozen(), D_B.frozen():
            g_loss = game.generator(D_A(fake_x)) + game.generator(D_B(fake_y))
        (back_x, fake_y_logits), (back_y, fake_x_logits) = B(fake_y), A(fake_x)
        cycle_loss = abs(back_x - x).mean() + abs(back_y - y).mean()
        parsing = parsing_loss(x_logits, x) + parsing_loss(y_logits, y)
        if not settings.source_only:
            parsing = parsing + parsing_loss(fake_y_logits, x) + parsing_loss(fake_x_logits, y)
        objective = g_loss + settings.cycle * cycle_loss + settings.parsing * parsing
        distance = A.distance() + B.distance()
        if settings.parsing:
            objective = objective + settings.sharing * distance
        adam_g.zero_grad()
        objective.backward()
        adam_g.step()
        average_a.update()
        average_b.update()
        run.log(losses={"D loss": d_loss, "G loss": g_loss},
                structure={"cycle loss": cycle_loss, "parsing loss": parsing, "distance": distance})
    if run.finished and settings.measure:
        made, found = translate(average_a.network, from_bytes(uci.images))
        metrics.report_translations(settings, uci, made, found, ink=INK)


if __name__ == "__main__":
    training.main(options(), train)
