"""The command that checks the functions of a file: python -m tinygan.gradcheck FILE.py"""

import argparse
import functools
import inspect
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy

from ..layers import Module
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
    wrong, checked = 0, 0
    for name, function in functions_of(options.target, parser).items():
        named = options.target.endswith(":" + name)
        inputs = [] if isinstance(function, type) else example_inputs(
            function, options.shape, options.seed)
        given = ", ".join(str(array.shape) for array in inputs) or "no inputs"
        reason = why_not(function, inputs, named)
        if reason and named:
            parser.error(f"{name} {reason}")
        if reason:
            print(f"passed over  {name} {reason}")
            continue
        checked += 1
        try:
            check_gradients(function, *inputs, order=options.order, seed=options.seed)
        except (GradientMismatch, ValueError) as error:
            wrong += 1
            print(f"WRONG  {error}")
        else:
            orders = "first derivative" if options.order == 1 else "first and second derivative"
            print(f"right  {name}: {orders}, with {given}")
    if not checked:
        parser.error(f"nothing in {options.target} could be checked")
    return 1 if wrong else 0


def why_not(function: Callable[..., Tensor], inputs: list[numpy.ndarray], named: bool) -> str:
    """Why a function cannot be checked, as the end of a sentence; nothing if it can.

    What takes no inputs, such as main(), is not even called, unless its name was given.
    """
    if isinstance(function, type):
        return "is a class: give an object of it a name, layer = Layer(...)"
    if not named and (not inputs or getattr(function, "__name__", "") == "main"):
        return "takes no inputs"
    given = ", ".join(str(array.shape) for array in inputs) or "no inputs"
    try:
        y = function(*[variable(array) for array in inputs])
    except (Exception, SystemExit) as error:
        return (f"cannot be called with {given}: {type(error).__name__}: {error}; give each "
                "input's shape as --shape 2,3 or in the file as def f(x: (2, 3))")
    return "" if isinstance(y, Tensor) else f"gives a {type(y).__name__}, not a Tensor"


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
    module = types.ModuleType(file.stem)  # not __main__, so that it does not call its main()
    module.__file__ = str(file)
    sys.modules.setdefault(file.stem, module)
    try:
        exec(compile(file.read_bytes(), path, "exec"), vars(module))
    except SystemExit:  # what it defined before that is there
        print(f"{path} ends itself with sys.exit(): what stands after that is not checked")
    except Exception as error:
        parser.error(f"{path} does not load: {type(error).__name__}: {error}")
    names = vars(module)
    if wanted:
        found = {wanted: names[wanted]} if callable(names.get(wanted)) else {}
    else:
        found = {name: value for name, value in names.items()
                 if name[0] != "_" and callable(value) and _is_of(file.stem, value)}
    if not found:
        parser.error(f"{path} has no function {wanted or 'whose name does not start with _'}")
    return found


def _is_of(module: str, value: Any) -> bool:
    """Was a function, a layer, or what a decorator made of a function defined in that file?"""
    while isinstance(value, functools.partial):
        value = value.func
    if isinstance(value, type):
        return value.__module__ == module and issubclass(value, Module)
    if isinstance(value, Module):
        return True
    origins = (value, type(value), inspect.unwrap(value), getattr(value, "__self__", None),
               *vars(value).values()) if hasattr(value, "__dict__") else (value, type(value))
    return any(getattr(origin, "__module__", None) == module for origin in origins)


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
