"""AnoGAN: strange is what a generator of normal images cannot make.

Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker
Discovery", 2017. A GAN learns images of one digit. For an image x a latent z is sought by gradient
descent whose G(z) is near to x; with f, the last features of D, the score is

    A(x) = (1 - lambda) |x - G(z)|^2 + lambda |f(x) - f(G(z))|^2,  lambda = 0.1           (eq. 6)

and x - G(z) shows where x is strange (--image FILE: in your own picture). Departures: squares; the
search starts at the best of 1,000 random z (paper: --starts 1) and pays 0.3 |z|^2; D has R1. An
encoder E then learns to replace the search (f-AnoGAN, Schlegl et al. 2019). At the end: AUROC,
beside scores that need no network, and by pixel, with strokes of other digits pasted in.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy

from tinygan import Tensor, datasets, losses, metrics, networks, no_grad, plots, training
from tinygan.backend import random_normal, to_device
from tinygan.layers import Module, Parameter, Sequential
from tinygan.optimizers import Adam, ExponentialMovingAverage

LATENT_PENALTY = 0.3


def options() -> argparse.ArgumentParser:
    parser = training.parser(
        "anogan", __doc__, steps=1500, batch_size=32, latent=16, lr=4e-3, d_lr=2e-3, r1=0.3,
        width=12,
    )
    metrics.digits_option(parser)
    add = parser.add_argument
    add("--encode", type=training.from_zero(1), default=0.3, metavar="PART",
        help="share of the run, at its end, in which E learns; 0: it stays as it began")
    add("--search", type=training.from_zero(10_000, int), default=10, metavar="N",
        help="steps of the search for z")
    add("--starts", type=training.positive(int), default=1000, metavar="N",
        help="random z, from the best of which the search starts")
    add("--image", type=Path, metavar="FILE", help="mark what is strange in this picture instead")
    return parser


def build(settings: argparse.Namespace) -> dict[str, Any]:
    width, latent = settings.width, settings.latent
    G = networks.dcgan_generator(latent, 28, 1, width)
    D = networks.dcgan_discriminator(28, 1, width, max_shift=1, convolutions=2)
    E = networks.dcgan_discriminator(28, 1, width, outputs=latent, convolutions=2)  # (N, latent)
    return {"G": G, "D": D, "E": E, "average of G": ExponentialMovingAverage(G, decay=0.995)}


def pictures(settings: argparse.Namespace, parts: dict[str, Any]) -> training.Pictures:
    G = parts["average of G"].network
    return training.Pictures(G, settings.latent, seed=settings.seed)


def search(G: Module, images: numpy.ndarray, settings: argparse.Namespace) -> numpy.ndarray:
    """The G(z) nearest to each image: z minimises |x - G(z)|^2 + LATENT_PENALTY |z|^2, for all
    images at once, since the loss is a sum over them and each z has a gradient of its own."""
    random = numpy.random.default_rng(settings.seed)
    starts = random.standard_normal((settings.starts, settings.latent), dtype=numpy.float32)
    made = training.apply(G, starts).reshape(len(starts), -1)
    cost = (made**2).sum(axis=1) + LATENT_PENALTY * (starts**2).sum(axis=1)  # but for |x|^2
    best = (cost - 2 * images.reshape(len(images), -1) @ made.T).argmin(axis=1)
    x, z = Tensor(to_device(images)), Parameter(to_device(starts[best]))
    adam = Adam([z], 0.1, betas=(0.9, 0.999))
    with G.frozen():
        for step in range(settings.search):
            adam.lr = 0.1 if step < 0.7 * settings.search else 0.03
            loss = ((x - G(z)) ** 2).sum() + LATENT_PENALTY * (z**2).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
    return training.apply(G, z.numpy())


def judge(data: metrics.OneDigit, settings: argparse.Namespace, parts: dict[str, Any]) -> Any:
    """The scores of the judged images by name; draws what the paper shows."""
    (G, D, E, average), x = parts.values(), data.judged
    made = search(average.network, x, settings)
    residual = metrics.squared_distances(x, made)
    length = numpy.sqrt(metrics.squared_distances(x, -numpy.ones_like(x)))  # black is -1
    last_features = Sequential(*D.layers[:-1]).eval()
    by_features = metrics.squared_distances(*(training.apply(last_features, y) for y in (x, made)))
    encoded = metrics.squared_distances(x, training.apply(average.network, training.apply(E, x)))
    pasted, repaired = metrics.judge_strokes(
        data, settings.seed, lambda images: search(average.network, images, settings))
    kinds = [(x[kind], made[kind]) for kind in (~data.strange, data.strange)]
    plots.save_differences([*kinds, (pasted, repaired)], settings.out / "strange.png")
    return {
        "residual": residual, "residual / |x|": residual / length, "lambda 1": by_features,
        "lambda 0.1": 0.9 * residual + 0.1 * by_features,
        "last G, not the average": metrics.squared_distances(x, search(G.eval(), x, settings)),
        "encoder": encoded, "encoder / |x|": encoded / length}


def train_one(settings: argparse.Namespace) -> metrics.Scores | None:
    data, parts = metrics.one_digit(settings.digit), build(settings)
    G, D, E, average = parts.values()
    game, last = losses.NonSaturating(), round(settings.steps * (1 - settings.encode))
    adam_g = Adam(G.parameters(), settings.lr, betas=(0.0, 0.9))
    adam_d = Adam(D.parameters(), settings.d_lr, betas=(0.0, 0.9))
    adam_e = Adam(E.parameters(), 2e-3, betas=(0.9, 0.999))
    batches = datasets.Batches(data.normal, batch_size=settings.batch_size, seed=settings.seed)
    learners = {"Adam of G": adam_g, "Adam of D": adam_d, "Adam of E": adam_e, "batches": batches}
    run = training.Run(settings, parts | learners, pictures(settings, parts).draw,
                       reading="D and G play first; while E learns, they rest, at 0.")

    batch, latent = settings.batch_size, settings.latent
    for step in run:
        d_loss = g_loss = e_loss = Tensor(0.0)
        real = Tensor(next(batches)[0])
        if step <= last:
            falling = min(1, 2 * (1 - step / last))
            adam_g.lr, adam_d.lr = settings.lr * falling, settings.d_lr * falling
            # (1) Update D: minimise -log D(x) - log(1 - D(G(z))).
            with no_grad():
                fake = G(Tensor(random_normal(batch, latent)))
            d_loss = objective = game.discriminator(D(real), D(fake))
            if settings.r1 and step % losses.R1_EVERY == 0:
                objective = d_loss + (settings.r1 * losses.R1_EVERY) * losses.r1_penalty(D, real)
            adam_d.zero_grad()
            objective.backward()
            adam_d.step()
            # (2) Update G: minimise -log D(G(z)).
            with D.frozen():
                g_loss = game.generator(D(G(Tensor(random_normal(batch, latent)))))
            adam_g.zero_grad()
            g_loss.backward()
            adam_g.step()
            average.update()
        else:
            # (3) Update E: minimise |x - G(E(x))|^2; G stays as it is.
            adam_e.lr = 2e-3 * min(1, 2 * run.time_left / settings.encode)
            with average.network.frozen():
                e_loss = ((real - average.network(E(real))) ** 2).sum() / settings.batch_size
            adam_e.zero_grad()
            e_loss.backward()
            adam_e.step()
        run.log(losses={"D loss": d_loss, "G loss": g_loss}, encoder={"E loss": e_loss})
    return judge(data, settings, parts) if run.finished else None


def train(settings: argparse.Namespace) -> None:
    metrics.over_digits(settings, train_one)


def mark(settings: argparse.Namespace) -> None:
    """Draw a picture of one's own, the nearest that G makes, and where they differ."""
    x = datasets.from_bytes(datasets.picture(settings.image, 28, 1))[None]
    G = training.load(settings.out).parts["average of G"].network
    made = search(G, x, settings)
    plots.save_differences([(x, made)], settings.out / "marked.png")
    print(f"|x - G(z)|^2 is {metrics.squared_distances(x, made)[0]:.1f}: marked.png shows where")


if __name__ == "__main__":
    training.main(options(), train, instead={"image": mark})
