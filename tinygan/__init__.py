"""A GAN library small enough to read in an afternoon: autograd, layers, losses and training."""

from . import (
    attention,
    backend,
    convolution,
    datasets,
    files,
    functions,
    layers,
    losses,
    networks,
    normalization,
    optimizers,
    plots,
    training,
)

from . import gradcheck, metrics  # isort: skip
from .backend import device, seed, use_device
from .gradcheck import GradientMismatch, check_gradients
from .tensor import Tensor, grad, no_grad

__all__ = [
    "GradientMismatch", "Tensor", "attention", "backend", "check_gradients", "convolution",
    "datasets", "device", "files", "functions", "grad", "gradcheck", "layers", "losses", "metrics",
    "networks", "no_grad", "normalization", "optimizers", "plots", "seed", "training", "use_device",
]
