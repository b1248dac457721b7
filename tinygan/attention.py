"""Attention: every place of an image looks at every other, or at the words of a caption.

Letters: N batch, H and W of images, C their channels, T words of a caption, F features of a word.
"""

from collections.abc import Callable
from typing import Any

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


class WordAttention(Module):
    """c_j = sum_t a_jt U e_t,  a_jt = softmax over words t of h_j . U e_t.

    Xu et al. 2018, "AttnGAN", eq. 2: what in a caption concerns each pixel j of h (N, H, W, C).
    words e are (N, T, F); present, bool (N, T), says which of them are words, not what fills up
    the rest. -> c (N, H, W, C), and where each word was of use, the table a (N, H W, T).
    Raises ShapeError for what is no batch of images.
    """

    def __init__(self, features: int, channels: int):
        self.project = Dense(features, channels, bias=False)

    def forward(self, h: Tensor, words: Tensor, present: Any) -> tuple[Tensor, Tensor]:
        if h.ndim != 4:
            raise ShapeError(f"WordAttention: images are (N, H, W, C), got shape {h.shape}")
        n, length, _ = words.shape
        pixels = functions.reshape(h, (n, -1, h.shape[3]))                       # (N, HW, C)
        words = functions.reshape(self.project(functions.reshape(words, (n * length, -1))),
                                  (n, length, -1))                               # (N, T, C)
        scores = pixels @ functions.transpose(words, (0, 2, 1))                  # (N, HW, T)
        table = functions.softmax(functions.where(present[:, None], scores, -1e9))
        return functions.reshape(table @ words, h.shape), table
