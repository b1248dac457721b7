"""Files damaged in thousands of ways: what comes out is what they hold, or the library's own error.

Hypothesis draws the damage, the same in every run; by default a few hundred files, more than ten
thousand with the slow tests.
"""

import gzip
import json
import math
import re
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tinygan import Tensor, plots, training
from tinygan.backend import random_normal
from tinygan.datasets import DataError, folder, load, mnist, read_idx
from tinygan.files import UsageError, replacing
from tinygan.layers import Dense, Reshape, Sequential
from tinygan.normalization import BatchNorm
from tinygan.optimizers import Adam, ExponentialMovingAverage
from tinygan.training import checkpoints, trained
from tinygan.training.checkpoints import CheckpointError

NUMBERS = [0, 1, 2, 3, 28, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
FRAGMENTS = [b"", b"\0", b"\xff", bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x10" + bytes(7)]


def few_or_many(few, many):
    """Run a test with few inputs by default, with many among the slow tests."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def try_all(count, inputs, check):
    """Call check with count values that are drawn from inputs."""
    tried = 0

    @settings(max_examples=count, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))
    @given(inputs)
    def test(value):
        nonlocal tried
        tried += 1
        check(value)

    test()
    assert tried >= count


@contextmanager
def bounded_memory(limit):
    """What is inside takes at most limit bytes of memory at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= limit
    finally:
        tracemalloc.stop()


@st.composite
def damaged(draw, content):
    """The bytes after a few cuts, insertions, repetitions and overwritten places."""
    for _ in range(draw(st.integers(1, 3))):
        start, source = (draw(st.integers(0, len(content))) for _ in range(2))
        length = draw(st.sampled_from([0, 1, 2, 4, 8, 100, len(content)]))
        repeated = content[source : source + draw(st.sampled_from([0, 4, 100]))]
        put = draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=8) | st.just(repeated))
        content = content[:start] + put + content[start + length :]
    return content


# ---------------------------------------------------------------- IDX files


def idx(array, shape=None):
    """The bytes of an IDX file, which claims another shape if one is given."""
    shape = array.shape if shape is None else shape
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


DIGITS, LABELS = (array[:4] for array in mnist())


@st.composite
def idx_files(draw):
    """Images or labels whose header or length may be wrong, packed or not, whole or damaged."""
    array = draw(st.sampled_from([DIGITS[..., 0], DIGITS[:3, 8:12, 8:13, 0], LABELS]))
    wrong = [draw(st.just(size) | st.sampled_from(NUMBERS)) for size in array.shape]
    content = idx(array, draw(st.just(array.shape) | st.permutations(array.shape) | st.just(wrong)))
    content += draw(st.sampled_from([b"", b"", b"\0", bytes(10**6)]))
    packed, cut = gzip.compress(content, 1), draw(st.integers(0, len(content)))
    members = gzip.compress(content[:cut]) + gzip.compress(content[cut:])
    content = draw(st.sampled_from([content, packed, packed + bytes(9), packed + b"?", members]))
    return draw(st.just(content) | damaged(content))


def held_by(content):
    """The array of an unpacked IDX file, read another way; None if there is something wrong."""
    if content[:4] not in (b"\0\0\x08\x01", b"\0\0\x08\x03") or len(content) < 4 + 4 * content[3]:
        return None
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    pixels = np.frombuffer(content, np.uint8)[4 + 4 * len(shape) :]
    return pixels.reshape(shape) if 1 <= math.prod(shape) == len(pixels) else None


@few_or_many(200, 3000)
def test_a_damaged_idx_file_is_what_it_holds_or_an_error(tmp_path, count):
    path = tmp_path / "train-labels-idx1-ubyte"
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(DIGITS[..., 0]))

    def check(content):
        path.write_bytes(content)
        try:
            content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            expected = held_by(content)
        except (OSError, EOFError, zlib.error):
            content, expected = b"", None
        with bounded_memory(2**22 + 3 * len(content)):
            try:
                array = read_idx(path)
            except DataError as error:
                array = None
                assert str(path) in str(error)
        assert (array is None) == (expected is None)
        assert array is None or np.array_equal(array, expected)
        fits = array is not None and array.shape == (4,) and array.max() <= 9
        try:
            assert np.array_equal(load("fashion", tmp_path).labels, array) and fits
        except DataError:
            assert not fits

    try_all(count, idx_files(), check)


# ---------------------------------------------------------------- images

DIGIT = Image.fromarray(DIGITS[0, :, :, 0])


def encoded(mode, kind="PNG", **options):
    file = BytesIO()
    Image.merge("RGB", [DIGIT] * 3).convert(mode).save(file, kind, **options)
    return file.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
PNGS = [encoded(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")] + [
    encoded("P", transparency=0),
    encoded("L", save_all=True, append_images=[DIGIT.rotate(90)]),
    encoded("RGB", exif=EXIF, icc_profile=bytes(200)),
]
JPEGS = [encoded(mode, "JPEG") for mode in ("L", "RGB", "CMYK")] + [
    encoded("RGB", "JPEG", progressive=True),
    encoded("RGB", "JPEG", exif=EXIF, icc_profile=bytes(200), comment=b"a digit"),
]
KINDS = [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"zTXt",
         b"iTXt", b"eXIf", b"pHYs", b"gAMA", b"cHRM", b"none"]
MARKERS = [bytes([0xFF, code]) for code in (0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xD0, 0xD8, 0xD9, 0xDA,
                                            0xDB, 0xDD, 0xE0, 0xE1, 0xE2, 0xEE, 0xFE)]


def chunks_of(png):
    start = 8
    while start < len(png):
        (length,) = struct.unpack_from(">I", png, start)
        yield png[start + 4 : start + 8], png[start + 8 : start + 8 + length]
        start += 12 + length


def join_chunks(chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def segments_of(jpeg):
    """Markers and what belongs to them; all from the first scan on goes with the first SOS."""
    start = 2
    while jpeg[start + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", jpeg, start + 2)
        yield jpeg[start : start + 2], jpeg[start + 4 : start + 2 + length]
        start += 2 + length
    yield jpeg[start : start + 2], jpeg[start + 2 :]


def join_segments(segments):
    return b"\xff\xd8" + b"".join(
        marker + struct.pack(">H", (2 + len(data)) % 2**16) * (marker != b"\xff\xda") + data
        for marker, data in segments
    )


def test_images_are_put_together_as_they_were_taken_apart():
    assert [join_chunks(chunks_of(png)) for png in PNGS] == PNGS
    assert [join_segments(segments_of(jpeg)) for jpeg in JPEGS] == JPEGS


@st.composite
def rearranged(draw, pieces, kinds):
    """Pieces (kind, data) after some were dropped, repeated, renamed, moved or damaged."""
    pieces = list(pieces)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(pieces) - 1)))
        kind, data = pieces.pop(place) if pieces else (kinds[0], b"")
        action = draw(st.sampled_from(["drop", "repeat", "rename", "move", "number", "damage"]))
        if action == "rename":
            kind = draw(st.sampled_from(kinds))
        if action == "move":
            place = draw(st.integers(0, len(pieces)))
        if action == "number":
            at = draw(st.integers(0, max(0, len(data) - 4)))
            number = struct.pack(">I", draw(st.sampled_from(NUMBERS)))
            size = draw(st.sampled_from([2, 4]))
            data = data[:at] + number[-size:] + data[at + size :]
        if action == "damage":
            data = draw(unpacked(data) | damaged(data))
        pieces[place:place] = [(kind, data)] * {"drop": 0, "repeat": 2}.get(action, 1)
    return pieces


@st.composite
def unpacked(draw, data):
    """What deflate packed, damaged and packed again; other data are only damaged."""
    try:
        inside = zlib.decompress(data)
    except zlib.error:
        return draw(damaged(data))
    return zlib.compress(draw(damaged(inside)) + draw(st.sampled_from([b"", bytes(10**6)])))


@st.composite
def images(draw):
    png = draw(st.sampled_from(PNGS))
    jpeg = draw(st.sampled_from(JPEGS))
    return draw(
        damaged(png) | damaged(jpeg)
        | rearranged(chunks_of(png), KINDS).map(join_chunks)
        | rearranged(segments_of(jpeg), MARKERS).map(join_segments)
    )


@few_or_many(200, 3000)
def test_a_damaged_image_is_read_or_named_and_left_out(tmp_path, count):
    DIGIT.save(tmp_path / "good.png")
    expected = folder(tmp_path).images

    def check(content):
        (tmp_path / "other.png").write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            images, labels = folder(tmp_path)
        named = sum("1 of 2 images cannot be read" in str(one.message) for one in caught)
        assert len(images) + named == 2 and labels is None
        assert images.dtype == np.uint8 and images.shape[1:] == (28, 28, 1)
        assert np.array_equal(images[:1], expected)

    try_all(count, images(), check)


VAST = struct.pack(">II", 5000, 5000)
BOMB = zlib.compress(bytes(10**8), 9)
BOMBS = {  # small files that would unpack to a hundred megabytes
    "vast.png": [(kind, VAST + data[8:] if kind == b"IHDR" else data)
                 for kind, data in chunks_of(PNGS[4])],
    "text.png": [*chunks_of(PNGS[4])][:1] + [(b"zTXt", b"x\0\0" + BOMB)] * 3,
    "profile.png": [*chunks_of(PNGS[4])][:1] + [(b"iCCP", b"x\0\0" + BOMB)],
    "vast.jpg": [(kind, data[:1] + VAST[2:4] + VAST[6:] + data[5:] if kind == b"\xff\xc2" else data)
                 for kind, data in segments_of(JPEGS[3])],
}
MEASURED = """
import sys
from tinygan.datasets import folder

def most():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

folder(sys.argv[1])
before = most()
folder(sys.argv[2])
print(most() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to read")
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_image_does_not_take_much_memory(tmp_path, name):
    for place in ("good", "bad"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "good.jpg").write_bytes(JPEGS[3])
        (tmp_path / place / "good.png").write_bytes(PNGS[4])
    join = join_chunks if name.endswith("png") else join_segments
    (tmp_path / "bad" / name).write_bytes(join(BOMBS[name]))
    command = [sys.executable, "-c", MEASURED, tmp_path / "good", tmp_path / "bad"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"1 of 3 images cannot be read: {tmp_path / 'bad' / name}" in done.stderr
    assert int(done.stdout) < 20_000, "kilobytes"


# ---------------------------------------------------------------- checkpoints


class Demo:
    """A run so small that it takes no time; notes the arrays that each run starts with."""

    def __init__(self):
        self.starts = []

    def options(self):
        return training.parser("small", "", steps=4, batch_size=4, latent=2)

    def build(self, settings):
        G = Sequential(Dense(settings.latent, 4, bias=False), BatchNorm(4), Reshape(2, 2, 1))
        return {"G": G, "average of G": ExponentialMovingAverage(G)}

    def pictures(self, settings, parts):
        return training.Pictures(parts["average of G"].network, settings.latent)

    def train(self, settings):
        parts = self.build(settings)
        G, average = parts.values()
        adam = parts["Adam of G"] = Adam(G.parameters(), 1e-3)
        before = str([owner.state() for owner in parts.values()])
        try:
            run = training.Run(settings, parts, self.pictures(settings, parts).draw)
        except UsageError:
            assert str([owner.state() for owner in parts.values()]) == before
            raise
        self.starts.append({name: part.state() for name, part in parts.items()})
        for _ in run:
            loss = (G(Tensor(random_normal(settings.batch_size, settings.latent))) ** 2.0).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            average.update()
            run.log(losses={"G loss": loss})
            run.stopped = True


@pytest.fixture
def run_small(tmp_path, monkeypatch):
    """Makes a small run as the command line does, from the bytes of a checkpoint if there are any.

    It returns the arrays at the start, or None where the command ended with an error.
    """

    def no_picture(_, path, *more, **options):
        with replacing(path) as file:
            file.write_bytes(b"a picture")

    for name in ("save_grid", "save_animation"):
        monkeypatch.setattr(plots, name, no_picture)
    monkeypatch.setattr(plots, "save_curves", lambda steps, panels, path, levels: None)
    monkeypatch.setattr(sys, "argv", ["run"])
    monkeypatch.setattr(trained, "load_demo", lambda name: Demo())

    def run(content=None):
        sys.argv[1:] = ["--out", str(tmp_path)]
        if content is not None:
            sys.argv += ["--resume"]
            (tmp_path / checkpoints.PREVIOUS).unlink(missing_ok=True)
            (tmp_path / checkpoints.FILE).write_bytes(content)
        demo = Demo()
        try:
            training.main(demo.options(), demo.train)
        except SystemExit as end:
            assert end.code == 2
            return None
        return demo.starts[0]

    return run


EDGES = [None, True, -1, 0, 1, 3, 10**12, 10**30, 0.5, math.inf, math.nan, "", "x", "../x", [], [1],
         {}, {"x": 1}]
TYPES = ["'<f4'", "'>f4'", "'<f8'", "'<i8'", "'<U4'", "'|S4'", "'|O'", "'<M8[s]'", "'<c8'", "'|V4'",
         "[('a', '<f4')]", "('<f4', (2,))", "1", "'"]
SHAPES = [(), (0,), (1,), (2,), (4,), (4, 1), (-1,), (2**31, 2**31), (2**60,), (2**70,), "x", None]
NAMES = ["about.npy", "G/layers.0.weight.npy", "Adam of G/steps.npy", "log/step.npy", "log/x.npy",
         "../../escaped.npy", "/tmp/escaped.npy", "x" * 60_000, "", "x.npy", "."]


def npy(array):
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


@st.composite
def changed_text(draw, text):
    """JSON with another value, or none, somewhere in it."""
    inside = whole = json.loads(text)
    while True:
        names = sorted(inside) if isinstance(inside, dict) else range(len(inside))
        name = draw(st.sampled_from(names))
        if not inside[name] or not isinstance(inside[name], dict | list) or draw(st.booleans()):
            break
        inside = inside[name]
    del inside[name]
    if draw(st.sampled_from([True, True, True, False])):
        value = draw(st.sampled_from(EDGES))
        inside.insert(name, value) if isinstance(inside, list) else inside.update({name: value})
    return json.dumps(whole).encode()


@st.composite
def changed_array(draw, content):
    """Other numbers, or another header before the same numbers."""
    array = np.load(BytesIO(content)).copy()
    if draw(st.booleans()):
        first = draw(st.integers(0, array.size - 1))
        with np.errstate(all="ignore"):
            number = draw(st.sampled_from([-11, -1, 0, 1, 1e30, math.nan, math.inf]))
            array.reshape(-1)[first:] = np.float64(number).astype(array.dtype)
        return npy(array)
    kind = draw(st.sampled_from(TYPES) | st.just(repr(array.dtype.str)))
    shape = draw(st.sampled_from(SHAPES) | st.just(array.shape))
    by_column = draw(st.booleans())
    header = f"{{'descr': {kind}, 'fortran_order': {by_column}, 'shape': {shape!r}}}\n".encode()
    version = draw(st.sampled_from([b"\1\0", b"\1\0", b"\2\0"]))
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + array.tobytes()


FIELDS = {  # of the headers of an archive: where they are, how long
    b"PK\1\2": [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)],
    b"PK\3\4": [(6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)],
    b"PK\5\6": [(8, 2), (10, 2), (12, 4), (16, 4), (20, 2)],
}


@st.composite
def changed_directory(draw, content):
    """An archive with another number in one of its headers: sizes, places, flags, methods."""
    kind = draw(st.sampled_from([b"PK\1\2", b"PK\3\4", b"PK\5\6"]))
    headers = [found.start() for found in re.finditer(kind, content)]
    field, size = draw(st.sampled_from(FIELDS[kind]))
    place = draw(st.sampled_from(headers)) + field
    number = struct.pack("<Q", draw(st.sampled_from(NUMBERS)))
    return content[:place] + number[:size] + content[place + size :]


@st.composite
def archives(draw, original):
    """A checkpoint with other members, other numbers in its headers, or damaged anywhere."""
    with zipfile.ZipFile(BytesIO(original)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text, whole = np.load(BytesIO(members["about.npy"])).tobytes(), dict(members)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(whole.keys() - {"about.npy"})))
        action = draw(st.sampled_from(["text", "text", "array", "array", "drop", "rename", "cut"]))
        if action == "text":
            members["about.npy"] = npy(np.frombuffer(draw(changed_text(text)), np.uint8))
        if action == "array":
            members[name] = draw(changed_array(whole[name]))
        if action in ("drop", "rename"):
            content = members.pop(name, b"")
        if action == "rename":
            members[draw(st.sampled_from(NAMES))] = content
        if action == "cut":
            members[name] = draw(damaged(whole[name]))
    file, stored = BytesIO(), zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([*[stored] * 6, 8]))) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
        if draw(st.sampled_from([False] * 9 + [True])):
            archive.writestr("G/bomb.npy", bytes(10**7), 8)
    content = file.getvalue()
    return draw(st.just(content) | changed_directory(content) | damaged(content))


@pytest.mark.parametrize("field", FIELDS[b"PK\1\2"])
def test_an_archive_whose_directory_claims_too_much_takes_no_memory(tmp_path, field):
    file = BytesIO()
    np.savez(file, about=np.zeros(10, np.uint8))
    content, (place, size) = bytearray(file.getvalue()), field
    place += content.index(b"PK\1\2")
    content[place : place + size] = b"\x7f\xff"[: size - 2] + b"\xff\x7f"
    (tmp_path / "file.npz").write_bytes(content)
    with bounded_memory(2**20), pytest.raises(CheckpointError):
        checkpoints.read(tmp_path / "file.npz")


@pytest.mark.cpu_only("the device is among the options of a checkpoint")
@pytest.mark.filterwarnings("ignore")
@few_or_many(200, 5000)
def test_a_damaged_checkpoint_is_taken_up_whole_or_not_at_all(
    tmp_path, count, run_small, capsys
):
    assert run_small() is not None
    saved = checkpoints.read(tmp_path)  # the folder's name is another every time: not so the inputs
    checkpoints.write(tmp_path, saved._replace(options=saved.options | {"out": "run"}))
    original = (tmp_path / checkpoints.FILE).read_bytes()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    accepted = 0

    def check(content):
        nonlocal accepted
        (tmp_path / "file.npz").write_bytes(content)
        with bounded_memory(2**22 + 8 * len(content)):
            try:
                assert training.load(tmp_path / "file.npz").pictures().samples(2).ndim == 4
            except CheckpointError:
                pass
        start = run_small(content)
        printed = capsys.readouterr().err
        if start is None:
            assert "error: " in printed.splitlines()[-1] and "Traceback" not in printed
            return
        accepted += 1
        with np.lib.npyio.NpzFile(BytesIO(content)) as file:
            for part, state in start.items():
                for name, array in state.items():
                    np.testing.assert_array_equal(array, file[f"{part}/{name}"])

    try_all(count, archives(original), check)
    assert 0 < accepted < count
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} <= files | {
        "file.npz", checkpoints.PREVIOUS, *(f"samples/{step:07}.png" for step in range(9))
    }
