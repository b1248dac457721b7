"""Checkpoints: written whole, read without trust, the one before kept; a run made again."""

import json
import zipfile

import numpy
import pytest

import tinygan
from tinygan import layers, plots, training
from tinygan.files import UsageError
from tinygan.optimizers import Adam
from tinygan.training import checkpoints
from tinygan.training.checkpoints import Checkpoint, CheckpointError


def example(step=3, **changes):
    return Checkpoint(
        "mnist_gan", step, {"latent": 2}, {"state": 2**100}, {"losses": ["loss"]},
        {"step": numpy.array([1, 2]), "loss": numpy.array([0.5, 0.25])},
        {"G": {"weight": numpy.arange(6, dtype="float32").reshape(2, 3)}},
    )._replace(**changes)


def rewritten(path, **changes):
    """The archive anew, with other contents for the members of these names (None: without)."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def test_what_is_read_is_what_was_written(tmp_path):
    checkpoints.write(tmp_path, example())
    found = checkpoints.read(tmp_path)
    assert found[:5] == example()[:5]
    numpy.testing.assert_array_equal(found.log["loss"], [0.5, 0.25])
    numpy.testing.assert_array_equal(found.parts["G"]["weight"], example().parts["G"]["weight"])
    assert found.parts["G"]["weight"].dtype == "float32"


def test_the_checkpoint_before_the_last_is_kept_and_used_where_the_last_is_damaged(
    tmp_path, capsys
):
    checkpoints.write(tmp_path, example(step=1))
    checkpoints.write(tmp_path, example(step=2))
    assert checkpoints.read(tmp_path).step == 2
    assert checkpoints.read(tmp_path / checkpoints.PREVIOUS).step == 1
    content = (tmp_path / checkpoints.FILE).read_bytes()
    for damaged in (content[:-30], b""):
        (tmp_path / checkpoints.FILE).write_bytes(damaged)
        assert checkpoints.read(tmp_path).step == 1
        assert "step 1, is used" in capsys.readouterr().err
    (tmp_path / checkpoints.FILE).unlink()
    assert checkpoints.read(tmp_path).step == 1


def test_a_write_that_fails_leaves_the_last_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    checkpoints.write(tmp_path, example(step=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(file, **arrays):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numpy, "savez", full)
    with pytest.raises(UsageError, match="No space left"):
        checkpoints.write(tmp_path, example(step=2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def about(**changes):
    text = {"format": checkpoints.FORMAT} | example()._asdict() | changes
    return json.dumps({name: text[name] for name in text.keys() - {"log", "parts"}}).encode()


def npy(array, header=None):
    """An array as bytes in the .npy format, or these bytes after another header."""
    content = numpy.lib.format.magic(1, 0)
    header = header or repr({
        "descr": array.dtype.str, "fortran_order": False, "shape": array.shape,
    })
    return content + len(header).to_bytes(2, "little") + header.encode() + array.tobytes()


def text(content):
    return npy(numpy.frombuffer(content, "uint8"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("about.npy", text(about(format=2)), "format 2, and this version reads 3: train again"),
        ("about.npy", text(about(step=-1)), "its step is -1"),
        ("about.npy", text(about(step="3")), "its step is '3'"),
        ("about.npy", text(about(demo=7)), "its demo is 7"),
        ("about.npy", text(about(options=[])), "options is"),
        ("about.npy", text(about(panels={"losses": ["gain"]})), "panels are not those"),
        ("about.npy", text(b"{" * 3000), "damaged"),
        ("about.npy", None, "about"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': '|O', 'fortran_order': False, "
                             "'shape': (2,)}"), "OBJECT"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': '<f4', 'fortran_order': False, "
                             f"'shape': ({2**60},)}}"), "reshape"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': '<f8', 'fortran_order': False, "
                             "'shape': (-1,)}"), "shape (-1,)"),
        ("G/weight.npy", npy(numpy.zeros(2), "{'descr': ('<f8', (2,)), 'fortran_order': False, "
                             "'shape': (2,)}"), "dtype ('<f8', (2,))"),
        ("G/weight.npy", b"", "damaged"),
        ("../weight.npy", npy(numpy.zeros(2)), "../weight"),
        ("/tmp/weight.npy", npy(numpy.zeros(2)), "/tmp/weight"),
        ("G/weight.py", b"", "G/weight.py"),
        ("log/loss.npy", npy(numpy.zeros((2, 2))), "same shape"),
        ("log/loss.npy", npy(numpy.array(["a", "b"])), "no table of numbers"),
        ("log/step.npy", None, "no table of numbers"),
    ],
)
def test_what_is_wrong_inside_is_named(name, content, words, tmp_path):
    checkpoints.write(tmp_path, example())
    path = rewritten(tmp_path / checkpoints.FILE, **{name: content})
    with pytest.raises(CheckpointError, match="not a checkpoint, or is damaged") as error:
        checkpoints.read(path)
    assert words in str(error.value)


def test_a_packed_archive_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("about.npy", bytes(1 << 24))
    with pytest.raises(CheckpointError, match="packed"):
        checkpoints.read(tmp_path / "bomb.npz")


def test_a_missing_checkpoint_is_named_with_the_way_out(tmp_path):
    with pytest.raises(CheckpointError, match="without --resume"):
        checkpoints.read(tmp_path)


# ---------------------------------------------------------------- runs


def network():
    return layers.Sequential(layers.Dense(2, 8, bias=False, scale=0.5), layers.Reshape(2, 2, 2))


def draw(path):
    plots.save_grid(numpy.zeros((1, 2, 2, 1)), path)


def new_run(folder, *words, parts=None):
    parser = training.parser("mnist_gan", "", steps=6, latent=2)
    options = parser.parse_args(["--out", str(folder), *words])
    return training.Run(options, parts or {"G": network()}, draw)


def test_a_checkpoint_that_does_not_fit_leaves_all_as_it_was(tmp_path):
    new_run(tmp_path).save()
    other = network()
    adam = Adam(layers.Dense(1, 1).parameters(), 1e-3)
    small = layers.Sequential(layers.Dense(2, 8, bias=False), layers.Dense(8, 1))
    random = tinygan.backend.generator.bit_generator.state
    before = other.state()
    with pytest.raises(CheckpointError, match="it has G, not G, Adam of G"):
        new_run(tmp_path, "--resume", parts={"G": other, "Adam of G": adam})
    with pytest.raises(CheckpointError, match=r"G.*'layers.1.weight'"):
        new_run(tmp_path, "--resume", parts={"G": small})
    assert random == tinygan.backend.generator.bit_generator.state
    for name, array in other.state().items():
        numpy.testing.assert_array_equal(array, before[name])


def test_a_resumed_run_clears_away_what_a_killed_one_left_half_written(tmp_path):
    run = new_run(tmp_path)
    run.step, run.rows = 2, [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    run.panels = {"losses": ["loss"]}
    run.save()
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n2,0.25\n3,0.1\n4,0.")
    (tmp_path / "samples").mkdir()
    for name in (".checkpoint.npz.x7.npz", "samples/.0000004.png.x7.png", "samples/0000003.png"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "samples" / "0000002.png").write_bytes(b"whole")
    resumed = new_run(tmp_path, "--resume")
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss", "1,0.5", "2,0.25"]
    assert resumed.rows == run.rows and resumed.step == 2
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"checkpoint.npz", "log.csv", "samples/0000002.png"}


def test_the_options_of_a_checkpoint_are_checked_like_typed_ones(tmp_path, monkeypatch, capsys):
    new_run(tmp_path).save()
    saved = checkpoints.read(tmp_path)

    def resumed(**changes):
        checkpoints.write(tmp_path, saved._replace(options=saved.options | changes))
        monkeypatch.setattr("sys.argv", ["demo.py", "--resume", "--out", str(tmp_path)])
        found = []
        training.main(training.parser("mnist_gan", "", steps=5, batch_size=3, latent=4, lr=0.1),
                      found.append)
        return found[0]

    options = resumed(batch_size=7, unknown=1, out="elsewhere", debug=True)
    assert options.batch_size == 7 and options.out == tmp_path and not options.debug
    for wrong in ({"steps": -5}, {"lr": "nan"}, {"latent": [3]}, {"batch_size": True}):
        with pytest.raises(SystemExit) as stopped:
            resumed(**wrong)
        assert stopped.value.code == 2
        assert f"argument --{[*wrong][0].replace('_', '-')}" in capsys.readouterr().err


def test_a_damaged_picture_is_named_at_the_end_of_a_resumed_run(tmp_path):
    run = new_run(tmp_path)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "0000001.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="0000001.png"):
        run._finish()
