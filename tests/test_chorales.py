"""Bach's chorales as phrases, and phrases as the rolls that networks see."""

from pathlib import Path

import numpy
import pytest

import tinygan
from tinygan import Tensor, check_gradients
from tinygan.backend import to_device
from tinygan.datasets import DataError, Phrases, chorales, from_rolls, performed, to_rolls
from tinygan.datasets.chorales import HOLD, LOWEST, REST, SYMBOLS
from tinygan.functions import softmax

FILE = Path(tinygan.__file__).parent / "datasets" / "data" / "bach_chorales.npz"


def normal(*shape):
    return numpy.random.default_rng(0).standard_normal(shape)


@pytest.fixture(scope="module")
def file():
    with numpy.load(FILE, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


@pytest.fixture(scope="module")
def train():
    return chorales()


@pytest.fixture(scope="module")
def held_out():
    return chorales("held-out")


def written_out(file, part):
    """The phrases without copies, chorale by chorale."""
    pitches, onsets, number = [], [], 0
    for i, meter in enumerate(file["meter"]):
        if meter != "4/4":
            continue
        number += 1
        if (number % 10 == 1) != (part == "held-out"):
            continue
        home = 9 if file["minor"][i] else 0
        moves = [by for by in range(-6, 6) if (int(file["tonic"][i]) + by) % 12 == home]
        for first in range(file["start"][i], file["start"][i + 1] - 31, 16):
            pitch = file["pitch"][first : first + 32].astype(int)
            pitch[pitch > 0] += moves[0]
            onset = file["onset"][first : first + 32].copy()
            onset[0] = pitch[0] > 0
            pitches.append(pitch)
            onsets.append(onset)
    return numpy.array(pitches), numpy.array(onsets)


@pytest.mark.parametrize("part", ["train", "held-out"])
def test_phrases_are_two_bars_of_every_bar_moved_to_one_key(part, file):
    pitch, onset = written_out(file, part)
    phrases = chorales(part)
    count = len(pitch)
    assert count == {"train": 3600, "held-out": 412}[part]
    assert phrases.pitch.dtype == numpy.uint8 and phrases.onset.dtype == bool
    assert numpy.array_equal(phrases.pitch[:count], pitch)
    assert numpy.array_equal(phrases.onset[:count], onset)
    assert len(phrases.pitch) == {"train": 4417, "held-out": 412}[part]


def test_what_is_added_to_train_on_is_an_octave_away_and_within_the_voices(train, file):
    plain, added = train.pitch[:3600].astype(int), train.pitch[3600:].astype(int)
    lowest = [voice[voice > 0].min() for voice in file["pitch"].T]
    assert ((added >= lowest) | (added == 0)).all()
    assert (added <= file["pitch"].max(axis=0)).all()
    known = {phrase.tobytes() for phrase in plain}
    for phrase in added[::20]:
        moved = [numpy.where(phrase, phrase + by, 0).tobytes() for by in (-12, 12)]
        assert known & {*moved}


def test_most_is_in_c_major_or_a_minor_and_every_pitch_has_a_symbol(train, held_out):
    for phrases in train, held_out:
        sounding = phrases.pitch[phrases.pitch > 0]
        assert 0.93 < numpy.isin(sounding % 12, (0, 2, 4, 5, 7, 9, 11)).mean() < 0.95
        symbol = phrases.pitch.astype(int) - LOWEST
        assert (((symbol >= 0) & (symbol < REST)) | (phrases.pitch == 0)).all()


def test_an_unknown_part_is_one_sentence():
    with pytest.raises(DataError, match="unknown part 'test': use train or held-out"):
        chorales("test")


def test_rolls_give_the_phrases_back(held_out):
    rolls = to_rolls(held_out)
    assert rolls.shape == (412, 32, 4, SYMBOLS) and rolls.dtype == numpy.uint8
    assert (rolls[..., :HOLD].sum(axis=-1) == 1).all()
    again = from_rolls(to_device(rolls.astype(numpy.float32)))
    assert numpy.array_equal(again.pitch, held_out.pitch)
    assert numpy.array_equal(again.onset, held_out.onset)


def test_a_roll_holds_what_sounds_and_whether_it_began_before():
    pitch, onset = numpy.zeros((1, 3, 4), numpy.uint8), numpy.zeros((1, 3, 4), bool)
    pitch[0, :2, 1], onset[0, 0, 1] = 60, True
    roll = to_rolls(Phrases(pitch, onset))[0]
    assert [row.nonzero()[0].tolist() for row in roll[:, 1]] == [[12], [12, HOLD], [REST]]
    assert roll[:, 0].sum() == 3 and (roll[:, 0, REST] == 1).all()


def test_another_pitch_begins_even_where_the_roll_says_hold():
    roll = numpy.zeros((1, 4, 4, SYMBOLS), numpy.float32)
    roll[..., REST] = 0.1
    for step, symbol in enumerate([5, 6, 6, REST]):
        roll[0, step, 2, symbol] = 1
    roll[..., HOLD] = 0.9
    phrases = from_rolls(roll)
    assert phrases.pitch[0, :, 2].tolist() == [49, 50, 50, 0]
    assert phrases.onset[0, :, 2].tolist() == [True, True, False, False]
    assert not phrases.onset[0, :, 0].any()  # a rest is no note


# ---------------------------------------------------------------- what is played


def random_symbols(n, steps, voices, seed=0):
    return numpy.random.default_rng(seed).integers(SYMBOLS, size=(n, steps, voices))


def test_what_is_held_goes_on_and_what_is_played_replaces_it():
    symbols = random_symbols(6, 32, 4)
    symbols[:, 1:][numpy.random.default_rng(1).random((6, 31, 4)) < 0.5] = HOLD
    symbols[0, 0] = HOLD  # nothing to hold
    symbols[1, 5:8, 2] = REST, HOLD, HOLD
    one_hot = (symbols[..., None] == numpy.arange(SYMBOLS)).astype(numpy.float32)
    phrases = from_rolls(performed(Tensor(to_device(one_hot))).data)
    for n, t, v in numpy.ndindex(symbols.shape):
        symbol = symbols[n, t, v]
        before = phrases.pitch[n, t - 1, v] if t else 0
        expected = {REST: 0, HOLD: before}.get(symbol, symbol + LOWEST[v])
        assert phrases.pitch[n, t, v] == expected
        assert phrases.onset[n, t, v] == (symbol < REST)


def test_what_was_performed_is_a_roll_like_bach_s(held_out):
    rolls = to_rolls(held_out)[:20]
    symbols = rolls.astype(numpy.float32)
    symbols[..., :HOLD] *= 1 - symbols[..., HOLD:]
    numpy.testing.assert_array_equal(performed(Tensor(to_device(symbols))).numpy(), rolls)


def test_gradients_of_a_performance_of_mixtures():
    check_gradients(lambda x: performed(softmax(x)), normal(2, 3, 2, SYMBOLS))
    sums = performed(softmax(Tensor(to_device(normal(2, 5, 3, SYMBOLS))))).numpy()[..., :HOLD]
    numpy.testing.assert_allclose(sums.sum(axis=-1), 1)
