"""tinygan: generative adversarial networks, from the tape to the picture, to be read."""

from . import backend, convolution, functions, gradcheck, layers, losses, optimizers, tensor
from .backend import device, seed, use_device
from .gradcheck import GradientMismatch, check_gradients
from .tensor import Tensor, grad, no_grad
