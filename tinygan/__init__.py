"""tinygan: generative adversarial networks, from the tape to the picture, to be read."""

from . import (
    backend,
    checkpoints,
    classifier,
    convolution,
    datasets,
    files,
    functions,
    layers,
    losses,
    metrics,
    optimizers,
    plots,
    training,
)
from .backend import device, seed, use_device
from .gradcheck import GradientMismatch, check_gradients
from .tensor import Tensor, grad, no_grad

__all__ = [
    "GradientMismatch", "Tensor", "backend", "check_gradients", "checkpoints", "classifier",
    "convolution", "datasets", "device", "files", "functions", "grad", "layers", "losses",
    "metrics", "no_grad", "optimizers", "plots", "seed", "training", "use_device",
]
