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
from . import _cuda
from ._jit import ROWS, SPARE
from .narrow import wide


def reference(y, active, nonfinite):
    y = wide(y)
    active[...] = (y > 0).sum(axis=-2)
    nonfinite[...] = (~array_module(y).isfinite(y)).sum(axis=-2)


def numba(njit, lanes, streaming):
    @njit
    def loops(y, active, nonfinite, scratch, begin, end):
        rows, units = y.shape[-2:]
        replicas = active.size // units
        active, nonfinite = active.reshape((replicas, units)), nonfinite.reshape((replicas, units))
        chunks = (rows + ROWS - 1) // ROWS
        width = lanes.width(y)
        wild = units + SPARE // 2  # the column where the counters of the non-finite begin
        padded = wild + units + SPARE // 2
        on = np.empty((replicas * chunks, padded), scratch.dtype) if begin < 0 else scratch  # ROWS cannot overflow 8 bits

        def units_of(x, task, j):
            lanes.tally(on, task * padded + j, lanes.positive(x))
            lanes.tally(on, task * padded + wild + j, lanes.wild(x))

        for task in range(max(begin, 0), replicas * chunks if begin < 0 else end):
            r, first = task // chunks, task % chunks * ROWS
            on[task] = 0
            for i in range(first, min(rows, first + ROWS)):
                o = (r * rows + i) * units
                j = 0
                while j + width <= units:
                    units_of(lanes.load(y, o + j), task, j)
                    j += width
                while j < units:
                    units_of(lanes.one(y, o + j), task, j)
                    j += 1
        for r in range(replicas if begin < 0 or end < 0 else 0):
            active[r] = 0
            nonfinite[r] = 0
            for task in range(r * chunks, (r + 1) * chunks):
                for j in range(units):
                    active[r, j] += np.int64(on[task, j])
                    nonfinite[r, j] += np.int64(on[task, wild + j])

    return loops


def cuda(y, active, nonfinite, version=3):
    """The launch of count_units.cu; `version` is a step of its ladder, each with the same result."""
    shape, xp = _cuda.Shape.of(y), array_module(y)
    entry = shape.entry("count_units", version, y.dtype)
    if version == 3:
        arguments, shared = (y, active, nonfinite, *shape.scratch(xp, xp.uint32), *shape.sizes), shape.shared(xp.uint32)
        _cuda.launch(("count_units",), entry, (shape.blocks(),), (shape.x, shape.y), arguments, shared=shared)
        return
    active.fill(0)
    nonfinite.fill(0)
    threads = y.size if version == 1 else shape.replicas * shape.slabs * shape.units // shape.V
    _cuda.launch(("count_units",), entry, _cuda.spread(threads), (_cuda.THREADS,), (y, active, nonfinite, *shape.sizes))
