"""SRGAN: what its networks make, how the run goes from one phase to the other, --enlarge."""

import json

import numpy
import pytest
import test_demos
from PIL import Image
from test_demos import log_of, run
from test_training import demo

from tinygan import Tensor, datasets, training
from tinygan.backend import to_device
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", "6", "--batch-size", "2", "--width", "4"]


@pytest.fixture
def srgan():
    return load_demo("srgan")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a short run, and what it printed."""
    out = tmp_path_factory.mktemp("run")
    return out, demo("srgan.py", *SHORT, "--out", out)


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr("tinygan.metrics.report_photographs", lambda out, ways: None)


def small(n=2, height=6, width=5):
    numbers = numpy.random.default_rng(0).random((n, height, width, 3), dtype="float32")
    return Tensor(to_device(2 * numbers - 1))


@pytest.mark.parametrize("upscale", ["resize", "shuffle"])
def test_g_begins_with_the_bicubic_enlargement(srgan, upscale):
    low = small()
    made = srgan.Generator(4, upscale)(low).numpy()
    assert made.shape == (2, 24, 20, 3) and made.dtype == numpy.float32
    expected = Tensor(datasets.bicubic(low.data, 24, 20)).numpy()
    numpy.testing.assert_allclose(made, expected, atol=5e-3)


def test_d_answers_for_patches_of_any_photograph(srgan):
    D = srgan.build(srgan.options().parse_args(["--width=4"]))["D"]
    assert D(small(2, 48, 48)).shape == (2, 6, 6, 1) and D(small(1, 24, 40)).shape == (1, 3, 5, 1)


@pytest.mark.parametrize("upscale", ["resize", "shuffle"])
def test_g_looks_no_further_than_the_margin_of_a_tile(srgan, upscale):
    G, reach = srgan.Generator(3, upscale), 12
    G.layers.layers[-1].weight.data *= 1e4
    x = Tensor(small(1, 41, 41).data, requires_grad=True)
    G.layers(x)[0, 80:84, 80:84].sum().backward()  # the pixels of the small one in the middle
    rows = numpy.flatnonzero(abs(x.grad.numpy()).max(axis=(0, 2, 3)))
    assert 20 - reach <= rows[0] < 20 < rows[-1] <= 20 + reach


def test_at_first_g_learns_alone_and_its_average_is_kept(tmp_path, no_report):
    run("srgan", tmp_path, *SHORT, "--alone=0.5")
    rows = log_of(tmp_path)
    assert [row["D loss"] > 0 for row in rows] == [False] * 3 + [True] * 3
    parts = checkpoints.read(tmp_path).parts
    assert parts["squared error"]["steps"] == 3 and parts["average of G"]["steps"] == 6
    name = "layers.layers.0.weight"
    assert (parts["squared error"][name] != parts["average of G"][name]).any()


def test_d_may_play_from_the_start(tmp_path, no_report):
    run("srgan", tmp_path, *SHORT, "--alone=0")
    assert all(row["D loss"] > 0 for row in log_of(tmp_path))


def states(folder):
    return checkpoints.read(folder).parts


def test_without_its_weight_d_says_nothing_to_g(tmp_path, no_report):
    for name, words in (("a", []), ("b", ["--r1=0", "--d-lr=0.1"]), ("c", ["--adversarial=1"])):
        run("srgan", tmp_path / name, *SHORT, "--alone=0", "--adversarial=0", *words)
    a, b, c = (states(tmp_path / name) for name in "abc")
    for name, array in a["G"].items():
        assert numpy.array_equal(array, b["G"][name])
    assert any((array != c["G"][name]).any() for name, array in a["G"].items())
    assert any((array != b["D"][name]).any() for name, array in a["D"].items())


def test_content_in_features_goes_through_d(tmp_path, no_report):
    for content in ("pixels", "features"):
        run("srgan", tmp_path / content, *SHORT, f"--content={content}")
    pixels, features = (log_of(tmp_path / content) for content in ("pixels", "features"))
    assert pixels[:3] == features[:3]  # alone it is the squared error in any case
    assert all(a["content"] != b["content"] for a, b in zip(pixels[3:], features[3:], strict=True))
    assert all(numpy.isfinite(row["content"]) for row in features)


@pytest.mark.parametrize("content", ["pixels", "features"])
def test_a_step_against_d_copies_nothing_back(content, cuda_on_cpu, tmp_path, monkeypatch):
    words = ["--batch-size=4", "--width=2", "--alone=0", f"--content={content}"]
    monkeypatch.setattr(test_demos, "words_of", lambda name: words)
    test_demos.test_a_step_copies_nothing_back("srgan", cuda_on_cpu, tmp_path, monkeypatch)


def test_photographs_of_one_s_own_are_learnt_from(tmp_path, no_report):
    for i in range(2):
        noise = numpy.random.default_rng(i).integers(256, size=(70, 60, 3)).astype(numpy.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    run("srgan", tmp_path / "run", *SHORT, f"--data=folder:{tmp_path}", "--size=64")
    assert checkpoints.read(tmp_path / "run").step == 6


def test_photographs_too_small_are_one_sentence(tmp_path, capsys):
    Image.fromarray(numpy.zeros((70, 60, 3), numpy.uint8)).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as end:
        run("srgan", tmp_path / "run", *SHORT, f"--data=folder:{tmp_path}", "--size=32")
    assert end.value.code == 2 and "crops of 48 x 48 pixels" in capsys.readouterr().err


def test_at_the_end_photographs_are_measured_and_shown(finished):
    out, printed = finished
    rows = json.loads((out / "figures.json").read_text())
    assert [*rows] == ["blocks", "bicubic", "squared error", "SRGAN", "truth"]
    assert rows["squared error"] != rows["SRGAN"]
    assert "texture" in printed and "SRGAN" in printed
    assert Image.open(out / "photographs.png").width == 5 * 256 + 4 * 6


def test_a_photograph_of_one_s_own_is_enlarged(finished, tmp_path):
    out, _ = finished
    path, pixels = tmp_path / "mine.jpg", numpy.full((37, 90, 3), (200, 30, 90), numpy.uint8)
    Image.fromarray(pixels).save(path)
    printed = demo("srgan.py", "--enlarge", path, "--out", out)
    made = numpy.asarray(Image.open(out / "enlarged.png")).astype(int)
    assert "90 x 37" in printed and "enlarged.png" in printed
    assert made.shape == (4 * 37, 4 * 90, 3)
    assert abs(made - (200, 30, 90)).max() < 25  # after six steps nearly the bicubic enlargement


def test_what_cannot_be_enlarged_is_one_sentence(finished, tmp_path, capsys, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.setattr("sys.argv", ["srgan.py", "--enlarge", str(tmp_path / "text.png"), "--out",
                                     str(finished[0])])
    program = load_demo("srgan")
    with pytest.raises(SystemExit) as end:
        training.main(program.options(), program.train, instead={"enlarge": program.enlarge})
    assert end.value.code == 2 and "cannot be read as a picture" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--upscale=bilinear"], ["--content=vgg"], ["--alone=1"],
                                   ["--adversarial=-1"]])
def test_wrong_options_are_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        load_demo("srgan").options().parse_args(words)
    assert end.value.code == 2 and words[0].partition("=")[0] in capsys.readouterr().err
