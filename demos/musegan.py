"""MuseGAN: four voices at once, in the manner of Bach's chorales. What makes them fit together?

Dong et al., "MuseGAN: Multi-track Sequential Generative Adversarial Networks for Symbolic Music
Generation and Accompaniment", 2018, gives three answers. --model jamming: each voice has its own
generator, noise and critic. composer: one generator makes all voices, one critic hears them all.
hybrid: a generator for each voice, with noise that is in part shared, and one critic. WGAN-GP:

    min over G, max over C of  E C(x) - E C(G(z)) - 10 E (|slope of C at u| - 1)^2

At each step, a sixteenth, each voice has one of 39 symbols: a pitch begins, it rests, or it holds
what sounds. Choosing one has no derivative, so G plays one and learns as if softmax had been played
(a straight-through estimator, as in the binary neurons of the authors' second paper, 2018). Which
one: at first a random one, as likely as softmax says, and ever more the likeliest: --output fading.
Departures: phrases of two bars, written in one key, and networks of a few layers over beats.

At the end: figures beside Bach's and those of voices that do not belong together; samples.html, a
page to see and to hear; what it plays as .wav and .mid.
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

VOICES, BEATS, BETAS, PENALTY = 4, STEPS // BEAT, (0.5, 0.9), 10.0
MODELS = {  # how many generators, whether they share half of z, how many critics
    "composer": (1, 0, 1), "jamming": (VOICES, 0, VOICES), "hybrid": (VOICES, 1, 1),
    "shared-noise": (VOICES, 1, VOICES), "one-critic": (VOICES, 0, 1)}


def convolution(inputs: int, outputs: int, kernel: int = 1) -> Conv2d:
    """Dense for each step or beat, or with kernel 2 for each two beats: time goes down the image.

    Where the kernel is 2 the image is two pixels wide, each with half of the features.
    """
    return Conv2d(inputs, outputs, kernel=kernel, scale=math.sqrt(2 / (kernel**2 * inputs)))


def generator(latent: int, width: int, voices: int) -> Sequential:
    """z (N, latent) to logits of symbols (N, 32, V, 39)."""
    return Sequential(
        Dense(latent, (BEATS + 1) * width, bias=False), Reshape(BEATS + 1, width),
        BatchNorm(width), ReLU(), Reshape(BEATS + 1, 2, width // 2),            # (N, 9, 2, W/2)
        convolution(width // 2, 2 * width, kernel=2), BatchNorm(2 * width), ReLU(),
        convolution(2 * width, BEAT * voices * SYMBOLS),                        # (N, 8, 1, 4V 39)
        Reshape(STEPS, voices, SYMBOLS),
    )


def critic(width: int, voices: int) -> Sequential:
    """Rolls (N, 32, V, 39) to answers (N, 1)."""
    return Sequential(
        Reshape(STEPS, 1, voices * SYMBOLS),
        convolution(voices * SYMBOLS, width), LeakyReLU(),                      # (N, 32, 1, W)
        Reshape(BEATS, 1, BEAT * width),
        convolution(BEAT * width, 2 * width), LeakyReLU(),                      # (N, 8, 1, 2W)
        Reshape(BEATS, 2, width),
        convolution(width, 2 * width, kernel=2), LeakyReLU(),                   # (N, 7, 1, 2W)
        Flatten(), Dense((BEATS - 1) * 2 * width, 1),
    )


class Band(Module):
    """All generators: z (N, shared + own + own + ...) to rolls (N, 32, 4, 39)."""

    def __init__(self, generators: list[Module], shared: int, own: int, output: str):
        self.generators, self.shared, self.own, self.output = generators, shared, own, output
        self.latent, self.chance = shared + own * len(generators), 0.0

    def forward(self, z: Tensor) -> Tensor:
        own = [z[:, start : start + self.own] for start in range(self.shared, self.latent, self.own)]
        logits = [player(concatenate([z[:, : self.shared], mine], axis=1))
                  for player, mine in zip(self.generators, own, strict=True)]
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
    parser = training.parser("musegan", __doc__, steps=2000, batch_size=32, latent=64, lr=1e-3,
                             d_lr=1e-3, d_steps=2, width=96)
    add = parser.add_argument
    add("--model", choices=MODELS, default="composer", help="who plays and who judges; shared-noise "
        "and one-critic are jamming with one half of hybrid each")
    add("--output", choices=("fading", "straight", "gumbel", "softmax"), default="fading",
        help="what is played in training: ever more the likeliest symbol, always the likeliest, "
        "a random one, or all at once, in softmax's shares")
    add("--measure", type=training.from_zero(10_000, int), default=500, metavar="N",
        help="phrases to measure at the end; 0: neither figures nor sound")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    players, shared, critics = MODELS[settings.model]
    shared = settings.latent // 2 * shared
    G = Band([generator(settings.latent, settings.width, VOICES // players)
              for _ in range(players)], shared, settings.latent - shared, settings.output)
    C = Sequential(*(critic(settings.width, VOICES // critics) for _ in range(critics)))
    return {"G": G, "critics": C, "average of G": ExponentialMovingAverage(G, decay=0.99)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> metrics.PianoRolls:
    return metrics.PianoRolls(parts["average of G"].network, parts["G"].latent, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    parts, game = build(settings), losses.Wasserstein()
    G, critics, average = parts.values()
    each = VOICES // len(critics.layers)  # what each critic hears
    heard = [slice(voice, voice + each) for voice in range(0, VOICES, each)]
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_c = Adam(critics.parameters(), settings.d_lr, betas=BETAS)
    batches = datasets.Batches(datasets.to_rolls(datasets.chorales()),
                               batch_size=settings.batch_size, seed=settings.seed)
    learners = {"Adam of G": adam_g, "Adam of the critics": adam_c, "batches": batches}
    drawn = pictures(settings, parts)
    run = training.Run(settings, parts | learners, drawn.draw, reading=game.reading)
    for _ in run:
        G.chance = {"fading": run.time_left, "gumbel": 1.0}.get(settings.output, 0.0)
        falling = min(1, 2 * run.time_left)
        adam_g.lr, adam_c.lr = settings.lr * falling, settings.d_lr * falling

        # (1) Update the critics: minimise E C(G(z)) - E C(x) + 10 E (|slope of C at u| - 1)^2.
        for _ in range(settings.d_steps):
            rolls = Tensor(next(batches)[0].astype(xp.float32))
            with no_grad():
                fake = G(Tensor(random_normal(settings.batch_size, G.latent)))
            c_loss = penalty = Tensor(0.0)
            for C, voices in zip(critics.layers, heard, strict=True):
                x, y = rolls[:, :, voices], fake[:, :, voices]
                c_loss = c_loss + game.discriminator(C(x), C(y))
                penalty = penalty + losses.gradient_penalty(C, x, y)
            adam_c.zero_grad()
            (c_loss + PENALTY * penalty).backward()
            adam_c.step()

        # (2) Update G: minimise -E C(G(z)).
        fake = G(Tensor(random_normal(settings.batch_size, G.latent)))
        with critics.frozen():
            g_loss = sum(game.generator(C(fake[:, :, voices]))
                         for C, voices in zip(critics.layers, heard, strict=True))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()
        average.update()
        run.log(losses={"G loss": g_loss}, estimate={"Wasserstein estimate": -c_loss})

    if run.finished and settings.measure:
        metrics.report_music(settings, drawn)


if __name__ == "__main__":
    training.main(options(), train)
