"""Self-attention: every place of an image looks at every other."""

from collections.abc import Callable

from . import functions
from .backend import xp
from .functions import ShapeError
from .layers import Dense, Module, Parameter
from .tensor import Tensor


class SelfAttention(Module):
    """y_i = x_i + gamma O sum_j a_ij V x_j,  a_ij = softmax over j of (Q x_i) . (K x_j).

    Zhang et al. 2019, "SAGAN", eq. 1 to 3: (N, H, W, C) -> the same, i and j run over all H W
    pixels. A convolution sees what is near; here a stroke can ask what is at the other end. gamma
    starts at 0: first learn the near, then the far. Queries and keys have C / 8 numbers, values
    C / 2. The table a has (H W)^2 numbers for each image: meant for maps of 7 x 7 or 8 x 8.
    wrap  is given the four Dense layers Q, K, V, O, such as SpectralNorm
    Raises ShapeError for what is no batch of images.
    """

    def __init__(
        self, channels: int, *, wrap: Callable[[Module], Module] = lambda layer: layer
    ):
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.query, self.key, self.value = (
            wrap(Dense(channels, outputs, bias=False)) for outputs in (few, few, half))
        self.out = wrap(Dense(half, channels, bias=False))
        self.gamma = Parameter(xp.zeros((), dtype=xp.float32))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4:
            raise ShapeError(f"SelfAttention: images are (N, H, W, C), got shape {x.shape}")
        n, _, _, channels = x.shape
        pixels = functions.reshape(x, (-1, channels))                            # (NHW, C)
        query, key, value = (
            functions.reshape(layer(pixels), (n, x.shape[1] * x.shape[2], -1))   # (N, HW, ...)
            for layer in (self.query, self.key, self.value))
        table = functions.softmax(query @ functions.transpose(key, (0, 2, 1)))   # (N, HW, HW)
        seen = functions.reshape(table @ value, (len(pixels), -1))               # (NHW, C / 2)
        return x + self.gamma * functions.reshape(self.out(seen), x.shape)
