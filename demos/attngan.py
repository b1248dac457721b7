"""AttnGAN: a character from its description, word by word.

Xu et al., "AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial
Networks", 2018. After a sketch, each place of the picture attends to words of the caption t. And M,
a matcher taught by true pictures, tells G how probable it is, p, that picture and words are a pair:

    max over D of  E log D(x, t) + E log(1 - D(G(z, t), t))              twice, for two stages
    min over G of  - E log D(G(z, t), t) - matching E log p(t | G(z, t)) p(G(z, t) | t)  (eq. 3)

Departures: M learns from these pictures alone, and words alone; D's answer is a projection (Miyato
and Koyama 2018); R1. `--attention 0` tells all places the same sentence, `--matching 0` leaves out
p, `--text CAPTION` has the run in --out draw captions of your own. At the end, for colours that
never came together in training: how often what is named is there and a caption is found among 100,
by an independent classifier and by M, and how far words attend to their parts.
"""

import argparse
from typing import Any

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, training
from tinygan.attention import WordAttention
from tinygan.backend import random_normal
from tinygan.datasets import from_bytes, halved
from tinygan.functions import concatenate, where
from tinygan.layers import Conv2d, Dense, Module, ReLU, Reshape, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

WORDS, FEATURES, BETAS = 1 + len(datasets.WORDS), 64, (0.0, 0.99)
MENTIONED = 0.95, 0.95, 0.95, 0.5  # how often each of four captions names an attribute


class Generator(Module):
    """Noise (N, 2 or more, Z), captions (N, T), M's words (N, T, FEATURES) to sketches
    (N, 8, 8, 3), pictures (N, 16, 16, 3), c's divergence, and attention to words (N, 64, T)."""

    def __init__(self, settings: argparse.Namespace):
        latent, width, self.attends = settings.latent, settings.width, settings.attention
        self.condition = networks.ConditioningAugmentation(WORDS, latent)
        self.first = Sequential(                                                # (N, 2Z)
            Dense(2 * latent, 4 * 4 * 3 * width, bias=False), Reshape(4, 4, 3 * width),
            BatchNorm(3 * width), ReLU(),                                       # (N, 4, 4, 3W)
            *networks.doubled(3 * width, 2 * width))                            # (N, 8, 8, 2W)
        self.sketch = Sequential(Conv2d(2 * width, 3, kernel=3, padding=1), Tanh())
        self.attention = WordAttention(FEATURES, 2 * width)                     # (N, 8, 8, 2W)
        self.second = Sequential(                                               # (N, 8, 8, 4W)
            Conv2d(4 * width, 2 * width, kernel=3, padding=1, bias=False), BatchNorm(2 * width),
            ReLU(), networks.ResidualBlock(2 * width, normalized=False),        # (N, 8, 8, 2W)
            *networks.doubled(2 * width, width), Conv2d(width, 3, kernel=3, padding=1), Tanh())

    def forward(self, noise: Tensor, captions: Any, words: Tensor) -> tuple[Tensor, ...]:
        c, divergence = self.condition(captions, noise[:, 1])
        h = self.first(concatenate([noise[:, 0], c], axis=1))
        present = captions > 0
        if not self.attends:  # as if the sentence were the only word
            words = where(present[..., None], words, -1e9).max(axis=1, keepdims=True)
            present = present[:, :1]
        context, table = self.attention(h, words, present)
        return self.sketch(h), self.second(concatenate([h, context], axis=3)), divergence, table


def options() -> argparse.ArgumentParser:
    parser = training.parser("attngan", __doc__, steps=4000, batch_size=24, latent=16, lr=2e-3,
                             d_lr=1e-3, r1=0.5, width=16, measure=2000)
    add = parser.add_argument
    add("--first", type=training.from_zero(1), default=0.25, help="share of the steps for M")
    add("--matching", type=training.from_zero(), default=2.0, help="weight of p in G's loss")
    add("--attention", type=int, choices=(0, 1), default=1, help="0: a sentence, no words")
    add("--kl", type=training.from_zero(), default=0.002, help="weight of the divergence of c")
    metrics.text_option(parser)
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    G = Generator(settings)
    return {"matcher": networks.Matcher(WORDS, FEATURES // 2), "G": G,
            "D I": networks.CaptionDiscriminator(WORDS, settings.width, 1),
            "D II": networks.CaptionDiscriminator(WORDS, settings.width, 2),
            "average of G": ExponentialMovingAverage(G, decay=0.995)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> metrics.WordPictures:
    matcher, G = parts["matcher"], parts["average of G"].network

    def generate(stages: list[str], noise: Tensor, captions: Any) -> tuple[Tensor, ...]:
        made = G(noise, captions, matcher.reader.words(captions))
        return made[len(stages) - 1], *made[2:]

    return metrics.WordPictures(generate, ["I", "II"], settings.latent, seed=settings.seed,
                                matcher=matcher, attends=bool(settings.attention))


def train(settings: argparse.Namespace) -> None:
    parts, game = build(settings), losses.NonSaturating()
    matcher, G, *Ds, average = parts.values()
    shape = settings.batch_size, 3, settings.latent  # of noise, as WordPictures has it
    images, captions, *_ = datasets.captioned(mentioned=MENTIONED, seed=settings.seed)
    batches = datasets.Batches(images, captions, batch_size=shape[0], seed=settings.seed)
    adam_m = Adam(matcher.parameters(), settings.lr, betas=(0.9, 0.999))
    adam_g = Adam(G.parameters(), settings.lr, betas=BETAS)
    adam_d = Adam(Sequential(*Ds).parameters(), settings.d_lr, betas=BETAS)
    learners = {"Adam of M": adam_m, "Adam of G": adam_g, "Adam of D": adam_d, "batches": batches}
    drawn = pictures(settings, parts)
    run = training.Run(settings, parts | learners, drawn.draw, epoch=len(batches),
                       reading=f"Losses are sums over two stages, answers II's. {game.reading}")

    first = round(settings.first * settings.steps)
    for step in run:
        images, captions = next(batches)
        captions = captions[:, step % captions.shape[1]]  # one of those of each
        images = from_bytes(images)
        real = [Tensor(halved(images)), Tensor(images)]
        d_loss = g_loss = Tensor(0.0)
        answers = [(d_loss, g_loss)]
        if step <= first:
            # (0) Update M: minimise -log p(t | x) - log p(x | t) among the batch.
            adam_m.lr = settings.lr * min(1, 2 * (1 - (step - 1) / first))
            matching = losses.matching(matcher(real[1], captions))
            adam_m.zero_grad()
            matching.backward()
            adam_m.step()
        else:
            falling = min(1, 2 * (1 - (step - 1 - first) / (settings.steps - first)))
            adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling
            # (1) Update D: minimise -log D(x, t) - log(1 - D(G(z, t), t)), for both stages.
            with no_grad():
                words = matcher.reader.words(captions)
                *fake, _, _ = G(Tensor(random_normal(*shape)), captions, words)
            answers = [(D(x, captions), D(made, captions))
                       for D, x, made in zip(Ds, real, fake, strict=True)]
            d_loss = objective = sum(game.discriminator(*pair) for pair in answers)
            if settings.r1 and step % losses.R1_EVERY == 0:
                penalties = (losses.r1_penalty(lambda x, D=D, t=captions: D(x, t), x)
                             for D, x in zip(Ds, real, strict=True))
                objective = d_loss + (settings.r1 * losses.R1_EVERY) * sum(penalties)
            adam_d.zero_grad()
            objective.backward()
            adam_d.step()

            # (2) Update G: minimise -log D(G) - matching log p(t | G) p(G | t) + kl KL(c).
            with Sequential(*Ds, matcher).frozen():
                *fake, divergence, _ = G(Tensor(random_normal(*shape)), captions, words)
                logits = [D(made, captions) for D, made in zip(Ds, fake, strict=True)]
                g_loss = sum(map(game.generator, logits))
                matching = losses.matching(matcher(fake[1], captions))
                objective = g_loss + settings.matching * matching + settings.kl * divergence
            adam_g.zero_grad()
            objective.backward()
            adam_g.step()
            average.update()
        run.log(losses={"D loss": d_loss, "G loss": g_loss}, matcher={"M loss": matching},
                answers=game.answers(*answers[-1]))

    if run.finished:
        metrics.report_words(settings, drawn)


if __name__ == "__main__":
    training.main(options(), train, instead={"text": metrics.draw_texts})
