"""Captions of characters: what they have, in words that vary, in any order, some of it left out."""

import functools
import itertools
import re
from collections.abc import Mapping
from random import Random
from typing import NamedTuple

import numpy

from .batches import DataError
from .characters import ATTRIBUTES, Characters, characters, held_out_combinations
from .downloads import check_part

LONGEST = 24  # words in a caption
TRAINING = 9000  # rows of the characters to train on
COLUMNS = [*ATTRIBUTES]

NOUNS = ("character", "person", "figure")
MOODS = {"sad": ("sad", "gloomy"), "happy": ("happy", "cheerful")}
PHRASES = {  # with {} for the value; that of "hair" is such as "long red", "long" or "red"
    "skin": ("{} skin", "a {} face"),
    "hair": ("{} hair",),
    "clothes": ("a {} shirt", "a {} top", "{} clothes"),
    "hat": ("a {} hat", "a {} cap"),
    "glasses": ("glasses", "spectacles"),
    "beard": ("a beard", "a bearded chin"),
}
ABSENT = {
    "hat": ("no hat", "no cap"),
    "glasses": ("no glasses", "no spectacles"),
    "beard": ("no beard", "a shaved chin"),
}
_TEXTS = [*NOUNS, "a with and", *sum([*MOODS.values(), *PHRASES.values(), *ABSENT.values()], ()),
          *sum((ATTRIBUTES[name] for name in ("length", *PHRASES)), ())]
WORDS = sorted({word for text in _TEXTS for word in re.findall("[a-z]+", text)} - {"none"})
_NUMBERS = {word: number for number, word in enumerate(WORDS, start=1)}


class Captioned(NamedTuple):
    """N characters in main memory, and K captions of each."""

    images: numpy.ndarray      # (N, 16, 16, 3), uint8
    tokens: numpy.ndarray      # (N, K, LONGEST), uint8
    attributes: numpy.ndarray  # (N, 8), uint8: numbers of the values in ATTRIBUTES
    named: numpy.ndarray       # (N, K, 8), bool: which attributes a caption names
    parts: numpy.ndarray       # (N, 16, 16), uint8: numbers of PARTS


@functools.cache
def captioned(
    part: str = "train", *, each: int = 4, mentioned: float | tuple[float, ...] = 0.8, seed: int = 0
) -> Captioned:
    """Characters with captions, 7,609 to "train" on and 1,562 that are "held-out".

    Held out are those of certain colours of hair, clothes and hat together: who draws them right
    has understood the words, not learned their combinations. A caption names each attribute with
    the probability mentioned, one for all or for each of the captions of a character; hair only if
    it shows. The same arrays each time: do not change them.
    """
    check_part(part)
    known = Characters(*map(numpy.concatenate, zip(characters(), characters("held-out"),
                                                   strict=True)))
    colours = known.attributes[:, [COLUMNS.index(name) for name in ("hair", "clothes", "hat")]]
    rows = (colours[:, None] == held_out_combinations()).all(axis=2).any(axis=1)
    if part == "train":
        rows = ~rows & (numpy.arange(len(rows)) < TRAINING)
    images, attributes, parts = (array[rows] for array in known)

    shape = len(images), each, len(COLUMNS)
    named = numpy.random.default_rng(seed).random(shape) < numpy.broadcast_to(
        mentioned, each)[:, None]
    hidden = ~Characters(images, attributes, parts).shows_hair()
    for name in "hair", "length":
        named[hidden, :, COLUMNS.index(name)] = False
    words = [[values[i] for i, values in zip(row, ATTRIBUTES.values(), strict=True)]
             for row in attributes]
    random = Random(seed)
    made = [[tokens(caption(dict(itertools.compress(zip(COLUMNS, row, strict=True), some)), random))
             for some in of_row] for row, of_row in zip(words, named, strict=True)]
    return Captioned(images, numpy.array(made), attributes, named, parts)


def caption(values: Mapping[str, str], random: Random) -> str:
    """Words for some attributes of a character, such as {"hat": "red", "glasses": "none"}.

    "a cheerful person with a blue cap, long red hair and no glasses"
    """
    hair = " ".join(values[name] for name in ("length", "hair") if name in values)
    values = {**values, **({"hair": hair} if hair else {})}
    parts = []
    for name in (name for name in PHRASES if name in values):
        phrases = ABSENT[name] if values[name] == "none" else PHRASES[name]
        parts.append(random.choice(phrases).format(values[name]))
    random.shuffle(parts)
    mood = random.choice(MOODS[values["mood"]]) + " " if "mood" in values else ""
    text = f"a {mood}{random.choice(NOUNS)}"
    if parts:
        text += " with " + " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return text


def tokens(text: str) -> numpy.ndarray:
    """The words of a caption as numbers, uint8 (LONGEST,): their places in WORDS, from 1, then 0.

    Raises DataError for words that no caption has, and for no words or more than LONGEST.
    """
    words = re.findall(r"[^\s,.;:!]+", text.lower())
    unknown = [word for word in words if word not in _NUMBERS]
    if unknown:
        raise DataError(f"no caption has {', '.join(unknown)}: the words are {', '.join(WORDS)}")
    if not 1 <= len(words) <= LONGEST:
        raise DataError(f"a caption has 1 to {LONGEST} words, not {len(words)}")
    numbers = [_NUMBERS[word] for word in words]
    return numpy.array(numbers + [0] * (LONGEST - len(words)), numpy.uint8)


def text(numbers: numpy.ndarray) -> str:
    """The words that tokens() made numbers (LONGEST,) of, without commas."""
    return " ".join(WORDS[number - 1] for number in numbers if number)
