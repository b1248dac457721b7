"""Checkpoints: written whole, read without trust, the one before kept; a run made again."""

import argparse
import csv
import json
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy
import pytest

import tinygan
from tinygan import Tensor, layers, plots, training
from tinygan.backend import to_device
from tinygan.files import UsageError
from tinygan.optimizers import Adam
from tinygan.training import checkpoints, watch
from tinygan.training.checkpoints import Checkpoint, CheckpointError
from tinygan.training.options import saved_settings


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


ODD = [".", "..", ".hidden", "loss/D", "/loss", "50%", "50%25", "%2F", "a/../b", "back\\slash",
       "D(x)", "Verlust für G", "log", "about", "file", "_x", "n" * 100]


@pytest.mark.parametrize("name", ODD)
def test_any_name_is_read_as_it_was_written(name, tmp_path):
    arrays = {name: numpy.arange(3.0), "other": numpy.zeros(3)}
    log = {"step": numpy.arange(3), name: numpy.ones(3)}
    parts = {"G": arrays} | ({name: arrays} if name != "log" else {})
    checkpoints.write(tmp_path, example(panels={name: [name]}, log=log, parts=parts))
    found = checkpoints.read(tmp_path)
    assert found.panels == {name: [name]} and [*found.log] == ["step", name]
    assert found.parts.keys() == parts.keys() and [*found.parts["G"]] == [name, "other"]
    numpy.testing.assert_array_equal(found.parts["G"][name], [0, 1, 2])


@pytest.mark.parametrize(("parts", "words"), [
    ({"": {"x": numpy.zeros(1)}}, "'/x' can't be saved"),
    ({"G": {"": numpy.zeros(1)}}, "'G/' can't be saved"),
    ({"G": {"n" * 301: numpy.zeros(1)}}, "can't be saved"),
    ({"log": {"x": numpy.zeros(1)}}, "can't be named log"),
])
def test_a_name_that_could_not_be_read_is_refused_before_anything_is_written(
    parts, words, tmp_path
):
    checkpoints.write(tmp_path, example(step=1))
    with pytest.raises(UsageError, match=words):
        checkpoints.write(tmp_path, example(step=2, parts=parts))
    assert checkpoints.read(tmp_path).step == 1


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


def log_a_run(folder, *logged, **panels):
    """A run of six steps that logs the same at each; the run."""
    run = new_run(folder)
    for _ in run:
        run.log(*logged, **panels)
    return run


@pytest.mark.parametrize("name", [
    *ODD[:-1], "$", "$x$ or $y$", "$\\nothing$", "a,b", '"', "n" * 60,
])
def test_a_column_of_any_name_is_logged_drawn_and_resumed(name, tmp_path):
    run = log_a_run(tmp_path, **{name: {name: Tensor(0.5), "D": Tensor(2.0)}})
    assert checkpoints.read(tmp_path).log[name].tolist() == [0.5] * 6
    assert (tmp_path / "curves.png").exists()
    with open(tmp_path / "log.csv", newline="", encoding="utf-8") as file:
        assert [*csv.reader(file)][0] == ["step", name, "D"]
    resumed = new_run(tmp_path, "--resume", "--steps", "8")
    assert resumed.rows == run.rows and resumed.panels == {name: [name, "D"]}
    for _ in resumed:
        resumed.log(**{name: {name: Tensor(0.5), "D": Tensor(2.0)}})
    assert len(checkpoints.read(tmp_path).log["step"]) == 8


@pytest.mark.parametrize("panels", [
    {"a": {"": 1.0}}, {"a": {"step": 1.0}}, {"a": {3: 1.0}}, {"a": {None: 1.0}},
    {"a": {"D": 1.0}, "b": {"G": 2.0, "D": 3.0}}, {"a": {"two\nlines": 1.0}}, {"a": {"\0": 1.0}},
    {"a": {"\udc80": 1.0}}, {"a": {"n" * 101: 1.0}}, {"a": {("x",): 1.0}},
])
def test_a_name_that_no_column_can_have_is_refused_at_the_first_log(panels, tmp_path):
    run = new_run(tmp_path)
    for step in run:
        assert step == 1
        with pytest.raises(UsageError, match=r"a column of the log can't be named .* use a text"):
            run.log(**panels)
        break
    assert checkpoints.read(tmp_path).step == 0


@pytest.mark.parametrize(("number", "logged"), [
    (0.1, 0.1), (3, 3), (True, 1), (numpy.float64(0.1), 0.1), (numpy.float32(0.5), 0.5),
    (numpy.int64(-7), -7), (numpy.bool_(True), 1), (numpy.uint8(200), 200),
    (numpy.array(0.25), 0.25), (numpy.array([[0.25]]), 0.25),
    (to_device(numpy.float32([4])), 4), (Tensor(2.5), 2.5),
    (Tensor([2.5]), 2.5), (Tensor([[7]]), 7), (Tensor(True), 1), (Fraction(1, 4), 0.25),
])
def test_every_kind_of_number_is_logged(number, logged, tmp_path):
    log_a_run(tmp_path, rates={"lr": number}, losses={"D loss": Tensor([0.5])})
    assert checkpoints.read(tmp_path).log["lr"].tolist() == [logged] * 6
    lines = (tmp_path / "log.csv").read_bytes().decode().split("\n")
    assert lines[:2] == ["step,lr,D loss", f"1,{logged:g},0.5"] and lines[7:] == [""]


@pytest.mark.parametrize("wrong", [
    Tensor([1.0, 2.0]), numpy.zeros((2, 1)), Tensor(numpy.zeros(0)), None, "0.5", [0.5], {}, 1j,
    numpy.array(["a"]), 10**400,
])
def test_what_is_not_one_number_is_one_sentence(wrong, tmp_path):
    with pytest.raises(UsageError, match=r"'lr' .* can't be logged: use one number") as error:
        log_a_run(tmp_path, rates={"lr": wrong})
    assert "\n" not in str(error.value)


def test_numbers_without_a_title_are_a_panel(tmp_path):
    run = log_a_run(tmp_path, {"lr": 0.1}, losses={"D loss": 2})
    assert run.panels == {"losses": ["D loss"], "": ["lr"]}
    assert checkpoints.read(tmp_path).log["lr"].tolist() == [0.1] * 6
    for wrong in (0.1, [0.1], "lr", Tensor(0.1)):
        for logged in ({"losses": wrong}, None):
            with pytest.raises(UsageError, match="a panel of the log is numbers by name, not"):
                run.log(**logged) if logged else run.log(wrong)


@pytest.mark.parametrize("panels", [None, {}, {"losses": {}}])
def test_a_run_may_log_nothing(panels, tmp_path):
    run = new_run(tmp_path)
    for _ in run:
        if panels is not None:
            run.log(**panels)
    assert run.finished and checkpoints.read(tmp_path).log == {}
    assert not (tmp_path / "curves.png").exists() and not (tmp_path / "log.csv").exists()


def test_a_number_that_is_not_finite_stops_the_run_whatever_its_kind(tmp_path):
    with pytest.raises(watch.NotFinite, match="not finite .nan. appears at step 1"):
        log_a_run(tmp_path, {"lr": float("nan")})


def test_columns_that_change_in_the_midst_of_a_run_are_refused(tmp_path):
    run = new_run(tmp_path)
    with pytest.raises(UsageError, match="the log has the columns"):
        for step in run:
            run.log(losses={"a": 1, "b": 2} if step < 3 else {"b": 2, "a": 1})
    assert checkpoints.read(tmp_path).step == 2


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


def pair(text):
    return tuple(float(number) for number in text.split(","))


def odd_parser():
    """Options of every kind that argparse has."""
    parser = training.parser("mnist_gan", "", steps=5)
    add = parser.add_argument
    add("--yes", action=argparse.BooleanOptionalAction, default=True)
    add("--maybe", action=argparse.BooleanOptionalAction)
    add("--off", action="store_false")
    add("--no-shift", dest="shift", action="store_false")
    add("--add", action="append")
    add("--add-one", action="append", type=int, default=[1])
    add("--add-two", action="append", nargs=2, type=int)
    add("--extend", action="extend", nargs="+", type=float)
    add("--betas", nargs=2, type=float, default=(0.5, 0.9))
    add("--any", nargs="*", type=int)
    add("--some", nargs="+", choices=["a", "b", "a b"])
    add("--perhaps", nargs="?", const=7, default=3, type=int)
    add("-v", "--verbose", action="count", default=0)
    add("-w", action="count")
    add("-k", type=int, default=1)
    add("--constant", action="store_const", const=42)
    add("--fast", dest="speed", action="store_const", const="fast")
    add("--slow", dest="speed", action="store_const", const="slow")
    add("--largest", dest="function", action="store_const", const=max, default=min)
    add("--a", dest="letters", action="append_const", const="a")
    add("--two", dest="letters", action="append_const", const=2)
    add("--limit", type=int, default=5)
    add("--no-limit", dest="limit", action="store_const", const=None)
    add("--pair", type=pair, default=(0.0, 1.0))
    add("--pairs", type=pair, action="append")
    add("--json", type=json.loads)
    add("--share", type=Fraction)
    add("--path", type=Path, default="here")
    add("--paths", type=Path, nargs="*")
    add("--text")
    add("--need", type=int, required=True)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--one", type=int)
    group.add_argument("--other", action="store_true")
    add("where")
    add("rest", nargs="*", type=int)
    return parser


NEEDED = ["there", "--need=3", "--other"]
CHOICES = [
    [], ["--no-yes", "--maybe"], ["--no-maybe"], ["--off", "--no-shift"], ["--add=x", "--add=-y z"],
    ["--add-one=2", "--add-one=3"], ["--add-two", 1, -2, "--add-two", 3, 4],
    ["--extend", 1, 2, "--extend", "0.1"], ["--betas", "1e-3", -1], ["--any"], ["--any", 4, 5],
    ["--some", "a b", "a"], ["--perhaps"], ["--perhaps", 4], ["-vvv", "-ww"], ["-k", 9],
    ["--constant"], ["--slow"], ["--fast"], ["--largest"], ["--two", "--a", "--two"],
    ["--no-limit"], ["--limit=6"], ["--pair=0.25,0.75"], ["--pairs=1,2", "--pairs=3,4"],
    ["--json={\"a\": [1, null]}"], ["--json=\"text\""], ["--json=[1, 2.5]"], ["--json=true"],
    ["--share=1/3"], ["--path=a b/c"], ["--paths", "p", "q r"], ["--text=None"], ["--text=-x y"],
    ["--text="],
]


@pytest.mark.parametrize("words", CHOICES, ids=str)
def test_options_of_every_kind_survive_a_checkpoint(words, tmp_path):
    found = []

    def train(settings):
        found.append(vars(settings))
        checkpoints.write(tmp_path, example(options=vars(settings)))

    training.main(odd_parser(), train, arguments=[*NEEDED, *words, "--out", tmp_path])
    for _ in range(2):  # a resumed run is resumed once more
        training.main(odd_parser(), train, arguments=["--resume", "--out", tmp_path])
    sampled = vars(saved_settings(odd_parser(), checkpoints.read(tmp_path)))
    typed = found[0]
    for again in (*found[1:], sampled):
        assert {name: (typed[name], again[name]) for name in typed
                if repr(typed[name]) != repr(again[name]) and name not in ("out", "resume")} == {}


def test_what_is_typed_with_resume_is_preferred(tmp_path):
    found = []

    def train(settings):
        found.append(settings)
        checkpoints.write(tmp_path, example(options=vars(settings)))

    words = [*NEEDED, "-k", 2, "--slow", "--no-yes", "--betas", 0.1, 0.2, "--text=a"]
    training.main(odd_parser(), train, arguments=[*words, "--out", tmp_path])
    words = ["-k", 3, "--fast", "--yes", "--betas", 0.3, 0.4]
    training.main(odd_parser(), train, arguments=["--resume", "--out", tmp_path, *words])
    again = found[1]
    assert (again.k, again.speed, again.yes, again.betas) == (3, "fast", True, [0.3, 0.4])
    assert (again.text, again.need, again.where, again.other) == ("a", 3, "there", True)


@pytest.mark.parametrize("wrong", [
    {"yes": "no"}, {"yes": 1}, {"off": 0}, {"add_one": 3}, {"add_one": ["x"]},
    {"add_two": [1, 2.5]}, {"betas": ["x", 1]}, {"some": ["c"]},
    {"verbose": -1}, {"verbose": "vv"}, {"constant": 43},
    {"speed": "faster"}, {"letters": ["b"]}, {"k": [1]}, {"k": {"a": 1}}, {"pair": [1, "x"]},
    {"text": ["a"]}, {"other": "yes"}, {"perhaps": "x"}, {"any": [[1]]}, {"add": [["x"]]},
])
def test_options_that_nobody_could_type_are_refused(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        saved_settings(odd_parser(), example(options=wrong))
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and ": error: argument " in sentence


def test_numbers_of_numpy_are_stored_as_numbers_and_paths_as_text(tmp_path):
    options = {
        "int": numpy.int64(5), "float": numpy.float32(0.5), "bool": numpy.bool_(True),
        "array": numpy.arange(3), "zero": numpy.array(7), "tuple": (1, numpy.int8(2)), "none": None,
        "path": Path("a b"), "nested": {"x": [numpy.float64(0.1)]}, "function": max,
        "inf": numpy.inf,
    }
    checkpoints.write(tmp_path, example(options=options))
    assert checkpoints.read(tmp_path).options == {
        "int": 5, "float": 0.5, "bool": True, "array": [0, 1, 2], "zero": 7, "tuple": [1, 2],
        "none": None, "path": "a b", "nested": {"x": [0.1]}, "function": str(max), "inf": numpy.inf,
    }


def test_a_run_whose_sizes_are_numbers_of_numpy_is_resumed(tmp_path):
    parser = training.parser("mnist_gan", "", steps=numpy.int64(6), latent=numpy.int32(2))
    settings = parser.parse_args(["--out", str(tmp_path)])
    settings.seed = numpy.uint8(3)
    training.Run(settings, {"G": network()}, draw).save()
    again = saved_settings(training.parser("mnist_gan", "", steps=1, latent=1),
                           checkpoints.read(tmp_path))
    assert (again.steps, again.latent, again.seed) == (6, 2, 3)
    checkpoints.write(tmp_path, example(options={"steps": "6", "latent": "2"}))  # as they once were
    again = saved_settings(training.parser("mnist_gan", "", steps=1, latent=1),
                           checkpoints.read(tmp_path))
    assert (again.steps, again.latent) == (6, 2)


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    found = []
    training.main(training.parser("mnist_gan", "", data="mnist"), found.append,
                  arguments=["--out=~/run", "--data-dir=~/sets"])
    assert (found[0].out, found[0].data_dir) == (tmp_path / "run", tmp_path / "sets")
    plots.save_grid(numpy.zeros((1, 2, 2, 1)), "~/deep/grid.png")
    assert (tmp_path / "deep" / "grid.png").exists()


def test_a_damaged_picture_is_named_at_the_end_of_a_resumed_run(tmp_path):
    run = new_run(tmp_path)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "0000001.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="0000001.png"):
        run._finish()
