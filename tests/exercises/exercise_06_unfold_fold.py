"""Exercise 6: every patch of an image as a row of numbers, and the way back.

Letters: N images of H x W pixels with C channels, kernel K, stride S, OH = (H - K) // S + 1.

    unfold: (N, H, W, C) -> (N, OH, OW, K*K*C)    y[n, i, j, (a, b, c)]  = x[n, S i + a, S j + b, c]
    fold:   (N, OH, OW, K*K*C) -> (N, H, W, C)    y[n, S i + a, S j + b, c] += x[n, i, j, (a, b, c)]

(a, b, c) is place a K C + b C + c of the row. With unfold a convolution is one matrix product.
The two are adjoint, sum(unfold(x) * z) = sum(x * fold(z)): each is the other's derivative. A
pixel that lies in several patches gathers the gradients of all of them.

Loops over a and b are enough: the pixels at place (a, b) of all patches lie S apart, as
x[:, a : a + S * OH : S, b : b + S * OW : S] has them.
"""

from tinygan.backend import xp  # noqa: F401
from tinygan.tensor import record  # noqa: F401


def unfold(x: (2, 4, 5, 2), kernel=2, stride=1):
    raise NotImplementedError("unfold is not started")


def fold(columns: (2, 3, 4, 8), size=(4, 5), kernel=2, stride=1):
    raise NotImplementedError("fold is not started")
