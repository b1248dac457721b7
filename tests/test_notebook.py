"""Runs in a notebook, as its kernel has them; what a kernel is to this library is made here."""

import io
import signal
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy
import pytest

from tinygan import Tensor, plots, training
from tinygan.files import UsageError
from tinygan.training import checkpoints


def parser():
    options = training.parser("mnist_gan", "", steps=4)
    options.add_argument("--need", type=int, required=True)
    return options


def train(settings):
    """A run that draws the number of its picture."""
    shades = iter(range(100))

    def draw(path):
        plots.save_grid(numpy.full((1, 2, 2, 1), next(shades) / 100), path)

    run = training.Run(settings, {}, draw)
    for step in run:
        run.log(losses={"loss": Tensor(1.0)})
        run.stopped = step == getattr(settings, "need", None)
    return run


@pytest.fixture
def kernel(monkeypatch):
    """Makes this process a kernel; the pictures that it shows: (content, place, again)."""
    shown, shell = [], SimpleNamespace(kernel=object())
    modules = {"IPython": ModuleType("IPython"), "IPython.display": ModuleType("IPython.display")}
    modules["IPython"].get_ipython, modules["IPython"].version_info = lambda: shell, (9, 0, 0)
    modules["IPython.display"].Image = lambda filename: open(filename, "rb").read()
    modules["IPython.display"].display = lambda image, display_id, update: shown.append(
        (image, display_id, update))
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys, "argv", ["/lib/ipykernel_launcher.py", "-f", "/tmp/kernel.json"])
    return SimpleNamespace(shown=shown, shell=shell)


def test_a_run_in_a_cell_shows_its_pictures_in_one_place(kernel, tmp_path):
    training.main(parser(), train, arguments=["--need", 0, "--out", tmp_path])
    *samples, curves = kernel.shown
    pictures = [path.read_bytes() for path in sorted((tmp_path / "samples").glob("*.png"))]
    assert [image for image, _, _ in samples] == pictures and len({*pictures}) == 4
    assert [again for _, _, again in samples] == [False, True, True, True]
    assert len({place for _, place, _ in samples}) == 1
    assert curves[0] == (tmp_path / "curves.png").read_bytes() and not curves[2]
    training.main(parser(), train, arguments=["--need", 0, "--out", tmp_path, "--overwrite"])
    assert kernel.shown[5][1] != samples[0][1]  # another run has another place


def test_nothing_is_shown_and_nothing_imported_where_there_is_no_kernel(kernel, tmp_path):
    del kernel.shell.kernel  # IPython in a terminal
    training.main(parser(), train, arguments=["--need", "0", "--out", tmp_path / "a"])
    sys.modules["IPython"].get_ipython = lambda: None  # somebody else imported it
    training.main(parser(), train, arguments=["--need", "0", "--out", tmp_path / "b"])
    del sys.modules["IPython"], sys.modules["IPython.display"]
    training.main(parser(), train, arguments=["--need", "0", "--out", tmp_path / "c"])
    assert "IPython" not in sys.modules and kernel.shown == []


def test_a_cell_without_arguments_takes_those_of_the_kernel_for_no_options(kernel, tmp_path):
    settings = []
    training.main(training.parser("nothing", "", steps=4), settings.append)
    assert settings[0].steps == 4
    sys.argv[:] = ["demos/mnist_gan.py", "--steps", "5"]  # as %run sets them
    training.main(training.parser("nothing", "", steps=4), settings.append)
    assert settings[1].steps == 5


def test_the_output_of_a_kernel_will_do(kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())  # which has no reconfigure() either
    training.main(parser(), train, arguments=["--need", 0, "--out", tmp_path])
    assert "4 steps on" in sys.stdout.getvalue()


def test_a_stopped_run_says_how_a_cell_goes_on(kernel, tmp_path, capsys):
    out = tmp_path / "a b"
    training.main(parser(), train, arguments=["--need", 2, "--out", out])
    line = capsys.readouterr().out.splitlines()[-1].strip()
    assert line == f"arguments=['--resume', '--out', '{out}']"
    training.main(parser(), train, arguments=["--resume", "--out", out])
    assert checkpoints.read(out).step == 4
    sys.argv[:] = ["demos/mnist_gan.py"]
    training.main(parser(), train, arguments=["--need", 2, "--out", out, "--overwrite"])
    line = capsys.readouterr().out.splitlines()[-1].strip()
    assert line == f"%run demos/mnist_gan.py --resume --out '{out}'"


def test_an_error_in_a_cell_is_one_sentence_and_no_exit(kernel, tmp_path, capsys):
    for words in (["--need", "2", "--steps", "x"], [], ["--resume", "--out", tmp_path]):
        with pytest.raises(UsageError) as error:
            training.main(parser(), train, arguments=words)
        (shown,) = error.value._render_traceback_()  # as IPython asks
        assert str(error.value) in shown and "\n" not in shown
    assert "'x' is not a whole number" in capsys.readouterr().err
    training.main(parser(), train, arguments=["--help"])  # ends, but is no error


def test_outside_of_a_notebook_an_error_has_its_exit_status(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        training.main(parser(), train, arguments=["--resume", "--out", tmp_path])
    assert end.value.code == 2 and "no checkpoint" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no checkpoint"):
        training.main(parser(), train, arguments=["--resume", "--debug", "--out", tmp_path])


def test_a_run_in_a_thread_has_no_signals_and_the_same_bits(tmp_path):
    before, ends = signal.getsignal(signal.SIGINT), []

    def go():
        training.main(parser(), train, arguments=["--need", "0", "--out", tmp_path / "thread"])
        ends.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    training.main(parser(), train, arguments=["--need", "0", "--out", tmp_path / "main"])
    assert ends == [before] and signal.getsignal(signal.SIGINT) is before
    names = {path.relative_to(tmp_path / "main") for path in (tmp_path / "main").rglob("*.png")}
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "main" / name).read_bytes() == (tmp_path / "thread" / name).read_bytes()
