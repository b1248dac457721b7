"""Normalisation: layers that give the numbers they see mean 0 and variance 1, then a new scale.

Each begins with the plain formula, written in differentiable functions. Where that is too slow
for training, the fused form of it follows, with its derivative worked out by hand. SpectralNorm
normalises weights in place of numbers.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

from . import functions
from .backend import array_sum, fused, move_towards, random_normal, xp
from .convolution import conv2d
from .functions import Axis, ShapeError, last_result, mean
from .layers import Dense, Module, Parameter
from .tensor import Tensor, no_grad, record


def normalized(x: Tensor, axes: Axis, epsilon: float) -> Tensor:
    """y = (x - mean) / sqrt(variance + epsilon), with mean and variance over those axes."""
    centered = x - mean(x, axes, keepdims=True)
    variance = mean(centered * centered, axes, keepdims=True)
    return centered / functions.sqrt(variance + epsilon)


class LayerNorm(Module):
    """y = scale (x - mean) / sqrt(variance + epsilon) + shift, for each example by itself.

    Ba et al. 2016, eq. 3. Mean and variance are over all axes but the first; scale and shift
    belong to the features, the last axis. No example sees another: fit for WGAN-GP's critic.
    Raises ShapeError where the last axis is not that of the features.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5):
        self.epsilon = epsilon
        self.scale = Parameter(xp.ones(features, dtype=xp.float32))
        self.shift = Parameter(xp.zeros(features, dtype=xp.float32))

    def forward(self, x: Tensor) -> Tensor:
        _require_features(self, x)
        return normalized(x, tuple(range(1, x.ndim)), self.epsilon) * self.scale + self.shift


class BatchNorm(Module):
    """y = scale (x - mean) / sqrt(variance + epsilon) + shift, for each feature by itself.

    Ioffe and Szegedy 2015, algorithm 1. The features are the last axis, in (N, features) and in
    (N, H, W, features). In training, mean and variance are those of the batch, over all other
    axes. eval() uses running ones, which each batch of M rows moves (algorithm 2, step 10: its
    variance counts M / (M - 1) times): running <- running + momentum (batch - running). Without
    affine, scale 1 and shift 0 stay. On several processes each takes those of its own rows.
    Raises ShapeError for a batch of one row, and where the last axis is not that of the features.
    """

    def __init__(
        self, features: int, *, momentum: float = 0.1, epsilon: float = 1e-5, affine: bool = True
    ):
        self.momentum, self.epsilon = momentum, epsilon
        learned = Parameter if affine else Tensor
        self.scale = learned(xp.ones(features, dtype=xp.float32))
        self.shift = learned(xp.zeros(features, dtype=xp.float32))
        self.running_mean = Tensor(xp.zeros(features, dtype=xp.float32))
        self.running_variance = Tensor(xp.ones(features, dtype=xp.float32))

    def forward(self, x: Tensor) -> Tensor:
        _require_features(self, x)
        if not self.training:
            factor = self.scale / functions.sqrt(self.running_variance + self.epsilon)
            return x * factor + (self.shift - self.running_mean * factor)
        rows = functions.reshape(x, (-1, x.shape[-1]))
        if len(rows) < 2:
            raise ShapeError(f"BatchNorm: {x.shape} is one row, whose variance is 0: use eval()")
        # normalized(rows, 0, epsilon) * scale + shift, fused
        y, batch_mean, variance = batch_norm(rows, self.scale, self.shift, self.epsilon)
        unbiased = variance * (len(rows) / (len(rows) - 1))
        for running, latest in (self.running_mean, batch_mean), (self.running_variance, unbiased):
            move_towards(running.data, latest, self.momentum)
            running.data = running.data  # tells the tape that its numbers changed
        return functions.reshape(y, x.shape)


class ConditionalBatchNorm(Module):
    """y = (1 + c A) (x - mean) / sqrt(variance + epsilon) + c B, with a condition c (N, inputs).

    BatchNorm whose scale and shift each example gets from what it is to be, such as its class
    (de Vries et al. 2017); in BigGAN c is a class's embedding, which all layers share, and a
    piece of z (Brock et al. 2019, appendix B). x (N, features) or (N, H, W, features). A and B
    start from N(0, 0.02^2), as nearly a BatchNorm.
    wrap  is given the two Dense layers, A and B (inputs, features), such as SpectralNorm
    Raises ShapeError as BatchNorm does.
    """

    def __init__(
        self, features: int, inputs: int, *, wrap: Callable[[Module], Module] = lambda layer: layer
    ):
        self.normalized = BatchNorm(features, affine=False)
        self.scale, self.shift = (
            wrap(Dense(inputs, features, bias=False, scale=0.02)) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        every_pixel = (len(x), *[1] * (x.ndim - 2), x.shape[-1])                # (N, 1, 1, C)
        scale = functions.reshape(self.scale(condition), every_pixel)
        shift = functions.reshape(self.shift(condition), every_pixel)
        return self.normalized(x) * (1.0 + scale) + shift


def standing_statistics(network: Module, sample: Callable[[], Any], batches: int = 16) -> None:
    """Take BatchNorm's running statistics anew, as means over batches; the rest is as in eval().

    sample() has the network make one batch. Running statistics are those of the weights that a
    network had, and an average of weights has seen no batch at all (Brock et al. 2019, appendix D).
    """
    norms = [module for module in network.eval().modules() if isinstance(module, BatchNorm)]
    before = [norm.momentum for norm in norms]
    for running in [r for norm in norms for r in (norm.running_mean, norm.running_variance)]:
        running.data = xp.zeros_like(running.data)  # so that what was there leaves no trace
    for number in range(batches):
        for norm in norms:
            norm.training, norm.momentum = True, 1 / (number + 1)  # the mean of all until now
        with no_grad():
            sample()
    for norm, momentum in zip(norms, before, strict=True):
        norm.training, norm.momentum = False, momentum


class InstanceNorm(Module):
    """y = (x - mean) / sqrt(variance + epsilon), for each channel of each image by itself.

    Ulyanov et al. 2016, eq. 4: (N, H, W, C) -> (N, H, W, C), mean and variance over H and W.
    Contrast is taken out; no image sees another, in training and after.
    Raises ShapeError for what is no batch of images of more than one pixel.
    """

    def __init__(self, *, epsilon: float = 1e-5):
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] * x.shape[2] < 2:
            raise ShapeError(f"InstanceNorm: {x.shape} is no (N, H, W, C) of two or more pixels")
        n, height, width, channels = x.shape
        # normalized(x, (1, 2), epsilon), fused: BatchNorm whose rows are pixels and whose features
        # are the channels of all images
        pixels = functions.transpose(functions.reshape(x, (n, -1, channels)), (1, 0, 2))
        columns = functions.reshape(pixels, (-1, n * channels))              # (HW, NC)
        scale = Tensor(xp.ones(n * channels, dtype=x.dtype))
        y, _, _ = batch_norm(columns, scale, Tensor(xp.zeros_like(scale.data)), self.epsilon)
        y = functions.transpose(functions.reshape(y, pixels.shape), (1, 0, 2))
        return functions.reshape(y, x.shape)


class ModulatedConv2d(Module):
    """A convolution with a weight of its own for each image, which a style w makes.

    s = w A + 1 + a,  v[c, d, i, o] = s_i weight[c, d, i, o],
    y = conv2d(x, v) / sqrt(sum over c, d, i of v^2 + epsilon) + bias

    Karras et al. 2020, eq. 1 and 3: x (N, H, W, inputs), w (N, latent) -> (N, H, W, outputs), of
    x's size. The division is demodulation: were x of variance 1, so would y be. It normalises as
    AdaIN did in 2019, but by what is expected, not by the image at hand. How large the weight is
    plays no part: it starts from N(0, 0.2^2), large beside Adam's steps, which has the effect of
    the paper's equalized learning rate. Without demodulate nothing is divided, and the weight
    starts from N(0, 1 / fan in): for the layer that makes colours.
    Raises ShapeError where channels do not fit.
    """

    def __init__(self, inputs: int, outputs: int, *, latent: int, kernel: int = 3,
                 demodulate: bool = True):
        scale = 0.2 if demodulate else 1 / math.sqrt(kernel**2 * inputs)
        self.style = Dense(latent, inputs)
        self.weight = Parameter(random_normal(kernel, kernel, inputs, outputs, scale=scale))
        self.bias = Parameter(xp.zeros(outputs, dtype=xp.float32))
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        s = self.style(w) + 1.0                                                # (N, inputs)
        # A convolution is linear: to scale x and y is to scale each image's weight.
        y = conv2d(x * s[:, None, None], self.weight, padding=len(self.weight) // 2)
        if self.demodulate:
            squares = functions.sum(self.weight * self.weight, axis=(0, 1))    # (inputs, outputs)
            y = y / functions.sqrt((s * s) @ squares + 1e-8)[:, None, None]
        return y + self.bias


class SpectralNorm(Module):
    """A layer with the weight bound W / s, s = max |W u| over |u| = 1 its largest singular value.

    Miyato et al. 2018, section 2.1 and algorithm 1: no such layer stretches what it gets without
    limit, and D stays smooth. W is seen as a matrix, its last axis the columns. The u of the last
    call is nearly the right one, since weights change slowly, and each call in training makes one
    step of the power iteration: u <- W^T W u / |W^T W u|. Then s = |W u|, u a constant. The paper's
    bound is 1; leaky ReLUs and biases leave little of a signal after a few such layers.
    layer has a weight: Dense, Conv2d, ConvTranspose2d (a transposed convolution is as strong as
    the convolution with its weight), Embedding. Raises TypeError for others.
    """

    def __init__(self, layer: Module, *, bound: float = 1.0):
        if not isinstance(getattr(layer, "weight", None), Parameter):
            raise TypeError(f"SpectralNorm: {type(layer).__name__} has no weight: use Dense, ...")
        self.layer, self.bound = layer, bound
        self.u = Tensor(random_normal(layer.weight.shape[-1]))

    def forward(self, x: Any) -> Tensor:
        weight = self.layer.weight
        matrix = functions.reshape(weight, (-1, weight.shape[-1]))
        u = self.u.data
        if self.training:
            u = (matrix.data @ u) @ matrix.data
        u = u / (xp.sqrt((u * u).sum()) + 1e-12)  # an average of them has another length, too
        if self.training:
            self.u.data = u
        stretched = functions.matmul(matrix, u)  # u is an array: a constant
        normed = copy.copy(self.layer)
        sigma = functions.sqrt((stretched * stretched).sum() + 1e-24)
        normed.weight = weight * (self.bound / sigma)
        return normed(x)


def batch_norm(
    x: Tensor, scale: Tensor, shift: Tensor, epsilon: float = 1e-5
) -> tuple[Tensor, Any, Any]:
    """y = scale c r + shift for each column: (M, C), with scale and shift (C,).

    c = x - mean(x), r = 1 / sqrt(mean(c^2) + epsilon).
    dshift = sum dy,  dscale = r sum dy c,  dx = scale r (dy - dshift / M - c r dscale / M):
    the last two terms are there because x also moves the mean and the variance.
    Returns y, and the mean and the variance (C,) as arrays.
    """
    per_row = 1 / len(x)
    batch_mean = array_sum(x.data, (0,), wide=True) * per_row
    centered = x.data - batch_mean
    variance = array_sum(centered * centered, (0,)) * per_row
    # The derivatives below use c and r. These two records let them be differentiated in turn.
    c = record(centered, (x,), lambda dc, c: dc - mean(dc, axis=0))
    r = record(
        _inverse_root(variance, epsilon), (x,),
        lambda dr, r: dr * r**3 * -per_row * (x - mean(x, axis=0)),
    )
    y = _scaled_and_shifted(centered, scale.data, r.data, shift.data)

    @last_result
    def sums(dy: Tensor) -> tuple[Tensor, Tensor]:
        return functions.sum(dy, axis=0), functions.sum(dy * c, axis=0)

    def dx(dy: Tensor, y: Tensor) -> Tensor:
        sum_dy, sum_dy_c = sums(dy)
        return (dy - sum_dy * per_row - c * (sum_dy_c * (r * r * per_row))) * (scale * r)

    by_scale, by_shift = (lambda dy, y: r * sums(dy)[1]), (lambda dy, y: sums(dy)[0])
    return record(y, (x, scale, shift), dx, by_scale, by_shift), batch_mean, variance


@fused
def _inverse_root(variance: Any, epsilon: float) -> Any:
    return 1 / xp.sqrt(variance + epsilon)


@fused
def _scaled_and_shifted(centered: Any, scale: Any, r: Any, shift: Any) -> Any:
    y = centered * (scale * r)
    y += shift
    return y


def _require_features(layer: Any, x: Tensor) -> None:
    if x.ndim < 2 or x.shape[-1:] != layer.scale.shape:
        raise ShapeError(
            f"{type(layer).__name__}({len(layer.scale)}): the last axis of {x.shape} must be "
            f"{len(layer.scale)} long, one for each feature"
        )
