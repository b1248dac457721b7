"""The laboratory: watch a GAN learn points in the plane, lose some of their modes, and be cured.

In the view red are generated points, blue real ones; the colour beneath them is what D answers
there, and the arrows show where the gradient of its loss pushes G's points. The data are eight
Gaussians on a ring, 25 on a grid, or a spiral. G learns forty times as fast as D, outruns it, and
finds a few modes only, or runs from one to the next: mode collapse. Remedies, also together:

--pack 2      D sees points in pairs and so notices when they are all alike.
              Lin et al. 2018, "PacGAN".
--unrolled 5  G's loss is taken against the D of five steps later: what D would learn about
              a collapse tells G now (the arrows, too, then follow that later D). Metz et al.
              2017, "Unrolled Generative Adversarial Networks".
              Here with a D as fast as G: --lr 1e-3 --d-lr 1e-3 --steps 800.
--bend        D's first layer starts with its kinks where the data are, not all in the middle.
              No cure by itself; beside --pack it finds more of the grid. (No paper; ours.)
"""

import argparse
import copy
from pathlib import Path

import numpy

from tinygan import Tensor, datasets, grad, losses, no_grad, plots, training
from tinygan.backend import random_normal, to_device
from tinygan.functions import reshape, sigmoid
from tinygan.layers import Dense, LeakyReLU, Sequential
from tinygan.metrics import Modes, count_modes
from tinygan.optimizers import Adam

SHOWN, ARROWS = 480, 120  # points in the view, and how many of them with an arrow
CELLS = 64  # points along each side of the view at which D is asked
MEASURED = 2500  # samples, as in VEEGAN and PacGAN


def make_network(inputs: int, outputs: int, width: int) -> Sequential:
    """G: latents (N, latent) to points (N, 2).  D: packs (N, 2 pack) of points to logits (N, 1)."""
    return Sequential(Dense(inputs, width), LeakyReLU(0.2), Dense(width, width), LeakyReLU(0.2),
                      Dense(width, outputs))


def bend(first: Dense, packs: Tensor) -> None:
    """Start D's first layer with kinks where the data are: unit i is 0 at the i-th of packs.

    With biases of 0 all kinks pass through the middle, and D is slow to tell modes apart.
    """
    first.bias.data[:] = -(packs.data * first.weight.data.T).sum(axis=1)


def packed(points: Tensor, pack: int) -> Tensor:
    """Points (N, 2) side by side in packs (N / pack, 2 pack); all of one pack are of one kind."""
    return reshape(points, (-1, 2 * pack))


def generator_loss(
    game: losses.Minimax, D: Sequential, real: Tensor, fake: Tensor, steps: int, rate: float
) -> Tensor:
    """G's loss against the D that D would become in some more steps of gradient descent.

    w[0] = D's weights,  w[k+1] = w[k] - rate dL_D(w[k]; real, fake) / dw,  L_G(w[steps]; fake)

    (Metz et al. 2017, section 2.2). Every w[k] but the first depends on fake: create_graph
    records how, and the gradient runs through D's answer to what G does. D stays as it is.
    """
    later = copy.deepcopy(D) if steps else D
    layers = [layer for layer in later.layers if isinstance(layer, Dense)]
    for _ in range(steps):
        d_loss = game.discriminator(later(real), later(fake))
        weights = [weight for layer in layers for weight in (layer.weight, layer.bias)]
        slopes = grad(d_loss, weights, create_graph=True)
        moved = [weight - rate * slope for weight, slope in zip(weights, slopes, strict=True)]
        for layer, weight, bias in zip(layers, moved[::2], moved[1::2], strict=True):
            layer.weight, layer.bias = weight, bias
    with later.frozen():  # weights that no step has moved are constants for G
        return game.generator(later(fake))


def landscape(
    game: losses.Minimax, D: Sequential, generated: numpy.ndarray, pack: int, side: float
) -> numpy.ndarray:
    """D's answers (CELLS, CELLS) over the square from -side to side, from 0 to 1.

    With --pack, the mean over 16 packs that are filled up with generated points: what G climbs.
    """
    ticks = numpy.linspace(-side, side, CELLS, dtype=numpy.float32)
    points = numpy.stack(numpy.meshgrid(ticks, ticks), axis=2).reshape(-1, 2)
    others = generated[: 16 * (pack - 1)].reshape(16 if pack > 1 else 1, -1)
    packs = numpy.hstack([points.repeat(len(others), 0), numpy.tile(others, (len(points), 1))])
    with no_grad():
        logits = D(Tensor(to_device(packs)))
        probable = isinstance(game, losses.Minimax)
        answers = (sigmoid(logits) if probable else logits).numpy()
    answers = answers.reshape(CELLS, CELLS, -1).mean(axis=2)
    if not probable:  # the logits of other games are no probabilities: colours span them all
        answers = (answers - answers.min()) / max(numpy.ptp(answers), 1e-12)
    return answers


def options() -> argparse.Namespace:
    parser = training.parser(
        __doc__, out="runs/ring", steps=10_000, images=False, batch_size=128, latent=2, lr=2e-3
    )
    add = parser.add_argument
    add("--data", default="ring", choices=datasets.PLANE, help="where the real points lie")
    add("--loss", default="non-saturating", choices=losses.GAMES,
        help="the game; wasserstein with a gradient penalty")
    add("--pack", type=int, default=1, choices=range(1, 5), metavar="1...4",
        help="points that D sees at a time; a batch is of N packs, as in the paper's code")
    add("--unrolled", type=int, default=0, choices=range(21), metavar="0...20",
        help="steps of D that G looks ahead")
    add("--unrolled-lr", type=training.positive(float), default=0.02, metavar="LR",
        help="rate of these steps, which are plain gradient descent")
    add("--d-lr", type=training.positive(float), default=5e-5, metavar="LR",
        help="learning rate of D; that of G is --lr. Both fall to 0 over the run")
    add("--width", type=training.positive(int), default=128, metavar="N",
        help="units in each of the two hidden layers of G and of D")
    add("--bend", action="store_true", help="start D with kinks where the data are")
    return training.parse(parser)


def train(settings: argparse.Namespace) -> Modes:
    """The run; what G has found at its end."""
    mixture, pack = datasets.PLANE[settings.data](), settings.pack
    G = make_network(settings.latent, 2, settings.width)
    D = make_network(2 * pack, 1, settings.width)
    game = losses.GAMES[settings.loss]()
    adam_g, adam_d = Adam(G.parameters(), settings.lr), Adam(D.parameters(), settings.d_lr)

    def real_packs(count: int) -> Tensor:
        return packed(Tensor(mixture.samples(count * pack)), pack)

    def fake_packs(count: int) -> Tensor:
        return packed(G(Tensor(random_normal(count * pack, settings.latent))), pack)

    def loss_of_g(real: Tensor, fake: Tensor) -> Tensor:
        return generator_loss(game, D, real, fake, settings.unrolled, settings.unrolled_lr)

    if settings.bend:
        bend(D.layers[0], real_packs(settings.width))
    always = Tensor(random_normal(MEASURED, settings.latent))
    shown = real_packs(SHOWN // pack)
    side = 1.4 * float(abs(mixture.centers).max())

    def say(modes: Modes) -> str:
        name = "places" if settings.data == "spiral" else "modes"
        share = f"{modes.high_quality:.1%} of samples on one"
        return f"{modes.captured} of {len(mixture.centers)} {name}, {share}"

    def draw(path: Path) -> None:
        with no_grad():
            samples = G(always)
        fake = Tensor(samples.data[:SHOWN], requires_grad=True)
        (slopes,) = grad(loss_of_g(shown, packed(fake, pack)), [fake])
        generated, (steps, panels) = fake.numpy(), run.curves()
        plots.save_laboratory(
            path, shown.numpy().reshape(-1, 2), generated, -slopes.numpy()[:ARROWS],
            landscape(game, D, generated, pack, side), side, steps, panels, settings.steps,
            f"step {run.step}: {say(count_modes(samples.numpy(), *mixture))}",
        )

    parts = {"G": G, "D": D, "Adam of G": adam_g, "Adam of D": adam_d}
    run = training.Run(settings, 0, game, sample=G, parts=parts, draw=draw)
    for _ in run:
        adam_g.lr, adam_d.lr = settings.lr * run.share_left, settings.d_lr * run.share_left

        # (1) Update D, which sees packs of real or of generated points.
        real = real_packs(settings.batch_size)
        with no_grad():
            fake = fake_packs(settings.batch_size)
        real_logits, fake_logits = D(real), D(fake)
        d_loss = objective = game.discriminator(real_logits, fake_logits)
        if settings.loss == "wasserstein":  # whose critic must not grow steep
            objective = d_loss + 10.0 * losses.gradient_penalty(D, real, fake)
        adam_d.zero_grad()
        objective.backward()
        adam_d.step()

        # (2) Update G, against D as it is or as it will be.
        g_loss = loss_of_g(real, fake_packs(settings.batch_size))
        adam_g.zero_grad()
        g_loss.backward()
        adam_g.step()

        with no_grad():
            run.log({
                "D loss": d_loss, "G loss": g_loss,
                "D(x)": sigmoid(real_logits).mean(), "D(G(z))": sigmoid(fake_logits).mean(),
            })

    with no_grad():
        modes = count_modes(G(always).numpy(), *mixture)
    floor = count_modes(real_packs(MEASURED // pack).numpy().reshape(-1, 2), *mixture)
    print(f"{settings.data}: G found {say(modes)}.\nReal points: {say(floor)}. A sample is on the "
          "nearest one if at most 3 deviations away;\none such sample of 2,500 finds it.")
    return modes


if __name__ == "__main__":
    training.run_main(lambda: train(options()))
