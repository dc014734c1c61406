"""dz = g where the unit was active, else 0, and db = Σ_rows dz, in one pass over g and the packed mask.

Shapes   g, dz (..., B, O); mask uint32 (..., B, ceil(O/32)); db (..., 1, O).
Bytes    per element, with E bytes a number: read E + 1/8, write E (float32: 8.125; 12.125 with a missing store).
Special  a select: an inactive unit gets +0.0 whatever g is, also for g = ±inf or NaN; an active one gets g bit for bit.
Exact    dz is bit-equal on every backend and may be `g` itself. db is a sum of B terms in an order of the backend's
         own; any order of summation is within (B - 1)·eps·Σ|dz| of the exact sum (Higham 2002, §4.2), to first order,
         so two backends differ by at most 2·(B - 1)·eps·Σ_rows|dz|.
16 bits  g of float16 or bfloat16 (CUDA and the reference): db is summed in float32 and rounded once to g's dtype, so it is
         within that bound, with the eps of float32, and half a unit in the last place of the exact sum.
"""

from __future__ import annotations

import numpy as np

from ..backend import array_module
from . import _cuda
from ._jit import AHEAD, ROWS, SPARE
from .mask import BITS, unpack
from .narrow import sums, wide


def reference(g, mask, dz, db):
    xp = array_module(g)
    dz[...] = xp.where(unpack(mask, g.shape[-1]), g, xp.zeros((), g.dtype))
    db[...] = wide(dz).sum(axis=-2, keepdims=True)


def numba(njit, lanes, streaming):
    """The loops return 0, and -1 if the arrays do not fit (`_fits.py`)."""
    from . import _fits as fits

    @njit
    def loops(g, mask, dz, db, scratch, begin, end):
        if begin < -1 and not fits.backward(g, mask, dz):
            return -1
        if begin < -2:
            return int(fits.streams(g, dz, end))
        rows, units = g.shape[-2:]
        words = mask.shape[-1]
        replicas = db.size // units
        db = db.reshape((replicas, units))
        chunks = (rows + ROWS - 1) // ROWS
        width = lanes.width(g)
        padded = units + SPARE
        partial = np.empty((replicas * chunks, padded), scratch.dtype) if begin < 0 else scratch

        def some(load, word, o, j, task):  # the units that `load` takes at once, from number j of the row at o
            d = lanes.keep(word >> np.uint32(j % BITS), load(g, o + j))
            if streaming:
                lanes.stream(d, dz, o + j)
            else:
                lanes.store(d, dz, o + j)
            lanes.accumulate(partial, task * padded + j, d)

        for task in range(max(begin, 0), replicas * chunks if begin < 0 else end):
            r, first = task // chunks, task % chunks * ROWS
            partial[task] = 0
            for i in range(first, min(rows, first + ROWS)):
                o, m = (r * rows + i) * units, (r * rows + i) * words
                for w in range(units // BITS):
                    word = mask.flat[m + w]
                    for k in range(0, BITS, width):
                        if streaming:
                            lanes.prefetch(g, o + w * BITS + k + AHEAD // g.itemsize)
                        some(lanes.load, word, o, w * BITS + k, task)
                if units % BITS:
                    word, j = mask.flat[m + words - 1], units // BITS * BITS
                    while j + width <= units:
                        some(lanes.load, word, o, j, task)
                        j += width
                    if width > 1 and j + width // 2 <= units:
                        some(lanes.half, word, o, j, task)
                        j += width // 2
                    while j < units:
                        some(lanes.one, word, o, j, task)
                        j += 1
        for r in range(replicas if begin < 0 or end < 0 else 0):
            db[r] = 0
            for task in range(r * chunks, (r + 1) * chunks):
                for j in range(units):
                    db[r, j] += partial[task, j]
        return 0

    return loops


def cuda(g, mask, dz, db, version=3):
    """The launch of relu_backward.cu; `version` is a step of its ladder, which differ in the order of db's sums alone."""
    shape, xp = _cuda.Shape.of(g, dz, db), array_module(g)
    entry = shape.entry("relu_backward", version, g.dtype)
    columns, block = shape.replicas * shape.units, (_cuda.THREADS,)
    if version == 1:
        _cuda.launch(("relu_backward",), entry, _cuda.spread(columns), block, (g, mask, dz, db, *shape.sizes))
        return
    partial, tickets = shape.scratch(xp, sums(g.dtype))
    if version == 2:
        partial = xp.empty(columns * shape.slabs, sums(g.dtype))
        threads = _cuda.spread(columns * shape.slabs // shape.V)
        _cuda.launch(("relu_backward",), entry, threads, block, (g, mask, dz, partial, *shape.sizes))
        add = f"relu_backward_sum_{_cuda.TYPES[g.dtype.name]}"
        _cuda.launch(("relu_backward",), add, _cuda.spread(columns), block, (partial, db, *shape.sizes))
        return
    arguments, shared = (g, mask, dz, db, partial, tickets, *shape.sizes), shape.shared(partial.dtype)
    _cuda.launch(("relu_backward",), entry, (shape.blocks(),), (shape.x, shape.y), arguments, shared=shared)
