"""MuseGAN: four voices at once, in the manner of Bach's chorales. What makes them fit together?

Dong et al., "MuseGAN: Multi-track Sequential Generative Adversarial Networks for Symbolic Music
Generation and Accompaniment", 2018, gives three answers. --model jamming: each voice has its own
generator, noise and critic. composer: one generator makes all voices, one critic hears them all.
hybrid: a generator for each voice, with noise that is in part shared, and one critic. WGAN-GP:

    min over G, max over C of  E C(x) - E C(G(z)) - 10 E (|slope of C at u| - 1)^2

At each step, a sixteenth, each voice has one of 39 symbols: a pitch begins, it rests, or it holds
what sounds. Choosing one has no derivative, so G plays one and learns as if softmax had been played
(a straight-through estimator, like the binary neurons of the authors' second paper, 2018). At first
it is a random one, as likely as softmax says, then ever more the likeliest. Departures: two bars,
one key, small networks. At the end: figures beside Bach's; samples.html to see and to hear.
"""

import argparse
import math
from typing import Any

from tinygan import Tensor, datasets, losses, metrics, no_grad, training
from tinygan.backend import random_normal, random_uniform, xp
from tinygan.datasets.chorales import BEAT, STEPS, SYMBOLS
from tinygan.functions import concatenate, softmax
from tinygan.layers import Conv2d, Dense, Flatten, LeakyReLU, Module, ReLU, Reshape, Sequential
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

VOICES, BEATS, BETAS, PENALTY, LEAST = 4, STEPS // BEAT, (0.5, 0.9), 10.0, 0.2
MODELS = {  # generators, whether they share half of z, critics; four are half as wide as one
    "composer": (1, 0, 1), "jamming": (4, 0, 4), "hybrid": (4, 1, 1),
    "shared-noise": (4, 1, 4), "one-critic": (4, 0, 1)}


def layer(places: int, inputs: int, outputs: int, joined: int = 1) -> list[Module]:
    """Dense at each place in time, or at each two that follow one another, joined.

    (N, places, ..., inputs) -> (N, places - joined + 1, 1, outputs). Time goes down an image that
    is as wide as the kernel: if that is two, each pixel has half of a place's numbers.
    """
    parts, scale = inputs // joined, math.sqrt(2 / (joined * inputs))  # He et al. 2015
    return [Reshape(places, joined, parts), Conv2d(parts, outputs, kernel=joined, scale=scale)]


def generator(latent: int, width: int, voices: int) -> Sequential:
    """z (N, latent) to logits of symbols (N, 32, V, 39), by way of the borders of the beats."""
    wide = 2 * width
    return Sequential(
        Dense(latent, (BEATS + 1) * width), Reshape(BEATS + 1, width), BatchNorm(width), ReLU(),
        *layer(BEATS + 1, width, wide, joined=2), BatchNorm(wide), ReLU(),      # (N, 8, 1, 2W)
        *layer(BEATS, wide, wide), BatchNorm(wide), ReLU(),                     # (N, 8, 1, 2W)
        *layer(BEATS, wide, BEAT * voices * SYMBOLS), Reshape(STEPS, voices, SYMBOLS),
    )


def critic(width: int, voices: int) -> Sequential:
    """Rolls (N, 32, V, 39) to answers (N, 1), eighth note by eighth note."""
    wide, eighths = 2 * width, STEPS // 2
    return Sequential(
        *layer(eighths, 2 * voices * SYMBOLS, width), LeakyReLU(),              # (N, 16, 1, W)
        *layer(eighths, width, wide, joined=2), LeakyReLU(),                    # (N, 15, 1, 2W)
        *layer(eighths - 1, wide, wide, joined=2), LeakyReLU(),                 # (N, 14, 1, 2W)
        Flatten(), Dense((eighths - 2) * wide, 1),
    )


class Band(Module):
    """All generators: z (N, shared + own + own + ...) to rolls (N, 32, 4, 39)."""

    def __init__(self, generators: list[Module], shared: int, own: int, output: str):
        self.generators, self.shared, self.own, self.output = generators, shared, own, output
        self.latent, self.chance = shared + own * len(generators), 0.0

    def forward(self, z: Tensor) -> Tensor:
        starts = range(self.shared, self.latent, self.own)
        logits = [play(concatenate([z[:, : self.shared], z[:, start : start + self.own]], axis=1))
                  for play, start in zip(self.generators, starts, strict=True)]
        return datasets.performed(self.chosen(concatenate(logits, axis=2)))

    def chosen(self, logits: Tensor) -> Tensor:
        if self.training and self.chance:  # with chance 1 as likely as softmax says (Gumbel 1954)
            uniform = random_uniform(*logits.shape, low=1e-6, high=1 - 1e-6)
            logits = logits - self.chance * xp.log(-xp.log(uniform))
        y = softmax(logits)
        if self.training and self.output == "softmax":
            return y
        one = (y.data == y.data.max(axis=3, keepdims=True)).astype(y.dtype)
        return y + Tensor(one - y.data)  # the numbers of one, the derivative of y


def options() -> argparse.ArgumentParser:
    parser = training.parser("musegan", __doc__, steps=1200, batch_size=32, latent=64, lr=1e-3,
                             d_lr=1e-3, d_steps=1, width=128)
    parser.add_argument("--model", choices=MODELS, default="composer", help="who plays and judges; "
        "shared-noise and one-critic: jamming with that alone of hybrid")
    parser.add_argument("--output", choices=("fading", "straight", "gumbel", "softmax"),
        default="fading", help="in training: more and more the likeliest, it alone, any, or a mix")
    parser.add_argument("--measure", type=training.from_zero(10_000, int), default=500, metavar="N",
        help="phrases to measure at the end; 0: neither figures nor sound")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    players, shared, critics = MODELS[settings.model]
    shared = settings.latent // 2 * shared
    width_g, width_c = (settings.width // math.isqrt(count) for count in (players, critics))
    G = Band([generator(settings.latent, width_g, VOICES // players) for _ in range(players)],
             shared, settings.latent - shared, settings.output)
    C = Sequential(*(critic(width_c, VOICES // critics) for _ in range(critics)))
    return {"G": G, "critics": C, "average of G": ExponentialMovingAverage(G, decay=0.99)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> metrics.PianoRolls:
    return metrics.PianoRolls(parts["average of G"].network, parts["G"].latent, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    parts, game = build(settings), losses.Wasserstein()
    G, critics, average = parts.values()
    each = VOICES // len(critics.layers)  # voices that a critic hears
    judges = [(C, slice(i * each, (i + 1) * each)) for i, C in enumerate(critics.layers)]
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_c = Adam(critics.parameters(), settings.d_lr, betas=BETAS)
    bach, drawn = datasets.to_rolls(datasets.chorales()), pictures(settings, parts)
    batches = datasets.Batches(bach, batch_size=settings.batch_size, seed=settings.seed)
    learners = {"Adam of G": adam_g, "Adam of the critics": adam_c, "batches": batches}
    run = training.Run(settings, parts | learners, drawn.draw, reading=game.reading)
    for _ in run:
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_c.lr = settings.lr * falling, settings.d_lr * falling
        # A little chance is left: without, short notes that do not fit come back.
        G.chance = {"fading": max(LEAST, run.time_left), "gumbel": 1.0}.get(settings.output, 0.0)

        # (1) Update the critics: minimise E C(G(z)) - E C(x) + 10 E (|slope of C at u| - 1)^2.
        for _ in range(settings.d_steps):
            real = Tensor(next(batches)[0].astype(xp.float32))
            with no_grad():
                fake = G(Tensor(random_normal(settings.batch_size, G.latent)))
            c_loss = sum(game.discriminator(C(real[:, :, v]), C(fake[:, :, v])) for C, v in judges)
            slope = sum(losses.gradient_penalty(C, real[:, :, v], fake[:, :, v]) for C, v in judges)
            adam_c.zero_grad()
            (c_loss + PENALTY * slope).backward()
            adam_c.step()

        # (2) Update G: minimise -E C(G(z)).
        fake = G(Tensor(random_normal(settings.batch_size, G.latent)))
        with critics.frozen():
            g_loss = sum(game.generator(C(fake[:, :, v])) for C, v in judges)
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        average.update()
        run.log(losses={"G loss": g_loss}, estimate={"Wasserstein estimate": -c_loss})

    if run.finished and settings.measure:
        metrics.report_music(settings, drawn)


if __name__ == "__main__":
    training.main(options(), train)
