"""The classic mistakes in a GAN, each made on purpose, beside the healthy run.

The data are points in the plane, a ring of eight Gaussians: what fails can be seen and counted.
"""

import argparse
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy

from tinygan import Tensor, backend, datasets, losses, no_grad, training
from tinygan.backend import random_normal
from tinygan.files import replacing
from tinygan.functions import concatenate, sigmoid
from tinygan.layers import BatchNorm, Dense, LeakyReLU, Module, Sequential
from tinygan.optimizers import Adam

BATCH, LATENT, RATE = 128, 8, 5e-3
CENTERS, SPREAD = RING = datasets.ring(deviation=0.05)

BREAKS = {  # what to expect, and why
    "no-detach": """G finds few modes. Without detach D's loss runs back through the fake into
        G, which then follows the gradient of -log D - log(1 - D). That is least where D answers
        1/2: where D answers more, as on the modes that G has not found, it pushes G away.
        (A zero_grad of G right before its backward() hides this: then it costs time alone.)""",
    "no-zero-grad": """The losses explode, and samples end far from the ring. backward() adds to
        the gradients that are there: each step follows the sum of all since the start.""",
    "saturating": """G finds next to nothing. D is strong, as in d-too-strong, but G minimises
        log(1 - D(G(z))), whose slope by the logit is D(G(z)): what D is surest about, and what
        most needs to move, weighs least. Adam makes the step large again, not the weights.""",
    "simultaneous": """G finds the modes later, or at some seeds not in this time; at others it does
        as well. G answers the D from before its last step. With plain gradient descent the
        smallest GAN, of two numbers, even spirals away (see tests/test_break_it.py).""",
    "beta1-0.9": """The losses swing and most modes are lost. Adam remembers ten gradients now, not
        two: each player keeps running towards where the other was, and overshoots.""",
    "mixed-batchnorm": """In its own step D sees through G, in G's step the same D seems fooled.
        BatchNorm takes mean and variance over real and fake together in D's step, but over
        fakes alone in G's: G learns from another D than the one it has to fool.""",
    "d-too-strong": """G sits on a few modes. D has a start of 300 steps and makes two to G's
        one: nearly certain everywhere, it leads G to the nearest modes and no further.""",
    "d-too-weak": """D's loss is near its balance, 2 log 2 = 1.386, yet the samples are bad. At a
        tenth of G's rate D cannot keep up, and tells G next to nothing about the data.""",
}


class Result(NamedTuple):
    """Samples (N, 2) of the end, and what was measured on the way, a row at a time."""

    samples: numpy.ndarray
    rows: list[dict[str, float]]

    def late(self, name: str) -> float:
        """The mean over the last quarter of the run."""
        return float(numpy.mean([row[name] for row in self.rows[-max(1, len(self.rows) // 4) :]]))


def ring() -> Tensor:
    """Real samples (BATCH, 2)."""
    return Tensor(RING.samples(BATCH))


def noise(count: int = BATCH) -> Tensor:
    return Tensor(random_normal(count, LATENT))


def network(inputs: int, outputs: int, width: int = 128, batch_norm: bool = False) -> Sequential:
    layers: list[Module] = []
    for size in (inputs, width):
        layers += [Dense(size, width), *[BatchNorm(width)] * batch_norm, LeakyReLU(0.2)]
    return Sequential(*layers, Dense(width, outputs))


def train(broken: str, steps: int, seed: int) -> Result:
    """One run, with the mistake of that name in it, or none of them ("healthy")."""
    backend.seed(seed)
    G, D = network(LATENT, 2), network(2, 1, batch_norm=broken == "mixed-batchnorm")
    strong = broken in ("d-too-strong", "saturating")
    game = losses.Minimax() if broken == "saturating" else losses.NonSaturating()
    betas = (0.9 if broken == "beta1-0.9" else 0.5, 0.999)
    adam_g, adam_d = (Adam(network.parameters(), RATE, betas=betas) for network in (G, D))
    always, rows = noise(1000), []

    for step in range(-299 if strong else 1, steps + 1):
        # Both rates fall to zero over the run: the players settle instead of circling.
        adam_g.lr = RATE * min(1, 1 - (step - 1) / steps)
        adam_d.lr = adam_g.lr / (10 if broken == "d-too-weak" else 1)
        # Cleared here, as much code does, so that what a missing detach adds is there for G.
        if broken != "no-zero-grad":
            adam_g.zero_grad()

        # (1) Update D: minimise -log D(x) - log(1 - D(G(z))).
        for _ in range(2 if strong and step > 0 else 1):
            real, fake = ring(), G(noise())
            # The tape leads from the fake back into G. detach() cuts it: same numbers, no way
            # for D's gradients into G. (mnist_gan.py makes the fake under no_grad instead, which
            # records nothing of G to begin with: the same gradients for less work.)
            if broken != "no-detach":
                fake = fake.detach()
            # One pass for both: only BatchNorm lets one sample change another's answer.
            both = D(concatenate([real, fake]))
            real_logits, fake_logits = both[:BATCH], both[BATCH:]
            if broken != "no-zero-grad":
                adam_d.zero_grad()
            d_loss = game.discriminator(real_logits, fake_logits)
            d_loss.backward()
            if broken != "simultaneous":
                adam_d.step()
        if step < 1:
            continue  # the start that a strong D has

        # (2) Update G: minimise -log D(G(z)).
        with D.frozen():
            logits = D(G(noise()))
            game.generator(logits).backward()
        if broken == "simultaneous":
            adam_d.step()  # only now: G's gradient was taken at the D before this step
        adam_g.step()

        if step % 20 == 0 or step == steps:
            with no_grad():
                rows.append({"step": step} | count_modes(G(always).numpy()) | {
                    "D loss": d_loss.item(), "D(x)": sigmoid(real_logits).mean().item(),
                    "D(G(z))": sigmoid(fake_logits).mean().item(),
                    "D(G(z)) in G's step": sigmoid(logits).mean().item(),
                })
    return Result(G(always).numpy(), rows)


def count_modes(samples: numpy.ndarray) -> dict[str, float]:
    """The share of the samples (N, 2) within 4 deviations of a mode, and the modes found, of 8:
    those with a fifth or more of the samples that are due to them."""
    distances = numpy.linalg.norm(samples[:, None] - CENTERS, axis=2)
    nearest = distances.argmin(axis=1)[distances.min(axis=1) < 4 * SPREAD]
    found = numpy.bincount(nearest, minlength=8) >= len(samples) / 8 / 5
    return {"modes": int(found.sum()), "on a mode": len(nearest) / len(samples)}


def draw(results: dict[str, Result], path: Path) -> None:
    """For each run its samples over the real ones, and its curves."""
    from matplotlib.figure import Figure

    across = 1 if len(results) == 2 else 3
    figure = Figure(figsize=(6.6 * across, 2.9 * len(results) / across), layout="constrained")
    panels = figure.subplots(len(results) // across, 2 * across, width_ratios=[1, 1.3] * across)
    pairs, real = panels.reshape(-1, 2), numpy.concatenate([ring().numpy() for _ in range(8)])
    for (points, curves), (name, result) in zip(pairs, results.items(), strict=True):
        points.scatter(*real.T, s=3, color="lightgrey")
        points.scatter(*result.samples.T, s=3, color="crimson")
        points.set(title=name, xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
        steps = [row["step"] for row in result.rows]
        for label, whole in [("D(x)", 1), ("D(G(z)) in G's step", 1), ("D(G(z))", 1), ("modes", 8)]:
            curves.plot(steps, [row[label] / whole for row in result.rows], label=label)
        curves.set(xlabel="step", ylim=(-0.03, 1.03))
    curves.legend(fontsize=7)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=90)


def explanation(name: str) -> str:
    text = " ".join(f"{name}: {BREAKS[name]}".split())
    return textwrap.fill(text, 92, initial_indent="  ", subsequent_indent="    ")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="NAME, what to expect, and why:\n" +
        "\n".join(map(explanation, BREAKS)), formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, what = parser.add_argument, parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--break", dest="broken", choices=BREAKS, metavar="NAME", help="see below")
    what.add_argument("--all", action="store_true", help="every mistake in turn, on one sheet")
    add("--steps", type=training.positive(int), default=1000, help="of training (default: 1000)")
    add("--seed", type=int, choices=range(1000), default=0, metavar="0...999", help="default: 0")
    add("--device", default="cpu", help="cpu, gpu or gpu:1 (the second GPU)")
    add("--out", type=Path, default=Path("runs/break_it"), help="folder of the picture")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args()


def main() -> None:
    settings = options()
    backend.use_device(settings.device)
    results: dict[str, Result] = {}
    for name in ["healthy", *(BREAKS if settings.all else [settings.broken])]:
        print(explanation(name) if name in BREAKS else "  healthy: nothing is broken.")
        result = results[name] = train(name, settings.steps, settings.seed)
        means = ", ".join(f"{key} {result.late(key):.2f}" for key in [*result.rows[0]][1:])
        print(f"    Measured, last quarter: {means}\n", flush=True)
    path = settings.out / f"{settings.broken or 'all'}.png"
    draw(results, path)
    print(f"The picture is {path}: samples (red) over real data (grey), and curves.")


if __name__ == "__main__":
    training.run_main(main)
