"""The figures of checkpoints whose quality is known, beside their floors."""

import json
import sys

import numpy
import pytest

import tinygan
from tinygan import datasets, evaluate, metrics, training
from tinygan.datasets import from_bytes
from tinygan.files import UsageError
from tinygan.functions import concatenate, one_hot
from tinygan.layers import Dense, Module, Reshape, Sequential, Tanh
from tinygan.training import checkpoints, trained

LATENT = 40


class Generator(Module):
    """A dense network; labels, if there are any, stand beside the latents."""

    def __init__(self, classes):
        self.layers = Sequential(Dense(LATENT + classes, 784), Tanh(), Reshape(28, 28, 1))

    def forward(self, latents, labels=None):
        if labels is None:
            return self.layers(latents)
        return self.layers(concatenate([latents, one_hot(labels, 10)], axis=1))


class Demo:
    """As small as a demo can be."""

    def options(self):
        parser = training.parser("small", "", steps=7, data="mnist")
        parser.add_argument("--classes", type=int, default=0)
        return parser

    def build(self, settings):
        return {"G": Generator(settings.classes)}

    def pictures(self, settings, parts):
        return training.Pictures(parts["G"], LATENT, classes=settings.classes)


@pytest.fixture(autouse=True, scope="module")
def _demo():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "load_demo", lambda name: Demo())
        yield


def saved(folder, labels, data="mnist"):
    """A run that was never trained: G adds real variation to the mean of all digits, or of each.

    Its images are mean + sum z_i sqrt(v_i) u_i with the largest principal components u_i.
    """
    digits = datasets.mnist()
    pixels, classes = from_bytes(digits.images).reshape(9000, 784), 10 if labels else 0
    groups = [pixels[digits.labels == k] for k in range(10)] if labels else [pixels]
    means = numpy.stack([group.mean(axis=0) for group in groups])
    centered = numpy.concatenate(
        [group - mean for group, mean in zip(groups, means, strict=True)]
    )
    values, vectors = numpy.linalg.eigh(numpy.cov(centered, rowvar=False))
    shapes = (vectors * numpy.sqrt(numpy.maximum(values, 0))).T[::-1][:LATENT]
    means = numpy.arctanh(means * 0.99)
    weights = {
        "layers.layers.0.weight": numpy.concatenate([shapes / 4, means]) if labels else shapes,
        "layers.layers.0.bias": numpy.zeros(784) if labels else means[0],
    }
    checkpoints.write(folder, checkpoints.Checkpoint(
        "small", 5, {"classes": classes, "data": data}, {}, {}, {},
        {"G": {name: array.astype(numpy.float32) for name, array in weights.items()}},
    ))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return saved(folder / "plain", labels=False), saved(folder / "labelled", labels=True)


def ask(monkeypatch, *words):
    words = ["evaluate", "--device", tinygan.device(), *map(str, words)]
    monkeypatch.setattr(sys, "argv", words)
    evaluate.main()


@pytest.fixture(scope="module")
def found(runs, tmp_path_factory):
    """What the command printed and wrote with all its options, and the data it trained on."""
    path, lines, trained = tmp_path_factory.mktemp("json") / "found", [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *words: lines.append(" ".join(map(str, words))))
        patch.setattr(metrics.digits, "train_classifier", lambda data, seed: (
            trained.append(data) or metrics.shipped_classifier()
        ))
        ask(patch, *runs, "--count", 1000, "--train", "--json", path)
    return "\n".join(lines), json.loads(path.read_text()), trained


@pytest.fixture
def names(runs):
    return [f"{run}, step 5" for run in runs]


def cells(table, width):
    """The cells of a printed table by the name of their row."""
    return {line[:width].strip(): line[width:].split() for line in table.splitlines()[1:]}


def test_every_row_and_every_figure_is_in_the_table_and_the_file(found, names):
    printed, written, _ = found
    assert written["count"] == 1000 and written["seed"] == 0
    assert list(written["figures"]) == [metrics.digits.FLOOR, *names, metrics.CEILING]
    table = cells(printed.split("\n\n")[1], max(map(len, names)))
    for name, row in written["figures"].items():
        for cell, (title, places) in zip(table[name], evaluate.PLACES.items(), strict=True):
            assert cell == (f"{row[title]:.{places}f}" if title in row else "-")


def test_figures_that_nobody_has_are_left_out_and_the_others_explained(capsys):
    evaluate.print_figures({"one": {"recall": 0.5}})
    table, reading = capsys.readouterr().out.split("\n\n")
    assert "0.500" in table
    for title in evaluate.PLACES:
        assert (title in table) == (title == "recall")
        assert title.lower() in reading.lower()


def test_a_classifier_learns_from_each_set_of_samples(found):
    printed, written, trained = found
    assert [len(data.images) for data in trained] == [1000] * 3  # not from held-out digits
    assert trained[2].labels.tolist() == list(range(10)) * 100  # as G was asked
    scores = [row["score"] for row in written["figures"].values()]
    assert min(scores) == max(scores) >= 0.98 and "Score, with --train" in printed


def test_the_figures_tell_the_known_generators_apart(found):
    gaussian, plain, labelled, held_out = found[1]["figures"].values()
    assert held_out["Frechet"] < labelled["Frechet"]
    assert labelled["recall"] < 0.5 < held_out["recall"]  # hardly more than ten images
    assert labelled["as asked"] > 0.9 and "as asked" not in plain
    assert min(gaussian["kernel"], plain["kernel"]) > 0.1


def test_a_generator_of_something_else_is_refused(runs, monkeypatch, tmp_path):
    clothes = saved(tmp_path, labels=False, data="fashion")
    with pytest.raises(UsageError, match="trained on fashion, but these figures are of"):
        ask(monkeypatch, runs[0], clothes)


def test_images_that_are_not_finite_are_an_error(monkeypatch, runs, tmp_path):
    checkpoint = checkpoints.read(runs[0])
    broken = {name: array * numpy.float32("nan") for name, array in checkpoint.parts["G"].items()}
    checkpoints.write(tmp_path, checkpoint._replace(parts={"G": broken}))
    with pytest.raises(UsageError, match="NaN"):
        ask(monkeypatch, tmp_path, "--count", 1000)


@pytest.mark.parametrize("words", [["--count", "999"], ["--seed", "-1"]])
def test_options_out_of_range_are_an_error(runs, monkeypatch, capsys, words):
    with pytest.raises(SystemExit) as exit_:
        ask(monkeypatch, runs[0], *words)
    printed = capsys.readouterr().err
    assert exit_.value.code == 2 and all(word in printed for word in words)
