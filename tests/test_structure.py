"""How the files stand on one another, and what `import tinygan` leaves alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinygan

# The engine, in reading order: a file imports only from the files before it, and from no room.
ENGINE = [
    "files", "backend", "gpu", "tensor", "functions", "convolution", "layers", "normalization",
    "attention", "losses", "optimizers", "networks",
]
# The rooms: each imports from the engine and from the rooms before it.
ROOMS = ["datasets", "plots", "training", "metrics", "gradcheck", "sample", "evaluate", "lab"]

PACKAGE = Path(tinygan.__file__).parent
ROOT = Path(__file__).parents[1]
LIBRARY = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path
           for path in PACKAGE.rglob("*.py")}
PROGRAMS = [*LIBRARY.values(), *ROOT.glob("demos/*.py"), *ROOT.glob("tests/*.py")]
FACADE = {"__init__", "__main__"}  # what users import and the command: not part of the engine


def imports(code, everywhere=True):
    """The modules that a program imports, its own package written as tinygan.NAME."""
    tree = ast.parse(code)
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(["tinygan"] * (node.level > 0) + [node.module] * bool(node.module))
            if module == "tinygan":
                yield from (f"tinygan.{name.name}" for name in node.names)
            else:
                yield module


def own(code, level=0):
    """The files and rooms of tinygan that a program imports; level 1 for a file inside a room."""
    tree, found = ast.parse(code), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [name.name.split(".") for name in node.names]
            found |= {name[1] for name in names if name[0] == "tinygan" and len(name) > 1}
        elif isinstance(node, ast.ImportFrom):
            path = (node.module or "").split(".") if node.module else []
            if node.level == 0 and path[:1] == ["tinygan"]:
                path = path[1:]
            elif node.level != level + 1:  # the room's own files, or another package
                continue
            found |= {path[0]} if path else {name.name for name in node.names}
    return found


def packages(code, everywhere=True):
    return {name.partition(".")[0] for name in imports(code, everywhere)}


def test_imports_are_found_however_they_are_written():
    code = """
import numpy as np, tinygan.plots
from . import files, layers
from .tensor import Tensor
from tinygan import losses
from tinygan.backend import xp
def late():
    from os.path import join
    from .training import Run
"""
    assert own(code) == {"plots", "files", "layers", "tensor", "losses", "backend", "training"}
    assert packages(code) == {"numpy", "tinygan", "os"}
    assert packages(code, everywhere=False) == {"numpy", "tinygan"}
    inside = "from ..tensor import Tensor\nfrom .. import plots\nfrom . import watch"
    assert own(inside, level=1) == {"tensor", "plots"}


def test_every_file_has_its_place():
    files = {name for name in LIBRARY if "/" not in name} - FACADE
    assert files == set(ENGINE)
    assert {name.partition("/")[0] for name in LIBRARY if "/" in name} == set(ROOMS)


@pytest.mark.parametrize("name", ENGINE)
def test_a_file_of_the_engine_imports_only_from_files_above_it(name):
    late = {"gpu"} if name == "backend" else set()  # only when a GPU is asked for
    assert own(LIBRARY[name].read_text()) - late <= set(ENGINE[: ENGINE.index(name)])


@pytest.mark.parametrize("name", sorted(name for name in LIBRARY if "/" in name))
def test_a_room_imports_only_the_engine_and_rooms_before_it(name):
    room = name.partition("/")[0]
    allowed = {*ENGINE, *ROOMS[: ROOMS.index(room)]}
    assert own(LIBRARY[name].read_text(), level=1) <= allowed


def lines_of(pattern):
    return sum(len(path.read_text().splitlines()) for path in ROOT.glob(pattern))


def test_the_promises_to_the_reader_are_kept():
    """The engine is read in an afternoon, the README in ten minutes."""
    assert lines_of("tinygan/*.py") <= 2960
    assert lines_of("tinygan/**/*.py") <= 9842
    assert lines_of("README.md") <= 200


def test_every_demo_has_its_figures_in_the_results():
    results = (ROOT / "RESULTS.md").read_text()
    assert [path.name for path in ROOT.glob("demos/*.py") if path.name not in results] == []


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_a_file_needs_numpy_alone_to_be_imported(name):
    others = packages(LIBRARY[name].read_text(), everywhere=False) - sys.stdlib_module_names
    assert others <= {"numpy", "tinygan"}


def test_only_the_backend_and_its_diagnosis_know_cupy():
    knowing = {name for name, path in LIBRARY.items() if "cupy" in packages(path.read_text())}
    assert knowing == {"gpu"}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_other_framework_is_used(path):
    assert not packages(path.read_text()) & {"torch", "tensorflow", "jax", "sklearn", "scipy"}


def test_importing_tinygan_loads_none_of_what_it_may_use_later():
    code = "import sys, tinygan; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"numpy", "tinygan"} <= set(loaded)
    assert not {"matplotlib", "PIL", "tqdm", "cupy"} & set(loaded)


def test_the_reading_order_of_the_readme_is_true():
    """The engine in its order with its lines, then every room, then every demo with its lines."""
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| \[([a-z0-9_/]+\.py)\]\(\1\) \| (\d+) \|", readme, re.MULTILINE)
    engine = [name for name, _ in rows if name.startswith("tinygan/")]
    assert engine == [f"tinygan/{name}.py" for name in ENGINE]
    assert {name for name, _ in rows} - set(engine) == {
        f"demos/{path.name}" for path in ROOT.glob("demos/*.py")
    }
    lines = {name: len((ROOT / name).read_text().splitlines()) for name, _ in rows}
    assert {name: int(count) for name, count in rows} == lines
    rooms = re.findall(r"^\| \[tinygan/([a-z]+)/\]\(tinygan/\1/?\)", readme, re.MULTILINE)
    assert rooms == ROOMS
