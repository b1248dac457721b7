"""SGD, RMSProp, Adam, and the moving average of a network's weights.

Letters: g the gradient of a parameter, a the learning rate (lr), t the number of the step.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from .backend import blocks, follow, fused, to_device, to_host, xp
from .layers import Module, require_same_arrays
from .tensor import Tensor


class Optimizer:
    """Moves parameters against their gradients, and remembers what it needs for the next step."""

    memories: tuple[str, ...] = ()  # names of the arrays kept for each parameter

    def __init__(self, parameters: Sequence[Tensor], lr: float):
        self.parameters = list(parameters)
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
        self.steps += 1
        rates = self._rates()
        for number, parameter in enumerate(self.parameters):
            memory = [self.memory[name][number] for name in self.memories]
            for block in blocks(parameter.data, parameter.grad.data, *memory):
                self._move(*block, *rates)

    def _rates(self) -> tuple[float, ...]:
        """The numbers of this step that _move takes after its arrays."""
        raise NotImplementedError

    @staticmethod
    def _move(weights: Any, gradient: Any, *memory_and_rates: Any) -> None:
        """Change weights and memory in place."""
        raise NotImplementedError

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
        lr: float, decay: float, share: float, epsilon: float,
    ) -> None:
        mean_square *= decay
        mean_square += share * (gradient * gradient)
        weights -= lr * gradient / (xp.sqrt(mean_square) + epsilon)


class Adam(Optimizer):
    """Kingma and Ba 2015, algorithm 1, with betas (b1, b2):

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
    w <- w - a m' / (sqrt(v') + epsilon),  m' = m / (1 - b1^t),  v' = v / (1 - b2^t).

    b1 = 0.5 is Radford et al. 2015's choice for GANs: with 0.9 the players overshoot.
    The factors 1 - b1 and 1 - b2 are left out of m and v here and put into the step instead:
    the same update with fewer passes over the weights.
    """

    memories = ("momentum", "square")

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        *,
        betas: tuple[float, float] = (0.5, 0.999),
        epsilon: float = 1e-8,
    ):
        super().__init__(parameters, lr)
        self.betas, self.epsilon = betas, epsilon

    def _rates(self) -> tuple[float, ...]:
        b1, b2 = self.betas
        momentum_scale = (1 - b1) / (1 - b1**self.steps)
        square_scale = ((1 - b2) / (1 - b2**self.steps)) ** 0.5
        return self.lr * momentum_scale / square_scale, b1, b2, self.epsilon / square_scale

    @staticmethod
    @fused
    def _move(
        weights: Any, gradient: Any, momentum: Any, square: Any,
        rate: float, b1: float, b2: float, epsilon: float,
    ) -> None:
        momentum *= b1
        momentum += gradient
        square *= b2
        change = gradient * gradient
        square += change
        xp.sqrt(square, out=change)
        change += epsilon
        xp.divide(momentum, change, out=change)
        change *= rate
        weights -= change


class ExponentialMovingAverage:
    """A second network whose state follows that of the first: w' <- w' + (1 - d) (w - w').

    Polyak and Juditsky 1992; for GANs Yazici et al. 2019. The generator circles around its
    goal; the mean of its weights is nearer to it, and its pictures change more smoothly. Early
    on d is (1 + t) / (10 + t) if that is less than decay, so that the start is soon forgotten.
    average: the network that follows, a deep copy of the other, set to eval().
    """

    def __init__(self, network: Module, *, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"the decay is from 0 to below 1, not {decay}")
        self.decay = decay
        self.steps = 0
        self.average = copy.deepcopy(network).eval()
        latest = network.named_tensors()
        self._pairs = [(mean, latest[name]) for name, mean in self.average.named_tensors().items()]

    def update(self) -> None:
        """Follow the network by one step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, latest in self._pairs:
            for mean, value in blocks(average.data, latest.data):
                follow(mean, value, 1 - decay)

    def state(self) -> dict[str, numpy.ndarray]:
        """The average's arrays by name, and the number of steps."""
        return self.average.state() | {"steps": numpy.array(self.steps)}

    def load_state(self, arrays: Mapping[str, numpy.ndarray]) -> None:
        """Take over what state() gave. Raises ValueError where names, shapes or dtypes differ."""
        require_same_arrays(self.state(), arrays, type(self).__name__)
        self.average.load_state({name: a for name, a in arrays.items() if name != "steps"})
        self.steps = int(arrays["steps"])
