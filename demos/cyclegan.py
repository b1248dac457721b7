"""CycleGAN: from one kind of image to another and back, learned without a single pair.

Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", 2017.
G translates images x of one kind into the other kind, F translates images y of that kind back. D_Y
sees to it that G(x) looks like a y, D_X that F(y) looks like an x, but G might still answer any x
with any y. What ties G(x) to its x: F must find the way back, and G from F(y).

    min over G, F, max over D_X, D_Y of  L_GAN(G, D_Y) + L_GAN(F, D_X)
        + cycle (E |F(G(x)) - x| + E |G(F(y)) - y|)                                       (eq. 3)

L_GAN has squares in place of logarithms, D also sees earlier translations (section 4), --identity
adds |G(y) - y| + |F(x) - x| (section 5.2). Departures: cycle is 3 (paper: --cycle 10); D learns
slower than G (paper: --d-lr 1e-3); three residual blocks, padding with blank paper in place of
reflection; G and F are judged by moving averages of their weights. The digits are UCI's and
MNIST's, whose labels serve to measure alone. At the end, for both directions: how many digits are
read right before and after, how much ink stays where it was, what a round trip loses.
"""

import argparse
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, plots, training
from tinygan.datasets import Pairs, from_bytes
from tinygan.layers import AddConstant, Sequential
from tinygan.optimizers import Adam, ExponentialMovingAverage

CHANNELS = {"digits": (1, 1), "emoji": (1, 3)}  # of the two kinds; of folders: 3
SHOWN = 12  # images of each kind in a picture


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "cyclegan", __doc__, steps=1000, batch_size=16, lr=1e-3, d_lr=2e-4, width=16, size=32)
    add = parser.add_argument
    add("--data", default="digits", metavar="NAME",
        help="digits (UCI's and MNIST's), emoji (outlines and colours) or folder:PATH, with two "
        "subfolders")
    add("--side", type=training.positive(int), default=24, metavar="PIXELS",
        help="what UCI's 8 x 8 pixels are enlarged to; at 28 translations break")
    add("--cycle", type=training.from_zero(), default=3.0, metavar="WEIGHT",
        help="of the cycle loss; paper: 10; 0: without")
    add("--identity", type=training.from_zero(), default=0.0, metavar="WEIGHT",
        help="of the identity loss, for kinds with as many channels")
    add("--pool", type=training.from_zero(100_000, int), default=64, metavar="N",
        help="earlier translations from which half of D's come; paper: 50; 0: none")
    add("--measure", type=training.from_zero(1_000_000, int), default=2000, metavar="N",
        help="images of each kind to measure at the end; 0: none")
    return parser


def load(settings: argparse.Namespace, part: str = "train") -> Pairs:
    """The images of both kinds, uint8. Of UCI's few, all are learned from, and measured."""
    if settings.data == "digits":
        return Pairs(datasets.uci_digits(settings.side).images, datasets.mnist(part).images)
    if settings.data == "emoji":
        return datasets.unpaired_emoji() if part == "train" else datasets.emoji(part)
    if not settings.data.startswith("folder:"):
        raise datasets.DataError(f"unknown data {settings.data!r}: use digits, emoji, folder:PATH")
    return datasets.unpaired(settings.data, part, size=settings.size)


def build(settings: argparse.Namespace) -> dict[str, Any]:
    width, (first, second) = settings.width, CHANNELS.get(settings.data, (3, 3))
    if settings.identity and first != second:
        raise training.UsageError(f"--identity needs kinds of as many channels: {settings.data} "
                                  f"has {first} and {second}")
    if settings.size % 4:
        raise training.UsageError(f"--size {settings.size} is not a multiple of 4")
    empty = 1.0 if settings.data == "digits" else -1.0  # paper becomes 0, as the padding is

    def translator(inputs: int, outputs: int) -> Sequential:
        return Sequential(AddConstant(empty), networks.image_encoder(inputs, width),
                          networks.image_decoder(outputs, width))

    def judge(inputs: int) -> Sequential:
        return Sequential(AddConstant(empty),
                          networks.patch_discriminator(inputs, width * 3 // 2))

    G, F = translator(first, second), translator(second, first)
    return {
        "G": G, "F": F, "D_X": judge(first), "D_Y": judge(second),
        "average of G": ExponentialMovingAverage(G, decay=0.995),
        "average of F": ExponentialMovingAverage(F, decay=0.995),
    }


class Pictures:
    """Three rows of one kind, x, G(x), F(G(x)), and three of the other, y, F(y), G(F(y))."""

    def __init__(self, settings: argparse.Namespace, parts: dict[str, Any]):
        self.G, self.F = (parts[f"average of {name}"].network for name in "GF")
        data = load(settings, "held-out")
        shown = min(SHOWN, *map(len, data))
        self.x, self.y = (from_bytes(kind[:shown]) for kind in data)

    def draw(self, path: Any) -> None:
        rows = [*round_trip(self.x, self.G, self.F), *round_trip(self.y, self.F, self.G)]
        most = max(row.shape[-1] for row in rows)  # grey becomes colour beside colour
        rows = [numpy.repeat(row, most // row.shape[-1], axis=-1) for row in rows]
        plots.save_grid(numpy.concatenate(rows), path, columns=len(self.x))


pictures = Pictures


def round_trip(images: numpy.ndarray, there: Any, back: Any) -> list[numpy.ndarray]:
    made = training.apply(there, images)
    return [images, made, training.apply(back, made)]


def train(settings: argparse.Namespace) -> None:
    data, parts = load(settings), build(settings)
    G, F, D_X, D_Y, average_g, average_f = parts.values()
    game = losses.LeastSquares()
    adam_g = Adam(G.parameters() + F.parameters(), settings.lr)
    adam_d = Adam(D_X.parameters() + D_Y.parameters(), settings.d_lr)
    batch = {"batch_size": settings.batch_size}
    xs = datasets.Batches(data.sources, **batch, seed=settings.seed)
    ys = datasets.Batches(data.targets, **batch, seed=settings.seed + 1)
    pool_x, pool_y = (training.ImagePool(settings.pool, kind.shape[1:]) for kind in data)
    learners = {"Adam of G and F": adam_g, "Adam of D": adam_d, "batches of x": xs,
                "batches of y": ys, "pool of x": pool_x, "pool of y": pool_y}
    run = training.Run(settings, parts | learners, pictures(settings, parts).draw,
                       reading=game.reading + " Both losses are sums of two, here: 1/2 for 1/4.")
    for _ in run:
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling
        x, y = Tensor(from_bytes(next(xs)[0])), Tensor(from_bytes(next(ys)[0]))
        fake_y, fake_x = G(x), F(y)

        # (1) Update D_X and D_Y: minimise (D(real) - 1)^2 / 2 + D(translated)^2 / 2.
        d_loss = (game.discriminator(D_X(x), D_X(pool_x.exchange(fake_x)))
                  + game.discriminator(D_Y(y), D_Y(pool_y.exchange(fake_y))))
        adam_d.zero_grad()
        d_loss.backward()
        adam_d.step()

        # (2) Update G and F: minimise (D(translated) - 1)^2 / 2 and what the round trips lose.
        with D_X.frozen(), D_Y.frozen():
            g_loss = game.generator(D_X(fake_x)) + game.generator(D_Y(fake_y))
        cycle_loss = abs(F(fake_y) - x).mean() + abs(G(fake_x) - y).mean()
        objective = g_loss + settings.cycle * cycle_loss
        if settings.identity:
            same = abs(G(y) - y).mean() + abs(F(x) - x).mean()
            objective = objective + settings.identity * same
        adam_g.zero_grad()
        objective.backward()
        adam_g.step()
        average_g.update()
        average_f.update()
        run.log(losses={"D loss": d_loss, "G loss": g_loss}, cycle={"cycle loss": cycle_loss})
    if run.finished and settings.measure:
        metrics.report_round_trips(settings, load(settings, "held-out"), average_g.network,
                                   average_f.network)


if __name__ == "__main__":
    training.main(options(), train)
