"""Do voices fit together? What phrases in four voices sound like, beside Bach's.

Letters: N phrases, T steps of a sixteenth note, V voices from the highest down. A bar is sixteen
steps of one voice. Phrases are in C major or A minor.

Dong et al. 2018 measure empty bars, pitch classes, long notes and tonal distance. Their public code
departs from it: `empty_bar_rate` is the share of bars that are not empty, and a "qualified" note
has two steps or more, in the paper three. Read dissonance and chords together: a generator that
always plays one consonant chord has no dissonance, but its chords are far from Bach's.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy

from .. import datasets, plots, training
from ..datasets import Phrases
from ..datasets.chorales import BAR, BEAT, voice_ranges
from ..tensor import Tensor

_SCALE = (0, 2, 4, 5, 7, 9, 11)  # pitch classes of C major, and of A minor without accidentals
_DISSONANT = (1, 2, 6, 10, 11)  # seconds, tritone, sevenths: semitones, whole octaves aside


def music_figures(phrases: Phrases, bach: Phrases) -> dict[str, float]:
    """All figures of phrases (N, T, V): shares from 0 to 1, but for the last three.

    dissonant    steps in which two voices sound a second, a tritone or a seventh, in any octave
    chords       how far the chords on beats are from Bach's: half the sum of |p - q| over all
                 sets of pitch classes, p and q being how often the set sounds
    crossing     steps in which a voice sounds below the next lower voice
    on the beat  notes that start on a beat
    in scale     of what sounds, step by step and voice by voice, what needs no accidental
    two steps    notes of two steps or more
    empty bars   bars without a note
    classes      different pitch classes in a bar that is not empty, on average
    leap         semitones from a note to its voice's next one of another pitch, on average
    tonal        tonal_distance, which does not tell music from noise
    """
    pitch, onset = phrases.pitch.astype(int), phrases.onset
    sounds, begun = pitch > 0, max(1, phrases.onset.sum())
    i, j = numpy.triu_indices(pitch.shape[2], 1)  # all pairs of voices
    interval = abs(pitch[..., i] - pitch[..., j]) % 12
    dissonant = sounds[..., i] & sounds[..., j] & numpy.isin(interval, _DISSONANT)
    crossing = sounds[..., :-1] & sounds[..., 1:] & (pitch[..., :-1] < pitch[..., 1:])
    # A note of one step: at the next one there is another note, or a rest.
    single = onset[:, :-1] & (onset[:, 1:] | ~sounds[:, 1:])
    bars = pitch.reshape(len(pitch), -1, BAR, pitch.shape[2])
    classes = sum(((bars > 0) & (bars % 12 == k)).any(axis=2).astype(int) for k in range(12))
    voices = zip(_by_voice(pitch), _by_voice(onset), strict=True)
    leaps = abs(numpy.concatenate([numpy.diff(voice[starts]) for voice, starts in voices]))
    return {name: float(value) for name, value in {
        "dissonant": dissonant.any(axis=2).mean(),
        "chords": abs(_chords(phrases) - _chords(bach)).sum() / 2,
        "crossing": crossing.any(axis=2).mean(),
        "on the beat": onset[:, ::BEAT].sum() / begun,
        "in scale": (numpy.isin(pitch % 12, _SCALE) & sounds).sum() / max(1, sounds.sum()),
        "two steps": 1 - single.sum() / begun,
        "empty bars": (classes == 0).mean(),
        "classes": classes.sum() / max(1, (classes > 0).sum()),
        "leap": leaps.sum() / max(1, (leaps > 0).sum()),
        "tonal": tonal_distance(phrases),
    }.items()}


def _by_voice(array: numpy.ndarray) -> numpy.ndarray:
    """(N, T, V) -> (N V, T)."""
    return array.swapaxes(1, 2).reshape(-1, array.shape[1])


def _chords(phrases: Phrases) -> numpy.ndarray:
    """How often each of the 4,096 sets of pitch classes sounds on a beat."""
    pitch = phrases.pitch[:, ::BEAT].astype(int)
    sets = numpy.bitwise_or.reduce(numpy.where(pitch > 0, 1 << pitch % 12, 0), axis=2).ravel()
    return numpy.bincount(sets, minlength=4096) / len(sets)


def tonal_distance(phrases: Phrases) -> float:
    """How far apart two voices are in a beat, in Harte's tonal space: the mean over all pairs.

    Harte et al. 2006: a pitch class k is the point with coordinates r sin(a k), r cos(a k) for
    (r, a) = (1, 7 pi / 6), (1, 3 pi / 2), (1/2, 2 pi / 3); a voice in a beat is the mean of its
    points. Voices that wander through many notes come to lie near 0, and so near to each other:
    by this figure of Dong et al. 2018 random notes fit together better than Bach's.
    """
    circles = (1, 7 * numpy.pi / 6), (1, 3 * numpy.pi / 2), (0.5, 2 * numpy.pi / 3)
    points = numpy.stack([r * wave(a * numpy.arange(12)) for r, a in circles
                          for wave in (numpy.sin, numpy.cos)], axis=1)  # (12, 6)
    pitch = phrases.pitch.reshape(-1, BEAT, phrases.pitch.shape[2]).astype(int)  # B beats, 4, V
    sounding = (pitch > 0).sum(axis=1)  # (B, V)
    sums = (points[pitch % 12] * (pitch > 0)[..., None]).sum(axis=1)  # (B, V, 6)
    means = sums / numpy.maximum(1, sounding)[..., None]
    i, j = numpy.triu_indices(pitch.shape[2], 1)  # all pairs of voices
    both = (sounding[:, i] > 0) & (sounding[:, j] > 0)
    apart = numpy.linalg.norm(means[:, i] - means[:, j], axis=2)  # (B, pairs)
    return float((apart * both).sum() / max(1, both.sum()))


def different_chorales(bach: Phrases, seed: int = 0) -> Phrases:
    """Each voice from another phrase: a floor, voices that are Bach's and do not fit together."""
    random, voices = numpy.random.default_rng(seed), range(bach.pitch.shape[2])
    orders = [random.permutation(len(bach.pitch)) for _ in voices]
    return Phrases(*(numpy.stack([array[orders[v], :, v] for v in voices], axis=2)
                     for array in bach))


def random_notes(bach: Phrases, seed: int = 0) -> Phrases:
    """As many phrases of notes that are new at each step, anywhere in the range of the voice."""
    random = numpy.random.default_rng(seed)
    pitch = random.integers(*voice_ranges(bach.pitch), size=bach.pitch.shape, endpoint=True)
    return Phrases(pitch.astype(numpy.uint8), numpy.ones(pitch.shape, dtype=bool))


def nearest_phrases(
    phrases: Phrases, others: Phrases
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """For each phrase the row of the one in others with most equal pitches, and their share."""
    flat, known = (some.pitch.reshape(len(some.pitch), -1) for some in (phrases, others))
    equal = numpy.array([numpy.count_nonzero(known == pitches, axis=1) for pitches in flat])
    return equal.argmax(axis=1), equal.max(axis=1) / flat.shape[1]


class PianoRolls:
    """The phrases that a generator makes of latents z ~ N(0, 1), always the same.

    generate  makes rolls (N, T, V, S) of latents (N, latent)
    """

    def __init__(self, generate: Callable[[Tensor], Tensor], latent: int, *, seed: int = 0):
        self.rolls, self.seed = training.Pictures(generate, latent), seed + 1
        self.bach = _four_of(datasets.chorales("held-out"))

    def phrases(self, count: int) -> Phrases:
        return datasets.from_rolls(self.rolls.samples(count, self.seed))

    def draw(self, path: Path) -> None:
        """Write the rolls of eight phrases, and four of Bach's below them, as a PNG."""
        both = zip(self.phrases(8), self.bach, strict=True)
        plots.save_rolls(Phrases(*map(numpy.concatenate, both)), path)


def report_music(settings: argparse.Namespace, drawn: PianoRolls) -> None:
    """Print and write the figures of settings.measure phrases, from floors to Bach's own.

    "copied" is the share of equal pitches with the nearest training phrase, the mean of a hundred
    phrases: far above that of held-out ones, G would have learned by heart. samples.html shows
    four phrases, the training phrases nearest to them and four of Bach's, and plays them.
    """
    train, held_out = datasets.chorales(), datasets.chorales("held-out")
    phrases = drawn.phrases(settings.measure)
    made = {
        "random notes": random_notes(held_out),
        "voices of different chorales": different_chorales(held_out),
        settings.model: phrases,
        "Bach, to train on": train,
        "Bach, held out": held_out,
    }
    rows = {name: music_figures(some, held_out) for name, some in made.items()}
    for name in settings.model, "Bach, held out":
        few = made[name].rows(slice(None, None, max(1, len(made[name].pitch) // 100)))
        rows[name]["copied"] = float(nearest_phrases(few, train)[1].mean())
    del rows["Bach, held out"]["chords"]  # 0: they are what the others are compared with
    training.report(settings.out, rows, phrases._asdict())
    four = phrases.rows(slice(4))
    plots.save_music({
        settings.model.capitalize(): four,
        "Nearest training phrases": train.rows(nearest_phrases(four, train)[0]),
        "Bach, held out": _four_of(held_out),
    }, settings.out / "samples.html")
    print("To see and to hear: samples.html, and the phrases joined as samples.*.wav and *.mid.")


def _four_of(bach: Phrases) -> Phrases:
    """Four phrases, of four chorales."""
    return bach.rows(slice(1, None, len(bach.pitch) // 4))
