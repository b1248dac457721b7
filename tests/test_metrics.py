"""Each figure against a case whose answer is known."""

import math

import numpy
import pytest

import tinygan
from tinygan import datasets, metrics
from tinygan.classifier import as_images, shipped_classifier, train_classifier
from tinygan.metrics import (
    Estimate,
    accuracy_score,
    count_modes,
    frechet_distance,
    gaussian_fit,
    k_means,
    kernel_distance,
    measure,
    parzen_log_likelihood,
    precision_and_recall,
)


def normal(*shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape)


def held_out():
    return as_images(datasets.mnist("held-out"))


def test_the_standard_error_of_a_mean():
    assert Estimate.of(numpy.array([1.0, 2.0, 6.0])) == pytest.approx((3.0, math.sqrt(7 / 3)))


# ---------------------------------------------------------------- points in the plane

CENTERS = numpy.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])


def test_a_mode_is_captured_by_one_sample_within_three_deviations():
    samples = numpy.array([[0.0, 2.9], [10.0, -3.1], [5.0, 5.0], [0.0, -2.0]])
    assert count_modes(samples, CENTERS, deviation=1.0) == (1, 0.5)
    assert count_modes(samples, CENTERS, deviation=1.1) == (2, 0.75)


def test_a_sample_near_two_modes_counts_for_the_nearest_alone():
    assert count_modes(numpy.array([[4.0, 0.0]]), CENTERS, deviation=3.0) == (1, 1.0)


def test_samples_of_the_mixture_itself_capture_all_modes():
    random = numpy.random.default_rng(0)
    samples = CENTERS[random.integers(0, 3, 2500)] + 0.1 * random.standard_normal((2500, 2))
    modes = count_modes(samples, CENTERS, deviation=0.1)
    assert modes.captured == 3
    # In the plane a Gaussian has exp(-9/2) = 1.1 % of its mass beyond three deviations.
    assert modes.high_quality == pytest.approx(1 - numpy.exp(-4.5), abs=0.01)


def test_samples_far_from_all_modes_capture_none():
    assert count_modes(numpy.full((5, 2), 100.0), CENTERS, deviation=1.0) == (0, 0.0)


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
    scores = [distance.value / distance.error for distance in apart]
    assert max(abs(score) for score in scores) < 4
    assert min(scores) < 0 < max(scores)  # unbiased: not always positive
    assert 0.5 < numpy.std(scores) < 2  # the error is as large as it says


def test_kernel_distance_of_two_points_is_that_of_their_kernels():
    """k(x, x) + k(y, y) - 2 k(x, y), where all rows of a set are the same."""
    x, y = numpy.array([1.0, 2.0]), numpy.array([0.0, 3.0])
    found = kernel_distance(numpy.tile(x, (40, 1)), numpy.tile(y, (30, 1)))
    assert found.value == pytest.approx((5 / 2 + 1) ** 3 + (9 / 2 + 1) ** 3 - 2 * (6 / 2 + 1) ** 3)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_kernel_distance_of_shifted_gaussians():
    """(x y + 1)^3 is the product of 1, sqrt(3) x, sqrt(3) x^2, x^3 with the same of y: MMD^2 is

    3 (E x - E y)^2 + 3 (E x^2 - E y^2)^2 + (E x^3 - E y^3)^2.
    """
    found = kernel_distance(normal(6000, 1), normal(6000, 1, seed=1) + 0.5)
    third = 0.5**3 + 3 * 0.5  # E y^3 of N(0.5, 1); that of N(0, 1) is 0
    exact = 3 * 0.5**2 + 3 * 0.25**2 + third**2
    assert abs(found.value - exact) < 4 * found.error < exact


# ---------------------------------------------------------------- precision and recall


def test_precision_and_recall_of_constructed_sets():
    """Real points at 0 to 9; samples among the first five, and as many far away."""
    real = numpy.arange(10.0)[:, None]
    samples = numpy.array([0.1, 1.1, 2.1, 3.1, 100.1, 101.1, 102.1, 103.1])[:, None]
    precision, recall = precision_and_recall(real, samples, neighbours=1)
    assert precision == 0.5
    assert recall == 0.5  # 0 to 4: a ball reaches 1 to each side


def test_more_neighbours_make_the_regions_larger():
    real, samples = numpy.array([[0.0], [1.0], [5.0]]), numpy.array([[8.0], [20.0], [50.0]])
    assert precision_and_recall(real, samples, neighbours=1)[0] == pytest.approx(1 / 3)  # 5 +- 4
    assert precision_and_recall(real[:2], samples, neighbours=1)[0] == 0
    with pytest.raises(ValueError):
        precision_and_recall(real[:1], samples, neighbours=1)


def test_precision_and_recall_agree_with_distances_taken_one_by_one(monkeypatch):
    real, samples = normal(60, 4), 0.5 + normal(45, 4, seed=1)

    def share(points, region, k=3):
        radius = [sorted(numpy.linalg.norm(region - r, axis=1))[k] for r in region]
        inside = [any(numpy.linalg.norm(region - p, axis=1) <= radius) for p in points]
        return numpy.mean(inside)

    expected = share(samples, real), share(real, samples)
    assert 0.1 < min(expected) and max(expected) < 1
    monkeypatch.setattr(metrics, "BLOCK", 7)  # and whatever the size of the blocks
    assert precision_and_recall(real, samples) == pytest.approx(expected)


def test_one_sample_again_and_again_has_precision_but_no_recall():
    real = normal(200, 3)
    precision, recall = precision_and_recall(real, numpy.tile(real[:1] + 1e-3, (50, 1)))
    assert precision == 1 and recall == 0


# ---------------------------------------------------------------- Parzen windows


def test_a_window_at_one_sample_is_the_density_of_a_gaussian():
    point, x, sigma = numpy.array([[0.2, 0.4, 0.9]]), normal(6, 3), 0.5
    found = parzen_log_likelihood(point, x, x, numpy.array([sigma]))
    squares = ((x - point) ** 2).sum(axis=1)
    exact = -squares / (2 * sigma**2) - 1.5 * math.log(2 * math.pi * sigma**2)
    assert found.log_likelihood == pytest.approx(exact.mean())
    assert found.error == pytest.approx(exact.std(ddof=1) / math.sqrt(6))
    assert found.deviation == sigma


def test_windows_are_averaged_and_far_samples_do_not_underflow():
    samples, x = numpy.array([[0.0], [1.0]]), numpy.array([[0.0], [0.0], [1000.0], [1000.0]])
    near = math.log((1 + math.exp(-0.5)) / 2) - 0.5 * math.log(2 * math.pi)
    far = -(999**2) / 2 - math.log(2) - 0.5 * math.log(2 * math.pi)
    found = parzen_log_likelihood(samples, x, x, numpy.array([1.0]))
    assert found.log_likelihood == pytest.approx((near + far) / 2)


def test_the_width_is_the_one_that_suits_the_validation_points():
    """For one sample at 0 and points at distance r in P dimensions, r / sqrt(P)."""
    validation = numpy.full((5, 4), 0.3)
    found = parzen_log_likelihood(numpy.zeros((1, 4)), validation, validation + 9,
                                  numpy.array([0.1, 0.2, 0.3, 0.4, 5.0]))
    assert found.deviation == 0.3


def test_means_of_clusters_get_more_than_as_many_real_digits():
    """The weakness of the measure (Theis et al. 2016)."""
    def points(images):
        return (images.reshape(len(images), -1).astype(float) + 1) / 2

    real, test = points(as_images(datasets.mnist())[:2000]), points(held_out())
    windows = [parzen_log_likelihood(samples, test[:200], test[200:400]).log_likelihood
               for samples in (k_means(real, 100, rounds=5), real[:100], real[:1000])]
    assert windows[0] > windows[2] > windows[1]


def test_k_means_finds_clusters_that_lie_apart():
    centers = numpy.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    points = (centers[:, None] + normal(3, 30, 2)).reshape(90, 2)
    found = k_means(points, 3, seed=1)
    nearest = numpy.linalg.norm(found[:, None] - centers, axis=2).argmin(axis=1)
    assert sorted(nearest) == [0, 1, 2]
    means = points.reshape(3, 30, 2).mean(axis=1)
    numpy.testing.assert_allclose(found, means[nearest])


def test_k_means_leaves_a_center_that_no_point_is_nearest_to():
    assert numpy.isfinite(k_means(numpy.ones((10, 3)), 4)).all()


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
    fit = gaussian_fit(as_images(datasets.mnist()), 1000)
    figures = measure(as_images(held), held.labels), measure(fit)
    # To measure in the midst of a training does not change the training.
    assert tinygan.backend.generator.bit_generator.state == before
    return figures


def test_held_out_digits_are_near_to_real_ones_and_a_gaussian_fit_is_far(floors):
    real, fit = floors
    assert real.frechet_distance < 2 and fit.frechet_distance > 20
    assert real.frechet_distance == real.frechet_of_1000
    assert abs(real.kernel_distance) < 4 * real.kernel_error
    assert fit.kernel_distance > 10 * fit.kernel_error
    assert min(real.precision, real.recall) > 0.8 and fit.recall < 0.2
    assert real.conditional_accuracy >= 0.98 and fit.conditional_accuracy is None


def test_the_histogram_counts_what_is_seen_and_the_entropy_follows(floors):
    labels = datasets.mnist("held-out").labels
    counts = numpy.bincount(labels, minlength=10) / 1000
    assert floors[0].histogram == pytest.approx(counts.tolist(), abs=0.01)
    assert floors[0].entropy == pytest.approx(math.log(10), abs=0.02)
    only_sevens = numpy.tile(held_out()[labels == 7], (12, 1, 1, 1))[:1000]
    sevens = measure(only_sevens, numpy.full(1000, 7))
    assert sevens.histogram[7] == sevens.conditional_accuracy > 0.97
    assert sevens.entropy < 0.2 and sevens.recall < 0.3
    assert sevens.frechet_distance > 10 * floors[0].frechet_distance


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="1,000"):
        measure(held_out()[:999])


def test_the_accuracy_score_of_wrong_labels_is_low(monkeypatch):
    real = datasets.mnist()
    images, labels = as_images(real)[:640], real.labels[:640]
    seen = []
    monkeypatch.setattr(metrics, "train_classifier",
                        lambda data, seed: seen.append(data) or train_classifier(data, seed, 5))
    right = accuracy_score(images, labels)
    wrong = accuracy_score(images, (labels + 1) % 10)
    unlabelled = accuracy_score(images)
    assert right > 0.6 and wrong < 0.2 and abs(unlabelled - right) < 0.1
    numpy.testing.assert_array_equal(seen[0].images, real.images[:640])  # the same bytes
