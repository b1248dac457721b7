"""How well a score tells strange examples from normal ones, whatever the threshold."""

import numpy


def auroc(scores: numpy.ndarray, strange: numpy.ndarray) -> float:
    """The probability that a strange example scores higher than a normal one, ties counted half.

    1 is perfect, 0.5 is chance, and far below 0.5 a sign is wrong. It is the area under the ROC
    curve, and Mann and Whitney's U (1947) over the number of pairs. scores (N,), strange (N,)
    of booleans. Raises ValueError where one kind is missing or a score is NaN.
    """
    strange_at, normal_at = _counts(scores, strange)
    normal_below = normal_at.cumsum() - normal_at
    pairs = strange_at.sum() * normal_at.sum()
    return float((strange_at * (normal_below + normal_at / 2)).sum() / pairs)


def roc_curve(
    scores: numpy.ndarray, strange: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """False and true positive rate as the threshold falls: fractions of the normal and of the
    strange examples that score at least as high. From (0, 0) to (1, 1), a point for each score.

    Raises ValueError as auroc does.
    """
    strange_at, normal_at = _counts(scores, strange)
    false, true = (
        numpy.concatenate([[0.0], counts[::-1].cumsum() / counts.sum()])
        for counts in (normal_at, strange_at)
    )
    return false, true


def _counts(scores: numpy.ndarray, strange: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """How many strange and how many normal examples have each score, from the lowest score up."""
    scores, strange = numpy.asarray(scores), numpy.asarray(strange, dtype=bool)
    one_kind = strange.all() or not strange.any()
    if scores.shape != strange.shape or numpy.isnan(scores).any() or one_kind:
        raise ValueError(
            f"{numpy.isnan(scores).sum()} NaN among scores {scores.shape}, {strange.sum()} strange "
            f"of {strange.shape}: needed are one score an example, no NaN, and both kinds"
        )
    levels, place = numpy.unique(scores, return_inverse=True)
    strange_at, normal_at = (numpy.bincount(place[kind], minlength=len(levels))
                             for kind in (strange, ~strange))
    return strange_at, normal_at
