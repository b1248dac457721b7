"""How far two sets of features are apart: as Gaussians, under a kernel, as regions."""

import math
from collections.abc import Iterator

import numpy

BLOCK = 500  # rows of a table of distances at a time


def frechet_distance(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)): how far apart two Gaussians are.

    m and C, m' and C' are mean and covariance of features (N, F) and (N', F). Heusel et al.
    2017, eq. 6. It is biased: fewer samples give a larger distance.
    """
    one, other = numpy.asarray(one, numpy.float64), numpy.asarray(other, numpy.float64)
    c, other_c = numpy.cov(one, rowvar=False), numpy.cov(other, rowvar=False)
    # C C' has the eigenvalues of R C' R with R = C^(1/2), which is symmetric.
    root = square_root(c)
    eigenvalues = numpy.linalg.eigvalsh(root @ other_c @ root)
    overlap = numpy.sqrt(numpy.maximum(eigenvalues, 0)).sum()
    apart = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    return float(apart + numpy.trace(c) + numpy.trace(other_c) - 2 * overlap)


def square_root(matrix: numpy.ndarray) -> numpy.ndarray:
    """The symmetric R with R R = matrix, for a covariance."""
    values, vectors = numpy.linalg.eigh(matrix)
    return vectors * numpy.sqrt(numpy.maximum(values, 0)) @ vectors.T


def kernel_distance(
    one: numpy.ndarray, other: numpy.ndarray, subsets: int = 10, seed: int = 0
) -> tuple[float, float]:
    """KID, the unbiased MMD^2 of features (N, F), (N', F) with k(x, y) = (x.y / F + 1)^3:

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over pairs of different rows. Its mean is 0
    where both come from one source, so that it may fall below. Binkowski et al. 2018, section 4.
    Returns the mean over pairs of subsets, drawn once from each side, and its standard error.
    """
    random = numpy.random.default_rng(seed)
    one, other = numpy.asarray(one, numpy.float64), numpy.asarray(other, numpy.float64)
    pairs = zip(
        numpy.array_split(random.permutation(one), subsets),
        numpy.array_split(random.permutation(other), subsets), strict=True,
    )

    def kernel(x: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: numpy.ndarray) -> float:
        values = kernel(x, x)
        return (values.sum() - numpy.trace(values)) / (len(x) * (len(x) - 1))

    values = numpy.array([within(x) + within(y) - 2 * kernel(x, y).mean() for x, y in pairs])
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(subsets))


class Region:
    """Where points (N, F) are: balls around them that reach to their k-th nearest neighbour."""

    def __init__(self, points: numpy.ndarray, neighbours: int = 3):
        self.points = points
        self.radii = numpy.concatenate([  # squared; the nearest of a point is itself
            numpy.partition(block, neighbours, axis=1)[:, neighbours]
            for block in _squared_distances(points, points)
        ])

    def holds(self, points: numpy.ndarray) -> float:
        """The fraction of points (M, F) that lie in at least one ball."""
        return float(numpy.concatenate([
            (block <= self.radii).any(axis=1) for block in _squared_distances(points, self.points)
        ]).mean())


def precision_and_recall(real: Region, samples: Region) -> tuple[float, float]:
    """The fraction of the samples in the region of the real points, and the reverse.

    Kynkäänniemi et al. 2019, eq. 1 and 2. Low precision: samples unlike anything real; low
    recall: real images that no sample comes near. Regions are generous where points are rare: in
    the middle of all features even noise has some precision.
    """
    return real.holds(samples.points), samples.holds(real.points)


class Reference:
    """Features of real images (N, F), each in units of its own deviation: what samples are beside.

    spread  the deviations (F,)
    region  of features / spread
    """

    def __init__(self, features: numpy.ndarray):
        self.spread = features.std(axis=0)
        self.region = Region(features / self.spread)

    def figures(self, features: numpy.ndarray) -> dict[str, float]:
        """Frechet and kernel distance, precision and recall of samples' features (N, F)."""
        features = features / self.spread
        precision, recall = precision_and_recall(self.region, Region(features))
        return {
            "Frechet": frechet_distance(features, self.region.points),
            "kernel": kernel_distance(features, self.region.points)[0],
            "precision": precision,
            "recall": recall,
        }


def nearest(
    points: numpy.ndarray, others: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """For each of points (N, F): the row of the nearest of others (M, F), and |x - y|^2 to it."""
    found = [(block.argmin(axis=1), block.min(axis=1))
             for block in _squared_distances(points, others)]
    rows, squares = map(numpy.concatenate, zip(*found, strict=True))
    return rows, squares


def _squared_distances(points: numpy.ndarray, others: numpy.ndarray) -> Iterator[numpy.ndarray]:
    """|x - y|^2 of points (N, F) to others (M, F), BLOCK rows of the (N, M) at a time."""
    points, others = (x if x.dtype in (numpy.float32, numpy.float64) else x.astype(numpy.float64)
                      for x in (points, others))  # squares of bytes would wrap around
    lengths = (others**2).sum(axis=1)
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        squares = (block**2).sum(axis=1)[:, None] + lengths - 2 * block @ others.T
        yield numpy.maximum(squares, 0)
