"""Each figure against a case whose answer is known."""

import argparse
import itertools
import json
import math

import numpy
import pytest

import tinygan
from tinygan import datasets, training
from tinygan.backend import to_device
from tinygan.datasets import Mixture, from_bytes
from tinygan.metrics import (
    CEILING,
    Region,
    accuracy_score,
    auroc,
    count_modes,
    digits,
    distances,
    frechet_distance,
    gaussian_fit,
    kernel_distance,
    measure,
    precision_and_recall,
    report_digits,
    report_modes,
    roc_curve,
    shipped_classifier,
    squared_distances,
    train_classifier,
)


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def held_out():
    return from_bytes(datasets.mnist("held-out").images)


# ---------------------------------------------------------------- points in the plane

CENTERS = numpy.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def test_a_mode_is_captured_by_one_sample_within_three_deviations():
    samples = numpy.array([[0.0, 2.9], [10.0, -3.1], [5.0, 5.0], [0.0, -2.0]])
    assert count_modes(samples, CENTERS, deviation=1.0) == (1, 1, 0.5, 3)
    assert count_modes(samples, CENTERS, deviation=1.1) == (2, 2, 0.75, 3)


def test_a_mode_is_covered_by_a_fifth_of_the_samples_that_are_due_to_it():
    """Of 60 samples 20 are due to each of three modes, and 4 are a fifth of these."""
    for count, covered in [(3, 1), (4, 2), (5, 2)]:
        samples = CENTERS[[0] * (60 - count) + [1] * count]
        assert count_modes(samples, CENTERS, deviation=0.1) == (2, covered, 1.0, 3)


def test_a_sample_near_two_modes_counts_for_the_nearest_alone():
    assert count_modes(numpy.array([[4.0, 0.0]]), CENTERS, deviation=3.0) == (1, 1, 1.0, 3)


def test_samples_of_the_mixture_itself_capture_all_modes():
    random = numpy.random.default_rng(0)
    samples = CENTERS[random.integers(0, 3, 2500)] + 0.1 * random.standard_normal((2500, 2))
    modes = count_modes(samples, CENTERS, deviation=0.1)
    assert modes.captured == modes.covered == 3
    # In the plane a Gaussian has exp(-9/2) = 1.1 % of its mass beyond three deviations.
    assert float(modes.on_one) == pytest.approx(1 - numpy.exp(-4.5), abs=0.01)


def test_samples_far_from_all_modes_capture_none():
    assert count_modes(numpy.full((5, 2), 100.0), CENTERS, deviation=1.0) == (0, 0, 0.0, 3)


def test_modes_are_counted_where_the_samples_are():
    """On a GPU without waiting for it; the curves to log are tensors on either device."""
    samples = numpy.float32(CENTERS[[0, 0, 0, 0, 0, 1]] + 0.01)
    seen = count_modes(to_device(samples), numpy.float32(CENTERS), deviation=0.1)
    assert seen == count_modes(samples, CENTERS, deviation=0.1) == (2, 2, 1.0, 3)
    assert {name: x.item() for name, x in seen.shares().items()} == pytest.approx(
        {"modes covered": 2 / 3, "on a mode": 1.0})


def test_the_modes_of_samples_are_reported_between_floor_and_ceiling(tmp_path, capsys):
    mixture = Mixture(numpy.float32(CENTERS), 0.1)
    settings = argparse.Namespace(out=tmp_path, seed=0)
    report_modes(settings, numpy.zeros((500, 2), "float32"), mixture)
    floor, found, ceiling = json.loads((tmp_path / "figures.json").read_text()).values()
    assert found == {"captured": 1, "covered": 1, "on_one": 1.0, "of": 3}
    assert floor["on_one"] < 0.01 and ceiling["captured"] == ceiling["covered"] == 3
    assert "samples of G" in capsys.readouterr().out
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert {array.shape for array in arrays.values()} == {(500, 2)}


# ---------------------------------------------------------------- Frechet distance


def with_moments(mean, covariance, count=400):
    """Points whose mean and covariance are exactly these."""
    points = normal(count, len(mean))
    points -= points.mean(axis=0)
    whitened = points @ numpy.linalg.inv(numpy.linalg.cholesky(numpy.cov(points.T))).T
    return mean + whitened @ numpy.linalg.cholesky(covariance).T


def test_frechet_distance_of_gaussians_along_the_axes():
    """|m - m'|^2 + sum (s - s')^2 where the covariances are diagonal, of deviations s, s'."""
    one = with_moments([1.0, 2.0, 3.0], numpy.diag([1.0, 4.0, 9.0]))
    other = with_moments([1.0, 0.0, 0.0], numpy.diag([4.0, 4.0, 0.25]))
    assert frechet_distance(one, other) == pytest.approx(4 + 9 + 1 + 0 + 2.5**2)


def test_frechet_distance_of_gaussians_whose_axes_differ():
    """In two dimensions tr (C C')^(1/2) is sqrt(tr(C C') + 2 sqrt(det C det C'))."""
    c, other_c = numpy.array([[2.0, 1.0], [1.0, 3.0]]), numpy.array([[4.0, -1.5], [-1.5, 1.0]])
    overlap = math.sqrt(numpy.trace(c @ other_c)
                        + 2 * math.sqrt(numpy.linalg.det(c) * numpy.linalg.det(other_c)))
    found = frechet_distance(with_moments([0, 0], c), with_moments([3, 4], other_c))
    assert found == pytest.approx(25 + 5 + 5 - 2 * overlap)


def test_frechet_distance_to_itself_is_zero_even_where_a_feature_never_moves():
    points = normal(50, 4) * [1, 2, 0, 3]
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-6)
    shuffled = numpy.random.default_rng(1).permutation(points)
    assert frechet_distance(points, shuffled) == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------- kernel distance


def test_kernel_distance_of_one_source_is_zero_up_to_chance():
    apart = [kernel_distance(normal(1000, 5, seed=2 * i), normal(1500, 5, seed=2 * i + 1))
             for i in range(20)]
    scores = [value / error for value, error in apart]
    assert max(abs(score) for score in scores) < 4
    assert min(scores) < 0 < max(scores)  # unbiased: not always positive
    assert 0.5 < numpy.std(scores) < 2  # the error is as large as it says


def test_kernel_distance_of_two_points_is_that_of_their_kernels():
    """k(x, x) + k(y, y) - 2 k(x, y), where all rows of a set are the same."""
    x, y = numpy.array([1.0, 2.0]), numpy.array([0.0, 3.0])
    value, error = kernel_distance(numpy.tile(x, (40, 1)), numpy.tile(y, (30, 1)))
    assert value == pytest.approx((5 / 2 + 1) ** 3 + (9 / 2 + 1) ** 3 - 2 * (6 / 2 + 1) ** 3)
    assert error == pytest.approx(0, abs=1e-9)


def test_the_error_of_a_kernel_distance_is_that_of_the_mean_over_its_subsets():
    value, error = kernel_distance(normal(400, 3), 0.3 + normal(300, 3, seed=1), subsets=4)
    apart = [kernel_distance(normal(400, 3), 0.3 + normal(300, 3, seed=1), 4, seed)[0]
             for seed in range(50)]
    assert 0.3 < error / numpy.std(apart) < 30 and abs(value - numpy.mean(apart)) < 4 * error


def test_kernel_distance_of_shifted_gaussians():
    """(x y + 1)^3 is the product of 1, sqrt(3) x, sqrt(3) x^2, x^3 with the same of y: MMD^2 is

    3 (E x - E y)^2 + 3 (E x^2 - E y^2)^2 + (E x^3 - E y^3)^2.
    """
    value, error = kernel_distance(normal(6000, 1), normal(6000, 1, seed=1) + 0.5)
    third = 0.5**3 + 3 * 0.5  # E y^3 of N(0.5, 1); that of N(0, 1) is 0
    exact = 3 * 0.5**2 + 3 * 0.25**2 + third**2
    assert abs(value - exact) < 4 * error < exact


# ---------------------------------------------------------------- precision and recall


def test_precision_and_recall_of_constructed_sets():
    """Real points at 0 to 9; samples among the first five, and as many far away."""
    real = numpy.arange(10.0)[:, None]
    samples = numpy.array([0.1, 1.1, 2.1, 3.1, 100.1, 101.1, 102.1, 103.1])[:, None]
    precision, recall = precision_and_recall(Region(real, 1), Region(samples, 1))
    assert precision == 0.5
    assert recall == 0.5  # 0 to 4: a ball reaches 1 to each side


def test_more_neighbours_make_the_regions_larger():
    real, samples = numpy.array([[0.0], [1.0], [5.0]]), numpy.array([[8.0], [20.0], [50.0]])
    precision, _ = precision_and_recall(Region(real, 1), Region(samples, 1))
    assert precision == pytest.approx(1 / 3)  # 5 +- 4
    assert precision_and_recall(Region(real[:2], 1), Region(samples, 1))[0] == 0
    with pytest.raises(ValueError):
        Region(real[:1], 1)


def test_precision_and_recall_agree_with_distances_taken_one_by_one(monkeypatch):
    real, samples = normal(60, 4), 0.5 + normal(45, 4, seed=1)

    def fraction(points, region, k=3):
        radius = [sorted(numpy.linalg.norm(region - r, axis=1))[k] for r in region]
        inside = [any(numpy.linalg.norm(region - p, axis=1) <= radius) for p in points]
        return numpy.mean(inside)

    expected = fraction(samples, real), fraction(real, samples)
    assert 0.1 < min(expected) and max(expected) < 1
    monkeypatch.setattr(distances, "BLOCK", 7)  # and whatever the size of the blocks
    assert precision_and_recall(Region(real), Region(samples)) == pytest.approx(expected)


def test_one_sample_again_and_again_has_precision_but_no_recall():
    real = normal(200, 3)
    one = numpy.tile(real[:1] + 1e-3, (50, 1))
    precision, recall = precision_and_recall(Region(real), Region(one))
    assert precision == 1 and recall == 0


# ---------------------------------------------------------------- scores of strangeness


def scored(kind, count=60):
    random = numpy.random.default_rng(kind)
    scores = random.standard_normal(count) if kind == 0 else random.integers(kind, size=count)
    return scores, random.random(count) < 0.3


@pytest.mark.parametrize("kind", [0, 1, 2, 5, 1000])  # no ties; all scores equal; two; five; few
def test_auroc_is_the_fraction_of_pairs_in_the_right_order(kind):
    scores, strange = scored(kind)
    pairs = itertools.product(scores[strange], scores[~strange])
    right = [1.0 if high > low else 0.5 if high == low else 0.0 for high, low in pairs]
    assert auroc(scores, strange) == pytest.approx(numpy.mean(right), abs=1e-12)
    assert auroc(-scores, strange) == pytest.approx(1 - numpy.mean(right), abs=1e-12)


def test_auroc_of_a_perfect_score_and_of_one_with_the_wrong_sign():
    strange = numpy.arange(10) >= 7
    assert auroc(numpy.arange(10), strange) == 1 and auroc(-numpy.arange(10), strange) == 0
    assert auroc([1.0, numpy.inf, -numpy.inf], [0, 1, 0]) == 1
    # More pairs than a 32-bit integer counts.
    assert auroc(numpy.arange(400_000), numpy.arange(400_000) >= 200_000) == 1


@pytest.mark.parametrize("kind", [0, 1, 2, 5])
def test_a_roc_curve_has_the_rates_at_every_threshold_and_auroc_beneath(kind):
    scores, strange = scored(kind)
    false, true = roc_curve(scores, strange)
    thresholds = [numpy.inf, *sorted(set(scores.tolist()), reverse=True)]
    for rates, kind_ in ((false, ~strange), (true, strange)):
        assert rates.tolist() == pytest.approx([(scores[kind_] >= t).mean() for t in thresholds])
    area = (numpy.diff(false) * (true[1:] + true[:-1]) / 2).sum()
    assert area == pytest.approx(auroc(scores, strange), abs=1e-12)


@pytest.mark.parametrize("score", [auroc, roc_curve])
@pytest.mark.parametrize(("scores", "strange"), [
    ([1, 2], [True, True]), ([1, 2], [False, False]), ([], []), ([1, math.nan], [True, False]),
    ([1, 2, 3], [True, False]), ([[1], [2]], [True, False]),
])
def test_scores_that_cannot_be_ranked_are_refused(score, scores, strange):
    with pytest.raises(ValueError, match="one score an example, no NaN, and both kinds"):
        score(scores, strange)


# ---------------------------------------------------------------- all figures of digits


def test_a_gaussian_fit_has_the_mean_and_the_covariance_of_the_pixels():
    images = (0.1 * normal(50, 2, 3, 1) @ numpy.ones((1, 1))).astype("float32")
    drawn = gaussian_fit(images, 40_000, seed=1)
    assert drawn.shape == (40_000, 2, 3, 1) and drawn.dtype == numpy.float32
    pixels, fitted = images.reshape(50, 6), drawn.reshape(-1, 6)
    numpy.testing.assert_allclose(fitted.mean(axis=0), pixels.mean(axis=0), atol=0.003)
    numpy.testing.assert_allclose(numpy.cov(fitted.T), numpy.cov(pixels.T), atol=0.0005)
    assert abs(gaussian_fit(10 * images, 1000)).max() == 1


@pytest.fixture(scope="module")
def floors():
    """The figures of held-out real digits and of the Gaussian fit."""
    shipped_classifier.cache_clear()
    before = tinygan.backend.generator.bit_generator.state
    held = datasets.mnist("held-out")
    fit = gaussian_fit(from_bytes(datasets.mnist().images), 1000)
    figures = measure(from_bytes(held.images), held.labels), measure(fit)
    # To measure in the midst of a training does not change the training.
    assert tinygan.backend.generator.bit_generator.state == before
    return figures


def test_held_out_digits_are_near_to_real_ones_and_a_gaussian_fit_is_far(floors):
    real, fit = floors
    assert real["Frechet"] < 2 and fit["Frechet"] > 20
    assert min(real["precision"], real["recall"]) > 0.8 and fit["recall"] < 0.2
    assert real["as asked"] >= 0.98 and "as asked" not in fit


def test_the_kernel_distance_of_held_out_digits_is_zero_up_to_its_error(floors):
    real, fit = floors
    digits_seen = digits._real_digits()
    seen = shipped_classifier().see(held_out())[0] / digits_seen.spread
    value, error = kernel_distance(seen, digits_seen.region.points)
    assert real["kernel"] == value and abs(value) < 4 * error
    assert fit["kernel"] > 10 * error


def test_a_single_digit_again_and_again_is_told_from_all_ten(floors):
    labels = datasets.mnist("held-out").labels
    only_sevens = numpy.tile(held_out()[labels == 7], (12, 1, 1, 1))[:1000]
    sevens = measure(only_sevens, numpy.full(1000, 7))
    assert sevens["as asked"] > 0.97 and sevens["recall"] < 0.3
    assert sevens["Frechet"] > 10 * floors[0]["Frechet"]


def test_images_of_another_range_or_dtype_are_refused_and_named(monkeypatch):
    real = held_out()
    of_bytes = datasets.mnist("held-out").images
    for images, words in [
        ((real + 1) / 2, r"in \[0, 1\]: use 2 \* images - 1 for \[0, 1\]"),
        (of_bytes.astype("float32"), r"in \[0, 255\]: .* from_bytes for bytes"),
        (real * 3, r"in \[-3, 3\]"), (real * numpy.nan, "nan"),
        (of_bytes, "not uint8: from_bytes"), (of_bytes > 127, "not bool"),
    ]:
        for use in (measure, accuracy_score, shipped_classifier().see):
            with pytest.raises(datasets.DataError, match=words):
                use(images)
    for images in (of_bytes, of_bytes > 127):
        with pytest.raises(datasets.DataError, match="floats in"):
            gaussian_fit(images, 1000)
    with pytest.raises(datasets.DataError, match="not uint8"):
        squared_distances(of_bytes, of_bytes)


def test_converted_as_the_refusal_says_digits_are_measured_right(floors):
    halves = (held_out() + 1) / 2
    assert measure(2 * halves - 1)["Frechet"] == pytest.approx(floors[0]["Frechet"], rel=1e-3)
    assert measure(held_out().astype("float64"))["Frechet"] == pytest.approx(floors[0]["Frechet"])


def test_labels_of_another_shape_are_refused():
    labels = datasets.mnist("held-out").labels
    for wrong in (labels[:, None], labels[:999], 3):
        with pytest.raises(ValueError, match=r"1000 images need labels of shape \(1000,\)"):
            measure(held_out(), wrong)


@pytest.mark.parametrize("kind", ["uint8", "int16", "float16", "bool"])
def test_distances_of_narrow_numbers_are_those_of_wide_ones(kind):
    one, other = ((100 * abs(normal(40, 3, seed=s))).astype(kind) for s in (0, 1))
    wide, other_wide = one.astype("float64"), other.astype("float64")
    assert frechet_distance(one, other) == frechet_distance(wide, other_wide)
    assert kernel_distance(one, other) == kernel_distance(wide, other_wide)
    assert Region(one).holds(other) == Region(wide).holds(other_wide)
    for found, right in zip(distances.nearest(one, other), distances.nearest(wide, other_wide),
                            strict=True):
        numpy.testing.assert_array_equal(found, right)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="1,000"):
        measure(held_out()[:999])


def test_the_accuracy_score_of_wrong_labels_is_low(monkeypatch):
    real = datasets.mnist()
    images, labels = from_bytes(real.images[:640]), real.labels[:640]
    seen = []
    monkeypatch.setattr(digits, "train_classifier",
                        lambda data, seed: seen.append(data) or train_classifier(data, seed, 5))
    right = accuracy_score(images, labels)
    wrong = accuracy_score(images, (labels + 1) % 10)
    unlabelled = accuracy_score(images)
    assert right > 0.6 and wrong < 0.2 and abs(unlabelled - right) < 0.1
    numpy.testing.assert_array_equal(seen[0].images, real.images[:640])  # the same bytes


# ---------------------------------------------------------------- beside floor and ceiling


class Copies:
    """Draws training digits; of the first half of them, another digit than was asked for."""

    def __init__(self, classes):
        self.classes = classes

    def samples(self, count, seed, labels):
        images, shown = datasets.mnist()
        rows = [numpy.flatnonzero(shown == (i + (i < count // 2)) % 10)[i // 10]
                for i in range(count)]
        return from_bytes(images[rows])


@pytest.mark.parametrize("classes", [0, 10])
def test_digits_are_compared_with_a_floor_and_a_ceiling(floors, classes, tmp_path):
    real, fit = floors
    settings = argparse.Namespace(out=tmp_path, seed=0, data="mnist", measure=1000)
    report_digits(settings, Copies(classes))
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert list(rows) == [digits.FLOOR, "samples of G", CEILING]
    floor, copies, ceiling = rows.values()
    assert floor == pytest.approx(fit) and floor["Frechet"] > 10 * copies["Frechet"]
    assert copies["precision"] == 1
    if classes:
        assert ceiling == pytest.approx(real) and "as asked" not in floor
        assert copies["as asked"] == pytest.approx(0.5, abs=0.02)
    else:
        assert not any("as asked" in row for row in rows.values())


def reported(folder, **options):
    """What report_digits writes of a generator that knows nothing but the mean of the digits."""
    mean = from_bytes(datasets.mnist().images).mean(axis=0)
    settings = argparse.Namespace(out=folder, seed=0, data="mnist", measure=1000)
    vars(settings).update(options)
    pictures = training.Pictures(lambda z, labels=None: tinygan.Tensor(to_device(
        numpy.repeat(mean[None], len(z), axis=0))), 2, classes=options.get("classes", 0))
    report_digits(settings, pictures)


def test_a_run_ends_with_a_report_of_its_digits(tmp_path, capsys):
    reported(tmp_path, measure=1, classes=10)
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert rows["samples of G"]["as asked"] == 0.1 and rows["samples of G"]["recall"] < 0.01
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert arrays["images"].shape == (1000, 28, 28, 1) and arrays["images"].dtype == "uint8"
        assert arrays["labels"][:12].tolist() == [*range(10), 0, 1]
    assert "samples of G" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"measure": 0}, {"data": "fashion"}, {"data": "folder:x"}])
def test_what_is_no_digit_or_not_to_be_measured_is_left_alone(tmp_path, options):
    reported(tmp_path, **options)
    assert not list(tmp_path.iterdir())
