"""Music to look at and to hear: piano rolls, MIDI files, sound, a page with both.

Letters: N phrases, T steps of a sixteenth note, V voices. Several phrases sound one after another.
"""

import base64
import html
import io
import struct
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy

from ..datasets import Phrases
from ..datasets.chorales import BAR, BEAT
from ..files import replacing
from .images import grid, save_grid

RATE, STEP = 11_025, 0.18  # samples of sound in a second, seconds in a step
_OVERTONES = (1, 0.6, 0.3, 0.2)  # how loud an organ pipe's tones are at 1, 2, 3, 4 times its pitch
_ATTACK, _RELEASE = 0.015, 0.05  # seconds in which a note gets loud, and silent
_LOW, _HIGH, _WIDE = 31, 88, 3  # pitches of a roll, pixels of a step
_COLOURS = numpy.array([(200, 40, 40), (220, 140, 20), (40, 140, 70), (50, 70, 190)])


def notes(phrases: Phrases) -> Iterator[tuple[int, int, int, int]]:
    """The voice, first step, last step + 1 and pitch of each note of phrases (N, T, V), joined."""
    pitch, onset = (array.reshape(-1, array.shape[2]) for array in phrases)
    for voice in range(pitch.shape[1]):
        silent = numpy.append(pitch[:, voice] == 0, True)
        stops = numpy.flatnonzero(numpy.append(onset[:, voice], True) | silent)
        for start in numpy.flatnonzero(onset[:, voice]):
            yield voice, int(start), int(stops[stops > start][0]), int(pitch[start, voice])


def sound(phrases: Phrases) -> numpy.ndarray:
    """Phrases (N, T, V) as float samples in [-1, 1], RATE in a second, played by organ pipes."""
    total = numpy.zeros(round((phrases.pitch[..., 0].size * STEP + _RELEASE) * RATE) + 1)
    for _, start, stop, pitch in notes(phrases):
        length = (stop - start) * STEP + _RELEASE
        t = numpy.arange(int(length * RATE)) / RATE
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(loud * numpy.sin(2 * numpy.pi * (i + 1) * frequency * t)
                   for i, loud in enumerate(_OVERTONES))
        first = round(start * STEP * RATE)
        envelope = numpy.minimum(t / _ATTACK, (length - t) / _RELEASE).clip(max=1)
        total[first : first + len(t)] += tone * envelope
    return total / (2 * sum(_OVERTONES) * phrases.pitch.shape[2])  # notes of a voice may overlap


def wav(phrases: Phrases) -> bytes:
    """A WAV file, mono, 16 bits, of phrases (N, T, V)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes((32767 * sound(phrases)).astype("<i2").tobytes())
    return file.getvalue()


def midi(phrases: Phrases) -> bytes:
    """A standard MIDI file, format 1, of phrases (N, T, V): a track for each voice, a step a tick.

    Every voice is a church organ (program 19) of its own channel.
    """
    tracks = [[(0, 0, bytes([0xC0 | voice, 19]))] for voice in range(phrases.pitch.shape[2])]
    tracks[0].append((0, 0, b"\xff\x51\x03" + round(BEAT * STEP * 1e6).to_bytes(3, "big")))
    for voice, start, stop, pitch in notes(phrases):
        tracks[voice] += [(start, 2, bytes([0x90 | voice, pitch, 80])),
                          (stop, 1, bytes([0x80 | voice, pitch, 0]))]  # before a next one starts
    file = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), BEAT)
    for track in tracks:
        data, now = b"", 0
        for tick, _, event in sorted(track):
            data, now = data + _length(tick - now) + event, tick
        data += b"\x00\xff\x2f\x00"
        file += b"MTrk" + struct.pack(">I", len(data)) + data
    return file


def _length(ticks: int) -> bytes:
    """A number as MIDI has it: seven bits a byte, all but the last with the eighth bit set."""
    digits = [ticks & 127]
    while ticks := ticks >> 7:
        digits.insert(0, ticks & 127 | 128)
    return bytes(digits)


def rolls(phrases: Phrases) -> numpy.ndarray:
    """Piano rolls of phrases (N, T, V), float32 (N, H, W, 3) in [-1, 1]: time goes to the right.

    The voices are red, orange, green and blue from the highest down; a note begins with a dark
    line. Grey are beats, darker bars.
    """
    n, steps, voices = phrases.pitch.shape
    images = numpy.full((n, _HIGH - _LOW + 1, steps * _WIDE, 3), 255, dtype=numpy.float32)
    images[:, :, :: BEAT * _WIDE] = 225
    images[:, :, :: BAR * _WIDE] = 150
    for voice in range(voices):
        which, step = numpy.nonzero(phrases.pitch[..., voice])
        row = _HIGH - phrases.pitch[which, step, voice].astype(int)
        for x in range(_WIDE):
            begins = phrases.onset[which, step, voice] & (x == 0)
            images[which, row, step * _WIDE + x] = _COLOURS[voice] * (1 - 0.6 * begins[:, None])
    return images / 127.5 - 1


def save_rolls(phrases: Phrases, path: Path, columns: int = 4) -> None:
    """Write the piano rolls of phrases (N, T, V) as a PNG."""
    save_grid(rolls(phrases), path, columns)


def save_music(rows: Mapping[str, Phrases], path: Path) -> None:
    """Write phrases (N, T, V), by title, as a page of HTML: each to look at and to play.

    Pictures and sound are inside the file. Beside it lie the phrases of each title, joined, as
    .wav and .mid, named after the title's first word: samples.bach.wav of "Bach, held out".
    """
    page = ["<!DOCTYPE html><meta charset=utf-8><title>Phrases in four voices</title>",
            "<style>body{font-family:sans-serif} figure{display:inline-block;margin:4px} "
            "audio,img{display:block;width:288px}</style>"]
    for title, phrases in rows.items():
        page.append(f"<h2>{html.escape(title)}</h2>")
        for i, image in enumerate(rolls(phrases)):
            picture = io.BytesIO()
            grid(image[None], 1).save(picture, format="PNG")
            embedded = [base64.b64encode(data).decode() for data in (
                picture.getvalue(), wav(phrases.rows(slice(i, i + 1))))]
            page.append("<figure><img src='data:image/png;base64,{}'>"
                        "<audio controls src='data:audio/wav;base64,{}'></audio></figure>"
                        .format(*embedded))
        for suffix, data in (".wav", wav(phrases)), (".mid", midi(phrases)):
            word = title.split()[0].lower().strip(",")
            with replacing(path.with_name(f"{path.stem}.{word}{suffix}")) as file:
                file.write_bytes(data)
    with replacing(path) as file:
        file.write_text("\n".join(page) + "\n")
