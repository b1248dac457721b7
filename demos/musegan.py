"""MuseGAN: four voices at once, in the manner of Bach's chorales. Who makes them fit together?

Dong et al., "MuseGAN: Multi-track Sequential Generative Adversarial Networks for Symbolic Music
Generation and Accompaniment", 2018, has three answers (section "Modeling the Multi-track
Interdependency"): --model jamming, where each voice has its own generator, noise and critic;
composer, where one generator makes all voices and one critic hears them; and hybrid, a generator
for each voice, whose noise is in part shared and in part its own, and one critic. All play WGAN-GP,

    min over G, max over C of  E C(x) - E C(G(z)) - 10 E (|slope of C| - 1)^2.

At each step of a sixteenth a voice has one of 39 symbols: a pitch begins, a rest, or what sounds is
held. One of them must be chosen, which has no derivative: G plays the likeliest, and learns as if
it had played softmax (--output straight, for "straight-through", as in the authors' second paper,
2018). Departures: phrases of two bars; dense layers over beats; a critic told of pitch classes.
At the end: piano rolls and sound (samples.html, *.wav, *.mid), and figures beside Bach's.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, no_grad, plots, training
from tinygan.backend import random_normal, random_uniform, to_device, xp
from tinygan.datasets.chorales import BEAT, HOLD, LOWEST, REST, STEPS, SYMBOLS
from tinygan.functions import concatenate, reshape, softmax, stack
from tinygan.layers import Dense, LeakyReLU, Module, ReLU, Reshape, Sequential
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

VOICES, BEATS, BETAS, SHOWN = 4, STEPS // BEAT, (0.5, 0.9), 8
MODELS = {  # generators, numbers of z that they share, critics
    "composer": (1, 0, 1), "jamming": (VOICES, 0, VOICES), "hybrid": (VOICES, 32, 1)}


def dense(inputs: int, outputs: int) -> Dense:
    return Dense(inputs, outputs, scale=math.sqrt(2 / inputs))  # He et al. 2015


def neighbours(x: Tensor) -> Tensor:
    """Each beat beside the next: (N, B + 1, F) -> (N B, 2F)."""
    both = concatenate([x[:, :-1], x[:, 1:]], axis=2)
    return reshape(both, (-1, both.shape[2]))


class Player(Module):
    """One generator: z (N, latent) to rolls (N, 32, V, 39) of V voices."""

    def __init__(self, latent: int, width: int, voices: int, output: str):
        self.voices, self.output = voices, output
        self.borders = Sequential(  # what is between two beats, before the first, after the last
            Dense(latent, (BEATS + 1) * width, bias=False), Reshape(BEATS + 1, width),
            BatchNorm(width), ReLU())                                       # (N, 9, W)
        self.beats = Sequential(                                            # (8N, 2W)
            Dense(2 * width, 2 * width, bias=False), BatchNorm(2 * width), ReLU(),
            Dense(2 * width, BEAT * voices * SYMBOLS))                      # (8N, 4 V 39)
        self.never = to_device(numpy.zeros((1, STEPS, 1, SYMBOLS), dtype=numpy.float32))
        self.never[:, 0, :, HOLD] = -1e9  # at the first step there is nothing to hold

    def forward(self, z: Tensor) -> Tensor:
        x = self.beats(neighbours(self.borders(z)))
        return played(self.chosen(reshape(x, (-1, STEPS, self.voices, SYMBOLS)) + self.never))

    def chosen(self, logits: Tensor) -> Tensor:
        """Softmax, or one symbol with the derivative of softmax: Bengio et al. 2013."""
        if self.output == "gumbel" and self.training:  # as likely as softmax says (Jang et al. 2017)
            uniform = random_uniform(*logits.shape, low=1e-6, high=1 - 1e-6)
            logits = logits - xp.log(-xp.log(uniform))
        y = softmax(logits)
        if self.output == "softmax" and self.training:
            return y
        one = (y.data == y.data.max(axis=3, keepdims=True)).astype(y.dtype)
        return y + Tensor(one - y.data)


def played(symbols: Tensor) -> Tensor:
    """Symbols (N, T, V, 39) to rolls: what is held sounds as at the step before."""
    begins, hold = symbols[..., :HOLD], symbols[..., HOLD:]
    sounds = [begins[:, 0]]
    for t in range(1, STEPS):
        sounds.append(begins[:, t] + hold[:, t] * sounds[-1])
    sounding = stack(sounds, axis=1)
    return concatenate([sounding, hold * (1 - sounding[..., REST:])], axis=3)


class Band(Module):
    """All generators: z (N, shared + own + own + ...) to rolls (N, 32, 4, 39)."""

    def __init__(self, players: list[Player], shared: int, own: int):
        self.players, self.shared, self.own = players, shared, own

    def forward(self, z: Tensor) -> Tensor:
        starts = [self.shared + i * self.own for i in range(len(self.players))]
        rolls = [player(concatenate([z[:, : self.shared], z[:, start : start + self.own]], axis=1))
                 for player, start in zip(self.players, starts, strict=True)]
        return concatenate(rolls, axis=2)


class Critic(Module):
    """Rolls (N, 32, V, 39) of the voices of a slice to answers (N, 1)."""

    def __init__(self, width: int, heard: slice):
        self.heard, lowest = heard, LOWEST[heard]
        pitch = lowest[:, None] + numpy.arange(REST)
        told = numpy.zeros((len(lowest), SYMBOLS, 12 + len(lowest)), dtype=numpy.float32)
        told[:, :REST, :12] = pitch[..., None] % 12 == numpy.arange(12)  # the pitch classes
        for voice, semitones in enumerate(pitch - 60):
            told[voice, :REST, 12 + voice] = semitones / 12  # and how high each voice is
        self.told = to_device(told.reshape(len(lowest) * SYMBOLS, -1))
        self.steps = Sequential(dense(sum(self.told.shape), width), LeakyReLU())    # (32N, W)
        self.beats = Sequential(dense(BEAT * width, 2 * width), LeakyReLU())        # (8N, 2W)
        self.pairs = Sequential(dense(4 * width, 2 * width), LeakyReLU())           # (7N, 2W)
        self.exit = Dense((BEATS - 1) * 2 * width, 1)                               # (N, 1)

    def forward(self, rolls: Tensor) -> Tensor:
        n = len(rolls)
        x = reshape(rolls, (n * STEPS, -1))
        x = self.steps(concatenate([x, x @ self.told], axis=1))
        x = self.beats(reshape(x, (n * BEATS, -1)))
        x = self.pairs(neighbours(reshape(x, (n, BEATS, -1))))
        return self.exit(reshape(x, (n, -1)))
