"""SGD, RMSProp, Adam, and the moving average of a network's weights.

Letters: g the gradient of a parameter, a the learning rate (lr), t the number of the step.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy

from .backend import device, fused, move_towards, to_device, to_host, world, xp
from .layers import Module, require_same_arrays
from .tensor import Tensor


class Optimizer:
    """Moves parameters against their gradients, and remembers what it needs for the next step.

    A subclass names the arrays it remembers for each parameter and writes its update, which
    changes arrays in place: _move(weights, gradient, *those arrays, *what _rates() gives).
    Raises ValueError without parameters, and for a learning rate that is not above 0.
    """

    memories: tuple[str, ...] = ()

    def __init__(self, parameters: Sequence[Tensor], lr: float):
        self.parameters = list(dict.fromkeys(parameters))  # each once
        if not self.parameters:
            raise ValueError("an optimizer needs parameters: pass network.parameters()")
        if not lr > 0:
            raise ValueError(f"the learning rate is above 0, not {lr}")
        self.lr = lr
        self.steps = 0
        self.memory = {
            name: [xp.zeros_like(parameter.data) for parameter in self.parameters]
            for name in self.memories
        }

    def zero_grad(self) -> None:
        """Forget the gradients, which backward() adds up."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Move every parameter once. Raises ValueError where one has no gradient."""
        for number, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                raise ValueError(
                    f"parameter {number}, of shape {parameter.shape}, has no gradient: call "
                    "backward() first, on a loss that it had a part in"
                )
        world.average([parameter.grad.data for parameter in self.parameters])
        self.steps += 1
        rates = self._rates()
        for number, parameter in enumerate(self.parameters):
            memory = [self.memory[name][number] for name in self.memories]
            for block in blocks(parameter.data, parameter.grad.data, *memory):
                self._move(*block, *rates)
            parameter.data = parameter.data  # tells the tape that its numbers changed

    def state(self) -> dict[str, numpy.ndarray]:
        """What a resumed run needs: the number of steps and the remembered arrays, by name."""
        arrays = {"steps": numpy.array(self.steps)}
        for name, values in self.memory.items():
            arrays |= {f"{name}.{i}": to_host(value).copy() for i, value in enumerate(values)}
        return arrays

    def load_state(self, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Take over what state() gave. Raises ValueError where names, shapes or dtypes differ."""
        require_same_arrays(self.state(), arrays, type(self).__name__)
        self.steps = int(arrays["steps"])
        for name, values in self.memory.items():
            for i, value in enumerate(values):
                value[...] = to_device(arrays[f"{name}.{i}"])


class SGD(Optimizer):
    """v <- momentum v + g;  w <- w - a v.  Polyak 1964, as in Sutskever et al. 2013."""

    memories = ("velocity",)

    def __init__(self, parameters: Sequence[Tensor], lr: float, *, momentum: float = 0.0):
        super().__init__(parameters, lr)
        self.momentum = momentum

    def _rates(self) -> tuple[float, ...]:
        return self.lr, self.momentum

    @staticmethod
    @fused
    def _move(weights: Any, gradient: Any, velocity: Any, lr: float, momentum: float) -> None:
        velocity *= momentum
        velocity += gradient
        weights -= lr * velocity


class RMSProp(Optimizer):
    """v <- d v + (1 - d) g^2;  w <- w - a g / (sqrt(v) + epsilon).  Hinton 2012, lecture 6e."""

    memories = ("mean_square",)

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, *, decay: float = 0.99, epsilon: float = 1e-8
    ):
        super().__init__(parameters, lr)
        self.decay, self.epsilon = decay, epsilon

    def _rates(self) -> tuple[float, ...]:
        return self.lr, self.decay, 1 - self.decay, self.epsilon

    @staticmethod
    @fused
    def _move(
        weights: Any, gradient: Any, mean_square: Any,
        lr: float, decay: float, one_minus_decay: float, epsilon: float,
    ) -> None:
        mean_square *= decay
        mean_square += one_minus_decay * (gradient * gradient)
        weights -= lr * gradient / (xp.sqrt(mean_square) + epsilon)


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - a m' / (sqrt(v') + epsilon).

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t) make up for the start at 0, betas are (b1, b2).
    Kingma and Ba 2015, algorithm 1. b1 = 0.5 is Radford et al. 2015's choice for GANs: with 0.9
    the players overshoot.
    """

    memories = ("momentum", "square")

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, *,
        betas: tuple[float, float] = (0.5, 0.999), epsilon: float = 1e-8,
    ):
        super().__init__(parameters, lr)
        self.betas, self.epsilon = betas, epsilon

    def _rates(self) -> tuple[float, ...]:
        # momentum is m / (1 - b1) and square v / (1 - b2): two passes less over the weights.
        # The factors enter here: m' = momentum_scale momentum, sqrt(v') = root_scale sqrt(square).
        b1, b2 = self.betas
        momentum_scale = (1 - b1) / (1 - b1**self.steps)
        root_scale = ((1 - b2) / (1 - b2**self.steps)) ** 0.5
        return self.lr * momentum_scale / root_scale, b1, b2, self.epsilon / root_scale

    @staticmethod
    @fused
    def _move(
        weights: Any, gradient: Any, momentum: Any, square: Any,
        lr: float, b1: float, b2: float, epsilon: float,
    ) -> None:
        momentum *= b1
        momentum += gradient
        square *= b2
        square += gradient * gradient
        weights -= lr * (momentum / (xp.sqrt(square) + epsilon))


class ExponentialMovingAverage:
    """w' <- w' + (1 - d) (w - w'): a second network whose weights are an average of the first's.

    Polyak and Juditsky 1992; for GANs Yazici et al. 2019. The generator circles around its
    goal; the mean of its weights is nearer to it, and its pictures change more smoothly. Early
    on d is (1 + t) / (10 + t) if that is less than decay, so that the start is soon forgotten.
    network: the second network, a deep copy of the first, set to eval().
    Raises ValueError for a decay outside [0, 1).
    """

    def __init__(self, network: Module, *, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"the decay is from 0 to below 1, not {decay}")
        self.decay = decay
        self.steps = 0
        self.network = copy.deepcopy(network).eval()
        averages, latest = self.network.named_tensors(), network.named_tensors()
        self._pairs = {averages[name]: latest[name] for name in averages}  # each once

    def update(self) -> None:
        """Move the average one step towards the weights of the first network."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, latest in self._pairs.items():
            if average.dtype.kind != "f":  # a count, which has no average
                average.data[...] = latest.data
            else:
                for block, latest_block in blocks(average.data, latest.data):
                    move_towards(block, latest_block, 1 - decay)
            average.data = average.data

    def state(self) -> dict[str, numpy.ndarray]:
        """The average's arrays by name, and the number of steps."""
        return self.network.state() | {"steps": numpy.array(self.steps)}

    def load_state(self, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Take over what state() gave. Raises ValueError where names, shapes or dtypes differ."""
        require_same_arrays(self.state(), arrays, type(self).__name__)
        self.network.load_state({name: a for name, a in arrays.items() if name != "steps"})
        self.steps = int(arrays["steps"])


BLOCK = 65_536  # numbers: what a core's own cache holds of an update's arrays


def blocks(*arrays: Any) -> Iterator[list[Any]]:
    """Arrays of one size as flat views of at most BLOCK numbers, side by side, to be changed.

    An update passes over its arrays several times, and a block stays in the cache meanwhile.
    On the GPU, where each call is dear, the block is the whole.
    """
    if not all(array.flags.c_contiguous for array in arrays):
        yield [*arrays]  # to flatten these would be to copy them
        return
    flat = [array.reshape(-1) for array in arrays]
    size = BLOCK if device() == "cpu" else max(1, flat[0].size)
    for start in range(0, flat[0].size, size):
        yield [array[start : start + size] for array in flat]
