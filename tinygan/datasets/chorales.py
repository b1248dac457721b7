"""Bach's chorales: phrases of two bars in four voices, and the rolls that networks see of them.

Letters: N phrases, T steps of a sixteenth note, V voices (soprano, alto, tenor, bass), S symbols.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy

from ..backend import to_host
from ..functions import concatenate, stack
from ..tensor import Tensor
from .downloads import check_part
from .pairs import part_of

BEAT, BAR, STEPS = 4, 16, 32  # steps in a quarter note, in a bar of 4/4, in a phrase
_HOP = 16
LOWEST = numpy.array([52, 48, 44, 31])  # MIDI number of each voice's first symbol
REST, HOLD = 37, 38  # symbols after those of 37 pitches
SYMBOLS = 39


class Phrases(NamedTuple):
    """What sounds, and which of it begins: the steps between are held."""

    pitch: numpy.ndarray  # uint8 (N, T, V): a MIDI number, 60 is middle C; 0 is a rest
    onset: numpy.ndarray  # bool (N, T, V): whether a note starts at this step

    def rows(self, which: slice | numpy.ndarray) -> "Phrases":
        """The phrases of these rows."""
        return Phrases(*(array[which] for array in self))


def voice_ranges(pitch: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The lowest and the highest pitch that sounds in each voice: (..., V) -> (V,), (V,)."""
    voices = pitch.reshape(-1, pitch.shape[-1]).T
    return numpy.array([voice[voice > 0].min() for voice in voices]), voices.max(axis=1)


def chorales(part: str = "train") -> Phrases:
    """Phrases of 32 steps of the chorales in 4/4, one from every bar on, in C major or A minor.

    Of 328 chorales every tenth is "held-out", all of it, so that no phrase to "train" on is of
    the same chorale. All are moved to one key, the short way, up or down. Any other way but an
    octave would leave that key, so the 817 phrases that are added to the 3,600 to train on are
    copies an octave away, where each voice stays among the pitches that Bach ever gives it.
    A phrase that begins within a note begins with that note. Their source: data/README.md.
    """
    check_part(part)
    path = Path(__file__).parent / "data" / "bach_chorales.npz"
    with numpy.load(path, allow_pickle=False) as file:
        pitch, onset, start, tonic, minor, meter = (
            file[name] for name in ("pitch", "onset", "start", "tonic", "minor", "meter"))
    chosen = part_of(numpy.flatnonzero(meter == "4/4"), part, path)
    firsts = [(i, first) for i in chosen
              for first in range(start[i], start[i + 1] - STEPS + 1, _HOP)]
    rows = numpy.array([first for _, first in firsts])[:, None] + numpy.arange(STEPS)  # (N, T)
    home = numpy.array([9 * minor[i] - int(tonic[i]) for i, _ in firsts])
    shift = ((home + 6) % 12 - 6)[:, None, None]
    written, onset = pitch[rows].astype(int), onset[rows]
    copies = [(shift, numpy.full(len(rows), True))]
    if part == "train":
        lowest, highest = voice_ranges(pitch)
        for other in shift - 12, shift + 12:
            inside = (written + other >= lowest) & (written + other <= highest)
            copies.append((other, (inside | (written == 0)).all(axis=(1, 2))))
    moved = numpy.concatenate([numpy.where(written, written + by, 0)[kept] for by, kept in copies])
    onset = numpy.concatenate([onset[kept] for _, kept in copies])
    onset[:, 0] = moved[:, 0] > 0
    return Phrases(moved.astype(numpy.uint8), onset)


def to_rolls(phrases: Phrases) -> numpy.ndarray:
    """Phrases (N, T, V) as zeros and ones, uint8 (N, T, V, S): what sounds, and what is held.

    Of the first 38 symbols the one that sounds is 1, a pitch or REST; HOLD is 1, too, where the
    note began before. Pitch i of voice v is LOWEST[v] + i.
    """
    sounding = numpy.where(phrases.pitch > 0, phrases.pitch - LOWEST, REST)
    rolls = (sounding[..., None] == numpy.arange(SYMBOLS)).astype(numpy.uint8)
    rolls[..., HOLD] = (phrases.pitch > 0) & ~phrases.onset
    return rolls


def performed(symbols: Tensor) -> Tensor:
    """What sounds when each voice plays its symbols: (N, T, V, S) to rolls (N, T, V, S).

    A symbol is 1 among zeros, or a mixture whose sum is 1. With p the first 38 and h that to HOLD,
    sounds[t] = p[t] + h[t] sounds[t - 1]. To hold at the start, where nothing sounds, is to rest.
    """
    begins, hold = symbols[..., :HOLD], symbols[..., HOLD:]
    sounds = [concatenate([begins[:, 0, :, :REST], begins[:, 0, :, REST:] + hold[:, 0]], axis=2)]
    for t in range(1, symbols.shape[1]):
        sounds.append(begins[:, t] + hold[:, t] * sounds[-1])
    sounding = stack(sounds, axis=1)
    return concatenate([sounding, hold * (1 - sounding[..., REST:])], axis=3)


def from_rolls(rolls: Any) -> Phrases:
    """The phrases of rolls (N, T, V, S), numbers from 0 to 1: of what sounds the largest.

    A note starts where nothing is held (HOLD below 1/2), or what sounds is new.
    """
    rolls = to_host(rolls)
    sounding = rolls[..., :HOLD].argmax(axis=-1)
    pitch = numpy.where(sounding == REST, 0, sounding + LOWEST).astype(numpy.uint8)
    onset = rolls[..., HOLD] < 0.5
    onset[:, 0] = True
    onset[:, 1:] |= pitch[:, 1:] != pitch[:, :-1]
    return Phrases(pitch, onset & (pitch > 0))
