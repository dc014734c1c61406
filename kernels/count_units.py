"""How many rows each unit is active (y > 0) and non-finite (inf or NaN) in, for any given y.

    active[j] = Σ_rows [y > 0];   nonfinite[j] = Σ_rows [y is inf or NaN]

Shapes   y (..., B, O); active, nonfinite int64 (..., O).
Bytes    per element: read E.
Special  +inf counts as active and as non-finite, -inf and NaN as non-finite only.
Exact    bit-equal on every backend, and equal to what `bias_relu_forward` counts for the same y.
"""

from __future__ import annotations

import numpy as np

from ..backend import array_module
from ._jit import ROWS


def reference(y, active, nonfinite):
    active[...] = (y > 0).sum(axis=-2)
    nonfinite[...] = (~array_module(y).isfinite(y)).sum(axis=-2)


def numba(njit, span, in_place):
    @njit
    def loops(y, active, nonfinite):
        rows, units = y.shape[-2:]
        replicas = y.size // (rows * units)
        y = y.reshape((replicas, rows, units))
        active, nonfinite = active.reshape((replicas, units)), nonfinite.reshape((replicas, units))
        chunks = (rows + ROWS - 1) // ROWS
        zero, inf = y.dtype.type(0), y.dtype.type(np.inf)
        on = np.zeros((replicas * chunks, units), np.int32)
        wild = np.zeros((replicas * chunks, units), np.int32)
        for task in span(replicas * chunks):
            r, first = task // chunks, task % chunks * ROWS
            for i in range(first, min(rows, first + ROWS)):
                for j in range(units):
                    v = y[r, i, j]
                    on[task, j] += np.int32(v > zero)
                    wild[task, j] += np.int32(0) if abs(v) < inf else np.int32(1)
        for r in range(replicas):
            for j in range(units):
                a, n = 0, 0
                for task in range(r * chunks, (r + 1) * chunks):
                    a += on[task, j]
                    n += wild[task, j]
                active[r, j], nonfinite[r, j] = a, n

    return loops
