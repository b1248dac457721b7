"""StackGAN: a character from its description, first a small sketch, then the picture.

Zhang et al., "StackGAN: Text to Photo-Realistic Image Synthesis with Stacked Generative Adversarial
Networks", 2017. Stage I draws at 8 x 8 pixels what the caption t says, stage II reads t again and
adds what the sketch lacks. Conditioning augmentation: G gets a random point c near what t says. D
judges pairs, and a true picture x beside another's caption t' is as wrong as a generated one:

    max over D of  E log D(x, t) + E log(1 - D(G(c), t)) / 2 + E log(1 - D(x, t')) / 2
    min over G of  - E log D(G(c), t) + kl KL(N(mean(t), variance(t)) || N(0, 1))    (eq. 3 to 6)

Departures: readers of captions that learn with G and D, D's answer is a projection (Miyato and
Koyama 2018), R1. `--text CAPTION` has the run in --out draw captions of your own. At the end, for
colours of hair, clothes and hat that never came together in training: how often what is named is
there, the distance from real pictures, the variety. At 16 x 16 one stage, --stages 1, does better.
"""

import argparse
from typing import Any

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, training
from tinygan.backend import random_normal, xp
from tinygan.datasets import from_bytes, halved
from tinygan.functions import broadcast_to, concatenate
from tinygan.layers import Conv2d, Dense, Module, ReLU, Reshape, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

WORDS, BETAS = 1 + len(datasets.WORDS), (0.0, 0.99)


class Stage(Module):
    """What is there before, captions (N, T) and noise (N, Z) to pictures (N, S, S, 3).

    Before stage I that is z (N, Z), before stage II a sketch (N, 8, 8, 3). And: c's divergence.
    """

    def __init__(self, settings: argparse.Namespace, *layers: Module):
        self.condition = networks.ConditioningAugmentation(WORDS, settings.latent)
        self.random, self.layers = settings.augmentation, Sequential(*layers)

    def forward(self, before: Tensor, captions: Any, noise: Tensor) -> tuple[Tensor, Tensor]:
        c, divergence = self.condition(captions, noise * self.random)
        if before.ndim == 4:
            c = broadcast_to(c[:, None, None], (*before.shape[:3], c.shape[1]))
        return self.layers(concatenate([before, c], axis=before.ndim - 1)), divergence


def generate(stages: list[Module], noise: Tensor, captions: Any) -> tuple[Tensor, Tensor]:
    """What the last stage makes of noise (N, 3, Z): z, and what c of each stage is made with."""
    x = noise[:, 0]
    for number, G in enumerate(stages, 1):
        x, divergence = G(x, captions, noise[:, number])
    return x, divergence


def options() -> argparse.ArgumentParser:
    parser = training.parser("stackgan", __doc__, steps=6000, batch_size=24, latent=16, lr=2e-3,
                             d_lr=1e-3, r1=0.5, width=16, measure=2000)
    add = parser.add_argument
    add("--stages", type=int, choices=(1, 2), default=2, help="1: stage I alone, at 16 x 16")
    add("--first", type=training.from_zero(1), default=0.3, help="share of the steps for stage I")
    add("--mismatched", type=int, choices=(0, 1), default=1, help="0: no others' captions for D")
    add("--augmentation", type=int, choices=(0, 1), default=1, help="0: c is the mean")
    add("--kl", type=training.from_zero(), default=0.002, help="weight of the divergence of c")
    metrics.text_option(parser)
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    latent, width, alone, parts = settings.latent, settings.width, settings.stages == 1, {}
    one = Stage(settings,                                                       # (N, 2Z)
        Dense(2 * latent, 4 * 4 * 3 * width, bias=False), Reshape(4, 4, 3 * width),
        BatchNorm(3 * width), ReLU(),                                           # (N, 4, 4, 3W)
        *networks.doubled(3 * width, 2 * width),                                # (N, 8, 8, 2W)
        *(networks.doubled(2 * width, width) if alone else []),
        Conv2d(width if alone else 2 * width, 3, kernel=3, padding=1), Tanh())  # (N, S, S, 3)
    two = Stage(settings,                                                       # (N, 8, 8, 3 + Z)
        Conv2d(3 + latent, 2 * width, kernel=3, padding=1, bias=False), BatchNorm(2 * width),
        ReLU(), networks.ResidualBlock(2 * width, normalized=False),            # (N, 8, 8, 2W)
        *networks.doubled(2 * width, width),                                    # (N, 16, 16, W)
        Conv2d(width, 3, kernel=3, padding=1), Tanh())                          # (N, 16, 16, 3)
    for name, G in [("I", one), ("II", two)][: settings.stages]:
        D = networks.CaptionDiscriminator(WORDS, width, 2 if alone or G is two else 1)
        average = ExponentialMovingAverage(G, decay=0.995)
        parts |= {f"G {name}": G, f"D {name}": D, f"average of G {name}": average}
    return parts


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> metrics.CaptionPictures:
    averages = [part.network for name, part in parts.items() if "average" in name]
    return metrics.CaptionPictures(generate, averages, settings.latent, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    parts, game = build(settings), losses.NonSaturating()
    shape = settings.batch_size, 3, settings.latent  # of noise
    images, captions, *_ = datasets.captioned(seed=settings.seed)
    batches = datasets.Batches(images, captions, batch_size=shape[0], seed=settings.seed)
    adams = {f"Adam of {name}": Adam(part.parameters(), settings.lr, betas=BETAS)
             for name, part in parts.items() if isinstance(part, Module)}
    drawn = pictures(settings, parts)
    run = training.Run(settings, parts | adams | {"batches": batches}, drawn.draw,
                       reading=game.reading, epoch=len(batches))
    first = settings.steps if settings.stages == 1 else round(settings.first * settings.steps)

    for step in run:
        stage, start, end = ("I", 0, first) if step <= first else ("II", first, settings.steps)
        G, D, average = (parts[f"{name} {stage}"] for name in ("G", "D", "average of G"))
        adam_g, adam_d = adams[f"Adam of G {stage}"], adams[f"Adam of D {stage}"]
        falling = min(1, 2 * (end - step + 1) / (end - start))
        adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling
        before = drawn.stages[: len(stage) - 1]  # the average of stage I stays as it is
        images, captions = next(batches)
        captions = captions[:, step % captions.shape[1]]  # one of those of each
        images = from_bytes(images)
        real = Tensor(halved(images) if stage == "I" and settings.stages == 2 else images)

        # (1) Update D: minimise -log D(x, t) - log(1 - D(G(c), t)) / 2 - log(1 - D(x, t')) / 2.
        with no_grad():
            fake, _ = generate([*before, G], Tensor(random_normal(*shape)), captions)
        seen = D.features(real)
        real_logits, fake_logits = D.judge(seen, captions), D(fake, captions)
        wrong = [D.judge(seen, xp.roll(captions, 1, axis=0))] if settings.mismatched else []
        d_loss = objective = game.discriminator(real_logits, concatenate([fake_logits, *wrong]))
        if settings.r1 and step % losses.R1_EVERY == 0:
            penalty = losses.r1_penalty(lambda x, D=D, t=captions: D(x, t), real)
            objective = d_loss + (settings.r1 * losses.R1_EVERY) * penalty
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -log D(G(c), t) + kl KL(N(mean(t), variance(t)) || N(0, 1)).
        with D.frozen(), Sequential(*before).frozen():
            fake, divergence = generate([*before, G], Tensor(random_normal(*shape)), captions)
            g_loss = game.generator(D(fake, captions))
            objective = g_loss + settings.kl * settings.augmentation * divergence
        adam_g.zero_grad()
        objective.backward()
        adam_g.step()
        average.update()
        run.log(losses={"D loss": d_loss, "G loss": g_loss}, divergence={"KL of c": divergence},
                answers=game.answers(real_logits, fake_logits))

    if run.finished:
        metrics.report_captions(settings, drawn)


if __name__ == "__main__":
    training.main(options(), train, instead={"text": metrics.draw_texts})
