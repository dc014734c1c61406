"""minirelu: the laboratory for the dying ReLU.

    from minirelu import Tensor, nn, init, losses, optim, train, data, kernels, monitor, sweep

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
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """`minirelu.monitor` and `minirelu.sweep`, imported when they are asked for: not every training needs them."""
    if name in ("monitor", "sweep"):
        import importlib

        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
