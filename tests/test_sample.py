"""Pictures and arrays from a checkpoint, as a user asks for them."""

import subprocess
import sys

import numpy
import pytest
from PIL import Image

import tinygan
from tinygan import plots, sample, training
from tinygan.files import UsageError
from tinygan.functions import concatenate, one_hot
from tinygan.layers import Dense, Module, Reshape, Sequential, Tanh
from tinygan.training import checkpoints, trained

LATENT = 3


class Generator(Module):
    """Images of 2 x 3 pixels from latents, and from labels if it has classes."""

    def __init__(self, classes):
        self.classes = classes
        self.layers = Sequential(Dense(LATENT + classes, 6), Tanh(), Reshape(2, 3, 1))

    def forward(self, latents, labels=None):
        if labels is None:
            return self.layers(latents)
        return self.layers(concatenate([latents, one_hot(labels, self.classes)], axis=1))


class Demo:
    """As small as a demo can be."""

    def options(self):
        parser = training.parser("small", "", steps=7)
        parser.add_argument("--classes", type=int, default=0)
        return parser

    def build(self, settings):
        return {"G": Generator(settings.classes)}

    def pictures(self, settings, parts):
        return training.Pictures(parts["G"], LATENT, classes=settings.classes)


@pytest.fixture(autouse=True)
def _demo(monkeypatch):
    monkeypatch.setattr(trained, "load_demo", lambda name: Demo())


def saved(folder, classes=0):
    """A run of the demo after seven steps."""
    checkpoints.write(folder, checkpoints.Checkpoint(
        "small", 7, {"classes": classes}, {}, {}, {}, {"G": Generator(classes).state()}
    ))
    return folder


def pictures_of(folder):
    return training.load(folder).pictures()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Ask sample.main() for images; their picture and arrays."""
    def ask(folder, *options):
        picture, arrays = tmp_path / "picture.png", tmp_path / "arrays"  # no suffix is added
        words = ["sample", folder, "--out", picture, "--npz", arrays,
                 "--device", tinygan.device(), *options]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        sample.main()
        with Image.open(picture) as image, numpy.load(arrays, allow_pickle=False) as file:
            return numpy.asarray(image), dict(file)
    return ask


def test_the_picture_shows_the_images_of_the_arrays(run, tmp_path, capsys):
    picture, arrays = run(saved(tmp_path), "--count", 5, "--columns", 4)
    assert arrays.keys() == {"images", "latents"}
    assert arrays["images"].shape == (5, 2, 3, 1) and arrays["images"].dtype == numpy.float32
    numpy.testing.assert_array_equal(picture, plots.grid(arrays["images"], columns=4))
    images = pictures_of(tmp_path).from_latents(arrays["latents"])
    numpy.testing.assert_array_equal(arrays["images"], images)
    assert "5 images after step 7" in capsys.readouterr().out


def test_latents_are_normal_and_depend_on_the_seed_alone(run, tmp_path):
    folder = saved(tmp_path)
    latents = run(folder, "--count", 4000)[1]["latents"]
    assert abs(latents.mean()) < 0.05 and abs(latents.std() - 1) < 0.05
    again = run(folder / checkpoints.FILE, "--count", 4000, "--seed", 0)[1]["latents"]
    other = run(folder, "--count", 4000, "--seed", 1)[1]["latents"]
    numpy.testing.assert_array_equal(latents, again)
    assert (latents != other).all()


def test_eight_rows_of_eight_unless_said_otherwise(run, tmp_path):
    assert len(run(saved(tmp_path))[1]["images"]) == 64
    assert len(run(tmp_path, "--columns", 3)[1]["images"]) == 24
    assert run(tmp_path, "--count", 2)[0].shape == (3 * 2, 3 * (3 + 1 + 3))  # no empty columns


def test_with_labels_each_row_is_a_class(run, tmp_path):
    folder = saved(tmp_path, classes=4)
    _, arrays = run(folder, "--columns", 5)
    assert arrays["labels"].tolist() == [k for k in range(4) for _ in range(5)]
    images = pictures_of(folder).from_latents(arrays["latents"], arrays["labels"])
    numpy.testing.assert_array_equal(arrays["images"], images)


def test_one_digit_alone(run, tmp_path):
    folder = saved(tmp_path, classes=4)
    _, arrays = run(folder, "--digit", 2, "--count", 16)
    assert arrays["labels"].tolist() == [2] * 16
    assert len(run(folder, "--digit", 2)[1]["images"]) == 64
    images = pictures_of(folder).from_latents(arrays["latents"], numpy.full(16, 1))
    assert (arrays["images"] != images).all()


def test_rows_lead_from_one_latent_to_another(run, tmp_path):
    _, arrays = run(saved(tmp_path), "--interpolate", "--count", 18, "--columns", 6)
    rows = arrays["latents"].reshape(3, 6, LATENT)
    steps = numpy.linalg.norm(numpy.diff(rows, axis=1), axis=2)
    between = numpy.linalg.norm(rows[:, -1] - rows[:, 0], axis=1)
    assert (steps < between[:, None] / 2).all()  # small steps
    ends = numpy.concatenate([rows[:, 0], rows[:, -1]])
    assert len(numpy.unique(ends, axis=0)) == 6  # to other places


@pytest.mark.parametrize(
    ("classes", "options", "words"),
    [
        (0, ["--digit", "7"], ["without labels", "7", "cgan"]),
        (4, ["--digit", "4"], ["--digit 4", "0 to 3"]),
    ],
)
def test_a_digit_that_cannot_be_made_is_an_error(run, tmp_path, classes, options, words):
    with pytest.raises(UsageError) as error:
        run(saved(tmp_path, classes), *options)
    assert all(word in str(error.value) for word in words)
    assert not (tmp_path / "picture.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["nowhere"], ["no checkpoint", "nowhere"]),
        (["nowhere", "--seed", "-1"], ["--seed", "-1"]),
        (["nowhere", "--count", "0"], ["--count", "above 0"]),
        ([], ["required", "RUN"]),
    ],
)
def test_what_is_wrong_is_said_with_exit_status_2(options, words, tmp_path):
    command = [sys.executable, "-m", "tinygan.sample", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words)
    assert not list(tmp_path.iterdir())


def test_a_run_that_draws_no_latents_draws_its_own_picture(run, tmp_path, monkeypatch):
    class Square:
        def __init__(self, settings, parts):
            pass

        def draw(self, path):
            plots.save_grid(numpy.ones((1, 2, 2, 1)), path, columns=1)

    folder = saved(tmp_path)
    monkeypatch.setattr(Demo, "pictures", lambda demo, *given: Square(*given))
    words = ["sample", str(folder), "--out", str(tmp_path / "own.png")]
    monkeypatch.setattr(sys, "argv", words)
    sample.main()
    with Image.open(tmp_path / "own.png") as image:
        assert image.size == (6, 6)
    monkeypatch.setattr(sys, "argv", [*words, "--count", "5"])
    with pytest.raises(UsageError, match="leave --count out"):
        sample.main()
