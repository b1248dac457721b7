"""CycleGAN: what its losses do, its kinds of images, its figures, and what it refuses."""

import json

import numpy
import pytest
from PIL import Image
from test_demos import run
from test_training import demo

from tinygan import Tensor, datasets, metrics, training
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", 2, "--batch-size", 4, "--width", 2]


def figures_of(out):
    return json.loads((out / "figures.json").read_text())


def weights_after(out, *words):
    run("cyclegan", out, *SHORT, "--measure", 0, *words)
    return checkpoints.read(out).parts["G"]


@pytest.mark.parametrize("words", [["--cycle", 0], ["--identity", 1], ["--pool", 0]])
def test_each_part_of_the_loss_moves_g(words, tmp_path):
    steps = ["--steps", 6, "--pool", 4]
    plain = weights_after(tmp_path / "plain", *steps)
    other = weights_after(tmp_path / "other", *steps, *words)
    assert any((plain[name] != other[name]).any() for name in plain)


def test_nobody_is_told_a_label(tmp_path, monkeypatch):
    run("cyclegan", tmp_path / "one", *SHORT, "--measure", 0)
    digits = datasets.uci_digits
    monkeypatch.setattr(datasets, "uci_digits", lambda side: digits(side)._replace(labels=None))
    run("cyclegan", tmp_path / "other", *SHORT, "--measure", 0)
    one, other = (checkpoints.read(tmp_path / name).parts for name in ("one", "other"))
    for part, arrays in one.items():
        for name, array in arrays.items():
            numpy.testing.assert_array_equal(array, other[part][name])


def test_digits_are_read_before_and_after(tmp_path):
    run("cyclegan", tmp_path, *SHORT, "--measure", 150)
    rows = figures_of(tmp_path)
    assert rows["x"]["read right"] > 0.7 and rows["MNIST's own"]["read right"] > 0.95
    assert 0.2 < rows["y"]["read right"] < 0.7
    assert rows["x"]["ink IoU"] == rows["y"]["ink IoU"] == 1
    assert {"read right", "1s", "9s", "ink IoU", "trip L1", "trip right"} == rows["G(x)"].keys()
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert arrays["G(x)"].shape == (150, 28, 28, 1) and len(arrays["labels of y"]) == 150


def test_translators_that_do_nothing_get_the_figures_of_untranslated_images(tmp_path):
    settings = load_demo("cyclegan").options().parse_args(["--out", str(tmp_path)])
    settings.measure = 100
    data = load_demo("cyclegan").load(settings, "held-out")
    metrics.report_round_trips(settings, data, lambda x: x, lambda y: y)
    rows = figures_of(tmp_path)
    for kind, translated in (("x", "G(x)"), ("y", "F(y)")):
        assert rows[translated].pop("trip L1") == 0 and rows[translated].pop("trip right") > 0.8
        assert rows[translated] == rows[kind]


def test_the_true_pairs_have_no_error(tmp_path):
    settings = load_demo("cyclegan").options().parse_args(["--out", str(tmp_path)])
    settings.data, settings.measure = "emoji", 20
    x, y = (datasets.from_bytes(kind[:20]) for kind in datasets.emoji("held-out"))
    metrics.report_round_trips(settings, datasets.emoji("held-out"), lambda _: Tensor(y),
                               lambda _: Tensor(x))
    rows = figures_of(tmp_path)
    assert rows["G(x)"] == rows["F(y)"] | {"ink IoU": 1, "L1": 0, "trip L1": 0}
    assert rows["x"] == rows["y"] and rows["x"]["L1"] > 0.1 and rows["x"]["ink IoU"] < 0.8


def test_intersection_over_union():
    ink = numpy.zeros((3, 2, 2, 1), dtype=bool)
    other = ink.copy()
    ink[0] = other[0] = True  # all, nothing, and one pixel of three
    ink[1, 0, 0] = ink[1, 0, 1] = other[1, 0, 1] = other[1, 1, 1] = True
    assert metrics.intersection_over_union(ink, other) == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_no_emoji_is_on_both_sides():
    outlines, colours = datasets.unpaired_emoji()
    pairs = datasets.emoji()
    designs = {}
    for outline, colour in zip(*pairs, strict=True):
        designs.setdefault(colour.tobytes(), set()).add(outline.tobytes())
    shown = {outline.tobytes() for outline in outlines}
    assert all(not designs[colour.tobytes()] & shown for colour in colours)
    assert 1700 < len(colours) <= len(outlines) < 1900


def test_emoji_become_coloured_and_back(tmp_path):
    run("cyclegan", tmp_path, *SHORT, "--data", "emoji", "--measure", 5)
    assert figures_of(tmp_path)["G(x)"].keys() == {"L1", "ink IoU", "trip L1"}
    picture = Image.open(tmp_path / "samples.png")
    assert picture.mode == "RGB" and picture.size == (3 * (12 * 33 - 1), 3 * (6 * 33 - 1))
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert arrays["G(x)"].shape == (5, 32, 32, 3) and arrays["F(y)"].shape == (5, 32, 32, 1)


def test_two_folders_of_one_s_own(tmp_path):
    for kind, count in ("horse", 12), ("zebra", 25):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (9, 9), (number, 99, 200)).save(tmp_path / f"data/{kind}/{number}.png")
    run("cyclegan", tmp_path / "run", *SHORT, "--data", f"folder:{tmp_path}/data", "--size", 8,
        "--identity", 1)
    assert figures_of(tmp_path / "run")["F(y)"].keys() == {"trip L1"}
    pictures = training.load(tmp_path / "run").pictures()
    assert len(pictures.x) == len(pictures.y) == 2  # of 12 and 25, every tenth: one row for each


@pytest.mark.parametrize(("words", "expected"), [
    (["--data", "emoji", "--identity", 1], ["--identity", "emoji", "1 and 3"]),
    (["--data", "zebras"], ["zebras", "digits", "emoji", "folder:PATH"]),
    (["--data", "folder:nowhere"], ["nowhere"]),
    (["--size", 30], ["--size 30", "multiple of 4"]),
    (["--side", 30], ["30", "8 to 28"]),
    (["--pool", 3], ["pool of 3", "batch of 16"]),
    (["--cycle", -1], ["--cycle", "from 0"]),
])
def test_what_cannot_be_done_is_said_in_a_sentence(words, expected, tmp_path):
    printed = demo("cyclegan.py", *words, "--steps", 1, "--out", tmp_path / "run", code=2)
    assert all(word in printed for word in expected), printed
    assert "Traceback" not in printed
