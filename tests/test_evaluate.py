"""The figures of checkpoints whose quality is known, beside their floors."""

import json
import sys

import numpy
import pytest
from tinygan.checkpoints import Checkpoint, describe

import tinygan
from tinygan import checkpoints, datasets, evaluate, metrics
from tinygan.files import UsageError
from tinygan.layers import Dense, Reshape, Sequential, Tanh
from tinygan.metrics import as_images

LATENT = 40


def saved(folder, labels, data="mnist"):
    """A run that was never trained: G adds real variation to the mean of all digits, or of each.

    Its images are mean + sum z_i sqrt(v_i) u_i with the largest principal components u_i.
    """
    digits = datasets.mnist()
    pixels, classes = as_images(digits).reshape(9000, 784), 10 if labels else 0
    groups = [pixels[digits.labels == k] for k in range(10)] if labels else [pixels]
    means = numpy.stack([group.mean(axis=0) for group in groups])
    centered = numpy.concatenate(
        [group - mean for group, mean in zip(groups, means, strict=True)]
    )
    values, vectors = numpy.linalg.eigh(numpy.cov(centered, rowvar=False))
    shapes = (vectors * numpy.sqrt(numpy.maximum(values, 0))).T[::-1][:LATENT]
    means = numpy.arctanh(means * 0.99)
    weights = {
        "layers.0.weight": numpy.concatenate([shapes / 4, means]) if labels else shapes,
        "layers.0.bias": numpy.zeros(784) if labels else means[0],
    }
    network = Sequential(Dense(LATENT + classes, 784), Tanh(), Reshape(28, 28, 1))
    checkpoints.write(folder, Checkpoint(
        5, {"latent": LATENT, "data": data}, {}, classes, ["G", describe(network)], {},
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
        patch.setattr(evaluate, "CENTERS", 5)
        patch.setattr(metrics, "train_classifier", lambda data, seed: (
            trained.append(data) or metrics.shipped_classifier()
        ))
        ask(patch, *runs, "--count", 1000, "--train", "--parzen", "--json", path)
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
    assert list(written["figures"]) == [evaluate.HELD_OUT, evaluate.GAUSSIAN, *names]
    table = cells(printed.split("\n\n")[1], max(map(len, names)))
    for name, row in written["figures"].items():
        for cell, (_, figure, places, _) in zip(table[name], evaluate.FIGURES, strict=True):
            assert cell == ("-" if row[figure] is None else f"{row[figure]:.{places}f}")
    shares = cells(printed.split("\n\n")[2], max(map(len, names)))
    for name, row in written["figures"].items():
        assert shares[name] == [f"{share:.1%}" for share in row["histogram"]]


def test_figures_that_nobody_has_are_left_out_and_the_others_explained(capsys):
    evaluate.print_figures({"one": {"recall": 0.5, "entropy": None, "histogram": [0.1] * 10}})
    printed = capsys.readouterr().out
    assert "recall: share" in printed and "0.500" in printed
    for title, figure, _, _ in evaluate.FIGURES:
        assert (title in printed) == (figure == "recall")


def test_a_classifier_learns_from_each_set_of_samples(found):
    printed, written, trained = found
    assert [len(data.images) for data in trained] == [1000] * 3  # not from held-out digits
    assert trained[2].labels.tolist() == list(range(10)) * 100  # as G was asked
    scores = [row["accuracy_score"] for row in written["figures"].values()]
    assert min(scores) == max(scores) >= 0.98 and "score: share" in printed


def test_parzen_windows_stand_beside_their_controls(found, names):
    printed, written, _ = found
    nats = {name: row["log_likelihood"] for name, row in written["parzen"].items()}
    real, means = "9,000 real training digits", "5 means of clusters of them"
    assert list(nats) == [evaluate.GAUSSIAN, *names, real, means]
    assert nats[real] > nats[evaluate.GAUSSIAN]
    table = cells(printed.split("\n\n")[-2], max(map(len, names)))
    assert {name: float(row[0]) for name, row in table.items()} == {
        name: round(value) for name, value in nats.items()
    }


def test_the_figures_tell_the_known_generators_apart(found):
    held_out, gaussian, plain, labelled = found[1]["figures"].values()
    assert held_out["frechet_distance"] < labelled["frechet_distance"]
    assert labelled["recall"] < 0.5 < held_out["recall"]  # hardly more than ten images
    assert labelled["conditional_accuracy"] > 0.9 and plain["conditional_accuracy"] is None
    assert labelled["entropy"] == pytest.approx(numpy.log(10), abs=0.02)
    assert min(gaussian["kernel_distance"], plain["kernel_distance"]) > 0.1


def test_a_generator_of_something_else_is_refused(runs, monkeypatch, tmp_path):
    clothes = saved(tmp_path, labels=False, data="fashion")
    with pytest.raises(UsageError, match="trained on fashion, but these figures know only digits"):
        ask(monkeypatch, runs[0], clothes)


def test_images_that_are_not_finite_are_an_error(monkeypatch, runs, tmp_path):
    checkpoint = checkpoints.read(runs[0])
    broken = {name: array * numpy.float32("nan") for name, array in checkpoint.parts["G"].items()}
    checkpoints.write(tmp_path, checkpoint._replace(parts={"G": broken}))
    with pytest.raises(UsageError, match="nan"):
        ask(monkeypatch, tmp_path, "--count", 1000)


@pytest.mark.parametrize("words", [["--count", "999"], ["--seed", "-1"]])
def test_options_out_of_range_are_an_error(runs, monkeypatch, capsys, words):
    with pytest.raises(SystemExit) as exit_:
        ask(monkeypatch, runs[0], *words)
    printed = capsys.readouterr().err
    assert exit_.value.code == 2 and all(word in printed for word in words)
