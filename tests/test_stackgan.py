"""StackGAN: what each stage learns from, what the options switch off, captions of one's own."""

import json

import numpy
import pytest
from PIL import Image
from test_demos import run
from test_training import demo

from tinygan import Tensor, losses, metrics, training
from tinygan.backend import to_device
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", "5", "--batch-size", "4", "--width", "2", "--measure", "0"]


@pytest.fixture
def stackgan():
    return load_demo("stackgan")


def built(stackgan, *words):
    settings = stackgan.options().parse_args([*SHORT, *words])
    return settings, stackgan.build(settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    run("stackgan", out, *SHORT)
    return out


WORDS = to_device(numpy.array([[1, 2, 3, 4] + [0] * 20] * 3, numpy.uint8))


def noise(count=3, seed=0):
    random = numpy.random.default_rng(seed)
    return random.standard_normal((count, 3, 16), dtype=numpy.float32)


def test_stage_one_draws_sketches_that_stage_two_draws_at_full_size(stackgan):
    _, parts = built(stackgan)
    sketch, _ = stackgan.generate([parts["G I"]], Tensor(to_device(noise())), WORDS)
    picture, _ = stackgan.generate([parts["G I"], parts["G II"]], Tensor(to_device(noise())), WORDS)
    assert sketch.shape == (3, 8, 8, 3) and picture.shape == (3, 16, 16, 3)
    assert parts["D I"](sketch, WORDS).shape == parts["D II"](picture, WORDS).shape == (3, 1)


def test_one_stage_draws_at_full_size(stackgan):
    settings, parts = built(stackgan, "--stages", "1")
    assert [*parts] == ["G I", "D I", "average of G I"]
    assert stackgan.pictures(settings, parts).images(WORDS).shape == (3, 16, 16, 3)


@pytest.mark.parametrize("augmentation", [0, 1])
def test_without_augmentation_only_z_makes_pictures_of_a_caption_differ(stackgan, augmentation):
    _, parts = built(stackgan, f"--augmentation={augmentation}")
    one, other = noise(), noise()
    other[:, 1:] = noise(seed=1)[:, 1:]
    images = [stackgan.generate([parts["G I"], parts["G II"]], Tensor(to_device(z)), WORDS)[0]
              .numpy() for z in (one, other)]
    assert (images[0] == images[1]).all() == (not augmentation)


def test_while_stage_two_learns_stage_one_stays_as_it_is(finished, tmp_path):
    run("stackgan", tmp_path, *SHORT, "--steps", 2, "--first", 0.99)  # both for stage I
    before = checkpoints.read(tmp_path).parts
    run("stackgan", tmp_path, "--resume", "--steps", 5, "--first", 0.4)
    after = checkpoints.read(tmp_path).parts
    for stage, stays in ("I", True), ("II", False):
        for part in f"G {stage}", f"D {stage}", f"average of G {stage}":
            same = [(array == before[part][name]).all() for name, array in after[part].items()]
            assert all(same) == stays


@pytest.mark.parametrize("mismatched, size", [(1, 8), (0, 4)])
def test_true_pictures_with_others_captions_are_wrong_too(mismatched, size, tmp_path, monkeypatch):
    sizes, discriminator = set(), losses.NonSaturating.discriminator

    def watched(game, real, fake):
        sizes.add((len(real), len(fake)))
        return discriminator(game, real, fake)

    monkeypatch.setattr(losses.NonSaturating, "discriminator", watched)
    run("stackgan", tmp_path, *SHORT, "--mismatched", mismatched)
    assert sizes == {(4, size)}


def test_a_caption_of_one_s_own(finished):
    before = (finished / checkpoints.FILE).read_bytes()
    words = "A happy person with dark skin, a red hat and black hair"
    assert f"{words}\n{finished / 'text.png'}\n" == demo(
        "stackgan.py", "--text", words, "--out", finished)
    picture = numpy.asarray(Image.open(finished / "text.png"))
    demo("stackgan.py", "--text", "red hair and a black hat", "--out", finished)
    assert (numpy.asarray(Image.open(finished / "text.png")) != picture).any()
    assert (finished / checkpoints.FILE).read_bytes() == before  # nothing was trained


@pytest.mark.parametrize(("options", "words"), [
    (["--text", "a happy horse"], ["horse", "the words are a, and, beard"]),
    (["--text", ""], ["1 to 24 words"]),
    (["--stages", "3"], ["--stages", "1, 2"]),
    (["--first", "1"], ["--first", "below 1"]),
])
def test_what_cannot_be_done_is_said_in_a_sentence(options, words, finished):
    printed = demo("stackgan.py", *options, "--out", finished, code=2)
    assert all(word in printed for word in words), printed
    assert "Traceback" not in printed


def test_pictures_of_the_same_captions_are_the_same_again(finished):
    pictures = [training.load(finished).pictures().images(WORDS) for _ in range(2)]
    numpy.testing.assert_array_equal(*pictures)


def test_figures_stand_between_those_of_real_characters_and_of_noise(finished):
    trained = training.load(finished)
    trained.settings.measure = 100
    metrics.report_captions(trained.settings, trained.pictures())
    rows = json.loads((finished / "figures.json").read_text())
    assert [*rows] == ["real", "real, 8 x 8", "stage I", "stage II"]
    assert rows["real"]["all six"] > 0.99 > 0.7 > rows["real, 8 x 8"]["all six"] > 0.4
    assert rows["stage II"]["all six"] < 0.05 < 0.3 < rows["real"]["beard"]
    distances = [rows[name]["Frechet"] for name in ("real", "real, 8 x 8", "stage II")]
    assert distances == sorted(distances) and distances[0] < 1
    assert rows["real"]["variety"] > rows["stage II"]["variety"] >= 0
    with numpy.load(finished / "figures.npz") as file:
        assert file["images"].shape == (1562, 16, 16, 3)
    assert numpy.asarray(Image.open(finished / "nearest.png")).std() > 1
