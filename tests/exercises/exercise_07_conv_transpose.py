"""Exercise 7: the transposed convolution, which a generator grows its images with.

    conv2d:            (N, H, W, C) with weight (K, K, C, O) -> (N, OH, OW, O)
    conv_transpose2d:  (N, OH, OW, O) with the same weight   -> (N, H, W, C)
                       H = S (OH - 1) + K - 2 P for stride S and padding P

It is the adjoint of conv2d, for all images z and all x:

    sum(conv2d(z, weight) * x)  =  sum(z * conv_transpose2d(x, weight)).

The left side is linear in z, so its gradient with respect to z is what is looked for, whatever
z is. `grad` computes it: that is all of the exercise. Keep the graph of the gradient, for a
generator learns through it.
"""

from tinygan import Tensor, grad  # noqa: F401
from tinygan.backend import xp  # noqa: F401
from tinygan.convolution import conv2d  # noqa: F401


def conv_transpose2d(x: (1, 2, 3, 2), weight: (3, 3, 1, 2), stride=1, padding=0):
    raise NotImplementedError("not started")
