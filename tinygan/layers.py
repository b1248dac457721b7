"""Layers: functions with weights, and the weights they start from.

Letters: N batch, H x W image, C channels, K kernel. Images are (N, H, W, C).
"""

import math
import operator
from collections import deque
from collections.abc import Iterator, Mapping, Set, ValuesView
from contextlib import contextmanager
from typing import Any

import numpy

from . import convolution, functions
from .backend import random_integers, random_normal, random_uniform, to_device, to_host, xp
from .tensor import Tensor


class Parameter(Tensor):
    """A tensor that an optimizer moves."""

    __slots__ = ()

    def __init__(self, data: Any):
        super().__init__(data, requires_grad=True)


class Module:
    """A function with weights. Subclasses set Parameters and Modules as attributes, and forward.

    They may stand in lists, tuples and dicts, in these again, and in several places at once.
    Parameters keep the order in which they were defined. Tensors that are not Parameters (such as
    BatchNorm's running statistics) belong to the state, but no optimizer moves them.
    """

    training = True

    def forward(self, *inputs: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any) -> Tensor:
        return self.forward(*inputs)

    def __repr__(self) -> str:
        """Layers by name, the shapes of their weights, and the number of weights in all."""
        lines = []
        for names, module in self._inside():
            if isinstance(module, Module):
                weights = [(n, m) for n, m in module.members() if isinstance(m, Parameter)]
                words = [f"{name}:" for name in names[-1:]] + [type(module).__name__]
                words += [", ".join(f"{name} {weight.shape}" for name, weight in weights)]
                lines.append("  " * len(names) + " ".join(words).rstrip())
        count = sum(parameter.data.size for parameter in self.parameters())
        return "\n".join([*lines, f"{count:,} weights"])

    def members(self) -> Iterator[tuple[str, "Tensor | Module"]]:
        """Tensors and Modules among the attributes, and in lists and dicts of them, by name."""
        return _named("", vars(self))

    def _inside(self, *around: Any) -> list[tuple[tuple[str, ...], "Tensor | Module"]]:
        """The module itself and all that is in it, by the names on the way; none in itself."""
        found: list[Any] = [((), self)]
        for name, member in self.members():
            if isinstance(member, Tensor):
                found.append(((name,), member))
            elif member not in (*around, self):
                inner = member._inside(*around, self)
                found += [((name, *names), item) for names, item in inner]
        return found

    def named_tensors(self) -> dict[str, Tensor]:
        """The state: every Tensor by its path, such as "layers.0.weight"."""
        found = self._inside()
        return {".".join(names): tensor for names, tensor in found if isinstance(tensor, Tensor)}

    def named_parameters(self) -> dict[str, Parameter]:
        """Every Parameter by its path, in the order of definition, and once if used twice."""
        names: dict[Parameter, str] = {}
        for name, tensor in self.named_tensors().items():
            if isinstance(tensor, Parameter):
                names.setdefault(tensor, name)
        return {name: parameter for parameter, name in names.items()}

    def parameters(self) -> list[Parameter]:
        return list(self.named_parameters().values())

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside this block the parameters are constants: gradients flow through, not to them.

        For G's step: its loss passes through D, whose gradients would be computed for nothing.
        """
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in learning:
                parameter.requires_grad = True

    def modules(self) -> Iterator["Module"]:
        """The module itself and all those inside it."""
        return (module for _, module in self._inside() if isinstance(module, Module))

    def train(self, training: bool = True) -> "Module":
        """Behave as in training: Dropout drops, BatchNorm uses the batch's own statistics."""
        for module in self.modules():
            module.training = training
        return self

    def eval(self) -> "Module":
        """Behave as after training: Dropout rests, BatchNorm uses its running statistics."""
        return self.train(False)

    def state(self) -> dict[str, numpy.ndarray]:
        """Copies of all parameters and running statistics, in main memory, by name."""
        return {name: to_host(tensor.data).copy() for name, tensor in self.named_tensors().items()}

    def load_state(self, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Take over what state() gave.

        Raises ValueError, and changes nothing, where a name, a shape or a dtype differs.
        """
        require_same_arrays(self.state(), arrays, type(self).__name__)
        for name, tensor in self.named_tensors().items():
            tensor.data[...] = to_device(arrays[name])
            tensor.data = tensor.data  # tells the tape that its numbers changed


def _named(prefix: str, value: Any) -> Iterator[tuple[str, Tensor | Module]]:
    """Tensors and Modules of a dict, list or tuple, or of those inside it, by their places."""
    for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        if isinstance(item, Tensor | Module):
            yield f"{prefix}{name}", item
        elif not hasattr(item, "__iter__"):  # most attributes are numbers
            continue
        elif isinstance(item, Mapping | list | tuple | deque):
            yield from _named(f"{prefix}{name}.", item)
        elif isinstance(item, Set | ValuesView) or str(getattr(item, "dtype", "")) == "object":
            if any(isinstance(x, Tensor | Module) for x in item):
                kind = type(item).__name__
                raise TypeError(f"{prefix}{name}: keep layers in a list or a dict, not in a {kind}")


class Sequential(Module):
    """One layer after the other."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


# ---------------------------------------------------------------- layers with weights


class Dense(Module):
    """y = x W + b: (N, inputs) -> (N, outputs), W (inputs, outputs).

    W starts from N(0, scale^2), by default with scale = 1 / sqrt(inputs), so that outputs are
    as large as inputs (LeCun et al. 1998, "Efficient BackProp", eq. 16); b starts at 0.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, scale: float | None = None):
        scale = 1 / math.sqrt(inputs) if scale is None else scale
        self.weight = Parameter(random_normal(inputs, outputs, scale=scale))
        self.bias = Parameter(xp.zeros(outputs, dtype=xp.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = functions.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


class Conv2d(Module):
    """convolution.conv2d and a bias: (N, H, W, inputs) -> (N, OH, OW, outputs).

    The weight (K, K, inputs, outputs) starts from N(0, scale^2), scale = 0.02 by default
    (Radford et al. 2015, section 4), the bias at 0.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, padding: int = 0,
        bias: bool = True, scale: float = 0.02,
    ):
        self.stride, self.padding = operator.index(stride), operator.index(padding)
        self.weight = Parameter(random_normal(kernel, kernel, inputs, outputs, scale=scale))
        self.bias = Parameter(xp.zeros(outputs, dtype=xp.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = convolution.conv2d(x, self.weight, self.stride, self.padding)
        return y if self.bias is None else y + self.bias


class ConvTranspose2d(Module):
    """convolution.conv_transpose2d and a bias: (N, OH, OW, inputs) -> (N, H, W, outputs).

    H = stride (OH - 1) + kernel - 2 padding: kernel 4, stride 2, padding 1 doubles a size.
    The weight (K, K, outputs, inputs) starts from N(0, scale^2), scale = 0.02 by default
    (Radford et al. 2015, section 4), the bias at 0.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, padding: int = 0,
        bias: bool = True, scale: float = 0.02,
    ):
        self.stride, self.padding = operator.index(stride), operator.index(padding)
        self.weight = Parameter(random_normal(kernel, kernel, outputs, inputs, scale=scale))
        self.bias = Parameter(xp.zeros(outputs, dtype=xp.float32)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = convolution.conv_transpose2d(x, self.weight, self.stride, self.padding)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """Row i of a table for each of the class_labels: (N,) -> (N, features).

    The table starts from N(0, 1).
    """

    def __init__(self, count: int, features: int):
        self.weight = Parameter(random_normal(count, features))

    def forward(self, indices: Any) -> Tensor:
        rows = functions.class_labels(indices, len(self.weight), "Embedding")
        return functions.select(self.weight, rows)


# ---------------------------------------------------------------- layers without weights


class Dropout(Module):
    """In training, each number is 0 with probability rate, else divided by 1 - rate.

    Srivastava et al. 2014. The mean stays the same, so eval() has nothing to correct.
    Raises ValueError for a rate outside [0, 1).
    """

    def __init__(self, rate: float = 0.5):
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout: the rate is from 0 to below 1, not {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = random_uniform(*x.shape) >= self.rate
        return x * (kept.astype(x.dtype) * (1 / (1 - self.rate)))


class RandomTranslation(Module):
    """In training, each image moves by up to max_shift pixels down or up, and right or left.

    The first layer of D, for real and generated images alike: D can't learn a small data set by
    heart, and G still gets a gradient (Zhao et al. 2020, "DiffAugment"). Zeros move in.
    """

    def __init__(self, max_shift: int):
        self.max_shift = operator.index(max_shift)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.max_shift == 0:
            return x
        moves = random_integers(-self.max_shift, self.max_shift + 1, 2, len(x), axis=1)
        return functions.translate(x, *moves)


class OneHotCode(Module):
    """The largest of the first count numbers of a row becomes sqrt(count), the others of them 0.

    (N, count + F) -> (N, count + F). As the first layer of G it turns noise from N(0, 1) into one
    of count equally likely codes, on average as large as the noise was, and F numbers that stay.
    No path leads from one code to another, so G need not fill the gaps between kinds of images.
    Small changes of the noise don't change the code: no gradient flows to what chose it.
    """

    def __init__(self, count: int):
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        largest = x.data[:, : self.count].argmax(axis=1)
        code = functions.one_hot(largest, self.count) * math.sqrt(self.count)
        return functions.concatenate([code, x[:, self.count :]], axis=1)


class Flatten(Module):
    """(N, ...) -> (N, the product of the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        return functions.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


class Reshape(Module):
    """(N, ...) -> (N, *shape)."""

    def __init__(self, *shape: int):
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return functions.reshape(x, (x.shape[0], *self.shape))


class AddConstant(Module):
    """y = x + amount, for a fixed amount."""

    def __init__(self, amount: float):
        self.amount = amount

    def forward(self, x: Tensor) -> Tensor:
        return x + self.amount


class Upsample(Module):
    """Each pixel becomes factor x factor equal ones: (N, H, W, C) -> (N, fH, fW, C)."""

    def __init__(self, factor: int = 2):
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        (n, height, width, channels), f = x.shape, self.factor
        pixels = functions.reshape(x, (n, height, 1, width, 1, channels))
        repeated = functions.broadcast_to(pixels, (n, height, f, width, f, channels))
        return functions.reshape(repeated, (n, height * f, width * f, channels))


class PixelShuffle(Module):
    """The channels of a pixel become f x f pixels: (N, H, W, f f C) -> (N, fH, fW, C).

    y[n, f i + a, f j + b, c] = x[n, i, j, (a, b, c)]. Shi et al. 2016, eq. 4: a convolution
    before it learns to enlarge, and is computed at the small size.
    """

    def __init__(self, factor: int = 2):
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        (n, height, width, channels), f = x.shape, self.factor
        if channels % f**2:
            raise functions.ShapeError(f"PixelShuffle({f}): {channels} channels are not {f**2} C")
        blocks = functions.reshape(x, (n, height, width, f, f, channels // f**2))
        lines = functions.transpose(blocks, (0, 1, 3, 2, 4, 5))                # (N, H, f, W, f, C)
        return functions.reshape(lines, (n, f * height, f * width, channels // f**2))


class MinibatchDeviation(Module):
    """One more channel: how much the batch varies, the mean deviation of all its numbers.

    (N, H, W, C) -> (N, H, W, C + 1). Karras et al. 2018, section 3: late in D, it shows images
    that are all alike to be generated ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        deviation = functions.sqrt(functions.var(x, axis=0) + 1e-8).mean()
        same = functions.broadcast_to(deviation, (*x.shape[:3], 1))
        return functions.concatenate([x, same], axis=3)


class ReLU(Module):
    """y = max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return functions.relu(x)


class LeakyReLU(Module):
    """y = max(x, slope x)."""

    def __init__(self, slope: float = 0.2):
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return functions.leaky_relu(x, self.slope)


class Tanh(Module):
    """y = tanh(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return functions.tanh(x)


def require_same_arrays(
    expected: Mapping[str, numpy.ndarray], given: Mapping[str, numpy.ndarray], owner: str
) -> None:
    """Raise a ValueError that names the first array that is missing, left over or different.

    Arrays of integers are counts, such as an optimizer's steps: they must not be negative.
    """
    for name, array in expected.items():
        if name not in given:
            raise ValueError(f"{owner} needs an array {name!r}, which is missing")
        found = given[name]
        if found.shape != array.shape or found.dtype != array.dtype:
            raise ValueError(
                f"{owner}: {name!r} is {found.dtype} of shape {found.shape}, "
                f"but {array.dtype} of shape {array.shape} was expected"
            )
        if array.dtype.kind == "i" and (found < 0).any() and (array >= 0).all():
            raise ValueError(f"{owner}: {name!r} counts from 0 and cannot be {found}")
    for name in given:
        if name not in expected:
            raise ValueError(f"{owner} has no array {name!r}, which was given")
