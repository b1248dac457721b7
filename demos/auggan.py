"""AugGAN: translated images keep their structure, so that their labels train a recogniser.

(docstring to come)
"""

import argparse
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, plots, training
from tinygan.backend import xp
from tinygan.datasets import Dataset, from_bytes, to_bytes
from tinygan.functions import abs, concatenate, log, softplus
from tinygan.layers import Module, Sequential
from tinygan.optimizers import Adam, ExponentialMovingAverage

INK = 0.0  # pixels above are ink


class Translator(Module):
    """Images (N, 28, 28, 1) in the other domain's hand, and logits of where there is ink."""

    def __init__(self, width: int):
        self.encoder = networks.image_encoder(1, width)                             # shared
        self.painter = networks.image_decoder(1, width)
        self.parser = Sequential(*networks.image_decoder(1, width).layers[:-1])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(images)
        return self.painter(features), self.parser(features)

    def distance(self) -> Tensor:
        """-ln cos^2 of the angle between the two decoders' weights: 0 where they are parallel."""
        pairs = [*zip(self.painter.parameters(), self.parser.parameters(), strict=True)]
        dot, paint, parse = (sum((x * y).sum() for x, y in p)
                             for p in (pairs, [(x, x) for x, _ in pairs], [(y, y) for _, y in pairs]))
        return log(paint) + log(parse) - log(dot**2)


def masked(logits: Tensor, images: Tensor) -> Tensor:
    """Cross-entropy of the logits of ink against where the images have it."""
    ink = (images.data > INK).astype(numpy.float32)
    return (softplus(logits) - logits * ink).mean()


def options() -> argparse.ArgumentParser:
    parser = training.parser("auggan", __doc__, steps=1000, batch_size=16, lr=5e-4, d_lr=5e-4, width=16)
    add = parser.add_argument
    add("--parsing", type=training.from_zero(), default=5.0, metavar="WEIGHT", help="weight of parsing loss")
    add("--sharing", type=training.from_zero(), default=0.02, metavar="WEIGHT", help="weight of soft sharing")
    add("--cycle", type=training.from_zero(), default=3.0, metavar="WEIGHT", help="weight of cycle loss")
    add("--source-only", action="store_true", help="parse source only")
    add("--side", type=int, default=22, metavar="PIXELS", help="side")
    add("--measure", type=training.from_zero(100, int), default=2, metavar="N", help="classifiers")
    return parser


def build(settings):
    A, B = Translator(settings.width), Translator(settings.width)
    D_A, D_B = (networks.patch_discriminator(1, settings.width * 3 // 2) for _ in "AB")
    return {"A to B": A, "B to A": B, "D of A": D_A, "D of B": D_B, "average": ExponentialMovingAverage(A, decay=0.99)}


def train(settings: argparse.Namespace) -> None:
    uci, mnist = datasets.uci_digits(settings.side), datasets.mnist()
    parts = build(settings)
    A, B, D_A, D_B, average = parts.values()
    game = losses.LeastSquares()
    adam_g = Adam(A.parameters() + B.parameters(), settings.lr)
    adam_d = Adam(D_A.parameters() + D_B.parameters(), settings.d_lr)
    batch = settings.batch_size
    batches_a, batches_b = (datasets.Batches(d.images, batch_size=batch, seed=settings.seed + i) for i, d in enumerate((uci, mnist)))
    pool_a, pool_b = (training.ImagePool(64, (28, 28, 1)) for _ in "AB")
    run = training.Run(settings, parts | {"Adam of the translators": adam_g, "Adam of D": adam_d, "uci": batches_a, "mnist": batches_b, "pool of A": pool_a, "pool of B": pool_b}, lambda path: None)
    run.draw = lambda path: draw(settings, parts, path)
    for step in run:
        adam_g.lr = settings.lr * min(1, 2 * run.time_left)
        adam_d.lr = settings.d_lr * min(1, 2 * run.time_left)
        a, b = (Tensor(from_bytes(next(x)[0])) for x in (batches_a, batches_b))
        (fake_b, mask_a), (fake_a, mask_b) = A(a), B(b)
        # (1)
        d_loss = (game.discriminator(D_A(a), D_A(pool_a.exchange(fake_a)))
                  + game.discriminator(D_B(b), D_B(pool_b.exchange(fake_b))))
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()
        # (2)
        with D_A.frozen(), D_B.frozen():
            g_loss = game.generator(D_A(fake_a)) + game.generator(D_B(fake_b))
        (back_a, mask_fb), (back_b, mask_fa) = B(fake_b), A(fake_a)
        cycle = abs(back_a - a).mean() + abs(back_b - b).mean()
        parsing = masked(mask_a, a) + masked(mask_b, b)
        if not settings.source_only:
            parsing = parsing + masked(mask_fb, a) + masked(mask_fa, b)
        distance = A.distance() + B.distance()
        objective = (g_loss + settings.cycle * cycle + settings.parsing * parsing
                     + (settings.sharing if settings.parsing else 0) * distance)
        adam_g.zero_grad()
        objective.backward()
        adam_g.step()
        average.update()
        run.log(losses={"D loss": d_loss, "G loss": g_loss, "cycle": cycle, "parsing": parsing, "distance": distance})
    if run.finished and settings.measure:
        figures(settings, parts, uci)


def draw(settings, parts, path):
    A, B, *_ , average = parts.values()
    x = from_bytes(datasets.uci_digits(settings.side).images[:16])
    y = from_bytes(datasets.mnist("held-out").images[:16])
    made = training.apply(lambda t: A(t)[0], x)
    mask = numpy.tanh(training.apply(lambda t: A(t)[1], x) / 2)
    back = training.apply(lambda t: B(t)[0], made)
    made2 = training.apply(lambda t: B(t)[0], y)
    plots.save_grid(numpy.concatenate([x, made, mask, back, y, made2]), path, columns=16)


def figures(settings, parts, uci):
    A, B, *_ , average = parts.values()
    x = from_bytes(uci.images)
    judge = metrics.shipped_classifier()
    rows = {}
    ink = lambda i: i > INK
    out = {}
    for name, net in ("translated", A), ("average", average.network):
        made = training.apply(lambda t: net(t)[0], x)
        iou = lambda p, q: ((p & q).sum((1, 2, 3)) / numpy.maximum(1, (p | q).sum((1, 2, 3)))).mean()
        parsed = training.apply(lambda t: net(t)[1], x)
        _, digits = judge.see(made)
        rows[name] = {"judge": float((digits == uci.labels).mean()), "IoU": float(iou(ink(made), ink(x))), "parse IoU": float(iou(parsed > 0, ink(x))), "ink": float(ink(made).mean())}
        out[name] = to_bytes(made)
    rows["mnist"] = {"ink": float(ink(from_bytes(datasets.mnist().images)).mean())}
    rows["uci"] = {"ink": float(ink(x).mean())}
    training.report(settings.out, rows, out)


if __name__ == "__main__":
    training.main(options(), train)
