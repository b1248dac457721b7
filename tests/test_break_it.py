"""Each mistake of demos/break_it.py shows the symptom that its text promises, in numbers."""

import functools
import math
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

import tinygan
from tinygan import losses
from tinygan.layers import Parameter
from tinygan.optimizers import SGD

DEMO = Path(__file__).parents[1] / "demos" / "break_it.py"


@pytest.fixture
def break_it(monkeypatch):
    monkeypatch.syspath_prepend(DEMO.parent)
    import break_it

    return break_it


@functools.cache
def run(break_it, name, seed=1):
    return break_it.train(name, steps=700, seed=seed)


@pytest.fixture
def late(break_it):
    """Of a run by its name, the mean of a measure over the last quarter."""
    return lambda name, measure: run(break_it, name).late(measure)


def swing(result):
    """How much D's loss varies in the second half of a run."""
    return numpy.std([row["D loss"] for row in result.rows[len(result.rows) // 2 :]])


a_real_run = pytest.mark.cpu_only("hundreds of steps, whose outcome is the same on each device")


@a_real_run
def test_the_healthy_run_finds_all_modes(late):
    assert late("healthy", "modes") > 7
    assert late("healthy", "on a mode") > 0.4
    assert 0.4 < late("healthy", "D(x)") < 0.7


@a_real_run
def test_without_detach_g_stays_on_a_few_modes(late):
    assert late("no-detach", "modes") <= 0.6 * late("healthy", "modes")


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
def test_simultaneous_steps_find_fewer_modes_in_the_same_time(break_it):
    found = {
        name: [row["modes"] for seed in (0, 1) for row in run(break_it, name, seed).rows]
        for name in ("simultaneous", "healthy")
    }
    assert numpy.mean(found["simultaneous"]) < 0.85 * numpy.mean(found["healthy"])


@a_real_run
def test_a_long_memory_swings_and_loses_modes(break_it, late):
    assert swing(run(break_it, "beta1-0.9")) > 1.5 * swing(run(break_it, "healthy"))
    assert late("beta1-0.9", "modes") < 0.6 * late("healthy", "modes")


@a_real_run
def test_with_mixed_batches_d_answers_otherwise_in_the_step_of_g(late):
    def gap(name):
        return late(name, "D(G(z)) in G's step") - late(name, "D(G(z))")

    assert gap("mixed-batchnorm") > 0.2 > 0.05 > abs(gap("healthy"))
    assert late("mixed-batchnorm", "modes") < 0.6 * late("healthy", "modes")


@a_real_run
def test_a_strong_d_leaves_g_on_a_few_modes(late):
    assert late("d-too-strong", "D(x)") - late("d-too-strong", "D(G(z))") > 0.5
    assert late("d-too-strong", "modes") < 0.7 * late("healthy", "modes")


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
        G, D = break_it.network(8, 2), break_it.network(2, 1)
        game, z, real = losses.NonSaturating(), break_it.noise(), break_it.ring()
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


def test_modes_are_counted_where_samples_are(break_it):
    centers = break_it.CENTERS
    assert break_it.count_modes(centers.repeat(5, 0)) == {"modes": 8, "on a mode": 1.0}
    assert break_it.count_modes(centers[[0, 0, 3]]) == {"modes": 2, "on a mode": 1.0}
    assert break_it.count_modes(numpy.zeros((9, 2))) == {"modes": 0, "on a mode": 0.0}
    few = numpy.concatenate([centers[:1].repeat(99, 0), centers[1:2]])  # 1 of 100, 12.5 are due
    assert break_it.count_modes(few)["modes"] == 1


def test_the_same_seed_gives_the_same_samples(break_it):
    one, other, another = (break_it.train("healthy", 3, seed).samples for seed in (0, 0, 1))
    assert numpy.array_equal(one, other) and not numpy.array_equal(one, another)


# ---------------------------------------------------------------- as a user runs it


def command(*options):
    line = [sys.executable, DEMO, *map(str, options)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("option", "rows", "columns", "file"),
                         [(["--break", "no-detach"], 2, 1, "no-detach"), (["--all"], 3, 3, "all")])
def test_a_sheet_shows_the_healthy_run_and_the_broken_ones(tmp_path, option, rows, columns, file):
    done = command(*option, "--steps", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "healthy" in done.stdout and "no-detach: G finds few modes" in done.stdout
    assert done.stdout.count("Measured") == rows * columns
    (path,) = tmp_path.iterdir()
    with Image.open(path) as picture:
        assert path.name == f"{file}.png"
        assert picture.size == pytest.approx((6.6 * columns * 90, 2.9 * rows * 90), abs=2)
        assert numpy.asarray(picture.convert("L")).std() > 10


def test_help_says_what_to_expect_of_every_mistake(break_it):
    printed = " ".join(command("--help").stdout.split())
    for name, text in break_it.BREAKS.items():
        assert f"{name}: {' '.join(text.split())}" in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["--break", "--all", "required"]),
        (["--break", "everything"], ["everything", "no-detach"]),
        (["--all", "--steps", "0"], ["--steps", "above 0"]),
        (["--all", "--seed", "-1"], ["--seed"]),
        (["--all", "--device", "tpu"], ["tpu", "gpu"]),
        (["--break", "no-detach", "--steps", "1", "--out", DEMO], ["cannot write", DEMO.name]),
    ],
)
def test_a_wrong_option_is_a_short_message_and_exit_status_2(options, words):
    done = command(*options)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == []
