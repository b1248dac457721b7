"""What the README shows is what the library does: the numbers, the quoted code, the links."""

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("tests/*.md"), *ROOT.glob("tests/*/README.md"),
         *ROOT.glob("tinygan/**/README.md")]
AUTOGRAD, UPDATES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.cpu_only("shows what NumPy prints")
def test_the_autograd_of_the_readme_prints_the_numbers_beside_it():
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(AUTOGRAD, names)
    said = re.findall(r"^print\(.*?# (.*)$", AUTOGRAD, re.MULTILINE)
    assert printed.getvalue().splitlines() == said != []
    for name, value in re.findall(r"^\(?(\w+),?\)? = .*?# (Tensor\(.*)$", AUTOGRAD, re.MULTILINE):
        assert repr(names[name]) == value


def test_the_quoted_updates_are_those_of_the_demo():
    demo = (ROOT / "demos" / "mnist_gan.py").read_text()
    assert textwrap.indent(UPDATES.strip(), " " * 8) in demo


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page):
    links = re.findall(r"\]\(([^)#][^)]*)\)", page.read_text())
    files = [link.partition("#")[0] for link in links if not link.startswith("http")]
    assert [link for link in files if not (page.parent / link).exists()] == []
