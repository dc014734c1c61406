"""minirelu: the laboratory for the dying ReLU.

    from minirelu import Tensor, nn, init, losses, optim, train, data, kernels, monitor

Importing it imports NumPy and nothing else.
"""

from typing import Any

from . import backend, data, engine, errors, init, kernels, losses, nn, ops, optim, train
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


def __getattr__(name: str) -> Any:
    """`minirelu.monitor`, imported when it is asked for: not every training counts its dead units."""
    if name == "monitor":
        import importlib

        return importlib.import_module(".monitor", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
