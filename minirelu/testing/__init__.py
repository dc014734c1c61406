"""Checks of gradients that are right at the kink, and are themselves checked.

    check_gradient(f, vjp, *args, rng=)     any f(*arrays) -> array with a hand-written, PyTorch or JAX gradient
    check_vjp(primitive, *arrays, rng=)     a primitive of minirelu, or your own
    check_layer(layer, x, rng=)             a layer or net, with its parameters
    check_optimizer(make, rng=)             an optimiser against its two-sequence textbook form
    check_scaler(make, rng=) check_affine_invariance(make, rng=)     scalers
    strategies                              Hypothesis strategies (needs the extra `test`)

Each returns a `Report`, raises `GradientMismatch` (an AssertionError that carries the report) if the answer is no, and
`NoVerdict` where no answer is possible. `python -m minirelu.testing score` checks the checks. docs/testing.md shows all this.
"""

from typing import Any

from .optimizers import check_optimizer
from .primitives import check_gradient, check_layer, check_vjp
from .report import Finding, GradientMismatch, NoVerdict, Report
from .scalers import check_affine_invariance, check_scaler

__all__ = [
    "Finding",
    "GradientMismatch",
    "NoVerdict",
    "Report",
    "check_affine_invariance",
    "check_gradient",
    "check_layer",
    "check_optimizer",
    "check_scaler",
    "check_vjp",
    "strategies",
]


def __getattr__(name: str) -> Any:
    """`testing.strategies`, imported when it is asked for: the checks work without Hypothesis."""
    if name == "strategies":
        import importlib

        return importlib.import_module(".strategies", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
