"""Products of matrices and stacks of matrices, and sums over their rows, by the quickest way that gives the same bits.

- `times(a, b)`: a @ b.                    - `row_sums(g)`: Σ over the second last axis, which stays with length 1.

A matrix in a stack gives bit for bit what it gives alone: replicas rely on it (tests/test_replicas.py).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import kernels

Array = Any

ndarray, dot = np.ndarray, np.dot
LARGE = kernels.POOLED_FROM // 4  # entries of a product that is worth memory of the pool


def times(a: Array, b: Array) -> Array:
    """a @ b. On NumPy matrices `dot`, which calls the same BLAS with the same bits at half the overhead.

    Large products get memory of the pool. A stack of products with one term in each sum goes matrix by matrix, as
    matmul does not hand these to BLAS.
    """
    if type(a) is not ndarray or type(b) is not ndarray:
        return a @ b
    if a.ndim == b.ndim == 2:
        if not (a.flags.forc and b.flags.forc):
            a, b = in_order(a), in_order(b)
        if len(a) * b.shape[1] < LARGE or a.dtype is not b.dtype:
            return dot(a, b)
        return dot(a, b, kernels.empty((len(a), b.shape[1]), a.dtype))
    a, b = in_order(a), in_order(b)
    if a.ndim == b.ndim == 3 and a.shape[2] == 1 and len(a) == len(b):
        out = np.empty((len(a), a.shape[1], b.shape[2]), a.dtype)
        for left, right, product in zip(a, b, out, strict=True):
            dot(left, right, product)
        return out
    return np.matmul(a, b, order="C")


def in_order(a: np.ndarray) -> np.ndarray:
    """`a`, copied unless its matrices, or their transposes, are contiguous.

    Of others `dot` copies a matrix, but not a column, and hands it to BLAS; matmul sums a stack by itself, in another order.
    """
    if a.flags.c_contiguous or a.ndim < 2 or not a.size or a[(0,) * (a.ndim - 2)].flags.forc:
        return a
    return np.ascontiguousarray(a)


@functools.lru_cache(maxsize=64)
def _ones(rows: int, dtype: str) -> np.ndarray:
    return np.ones((1, rows), dtype)


def row_sums(g: Array) -> Array:
    """Σ over the batch of g (..., B, O), (..., 1, O); on a NumPy matrix as a product with ones, the quicker way."""
    if type(g) is ndarray:
        g = g if g.flags.c_contiguous else in_order(g)
        return _ones(g.shape[-2], g.dtype.char) @ g if g.ndim > 2 else dot(_ones(len(g), g.dtype.char), g)
    return g.sum(axis=-2, keepdims=True)
