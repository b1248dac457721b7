"""The command that checks the functions of a file: python -m tinygan.gradcheck FILE.py"""

import argparse
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy

from ..tensor import Tensor
from .checker import GradientMismatch, check_gradients, parameters_of, variable


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the functions of a file; the exit status is 1 on a mismatch, 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygan.gradcheck",
        description="Check the derivatives of the functions in a file against finite differences, "
        "first and second. Without a name, all of its functions that do not start with _.",
        epilog="A function says which inputs it wants by annotations: a shape, which is filled "
        "with random numbers, or an array: def matmul(a: (2, 3), b: (3, 4)). Arguments with a "
        "default keep it; others are of shape (3, 4). Exit status: 0 all right, 1 a mismatch, "
        "2 nothing could be checked.",
    )
    parser.add_argument("target", metavar="FILE.py[:function]")
    parser.add_argument("--shape", action="append", type=_shape, metavar="2,3",
                        help="shape of an input, once for each; goes before the annotations")
    parser.add_argument("--order", type=int, choices=(1, 2), default=2,
                        help="1: leave out the second derivative (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    options = parser.parse_args(arguments)
    mismatches = 0
    for name, function in _functions(options.target, parser).items():
        inputs = _example_inputs(function, options.shape, options.seed)
        given = ", ".join(str(array.shape) for array in inputs) or "no inputs"
        try:
            function(*[variable(array) for array in inputs])
        except Exception as error:
            parser.error(
                f"{name} cannot be called with {given}: {type(error).__name__}: {error}; say what "
                "it wants with --shape 2,3 for each input, or def f(x: (2, 3))"
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


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(length) for length in text.split(",") if length)


def _functions(target: str, parser: argparse.ArgumentParser) -> dict[str, Callable[..., Tensor]]:
    """The function that FILE.py:function names, or all public ones that FILE.py defines."""
    path, _, wanted = target.rpartition(":")
    if not wanted.isidentifier():  # no name was given, or the colon belongs to the path
        path, wanted = target, ""
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        parser.error(f"there is no Python file {path}: give FILE.py or FILE.py:function")
    sys.path.insert(0, str(file.resolve().parent))  # so that it finds the files beside it
    specification = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        parser.error(f"{path} does not load: {type(error).__name__}: {error}")
    own = {
        name: value for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == file.stem and name[0] != "_"
    }
    if wanted:
        own = {wanted: getattr(module, wanted, None)}
        if not callable(own[wanted]):
            parser.error(f"{path} has no function {wanted}")
    if not own:
        parser.error(f"{path} defines no function whose name does not start with _")
    return own


def _example_inputs(
    function: Callable[..., Tensor], shapes: list[tuple[int, ...]] | None, seed: int
) -> list[numpy.ndarray]:
    """Random numbers of the shapes, or what the annotations of the arguments say."""
    wanted = shapes or [
        parameter.annotation for parameter in parameters_of(function)
        if parameter.default is parameter.empty
    ]
    randomness = numpy.random.default_rng(seed)
    return [
        item if isinstance(item, numpy.ndarray)
        else randomness.standard_normal(item if isinstance(item, tuple) else (3, 4))
        for item in wanted
    ]
