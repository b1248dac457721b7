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


def test_first_the_matcher_learns_alone_and_then_the_gan_alone(attngan, tmp_path):
    def weights():
        parts = training.load(tmp_path).parts
        return {name: [weight.numpy() for weight in parts[name].parameters()]
                for name in ("matcher", "G", "D I", "D II")}

    def moved(before, after):
        return {name for name in before if any(
            (one != other).any() for one, other in zip(before[name], after[name], strict=True))}

    run("attngan", tmp_path, *SHORT, "--steps", 1, "--first", 0.9)
    first = weights()
    run("attngan", tmp_path, "--resume", "--steps", 3, "--first", 0.99)  # all for M
    second = weights()
    assert moved(first, second) == {"matcher"}
    run("attngan", tmp_path, "--resume", "--steps", 6, "--first", 0.5)
    assert moved(second, weights()) == {"G", "D I", "D II"}


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
    text, words = (numpy.asarray(Image.open(finished / name).convert("RGB"))
                   for name in ("text.png", "words.png"))
    assert text.shape == (2 * (3 * 16 + 15), 3 * (8 * 17 - 1), 3)
    for row in 0, 1:  # the first picture of each caption is the one whose words are shown
        top = 18 + row * (5 * 16 + 18 + 6)
        numpy.testing.assert_array_equal(
            text[row * 63 : row * 63 + 48 : 3, :48:3], words[top : top + 80 : 5, :80:5])
    assert (finished / checkpoints.FILE).read_bytes() == before  # nothing was trained


@pytest.mark.parametrize(("options", "words"), [
    (["--text", "a happy person", "a happy horse"], ["horse", "the words are a, and, beard"]),
    (["--attention", "2"], ["--attention", "0, 1"]), (["--matching", "-1"], ["--matching"]),
])
def test_what_cannot_be_done_is_said_in_a_sentence(options, words, finished):
    printed = demo("attngan.py", *options, "--out", finished, code=2)
    assert all(word in printed for word in words), printed
    assert "Traceback" not in printed


@pytest.fixture
def sure(monkeypatch):
    """A matcher that is always right, and quicker than the true one."""
    monkeypatch.setattr(
        metrics.WordPictures, "score", lambda pictures, images, words: numpy.eye(len(images)))


def test_the_matcher_scores_each_picture_with_each_caption(finished):
    pictures = training.load(finished).pictures()
    words = numpy.array([[1, 2, 0], [3, 0, 0]], numpy.uint8)
    images = numpy.zeros((2, 16, 16, 3), "float32")
    scores = pictures.score(images, words)
    expected = pictures.matcher(Tensor(to_device(images)), to_device(words)).numpy()
    assert scores.shape == (2, 2) and numpy.array_equal(scores, expected)


def test_figures_stand_beside_those_of_real_characters(finished, sure):
    trained = training.load(finished)
    trained.settings.measure = 100
    metrics.report_words(trained.settings, trained.pictures())
    rows = json.loads((finished / "figures.json").read_text())
    assert [*rows][:4] == ["real", "real, 8 x 8", "stage I", "stage II"]
    assert rows["real"]["R-precision"] > 0.99 > 0.2 > rows["stage II"]["R-precision"]
    assert rows["real"]["R-precision by M"] == rows["stage II"]["R-precision by M"] == 1
    assert "Frechet" in rows["stage II"]
    parts = [row for name, row in rows.items() if "words of" in name]
    assert len(parts) == 6
    for row in parts:
        assert row["times"] == pytest.approx(row["on the part"] / row["its area"])
    assert numpy.asarray(Image.open(finished / "words.png")).std() > 1


def test_without_attention_no_words_are_measured_or_drawn(tmp_path, sure, monkeypatch):
    run("attngan", tmp_path, *SHORT, "--attention", 0)
    trained = training.load(tmp_path)
    trained.settings.measure = 100
    images = numpy.zeros((1562, 16, 16, 3), numpy.uint8)  # as if they had been measured already
    monkeypatch.setattr(metrics.words, "caption_rows", lambda settings, pictures: (
        {"real": {"six": 1.0}, "stage II": {"six": 0.5}}, {"images": images}))
    metrics.report_words(trained.settings, trained.pictures())
    assert [*json.loads((tmp_path / "figures.json").read_text())] == ["real", "stage II"]
    demo("attngan.py", "--text", "a red hat", "--out", tmp_path)
    assert (tmp_path / "text.png").exists() and not (tmp_path / "words.png").exists()
