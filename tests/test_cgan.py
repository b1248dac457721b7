"""The conditional GAN: what G is told, what D is asked, and digits to order."""

import numpy
import pytest
from PIL import Image
from test_demos import run
from test_training import demo

from tinygan import Tensor, metrics, training
from tinygan.backend import to_device
from tinygan.layers import RandomTranslation
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", "12", "--batch-size", "8", "--width", "4", "--measure", "0"]


@pytest.fixture
def cgan():
    return load_demo("cgan")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a short run, and what it printed."""
    out = tmp_path_factory.mktemp("run")
    return out, demo("cgan.py", *SHORT, "--out", out)


def test_a_label_is_as_large_as_the_latents_beside_it(cgan, monkeypatch):
    seen = []
    G = cgan.Generator(3, 28, 1, 2)
    monkeypatch.setattr(G, "layers", seen.append)
    latents = numpy.arange(6, dtype="float32").reshape(2, 3)
    G(Tensor(to_device(latents)), to_device(numpy.array([3, 0])))
    (beside,) = seen
    assert beside.dtype == numpy.float32
    expected = numpy.zeros((2, 10), "float32")
    expected[0, 3] = expected[1, 0] = 10**0.5
    numpy.testing.assert_allclose(beside.numpy(), numpy.hstack([latents, expected]), rtol=1e-6)


def test_the_label_alone_makes_another_picture(finished):
    pictures = training.load(finished[0]).pictures()
    latents = numpy.zeros((10, pictures.latent), dtype="float32")
    images = pictures.from_latents(latents, numpy.arange(10))
    assert len({image.tobytes() for image in images}) == 10


def test_a_row_of_the_grid_is_a_class(finished):
    out, _ = finished
    assert training.load(out).pictures().classes == 10
    width, height = Image.open(out / "samples.png").size
    assert width == height == 3 * (10 * 29 - 1)


def test_digits_to_order(finished):
    out, _ = finished
    before = (out / checkpoints.FILE).read_bytes()
    printed = demo("cgan.py", "--digit", 7, "--count", 5, "--out", out)
    assert str(out / "digit-7.png") in printed and "step 12" in printed
    assert Image.open(out / "digit-7.png").size == (3 * (8 * 29 - 1), 3 * 28)
    demo("cgan.py", "--digit", 2, "--count", 5, "--out", out)
    seven, two = (numpy.asarray(Image.open(out / f"digit-{digit}.png")) for digit in (7, 2))
    assert (seven != two).any()
    assert (out / checkpoints.FILE).read_bytes() == before  # nothing was trained


def test_a_digit_is_drawn_on_the_device_that_was_asked_for(finished):
    printed = demo("cgan.py", "--digit", 7, "--device", "tpu", "--out", finished[0], code=2)
    assert "tpu" in printed


@pytest.mark.parametrize("name", ["dcgan", "wgan", "cgan"])
def test_d_sees_shifted_images_for_three_fifths_of_the_run(name, monkeypatch, tmp_path):
    shifts, forward = [], RandomTranslation.forward

    def watched(layer, x):
        shifts.append(layer.max_shift)
        return forward(layer, x)

    monkeypatch.setattr(RandomTranslation, "forward", watched)
    run(name, tmp_path, "--steps", 10, "--batch-size", 4, "--width", 2, "--translate", 3,
        "--measure", 0)
    assert set(shifts) == {3, 0} and shifts == sorted(shifts, reverse=True)
    assert shifts.count(3) / len(shifts) == pytest.approx(0.6, abs=0.05)


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
    demo("cgan.py", "--steps", 500, "--measure", 0, "--out", tmp_path)
    labels = numpy.arange(2000) % 10
    images = training.load(tmp_path).pictures().samples(len(labels), labels=labels)
    assert metrics.measure(images, labels)["as asked"] > 0.6  # 0.1 by chance
