"""What Pix2Pix alone has: skips, figures by the artists' colours, a drawing of one's own."""

import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

from tinygan import Tensor, datasets, metrics, training
from tinygan.training.trained import load_demo

ROOT = Path(__file__).parents[1]


def build(**changes):
    demo = load_demo("pix2pix")
    arguments = [f"--{name}={value}" for name, value in {"width": 2, **changes}.items()]
    return demo.build(demo.options().parse_args(arguments))


def test_without_skips_all_passes_the_smallest_layer():
    """Where that layer gives 0, G says the same of every outline."""
    outlines = Tensor(numpy.random.default_rng(0).random((4, 32, 32, 1), dtype="float32"))
    for skips in (0, 1):
        G = build(skips=skips)["G"].eval()
        G.downs[-1].layers[0].weight.data *= 0
        made = G(outlines).numpy()
        assert (made.std(axis=0).max() == 0) == (not skips)


def test_a_size_that_cannot_be_halved_four_times_is_refused():
    with pytest.raises(training.UsageError, match="--size 24: expected a multiple of 16"):
        build(size=24)


PALETTE = numpy.array([[0, 0, 0], [255, 255, 255], [255, 0, 0]], "uint8")


def test_pixels_snap_to_the_nearest_colour():
    images = numpy.array([[[[10, 0, 5], [200, 250, 255], [200, 30, 20]]]], "uint8")
    assert metrics.colours.snapped(images, PALETTE).tolist() == [[[0, 1, 2]]]


def test_figures_of_colours_by_hand():
    truth = PALETTE[[[[0, 0], [1, 1]]]]
    made = PALETTE[[[[0, 1], [1, 2]]]]
    figures = metrics.colour_figures(made, truth, PALETTE)
    assert figures["pixel"] == 1 / 2
    assert figures["class"] == (1 / 2 + 1 / 2) / 2  # black and white; no red is there
    assert figures["IoU"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert figures["histogram"] == 3 / 4  # one black, two white
    assert figures["L1"] == pytest.approx((0 + 2 + 0 + 2 * 2 / 3) / 4)
    perfect = metrics.colour_figures(truth, truth, PALETTE)
    assert perfect == {"pixel": 1, "class": 1, "IoU": 1, "L1": 0, "histogram": 1}


def test_the_floor_of_the_held_out_emoji():
    outlines, colours = datasets.emoji("held-out")
    found = metrics.colour_figures(
        numpy.repeat(outlines, 3, axis=3), colours, datasets.emoji_palette())
    assert {name: round(found[name], 3) for name in ("pixel", "class", "IoU", "histogram")} == {
        "pixel": 0.738, "class": 0.197, "IoU": 0.131, "histogram": 0.804}


def test_a_drawing_of_ones_own_gets_its_colours(tmp_path):
    drawing = numpy.full((50, 50), 255, "uint8")
    drawing[10:40, 10:12] = 0
    Image.fromarray(drawing).save(tmp_path / "my drawing.png")

    def run(*arguments):
        command = [sys.executable, ROOT / "demos" / "pix2pix.py", "--out", tmp_path / "run"]
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)

    assert run("--steps=2", "--batch-size=2", "--width=2", "--measure=0").returncode == 0
    found = run("--colour", tmp_path / "my drawing.png")
    assert found.returncode == 0 and "colour.png" in found.stdout
    with Image.open(tmp_path / "run" / "colour.png") as picture:
        assert picture.width > picture.height
    missing = run("--colour", tmp_path / "none.png")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
