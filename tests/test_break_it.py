"""Each mistake of demos/break_it.py shows the symptom that its text promises, in numbers."""

import functools
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

import tinygan
from tinygan import Tensor, losses, networks
from tinygan.backend import random_normal
from tinygan.layers import Parameter
from tinygan.optimizers import SGD
from tinygan.training.trained import load_demo

DEMO = Path(__file__).parents[1] / "demos" / "break_it.py"


@pytest.fixture
def break_it():
    return load_demo("break_it")


@pytest.fixture
def run(break_it, tmp_path_factory):
    """One run by its name: what train_one returns."""
    return lambda name, seed=1: _run(break_it.__file__, name, seed, tmp_path_factory.getbasetemp())


@functools.cache
def _run(file, name, seed, folder, steps=700):
    break_it = load_demo("break_it")
    words = ["--steps", steps, "--break", name, "--seed", seed, "--out", folder / f"{name}-{seed}"]
    tinygan.seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinygan.training.run.PICTURES", 1)
        return break_it.train_one(break_it.options().parse_args([str(word) for word in words])).run


@pytest.fixture
def late(run):
    """Of a run by its name, the mean of a measure over the last quarter."""
    return lambda name, measure: run(name).late(1 / 4)[measure]


def swing(run):
    """How much D's loss varies in the second half of a run."""
    return numpy.std([row["D loss"] for row in run.rows[len(run.rows) // 2 :]])


a_real_run = pytest.mark.cpu_only("hundreds of steps, whose outcome is the same on each device")


@a_real_run
def test_the_healthy_run_finds_all_modes(late):
    assert late("healthy", "modes covered") > 7 / 8
    assert late("healthy", "on a mode") > 0.3  # within 3 deviations
    assert 0.4 < late("healthy", "D(x)") < 0.7


@a_real_run
def test_without_detach_g_stays_on_a_few_modes(late):
    assert late("no-detach", "modes covered") <= 0.6 * late("healthy", "modes covered")


@a_real_run
def test_without_zero_grad_the_losses_explode(late):
    assert late("no-zero-grad", "D loss") > 10 * late("healthy", "D loss")
    assert late("no-zero-grad", "on a mode") < 0.3 * late("healthy", "on a mode")


@a_real_run
def test_the_saturating_loss_finds_next_to_nothing_against_a_strong_d(late):
    assert late("saturating", "D(G(z))") < 0.15
    assert late("saturating", "on a mode") < 0.4 * late("healthy", "on a mode")
    assert late("saturating", "on a mode") < 0.3 * late("d-too-strong", "on a mode")


@a_real_run
def test_simultaneous_steps_find_fewer_modes_in_the_same_time(run):
    found = {
        name: [row["modes covered"] for seed in (0, 1) for row in run(name, seed).rows]
        for name in ("simultaneous", "healthy")
    }
    assert numpy.mean(found["simultaneous"]) < 0.85 * numpy.mean(found["healthy"])


@a_real_run
def test_a_long_memory_swings_and_loses_modes(run, late):
    assert swing(run("beta1-0.9")) > 1.5 * swing(run("healthy"))
    assert late("beta1-0.9", "modes covered") < 0.6 * late("healthy", "modes covered")


@a_real_run
def test_with_mixed_batches_d_answers_otherwise_in_the_step_of_g(late):
    def gap(name):
        return late(name, "D(G(z)) in G's step") - late(name, "D(G(z))")

    assert gap("mixed-batchnorm") > 0.2 > 0.05 > abs(gap("healthy"))
    assert late("mixed-batchnorm", "modes covered") < 0.6 * late("healthy", "modes covered")


@a_real_run
def test_a_strong_d_leaves_g_on_a_few_modes(late):
    assert late("d-too-strong", "D(x)") - late("d-too-strong", "D(G(z))") > 0.5
    assert late("d-too-strong", "modes covered") < 0.7 * late("healthy", "modes covered")


@a_real_run
def test_a_weak_d_has_the_loss_of_a_draw_while_the_samples_are_bad(late):
    assert late("d-too-weak", "D loss") == pytest.approx(2 * math.log(2), abs=0.1)
    assert late("d-too-weak", "on a mode") < 0.4 * late("healthy", "on a mode")


# ---------------------------------------------------------------- what the texts say besides


@pytest.mark.parametrize(("simultaneous", "low", "high"), [(True, 3.0, 4.0), (False, 1.0, 1.5)])
def test_in_the_gan_of_two_numbers_simultaneous_steps_spiral_away(simultaneous, low, high):
    """Mescheder et al. 2018: real data are the point 0, G is theta, D(x) = psi x.

    By gradient descent from (1, 1), at 1.41 from the solution (0, 0), for 500 steps.
    """
    theta, psi = Parameter(numpy.ones(1)), Parameter(numpy.ones(1))
    descent_g, descent_d, game = SGD([theta], 0.2), SGD([psi], 0.2), losses.Minimax()
    for _ in range(500):
        descent_g.zero_grad()
        descent_d.zero_grad()
        game.discriminator(psi * 0.0, psi * theta.detach()).backward()
        if not simultaneous:
            descent_d.step()
        game.generator(psi.detach() * theta).backward()
        if simultaneous:
            descent_d.step()
        descent_g.step()
    assert low < math.hypot(theta.item(), psi.item()) < high


def test_without_detach_the_gradient_of_g_is_that_of_both_losses(break_it):
    def gradient(detached, both):
        tinygan.seed(0)
        G, D = networks.dense_network(8, 2, 128), networks.dense_network(2, 1, 128)
        game, z = losses.NonSaturating(), Tensor(random_normal(128, 8))
        real = Tensor(break_it.RING.samples(128))
        fake = G(z)
        d_loss = game.discriminator(D(real), D(fake.detach() if detached else fake))
        with D.frozen():
            g_loss = game.generator(D(G(z)))
        if both:
            d_loss.backward()
        g_loss.backward()
        return numpy.concatenate([p.grad.numpy().ravel() for p in G.parameters()])

    clean = gradient(detached=True, both=False)
    assert numpy.array_equal(gradient(detached=True, both=True), clean)
    polluted = gradient(detached=False, both=True)
    assert numpy.linalg.norm(polluted - clean) > 0.5 * numpy.linalg.norm(clean)


# ---------------------------------------------------------------- as a user runs it


def command(*options):
    line = [sys.executable, DEMO, *map(str, options)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("option", "rows", "columns"),
                         [(["--break", "no-detach"], 2, 1), (["--all"], 3, 3)])
def test_a_sheet_shows_the_healthy_run_and_the_broken_ones(tmp_path, option, rows, columns):
    done = command(*option, "--steps", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures) == rows * columns and {"healthy", "no-detach"} <= figures.keys()
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == pytest.approx((6.6 * columns * 90, 2.9 * rows * 90), abs=2)
        assert numpy.asarray(picture.convert("L")).std() > 10


def test_help_says_what_to_expect_of_every_mistake(break_it):
    printed = command("--help").stdout
    assert len(break_it.NAMES) == 9
    for name in break_it.NAMES[1:]:
        assert f"\n{name}: " in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--break", "everything"], ["everything", "no-detach"]),
        (["--all", "--steps", "0"], ["--steps", "above 0"]),
        (["--all", "--break", "no-detach"], ["not allowed with"]),
        (["--break", "no-detach", "--steps", "1", "--out", DEMO], ["cannot write", DEMO.name]),
    ],
)
def test_a_wrong_option_is_a_short_message_and_exit_status_2(options, words):
    done = command(*options)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == []
