"""How the files stand on one another, and what `import tinygan` leaves alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinygan

# A file imports only from the files before it.
ORDER = [
    "files", "backend", "watch", "tensor", "functions", "convolution", "hints", "gradcheck",
    "layers", "losses", "optimizers", "datasets", "classifier", "metrics", "plots", "checkpoints",
    "training", "sample", "evaluate",
]
LIBRARY = {path.stem: path for path in Path(tinygan.__file__).parent.glob("*.py")}
ROOT = Path(__file__).parents[1]
PROGRAMS = [*LIBRARY.values(), *ROOT.glob("demos/*.py"), *ROOT.glob("tests/*.py")]


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


def own(code):
    return {name.split(".")[1] for name in imports(code) if name.startswith("tinygan.")}


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


def test_every_file_has_its_place_in_the_order():
    assert LIBRARY.keys() - {"__init__"} <= set(ORDER)


@pytest.mark.parametrize("name", sorted(LIBRARY.keys() - {"__init__"}))
def test_a_file_imports_only_from_files_above_it(name):
    assert own(LIBRARY[name].read_text()) <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("name", sorted(LIBRARY))
def test_a_file_needs_numpy_alone_to_be_imported(name):
    others = packages(LIBRARY[name].read_text(), everywhere=False) - sys.stdlib_module_names
    assert others <= {"numpy", "tinygan"}


def test_only_the_backend_knows_cupy():
    knowing = [name for name, path in LIBRARY.items() if "cupy" in packages(path.read_text())]
    assert knowing == ["backend"]


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
    """Every file of the library and of demos/, in the order of its imports, with its lines."""
    rows = re.findall(r"^\| \[([a-z_/]+\.py)\]\(\1\) \| (\d+) \| (.+) \|$",
                      (ROOT / "README.md").read_text(), re.MULTILINE)
    library = [name for name, _, _ in rows if name.startswith("tinygan/")]
    assert library == [f"tinygan/{stem}.py" for stem in ORDER if stem in LIBRARY]
    demos = {f"demos/{path.name}" for path in ROOT.glob("demos/*.py")}
    assert {name for name, _, _ in rows} - set(library) == demos
    lines = {name: len((ROOT / name).read_text().splitlines()) for name, _, _ in rows}
    assert {name: int(count) for name, count, _ in rows} == lines
