"""AttnGAN: who learns from what, what the options switch off, what is measured and drawn."""

import json

import numpy
import pytest
from PIL import Image
from test_demos import run
from test_training import demo

import tinygan
from tinygan import Tensor, losses, metrics, training
from tinygan.backend import to_device
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", "6", "--first", "0.5", "--batch-size", "4", "--width", "2", "--measure", "0"]
WORDS = to_device(numpy.array([[1, 2, 3, 4] + [0] * 20] * 3, numpy.uint8))


@pytest.fixture
def attngan():
    return load_demo("attngan")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    run("attngan", out, *SHORT)
    return out


def generated(attngan, *words, change=None):
    """What G makes of one caption three times, one word of which may be read otherwise."""
    settings = attngan.options().parse_args([*SHORT, *words])
    tinygan.seed(0)
    parts = attngan.build(settings)
    noise = numpy.random.default_rng(0).standard_normal((3, 3, 16), dtype="float32")
    read = parts["matcher"].reader.words(WORDS).numpy().copy()
    if change is not None:
        read[:, change] = read[:, change] + 3
    return [made.numpy() for made in parts["G"].eval()(
        Tensor(to_device(noise)), WORDS, Tensor(to_device(read)))]


def test_sketches_and_pictures_have_their_sizes(attngan):
    sketch, picture, divergence, table = generated(attngan)
    assert sketch.shape == (3, 8, 8, 3) and picture.shape == (3, 16, 16, 3)
    assert divergence.shape == () and table.shape == (3, 64, 24)
    numpy.testing.assert_allclose(table.sum(axis=2), 1, rtol=1e-5)
    assert not table[:, :, 4:].any()  # where no word is


def test_words_change_the_picture_and_not_the_sketch(attngan):
    before, after = generated(attngan), generated(attngan, change=2)
    assert numpy.array_equal(before[0], after[0]) and (before[1] != after[1]).any()
    nowhere = generated(attngan, change=10)
    assert numpy.array_equal(before[1], nowhere[1])  # no word is there


def test_without_attention_all_places_are_told_the_same(attngan):
    *_, table = generated(attngan, "--attention", "0")
    assert table.shape == (3, 64, 1) and (table == 1).all()


def test_first_the_matcher_learns_alone_and_then_the_gan_alone(finished, tmp_path):
    run("attngan", tmp_path, *SHORT, "--steps", 3, "--first", 0.99)  # all for M
    before = checkpoints.read(tmp_path).parts
    run("attngan", tmp_path, "--resume", "--steps", 6, "--first", 0.5)
    after = checkpoints.read(tmp_path).parts
    for part, stays in [("matcher", True), ("G", False), ("D I", False), ("D II", False)]:
        same = [(array == before[part][name]).all() for name, array in after[part].items()]
        assert all(same) == stays


@pytest.mark.parametrize("weight", [0, 1])
def test_g_learns_from_the_matcher_if_it_is_asked_to(weight, tmp_path, monkeypatch):
    def distance(scores):
        return scores.sum() * 1e3  # G would go far to make it smaller

    folders = tmp_path / "one", tmp_path / "other"
    run("attngan", folders[0], *SHORT, "--first", 0, "--matching", weight)
    monkeypatch.setattr(losses, "matching", distance)
    run("attngan", folders[1], *SHORT, "--first", 0, "--matching", weight)
    weights = [checkpoints.read(folder).parts["G"] for folder in folders]
    same = [(array == weights[1][name]).all() for name, array in weights[0].items()]
    assert all(same) == (not weight)


def test_captions_of_one_s_own(finished):
    before = (finished / checkpoints.FILE).read_bytes()
    texts = "A happy person with dark skin, a red hat and black hair", "glasses"
    printed = demo("attngan.py", "--text", *texts, "--out", finished)
    assert printed.split("\n")[:4] == [*texts, *(str(finished / name)
                                                 for name in ("text.png", "words.png"))]
    sizes = [Image.open(finished / name).size for name in ("text.png", "words.png")]
    assert sizes[0] == (3 * (8 * 17 - 1), 2 * (3 * 16 + 15)) and sizes[1][1] > 160
    assert (finished / checkpoints.FILE).read_bytes() == before  # nothing was trained


@pytest.mark.parametrize(("options", "words"), [
    (["--text", "a happy person", "a happy horse"], ["horse", "the words are a, and, beard"]),
    (["--attention", "2"], ["--attention", "0, 1"]), (["--matching", "-1"], ["--matching"]),
])
def test_what_cannot_be_done_is_said_in_a_sentence(options, words, finished):
    printed = demo("attngan.py", *options, "--out", finished, code=2)
    assert all(word in printed for word in words), printed
    assert "Traceback" not in printed


def test_figures_stand_beside_those_of_real_characters(finished):
    trained = training.load(finished)
    trained.settings.measure = 100
    metrics.report_words(trained.settings, trained.pictures())
    rows = json.loads((finished / "figures.json").read_text())
    assert [*rows][:4] == ["real", "real, 8 x 8", "stage I", "stage II"]
    assert rows["real"]["R-precision"] > 0.99 > 0.2 > rows["stage II"]["R-precision"]
    assert rows["real"]["by the matcher"] < 0.5  # it learned for three steps
    assert {"by the matcher", "Frechet"} <= rows["stage II"].keys()
    assert 0 < rows["words of hat"]["on the part"] < 1
    assert numpy.asarray(Image.open(finished / "words.png")).std() > 1
