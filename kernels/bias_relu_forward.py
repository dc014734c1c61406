"""y = relu(z + b), with a packed mask and counts per unit, in one pass.

    s = z + b;   y = 0 where s <= 0, else s;   bit = s > 0
    active[j] = number of rows with y > 0;   nonfinite[j] = number of rows where y is inf or NaN

Shapes   z, y (..., B, O); b (..., 1, O); mask uint32 (..., B, ceil(O/32)); active, nonfinite int64 (..., O).
Bytes    per element, with E bytes a number: read E, write E + 1/8; the counts and b are negligible for B >> 1.
         (float32: 8.125. An ordinary store that misses the cache reads the line first: 12.125.)
Special  s = -inf, ±0 -> +0, inactive; +inf -> +inf, active and non-finite; NaN -> NaN, inactive and non-finite.
         Selecting with `s <= 0` lets NaN through, and no multiplication can make 0·inf.
16 bits  z, b and y of float16 or bfloat16 (CUDA and the reference): s in float32, y = relu(s) rounded once to the nearest, ties
         to even, which may be +inf; mask and counts are those of that y. The bit is s > 0 all the same, however many are added:
         all are multiples of the smallest subnormal number, and so are their sums, in float32 too: no s > 0 rounds to 0.
Exact    y, mask and counts are bit-equal on every backend, where one NaN is as good as another. `y` may be `z` itself.
"""

from __future__ import annotations

import numpy as np

from ..backend import array_module
from . import _cuda
from ._jit import AHEAD, ROWS, SPARE
from .mask import BITS, pack
from .narrow import wide


def reference(z, b, y, mask, active, nonfinite, skip):
    """`skip` is there for residual_relu.py, which shares the compiled loops; here it is not read."""
    rectify(wide(z) + wide(b), y, mask, active, nonfinite)


def rectify(s, y, mask, active, nonfinite):
    """What is done with the pre-activation s, in NumPy's words."""
    xp = array_module(s)
    y[...] = xp.where(s <= 0, 0, s)
    y = wide(y)
    mask[...] = pack(y > 0)
    active[...] = (y > 0).sum(axis=-2)
    nonfinite[...] = (~xp.isfinite(y)).sum(axis=-2)


def numba(njit, lanes, streaming, residual=False, counting=True):
    """The loops return 1 if any y is inf or NaN, else 0; and -1 if the arrays do not fit (`_fits.py`).

    Who wants no counts of the non-finite gives an empty `nonfinite`; without `counting`, which the benchmark compares with,
    there are no counts at all, nor anything in the scratch that could be combined.
    """
    from . import _columns as columns
    from . import _fits as fits

    @njit
    def loops(z, b, y, mask, active, nonfinite, skip, scratch, begin, end):
        if begin < -1 and not fits.forward(z, b, y, mask, skip):
            return -1
        if begin < -2:
            return int(fits.streams(z, y, end))
        rows, units = z.shape[-2:]
        words = mask.shape[-1]
        replicas = active.size // units
        active = active.reshape((replicas, units))
        packed = mask.reshape(mask.size)
        chunks = (rows + ROWS - 1) // ROWS
        width = lanes.width(z)
        padded = units + SPARE
        on = np.empty((replicas * chunks, padded), scratch.dtype) if begin < 0 else scratch  # the active rows of each task
        group = columns.GROUP if streaming else ROWS
        planes = np.empty(columns.DIGITS * words, np.uint32)
        flag = padded - 1  # the column that says whether a task met an infinity or a NaN

        def some(load, r, o, j):  # the units that `load` takes at once, from number j of the row at o
            s = load(z, o + j)
            if residual:
                s = lanes.add(s, load(skip, o + j))
            v = lanes.relu(lanes.add(s, load(b, r * units + j)))
            if streaming:
                lanes.stream(v, y, o + j)
            else:
                lanes.store(v, y, o + j)
            return v

        def bits(v, j):
            return lanes.bits(lanes.positive(v)) << np.uint32(j % BITS)

        for task in range(max(begin, 0), replicas * chunks if begin < 0 else end):
            r, first = task // chunks, task % chunks * ROWS
            last = min(rows, first + ROWS)
            nought, odd = lanes.zeros(z), lanes.zeros(z)  # Σ 0·v is NaN as soon as one v is infinite or NaN
            strange = np.uint32(0)
            planes[:] = 0
            for start in range(first, last, group):
                stop = min(last, start + group)
                for i in range(start, stop):
                    o, m = (r * rows + i) * units, (r * rows + i) * words
                    for w in range(units // BITS):
                        word = np.uint32(0)
                        for k in range(0, BITS, width):
                            if streaming:
                                lanes.prefetch(z, o + w * BITS + k + AHEAD // z.itemsize)
                            v = some(lanes.load, r, o, w * BITS + k)
                            word |= bits(v, k)
                            if counting:
                                odd = lanes.fma(v, nought, odd)
                        packed[m + w] = word
                    if units % BITS:
                        word, j = np.uint32(0), units // BITS * BITS
                        while j + width <= units:
                            v = some(lanes.load, r, o, j)
                            word |= bits(v, j)
                            if counting:
                                odd = lanes.fma(v, nought, odd)
                            j += width
                        if width > 1 and j + width // 2 <= units:
                            h = some(lanes.half, r, o, j)
                            word |= bits(h, j)
                            strange |= lanes.bits(lanes.huge(h))
                            j += width // 2
                        while j < units:
                            x = some(lanes.one, r, o, j)
                            word |= bits(x, j)
                            strange |= lanes.bits(lanes.huge(x))
                            j += 1
                        packed[m + words - 1] = word
                if counting:
                    columns.add(packed, (r * rows + start) * words, stop - start, words, planes)
            if counting:
                on[task, flag] = (strange | lanes.bits(lanes.huge(odd))) != 0
                columns.spell(planes, words, on, task * padded)
        met = 0
        for r in range(replicas if begin < 0 or end < 0 else 0):
            columns.total(on, r * chunks, (r + 1) * chunks, active[r])
            for task in range(r * chunks, (r + 1) * chunks):
                if on[task, flag]:
                    met = 1
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
        arguments, shared = (*arrays, *scratch, *shape.sizes), shape.shared(xp.uint32)
        _cuda.launch(PARTS, entry, (shape.blocks(),), (shape.x, shape.y), arguments, shared=shared)
        return
    for counted in (mask, active, nonfinite):
        counted.fill(0)
    threads = z.size if version == 1 else z.size // shape.units * -(-shape.units // (32 * shape.V)) * 32
    _cuda.launch(PARTS, entry, _cuda.spread(threads), (_cuda.THREADS,), (*arrays, *shape.sizes))
