"""Exercise 10: the gradient penalty of WGAN-GP, Gulrajani et al. 2017, equation 3.

    E (|grad l(u)| - 1)^2        at u = t x + (1 - t) G(z), with t uniform in [0, 1]

l(u) is the critic's answer to an image u, grad l(u) its slope by every pixel of that image, and
|...| the length of all these slopes of one image together. Each image draws its own t; all of
its pixels share it. E is the mean over the batch.

    u       a new Tensor with requires_grad=True, made of real.data and fake.data
    slopes  grad(critic(u).sum(), [u], create_graph=True): the sum, because the images of a
            batch do not see one another; create_graph, because the penalty is itself minimised
    length  sqrt(sum of squares + 1e-12): without the 1e-12 the derivative is infinite at 0

random_uniform(*shape) draws t. Images have any number of axes, of which the first is the batch.
"""

from tinygan import Tensor, grad  # noqa: F401
from tinygan.backend import random_uniform  # noqa: F401
from tinygan.functions import sqrt  # noqa: F401


def gradient_penalty(critic, real, fake):
    raise NotImplementedError("not started")
