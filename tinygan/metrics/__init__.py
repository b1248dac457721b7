"""How good and how varied samples are: points in the plane, and digits seen by a classifier.

Letters: N samples, F features, P coordinates, M modes or centres. Images are (N, H, W, C) in
[-1, 1]. Statistics are computed in float64, on the host, and distances block by block.

A figure says little alone. It is read beside two others: what held-out real digits get, better
than which is chance or learning by heart, and what a Gaussian fit of the pixels gets.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy

from .. import datasets
from .classifier import accuracy, as_images, shipped_classifier, train_classifier
from ..datasets import Dataset

BLOCK = 500  # rows of a table of distances at a time


class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: numpy.ndarray) -> "Estimate":
        """Of independent values, two or more."""
        return cls(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


# ---------------------------------------------------------------- points in the plane


class Modes(NamedTuple):
    """What count_modes found."""

    captured: int  # modes that have at least one high-quality sample
    high_quality: float  # share of the samples that lie on a mode


def count_modes(samples: numpy.ndarray, centers: numpy.ndarray, deviation: float) -> Modes:
    """How many modes of a mixture samples (N, 2) reach, and the share that lies on one.

    A sample is of high quality if its nearest centre of (M, 2) is at most 3 deviations away;
    a mode is captured if a high-quality sample has it as its nearest (Srivastava et al. 2017,
    "VEEGAN", section 4.1; Lin et al. 2018, "PacGAN", section 4.1).
    """
    distances = numpy.linalg.norm(samples[:, None] - centers, axis=2)  # (N, M)
    on_a_mode = distances.min(axis=1) <= 3 * deviation
    captured = numpy.unique(distances.argmin(axis=1)[on_a_mode])
    return Modes(len(captured), float(on_a_mode.mean()))


# ---------------------------------------------------------------- digits in features


@functools.cache
def _training_digits() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Features of the 9,000 training digits in units of their spread, and that spread (F,)."""
    features, _ = shipped_classifier().see(as_images(datasets.mnist()))
    spread = features.std(axis=0)
    return features / spread, spread


# ---------------------------------------------------------------- two sets of features


def frechet_distance(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)): how far apart two Gaussians are.

    m and C, m' and C' are mean and covariance of features (N, F) and (N', F). Heusel et al.
    2017, eq. 6. It is biased: fewer samples give a larger distance.
    """
    c, other_c = numpy.cov(one, rowvar=False), numpy.cov(other, rowvar=False)
    # C C' has the eigenvalues of R C' R with R = C^(1/2), which is symmetric.
    root = _square_root(c)
    eigenvalues = numpy.linalg.eigvalsh(root @ other_c @ root)
    overlap = numpy.sqrt(numpy.maximum(eigenvalues, 0)).sum()
    apart = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    return float(apart + numpy.trace(c) + numpy.trace(other_c) - 2 * overlap)


def _square_root(matrix: numpy.ndarray) -> numpy.ndarray:
    """The symmetric R with R R = matrix, for a covariance."""
    values, vectors = numpy.linalg.eigh(matrix)
    return vectors * numpy.sqrt(numpy.maximum(values, 0)) @ vectors.T


def kernel_distance(
    one: numpy.ndarray, other: numpy.ndarray, parts: int = 10, seed: int = 0
) -> Estimate:
    """KID, the unbiased MMD^2 of features (N, F), (N', F) with k(x, y) = (x.y / F + 1)^3:

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over pairs of different rows. On average 0, at
    times below, where both come from one source. Binkowski et al. 2018, section 4. Both sets are
    cut into parts, each compared with one of the other: values of their own have a standard error.
    """
    random = numpy.random.default_rng(seed)
    pairs = zip(
        numpy.array_split(random.permutation(one), parts),
        numpy.array_split(random.permutation(other), parts), strict=True,
    )

    def kernel(x: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: numpy.ndarray) -> float:
        values = kernel(x, x)
        return (values.sum() - numpy.trace(values)) / (len(x) * (len(x) - 1))

    return Estimate.of(numpy.array(
        [within(x) + within(y) - 2 * kernel(x, y).mean() for x, y in pairs]
    ))


def precision_and_recall(
    real: numpy.ndarray, samples: numpy.ndarray, neighbours: int = 3
) -> tuple[float, float]:
    """The share of samples (N, F) that lie in the region of the real (N', F), and the reverse.

    The region of a set is the balls around its points that reach to their k-th nearest
    neighbour in it. Kynkäänniemi et al. 2019, eq. 1 and 2. Low precision: samples unlike all that
    is real; low recall: real images that no sample comes near to. A region is generous where its
    points are rare: in the middle of all features even noise has some precision.
    """
    return _share_inside(samples, real, neighbours), _share_inside(real, samples, neighbours)


def _share_inside(points: numpy.ndarray, region: numpy.ndarray, neighbours: int) -> float:
    radii = numpy.concatenate([  # the nearest of a point is itself
        numpy.partition(block, neighbours, axis=1)[:, neighbours]
        for block in _squared_distances(region, region)
    ])
    return float(numpy.concatenate([
        (block <= radii).any(axis=1) for block in _squared_distances(points, region)
    ]).mean())


def _squared_distances(points: numpy.ndarray, others: numpy.ndarray) -> Iterator[numpy.ndarray]:
    """|x - y|^2 of points (N, P) to others (M, P), BLOCK rows of the (N, M) at a time."""
    lengths = (others**2).sum(axis=1)
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        squares = (block**2).sum(axis=1)[:, None] + lengths - 2 * block @ others.T
        yield numpy.maximum(squares, 0)


# ---------------------------------------------------------------- Parzen windows

DEVIATIONS = numpy.logspace(-1, 0, 10)


class Parzen(NamedTuple):
    """What parzen_log_likelihood found."""

    log_likelihood: float  # of a test point, on average, in nats
    error: float  # its standard error
    deviation: float  # of the Gaussians, chosen on the validation points


def parzen_log_likelihood(
    samples: numpy.ndarray, validation: numpy.ndarray, test: numpy.ndarray,
    deviations: numpy.ndarray = DEVIATIONS,
) -> Parzen:
    """ln (1/M) sum_m N(x; s_m, sigma^2 I) over points x (N, P), of Gaussians at samples s (M, P).

    sigma is the one of the deviations that suits the validation points best. Goodfellow et al.
    2014, section 5, for pixels in [0, 1]. That it is no measure of pictures shows in what gets
    more than real digits do: a few centres that k_means finds (Theis et al. 2016, table 1).
    """
    means = _log_densities(validation, samples, deviations).mean(axis=1)
    best = deviations[means.argmax()]
    return Parzen(*Estimate.of(_log_densities(test, samples, best[None])[0]), float(best))


def _log_densities(
    points: numpy.ndarray, samples: numpy.ndarray, deviations: numpy.ndarray
) -> numpy.ndarray:
    """ln (1/M) sum_m N(x; s_m, sigma^2 I) for each sigma and each point: (S, N)."""
    size = points.shape[1]

    def of(squares: numpy.ndarray, deviation: float) -> numpy.ndarray:
        powers = squares * (-0.5 / deviation**2)  # (N, M)
        largest = powers.max(axis=1, keepdims=True)  # its power is at least 1: no ln of 0
        mean = numpy.exp(powers - largest).mean(axis=1)
        return largest[:, 0] + numpy.log(mean) - size * math.log(deviation * math.sqrt(2 * math.pi))

    return numpy.concatenate([
        [of(squares, deviation) for deviation in deviations]
        for squares in _squared_distances(points, samples)
    ], axis=1)


def k_means(points: numpy.ndarray, count: int, rounds: int = 10, seed: int = 0) -> numpy.ndarray:
    """Centres (count, P) of points (N, P), after so many rounds.  Lloyd 1982.

    From random points on: each point joins its nearest centre, which moves to their mean.
    """
    from tqdm import tqdm

    random = numpy.random.default_rng(seed)
    centers = points[random.choice(len(points), count, replace=False)]
    for _ in tqdm(range(rounds), desc="k-means", leave=False, disable=None):
        nearest = [block.argmin(axis=1) for block in _squared_distances(points, centers)]
        members = numpy.concatenate(nearest) == numpy.arange(count)[:, None]  # (M, N)
        sizes = members.sum(axis=1, keepdims=True)
        means = members.astype(points.dtype) @ points / numpy.maximum(sizes, 1)
        centers = numpy.where(sizes > 0, means, centers)
    return centers


# ---------------------------------------------------------------- all figures of digits


def gaussian_fit(images: numpy.ndarray, count: int, seed: int = 0) -> numpy.ndarray:
    """count images from a Gaussian with the mean and covariance of the pixels of images.

    What knows only how bright pixels are and which go together: every generator should beat it.
    """
    pixels = images.reshape(len(images), -1)
    noise = numpy.random.default_rng(seed).standard_normal((count, pixels.shape[1]))
    drawn = pixels.mean(axis=0) + noise @ _square_root(numpy.cov(pixels, rowvar=False))
    return numpy.clip(drawn, -1, 1).astype(numpy.float32).reshape(count, *images.shape[1:])


class Quality(NamedTuple):
    """What measure finds in images of digits; real means the 9,000 training digits."""

    frechet_distance: float  # to the real ones
    frechet_of_1000: float  # of the first 1,000 images, as many as there are held-out digits
    kernel_distance: float
    kernel_error: float  # standard error of kernel_distance
    precision: float
    recall: float
    histogram: list[float]  # shares of the digits 0 to 9, as the classifier sees them
    entropy: float  # -sum p ln p of these shares, in nats: ln 10 = 2.303 if all are equal
    conditional_accuracy: float | None  # share of images seen as the digit of their label


def measure(images: numpy.ndarray, labels: numpy.ndarray | None = None) -> Quality:
    """All figures of at least 1,000 images (N, 28, 28, 1), of their labels (N,) if they have some.

    Raises ValueError for fewer images.
    """
    if len(images) < 1000:
        raise ValueError(f"measure needs at least 1,000 images, not {len(images)}")
    real, spread = _training_digits()
    features, digits = shipped_classifier().see(images)
    features /= spread
    histogram = numpy.bincount(digits, minlength=10) / len(digits)
    present = histogram[histogram > 0]
    return Quality(
        frechet_distance(features, real),
        frechet_distance(features[:1000], real),
        *kernel_distance(features, real),
        *precision_and_recall(real, features),
        histogram.tolist(),
        float(-(present * numpy.log(present)).sum()),
        None if labels is None else float((digits == labels).mean()),
    )


def accuracy_score(
    images: numpy.ndarray, labels: numpy.ndarray | None = None, seed: int = 0
) -> float:
    """CAS: how well a classifier that learned from samples alone reads held-out real digits.

    Ravuri and Vinyals 2019. A sample that shows another digit than its label costs, and so does
    variety that is missing. Samples without labels get those that the shipped classifier sees.
    images (N, 28, 28, 1), labels (N,). It trains for half a minute.
    """
    if labels is None:
        _, labels = shipped_classifier().see(images)
    pixels = numpy.clip(images * 127.5 + 127.5, 0, 255).round().astype(numpy.uint8)
    return accuracy(train_classifier(Dataset(pixels, labels), seed), datasets.mnist("held-out"))
