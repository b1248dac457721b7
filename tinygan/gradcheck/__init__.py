"""Gradients checked against finite differences, in float64, to second order.

On the command line, without any test code:  python -m tinygan.gradcheck FILE.py[:function]
"""

from .checker import GradientMismatch, check_gradients
from .command import main

__all__ = ["GradientMismatch", "check_gradients", "main"]
