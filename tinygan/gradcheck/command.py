"""The command that checks the functions of a file: python -m tinygan.gradcheck FILE.py"""

import argparse
import inspect
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy

from ..tensor import Tensor
from .checker import GradientMismatch, check_gradients, parameters_of, variable


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the functions of a file; the exit status is 1 on a mismatch, 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog="tinygan gradcheck",
        description="Check the first and second derivatives of the functions in a file against "
        "finite differences: of one function, or of all whose names do not start with _.",
        epilog="An argument annotated with a shape, def matmul(a: (2, 3), b: (3, 4)), gets random "
        "numbers; one annotated with an array gets that array; one with a default keeps it; any "
        "other has shape (3, 4). Exit status: 0 if all is right, 1 if a derivative is wrong, 2 if "
        "nothing could be checked.",
    )
    parser.add_argument("target", metavar="FILE.py[:function]")
    parser.add_argument("--shape", action="append", type=shape, metavar="2,3",
                        help="shape of an input, once for each; overrides the annotations")
    parser.add_argument("--order", type=int, choices=(1, 2), default=2,
                        help="1 skips the second derivative (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    options = parser.parse_args(arguments)
    mismatches = 0
    for name, function in functions_of(options.target, parser).items():
        inputs = example_inputs(function, options.shape, options.seed)
        given = ", ".join(str(array.shape) for array in inputs) or "no inputs"
        try:
            function(*[variable(array) for array in inputs])
        except Exception as error:
            parser.error(
                f"{name} cannot be called with {given}: {type(error).__name__}: {error}; give "
                "each input's shape as --shape 2,3 or in the file as def f(x: (2, 3))"
            )
        try:
            check_gradients(function, *inputs, order=options.order, seed=options.seed)
        except (GradientMismatch, ValueError) as error:
            mismatches += 1
            print(f"WRONG  {error}")
        else:
            orders = "first derivative" if options.order == 1 else "first and second derivative"
            print(f"right  {name}: {orders}, with {given}")
    return 1 if mismatches else 0


def shape(text: str) -> tuple[int, ...]:
    return tuple(int(length) for length in text.split(",") if length)


def functions_of(target: str, parser: argparse.ArgumentParser) -> dict[str, Callable[..., Tensor]]:
    """The function that FILE.py:function names, or all public ones that FILE.py defines."""
    path, _, wanted = target.rpartition(":")
    if not wanted.isidentifier():  # no name was given, or the colon belongs to the path
        path, wanted = target, ""
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        parser.error(f"there is no Python file {path}: give FILE.py or FILE.py:function")
    sys.path.insert(0, str(file.resolve().parent))  # so that it finds the files beside it
    try:
        names = runpy.run_path(path, run_name=file.stem)
    except Exception as error:
        parser.error(f"{path} does not load: {type(error).__name__}: {error}")
    if wanted:
        found = {wanted: names[wanted]} if callable(names.get(wanted)) else {}
    else:
        found = {
            name: value for name, value in names.items()
            if inspect.isfunction(value) and value.__module__ == file.stem and name[0] != "_"
        }
    if not found:
        parser.error(f"{path} has no function {wanted or 'whose name does not start with _'}")
    return found


def example_inputs(
    function: Callable[..., Tensor], shapes: list[tuple[int, ...]] | None, seed: int
) -> list[numpy.ndarray]:
    """Random numbers of the given shapes, or else what the arguments' annotations ask for."""
    wanted = shapes or [p.annotation for p in parameters_of(function) if p.default is p.empty]
    randomness = numpy.random.default_rng(seed)
    return [
        item if isinstance(item, numpy.ndarray)
        else randomness.standard_normal(item if isinstance(item, tuple) else (3, 4))
        for item in wanted
    ]
