"""A run that is stopped, interrupted or killed, however often, ends as one that never was."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_demos import assert_same_run, log_and_stop

import tinygan
from tinygan import training
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

DEMOS = Path(__file__).parent.parent / "demos"
STEPS = 24
# A thin DCGAN has all there is to lose: running means, random translations, averages.
TINY = ["--steps", str(STEPS), "--batch-size", "4", "--width", "2", "--latent", "2", "--codes", "0",
        "--batchnorm", "--measure", "0", "--device", tinygan.device()]


# Runs a demo, and kills it (kill -9) where half of its first checkpoint is written.
TORN = """
import os, runpy, signal, sys
import numpy
whole = numpy.savez
def half(file, **arrays):
    whole(file, **arrays)
    os.truncate(file, os.path.getsize(file) // 2)
    os.kill(os.getpid(), signal.SIGKILL)
numpy.savez = half
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(folder, torn=False):
    """A process that begins the run, or goes on with it if it has a checkpoint."""
    words = ["--resume"] if list(folder.glob("checkpoint*.npz")) else TINY
    return subprocess.Popen(
        [sys.executable, *["-c", TORN] * torn, str(DEMOS / "dcgan.py"), *words,
         "--out", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


def finish(folder):
    process = start(folder)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    return folder


@pytest.mark.parametrize("seed", range(2))
def test_a_run_stopped_at_random_steps_ends_with_the_same_bits(seed, whole, tmp_path, monkeypatch):
    chance = random.Random(seed)
    stops = sorted(chance.sample(range(1, STEPS), 4))
    monkeypatch.setattr(training.Run, "log", log_and_stop(stops))
    dcgan = load_demo("dcgan")
    for words in (TINY, *[["--resume"]] * 4):
        monkeypatch.setattr(sys, "argv", ["dcgan.py", *words, "--out", str(tmp_path)])
        training.main(dcgan.options(), dcgan.train)
    assert checkpoints.read(tmp_path).step == STEPS
    assert_same_run(whole, tmp_path)


@pytest.mark.slow
def test_fifty_kills_lose_nothing(whole, tmp_path):
    """Runs that are killed (kill -9) at random moments and in the middle of a checkpoint's write,
    and interrupted (Ctrl-C) between, until there were fifty kills: each ends with the same bits."""
    chance = random.Random(0)
    kills, inside, runs = 0, 0, 0
    while kills < 50:
        folder, runs = tmp_path / str(runs), runs + 1
        for kind in chance.sample(["kill", "kill", "kill", "write", "write", "interrupt"], 6):
            process = start(folder, torn=kind == "write")
            if kind != "write":
                time.sleep(chance.uniform(0.3, 2.0))
                process.send_signal(signal.SIGINT if kind == "interrupt" else signal.SIGKILL)
            _, said = process.communicate(timeout=60)
            # 0: it was done already or stopped as asked; -SIGINT: Python itself was starting.
            assert process.returncode in (0, 130, -signal.SIGINT, -signal.SIGKILL), said
            kills += process.returncode == -signal.SIGKILL
            inside += any(folder.glob(".checkpoint.npz.*"))
        finish(folder)
        assert_same_run(whole, folder)
        assert not list(folder.rglob(".*"))
    print(f"{kills} kills in {runs} runs, {inside} of them inside the write of a checkpoint")
    assert inside >= 5
