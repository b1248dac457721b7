"""The laboratory: looking ahead by finite differences, what is shown, its files, its cures."""

import copy
import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image

import tinygan
from tinygan import Tensor, checkpoints, losses, training
from tinygan.backend import to_device
from tinygan.layers import Dense, Sequential
from tinygan.optimizers import SGD

DEMO = Path(__file__).parents[1] / "demos" / "ring.py"
SHORT = ["--steps", "3", "--batch-size", "8", "--width", "8", "--pack", "2", "--unrolled", "1"]
RATE = 0.5


@pytest.fixture
def ring(monkeypatch):
    monkeypatch.syspath_prepend(DEMO.parent)
    import ring

    return ring


# ---------------------------------------------------------------- looking ahead


def in_float64(network):
    for parameter in network.parameters():
        parameter.data = parameter.data.astype("float64")
    return network


@pytest.fixture
def tiny(ring):
    """G, D that takes pairs, z and real points, small and in float64."""
    random = numpy.random.default_rng(3)
    G, D = in_float64(ring.make_network(2, 2, 4)), in_float64(ring.make_network(4, 1, 5))
    for parameter in (*G.parameters(), *D.parameters()):  # no kink at a bias of 0
        parameter.data = to_device(random.standard_normal(parameter.shape))
    return G, D, *(Tensor(random.standard_normal((6, 2))) for _ in range(2))


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_gradient_by_g_is_that_of_finite_differences(ring, tiny, steps):
    G, D, z, real = tiny

    def loss():
        return ring.generator_loss(losses.NonSaturating(), D, ring.packed(real, 2),
                                   ring.packed(G(z), 2), steps, RATE)

    loss().backward()
    for parameter in G.parameters():
        numeric = numpy.zeros(parameter.shape)
        for index in numpy.ndindex(parameter.shape):
            value = parameter.data[index].item()  # a copy on either device
            for sign in (1, -1):
                parameter.data[index] = value + sign * 1e-6
                numeric[index] += sign * loss().item() / 2e-6
            parameter.data[index] = value
        assert abs(numeric).max() > 1e-4
        numpy.testing.assert_allclose(parameter.grad.numpy(), numeric, rtol=1e-5, atol=1e-8)


def plain_gradient(game, D, fake):
    fake.grad = None
    with D.frozen():
        loss = game.generator(D(fake))
    loss.backward()
    return loss.item(), fake.grad.numpy()


@pytest.mark.parametrize("game", losses.GAMES)
def test_without_a_step_ahead_it_is_the_plain_loss(ring, tiny, game):
    _, D, z, real = tiny
    game, fake = losses.GAMES[game](), Tensor(z.data.reshape(3, 4), requires_grad=True)
    loss = ring.generator_loss(game, D, ring.packed(real, 2), fake, 0, RATE)
    loss.backward()
    value, gradient = loss.item(), fake.grad.numpy()
    expected, expected_gradient = plain_gradient(game, D, fake)
    assert value == expected and numpy.array_equal(gradient, expected_gradient)


def test_ahead_stands_the_d_of_so_many_steps_of_gradient_descent(ring, tiny):
    _, D, z, real = tiny
    game, fake = losses.NonSaturating(), Tensor(z.data.reshape(3, 4), requires_grad=True)
    real = ring.packed(real, 2)
    loss = ring.generator_loss(game, D, real, fake, 3, RATE)
    loss.backward()
    gradient = fake.grad.numpy()
    later = copy.deepcopy(D)
    descent = SGD(later.parameters(), RATE)
    for _ in range(3):
        descent.zero_grad()
        game.discriminator(later(real), later(fake.detach())).backward()
        descent.step()
    value, without_the_answer = plain_gradient(game, later, fake)
    assert loss.item() == pytest.approx(value, rel=1e-12)
    # The same D and another gradient: G sees how that D would answer its move.
    difference = numpy.linalg.norm(gradient - without_the_answer)
    assert difference > 0.1 * numpy.linalg.norm(gradient)


def test_looking_ahead_leaves_d_as_it_is(ring, tiny):
    G, D, z, real = tiny
    before = D.state()
    ring.generator_loss(losses.NonSaturating(), D, ring.packed(real, 2), ring.packed(G(z), 2), 5,
                        RATE).backward()
    assert all(numpy.array_equal(array, before[name]) for name, array in D.state().items())
    assert all(p.grad is None and p.requires_grad for p in D.parameters())
    assert all(p.grad is not None for p in G.parameters())


# ---------------------------------------------------------------- what is shown


def test_a_pack_is_points_side_by_side(ring):
    points = Tensor(numpy.arange(12, dtype="float32").reshape(6, 2))
    assert ring.packed(points, 1).numpy().tolist() == points.numpy().tolist()
    assert ring.packed(points, 3).numpy().tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_ds_first_kinks_start_at_the_data(ring):
    packs = Tensor(numpy.random.default_rng(0).standard_normal((7, 4)).astype("float32"))
    D = ring.make_network(4, 1, width=7)
    ring.bend(D.layers[0], packs)
    numpy.testing.assert_allclose(D.layers[0](packs).numpy().diagonal(), 0, atol=1e-6)


def judge(*weights):
    """A D that weighs the numbers of a pack."""
    D = Sequential(Dense(len(weights), 1))
    D.layers[0].weight.data[:, 0] = to_device(numpy.float32(weights))
    return D


def test_the_landscape_is_ds_probability_with_x_to_the_right_and_y_upwards(ring):
    seen = ring.landscape(losses.Minimax(), judge(1.0, 0.1), numpy.zeros((0, 2)), 1, side=2.0)
    expected = [1 / (1 + numpy.exp(-(x + 0.1 * y))) for x, y in [(-2, -2), (2, -2), (-2, 2)]]
    numpy.testing.assert_allclose([seen[0, 0], seen[0, -1], seen[-1, 0]], expected, rtol=1e-5)
    assert seen.shape == (ring.CELLS, ring.CELLS)


def test_where_d_sees_pairs_the_landscape_is_the_mean_over_generated_partners(ring):
    partners = numpy.zeros((480, 2), "float32")
    partners[:8, 0] = 100.0  # of the 16 that are asked, 8 make D sure of everything
    seen = ring.landscape(losses.Minimax(), judge(0.0, 0.0, 1.0, 0.0), partners, 2, side=1.0)
    numpy.testing.assert_allclose(seen, (1 + 0.5) / 2, rtol=1e-5)


def test_answers_that_are_no_probabilities_are_shown_from_the_lowest_to_the_highest(ring):
    seen = ring.landscape(losses.Wasserstein(), judge(5.0, 0.0), numpy.zeros((0, 2)), 1, side=1.0)
    numpy.testing.assert_allclose(seen[3], numpy.linspace(0, 1, ring.CELLS), atol=1e-6)
    flat = ring.landscape(losses.Hinge(), judge(0.0, 0.0), numpy.zeros((0, 2)), 1, side=1.0)
    assert not flat.any()


# ---------------------------------------------------------------- as a user runs it


def demo(*options, code=0):
    done = subprocess.run([sys.executable, DEMO, *map(str, options)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, demo(*SHORT, "--out", out)


def test_a_run_leaves_the_views_the_player_and_the_log(finished):
    out, printed = finished
    with open(out / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {"step", "D loss", "G loss", "D(x)", "D(G(z))"}
    assert Image.open(out / "samples.gif").n_frames == 3
    assert (out / "samples.html").read_text().count("data:image/png") == 3
    assert (out / "samples.html").stat().st_size < 1e6
    for name in ("samples.png", "curves.png"):
        assert numpy.asarray(Image.open(out / name).convert("L")).std() > 10
    assert "G found" in printed and "8 of 8 modes" in printed  # the data themselves


def test_a_run_stopped_by_ctrl_c_and_resumed_gives_the_same_bits(finished, tmp_path):
    process = subprocess.Popen([sys.executable, DEMO, *SHORT, "--out", tmp_path],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (tmp_path / "log.csv").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert (tmp_path / "samples.html").exists() and "G found" in printed
    demo("--resume", "--out", tmp_path)
    one, other = (checkpoints.read(out) for out in (finished[0], tmp_path))
    assert other.step == 3 and one.random == other.random
    for part, arrays in one.parts.items():
        for name, array in arrays.items():
            assert numpy.array_equal(array, other.parts[part][name]), (part, name)
    for view in (finished[0] / "samples").iterdir():
        assert view.read_bytes() == (tmp_path / "samples" / view.name).read_bytes()


@pytest.fixture
def run(ring, monkeypatch, tmp_path):
    """Run the demo in this process, with one picture, and return the modes that it found."""
    monkeypatch.setattr(training, "PICTURES", 1)

    def run(*options):
        words = [*map(str, options), "--out", str(tmp_path), "--overwrite",
                 "--device", tinygan.device()]
        monkeypatch.setattr(sys, "argv", [str(DEMO), *words])
        return ring.train(ring.options())

    return run


@pytest.mark.parametrize(
    ("loss", "data"),
    [*zip(losses.GAMES, ["ring", "grid", "spiral", "grid", "spiral"], strict=True)],
)
def test_every_game_and_every_data_set_runs(run, capsys, tmp_path, loss, data):
    modes = run("--steps", 2, "--batch-size", 4, "--bend", "--loss", loss, "--data", data)
    total = {"ring": "of 8 modes", "grid": "of 25 modes", "spiral": "of 200 places"}[data]
    assert f"{data}: G found {modes.captured} {total}" in capsys.readouterr().out
    assert (tmp_path / "samples.html").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "mnist"], ["mnist", "spiral"]),
        (["--pack", "0"], ["--pack", "1"]),
        (["--unrolled", "-1"], ["--unrolled", "0"]),
        (["--unrolled-lr", "0"], ["--unrolled-lr", "above 0"]),
        (["--loss", "magic"], ["--loss", "minimax"]),
        (["--epochs", "3"], ["--epochs"]),
    ],
)
def test_a_wrong_option_is_a_short_message_and_exit_status_2(tmp_path, options, words):
    printed = demo("--steps", 2, "--out", tmp_path, *options, code=2)
    assert "Traceback" not in printed and [word for word in words if word not in printed] == []


def test_a_folder_with_a_run_is_kept_unless_overwritten(finished):
    out, _ = finished
    before = (out / "checkpoint.npz").read_bytes()
    printed = demo(*SHORT, "--out", out, code=2)
    assert "--resume" in printed and "--overwrite" in printed
    assert (out / "checkpoint.npz").read_bytes() == before


@pytest.mark.slow
def test_the_plain_gan_collapses_on_the_ring_and_pairs_cure_it(run):
    plain, pairs = run(), run("--pack", 2)
    assert plain.captured <= 6 and pairs.captured >= 7
    assert pairs.high_quality > 2 * plain.high_quality


@pytest.mark.slow
def test_looking_ahead_finds_more_modes_in_as_many_steps(run):
    options = ["--lr", 1e-3, "--d-lr", 1e-3, "--steps", 800]
    assert run(*options, "--unrolled", 5).captured >= 7 > run(*options).captured + 2
