"""y = relu(z + b), with a packed mask and counts per unit, in one pass.

    s = z + b;   y = 0 where s <= 0, else s;   bit = s > 0
    active[j] = number of rows with y > 0;   nonfinite[j] = number of rows where y is inf or NaN

Shapes   z, y (..., B, O); b (..., 1, O); mask uint32 (..., B, ceil(O/32)); active, nonfinite int64 (..., O).
Bytes    per element, with E bytes a number: read E, write E + 1/8; the counts and b are negligible for B >> 1.
         (float32: 8.125. An ordinary store that misses the cache reads the line first: 12.125.)
Special  s = -inf, ±0 -> +0, inactive; +inf -> +inf, active and non-finite; NaN -> NaN, inactive and non-finite.
         Selecting with `s <= 0` lets NaN through, and no multiplication can make 0·inf.
Exact    y, mask and counts are bit-equal on every backend. `y` may be `z` itself.
"""

from __future__ import annotations

import numpy as np

from ..backend import array_module
from ._jit import ROWS
from .mask import BITS, pack


@np.errstate(all="ignore")
def reference(z, b, y, mask, active, nonfinite):
    xp = array_module(z)
    s = z + b
    y[...] = xp.where(s <= 0, 0, s)
    mask[...] = pack(y > 0)
    active[...] = (y > 0).sum(axis=-2)
    nonfinite[...] = (~xp.isfinite(y)).sum(axis=-2)


def numba(njit, span, in_place):
    @njit
    def loops(z, b, y, mask, active, nonfinite):
        rows, units = z.shape[-2:]
        words = mask.shape[-1]
        replicas = z.size // (rows * units)
        z, y = z.reshape((replicas, rows, units)), y.reshape((replicas, rows, units))
        b, mask = b.reshape((replicas, units)), mask.reshape((replicas, rows, words))
        active, nonfinite = active.reshape((replicas, units)), nonfinite.reshape((replicas, units))
        if in_place:
            y = z
        chunks = (rows + ROWS - 1) // ROWS
        zero, inf = z.dtype.type(0), z.dtype.type(np.inf)
        on = np.zeros((replicas * chunks, units), np.int32)
        wild = np.zeros((replicas * chunks, units), np.int32)

        def block(z, b, y, on, first, n):  # n units of one row, from `first`; Numba inlines it, with n = 32 as a constant
            word, any_wild = np.uint32(0), np.uint32(0)
            for k in range(n):
                s = z[first + k] + b[first + k]
                v = zero if s <= zero else s
                bit = np.uint32(s > zero)
                y[first + k] = v
                word |= bit << np.uint32(k)
                on[first + k] += np.int32(bit)
                any_wild |= np.uint32(0) if v < inf else np.uint32(1)
            return word, any_wild

        for task in span(replicas * chunks):
            r, first = task // chunks, task % chunks * ROWS
            for i in range(first, min(rows, first + ROWS)):
                strange = np.uint32(0)
                for w in range(units // BITS):
                    mask[r, i, w], more = block(z[r, i], b[r], y[r, i], on[task], BITS * w, BITS)
                    strange |= more
                if units % BITS:
                    full = units // BITS
                    mask[r, i, full], more = block(z[r, i], b[r], y[r, i], on[task], BITS * full, units % BITS)
                    strange |= more
                if strange:
                    for j in range(units):
                        wild[task, j] += np.int32(0) if y[r, i, j] < inf else np.int32(1)
        for r in range(replicas):
            for j in range(units):
                a, n = 0, 0
                for task in range(r * chunks, (r + 1) * chunks):
                    a += on[task, j]
                    n += wild[task, j]
                active[r, j], nonfinite[r, j] = a, n

    return loops
