"""tinygan: generative adversarial networks, from the tape to the picture, to be read."""

from . import (
    backend,
    convolution,
    datasets,
    files,
    functions,
    layers,
    losses,
    optimizers,
    plots,
    training,
)
from .backend import device, seed, use_device
from .gradcheck import GradientMismatch, check_gradients
from .tensor import Tensor, grad, no_grad

__all__ = [
    "GradientMismatch", "Tensor", "backend", "check_gradients", "convolution", "datasets",
    "device", "files", "functions", "grad", "layers", "losses", "no_grad", "optimizers", "plots",
    "seed", "training", "use_device",
]
