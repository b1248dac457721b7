"""The demos as a user runs them: options, Ctrl-C, kills, files that are there already."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image
from test_demos import assert_same_run

import tinygan
from tinygan import Tensor, grad, losses, networks, no_grad, plots, training
from tinygan.backend import random_normal
from tinygan.functions import ShapeError
from tinygan.gradcheck import check_gradients
from tinygan.optimizers import Adam, ExponentialMovingAverage
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

DEMOS = Path(__file__).parent.parent / "demos"
SHORT = ["--steps", "12", "--batch-size", "8", "--measure", "0"]


def command(name, *options):
    """The command line of a demo, on the device of the tests."""
    return [sys.executable, str(DEMOS / name), "--device", tinygan.device(), *map(str, options)]


def demo(name, *options, code=0):
    """Run a demo as a user does; return what it printed."""
    done = subprocess.run(command(name, *options), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["mnist_gan.py", "dcgan.py"])
def finished(request, tmp_path_factory):
    """A short run of each demo: its file, its folder and what it printed."""
    out = tmp_path_factory.mktemp("run")
    return request.param, out, demo(request.param, *SHORT, "--out", out)


def test_a_run_explains_its_numbers_and_draws_an_interpolation(finished):
    _, out, printed = finished
    assert "1.386" in printed  # what the numbers mean
    assert numpy.asarray(Image.open(out / "interpolation.png")).std() > 1


def test_the_same_seed_gives_the_same_bits(finished, tmp_path):
    name, out, _ = finished
    demo(name, *SHORT, "--out", tmp_path)
    assert_same_run(out, tmp_path)


def test_a_run_stopped_by_ctrl_c_and_resumed_gives_the_same_bits(finished, tmp_path):
    name, out, _ = finished
    line = command(name, *SHORT, "--out", tmp_path)
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (tmp_path / "log.csv").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    if checkpoints.read(tmp_path).step < 12:
        assert f"--resume --out {tmp_path}" in printed
    demo(name, "--resume", "--out", tmp_path)
    assert_same_run(out, tmp_path)


def test_a_killed_run_resumes_from_its_last_checkpoint_with_the_same_bits(finished, tmp_path):
    name, out, _ = finished
    line = command(name, *SHORT, "--out", tmp_path)
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "checkpoint.npz").exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    demo(name, "--resume", "--out", tmp_path)
    assert_same_run(out, tmp_path)


@pytest.mark.parametrize("loss", losses.GAMES)
def test_every_game_trains(loss, tmp_path):
    demo("mnist_gan.py", "--steps", 3, "--batch-size", 4, "--measure", 0, "--loss", loss,
         "--d-steps", 2, "--g-steps", 3, "--out", tmp_path)
    assert checkpoints.read(tmp_path).step == 3


def test_dcgan_trains_on_a_folder_of_colour_images(tmp_path):
    noise = numpy.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype="uint8")
    (tmp_path / "images").mkdir()
    for number, image in enumerate(noise):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    demo("dcgan.py", "--data", f"folder:{tmp_path / 'images'}", "--size", 16, "--channels", 3,
         "--batch-size", 4, "--steps", 2, "--out", tmp_path / "run")
    assert Image.open(tmp_path / "run" / "samples.png").mode == "RGB"
    printed = demo("dcgan.py", "--data", f"folder:{tmp_path / 'images'}", "--size", 18,
                   "--batch-size", 4, "--out", tmp_path / "other", code=2)
    assert "--size 18" in printed and "multiple of 4" in printed


def test_epochs_count_passes_over_the_data(tmp_path):
    out = demo("mnist_gan.py", "--epochs", 2, "--batch-size", 4500, "--d-steps", 2,
               "--measure", 0, "--out", tmp_path)
    assert "2 steps" in out  # 2 epochs of 2 batches, 2 of them in a step


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "0"], ["--steps", "above 0"]),
        (["--lr", "nan"], ["--lr", "above 0"]),
        (["--latent", "many"], ["--latent", "many"]),
        (["--r1", "-1"], ["--r1", "from 0"]),
        (["--loss", "magic"], ["--loss", "minimax"]),
        (["--steps", "5", "--epochs", "5"], ["not allowed with"]),
        (["--data", "cats"], ["cats", "mnist"]),
        (["--data", "folder:/does/not/exist"], ["/does/not/exist"]),
        (["--batch-size", "9001"], ["9001", "9000"]),
        (["--device", "tpu"], ["tpu", "gpu"]),
        (["--resume"], ["no checkpoint"]),
        (["--seed", "-1"], ["--seed", "from 0"]),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_status_2(options, words, tmp_path):
    printed = demo("mnist_gan.py", "--out", tmp_path / "run", *options, code=2)
    assert "Traceback" not in printed
    assert [word for word in words if word not in printed] == []


def test_a_gpu_that_cannot_be_used_is_one_sentence_and_exit_status_2(tmp_path):
    (tmp_path / "cupy.py").write_text("raise ModuleNotFoundError(\"no cupy\", name='cupy')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(DEMOS / "mnist_gan.py"), "--device", "gpu", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "CuPy is not installed" in done.stderr


def test_a_folder_with_a_run_is_kept_unless_overwritten(finished):
    name, out, _ = finished
    before = (out / "checkpoint.npz").read_bytes()
    printed = demo(name, *SHORT, "--out", out, code=2)
    assert "--resume" in printed and "--overwrite" in printed
    assert (out / "checkpoint.npz").read_bytes() == before


def test_nothing_of_an_older_run_remains_where_it_is_overwritten(tmp_path):
    demo("mnist_gan.py", *SHORT, "--measure", 1, "--out", tmp_path)
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / ".samples.png.x7.png").write_bytes(b"half")
    kept = [tmp_path / name for name in ("notes.txt", "my own.png", "samples/my own.png")]
    for path in kept:
        path.write_bytes(b"")
    parser = training.parser("mnist_gan", "", steps=6)
    settings = parser.parse_args(["--overwrite", "--out", str(tmp_path)])
    training.Run(settings, {}, lambda path: None)
    assert len(left) > 20 and {path for path in tmp_path.rglob("*.*")} == {*kept}


def test_the_command_that_goes_on_can_be_pasted(tmp_path, monkeypatch, capsys):
    out = tmp_path / "a folder's $HOME; (new)"
    monkeypatch.setattr(sys, "argv", ["my demos/a gan.py"])
    settings = training.parser("mnist_gan", "", steps=6).parse_args(["--out", str(out)])
    run = training.Run(settings, {}, lambda path: plots.save_grid(numpy.zeros((1, 2, 2, 1)), path))
    for _ in run:
        run.stopped = True
    line = capsys.readouterr().out.splitlines()[-1]
    done = subprocess.run(["sh", "-c", f"for word in {line}; do echo \"$word\"; done"],
                          capture_output=True, text=True, check=True)
    words = ["python", "my demos/a gan.py", "--resume", "--out", str(out)]
    assert done.stdout.splitlines() == words


def test_an_output_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in demo("mnist_gan.py", *SHORT, "--out", tmp_path / "file", code=2)


def test_a_damaged_checkpoint_is_an_error(finished, tmp_path):
    name, out, _ = finished
    content = (out / "checkpoint.npz").read_bytes()
    (tmp_path / "checkpoint.npz").write_bytes(content[: len(content) // 2])
    printed = demo(name, "--resume", "--out", tmp_path, code=2)
    assert "damaged" in printed and "Traceback" not in printed


def test_a_checkpoint_of_another_network_names_the_array(finished):
    name, out, _ = finished
    printed = demo(name, "--resume", "--latent", 30, "--out", out, code=2)
    assert ".weight" in printed and "(30, " in printed


def test_interpolation_keeps_its_ends_and_its_length():
    start, end = numpy.random.default_rng(0).standard_normal((2, 5, 64)).astype("float32")
    path = training.interpolate(start, end, 7).reshape(5, 7, 64)
    numpy.testing.assert_allclose(path[:, 0], start, rtol=1e-4, atol=1e-5)
    numpy.testing.assert_allclose(path[:, -1], end, rtol=1e-4, atol=1e-5)
    lengths = numpy.linalg.norm(path, axis=2)
    assert (lengths > 0.9 * numpy.minimum(lengths[:, :1], lengths[:, -1:])).all()
    assert path.dtype == "float32"


@pytest.mark.parametrize(("start", "end"), [
    ([1.0], [-3.0]), ([-2.0], [5.0]), ([1, 2], [-1, -2]), ([1e-4, 0], [-1e4, 0]),
    ([3, 4, 0], [3, 4, 0]), ([1, 1, 1], [2, 2, 2]), ([0, 0], [1, 2]), ([0, 0, 1], [0, 0, 0]),
    ([0.0], [0.0]), ([1, 1e-9], [1, 0]), ([1, 0], [-1, 1e-9]), ([1, 0], [-1, 1e-3]),
    ([5, 0], [-0.1, 0.02]),
])
def test_interpolation_stays_between_its_ends_in_few_dimensions(start, end):
    path = training.interpolate([start], [end], 9).astype("float64")
    assert path[0] == pytest.approx(start, rel=1e-7) and path[-1] == pytest.approx(end, rel=1e-7)
    lengths, ends = numpy.linalg.norm(path, axis=1), numpy.linalg.norm([start, end], axis=1)
    if len(start) > 1 or min(ends) == 0:
        assert lengths == pytest.approx(numpy.linspace(*ends, 9), rel=1e-5)
    else:
        assert path[:, 0] == pytest.approx(numpy.linspace(*start, *end, 9), rel=1e-6)
    steps = numpy.linalg.norm(numpy.diff(path, axis=0), axis=1)  # the longest half arc, in 8 steps
    assert (steps <= (numpy.pi * max(ends) + abs(ends[1] - ends[0])) / 8 + 1e-6).all()


def test_the_way_between_opposite_latents_is_half_a_circle():
    path = training.interpolate([[0, 2, 0]], [[0, -2, 0]], 5)
    cosines = (path[1:] * path[:-1]).sum(axis=1) / 4
    numpy.testing.assert_allclose(cosines, numpy.cos(numpy.pi / 4), rtol=1e-6)
    numpy.testing.assert_array_equal(training.interpolate([[1, 2]], [[3, 4]], 1), [[1, 2]])


@pytest.mark.parametrize("wrong", [
    ([1.0, 2.0], [3.0, 4.0], 3), ([[1.0]], [[1.0, 2.0]], 3), ([[1.0]], [[2.0]], 0),
])
def test_an_interpolation_that_cannot_be_made_is_one_sentence(wrong):
    with pytest.raises(ShapeError, match=r"two arrays of one shape \(N, Z\)"):
        training.interpolate(*wrong)


@pytest.mark.parametrize("loss", losses.GAMES)
def test_the_gradient_of_g_through_d_on_the_networks_of_the_demo(loss):
    mnist_gan = load_demo("mnist_gan")
    tinygan.seed(1)
    G, D = mnist_gan.make_generator(64, (28, 28, 1)), mnist_gan.make_discriminator((28, 28, 1))
    game, z = losses.GAMES[loss](), numpy.random.default_rng(0).standard_normal((4, 64))
    for parameter in D.parameters():  # constants here, in float64 like everything else
        parameter.data = parameter.data.astype("float64")

    class Objective(tinygan.layers.Module):
        def __init__(self):
            self.generator = G

        def forward(self, z):
            with D.frozen():
                return game.generator(D(G(z)))

    check_gradients(Objective(), z, order=1)
    (slope,) = grad(Objective()(Tensor(z.astype("float32"))), [G.parameters()[0]])
    assert numpy.abs(slope.numpy()).max() > 0


@pytest.mark.cpu_only("counts the blocks of memory of Python itself")
def test_three_hundred_steps_of_dcgan_hold_no_more_than_ten():
    G = networks.dcgan_generator(4, 8, 1, 2)
    D = networks.dcgan_discriminator(8, 1, 2, max_shift=1, batchnorm=True)
    adam_g, adam_d = Adam(G.parameters(), 1e-3), Adam(D.parameters(), 1e-3)
    average, game = ExponentialMovingAverage(G), losses.NonSaturating()
    real = Tensor(random_normal(4, 8, 8, 1))

    def steps(count):
        for _ in range(count):
            with no_grad():
                fake = G(Tensor(random_normal(4, 4)))
            d_loss = game.discriminator(D(real), D(fake)) + losses.r1_penalty(D, real)
            adam_d.zero_grad()
            d_loss.backward()
            adam_d.step()
            with D.frozen():
                g_loss = game.generator(D(G(Tensor(random_normal(4, 4)))))
            adam_g.zero_grad()
            g_loss.backward()
            adam_g.step()
            average.update()

    steps(10)
    gc.collect()
    before = sys.getallocatedblocks()  # every array is at least one of them
    gc.disable()
    try:
        steps(300)
        assert gc.collect() == 0  # nothing had to wait for the garbage collector
    finally:
        gc.enable()
    assert sys.getallocatedblocks() - before < 150  # half a one for each step
