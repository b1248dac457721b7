"""Bad input of every kind, given to the commands as a user gives it: one sentence, exit status 2.

With --debug there is a traceback instead. What readers do with bad files in detail is in
test_datasets.py, test_checkpoints.py and test_fuzz.py.
"""

import argparse
import errno
import gzip
import io
import os
import pickle
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy
import pytest
from PIL import Image

from tinygan import datasets, sample, training
from tinygan.files import UsageError, replacing
from tinygan.training import checkpoints

DEMOS = {path.stem: path for path in sorted((Path(__file__).parents[1] / "demos").glob("*.py"))}

pytestmark = pytest.mark.cpu_only("options choose the device")


def run(name, *words):
    """Run a command with these words. Raises SystemExit where it ends with an error."""
    with mock.patch.object(sys, "argv", [f"{name}.py", *map(str, words)]):
        if name == "sample":
            return training.run_main(sample.main)
        runpy.run_path(str(DEMOS[name]), run_name="__main__")


def refused(capsys, name, *words):
    """The one sentence with which a command refuses these words; its status is 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(name, *words)
    printed = capsys.readouterr().err
    *before, sentence = printed.splitlines()
    assert end.value.code == 2 and "Traceback" not in printed
    program, _, sentence = sentence.rpartition("error: ")
    if program:  # argparse, which has no part in --debug, says how the command is used
        assert name in program and before[0].startswith("usage: ")
    else:
        with pytest.raises(UsageError):
            run(name, *words, "--debug")
    return sentence


SHORT = ["--steps", 3, "--batch-size", 4, "--measure", 0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of three steps."""
    out = tmp_path_factory.mktemp("finished")
    run("mnist_gan", *SHORT, "--out", out)
    return out


# ---------------------------------------------------------------- options


def options_of(name):
    """The options of a command, as its parser has them."""

    class Seen(Exception):
        pass

    def parse_args(parser):
        raise Seen(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args):
        with pytest.raises(Seen) as seen:
            run(name)
    (parser,) = seen.value.args
    return [action for action in parser._actions if action.dest != "help"]


LONG = "n" * 300  # more than a file's name may have
NUMBERS = ["0", "-1", "1.5", "many", "", "nan", "inf", "1e3", "1e400", "1000000001", "9" * 5000,
           "1000000000", "100", "1000", "10", "20", "3", "RGB", "magic", "-0.1", "half"]
WRONG = {
    "--device": ["tpu", "", "GPU", "gpu:", "gpu:-1", "gpu:x", "cpu:0", "gpu:1000"],
    "--data": ["cats", "", "MNIST", "folder:", "folder:/does/not/exist", f"folder:{LONG}"],
    "--data-dir": ["/does/not/exist", "/dev/null", LONG],
    "--out": ["/dev/null/run", LONG], "--npz": ["/dev/null/run", LONG],
}
FLAGS = ["yes", "", "0"]  # as in --resume=yes
COMMANDS = [*DEMOS, "sample"]


def wrong_values(action):
    """Values that an option must refuse: those of WRONG, or what its own type and choices do not
    take. Every option refuses something."""
    if action.nargs == 0:
        return FLAGS
    if action.option_strings[0] in WRONG:
        return WRONG[action.option_strings[0]]

    def taken(text):
        try:
            value = (action.type or str)(text)
        except (argparse.ArgumentTypeError, TypeError, ValueError):
            return False
        return action.choices is None or value in action.choices

    return [text for text in NUMBERS if not taken(text)][:6]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_refuses_something(name):
    valued = [action for action in options_of(name) if action.option_strings]
    any_path = {action.dest for action in valued if action.type is Path}  # a file may have any name
    assert {action.dest for action in valued if not wrong_values(action)} <= any_path
    numbers = [action for action in valued if action.type in (int, float) and not action.choices]
    assert numbers == []  # a number without bounds: use positive(), from_zero() or choices


def cases():
    """Wrong values for every option of every demo; of one that several demos share, which is read
    by the same code in all of them, where it comes first."""
    tried = set()
    for name in COMMANDS:
        for action in options_of(name):
            shared = (action.dest, action.type, str(action.choices), action.nargs)
            if action.option_strings and (shared not in tried or action.dest == "data"):
                tried.add(shared)
                for value in wrong_values(action):
                    yield name, action.option_strings[0], value


@pytest.mark.parametrize(("name", "option", "value"), [*cases()],
                         ids=lambda value: value if len(value) < 30 else "long")
def test_a_wrong_value_is_refused(name, option, value, finished, tmp_path, capsys, monkeypatch):
    for key, originals in datasets.ORIGINALS.items():  # without the network
        monkeypatch.setitem(datasets.ORIGINALS, key, originals._replace(mirrors=()))
    words = {"--out": tmp_path / "run", "--steps": 1}
    if option == "--epochs" or name == "sample":
        del words["--steps"]
    if option == "--data-dir":
        words["--data"] = "fashion"
    words[option] = value
    words = [f"{key}={value}" for key, value in words.items()]
    sentence = refused(capsys, name, *[finished] * (name == "sample"), *words)
    given = value.removeprefix("folder:")
    assert option in sentence or repr(value) in sentence or given and given in sentence


@pytest.mark.parametrize("name", DEMOS)
@pytest.mark.parametrize("words", [["--step", "5"], ["extra"], ["--steps"], ["-x"]])
def test_words_that_mean_nothing_are_refused(name, words, tmp_path, capsys):
    sentence = refused(capsys, name, "--out", tmp_path, *words)
    assert words[0] in sentence


@pytest.mark.parametrize(("name", "option"), [("mnist_gan", "--latent"), ("dcgan", "--width")])
def test_networks_larger_than_the_memory_are_refused(name, option, tmp_path):
    pytest.importorskip("resource")
    program = (
        "import resource, runpy, sys\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({4 << 30}, {4 << 30}))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", program, DEMOS[name], option, "100000000", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "llocate" in done.stderr or "memory" in done.stderr
    done = subprocess.run([*command, "--debug"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("Traceback")


# ---------------------------------------------------------------- checkpoints

class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def archive(members, packed=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def saved(array):
    file = io.BytesIO()
    numpy.save(file, array, allow_pickle=True)
    return file.getvalue()


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }\n"
WEIGHT = "G/layers.0.weight.npy"
NO_CHECKPOINT = {  # from the members of a good one
    "empty": lambda good: b"",
    "cut off": lambda good: archive(good)[:-1000],
    "half": lambda good: archive(good)[: len(archive(good)) // 2],
    "text": lambda good: b"step,D loss\n1,0.5\n",
    "an array": lambda good: saved(numpy.zeros(3)),
    "a pickle": lambda good: pickle.dumps(Trap()),
    "an archive of text": lambda good: archive({"about.npy": "step 3"}),
    "no weights": lambda good: archive({"about.npy": good["about.npy"]}),
    "objects": lambda good: archive(good | {WEIGHT: saved(numpy.array([Trap()]))}),
    "2^60 elements": lambda good: archive(
        good | {WEIGHT: b"\x93NUMPY\1\0" + len(HEADER).to_bytes(2, "little") + HEADER}
    ),
    "packed": lambda good: archive(good, zipfile.ZIP_DEFLATED),
    "a bomb": lambda good: archive({WEIGHT: bytes(50_000_000)}, zipfile.ZIP_DEFLATED),
    "a path out of the folder": lambda good: archive(good | {"../../escaped.npy": good[WEIGHT]}),
    "a path from the root": lambda good: archive(good | {"/tmp/escaped.npy": good[WEIGHT]}),
    "an endless name": lambda good: archive(good | {"x" * 60_000: good[WEIGHT]}),
}


@pytest.mark.parametrize("command", ["mnist_gan", "sample"])
@pytest.mark.parametrize("kind", NO_CHECKPOINT)
def test_a_file_that_is_no_checkpoint_is_refused(
    kind, command, finished, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(finished / checkpoints.FILE) as good:
        content = NO_CHECKPOINT[kind]({name: good.read(name) for name in good.namelist()})
    (tmp_path / checkpoints.FILE).write_bytes(content)
    words = [tmp_path] if command == "sample" else ["--resume", "--out", tmp_path]
    sentence = refused(capsys, command, *words)
    assert str(tmp_path) in sentence and len(sentence) < 1000
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.FILE]


@pytest.mark.parametrize("member", ["Adam of D/steps.npy", "average of G/steps.npy"])
def test_a_run_with_a_negative_number_of_steps_is_refused(member, finished, tmp_path, capsys):
    with zipfile.ZipFile(finished / checkpoints.FILE) as good:
        content = archive({name: good.read(name) for name in good.namelist()}
                          | {member: saved(numpy.array(-11))})
    (tmp_path / checkpoints.FILE).write_bytes(content)
    sentence = refused(capsys, "mnist_gan", "--resume", "--steps", 5, "--out", tmp_path)
    assert "'steps'" in sentence and "-11" in sentence


# ---------------------------------------------------------------- data


def idx(*shape, values=0):
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return bytes([0, 0, 8, len(shape)]) + sizes + numpy.full(shape, values, numpy.uint8).tobytes()


IMAGES, LABELS = idx(6, 8, 8), idx(6)
NO_DATA = {
    "empty": (b"", LABELS),
    "no header": (b"\0\0\x08\x03", LABELS),
    "floats": (b"\0\0\x0d\x03" + IMAGES[4:], LABELS),
    "an archive": (archive({"images": IMAGES}), LABELS),
    "one byte too few": (IMAGES[:-1], LABELS),
    "one byte too many": (IMAGES, LABELS + b"\0"),
    "gzip that ends early": (gzip.compress(IMAGES)[:-9], LABELS),
    "2^96 elements": (b"\0\0\x08\x03" + b"\xff" * 12, LABELS),
    "labels for images": (LABELS, LABELS),
    "images for labels": (IMAGES, IMAGES),
    "fewer labels than images": (IMAGES, idx(5)),
    "labels out of range": (IMAGES, idx(6, values=10)),
    "images that are not square, for dcgan": (idx(6, 8, 12), LABELS),
    "images of an odd size, for dcgan": (idx(6, 9, 9), LABELS),
    "images smaller than their network, for dcgan": (idx(6, 1, 1), LABELS),
}


@pytest.mark.parametrize("kind", NO_DATA)
def test_data_files_that_cannot_be_used_are_refused(kind, tmp_path, capsys):
    images, labels = NO_DATA[kind]
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    words = ["--data", "fashion", "--data-dir", tmp_path, "--out", tmp_path / "run", *SHORT]
    sentence = refused(capsys, "dcgan", *words)
    assert str(tmp_path) in sentence or "dcgan" in kind
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_a_folder_without_a_usable_image_is_refused(content, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    if content is not None:
        (tmp_path / "images" / "broken.png").write_bytes(content)
    words = ["--data", f"folder:{tmp_path / 'images'}", "--out", tmp_path / "run"]
    sentence = refused(capsys, "mnist_gan", *words)
    assert str(tmp_path / "images") in sentence
    assert content is None or "1 of 1 images cannot be read" in sentence


@pytest.mark.filterwarnings("error")
def test_a_run_uses_palette_sixteen_bit_and_animated_images(tmp_path):
    images, grey = tmp_path / "images", Image.linear_gradient("L")
    images.mkdir()
    grey.convert("P").save(images / "palette.png")
    Image.fromarray(numpy.asarray(grey).astype(numpy.uint16) * 257).save(images / "deep.png")
    grey.save(images / "moving.png", save_all=True, append_images=[grey.rotate(90)])
    grey.convert("RGBA").save(images / "clear.png")
    run("mnist_gan", "--data", f"folder:{images}", *SHORT, "--out", tmp_path / "run")
    assert checkpoints.read(tmp_path / "run").step == 3


def test_a_run_names_a_broken_image_and_goes_on_without_it(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.linear_gradient("L").save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 5 images cannot be read: .*broken\.png"):
        words = ["--data", f"folder:{tmp_path / 'images'}", "--out", tmp_path / "run"]
        run("mnist_gan", *words, *SHORT)
    assert checkpoints.read(tmp_path / "run").step == 3


# ---------------------------------------------------------------- folders for results


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_only_files_are_replaced(make, tmp_path):
    """Root could put a file in the place of a device, such as /dev/null."""
    make(tmp_path / "there")
    with pytest.raises(UsageError, match="there: it is not a file"):
        with replacing(tmp_path / "there") as file:
            file.write_bytes(b"")
    assert not (tmp_path / "there").is_file() and len(list(tmp_path.iterdir())) == 1


def test_files_are_written_where_only_an_open_file_for_writing_can_be_flushed(
    tmp_path, monkeypatch
):
    """As on Windows, where nothing that is open can be replaced either."""
    fcntl, flush, replace = pytest.importorskip("fcntl"), os.fsync, os.replace

    def strict_flush(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flush(descriptor)

    def strict_replace(old, new):
        held = {os.path.realpath(link) for link in Path("/proc/self/fd").glob("*")}
        if held & {os.path.realpath(old), os.path.realpath(new)}:
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", strict_flush)
    monkeypatch.setattr(os, "replace", strict_replace)
    run("mnist_gan", *SHORT, "--out", tmp_path / "run")
    run("mnist_gan", "--resume", "--steps", 5, "--out", tmp_path / "run")
    run("sample", tmp_path / "run", "--out", tmp_path / "a.png", "--npz", tmp_path / "a.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "a.png", "a.npz"}
    held = {os.path.realpath(link) for link in Path("/proc/self/fd").glob("*")}
    assert not [path for path in held if path.startswith(str(tmp_path))]


@pytest.mark.parametrize("limit", [0, 20_000, 5_000_000])
def test_a_run_that_cannot_write_on_keeps_what_it_has(limit, finished, tmp_path, capsys):
    """No file may become longer than the limit: the system refuses, as where the disk is full."""
    resource = pytest.importorskip("resource")
    shutil.copytree(finished, tmp_path / "run")
    before = (tmp_path / "run" / checkpoints.FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        sentence = refused(capsys, "mnist_gan", "--resume", "--steps", 5, "--out", tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in sentence and str(tmp_path) in sentence
    assert (tmp_path / "run" / checkpoints.FILE).read_bytes() == before
    assert not [path for path in (tmp_path / "run").rglob(".*")]
    run("mnist_gan", "--resume", "--steps", 5, "--out", tmp_path / "run")
    assert checkpoints.read(tmp_path / "run").log["step"].tolist() == [1, 2, 3, 4, 5]


MOUNT = """
mount -t tmpfs -o "$1" none "$2" || exit 77
folder=$2; shift 2
"$@"
status=$?
cp -a "$folder"/. "$folder-left"
exit $status
"""


@pytest.mark.parametrize(("options", "words"), [
    ("ro", "Read-only file system"),
    ("size=8k", "No space left on device"),
    ("size=5m", "No space left on device"),
    ("size=20m", "No space left on device"),
])
def test_a_disk_that_is_read_only_or_full_is_an_error(options, words, tmp_path):
    """On a file system of its own, which only the process sees: it needs no rights."""
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare, which mounts a small disk for one process")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk-left").mkdir()
    demo = [sys.executable, DEMOS["mnist_gan"], *map(str, SHORT), "--out", tmp_path / "disk"]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT, "sh", options, tmp_path / "disk", *demo],
        capture_output=True, text=True, timeout=120,
    )
    if done.returncode in (1, 77):
        pytest.skip(f"this machine lets nobody mount: {done.stderr.strip()}")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: cannot ") and words in done.stderr
    for left in (tmp_path / "disk-left").rglob("*.*"):  # whole, or not there
        if left.suffix == ".npz":
            checkpoints.read(left)
        if left.suffix == ".png":
            Image.open(left).load()
        assert not left.name.startswith(".")
