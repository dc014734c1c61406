"""Products and other steps of a net on matrices in *panels*, compiled; what `_train_mlp_loops.py` is made of.

A matrix (rows × columns) in panels is `width` columns (one vector of `_lanes.py`) of all its rows, one row after the other,
then the next columns. A product reads its operands in the order of memory then, and runs near the arithmetic limit of the
processor at sizes for which a BLAS call has hardly started. Rows and columns are filled up to whole tiles and vectors. What is
computed there is never read by what counts: sums over a batch, over units and over inputs go over the real ones alone.

Arrays come as (flat array, offset of the first element). Sizes: `rows` of a panel, filled up to a multiple of TILE; `batch` real
ones; `panels` of the result; `depth` rows of a panel of weights, the inputs filled up to a multiple of QUAD.
Imported at first use, as it needs Numba.
"""

import numba

from . import _jit

v = _jit.words()
inner = numba.njit(nogil=True, error_model="numpy")

TILE = 6  # rows of a product that are summed side by side: with their operands they fill the registers of AVX2
QUAD = 4  # inputs of a weight gradient, likewise


# -------------------------------------------------------------------------------------------------------- matrices


@inner
def product(a, a0, b, b0, depth, c, c0, rows, panels, inputs, start, s0, across, down, rectified):
    """C = start + A·B, rectified or not: A (rows, inputs) and C (rows, panels) in panels of `rows`, B's of `depth` rows.

    The start of column panel p and row i is the vector at s0 + p·across + i·down: a bias (down 0), a matrix, or nothing
    (both 0, over zeros). Each sum goes through the inputs in their order.
    """
    width = v.width(c)
    for p in range(panels):
        for i in range(0, rows, TILE):
            at = s0 + p * across + i * down
            x0, x1, x2 = v.load(start, at), v.load(start, at + down), v.load(start, at + 2 * down)
            x3, x4, x5 = v.load(start, at + 3 * down), v.load(start, at + 4 * down), v.load(start, at + 5 * down)
            left, right = a0 + i * width, b0 + p * depth * width
            for first in range(0, inputs, width):
                for k in range(left, left + min(width, inputs - first)):
                    y = v.load(b, right)
                    x0 = v.fma(v.repeat(a, k), y, x0)
                    x1 = v.fma(v.repeat(a, k + width), y, x1)
                    x2 = v.fma(v.repeat(a, k + 2 * width), y, x2)
                    x3 = v.fma(v.repeat(a, k + 3 * width), y, x3)
                    x4 = v.fma(v.repeat(a, k + 4 * width), y, x4)
                    x5 = v.fma(v.repeat(a, k + 5 * width), y, x5)
                    right += width
                left += rows * width
            if rectified:
                x0, x1, x2, x3, x4, x5 = v.relu(x0), v.relu(x1), v.relu(x2), v.relu(x3), v.relu(x4), v.relu(x5)
            to = c0 + (p * rows + i) * width
            v.store(x0, c, to)
            v.store(x1, c, to + width)
            v.store(x2, c, to + 2 * width)
            v.store(x3, c, to + 3 * width)
            v.store(x4, c, to + 4 * width)
            v.store(x5, c, to + 5 * width)


@inner
def gradient(a, a0, b, b0, rows, batch, c, c0, depth, panels):
    """C = Aᵀ·B over the first `batch` of `rows` rows: A (rows, depth), B (rows, panels) -> C (depth, panels), all in panels."""
    width = v.width(c)
    for p in range(panels):
        for i in range(0, depth, QUAD):
            x0 = v.zeros(c)
            x1 = x2 = x3 = x0
            left, right = a0 + (i // width * rows * width + i % width), b0 + p * rows * width
            for _ in range(batch):
                y = v.load(b, right)
                x0 = v.fma(v.repeat(a, left), y, x0)
                x1 = v.fma(v.repeat(a, left + 1), y, x1)
                x2 = v.fma(v.repeat(a, left + 2), y, x2)
                x3 = v.fma(v.repeat(a, left + 3), y, x3)
                left += width
                right += width
            to = c0 + (p * depth + i) * width
            v.store(x0, c, to)
            v.store(x1, c, to + width)
            v.store(x2, c, to + 2 * width)
            v.store(x3, c, to + 3 * width)


@inner
def transpose(a, a0, depth, panels, b, b0, units, inputs):
    """B = Aᵀ: A (inputs, units) in panels of `depth` rows -> B (units, inputs) in panels of `units` rows."""
    width = v.width(a)
    for p in range(panels):
        columns = min(width, units - p * width)
        for i in range(inputs):
            left = a0 + (p * depth + i) * width
            right = b0 + (i // width * units + p * width) * width + i % width
            for j in range(columns):
                b[right + j * width] = a[left + j]


# ------------------------------------------------------------------------------------------------ the last layer


@inner
def predict(h, h0, rows, panels, w, w0, c0, sums, s0, batch, o):
    """o = h·w + c."""
    width = v.width(h)
    for i in range(batch):
        v.store(v.times(v.load(h, h0 + i * width), v.load(w, w0)), sums, s0 + i * width)
    for p in range(1, panels):
        y = v.load(w, w0 + p * width)
        for i in range(batch):
            x = v.fma(v.load(h, h0 + (p * rows + i) * width), y, v.load(sums, s0 + i * width))
            v.store(x, sums, s0 + i * width)
    for i in range(batch):
        o[i] = v.total(v.load(sums, s0 + i * width)) + w[c0]


@inner
def predict_backward(e, h, h0, r, r0, rows, batch, panels, w, w0, d, d0, keep, z, z0, g, g0, b0):
    """From e = ∂L/∂o: dw = eᵀh; dz = e·w where r > 0; db = Σ dz; and with `keep` also d = e·w."""
    width = v.width(h)
    for p in range(panels):
        y, dw = v.load(w, w0 + p * width), v.zeros(h)
        db = dw
        for i in range(batch):
            at = (p * rows + i) * width
            x = v.repeat(e, i)
            dw = v.fma(x, v.load(h, h0 + at), dw)
            x = v.times(x, y)
            if keep:
                v.store(x, d, d0 + at)
            x = v.gate(v.load(r, r0 + at), x)
            v.store(x, z, z0 + at)
            db = v.add(db, x)
        v.store(dw, g, g0 + p * width)
        v.store(db, g, b0 + p * width)


@inner
def gate(r, r0, d, d0, z, z0, rows, batch, panels, g, b0):
    """dz = d where r > 0, else 0; db = Σ dz."""
    width = v.width(r)
    for p in range(panels):
        db = v.zeros(r)
        for i in range(batch):
            at = (p * rows + i) * width
            x = v.gate(v.load(r, r0 + at), v.load(d, d0 + at))
            v.store(x, z, z0 + at)
            db = v.add(db, x)
        v.store(db, g, b0 + p * width)


@inner
def add(a, a0, b, b0, c, c0, count):
    for at in range(0, count, v.width(a)):
        v.store(v.add(v.load(a, a0 + at), v.load(b, b0 + at)), c, c0 + at)


# --------------------------------------------------------------------------------------------------- batch norm


@inner
def normalise(z, z0, hat, hat0, r, r0, rows, batch, panels, x, scale, shift, work, root0, running, mean0, few, n0):
    """r = relu(scale·ẑ + shift), ẑ = (z − mean)/√(variance + eps) over the batch; the running statistics follow.

    `few` has from n0 on: 1/batch, eps, what the running statistics keep, what they take of mean and variance, and 1.
    """
    width = v.width(z)
    share, eps, one = v.repeat(few, n0), v.repeat(few, n0 + 1), v.repeat(few, n0 + 5)
    keep, take, take_more = v.repeat(few, n0 + 2), v.repeat(few, n0 + 3), v.repeat(few, n0 + 4)
    for p in range(panels):
        at, own = p * rows * width, p * width
        mean = v.zeros(z)
        for i in range(batch):
            mean = v.add(mean, v.load(z, z0 + at + i * width))
        mean = v.times(mean, share)
        spread = v.zeros(z)
        for i in range(batch):
            gap = v.minus(v.load(z, z0 + at + i * width), mean)
            spread = v.fma(gap, gap, spread)
        spread = v.times(spread, share)
        rest = v.over(one, v.root(v.add(spread, eps)))
        v.store(rest, work, root0 + own)
        here, there = mean0 + own, mean0 + (panels + p) * width
        v.store(v.fma(take, mean, v.times(keep, v.load(running, here))), running, here)
        v.store(v.fma(take_more, spread, v.times(keep, v.load(running, there))), running, there)
        slope, plus = v.load(x, scale + own), v.load(x, shift + own)
        for i in range(rows):
            n = at + i * width
            unit = v.times(v.minus(v.load(z, z0 + n), mean), rest)
            v.store(unit, hat, hat0 + n)
            v.store(v.relu(v.fma(slope, unit, plus)), r, r0 + n)


@inner
def normalise_backward(z, z0, hat, hat0, rows, batch, panels, x, scale, work, root0, g, b0, g_scale, g_shift, few, n0):
    """From dy in `z`: d shift = Σ dy (which is there already, at b0), d scale = Σ dy·ẑ, dz in place, db = 0."""
    width = v.width(z)
    share = v.repeat(few, n0)
    for p in range(panels):
        at, own = p * rows * width, p * width
        shift, slope = v.load(g, b0 + own), v.zeros(z)
        for i in range(batch):
            slope = v.fma(v.load(z, z0 + at + i * width), v.load(hat, hat0 + at + i * width), slope)
        v.store(shift, g, g_shift + own)
        v.store(slope, g, g_scale + own)
        v.store(v.zeros(z), g, b0 + own)
        shift, slope = v.times(shift, share), v.times(slope, share)
        factor = v.times(v.load(x, scale + own), v.load(work, root0 + own))
        for i in range(batch):
            n = at + i * width
            left = v.minus(v.load(z, z0 + n), shift)
            left = v.minus(left, v.times(v.load(hat, hat0 + n), slope))
            v.store(v.times(factor, left), z, z0 + n)


@inner
def normalise_by(z, z0, r, r0, rows, panels, x, scale, shift, running, mean0, few, n0):
    """r = relu(scale·(z − mean)/√(variance + eps) + shift) by the running statistics."""
    width = v.width(z)
    eps = v.repeat(few, n0 + 1)
    for p in range(panels):
        own = p * width
        mean, spread = v.load(running, mean0 + own), v.load(running, mean0 + (panels + p) * width)
        factor, plus = v.over(v.load(x, scale + own), v.root(v.add(spread, eps))), v.load(x, shift + own)
        for i in range(rows):
            n = (p * rows + i) * width
            v.store(v.relu(v.fma(v.minus(v.load(z, z0 + n), mean), factor, plus)), r, r0 + n)


# ----------------------------------------------------------------------------------------------------- counting


@inner
def count(r, r0, rows, batch, panels, active, nonfinite, at):
    """active += (r > 0), nonfinite += (r not finite): per unit, over the first `batch` rows."""
    width = v.width(r)
    for p in range(panels):
        for i in range(batch):
            x = v.load(r, r0 + (p * rows + i) * width)
            v.tally(active, at + p * width, v.positive(x))
            v.tally(nonfinite, at + p * width, v.huge(x))
