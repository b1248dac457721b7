"""Figures of voices that fit together or don't, and music to see and to hear."""

import argparse
import io
import itertools
import json
import re
import struct
import wave

import numpy
import pytest
from PIL import Image

from tinygan import Tensor, metrics, plots
from tinygan.backend import to_device
from tinygan.datasets import Phrases, chorales, to_rolls
from tinygan.metrics import music_figures, nearest_phrases
from tinygan.metrics.music import different_chorales, random_notes, tonal_distance
from tinygan.plots import music


@pytest.fixture(scope="module")
def bach():
    return chorales("held-out")


def some(phrases, *rows):
    return Phrases(*(array[[*rows]] for array in phrases))


def phrase(*voices, steps=32):
    """One phrase in which each voice sings its pitches, equally long, from the first step on."""
    pitch = numpy.zeros((1, steps, len(voices)), numpy.uint8)
    onset = numpy.zeros(pitch.shape, bool)
    for v, notes in enumerate(voices):
        length = steps // len(notes)
        pitch[0, :, v] = numpy.repeat(notes, length)
        onset[0, ::length, v] = True
        onset[0, :, v] &= pitch[0, :, v] > 0
    return Phrases(pitch, onset)


# ---------------------------------------------------------------- figures


def test_a_held_triad_is_consonant():
    figures = music_figures(phrase([67], [64], [60], [48]), phrase([67], [64], [60], [48]))
    assert figures == {
        "dissonant": 0, "chords": 0, "crossing": 0, "on the beat": 1, "in scale": 1, "two steps": 1,
        "empty bars": 0, "classes": 1, "leap": 0,
        "tonal": pytest.approx(tonal_distance(phrase([67], [64], [60], [48])))}


@pytest.mark.parametrize(("above", "expected"), [
    (0, 0), (1, 1), (2, 1), (3, 0), (4, 0), (5, 0), (6, 1), (7, 0), (8, 0), (9, 0), (10, 1),
    (11, 1), (12, 0), (13, 1), (14, 1), (18, 1), (24, 0)])
def test_which_intervals_are_dissonant_in_any_octave(above, expected):
    both = phrase([60 + above], [60])
    assert music_figures(both, both)["dissonant"] == expected
    other_way = phrase([60], [60 + above])
    assert music_figures(other_way, both)["dissonant"] == expected
    assert music_figures(other_way, both)["crossing"] == (above > 0)


def test_rests_are_neither_dissonant_nor_crossing():
    figures = music_figures(phrase([0], [61], [60, 0]), phrase([60]))
    assert figures["dissonant"] == 0.5 and figures["crossing"] == 0
    assert figures["empty bars"] == 3 / 6 and figures["chords"] == 1


def test_notes_by_their_length_place_and_step():
    voice = [60, 62, 62, 63] * 8  # a note at every step
    figures = music_figures(phrase(voice), phrase(voice))
    assert figures["on the beat"] == 0.25 and figures["classes"] == 3
    assert figures["in scale"] == 0.75 and figures["two steps"] == 1 / 32  # the last is cut off
    assert figures["leap"] == (8 * 2 + 8 * 1 + 7 * 3) / 23
    long = music_figures(phrase([60, 67] * 8), phrase(voice))
    assert (long["two steps"], long["on the beat"], long["leap"]) == (1, 0.5, 7)


def test_a_note_of_one_step_before_a_rest_is_short():
    sounds = phrase([60] * 32)
    sounds.pitch[0, 1:] = 0
    sounds.onset[0, 1:] = False
    assert music_figures(sounds, sounds)["two steps"] == 0


def test_chords_are_compared_by_how_often_they_sound_on_beats():
    three, one = phrase([60, 60, 60, 64]), phrase([60, 64, 64, 64])
    assert music_figures(three, one)["chords"] == 0.5
    between = phrase([60] * 32)
    between.pitch[0, 1::4] = 61  # not on a beat
    assert music_figures(between, phrase([72]))["chords"] == 0


def test_figures_are_those_counted_note_by_note(bach):
    phrases = random_notes(some(bach, *range(12)), seed=3)
    held = numpy.random.default_rng(0).random(phrases.pitch.shape) < 0.5
    for t in range(1, 32):
        phrases.pitch[:, t] = numpy.where(held[:, t], phrases.pitch[:, t - 1], phrases.pitch[:, t])
        phrases.onset[:, t] = ~held[:, t]
    pitch, figures = phrases.pitch.astype(int), music_figures(phrases, bach)
    dissonant = crossing = 0
    for step in pitch.reshape(-1, 4):
        dissonant += any((a - b) % 12 in (1, 2, 6, 10, 11)
                         for a, b in itertools.combinations(step, 2))
        crossing += any(a < b for a, b in itertools.pairwise(step))
    assert figures["dissonant"] == pytest.approx(dissonant / (12 * 32))
    assert figures["crossing"] == pytest.approx(crossing / (12 * 32))
    notes = [*music.notes(phrases)]
    short = sum(stop - start == 1 and stop % 32 > 0 for _, start, stop, _ in notes)
    assert figures["two steps"] == pytest.approx(1 - short / len(notes))
    assert figures["on the beat"] == pytest.approx(sum(n[1] % 4 == 0 for n in notes) / len(notes))
    bars = [len({p % 12 for p in voice}) for bar in pitch.reshape(24, 16, 4) for voice in bar.T]
    assert figures["classes"] == pytest.approx(numpy.mean(bars))


def test_bach_is_far_from_voices_of_different_chorales_and_these_from_random_notes(bach):
    rows = [bach, different_chorales(bach), random_notes(bach)]
    for name, values in {"dissonant": (0.348, 0.812, 0.925), "crossing": (0.034, 0.41, 0.76),
                         "in scale": (0.935, 0.935, 0.60), "chords": (0, 0.73, 0.88)}.items():
        found = [music_figures(phrases, bach)[name] for phrases in rows]
        assert found == pytest.approx(values, abs=0.02), name
    assert numpy.array_equal(numpy.sort(rows[1].pitch, axis=0), numpy.sort(bach.pitch, axis=0))


def test_by_tonal_distance_random_notes_fit_together_better_than_bach(bach):
    assert tonal_distance(phrase([60, 62], [72, 74])) == pytest.approx(0, abs=1e-12)
    assert tonal_distance(phrase([60], [66])) == pytest.approx(8**0.5)
    assert tonal_distance(random_notes(bach)) < 1.1 < 1.5 < tonal_distance(bach)


def test_a_phrase_is_the_nearest_to_itself(bach):
    rows, equal = nearest_phrases(some(bach, 7, 3), bach)
    assert [*rows] == [7, 3] and [*equal] == [1, 1]
    changed = some(bach, 7)
    changed.pitch[0, :4] += 1
    assert [*nearest_phrases(changed, bach)[1]] == [pytest.approx(1 - 4 / 32)]


def test_the_report_stands_between_floors_and_bach(bach, tmp_path, capsys):
    settings = argparse.Namespace(model="composer", out=tmp_path, measure=20)
    asked = argparse.Namespace(phrases=lambda count: some(bach, *range(count)))
    metrics.report_music(settings, asked)
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert [*rows] == ["random notes", "voices of different chorales", "composer",
                       "Bach, to train on", "Bach, held out"]
    assert rows["composer"]["chords"] > 0 and "copied" in rows["Bach, held out"]
    assert "dissonant" in capsys.readouterr().out
    with numpy.load(tmp_path / "figures.npz") as arrays:
        assert arrays["pitch"].shape == arrays["onset"].shape == (20, 32, 4)
    page = (tmp_path / "samples.html").read_text()
    assert re.findall("<h2>(.*)</h2>", page) == [
        "Composer", "Nearest training phrases", "Bach, held out"]
    assert page.count("<audio") == 12 and (tmp_path / "samples.nearest.mid").exists()


def test_a_generator_s_phrases_are_always_of_the_same_latents(bach, tmp_path):
    def generate(z):
        rows = (1000 * abs(z.numpy()[:, 0]) % 400).astype(int)
        return Tensor(to_device(to_rolls(some(bach, *rows))))

    drawn = metrics.PianoRolls(generate, 3, seed=4)
    numpy.testing.assert_array_equal(drawn.phrases(5).pitch, drawn.phrases(8).pitch[:5])
    assert (drawn.phrases(8).pitch != metrics.PianoRolls(generate, 3).phrases(8).pitch).any()
    drawn.draw(tmp_path / "rolls.png")
    assert Image.open(tmp_path / "rolls.png").size == (3 * (4 * 97 - 1), 3 * (3 * 59 - 1))


# ---------------------------------------------------------------- to see and to hear


def test_notes_end_where_the_next_begins_or_a_rest_is():
    voice = phrase([60, 0, 62, 62], steps=8)
    voice.onset[0, 6] = False  # one note of four steps
    assert [*music.notes(voice)] == [(0, 0, 2, 60), (0, 4, 8, 62)]
    again = phrase([60, 60], steps=8)
    assert [*music.notes(again)] == [(0, 0, 4, 60), (0, 4, 8, 60)]
    two = Phrases(*(numpy.concatenate([a, b]) for a, b in zip(voice, again, strict=True)))
    assert [*music.notes(two)][2:] == [(0, 8, 12, 60), (0, 12, 16, 60)]


def test_sound_has_the_pitch_of_the_note_and_does_not_clip():
    for pitch in 69, 45:
        samples = music.sound(phrase([pitch]))
        assert abs(samples).max() <= 1
        assert len(samples) == pytest.approx((32 * music.STEP + 0.05) * music.RATE, abs=2)
        spectrum = abs(numpy.fft.rfft(samples))
        found = numpy.argmax(spectrum) * music.RATE / len(samples)
        assert found == pytest.approx(440 * 2 ** ((pitch - 69) / 12), abs=0.3)
    loud = music.sound(phrase([60, 0], steps=32))
    assert abs(loud[-1000:]).max() == 0 < abs(loud[:1000]).max()


def test_a_wav_file_is_what_sounds(bach):
    few = some(bach, 0, 1)
    with wave.open(io.BytesIO(music.wav(few))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, music.RATE)
        samples = numpy.frombuffer(file.readframes(file.getnframes()), "<i2")
    numpy.testing.assert_allclose(samples / 32767, music.sound(few), atol=1e-4)
    assert 0.05 < samples.std() / 32767 < 0.3


def events(data):
    """The notes in a MIDI file of format 1, by its specification; ticks as they are."""
    assert data[:4] == b"MThd"
    _, kind, tracks, division = struct.unpack(">IHHH", data[4:14])
    assert (kind, division) == (1, 4)
    place, notes = 14, []
    for _ in range(tracks):
        assert data[place : place + 4] == b"MTrk"
        (length,) = struct.unpack(">I", data[place + 4 : place + 8])
        place, end, tick, begun = place + 8, place + 8 + length, 0, {}
        while place < end:
            delta = 0
            while True:
                byte, place = data[place], place + 1
                delta = delta * 128 + (byte & 127)
                if byte < 128:
                    break
            tick += delta
            status = data[place]
            if status == 0xFF:
                place += 3 + data[place + 2]
            elif status >> 4 == 0xC:
                place += 2
            else:
                pitch = data[place + 1]
                if status >> 4 == 9:
                    assert pitch not in begun
                    begun[pitch] = tick
                else:
                    notes.append((status & 15, begun.pop(pitch), tick, pitch))
                place += 3
        assert place == end and not begun
    assert place == len(data)
    return sorted(notes)


def test_a_midi_file_has_the_same_notes(bach):
    few = some(bach, 0, 100, 200, 300, 400)
    assert events(music.midi(few)) == sorted(music.notes(few))
    late = phrase([0, 0, 60], steps=450)  # a wait of more than 127 ticks
    assert events(music.midi(late)) == [(0, 300, 450, 60)]


def test_a_roll_shows_each_voice_in_its_colour_and_where_notes_begin():
    image = music.rolls(phrase([72], [60, 0]))[0]
    assert image.shape == (58, 32 * 3, 3)
    colours = numpy.round((image + 1) * 127.5).astype(int)
    assert (colours[88 - 72, 1:] == (200, 40, 40)).all()
    assert (colours[88 - 72, 0] == (80, 16, 16)).all()
    assert (colours[88 - 60, 1:48] == (220, 140, 20)).all()
    assert (colours[0, 1:3] == 255).all() and (colours[0, 48] == 150).all()
    assert (colours[88 - 60, 49:60] == 255).all() and (colours[88 - 60, 60] == 225).all()


def test_the_page_has_pictures_and_sound_inside(bach, tmp_path):
    plots.save_music({"Composer": some(bach, 0, 1), "Bach <held out>": some(bach, 2)},
                     tmp_path / "samples.html")
    page = (tmp_path / "samples.html").read_text()
    assert page.count("<img src='data:image/png;base64,") == 3
    assert page.count("<audio controls src='data:audio/wav;base64,") == 3
    assert "<h2>Bach &lt;held out&gt;</h2>" in page
    assert not re.findall(r"(?:src|href)=['\"](?!data:)", page)  # all of it is in the file
    assert {path.name for path in tmp_path.iterdir()} == {
        f"samples.{end}"
        for end in ("html", "composer.wav", "composer.mid", "bach.wav", "bach.mid")}
    assert events((tmp_path / "samples.composer.mid").read_bytes()) == sorted(
        music.notes(some(bach, 0, 1)))


def test_rolls_are_drawn_side_by_side(bach, tmp_path):
    plots.save_rolls(some(bach, *range(8)), tmp_path / "rolls.png")
    assert Image.open(tmp_path / "rolls.png").size == (3 * (4 * 97 - 1), 3 * (2 * 59 - 1))
