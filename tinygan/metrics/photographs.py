"""How near a photograph that was made is to the true one: pixel by pixel, and in its texture.

Photographs are (H, W, 3) in [-1, 1]; H and W are multiples of four. Most figures are of the luma,
without the BORDER pixels at each side, where an enlargement knows too little.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy

from .. import datasets, plots, training
from ..datasets import from_bytes
from ..tensor import Tensor
from .distances import frechet_distance

BORDER = 4
PHASES = [(i, j) for i in range(4) for j in range(4)]  # of places within an enlarged pixel


def luma(photograph: numpy.ndarray) -> numpy.ndarray:
    """Y of ITU-R BT.601, from 16 for black to 235 for white: (H, W, 3) -> (H, W), float64.

    What papers on super-resolution measure. PSNR on RGB, or on grey from 0 to 255, is up to
    1.3 dB lower: figures compare only where the luma and the border are the same.
    """
    return 125.5 + photograph.astype(numpy.float64) @ [32.7405, 64.2765, 12.483]


def _inner(photograph: numpy.ndarray) -> numpy.ndarray:
    return luma(photograph)[BORDER:-BORDER, BORDER:-BORDER]


def psnr(made: numpy.ndarray, truth: numpy.ndarray) -> float:
    """10 log10(255^2 / mean of (luma - luma')^2) in dB, without the border; infinite for x, x."""
    error = ((_inner(made) - _inner(truth)) ** 2).mean()
    return float(10 * numpy.log10(255**2 / error)) if error else math.inf


def ssim(made: numpy.ndarray, truth: numpy.ndarray) -> float:
    """Structural similarity of the lumas without the border: 1 where the two are the same."""
    return structural_similarity(_inner(made), _inner(truth))


def structural_similarity(x: numpy.ndarray, y: numpy.ndarray) -> float:
    """The mean over all places of (2 m m' + a)(2 c + b) / ((m^2 + m'^2 + a)(v + v' + b)).

    Wang et al. 2004, eq. 13, for grey images (H, W) from 0 to 255: means m, variances v and the
    covariance c are under a Gaussian window of 11 x 11 pixels, deviation 1.5, that fits into the
    image; a = (0.01 * 255)^2, b = (0.03 * 255)^2.
    """
    window = numpy.exp(-(numpy.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def average(image: numpy.ndarray) -> numpy.ndarray:
        for axis in (0, 1):
            image = numpy.lib.stride_tricks.sliding_window_view(image, 11, axis) @ window
        return image

    a, b = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    m, other = average(x), average(y)
    variances = average(x * x) - m**2 + average(y * y) - other**2
    covariance = average(x * y) - m * other
    values = (2 * m * other + a) * (2 * covariance + b) / (
        (m**2 + other**2 + a) * (variances + b))
    return float(values.mean())


# ---------------------------------------------------------------- texture, not pixel by pixel


def _patches(pixels: numpy.ndarray, size: int) -> numpy.ndarray:
    """Every size x size patch of (H, W, F), as (H - size + 1, W - size + 1, size * size * F)."""
    windows = numpy.lib.stride_tricks.sliding_window_view(pixels, (size, size), (0, 1))
    return windows.reshape(*windows.shape[:2], -1)


def _in_rows(patches: Sequence[numpy.ndarray]) -> numpy.ndarray:
    """The patches (rows, columns, F) of several photographs as (N, F)."""
    return numpy.concatenate([some.reshape(-1, some.shape[-1]) for some in patches])


def patch_distance(made: Sequence[numpy.ndarray], truth: Sequence[numpy.ndarray]) -> float:
    """The Frechet distance between all 6 x 6 patches of both, colours from 0 to 1.

    It sees a blur, but takes equal blocks of 4 x 4 pixels for sharp: see texture_distance.
    """
    return frechet_distance(*(_in_rows([
        _patches(photograph[BORDER:-BORDER, BORDER:-BORDER] * 0.5 + 0.5, 6)
        for photograph in photographs]) for photographs in (made, truth)))


def texture_distance(made: Sequence[numpy.ndarray], truth: Sequence[numpy.ndarray]) -> float:
    """How far the slopes in 4 x 4 patches are from the truth's: 0 where they are the same, about
    1 where there are none.

    The mean over the sixteen phases (i, j) of the Frechet distance between the patches of the made
    photographs that begin at rows i, i + 4, ... and columns j, j + 4, ..., and all of the truth's,
    divided by the truth's variance. Slopes, since what a blur loses is small beside the light and
    dark that it keeps. Phase by phase, since an enlarged pixel is a block at known places: over
    all places together, its edges between blocks make up for the flat inside; within one phase
    each place has either too much or nothing.
    """
    true = _in_rows([_slopes(photograph) for photograph in truth])
    slopes = [_slopes(photograph) for photograph in made]
    distances = [frechet_distance(_in_rows([patches[i::4, j::4] for patches in slopes]), true)
                 for i, j in PHASES]
    return float(numpy.mean(distances) / true.var(axis=0).sum())


def _slopes(photograph: numpy.ndarray) -> numpy.ndarray:
    """In every 4 x 4 patch of the luma the steps to the right and down: (rows, columns, 32)."""
    y = _inner(photograph)
    right, down = numpy.diff(y, axis=1)[:-1], numpy.diff(y, axis=0)[:, :-1]
    return _patches(numpy.stack([right, down], axis=2), 4)


def gradient_ratio(made: Sequence[numpy.ndarray], truth: Sequence[numpy.ndarray]) -> float:
    """The mean step of the luma from pixel to pixel, over the truth's; mean of the photographs."""
    def steps(photograph: numpy.ndarray) -> float:
        y = _inner(photograph)
        return abs(numpy.diff(y, axis=0)).mean() + abs(numpy.diff(y, axis=1)).mean()

    return float(numpy.mean([steps(m) / steps(t) for m, t in zip(made, truth, strict=True)]))


def period_pattern(photographs: Sequence[numpy.ndarray]) -> float:
    """The share of what is finest in the photographs that repeats every four pixels.

    h = the luma minus the mean of its four neighbours. The mean of h at each of the sixteen
    phases would be 0 without a pattern; their deviation, over that of h, is the figure, about
    0.02 for true photographs. A mean over the photographs.
    """
    def pattern(photograph: numpy.ndarray) -> float:
        y = _inner(photograph)
        h = y[1:-1, 1:-1] - (y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:]) / 4
        return numpy.std([h[i::4, j::4].mean() for i, j in PHASES]) / h.std()

    return float(numpy.mean([pattern(photograph) for photograph in photographs]))


# ---------------------------------------------------------------- of a run


class PhotographPieces:
    """A piece of each held-out photograph in a row: as blocks, by each network, and as it is.

    networks make images (N, 4H, 4W, 3) of (N, H, W, 3), both in [-1, 1].
    """

    def __init__(self, *networks: Callable[[Tensor], Tensor]):
        self.networks = networks
        pieces = [photograph[24:120, 72:168]
                  for photograph in datasets.photographs("held-out").values()]
        self.true = from_bytes(numpy.stack(pieces))
        self.low = from_bytes(numpy.stack([datasets.reduced(piece) for piece in pieces]))

    def draw(self, path: Path) -> None:
        blocks = self.low.repeat(datasets.FACTOR, axis=1).repeat(datasets.FACTOR, axis=2)
        made = [training.apply(network, self.low) for network in self.networks]
        rows = numpy.stack([blocks, *made, self.true], axis=1)
        plots.save_grid(rows.reshape(-1, *rows.shape[2:]), path, columns=rows.shape[1])


def photograph_figures(
    made: Sequence[numpy.ndarray], truth: Sequence[numpy.ndarray]
) -> dict[str, float]:
    """All figures of photographs that were made: means over them, distances of all together."""
    return {
        "PSNR": float(numpy.mean([psnr(m, t) for m, t in zip(made, truth, strict=True)])),
        "SSIM": float(numpy.mean([ssim(m, t) for m, t in zip(made, truth, strict=True)])),
        "patches": patch_distance(made, truth), "texture": texture_distance(made, truth),
        "gradients": gradient_ratio(made, truth), "pattern": period_pattern(made),
    }


def report_photographs(
    out: Path, ways: Mapping[str, Callable[[numpy.ndarray], numpy.ndarray]]
) -> None:
    """Print and write how well the three held-out photographs are enlarged from small versions.

    ways: by name, what makes uint8 (4H, 4W, 3) of uint8 (H, W, 3). Beside them stand blocks of
    equal pixels, the bicubic enlargement and the truth. photographs.png shows all, with figures.
    """
    def blocks(low: numpy.ndarray) -> numpy.ndarray:
        return low.repeat(datasets.FACTOR, axis=0).repeat(datasets.FACTOR, axis=1)

    held_out = datasets.photographs("held-out")
    truth = [from_bytes(photograph) for photograph in held_out.values()]
    low = [datasets.reduced(photograph) for photograph in held_out.values()]
    columns = {way: [enlarge(small) for small in low] for way, enlarge in {
        "blocks": blocks, "bicubic": datasets.enlarged, **ways}.items()}
    columns["truth"] = [*held_out.values()]
    rows, captions, arrays = {}, {}, {}
    for way, photographs in columns.items():
        made = [from_bytes(photograph) for photograph in photographs]
        rows[way], captions[way] = photograph_figures(made, truth), []
        for name, pixels, image, true in zip(held_out, photographs, made, truth, strict=True):
            rows[way][name], arrays[f"{way} {name}"] = psnr(image, true), pixels
            captions[way].append(f"{rows[way][name]:.2f} dB, SSIM {ssim(image, true):.3f}, "
                                 f"texture {texture_distance([image], [true]):.3f}")
    for figure in ("PSNR", *held_out):  # infinite: the truth is the truth
        del rows["truth"][figure]
    captions["truth"] = [*held_out]
    plots.save_comparison(columns, captions, out / "photographs.png")
    print("Held-out photographs, four times enlarged; PSNR in dB, the last columns for each:")
    training.report(out, rows, arrays)
