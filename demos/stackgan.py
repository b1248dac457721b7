"""StackGAN: a character from its description, first a small sketch, then the picture.

Zhang et al., "StackGAN: Text to Photo-Realistic Image Synthesis with Stacked Generative Adversarial
Networks", 2017. Stage I draws at 8 x 8 pixels what the caption t says; stage II reads t again and
adds at 16 x 16 what the sketch lacks. G gets a caption as a random point c near to what it says:
conditioning augmentation. D gets pairs, and a true picture x with another's caption t' is as wrong
as a generated one:

    max over D of  E log D(x, t) + E log(1 - D(G(c), t)) / 2 + E log(1 - D(x, t')) / 2
    min over G of  - E log D(G(c), t) + kl KL(N(mean(t), variance(t)) || N(0, 1))    (eq. 3 to 6)

Departures: the readers of captions learn with G and D, D's answer is a projection (Miyato and
Koyama 2018), R1. `--text CAPTION` has the run in --out draw a caption of your own. At the end, for
captions with colours of hair, clothes and hat that never came together in training: how often what
they name is there; how far pictures are from real ones; how much those of one caption vary.
"""

import argparse
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, plots, training
from tinygan.backend import random_normal, xp
from tinygan.datasets import from_bytes, halved
from tinygan.functions import broadcast_to, concatenate
from tinygan.layers import Conv2d, ConvTranspose2d, Dense, Module, ReLU, Reshape, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage

WORDS, BETAS = 1 + len(datasets.WORDS), (0.0, 0.99)


class Stage(Module):
    """What was there before, captions (N, T) and noise (N, Z) to pictures (N, S, S, 3).

    Before stage I there is z (N, Z), before stage II the sketch (N, 8, 8, 3): it passes the
    entrance, c is put beside it, at every pixel. The divergence of c comes with the pictures.
    """

    def __init__(self, settings: argparse.Namespace, entrance: Module, layers: Module):
        self.condition = networks.ConditioningAugmentation(WORDS, settings.latent)
        self.random = settings.augmentation
        self.entrance, self.layers = entrance, layers

    def forward(self, before: Tensor, captions: Any, noise: Tensor) -> tuple[Tensor, Tensor]:
        c, divergence = self.condition(captions, noise * self.random)
        x = self.entrance(before)
        if x.ndim == 4:
            c = broadcast_to(c[:, None, None], (*x.shape[:3], c.shape[1]))
        return self.layers(concatenate([x, c], axis=x.ndim - 1)), divergence


def twice(inputs: int, outputs: int) -> list[Module]:
    """(N, H, W, inputs) to (N, 2H, 2W, outputs)."""
    layer = ConvTranspose2d(inputs, outputs, kernel=4, stride=2, padding=1, bias=False)
    return [layer, BatchNorm(outputs), ReLU()]


def stage_one(settings: argparse.Namespace) -> Stage:
    width, at_once = settings.width, settings.stages == 1
    return Stage(settings, Sequential(), Sequential(                            # (N, 2Z)
        Dense(2 * settings.latent, 4 * 4 * 3 * width, bias=False), Reshape(4, 4, 3 * width),
        BatchNorm(3 * width), ReLU(), *twice(3 * width, 2 * width),             # (N, 8, 8, 2W)
        *(twice(2 * width, width) if at_once else []),
        Conv2d(width if at_once else 2 * width, 3, kernel=3, padding=1), Tanh(),  # (N, S, S, 3)
    ))


def stage_two(settings: argparse.Namespace) -> Stage:
    width, inputs = settings.width, settings.width + settings.latent
    entrance = Sequential(Conv2d(3, width, kernel=3, padding=1, scale=0.3), ReLU())
    return Stage(settings, entrance, Sequential(                                # (N, 8, 8, W + Z)
        Conv2d(inputs, 2 * width, kernel=3, padding=1, bias=False), BatchNorm(2 * width), ReLU(),
        networks.ResidualBlock(2 * width, normalized=False),                    # (N, 8, 8, 2W)
        *twice(2 * width, width), Conv2d(width, 3, kernel=3, padding=1), Tanh(),  # (N, 16, 16, 3)
    ))


def generate(stages: list[Module], noise: Tensor, captions: Any) -> tuple[Tensor, Tensor]:
    """What the last stage makes of noise (N, 3, Z): z, and what c of each stage is made with."""
    x = noise[:, 0]
    for number, G in enumerate(stages, 1):
        x, divergence = G(x, captions, noise[:, number])
    return x, divergence


def options() -> argparse.ArgumentParser:
    parser = training.parser("stackgan", __doc__, steps=5000, batch_size=24, latent=16, lr=2e-3,
                             d_lr=2e-3, r1=0.5, width=16, measure=2000)
    add = parser.add_argument
    add("--stages", type=int, choices=(1, 2), default=2, help="1: stage I alone, at 16 x 16")
    add("--first", type=training.from_zero(1), default=0.4, help="share of the steps for stage I")
    add("--mismatched", type=int, choices=(0, 1), default=1, help="0: no others' captions for D")
    add("--augmentation", type=int, choices=(0, 1), default=1, help="0: c is the mean")
    add("--kl", type=training.from_zero(), default=0.005, help="weight of the divergence of c")
    add("--text", metavar="CAPTION", help="do not train: draw this with the run in --out")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    parts = {}
    for name, stage in [("I", stage_one), ("II", stage_two)][: settings.stages]:
        G, halvings = stage(settings), 1 if name == "I" and settings.stages == 2 else 2
        D = networks.CaptionDiscriminator(WORDS, settings.width, halvings)
        average = ExponentialMovingAverage(G, decay=0.995)
        parts |= {f"G {name}": G, f"D {name}": D, f"average of G {name}": average}
    return parts


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> metrics.CaptionPictures:
    averages = [part.network for name, part in parts.items() if "average" in name]
    return metrics.CaptionPictures(generate, averages, settings.latent, seed=settings.seed)


def train(settings: argparse.Namespace) -> None:
    parts, game = build(settings), losses.NonSaturating()
    data = datasets.captioned(seed=settings.seed)
    batches = datasets.Batches(
        data.images, data.tokens, batch_size=settings.batch_size, seed=settings.seed)
    for name in [name for name in parts if name[:2] in ("G ", "D ")]:
        rate = settings.lr if name[0] == "G" else settings.d_lr
        parts[f"Adam of {name}"] = Adam(parts[name].parameters(), rate, betas=BETAS)
    run = training.Run(settings, parts | {"batches": batches}, pictures(settings, parts).draw,
                       reading=game.reading, epoch=len(batches))
    first = settings.steps if settings.stages == 1 else round(settings.first * settings.steps)

    for step in run:
        name, past = ("I", step / first) if step <= first else (
            "II", (step - first) / (settings.steps - first))
        G, D, average, adam_g, adam_d = (parts[f"{part} {name}"] for part in (
            "G", "D", "average of G", "Adam of G", "Adam of D"))
        adam_g.lr, adam_d.lr = (rate * min(1, 2 - 2 * past) for rate in (settings.lr, settings.d_lr))
        images, captions = next(batches)
        captions = captions[:, step % captions.shape[1]]  # one of those of each
        images = from_bytes(images)
        real = Tensor(halved(images) if name == "I" and settings.stages == 2 else images)

        def draw() -> tuple[Tensor, Tensor]:
            before = [parts["average of G I"].network] if name == "II" else []
            noise = Tensor(random_normal(settings.batch_size, 3, settings.latent))
            with Sequential(*before).frozen():  # what is done is done: only the last stage learns
                return generate([*before, G], noise, captions)

        # (1) Update D: minimise -log D(x, t) - log(1 - D(G(c), t)) / 2 - log(1 - D(x, t')) / 2.
        with no_grad():
            fake, _ = draw()
        real_logits, fake_logits = D(real, captions), D(fake, captions)
        wrong = [D(real, xp.roll(captions, 1, axis=0))] if settings.mismatched else []
        d_loss = objective = game.discriminator(real_logits, concatenate([fake_logits, *wrong]))
        if settings.r1 and step % losses.R1_EVERY == 0:
            penalty = losses.r1_penalty(lambda x: D(x, captions), real)
            objective = d_loss + (settings.r1 * losses.R1_EVERY) * penalty
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G: minimise -log D(G(c), t) + kl KL(N(mean(t), variance(t)) || N(0, 1)).
        with D.frozen():
            fake, divergence = draw()
            g_loss = game.generator(D(fake, captions))
            objective = g_loss + settings.kl * settings.augmentation * divergence
        adam_g.zero_grad()
        objective.backward()
        adam_g.step()
        average.update()
        run.log(losses={"D loss": d_loss, "G loss": g_loss}, divergence={"KL of c": divergence},
                answers=game.answers(real_logits, fake_logits))

    if run.finished:
        metrics.report_captions(settings, pictures(settings, parts))


def draw_text(settings: argparse.Namespace) -> None:
    """Write sixteen pictures of the caption into the folder of the run, as text.png."""
    words, path = datasets.tokens(settings.text), settings.out / "text.png"
    images = training.load(settings.out).pictures().images(numpy.tile(words, (16, 1)))
    plots.save_captioned(images, [settings.text], path)
    print(f"{settings.text}: {path}")


if __name__ == "__main__":
    training.main(options(), train, instead={"text": draw_text})
