"""Runs on several processes. Those under mpiexec are left out where mpi4py is missing."""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest

import tinygan
from tinygan import datasets, files, layers, optimizers, training
from tinygan.backend import drawn, generator, random_integers, random_normal, world
from tinygan.training import checkpoints, processes

DEMOS = Path(__file__).parents[1] / "demos"
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
under_mpiexec = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="several processes need MPI: pip install -e '.[mpi]'")


@pytest.fixture
def as_one_of_three(monkeypatch):
    """Make this process one of three, in a step."""
    def become(rank, average=lambda arrays: None):
        monkeypatch.setattr(world, "rank", rank)
        monkeypatch.setattr(world, "size", 3)
        monkeypatch.setattr(world, "average", average)

    return become


# ---------------------------------------------------------------- parts of a batch


@pytest.mark.parametrize("draw, axis", [
    (lambda n: random_normal(n, 2), 0),
    (lambda n: random_integers(0, 100, 2, n, axis=1), 1),
    (lambda n: drawn(generator.random, n, 1), 0),
])
def test_the_processes_draw_what_one_would(draw, axis, as_one_of_three):
    tinygan.seed(1)
    whole, after = draw(12), generator.bit_generator.state
    parts = []
    for rank in range(3):
        as_one_of_three(rank)
        tinygan.seed(1)
        parts.append(draw(4))
        assert generator.bit_generator.state == after
    numpy.testing.assert_array_equal(
        numpy.concatenate([tinygan.backend.to_host(part) for part in parts], axis=axis),
        tinygan.backend.to_host(whole))


def test_batches_are_divided_and_epochs_stay_what_they_are(as_one_of_three):
    def three(size):
        batches = datasets.Batches(numpy.arange(26), batch_size=size, seed=5)
        return [tinygan.backend.to_host(next(batches)[0]) for _ in range(5)]

    whole = three(12)  # two in an epoch: two numbers of each are left out
    parts = []
    for rank in range(3):
        as_one_of_three(rank)
        parts.append(three(4))
    for batch, *of_each in zip(whole, *parts, strict=True):
        numpy.testing.assert_array_equal(batch, numpy.concatenate(of_each))


def test_an_optimizer_moves_by_the_mean_of_the_gradients(as_one_of_three):
    layer = layers.Dense(2, 1)
    before = layer.weight.numpy().copy()
    (layer.weight.sum() + layer.bias.sum()).backward()

    def average(gradients):
        for gradient in gradients:
            gradient[...] = 5

    as_one_of_three(0, average)
    optimizers.SGD(layer.parameters(), lr=1).step()
    numpy.testing.assert_allclose(layer.weight.numpy(), before - 5, rtol=1e-6)


def test_alone_nothing_is_averaged_divided_or_imported():
    before = vars(world).copy()
    with processes.together():
        assert (world.rank, world.size) == (0, 1)
        gradient = numpy.ones(3, dtype=numpy.float32)
        world.average([gradient])
        assert (gradient == 1).all()
    assert vars(world) == before
    settings = argparse.Namespace(batch_size=7, device="gpu")
    processes.divide(settings)
    assert settings.batch_size == 7 and processes.whole(settings)["processes"] == 1
    assert "mpi4py" not in sys.modules


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "writing", False)
    with files.replacing(tmp_path / "file.txt") as path:
        path.write_text("of another process")
    assert list(tmp_path.iterdir()) == [] and not path.exists()


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "size", 3)
    settings = argparse.Namespace(batch_size=64, device="cpu")
    with pytest.raises(training.UsageError, match="64 can't be divided among 3 .* multiple of 3"):
        processes.divide(settings)
    settings.batch_size = 66
    processes.divide(settings)
    assert settings.batch_size == 22
    assert processes.whole(settings) == {"batch_size": 66, "device": "cpu", "processes": 3}


def test_a_checkpoint_gives_each_process_what_it_had(monkeypatch, capsys):
    parts = {"G": {"mean": numpy.array(0), "weight": numpy.array(1)},
             "process 1": {"G: mean": numpy.array(9)}}
    monkeypatch.setattr(processes, "size", 2)
    assert processes.own(parts, 2)["G"]["mean"] == 0
    monkeypatch.setattr(processes, "rank", 1)
    assert processes.own(parts, 2)["G"] == {"mean": 9.0, "weight": 1.0}
    assert capsys.readouterr().out == ""
    assert processes.own(parts, 4)["G"]["mean"] == 0
    assert "4 processes made this run and 2 continue it" in capsys.readouterr().out


def test_mpiexec_without_mpi4py_is_one_sentence(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(training.UsageError, match=r"pip install 'tinygan\[mpi\]'"):
        processes.start()


# ---------------------------------------------------------------- under mpiexec


def start(count, *words, **options):
    """A program on so many processes of one thread each, which takes turns where cores are few."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [MPIEXEC, "-n", count, sys.executable, *words]
    return subprocess.Popen([str(word) for word in command], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def run(count, *words):
    """Its exit status and all that it printed."""
    process = start(count, *words)
    printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


def arrays_of(folder):
    saved = checkpoints.read(folder)
    return {f"{part}/{name}": array for part, state in saved.parts.items()
            for name, array in state.items()}


@under_mpiexec
@pytest.mark.parametrize("demo, words", [
    ("mnist_gan", ["--measure", 0]),  # moved images, R1, a moving average
    ("ring", ["--loss", "wasserstein", "--width", 32]),  # the gradient penalty
])
def test_two_and_four_processes_have_the_weights_of_one(demo, words, tmp_path):
    for count in (1, 2, 4):
        status, printed = run(count, DEMOS / f"{demo}.py", "--steps", 5, *words,
                              "--out", tmp_path / str(count))
        assert status == 0, printed
    one = {name: array for name, array in arrays_of(tmp_path / "1").items()
           if name.startswith(("G/", "D/", "average of G/"))}
    for count in (2, 4):
        other = arrays_of(tmp_path / str(count))
        for name, array in one.items():
            # Where a gradient is nothing but rounding, Adam makes a whole step of it.
            scale = max(abs(array).max(), 0.25)
            numpy.testing.assert_allclose(other[name], array, atol=2e-4 * scale, err_msg=name)
        log, its_log = (numpy.loadtxt(tmp_path / str(n) / "log.csv", delimiter=",", skiprows=1)
                        for n in (1, count))
        numpy.testing.assert_allclose(its_log, log, rtol=1e-3)


ALL = """
import sys
from pathlib import Path
from tinygan import training
from tinygan.training import processes
from tinygan.training.trained import load_demo
sys.path[:0] = [sys.argv[2]]
from test_demos import NAMES, words_of
for name in NAMES:
    demo, out = load_demo(name), Path(sys.argv[1]) / name
    training.main(demo.options(), demo.train, arguments=["--out", out, *words_of(name)])
"""


@under_mpiexec
@pytest.mark.slow
def test_every_demo_runs_on_two_processes(tmp_path):
    status, printed = run(2, "-c", ALL, tmp_path, Path(__file__).parent)
    assert status == 0, printed
    for demo in sorted(path.stem for path in DEMOS.glob("*.py")):
        assert checkpoints.read(tmp_path / demo).step == 6
        assert (tmp_path / demo / "log.csv").read_text().count("\n") == 7
        assert (tmp_path / demo / "samples.png").exists()


def wait_for(path):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def are_running(folder):
    """The programs whose command line names the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in path.read_text() and "mpiexec" not in path.read_text():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


@under_mpiexec
def test_ctrl_c_saves_once_and_the_resumed_run_has_the_same_bits(tmp_path):
    """With BatchNorm in G: each process has statistics of its own."""
    words = [DEMOS / "wgan.py", "--steps", 120, "--width", 4, "--batch-size", 8, "--measure", 0]
    process = start(2, *words, "--out", tmp_path / "stopped")
    wait_for(tmp_path / "stopped" / "samples" / "0000003.png")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and printed.count("Stopped after step") == 1
    assert re.search(r"mpiexec -n 2 .* --resume --out", printed)
    assert 3 <= checkpoints.read(tmp_path / "stopped").step < 120
    status, printed = run(2, DEMOS / "wgan.py", "--resume", "--out", tmp_path / "stopped")
    assert status == 0 and "won't have the bits" not in printed
    assert run(2, *words, "--out", tmp_path / "whole")[0] == 0
    whole, stopped = arrays_of(tmp_path / "whole"), arrays_of(tmp_path / "stopped")
    assert whole.keys() == stopped.keys()
    assert any(name.startswith("process 1/G: ") for name in whole)
    for name, array in whole.items():
        numpy.testing.assert_array_equal(stopped[name], array, name)
    for other in (["--steps", 122], ["--steps", 124]):  # alone
        command = [sys.executable, DEMOS / "wgan.py", "--resume", "--out", tmp_path / "stopped"]
        printed = subprocess.run([str(word) for word in command + other], check=True, text=True,
                                 capture_output=True).stdout
        assert ("won't have the bits" in printed) == (other[1] == 122)


@under_mpiexec
def test_a_process_that_dies_ends_all_and_leaves_the_last_checkpoint(tmp_path):
    process = start(2, DEMOS / "ring.py", "--out", tmp_path / "run")
    wait_for(tmp_path / "run" / "samples" / "0000500.png")
    killed, began = max(are_running(tmp_path / "run")), time.monotonic()
    os.kill(killed, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0 and time.monotonic() - began < 20
    assert are_running(tmp_path / "run") == []
    assert checkpoints.read(tmp_path / "run").step >= 250


@under_mpiexec
@pytest.mark.parametrize("words, said", [
    (["--batch-size", 7], "a batch of 7 can't be divided among 2 processes"),
    (["--steps", "many"], "'many' is not a whole number"),
    (["--resume"], "there is no checkpoint"),
])
def test_a_wrong_option_is_said_once(words, said, tmp_path):
    status, printed = run(2, DEMOS / "ring.py", "--out", tmp_path / "run", *words)
    assert status == 2 and printed.count(said) == 1 and "Traceback" not in printed


BROKEN = """
import sys
import numpy
from tinygan import plots, training
from tinygan.training import processes

def train(settings):
    run = training.Run(settings, {}, lambda path: plots.save_grid(numpy.zeros((1, 4, 4, 1)), path))
    for step in run:
        bad = processes.rank == 1 and step == 7
        if bad and "raise" in sys.argv:
            raise RuntimeError("a mistake in the program")
        run.log(loss={"loss": float("nan") if bad else 1.0})

training.main(training.parser("ring", "", steps=20), train, arguments=["--out", sys.argv[1]])
"""


@under_mpiexec
def test_a_nan_in_one_process_takes_all_of_them_back(tmp_path):
    """It is a plain number: the watch for arrays finds none, and the second time it is an end."""
    status, printed = run(2, "-c", BROKEN, tmp_path)
    assert status == 2 and len(re.findall("going back to step 6 ", printed)) == 1, printed
    assert checkpoints.read(tmp_path).step == 6


@under_mpiexec
def test_an_error_in_one_process_is_shown_and_ends_all(tmp_path):
    status, printed = run(2, "-c", BROKEN, tmp_path, "raise")
    assert status == 1 and printed.count("RuntimeError: a mistake in the program") == 1
    assert checkpoints.read(tmp_path).step == 6
