"""How much each place of a picture attends to each word, and whether that is where its part is.

Letters: N pictures, T words of a caption, J regions of a picture, as many in height as in width.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy

from .. import backend, datasets, plots, training
from ..datasets import ATTRIBUTES, Captioned, from_bytes, to_bytes
from ..datasets.captions import PHRASES
from ..datasets.characters import PARTS
from ..tensor import Tensor, no_grad
from .captions import COLUMNS, CaptionPictures, at_full_size, caption_rows, r_precision

SHOWN, LOOKS = 6, 6  # captions in a picture, and words of each
SCALE, DARK = 5, 0.15  # pixels of one pixel; the light where no word looks
PART_OF = {phrase.split()[-1]: part for part, phrases in PHRASES.items() for phrase in phrases}


class WordPictures(CaptionPictures):
    """What a GAN draws for captions, where its words looked, and what matches both.

    matcher   images (N, 16, 16, 3), captions (N, T) -> scores (N, N)
    attends   whether generate returns, last of three things, how each region's attention is shared
              among the words, (N, J, T)
    """

    def __init__(self, *arguments: Any, matcher: Callable[[Tensor, Any], Tensor],
                 attends: bool = True, **options: Any):
        super().__init__(*arguments, **options)
        self.matcher, self.attends = matcher, attends

    def shares(self, words: numpy.ndarray) -> numpy.ndarray:
        """Each word's share of the attention of each region, (N, T, J), for captions (N, T)."""
        return self.generated(2, words).swapaxes(1, 2)

    def draw_looks(self, words: numpy.ndarray, path: Path, every: int = 1) -> None:
        """Write a row for every so many of captions (N, T): its picture, then the same lit where
        one word has a large share, for the words with the most attention, in order (Fig. 4)."""
        shares, images, words = (
            some[::every] for some in (self.shares(words), self.images(words), words))
        rows, side = numpy.arange(len(words)), math.isqrt(shares.shape[2])
        most = numpy.sort(shares.sum(axis=2).argsort(axis=1)[:, -LOOKS:], axis=1)  # (N, LOOKS)
        columns, below = {"picture": images}, {"picture": [""] * len(words)}
        for number, word in enumerate(most.T, start=1):
            light = shares[rows, word] / shares[rows, word].max(axis=1, keepdims=True).clip(1e-9)
            light = at_full_size(light.reshape(-1, side, side, 1))
            columns[str(number)] = (images + 1) * (DARK + (1 - DARK) * light) - 1
            below[str(number)] = [datasets.WORDS[n - 1] if n else "" for n in words[rows, word]]
        scaled = {title: to_bytes(some.repeat(SCALE, axis=1).repeat(SCALE, axis=2))
                  for title, some in columns.items()}
        plots.save_comparison(scaled, below, path)

    def draw_texts(self, texts: Sequence[str], folder: Path) -> list[Path]:
        """Write a row of pictures for each caption, and where words looked in the first of each."""
        paths = super().draw_texts(texts, folder)
        if self.attends:
            paths.append(folder / "words.png")
            words = numpy.stack([*map(datasets.tokens, texts)])
            self.draw_looks(words.repeat(COLUMNS, axis=0), paths[-1], every=COLUMNS)
        return paths

    def score(self, images: numpy.ndarray, words: numpy.ndarray) -> numpy.ndarray:
        """How well images (N, 16, 16, 3) match captions (N, T), by the matcher: (N, N)."""
        with no_grad():
            return self.matcher(Tensor(backend.to_device(images)), backend.to_device(words)).numpy()


def attention_on_parts(shares: numpy.ndarray, some: Captioned) -> dict[str, dict[str, float]]:
    """By part: how much of the attention to its words (N, T, J) falls on it, beside its area.

    Its words are its noun and a value before it, as in "green shirt". Where a part is, is known of
    the real character that a caption is of; one drawn for the same caption has it in about the
    same place. Of hats, glasses and beards, captions with one count; a part of none is left out.
    """
    words, side, rows = some.tokens[:, 0], math.isqrt(shares.shape[2]), {}
    block = some.parts.shape[1] // side
    for name in PHRASES:
        masks = (some.parts == PARTS.index(name)).reshape(-1, side, block, side, block)
        masks = masks.mean(axis=(2, 4)).reshape(len(words), -1)                  # (N, J)
        is_noun = _is_one_of(words, [noun for noun, part in PART_OF.items() if part == name])
        is_value = _is_one_of(words, ATTRIBUTES[name])
        is_word = is_noun | is_value & numpy.roll(is_noun, -1, axis=1)           # (N, T)
        counts = masks.any(axis=1) & is_noun.any(axis=1)
        if not counts.any():
            continue
        look = (shares * is_word[:, :, None]).sum(axis=1)[counts]                # (M, J)
        look /= look.sum(axis=1, keepdims=True).clip(1e-9)
        on_part, area = (look * masks[counts]).sum(axis=1).mean(), masks[counts].mean()
        rows[f"words of {name}"] = {
            "on the part": float(on_part), "its area": float(area), "times": float(on_part / area)}
    return rows


def _is_one_of(words: numpy.ndarray, names: Sequence[str]) -> numpy.ndarray:
    """Which of the words (N, T) are among names, of those that a caption can have."""
    return numpy.isin(words, [1 + datasets.WORDS.index(name) for name in names
                              if name in datasets.WORDS])


def report_words(settings: argparse.Namespace, pictures: WordPictures) -> None:
    """Print and write caption_rows, R-precision by the matcher, and attention_on_parts.

    Draws nearest.png and, if G attends to words, words.png. Does nothing if settings.measure is 0.
    """
    if not settings.measure:
        return
    some = datasets.captioned("held-out", each=1, mentioned=1)
    words, (rows, arrays) = some.tokens[:, 0], caption_rows(settings, pictures)
    for name, images in ("real", some.images), ([*rows][-1], arrays["images"]):
        rows[name]["R-precision by M"] = r_precision(
            lambda i, images=images: pictures.score(from_bytes(images[i]), words[i]), len(words))
    if pictures.attends:
        rows |= attention_on_parts(pictures.shares(words), some)
        places = numpy.linspace(0, len(words) - 1, SHOWN).astype(int)
        pictures.draw_looks(words[places], settings.out / "words.png")
    training.report(settings.out, rows, arrays)
