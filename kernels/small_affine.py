"""A small affine layer, forward and backward, in one call each: where calls cost more than the arithmetic.

    small_affine            z = xW;   s = z + b;   y = relu(s) with mask and active rows as in bias_relu_forward.py, or y = s
    small_affine_backward   dz = g where the mask's bit is set, else 0;   db = Σ_rows dz;   dW = xᵀdz;   dx = dz Wᵀ

An empty `mask` stands for no ReLU, an empty `dx` for a gradient that nobody wants. dz is written over g.

Shapes   x, dx (..., B, I); W, dW (..., I, O); b, db (..., 1, O); y, g (..., B, O); mask uint32 (..., B, ceil(O/32));
         active int64 (..., O). All have the same leading axes. `is_small` says what is small; B is at most 64 then.
Bytes    all arrays stay in the first cache.
Special  the table of bias_relu_forward.py for s; sums follow IEEE arithmetic.
Exact    given the same z, y, masks and counts are bit-equal on every backend, and dz given the same g. z, db, dW and dx are
         sums of n = I, B, B and O products, compiled in order; any order is within n·eps·Σ|terms| of the exact sum (Higham
         2002, §3.1), to first order, so two backends differ by at most 2·n·eps·Σ|terms|. The order depends on nothing
         but n: a replica has the bits that it has alone.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..backend import array_module
from ._jit import SPARE
from .bias_relu_forward import rectify
from .mask import BITS, unpack

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)

# Products in a layer, with inputs and units counted in sixteens, up to which one call beats BLAS and several.
SMALL = 1 << 14


def is_small(rows, inputs, units):
    """Whether a layer is small. The answer depends on the sizes of one replica, so that its bits do."""
    return 0 < rows * (inputs + 15 & -16) * (units + 15 & -16) <= SMALL and inputs > 0 and units > 0


def taken(x: Any, W: Any, b: Any) -> tuple[Any, Any, Any] | None:
    """x, W and b as the loops take them, or None where the layer is not small, or not of NumPy arrays of one dtype.

    Which it is depends on (B, I, O), not on the leading axes: a replica goes the same way as a net by itself.
    """
    try:
        if not _small_shapes(x.shape, W.shape, b.shape):
            return None
    except AttributeError:  # a number among them, which the caller will refuse
        return None
    dtype = x.dtype
    same = W.dtype is dtype is b.dtype and (dtype is _F32 or dtype is _F64)
    if not same and not (W.dtype == dtype == b.dtype and dtype in (_F32, _F64)):  # a pickled array has a dtype of its own
        return None
    if type(x) is not np.ndarray:
        return None
    lead = x.shape[:-2]
    if lead == W.shape[:-2] == b.shape[:-2] and x.flags.c_contiguous and W.flags.c_contiguous and b.flags.c_contiguous:
        return x, W, b
    lead = np.broadcast_shapes(lead, W.shape[:-2], b.shape[:-2])
    x, W, b = (np.ascontiguousarray(np.broadcast_to(a, (*lead, *a.shape[-2:]))) for a in (x, W, b))
    return x, W, b


@functools.lru_cache(maxsize=1024)
def _small_shapes(x: tuple[int, ...], W: tuple[int, ...], b: tuple[int, ...]) -> bool:
    if not all(1 < len(shape) < 4 for shape in (x, W, b)) or x[-1] != W[-2] or b[-2:] != (1, W[-1]):
        return False
    replicas = {*x[:-2], *W[:-2]} - {1}
    if not set(b[:-2]) <= {*replicas, 1} or len(b) > max(len(x), len(W)):  # an axis that xW has not
        return False
    return len(replicas) < 2 and 0 not in replicas and is_small(x[-2], *W[-2:])


def reference(x, W, b, y, mask, active):
    xp = array_module(x)
    s = xp.matmul(x, W) + b
    if mask.size:
        rectify(s, y, mask, active, xp.empty_like(active))
    else:
        y[...] = s
    return bool((~xp.isfinite(y)).any())


def reference_backward(g, mask, x, W, db, dW, dx):
    xp = array_module(g)
    if mask.size:
        g[...] = xp.where(unpack(mask, g.shape[-1]), g, 0)
    db[...] = g.sum(axis=-2, keepdims=True)
    xp.matmul(x.swapaxes(-1, -2), g, out=dW)
    if dx.size:
        xp.matmul(g, W.swapaxes(-1, -2), out=dx)


def numba(njit, lanes, streaming):
    """The loops return whether any y is inf or NaN, if there is a ReLU."""

    @njit
    def loops(x, W, b, y, mask, active, scratch, begin, end):
        rows, inputs = x.shape[-2:]
        units, words, rectified = W.shape[-1], mask.shape[-1], mask.size > 0
        width = lanes.width(x)
        odd = np.uint32(0)
        on = np.zeros(units + SPARE, scratch.dtype)  # 64 rows cannot overflow 8 bits

        def some(load, r, i, j):  # the units that `load` takes at once, from number j of row i
            at, first = (r * rows + i) * inputs, r * inputs * units + j
            v = lanes.scale(load(W, first), lanes.one(x, at))
            for k in range(1, inputs):
                v = lanes.add(v, lanes.scale(load(W, first + k * units), lanes.one(x, at + k)))
            v = lanes.add(v, load(b, r * units + j))
            o = (r * rows + i) * units + j
            if not rectified:
                lanes.store(v, y, o)
                return np.uint32(0)
            v = lanes.relu(v)
            lanes.store(v, y, o)
            held = lanes.positive(v)
            lanes.tally(on, j, held)
            mask.flat[(r * rows + i) * words + j // BITS] |= lanes.bits(held) << np.uint32(j % BITS)
            return lanes.bits(lanes.huge(v))

        if begin >= 0 and end < 0:
            return False
        for r in range(b.size // units):
            if rectified:
                on[:] = 0
                for w in range(r * rows * words, (r + 1) * rows * words):
                    mask.flat[w] = 0
            for i in range(rows):
                j = 0
                while j + width <= units:
                    odd |= some(lanes.load, r, i, j)
                    j += width
                if width > 1 and j + width // 2 <= units:
                    odd |= some(lanes.half, r, i, j)
                    j += width // 2
                while j < units:
                    odd |= some(lanes.one, r, i, j)
                    j += 1
            if rectified:
                for j in range(units):
                    active.flat[r * units + j] = on[j]
        return odd != 0

    return loops


def numba_backward(njit, lanes, streaming):
    @njit
    def loops(g, mask, x, W, db, dW, dx, scratch, begin, end):
        rows, inputs = x.shape[-2:]
        units, words = W.shape[-1], mask.shape[-1]
        width = lanes.width(x)

        def kept(load, r, i, j):
            o = (r * rows + i) * units + j
            word = mask.flat[(r * rows + i) * words + j // BITS]
            lanes.store(lanes.keep(word >> np.uint32(j % BITS), load(g, o)), g, o)

        def summed(load, r, j):
            v = load(g, r * rows * units + j)
            for i in range(1, rows):
                v = lanes.add(v, load(g, (r * rows + i) * units + j))
            lanes.store(v, db, r * units + j)

        def product(
            load, out, o, a, at, step, b, first, stride, terms
        ):  # Σ_k a[at + k·step]·b[first + k·stride], for some lanes
            v = lanes.scale(load(b, first), lanes.one(a, at))
            for k in range(1, terms):
                v = lanes.add(v, lanes.scale(load(b, first + k * stride), lanes.one(a, at + k * step)))
            lanes.store(v, out, o)

        if begin >= 0 and end < 0:
            return
        turned = np.empty(units * inputs if dx.size else 0, x.dtype)  # Wᵀ
        for r in range(db.size // units):
            if words:
                for i in range(rows):
                    j = 0
                    while j + width <= units:
                        kept(lanes.load, r, i, j)
                        j += width
                    while j < units:
                        kept(lanes.one, r, i, j)
                        j += 1
            j = 0
            while j + width <= units:
                summed(lanes.load, r, j)
                j += width
            while j < units:
                summed(lanes.one, r, j)
                j += 1
            top, left = r * rows * units, r * rows * inputs
            for k in range(inputs):
                o = (r * inputs + k) * units
                j = 0
                while j + width <= units:
                    product(lanes.load, dW, o + j, x, left + k, inputs, g, top + j, units, rows)
                    j += width
                while j < units:
                    product(lanes.one, dW, o + j, x, left + k, inputs, g, top + j, units, rows)
                    j += 1
            if dx.size:
                for k in range(inputs):
                    for j in range(units):
                        turned[j * inputs + k] = W.flat[(r * inputs + k) * units + j]
                for i in range(rows):
                    o, at = left + i * inputs, top + i * units
                    k = 0
                    while k + width <= inputs:
                        product(lanes.load, dx, o + k, g, at, 1, turned, k, inputs, units)
                        k += width
                    while k < inputs:
                        product(lanes.one, dx, o + k, g, at, 1, turned, k, inputs, units)
                        k += 1

    return loops
