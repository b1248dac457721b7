"""WGAN: how the critic is held, which settings are whose, and the estimate beside the pictures."""

import csv

import numpy
import pytest
from test_demos import assert_same_run
from test_training import demo

from tinygan import Tensor
from tinygan.normalization import BatchNorm
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", "12", "--batch-size", "8", "--width", "4", "--measure", "0"]
PENALTIES = ["gradient", "clip"]


@pytest.fixture
def wgan():
    return load_demo("wgan")


@pytest.fixture(scope="module", params=PENALTIES)
def finished(request, tmp_path_factory):
    """A short run with each penalty: which, its folder and what it printed."""
    out = tmp_path_factory.mktemp("run")
    return request.param, out, demo("wgan.py", *SHORT, "--penalty", request.param, "--out", out)


def weights_of(folder, part):
    return {name: array for name, array in checkpoints.read(folder).parts[part].items()
            if name.endswith(("weight", "bias"))}


def test_clipping_holds_every_weight_of_the_critic_and_none_of_g(finished):
    penalty, out, _ = finished
    critic = [abs(array).max() for array in weights_of(out, "critic").values()]
    generator = [abs(array).max() for array in weights_of(out, "G").values()]
    assert len(critic) == 8 and max(generator) > 0.03
    if penalty == "clip":
        assert max(critic) == numpy.float32(0.01)
    else:
        assert min(critic[::2]) > 0.02  # the weights, between their biases


def test_the_critic_judges_each_image_by_itself(wgan):
    critic = wgan.build(wgan.options().parse_args(["--width", "4", "--translate", "0"]))["critic"]
    assert not any(isinstance(layer, BatchNorm) for layer in critic.layers)
    images = numpy.random.default_rng(0).standard_normal((3, 28, 28, 1), dtype="float32")
    together = critic(Tensor(images)).numpy()
    alone = [critic(Tensor(images[i : i + 1])).numpy()[0] for i in range(3)]
    numpy.testing.assert_allclose(together, alone, rtol=1e-4)


def test_a_resumed_run_gives_the_same_bits(finished, tmp_path):
    penalty, out, _ = finished
    demo("wgan.py", *SHORT, "--penalty", penalty, "--out", tmp_path)
    assert_same_run(out, tmp_path)
    (tmp_path / checkpoints.FILE).unlink()  # that of step 11 is left
    demo("wgan.py", "--resume", "--out", tmp_path)
    assert_same_run(out, tmp_path)


def test_the_estimate_is_minus_the_critic_s_loss(finished):
    _, out, printed = finished
    with open(out / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"step", "critic loss", "G loss", "Wasserstein estimate"}
    assert all(float(row["Wasserstein estimate"]) == -float(row["critic loss"]) for row in rows)
    assert "kept Lipschitz" in " ".join(printed.split())


def test_the_settings_of_a_penalty_are_those_of_its_paper_unless_others_are_given(wgan, tmp_path):
    demo("wgan.py", *SHORT, "--steps", 1, "--penalty", "clip", "--out", tmp_path / "clip")
    chosen = checkpoints.read(tmp_path / "clip").options
    assert (chosen["lr"], chosen["d_lr"], chosen["d_steps"]) == (5e-5, 5e-5, 5)
    assert wgan.CLIP == 0.01
    demo("wgan.py", *SHORT, "--steps", 1, "--lr", 1e-4, "--d-steps", 3, "--out", tmp_path / "own")
    chosen = checkpoints.read(tmp_path / "own").options
    assert (chosen["lr"], chosen["d_steps"], chosen["penalty"]) == (1e-4, 3, "gradient")
    assert chosen["penalty_weight"] == 10


def test_the_penalty_s_weight_and_its_pause_matter(tmp_path):
    options = {"plain": [], "weight": ["--penalty-weight", 1], "pause": ["--penalty-every", 1]}
    losses = set()
    for name, words in options.items():
        demo("wgan.py", *SHORT, "--steps", 6, *words, "--out", tmp_path / name)
        losses.add((tmp_path / name / "log.csv").read_text())
    assert len(losses) == 3
