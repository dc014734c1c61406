"""minirelu: the laboratory for the dying ReLU.

    from minirelu import Tensor, nn, init, losses, optim, train, data, kernels, monitor

Importing it imports NumPy and nothing else.
"""

from . import backend, data, engine, errors, init, kernels, losses, monitor, nn, ops, optim, train
from .tensor import Tensor

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "backend",
    "data",
    "engine",
    "errors",
    "init",
    "kernels",
    "losses",
    "monitor",
    "nn",
    "ops",
    "optim",
    "train",
]
