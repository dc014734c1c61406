"""dz = g where the unit was active, else 0, and db = Σ_rows dz, in one pass over g and the packed mask.

Shapes   g, dz (..., B, O); mask uint32 (..., B, ceil(O/32)); db (..., 1, O).
Bytes    per element, with E bytes a number: read E + 1/8, write E (float32: 8.125; 12.125 with a missing store).
Special  a select: an inactive unit gets +0.0 whatever g is, also for g = ±inf or NaN; an active one gets g bit for bit.
Exact    dz is bit-equal on every backend and may be `g` itself. db is a sum of B terms in an order of the backend's
         own; any order of summation is within (B - 1)·eps·Σ|dz| of the exact sum (Higham 2002, §4.2), to first order,
         so two backends differ by at most 2·(B - 1)·eps·Σ_rows|dz|.
"""

from __future__ import annotations

import numpy as np

from ..backend import array_module
from ._jit import ROWS
from .mask import BITS, unpack


@np.errstate(all="ignore")
def reference(g, mask, dz, db):
    xp = array_module(g)
    dz[...] = xp.where(unpack(mask, g.shape[-1]), g, 0)
    db[...] = dz.sum(axis=-2, keepdims=True)


def numba(njit, span, in_place):
    @njit
    def loops(g, mask, dz, db):
        rows, units = g.shape[-2:]
        words = mask.shape[-1]
        replicas = g.size // (rows * units)
        g, dz = g.reshape((replicas, rows, units)), dz.reshape((replicas, rows, units))
        mask, db = mask.reshape((replicas, rows, words)), db.reshape((replicas, units))
        if in_place:
            dz = g
        chunks = (rows + ROWS - 1) // ROWS
        zero, one = g.dtype.type(0), np.uint32(1)
        partial = np.zeros((replicas * chunks, units), g.dtype)

        def block(g, word, dz, partial, first, n):  # n units of one row, from `first`; inlined, with n = 32 as a constant
            for k in range(n):
                d = g[first + k] if word & (one << np.uint32(k)) else zero
                dz[first + k] = d
                partial[first + k] += d

        for task in span(replicas * chunks):
            r, first = task // chunks, task % chunks * ROWS
            for i in range(first, min(rows, first + ROWS)):
                for w in range(units // BITS):
                    block(g[r, i], mask[r, i, w], dz[r, i], partial[task], BITS * w, BITS)
                if units % BITS:
                    full = units // BITS
                    block(g[r, i], mask[r, i, full], dz[r, i], partial[task], BITS * full, units % BITS)
        for r in range(replicas):
            for j in range(units):
                total = zero
                for task in range(r * chunks, (r + 1) * chunks):
                    total += partial[task, j]
                db[r, j] = total

    return loops
