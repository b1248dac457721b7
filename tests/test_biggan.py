"""BigGAN: what every layer is told, what is switched off, and samples within a threshold."""

import json

import numpy
import pytest
from PIL import Image
from test_demos import run
from test_training import demo

from tinygan import Tensor, losses, training
from tinygan.attention import SelfAttention
from tinygan.backend import to_device
from tinygan.metrics import digits
from tinygan.normalization import SpectralNorm
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

SHORT = ["--steps", "3", "--batch-size", "4", "--width", "4", "--measure", "0"]


@pytest.fixture
def biggan():
    return load_demo("biggan")


def built(biggan, *words):
    return biggan.build(biggan.options().parse_args(["--width", "4", *words]))


def made(G, z, labels):
    return G(Tensor(to_device(z)), to_device(numpy.array(labels))).numpy()


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape, dtype="float32")


def kinds(network):
    return {type(module) for module in network.modules()}


def test_both_networks_attend_and_have_spectral_norm_if_asked(biggan):
    plain, parts = built(biggan), built(biggan, "--spectral-norm", "2")
    without = built(biggan, "--without", "attention")
    for name in "GD":
        assert {SpectralNorm, SelfAttention} < kinds(parts[name])
        norms = [module for module in parts[name].modules() if isinstance(module, SpectralNorm)]
        assert {norm.bound for norm in norms} == {2}
        weights = [key for key, w in parts[name].named_parameters().items() if w.ndim > 1]
        assert all(".layer.weight" in key or key == "embedding.weight" for key in weights)
        assert SelfAttention in kinds(plain[name]) and SpectralNorm not in kinds(plain[name])
        assert SelfAttention not in kinds(without[name])


@pytest.mark.parametrize("words", [[], ["--without", "skip-z"]])
def test_the_class_and_z_are_told_to_every_layer(biggan, words, monkeypatch):
    G = built(biggan, *words)["G"].eval()
    told = {}
    for number, norm in enumerate(G.norms):
        forward = norm.forward
        monkeypatch.setattr(norm, "forward", lambda x, condition, n=number, f=forward: (
            told.update({n: condition.numpy()}), f(x, condition))[1])
    start = G.start.forward
    monkeypatch.setattr(G.start, "forward", lambda x: (told.update(start=x.numpy()), start(x))[1])
    z, labels = normal(3, 16), [4, 0, 4]
    made(G, z, labels)
    rows = G.embedding.weight.numpy()[labels]
    both = numpy.hstack([rows, z])
    assert numpy.array_equal(told["start"], both)
    for number in (0, 1):
        assert numpy.array_equal(told[number], rows if words else both)


def test_the_label_alone_makes_another_picture(biggan):
    G = built(biggan, "--width", "16")["G"].eval()
    images = made(G, numpy.zeros((10, 16), "float32"), range(10))
    assert images.shape == (10, 28, 28, 1) and len({image.tobytes() for image in images}) == 10


def test_characters_are_16_by_16_in_colour_with_six_classes(biggan):
    parts = built(biggan, "--data", "characters")
    images = made(parts["G"].eval(), normal(6, 16), range(6))
    logits = parts["D"](Tensor(to_device(images)), to_device(numpy.arange(6)))
    assert images.shape == (6, 16, 16, 3) and logits.shape == (6, 1)


def test_the_orthogonal_penalty_is_gs_alone(biggan, tmp_path, monkeypatch):
    seen, penalty = [], losses.orthogonal_penalty
    monkeypatch.setattr(
        losses, "orthogonal_penalty", lambda weights: seen.append(len(weights)) or penalty(weights))
    run("biggan", tmp_path / "without", *SHORT)
    assert seen == []
    run("biggan", tmp_path / "with", *SHORT, "--orthogonal", "0.1")
    G = built(biggan)["G"]
    assert seen == 3 * [sum(weight.ndim > 1 for weight in G.parameters())]
    one, other = (checkpoints.read(tmp_path / name).parts["G"] for name in ("without", "with"))
    assert any((one[name] != other[name]).any() for name in one)


def test_samples_at_each_threshold_are_measured_and_drawn(biggan, tmp_path, monkeypatch):
    monkeypatch.setattr(biggan, "THRESHOLDS", (1.0, 0.1))
    monkeypatch.setattr(digits, "measure", lambda images, labels=None: {  # which takes seconds
        "precision": abs(images).mean().item(), "recall": images.std().item()})
    settings = biggan.options().parse_args([*SHORT, "--measure", "1000", "--out", str(tmp_path)])
    biggan.train(settings)
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert [*rows] == ["Gaussian fit of the pixels", "samples of G", "truncated at 1.0",
                       "truncated at 0.1", "held-out real digits"]
    assert len({str(row) for row in rows.values()}) == 5
    assert numpy.asarray(Image.open(tmp_path / "truncation.png")).std() > 1
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert {"images", "labels", "images truncated at 0.1"} <= {*arrays}


def test_the_pictures_of_a_run_take_their_statistics_anew(biggan, tmp_path):
    run("biggan", tmp_path, *SHORT)
    trained = training.load(tmp_path)
    pictures = trained.pictures()
    norm = trained.parts["average of G"].network.norms[0].normalized
    norm.running_mean.data += 5  # as if they were of other weights
    first = pictures.samples(10, labels=numpy.arange(10))
    assert abs(norm.running_mean.numpy()).max() < 1
    assert numpy.array_equal(pictures.samples(10, labels=numpy.arange(10)), first)
    trained.settings.without = "standing-statistics"
    before, pictures = norm.running_mean.numpy().copy(), trained.pictures()
    pictures.samples(10)
    assert numpy.array_equal(norm.running_mean.numpy(), before)


def test_images_without_labels_are_refused(tmp_path):
    Image.new("L", (28, 28)).save(tmp_path / "image.png")
    printed = demo("biggan.py", "--data", f"folder:{tmp_path}", "--out", tmp_path / "run", code=2)
    assert "no labels" in printed and "mnist" in printed
