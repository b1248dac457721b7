"""What every demo keeps to. A demo is tested because it exists: no list here names one."""

import ast
import contextlib
import csv
import functools
import itertools
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

import tinygan
from tinygan import layers, optimizers, sample, training
from tinygan.training import checkpoints
from tinygan.training.trained import load_demo

FOLDER = Path(__file__).parents[1] / "demos"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
STEPS = 6
SMALL = {"steps": STEPS, "batch_size": 4, "width": 2, "measure": 0}  # where a demo has them
every_demo = pytest.mark.parametrize("name", NAMES)


def words_of(name):
    """The options that make a run of the demo small."""
    known = vars(load_demo(name).options().parse_args([]))
    return [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items() if key in known]


def run(name, out, *words, device=None):
    """Run the demo as its command line does."""
    demo = load_demo(name)
    line = [f"{name}.py", "--device", device or tinygan.device(), "--out", out, *words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(word) for word in line])
        training.main(demo.options(), demo.train)


@functools.cache
def _whole_run(name, device, folder):
    run(name, folder / name, *words_of(name))
    return folder / name


@pytest.fixture
def whole(tmp_path_factory):
    """The folder of a small run of a demo, which is made once."""
    folder = tmp_path_factory.getbasetemp() / "whole"
    return lambda name: _whole_run(name, tinygan.device(), folder)


# ---------------------------------------------------------------- how it is written


@every_demo
def test_it_is_read_from_top_to_bottom_in_160_lines(name):
    source = (FOLDER / f"{name}.py").read_text()
    assert len(source.splitlines()) <= 160
    tree = ast.parse(source)
    assert len(ast.get_docstring(tree)) > 200
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert {"options", "build", "train"} <= set(functions)
    for line in ("zero_grad()", ".backward()", ".step()"):
        assert source.count(line) >= 2  # written out for each player


@every_demo
def test_it_stands_alone(name):
    source = (FOLDER / f"{name}.py").read_text()
    imported = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not {module.partition(".")[0] for module in imported} & set(NAMES)
    assert "sys.path" not in source and "training.Run =" not in source


@every_demo
def test_its_help_explains_every_option(name, capsys):
    parser = load_demo(name).options()
    assert all(action.help for action in parser._actions)
    assert parser.get_default("out") == Path("runs") / name
    with pytest.raises(SystemExit) as end:
        run(name, "nowhere", "--help")
    assert end.value.code == 0 and "--overwrite" in capsys.readouterr().out


# ---------------------------------------------------------------- what a run does


class Moves:
    """Watches all weights: which ones each optimizer's step moves, and what else does."""

    def __init__(self, monkeypatch):
        self.weights, self.owners, self.moved, self.strays = {}, {}, {}, []
        start, step = training.Run.__init__, optimizers.Optimizer.step

        def watched_start(run, settings, parts, *arguments, **options):
            start(run, settings, parts, *arguments, **options)
            for name, part in parts.items():
                if isinstance(part, layers.Module):
                    for key, weight in part.named_parameters().items():
                        self.weights[f"{name}/{key}"] = weight

        def watched_step(optimizer):
            before = self.seen()
            self.strays += self.changed(self.last, before) if self.owners else []
            step(optimizer)
            self.last = self.seen()
            mine = {id(weight) for weight in optimizer.parameters}
            moved = self.changed(before, self.last)
            self.strays += [name for name in moved if id(self.weights[name]) not in mine]
            # A bias that is added to real and generated answers alike cancels out in some games.
            flat = [name for name, weight in self.weights.items()
                    if id(weight) in mine and not abs(weight.grad.numpy()).max()]
            self.moved |= dict.fromkeys([*moved, *flat])
            self.owners |= {key: optimizer for key in mine}

        monkeypatch.setattr(training.Run, "__init__", watched_start)
        monkeypatch.setattr(optimizers.Optimizer, "step", watched_step)

    def seen(self):
        return {name: weight.numpy().copy() for name, weight in self.weights.items()}

    @staticmethod
    def changed(before, after):
        return [name for name in after if (before[name] != after[name]).any()]


@every_demo
def test_each_player_moves_and_only_in_its_own_step(name, tmp_path, monkeypatch):
    moves = Moves(monkeypatch)
    run(name, tmp_path, *words_of(name))
    assert moves.strays == []
    assert moves.moved.keys() == moves.weights.keys() != set()


@every_demo
def test_a_run_leaves_what_is_promised(name, whole):
    out = whole(name)
    with open(out / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert all(numpy.isfinite(float(text)) for row in rows for text in row.values())
    shown = [path.read_bytes() for path in sorted((out / "samples").iterdir())]
    changes = sum(one != other for one, other in itertools.pairwise(shown))
    assert len(shown) == STEPS and Image.open(out / "samples.gif").n_frames == 1 + changes > 1
    for picture in ("samples.png", "curves.png"):
        assert numpy.asarray(Image.open(out / picture)).std() > 1  # not one colour
    assert checkpoints.read(out).demo == name


def log_and_stop(steps):
    """Run.log that also stops the run after these steps."""
    log = training.Run.log

    def stopping(run, **panels):
        log(run, **panels)
        run.stopped = run.step in steps

    return stopping


def assert_same_run(one, other):
    """The same bits in all arrays and the random generator, the same log, the same pictures."""
    first, second = (checkpoints.read(folder) for folder in (one, other))
    assert first.parts.keys() == second.parts.keys()
    for part, arrays in first.parts.items():
        assert arrays.keys() == second.parts[part].keys()
        for key, array in arrays.items():
            numpy.testing.assert_array_equal(array, second.parts[part][key], f"{part}/{key}")
    assert (first.step, first.random, first.panels) == (second.step, second.random, second.panels)
    assert (one / "log.csv").read_text() == (other / "log.csv").read_text()
    pictures = {path.relative_to(one) for path in one.rglob("*.png")}
    assert pictures == {path.relative_to(other) for path in other.rglob("*.png")}
    for picture in pictures:
        assert (one / picture).read_bytes() == (other / picture).read_bytes(), picture


@every_demo
def test_a_run_that_is_stopped_and_resumed_has_the_same_bits(name, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Run, "log", log_and_stop({1, 4}))
    run(name, tmp_path / "run", *words_of(name))
    for _ in range(2):
        run(name, tmp_path / "run", "--resume")
    assert checkpoints.read(tmp_path / "run").step == STEPS
    assert_same_run(whole(name), tmp_path / "run")


@every_demo
def test_its_pictures_can_be_drawn_again_from_its_checkpoint(name, whole, tmp_path, monkeypatch):
    demo = load_demo(name)
    picture = tmp_path / "picture.png"
    words = ["sample", whole(name), "--out", picture, "--device", tinygan.device()]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    if hasattr(demo, "pictures"):
        sample.main()
        assert numpy.asarray(Image.open(picture)).std() > 1
    else:
        with pytest.raises(training.UsageError, match="makes no pictures"):
            sample.main()


@every_demo
def test_another_demos_checkpoint_is_refused(name, whole, capsys):
    other = NAMES[NAMES.index(name) - 1]
    with pytest.raises(SystemExit) as end:
        run(name, whole(other), "--resume")
    assert end.value.code == 2
    assert f"demos/{other}.py, not by demos/{name}.py" in capsys.readouterr().err


# ---------------------------------------------------------------- on a GPU


def log_of(folder):
    with open(folder / "log.csv", newline="") as file:
        return [{name: float(text) for name, text in row.items()} for row in csv.DictReader(file)]


def assert_same_logs(one, other):
    first, second = log_of(one), log_of(other)
    assert len(first) == len(second) > 2
    # Where a gradient is nothing but rounding, Adam makes a whole step of it: from the second
    # step on the losses drift apart, by up to 0.4 % here in six steps.
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=2e-5 if a["step"] == 1 else 0.03, abs=2e-5)


@every_demo
def test_cupy_gives_the_losses_of_numpy_and_goes_on_with_its_runs(name, with_cupy, tmp_path):
    words = words_of(name)
    for device in ("cpu", "gpu"):
        run(name, tmp_path / device, *words, "--steps=4", device=device)
    assert_same_logs(tmp_path / "cpu", tmp_path / "gpu")
    for device, other in (("cpu", "gpu"), ("gpu", "cpu")):
        run(name, tmp_path / device, "--resume", "--steps=6", device=other)
    assert_same_logs(tmp_path / "cpu", tmp_path / "gpu")
    assert log_of(tmp_path / "cpu")[-1]["step"] == 6


MOST_COPIES = 12  # to the device in a step: batches, labels, noise, shifts


class Counted(Exception):
    """The steps are counted; the rest of the run is not wanted."""


@every_demo
def test_a_step_copies_nothing_back(name, cuda_on_cpu, tmp_path, monkeypatch):
    """Steps 2 to 5: each demo's penalty is among them."""

    def steps(run):
        run.step = 1
        yield 1
        for run.step in range(2, 6):
            with clean(cuda_on_cpu):
                yield run.step
        raise Counted

    monkeypatch.setattr(training.Run, "__iter__", steps)
    with pytest.raises(Counted):
        run(name, tmp_path / "run", *words_of(name), "--steps=1000", device="gpu")


@contextlib.contextmanager
def clean(cuda_on_cpu, copies=MOST_COPIES):
    """What is done inside waits for nothing, copies little to the device, and is in float32."""
    before = cuda_on_cpu.kernels.copy()
    with cuda_on_cpu.counting() as counts:
        yield
    assert counts["launches"] > 0
    assert {"to host", "waits"} & counts.keys() == set(), counts
    assert counts["to device"] <= copies
    assert not [name for name in cuda_on_cpu.kernels - before if "float64" in name]
