"""Whether pictures show what their captions say, and how much those of one caption vary.

Letters: N pictures, T words of a caption, Z numbers of noise, S the side of a stage's pictures.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy

from .. import datasets, plots, training
from ..datasets import ATTRIBUTES, from_bytes, halved, to_bytes
from ..functions import log_softmax
from ..tensor import Tensor
from .attributes import ENDS, real_characters, shipped_attribute_classifier
from .distances import frechet_distance, nearest

SIDE = 16  # of a character's picture
SHOWING = 6  # of the attributes; beard and mood, the last, are a pixel or two
CAPTIONS, EACH = 100, 10  # pictures of a caption whose deviation is measured
AMONG = 100  # captions of which the right one is to be found
SHOWN, COLUMNS = 8, 8  # captions in a picture of a run, pictures of each


class CaptionPictures:
    """What a GAN of several stages draws for captions.

    generate  makes pictures (N, S, S, 3) in [-1, 1], first of what it returns, by some stages from
              noise (N, 3, Z), a Tensor, and words (N, T), an array
    stages    all of them
    latent    Z
    """

    def __init__(
        self, generate: Callable[..., tuple[Tensor, ...]], stages: Sequence[Any], latent: int,
        *, seed: int = 0,
    ):
        self.generate, self.stages, self.latent, self.seed = generate, stages, latent, seed

    def images(self, words: numpy.ndarray, stages: int | None = None) -> numpy.ndarray:
        """Pictures (N, 16, 16, 3) of captions (N, T), after so many of the stages."""
        return at_full_size(self.generated(0, words, stages))

    def generated(
        self, which: int, words: numpy.ndarray, stages: int | None = None
    ) -> numpy.ndarray:
        """What generate() returns in place which, for captions (N, T); 0 is the pictures."""
        random = numpy.random.default_rng(self.seed + 1)
        noise = random.standard_normal((len(words), 3, self.latent), dtype=numpy.float32)
        return training.apply(
            lambda z, words: self.generate(self.stages[:stages], z, words)[which], noise, words)

    def draw(self, path: Path) -> None:
        """Write a row for each of some held-out captions: the real character, then pictures."""
        some = datasets.captioned("held-out", each=1, mentioned=1)
        rows = numpy.linspace(0, len(some.images) - 1, SHOWN).astype(int)
        words, real = some.tokens[rows, 0], from_bytes(some.images[rows])[:, None]
        made = self.images(words.repeat(COLUMNS, axis=0)).reshape(SHOWN, COLUMNS, SIDE, SIDE, 3)
        lines = numpy.concatenate([real, made], axis=1).reshape(-1, SIDE, SIDE, 3)
        plots.save_captioned(lines, [*map(datasets.text, words)], path)

    def draw_texts(self, texts: Sequence[str], folder: Path) -> list[Path]:
        """Write a row of pictures for each caption, as text.png into the folder."""
        words = numpy.stack([*map(datasets.tokens, texts)])
        path = folder / "text.png"
        plots.save_captioned(self.images(words.repeat(COLUMNS, axis=0)), texts, path)
        return [path]

    def draw_nearest(self, path: Path, count: int = 16) -> None:
        """Write a row of pictures for held-out captions above the nearest training characters."""
        some = datasets.captioned("held-out", each=1, mentioned=1)
        rows = numpy.linspace(0, len(some.images) - 1, count).astype(int)
        made, real = self.images(some.tokens[rows, 0]), from_bytes(datasets.captioned().images)
        found, _ = nearest(made.reshape(count, -1), real.reshape(len(real), -1))
        plots.save_grid(numpy.concatenate([made, real[found]]), path, columns=count)


def draw_texts(settings: argparse.Namespace) -> None:
    """Have the run in settings.out draw the captions settings.text."""
    pictures = training.load(settings.out).pictures()
    print(*settings.text, *pictures.draw_texts(settings.text, settings.out), sep="\n")


def text_option(parser: argparse.ArgumentParser) -> None:
    """Add --text, captions whose words are all known, for draw_texts."""
    def known(text: str) -> str:
        try:
            datasets.tokens(text)
        except datasets.DataError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    parser.add_argument("--text", type=known, nargs="+", metavar="CAPTION", help="have the run in "
                        '--out draw captions, each in quotes: "a red hat"')


def at_full_size(images: numpy.ndarray) -> numpy.ndarray:
    """Pictures (N, S, S, 3) as (N, 16, 16, 3): each pixel becomes a block of equal ones."""
    factor = SIDE // images.shape[1]
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def named_right(
    images: numpy.ndarray, attributes: numpy.ndarray, named: numpy.ndarray
) -> dict[str, float]:
    """The share of pictures (N, 16, 16, 3) that show what is named, as the classifier reads them.

    attributes are the right ones (N, 8), named says which of them count, bool (N, 8). For each
    attribute; the mean of the six that show; all of these that are named, at once.
    """
    _, seen = shipped_attribute_classifier().see(images)
    right = seen == attributes
    shares = [float(right[named[:, i], i].mean()) for i in range(len(ATTRIBUTES))]
    return {
        **dict(zip(ATTRIBUTES, shares[:SHOWING], strict=False)),
        "six": float(numpy.mean(shares[:SHOWING])),
        "all six": float((right | ~named)[:, :SHOWING].all(axis=1).mean()),
        **dict(zip([*ATTRIBUTES][SHOWING:], shares[SHOWING:], strict=True)),
    }


def r_precision(score: Callable[[numpy.ndarray], numpy.ndarray], count: int) -> float:
    """The share of pictures that their own caption fits best of 100, 99 of which are others'.

    Of count pictures as many whole hundreds count as there are, at least one.
    score(rows)  for 100 numbers below count: how well those pictures, the rows of the result, fit
                 the captions of the same numbers, its columns
    Xu et al. 2018, section 4: R-precision with one relevant caption. Captions that fit equally
    well, as those that name the same, are not held against a picture.
    """
    order = numpy.random.default_rng(0).permutation(count)
    scores = map(score, order[: count // AMONG * AMONG].reshape(-1, AMONG))
    rounding = 1e-4
    return float(numpy.mean([each.diagonal() > each.max(axis=1) - rounding for each in scores]))


def named_score(
    images: numpy.ndarray, attributes: numpy.ndarray, named: numpy.ndarray
) -> Callable[[numpy.ndarray], numpy.ndarray]:
    """For r_precision, by the classifier of attributes, which no part of a training has seen.

    A picture and a caption fit by the mean log probability of what the caption names.
    """
    logits = training.apply(shipped_attribute_classifier(), images)
    heads = numpy.split(logits, ENDS[1:-1], axis=1)
    seen = numpy.concatenate([log_softmax(Tensor(head)).numpy() for head in heads], axis=1)
    said = numpy.zeros_like(seen)
    rows, columns = named.nonzero()
    said[rows, numpy.array(ENDS)[columns] + attributes[rows, columns]] = 1
    return lambda some: seen[some] @ said[some].T / said[some].sum(axis=1).clip(1)


def _as_said(images: numpy.ndarray, some: datasets.Captioned) -> dict[str, float]:
    """named_right, and R-precision by named_score, of a picture for each first caption."""
    said = some.attributes, some.named[:, 0]
    right = named_right(images, *said)
    return {**right, "R-precision": r_precision(named_score(images, *said), len(images))}


def caption_figures(
    draw: Callable[[numpy.ndarray], numpy.ndarray], count: int
) -> tuple[dict[str, float], dict[str, numpy.ndarray]]:
    """The figures of what draws pictures for captions (N, T), and the arrays that they are of.

    named_right and R-precision for all held-out captions; the Frechet distance of pictures of
    count training captions from the training characters; the mean deviation of a pixel within a
    caption.
    """
    held_out, seen = (datasets.captioned(part, each=1, mentioned=1)
                      for part in ("held-out", "train"))
    images, of_training = draw(held_out.tokens[:, 0]), draw(seen.tokens[:count, 0])
    several = draw(held_out.tokens[:CAPTIONS, 0].repeat(EACH, axis=0))
    several = several.reshape(CAPTIONS, EACH, *several.shape[1:])
    figures = _as_said(images, held_out)
    figures["Frechet"] = distance_from_characters(of_training)
    figures["variety"] = variety(several)
    arrays = {"images": to_bytes(images), "attributes": held_out.attributes,
              "named": held_out.named[:, 0], "of_training": to_bytes(of_training)}
    return figures, arrays


def distance_from_characters(images: numpy.ndarray) -> float:
    """The Frechet distance from the training characters in the classifier's features."""
    features, _ = shipped_attribute_classifier().see(images)
    return frechet_distance(features / real_characters().spread, real_characters().region.points)


def variety(images: numpy.ndarray) -> float:
    """The deviation of a pixel within a caption, averaged: K pictures of each (N, K, S, S, 3)."""
    return float(images.std(axis=1).mean())


def _of_the_same_kind() -> numpy.ndarray:
    """Ten characters each of all attributes that ten characters have (N, 10, 16, 16, 3)."""
    known = datasets.characters()
    _, kinds, counts = numpy.unique(
        known.attributes, axis=0, return_inverse=True, return_counts=True)
    return from_bytes(numpy.stack([known.images[kinds.ravel() == kind][:EACH]
                                   for kind in numpy.flatnonzero(counts >= EACH)]))


def report_captions(settings: argparse.Namespace, pictures: CaptionPictures) -> None:
    """Print and write caption_rows, draw nearest.png. Does nothing if settings.measure is 0."""
    if settings.measure:
        training.report(settings.out, *caption_rows(settings, pictures))


def caption_rows(
    settings: argparse.Namespace, pictures: CaptionPictures
) -> tuple[dict[str, dict[str, float]], dict[str, numpy.ndarray]]:
    """caption_figures of each stage, with settings.measure training captions, and their arrays.

    Beside them stand real characters as they are, and reduced to 8 x 8 pixels.
    """
    held_out, rows = datasets.captioned("held-out", each=1, mentioned=1), {}
    others = datasets.characters("held-out").images
    for name, change in ("real", from_bytes), ("real, 8 x 8", lambda x: halved(from_bytes(x))):
        images, more = (at_full_size(change(some)) for some in (held_out.images, others))
        rows[name] = _as_said(images, held_out)
        rows[name]["Frechet"] = distance_from_characters(more)
    rows["real"]["variety"] = variety(_of_the_same_kind())
    for count in range(1, 1 + len(pictures.stages)):
        rows["stage " + "I" * count], arrays = caption_figures(
            lambda words, count=count: pictures.images(words, count), settings.measure)
    pictures.draw_nearest(settings.out / "nearest.png")
    return rows, arrays
