"""Compilation of everything ahead of its first use."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from . import _jit
from .optimiser_step import RULES
from .train_mlp import Job, Net, fresh


def warm_up(dtype: Any = np.float32) -> float:
    """Compile what nets of `dtype` use, with and without replicas, small and large; returns the seconds it took.

    Read-only inputs, and results of 16 MB and more that are not in place, have variants of their own, which are compiled
    when they are met. Raises `TypeError` for other types than float32 and float64, for which nothing is compiled.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {np.dtype(dtype)}: nothing is compiled for other types")
    from .. import kernels  # which imports this file

    start = time.perf_counter()
    for rows in (1, _jit.PARALLEL_FROM):  # one size below and one above the one where the threads come in
        for shape in ((rows, 1), (1, rows, 1)):
            z = np.zeros(shape, dtype)
            y, mask, _, _ = kernels.bias_relu_forward(z, np.zeros((1, 1), dtype), out=z)
            kernels.residual_relu(y, y.copy(), out=y)
            kernels.relu_backward(y, mask, out=y)
            kernels.count_units(y)
            if rows == 1:
                W = np.zeros((*shape[:-2], 1, 1), dtype)
                y, mask, _, _ = kernels.small_affine(z, W, W, True)
                kernels.small_affine_backward(y, mask, z, W, True)
                for rule, (coefficients, state) in RULES.items():
                    kernels.optimiser_step(rule, y, y, [0.0] * len(coefficients), *(y.copy() for _ in state))
    _warm_up_training(np.dtype(dtype))
    return time.perf_counter() - start


def _warm_up_training(dtype: np.dtype[Any]) -> None:
    """One training of two steps compiles the loops that serve every net and every rule."""
    from .. import kernels

    X, y, one = np.zeros((2, 1), dtype), np.zeros(2), np.ones(1)
    net = Net(1, (1,))
    numbers = one, one / 2, one / 2, one, one, 0 * one
    job = Job(net, "adam", X, y, X, y, 2, np.zeros(1, np.uint64), *numbers, np.array([1], np.int64))
    kernels.train_mlp(job, fresh("adam", [np.zeros((1, *shape), dtype) for shape in net.shapes()], []))
