"""AugGAN: what the two decoders share, what the parsers must find, and what is measured."""

import json
import math

import numpy
import pytest
from test_demos import run

import tinygan
from tinygan import Tensor, check_gradients, training
from tinygan.metrics import augmentation
from tinygan.training.trained import load_demo

SHORT = ["--steps", "3", "--batch-size", "4", "--width", "2"]


@pytest.fixture
def auggan():
    return load_demo("auggan")


def test_painter_and_parser_read_the_same_features(auggan):
    translator = auggan.Translator(2)
    images = Tensor(numpy.random.default_rng(0).random((3, 28, 28, 1), "float32"))
    for decoder in (0, 1):
        answer = translator(images)[decoder]
        assert answer.shape == images.shape
        for parameter in translator.parameters():
            parameter.grad = None
        (answer**2).sum().backward()
        assert all(weight.grad is not None for weight in translator.encoder.parameters())


def test_the_distance_is_0_for_parallel_decoders_whatever_their_size(auggan):
    translator = auggan.Translator(2)
    pairs = [*zip(translator.painter.parameters(), translator.parser.parameters(), strict=True)]
    one, other = (numpy.concatenate([pair[i].numpy().ravel() for pair in pairs]) for i in (0, 1))
    cosine = one @ other / math.sqrt((one @ one) * (other @ other))
    assert translator.distance().item() == pytest.approx(-math.log(cosine**2), rel=1e-3)
    for paint, parse in pairs:
        parse.data[...] = -3 * paint.data
    assert translator.distance().item() == pytest.approx(0, abs=1e-5)


def test_the_parsing_loss_is_the_cross_entropy_of_ink(auggan):
    images = Tensor(numpy.array([[-1.0, 0.9], [0.05, 1.0]]).reshape(1, 2, 2, 1))
    sure = Tensor(numpy.array([[-50.0, 50.0], [-50.0, 50.0]]).reshape(1, 2, 2, 1))
    loss = auggan.parsing_loss
    assert loss(sure, images).item() == pytest.approx(0)
    assert loss(-sure, images).item() == pytest.approx(50)
    assert loss(sure * 0.0, images).item() == pytest.approx(math.log(2))
    check_gradients(lambda x: loss(x, images), sure.numpy() / 50)


def test_without_parsing_the_parsers_stay_and_pull_at_nothing(auggan, tmp_path):
    for sharing in ("0", "9"):
        run("auggan", tmp_path / sharing, *SHORT, "--parsing=0", f"--sharing={sharing}",
            "--measure=0")
    one, other = (training.load(tmp_path / sharing).parts["A"].state() for sharing in ("0", "9"))
    assert all((one[name] == other[name]).all() for name in one)
    tinygan.seed(0)
    first = auggan.Translator(2).state()
    assert all((one[name] == first[name]).all() for name in one if name.startswith("parser"))


def test_it_measures_structure_and_what_translations_teach(tmp_path, monkeypatch):
    monkeypatch.setattr(augmentation, "STEPS", 30)
    run("auggan", tmp_path, *SHORT, "--measure=1")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [*figures] == ["as they are", "translated", "MNIST's own"]
    assert figures["as they are"]["read right"] == pytest.approx(0.893, abs=0.01)
    assert all(0 <= figure <= 1 for row in figures.values() for figure in row.values())
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert arrays["images"].shape == arrays["sources"].shape == (1797, 28, 28, 1)
        assert arrays["parsed"].dtype == bool and arrays["images"].dtype == numpy.uint8
