"""The laboratory: looking ahead by finite differences, what is shown, its files, its cures."""

import copy
import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image
from test_demos import run

from tinygan import Tensor, losses, networks
from tinygan.backend import to_device
from tinygan.layers import Module
from tinygan.optimizers import SGD
from tinygan.training import checkpoints

DEMO = Path(__file__).parents[1] / "demos" / "ring.py"
SHORT = ["--steps", "3", "--batch-size", "8", "--width", "8", "--pack", "2", "--unrolled", "1"]
RATE = 0.5


# ---------------------------------------------------------------- looking ahead


def in_float64(network):
    for parameter in network.parameters():
        parameter.data = parameter.data.astype("float64")
    return network


@pytest.fixture
def tiny():
    """G, D that takes pairs, z and real points, small and in float64."""
    random = numpy.random.default_rng(3)
    G, D = in_float64(networks.dense_network(2, 2, 4)), in_float64(networks.dense_network(4, 1, 5))
    for parameter in (*G.parameters(), *D.parameters()):  # no kink at a bias of 0
        parameter.data = to_device(random.standard_normal(parameter.shape))
    return G, D, *(Tensor(random.standard_normal((6, 2))) for _ in range(2))


def test_a_d_that_keeps_its_layers_in_a_dict_is_unrolled_too(tiny):
    G, D, z, real = tiny

    class InADict(Module):
        def __init__(self, layers):
            self.stages = {"all": [tuple(layers)]}

        def forward(self, x):
            for layer in self.stages["all"][0]:
                x = layer(x)
            return x

    game, fake = losses.NonSaturating(), networks.packed(G(z), 2)
    first, second = (losses.unrolled(game, d, networks.packed(real, 2), fake, steps=3, rate=RATE)
                     for d in (D, InADict(D.layers)))
    assert first.item() == second.item()


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_gradient_by_g_is_that_of_finite_differences(tiny, steps):
    G, D, z, real = tiny

    def loss():
        return losses.unrolled(losses.NonSaturating(), D, networks.packed(real, 2),
                               networks.packed(G(z), 2), steps=steps, rate=RATE)

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
def test_without_a_step_ahead_it_is_the_plain_loss(tiny, game):
    _, D, z, real = tiny
    game, fake = losses.GAMES[game](), Tensor(z.data.reshape(3, 4), requires_grad=True)
    loss = losses.unrolled(game, D, networks.packed(real, 2), fake, steps=0, rate=RATE)
    loss.backward()
    value, gradient = loss.item(), fake.grad.numpy()
    expected, expected_gradient = plain_gradient(game, D, fake)
    assert value == expected and numpy.array_equal(gradient, expected_gradient)


def test_ahead_stands_the_d_of_so_many_steps_of_gradient_descent(tiny):
    _, D, z, real = tiny
    game, fake = losses.NonSaturating(), Tensor(z.data.reshape(3, 4), requires_grad=True)
    real = networks.packed(real, 2)
    loss = losses.unrolled(game, D, real, fake, steps=3, rate=RATE)
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


def test_looking_ahead_leaves_d_as_it_is(tiny):
    G, D, z, real = tiny
    before = D.state()
    losses.unrolled(losses.NonSaturating(), D, networks.packed(real, 2), networks.packed(G(z), 2),
                    steps=5, rate=RATE).backward()
    assert all(numpy.array_equal(array, before[name]) for name, array in D.state().items())
    assert all(p.grad is None and p.requires_grad for p in D.parameters())
    assert all(p.grad is not None for p in G.parameters())


# ---------------------------------------------------------------- what is shown


def test_a_pack_is_points_side_by_side():
    points = Tensor(numpy.arange(12, dtype="float32").reshape(6, 2))
    assert networks.packed(points, 1).numpy().tolist() == points.numpy().tolist()
    assert networks.packed(points, 3).numpy().tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_ds_first_kinks_start_at_the_data():
    packs = Tensor(numpy.random.default_rng(0).standard_normal((7, 4)).astype("float32"))
    D = networks.dense_network(4, 1, width=7)
    networks.bend(D.layers[0], packs)
    numpy.testing.assert_allclose(D.layers[0](packs).numpy().diagonal(), 0, atol=1e-6)


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


def test_a_run_leaves_the_views_the_curves_and_the_log(finished):
    out, printed = finished
    with open(out / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {"step", "D loss", "G loss", "D(x)", "D(G(z))"}
    assert Image.open(out / "samples.gif").n_frames == 3
    for name in ("samples.png", "curves.png"):
        assert numpy.asarray(Image.open(out / name).convert("L")).std() > 10
    figures = json.loads((out / "figures.json").read_text())
    assert figures["real points"]["captured"] == 8 and "samples of G" in printed


def test_a_run_stopped_by_ctrl_c_and_resumed_gives_the_same_bits(finished, tmp_path):
    process = subprocess.Popen([sys.executable, DEMO, *SHORT, "--out", tmp_path],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (tmp_path / "log.csv").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert (tmp_path / "samples.gif").exists()
    demo("--resume", "--out", tmp_path)
    one, other = (checkpoints.read(out) for out in (finished[0], tmp_path))
    assert other.step == 3 and one.random == other.random
    for part, arrays in one.parts.items():
        for name, array in arrays.items():
            assert numpy.array_equal(array, other.parts[part][name]), (part, name)
    for view in (finished[0] / "samples").iterdir():
        assert view.read_bytes() == (tmp_path / "samples" / view.name).read_bytes()


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Run the demo with one picture; the figures of G's samples."""
    monkeypatch.setattr("tinygan.training.run.PICTURES", 1)

    def found(*options):
        run("ring", tmp_path, *options, "--overwrite")
        return json.loads((tmp_path / "figures.json").read_text())["samples of G"]

    return found


@pytest.mark.parametrize(
    ("loss", "data"),
    [*zip(losses.GAMES, ["ring", "grid", "spiral", "grid", "moons"], strict=True)],
)
def test_every_game_and_every_data_set_runs(found, tmp_path, loss, data):
    modes = found("--steps", 2, "--batch-size", 4, "--bend", "--loss", loss, "--data", data)
    assert 0 <= modes["captured"] <= {"ring": 8, "grid": 25, "spiral": 200, "moons": 200}[data]
    assert (tmp_path / "samples.gif").exists()


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
def test_the_plain_gan_collapses_on_the_ring_and_pairs_cure_it(found):
    plain, pairs = found(), found("--pack", 2)
    assert plain["captured"] <= 6 and pairs["captured"] >= 7
    assert pairs["on_one"] > 2 * plain["on_one"]


@pytest.mark.slow
def test_looking_ahead_finds_more_modes_in_as_many_steps(found):
    options = ["--lr", 1e-3, "--d-lr", 1e-3, "--steps", 800]
    ahead, plain = found(*options, "--unrolled", 5), found(*options)
    assert ahead["captured"] >= 7 > plain["captured"] + 2
