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
from . import _cuda
from ._jit import AHEAD, ROWS, SPARE
from .mask import BITS, pack


def reference(z, b, y, mask, active, nonfinite, skip):
    """`skip` is there for residual_relu.py, which shares the compiled loops; here it is not read."""
    rectify(z + b, y, mask, active, nonfinite)


def rectify(s, y, mask, active, nonfinite):
    """What is done with the pre-activation s, in NumPy's words."""
    xp = array_module(s)
    y[...] = xp.where(s <= 0, 0, s)
    mask[...] = pack(y > 0)
    active[...] = (y > 0).sum(axis=-2)
    nonfinite[...] = (~xp.isfinite(y)).sum(axis=-2)


def numba(njit, lanes, streaming, residual=False):
    """The loops return whether any y is inf or NaN; who wants no counts of these gives an empty `nonfinite`."""

    @njit
    def loops(z, b, y, mask, active, nonfinite, skip, scratch, begin, end):
        rows, units = z.shape[-2:]
        words = mask.shape[-1]
        replicas = active.size // units
        active = active.reshape((replicas, units))
        chunks = (rows + ROWS - 1) // ROWS
        width = lanes.width(z)
        padded = units + SPARE
        # counters of 8 bits stay in the cache beside b and one row; ROWS of them cannot overflow
        on = np.zeros((replicas * chunks, padded), scratch.dtype) if begin < 0 else scratch
        flag = padded - 1  # the column that says whether a task met an infinity or a NaN

        def some(load, r, o, j, task):  # the units that `load` takes at once, from number j of the row at o
            s = load(z, o + j)
            if residual:
                s = lanes.add(s, load(skip, o + j))
            v = lanes.relu(lanes.add(s, load(b, r * units + j)))
            if streaming:
                lanes.stream(v, y, o + j)
            else:
                lanes.store(v, y, o + j)
            on_now = lanes.positive(v)
            lanes.tally(on, task * padded + j, on_now)
            return lanes.bits(on_now) << np.uint32(j % BITS), lanes.bits(lanes.huge(v))

        for task in range(max(begin, 0), replicas * chunks if begin < 0 else end):
            r, first = task // chunks, task % chunks * ROWS
            odd = np.uint32(0)
            for i in range(first, min(rows, first + ROWS)):
                o, m = (r * rows + i) * units, (r * rows + i) * words
                for w in range(units // BITS):
                    word = np.uint32(0)
                    for k in range(0, BITS, width):
                        if streaming:
                            lanes.prefetch(z, o + w * BITS + k + AHEAD // z.itemsize)
                        bits, strange = some(lanes.load, r, o, w * BITS + k, task)
                        word |= bits
                        odd |= strange
                    mask.flat[m + w] = word
                if units % BITS:
                    word, j = np.uint32(0), units // BITS * BITS
                    while j + width <= units:
                        bits, strange = some(lanes.load, r, o, j, task)
                        word |= bits
                        odd |= strange
                        j += width
                    if width > 1 and j + width // 2 <= units:
                        bits, strange = some(lanes.half, r, o, j, task)
                        word |= bits
                        odd |= strange
                        j += width // 2
                    while j < units:
                        bits, strange = some(lanes.one, r, o, j, task)
                        word |= bits
                        odd |= strange
                        j += 1
                    mask.flat[m + words - 1] = word
            on[task, flag] = odd != 0
        met = False
        for r in range(replicas if begin < 0 or end < 0 else 0):
            active[r] = 0
            for task in range(r * chunks, (r + 1) * chunks):
                if on[task, flag]:
                    met = True
                for j in range(units):
                    active[r, j] += np.int64(on[task, j])
        if nonfinite.size and (begin < 0 or end < 0):
            wild = nonfinite.reshape((replicas, units))
            for r in range(replicas):
                wild[r] = 0
                for task in range(r * chunks, (r + 1) * chunks):
                    if on[task, flag]:
                        first = (task - r * chunks) * ROWS
                        for i in range(first, min(rows, first + ROWS)):
                            for j in range(units):
                                wild[r, j] += np.int64(lanes.bits(lanes.huge(lanes.one(y, (r * rows + i) * units + j))))
        return met

    return loops


PARTS = ("bias_relu_forward", "residual_relu")


def cuda(z, b, y, mask, active, nonfinite, skip, version=3, kernel="bias_relu_forward"):
    """The launch of bias_relu_forward.cu; `version` is a step of its ladder, each with the same result."""
    shape, xp = _cuda.Shape.of(z, b, y, skip), array_module(z)
    arrays = (z, b, skip, y, mask, active, nonfinite)
    entry = shape.entry(kernel, version, z.dtype)
    if version == 3:
        scratch = shape.scratch(xp, xp.uint32)
        _cuda.launch(PARTS, entry, (shape.stay(),), (shape.x, shape.y), (*arrays, *scratch, *shape.sizes), shared=shape.shared)
        return
    for counted in (mask, active, nonfinite):
        counted.fill(0)
    threads = z.size if version == 1 else z.size // shape.units * -(-shape.units // (32 * shape.V)) * 32
    _cuda.launch(PARTS, entry, _cuda.spread(threads), (_cuda.THREADS,), (*arrays, *shape.sizes))
