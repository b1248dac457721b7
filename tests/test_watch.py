"""Numbers that go wrong: the run stops, goes back, and names the step, the layer and the array."""

import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from tinygan import Tensor, functions, layers, losses, no_grad, plots, training
from tinygan.backend import random_normal, xp
from tinygan.optimizers import SGD, Adam
from tinygan.tensor import record
from tinygan.training import checkpoints, watch

DEMO = Path(__file__).parents[1] / "demos" / "mnist_gan.py"


def test_nothing_is_looked_at_unless_watched():
    with numpy.errstate(divide="ignore"):
        assert functions.log(Tensor([0.0])).numpy() == -numpy.inf
        with watch.watching({}), pytest.raises(watch.NotFinite, match="infinity.*: log"):
            functions.log(Tensor([0.0]))
        assert functions.log(Tensor([0.0])).numpy() == -numpy.inf


def test_the_layer_is_named_from_the_inside_out():
    network = layers.Sequential(layers.Dense(2, 3), layers.Sequential(layers.Dense(3, 1)))
    network.layers[1].layers[0].bias.data[:] = xp.nan
    named = {network: "D", network.layers[1]: "layers.1 (Sequential)",
             network.layers[1].layers[0]: "layers.0 (Dense)"}
    with watch.watching(named), pytest.raises(watch.NotFinite) as error:
        network(Tensor(random_normal(4, 2)))
    place = "shape (1,): an input of add, in layers.0 (Dense), in layers.1 (Sequential), in D"
    assert str(error.value).endswith(place)


def bad_slope(x):
    """y = x with a derivative that is infinite: nothing shows before backward()."""
    return record(x.data + 0, (x,), lambda dy, y: dy * float("inf"))


class BadSlope(layers.Module):
    def forward(self, x):
        return bad_slope(x)


def test_a_gradient_is_named_by_the_operation_and_the_layer_it_belongs_to():
    network = layers.Sequential(layers.Dense(2, 3), BadSlope(), layers.Dense(3, 1))
    with watch.watching({network: "G", network.layers[1]: "layers.1 (BadSlope)"}):
        loss = network(Tensor(random_normal(4, 2))).sum()
        with pytest.raises(watch.NotFinite) as error:
            loss.backward()
    assert str(error.value).endswith(
        "multiply, in the derivative of bad_slope, in layers.1 (BadSlope), in G"
    )


class Planted(layers.Module):
    """Multiplies by a number that becomes infinite at one step of a run."""

    def __init__(self, at):
        self.at, self.now = at, 0

    def forward(self, x):
        return x * (float("inf") if self.now == self.at else 1.0)


def program(planted=-1, wrong_update=("", -1)):
    """A demo's main: a small GAN with a number that goes wrong in a layer or in an update."""

    def train(settings):
        plant = Planted(planted)
        G = layers.Sequential(layers.Dense(2, 4), layers.Reshape(2, 2, 1))
        D = layers.Sequential(layers.Flatten(), layers.Dense(4, 3), plant, layers.Dense(3, 1))
        adam_g, sgd_d = Adam(G.parameters(), 1e-3), SGD(D.parameters(), 1e-3)
        game = losses.NonSaturating()
        parts = {"G": G, "D": D, "Adam of G": adam_g, "SGD of D": sgd_d}
        black = numpy.zeros((1, 2, 2, 1))
        run = training.Run(settings, parts, lambda path: plots.save_grid(black, path))
        run.log_every, run.picture_every = 10, 25
        for step in run:
            plant.now = step
            sgd_d.lr = float("inf") if wrong_update == ("D", step) else 1e-3
            adam_g.lr = float("inf") if wrong_update == ("G", step) else 1e-3
            real = Tensor(random_normal(4, 2, 2, 1))
            with no_grad():
                fake = G(Tensor(random_normal(4, 2)))
            d_loss = game.discriminator(D(real), D(fake))
            sgd_d.zero_grad()
            d_loss.backward()
            sgd_d.step()
            with D.frozen():
                g_loss = game.generator(D(G(Tensor(random_normal(4, 2)))))
            adam_g.zero_grad()
            g_loss.backward()
            adam_g.step()
            run.log(losses={"D loss": d_loss}, answers={"D(x)": g_loss})

    return train


def stopped(train, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(folder), "--overwrite"])
    with numpy.errstate(all="ignore"), pytest.raises(SystemExit) as end:
        training.main(training.parser("mnist_gan", "", steps=60), train)
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("step", [1, 7, 25, 26, 43])
def test_a_planted_infinity_is_found_at_its_step_in_its_layer(step, tmp_path, monkeypatch, capsys):
    said = stopped(program(planted=step), tmp_path, monkeypatch, capsys)
    assert f"at step {step}, in an array of shape (4, 3)" in said
    assert ": multiply, in layers.2 (Planted), in D" in said
    assert "--lr" in said and "checkpoint is kept" in said
    kept = checkpoints.read(tmp_path)
    assert kept.step == (step - 1) // 25 * 25
    for part in kept.parts.values():
        assert all(numpy.isfinite(array).all() for array in part.values())
    assert all(column.max() < step for name, column in kept.log.items() if name == "step")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("update", "array"),
    [
        (("D", 31), "shape (4, 3): an input of matmul, in layers.1 (Dense), in D"),
        (("G", 25), "shape (2, 4): layers.0.weight of G, after its update"),
        (("G", 60), "shape (2, 4): layers.0.weight of G, after its update"),
    ],
)
def test_an_update_that_goes_wrong_is_found_at_its_step(
    update, array, tmp_path, monkeypatch, capsys
):
    said = stopped(program(wrong_update=update), tmp_path, monkeypatch, capsys)
    assert f"at step {update[1]}" in said and array in said
    assert checkpoints.read(tmp_path).step == (update[1] - 1) // 25 * 25


def test_a_healthy_run_has_the_same_bits_when_it_is_watched(tmp_path, monkeypatch, capsys):
    make = Tensor.__init__
    for name, words in (("plain", []), ("watched", ["--watch"])):
        monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path / name), *words])
        training.main(training.parser("mnist_gan", "", steps=60), program())
    plain, watched = (checkpoints.read(tmp_path / name) for name in ("plain", "watched"))
    for part, arrays in plain.parts.items():
        for name, array in arrays.items():
            numpy.testing.assert_array_equal(watched.parts[part][name], array)
    assert Tensor.__init__ is make


def test_a_rate_that_is_far_too_high_ends_the_demo_with_one_sentence(tmp_path):
    command = [sys.executable, "-W", "ignore", str(DEMO), "--steps", "300", "--lr", "1e30",
               "--batch-size", "8", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "at step 1" in done.stderr.splitlines()[-1] and "(Dense)" in done.stderr
    assert checkpoints.read(tmp_path / "run").step == 0
