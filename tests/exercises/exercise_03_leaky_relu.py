"""Exercise 3: y = max(x, s x) for a slope s from 0 to 1, number by number.

    y = x      and  dy/dx = 1    where x > 0
    y = s x    and  dy/dx = s    elsewhere

The derivative that `record` wants is dL/dx = dL/dy * dy/dx. The mask that says on which side x
is may be an array: it is a constant, for it does not change when x moves a little. dy must stay
a Tensor. `xp` is NumPy (or CuPy on a GPU): xp.maximum, xp.where.
"""

from tinygan.backend import xp  # noqa: F401
from tinygan.tensor import record  # noqa: F401


def leaky_relu(x, slope=0.2):
    # return record(xp.maximum(...), (x,), lambda dy, y: ...)
    raise NotImplementedError("not started")
