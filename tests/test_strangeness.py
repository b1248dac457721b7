"""What does not belong: the scores that need no network, pasted strokes, AnoGAN and DeepSVDD."""

import json

import numpy
import pytest
from PIL import Image
from test_demos import run
from test_training import demo

import tinygan
from tinygan import metrics, training
from tinygan.metrics import OneDigit, squared_distances
from tinygan.training.trained import load_demo

SMALL = ["--steps", 6, "--batch-size", 4, "--width", 2]


@pytest.fixture(scope="module")
def fours():
    return metrics.one_digit(4)


def test_one_digit_is_learned_and_the_held_out_ones_are_judged(fours):
    assert fours.normal.shape[1:] == fours.judged.shape[1:] == (28, 28, 1)
    assert 800 < len(fours.normal) < 1000 and len(fours.judged) == 1000
    assert fours.strange.sum() == (tinygan.datasets.mnist("held-out").labels != 4).sum()


def test_the_classical_scores_have_the_figures_that_are_known(fours):
    """Distance to the mean 86.3, nearest neighbour 94.9 and PCA 95.3 over the ten digits."""
    found = {name: 100 * metrics.auroc(scores, fours.strange)
             for name, scores in metrics.classical_scores(fours).items()}
    assert found == pytest.approx({
        "distance to the mean": 88.86, "nearest neighbour": 94.10, "PCA, 32 components": 95.70,
    }, abs=0.01)


def test_the_classical_scores_are_squared_distances(fours):
    random = numpy.random.default_rng(0)
    normal, judged = random.standard_normal((50, 6)), random.standard_normal((9, 6))
    found = metrics.classical_scores(OneDigit(normal, judged, None))
    to_all = ((judged[:, None] - normal) ** 2).sum(axis=2)
    numpy.testing.assert_allclose(found["nearest neighbour"], to_all.min(axis=1))
    numpy.testing.assert_allclose(found["distance to the mean"],
                                  ((judged - normal.mean(axis=0)) ** 2).sum(axis=1))
    numpy.testing.assert_allclose(found["PCA, 32 components"], 0, atol=1e-9)  # all 6 are kept


def test_pasted_strokes_are_marked_where_they_are(fours):
    pasted, masks = metrics.pasted_strokes(fours, seed=0)
    normal = fours.judged[~fours.strange]
    assert pasted.shape == masks.shape == normal.shape
    changed = pasted != normal
    assert (masks <= changed).all() and (masks.sum(axis=(1, 2, 3)) >= 8).all()
    rows, columns = numpy.nonzero(changed[0, ..., 0])
    assert numpy.ptp(rows) <= 8 and numpy.ptp(columns) <= 8  # within reach of one pixel
    again, _ = metrics.pasted_strokes(fours, seed=0)
    assert (again == pasted).all()


# ---------------------------------------------------------------- AnoGAN


@pytest.fixture
def anogan():
    system = load_demo("anogan")
    settings = system.options().parse_args(["--width", "2", "--starts", "50", "--search", "20"])
    tinygan.seed(1)
    return system, settings, system.build(settings)


def test_the_search_finds_what_g_makes_and_not_what_it_cannot(anogan):
    system, settings, parts = anogan
    G = parts["average of G"].network
    for parameter in G.parameters():  # far from the flat start, so that z matters
        parameter.data *= 8
    z = numpy.random.default_rng(7).standard_normal((20, settings.latent), dtype="float32")
    own, others = training.apply(G, z), numpy.ones((20, 28, 28, 1), "float32")
    near = squared_distances(own, system.search(G, own, settings))
    settings.search = 0
    begun = squared_distances(own, system.search(G, own, settings))
    assert near.mean() < 0.7 * begun.mean()
    assert near.max() < squared_distances(others, system.search(G, others, settings)).min()


def test_the_residual_has_the_weight_of_nine_tenths(anogan, fours, tmp_path):
    system, settings, parts = anogan
    settings.out = tmp_path
    few = OneDigit(fours.normal[:50], fours.judged[:60], fours.strange[:60])
    scores = system.judge(few, settings, parts)
    expected = 0.9 * scores["residual"] + 0.1 * scores["lambda 1"]
    numpy.testing.assert_allclose(scores["lambda 0.1"], expected, rtol=1e-6)
    assert not numpy.allclose(scores["residual"], scores["lambda 1"])
    assert Image.open(tmp_path / "strange.png").size[0] > 100


def test_it_marks_a_picture_of_ones_own(tmp_path):
    run("anogan", tmp_path / "run", *SMALL)
    digit = Image.new("L", (60, 50))
    digit.paste(255, (25, 5, 32, 45))
    digit.save(tmp_path / "mine.png")
    said = demo("anogan.py", "--image", tmp_path / "mine.png", "--out", tmp_path / "run")
    assert "marked.png" in said
    assert Image.open(tmp_path / "run" / "marked.png").size == (84, 3 * (3 * 28 + 2))
    said = demo("anogan.py", "--image", tmp_path / "none.png", "--out", tmp_path / "run", code=2)
    assert "cannot be read as a picture" in said and "Traceback" not in said


# ---------------------------------------------------------------- DeepSVDD


@pytest.mark.parametrize("nu", [0.01, 0.3])
def test_the_share_of_training_images_outside_the_saved_sphere_is_nu(nu, tmp_path):
    run("deepsvdd", tmp_path, "--steps", 60, "--width", 4, "--nu", nu)
    view = training.load(tmp_path).pictures()
    outside = view.scores(view.normal) > view.sphere.radius_squared.numpy()
    assert outside.mean() == pytest.approx(nu, abs=0.02)


@pytest.mark.parametrize("words", [[], ["--no-batchnorm", "--bias", "--centre-zero"]])
def test_what_the_paper_forbids_is_in_the_network_only_if_asked_for(words):
    system = load_demo("deepsvdd")
    phi = system.build(system.options().parse_args(words))["phi"]
    biases = [name for name in phi.named_parameters() if name.endswith(("bias", "shift"))]
    assert bool(biases) == bool(words)


def test_several_digits_make_a_table_and_a_curve_each(tmp_path, capsys):
    run("deepsvdd", tmp_path, *SMALL, "--digits", "2-3")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"distance to the mean", "nearest neighbour", "PCA, 32 components",
                              "DeepSVDD"}
    for row in figures.values():
        assert row["mean"] == pytest.approx((row["2"] + row["3"]) / 2)
    for digit in (2, 3):
        assert (tmp_path / f"digit-{digit}" / "roc.png").exists()
    with numpy.load(tmp_path / "figures.npz") as file:
        assert file["2_DeepSVDD"].shape == (1000,)
    with pytest.raises(SystemExit):
        run("deepsvdd", tmp_path, *SMALL, "--digits", "2-3")
    assert "digit-2 holds a run already" in capsys.readouterr().err
    for wrong in ("3-2", "all", "0-10"):
        with pytest.raises(SystemExit):
            run("deepsvdd", tmp_path / "other", "--digits", wrong)
        assert "--digits" in capsys.readouterr().err
