"""The conditional GAN: what G is told, what D is asked, and digits to order."""

import importlib
import subprocess
import sys

import numpy
import pytest
from PIL import Image
from test_training import DEMOS, arrays_of, assert_same_run, demo

from tinygan import Tensor, checkpoints, metrics, training
from tinygan.layers import RandomTranslation

SHORT = ["--steps", "12", "--batch-size", "8", "--width", "4"]


@pytest.fixture
def cgan(monkeypatch):
    monkeypatch.syspath_prepend(DEMOS)
    import cgan

    return cgan


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a short run, and what it printed."""
    out = tmp_path_factory.mktemp("run")
    return out, demo("cgan.py", *SHORT, "--out", out)


def one_hot(labels):
    return Tensor(numpy.eye(10, dtype="float32")[labels])


def test_the_label_picks_one_of_d_s_ten_answers(cgan):
    D = cgan.Discriminator(channels=1, width=4, max_shift=1).eval()
    images = Tensor(numpy.random.default_rng(0).standard_normal((10, 28, 28, 1), dtype="float32"))
    answers = D.answers(images).numpy()
    labels = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    logits = D(images, one_hot(labels)).numpy()
    assert logits.shape == (10, 1)
    numpy.testing.assert_array_equal(logits[:, 0], answers[range(10), labels])
    assert len(set(answers[0])) == 10


def test_d_learns_from_its_answer_to_the_label_alone(cgan):
    D = cgan.Discriminator(channels=1, width=4, max_shift=1)
    last = D.answers.layers[-1]
    D(Tensor(numpy.ones((4, 28, 28, 1), dtype="float32")), one_hot([7, 7, 2, 7])).sum().backward()
    moved = numpy.flatnonzero(last.bias.grad.numpy())
    assert list(moved) == [2, 7]


def test_both_players_move_and_g_listens(finished, tmp_path):
    out, _ = finished
    demo("cgan.py", *SHORT, "--steps", 1, "--out", tmp_path)
    before, after = arrays_of(tmp_path), arrays_of(out)
    weights = [key for key in after if key.startswith(("G/", "D/")) and key.endswith("weight")]
    assert len(weights) == 7
    for key in weights:
        assert (before[key] != after[key]).mean() > 0.5, key
    generator = training.load_generator(out)
    latents = numpy.zeros((10, generator.latent), dtype="float32")
    images = generator.from_latents(latents, numpy.arange(10))
    assert len({image.tobytes() for image in images}) == 10  # the label alone differs


def test_a_resumed_run_gives_the_same_bits(finished, tmp_path):
    out, _ = finished
    demo("cgan.py", *SHORT, "--out", tmp_path)
    assert_same_run(out, tmp_path)
    (tmp_path / checkpoints.FILE).unlink()  # that of step 11 is left
    demo("cgan.py", "--resume", "--out", tmp_path)
    assert_same_run(out, tmp_path)


def test_a_row_of_the_grid_is_a_class(finished):
    out, _ = finished
    generator = training.load_generator(out)
    assert generator.classes == 10
    width, height = Image.open(out / "samples.png").size
    assert width == height == 3 * (10 * 29 - 1)


def test_digits_to_order(finished):
    out, _ = finished
    before = arrays_of(out)
    printed = demo("cgan.py", "--digit", 7, "--count", 5, "--out", out)
    assert str(out / "digit-7.png") in printed and "step 12" in printed
    assert Image.open(out / "digit-7.png").size == (3 * (8 * 29 - 1), 3 * 28)
    demo("cgan.py", "--digit", 2, "--count", 5, "--out", out)
    seven, two = (numpy.asarray(Image.open(out / f"digit-{digit}.png")) for digit in (7, 2))
    assert (seven != two).any()
    after = arrays_of(out)
    assert all((before[key] == after[key]).all() for key in before)  # nothing was trained


@pytest.mark.parametrize("name", ["dcgan", "wgan", "cgan"])
def test_d_sees_moved_images_for_three_fifths_of_the_run(name, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(DEMOS)
    demo = importlib.import_module(name)
    reaches = []

    class Watched(RandomTranslation):
        def forward(self, x):
            reaches.append(self.max_shift)
            return super().forward(x)

    monkeypatch.setattr(demo, "RandomTranslation", Watched)
    monkeypatch.setattr(sys, "argv", [name, "--steps", "10", "--batch-size", "4", "--width", "2",
                                      "--translate", "3", "--out", str(tmp_path)])
    demo.main()
    assert set(reaches) == {3, 0} and reaches == sorted(reaches, reverse=True)
    assert reaches.count(3) / len(reaches) == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--digit", "10"], ["--digit", "10", "0, 1, 2"]),
        (["--digit", "seven"], ["--digit", "seven"]),
        (["--digit", "7", "--count", "0"], ["--count", "above 0"]),
        (["--digit", "7"], ["no checkpoint"]),
        (["--r1", "-1"], ["--r1", "from 0"]),
        (["--translate", "-1"], ["--translate", "from 0"]),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(options, words, tmp_path):
    printed = demo("cgan.py", *options, "--out", tmp_path / "run", code=2)
    assert all(word in printed for word in words), printed
    assert "Traceback" not in printed


def test_images_without_labels_are_refused(tmp_path):
    Image.new("L", (28, 28)).save(tmp_path / "image.png")
    printed = demo("cgan.py", "--data", f"folder:{tmp_path}", "--out", tmp_path / "run", code=2)
    assert "no labels" in printed and "mnist" in printed


@pytest.mark.slow
def test_after_500_steps_it_draws_mostly_what_was_asked_for(tmp_path):
    command = [sys.executable, str(DEMOS / "cgan.py"), "--steps", "500", "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    labels = numpy.arange(2000) % 10
    images = training.load_generator(tmp_path).samples(len(labels), labels=labels)
    assert metrics.measure(images, labels).conditional_accuracy > 0.6  # 0.1 by chance
