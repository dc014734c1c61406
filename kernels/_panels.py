"""Products and other steps of a net on matrices in *panels*, compiled; what `_train_mlp_loops.py` is made of.

A matrix (rows × columns) in panels is `width` columns (one vector of `_lanes.py`) of all its rows, one row after the other,
then the next columns. A product reads its operands in the order of memory then, and runs near the arithmetic limit of the
processor at sizes for which a BLAS call has hardly started. Rows and columns are filled up to whole tiles and vectors. What is
computed there is never read by what counts: sums over a batch, over units and over inputs go over the real ones alone.

Each function makes one panel, so that its caller can do all that is to be done with it while it is in the first cache. Arrays
come as (flat array, offset of the panel). Sizes: `rows` of a batch's panels, filled up to a multiple of TILE, of which the first
`batch` are real; `depth` rows of a panel of weights. Imported at first use, as it needs Numba.
"""

import numba

from . import _jit

v = _jit.words()
# Compiled without the entries for Python and C, which take as long as the loops; `small` ones become a part of their caller
# before anything is compiled at all.
inner = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
small = numba.njit(nogil=True, error_model="numpy", inline="always")

TILE = 6  # rows of a product that are summed side by side: with their operands they fill the registers of AVX2
QUAD = 4  # inputs of a weight gradient, likewise


# -------------------------------------------------------------------------------------------------------- matrices


@inner
def product(a, a0, b, b0, c, c0, rows, inputs, start, s0, down, rectified):
    """A panel of start + A·B, rectified or not: A (rows, inputs) from its first panel on, B (inputs, width).

    The start of row i is the vector at s0 + i·down: a bias or zeros (down 0), or a panel. Each sum goes through the inputs
    in their order.
    """
    width = v.width(c)
    for i in range(0, rows, TILE):
        at = s0 + i * down
        x0, x1, x2 = v.load(start, at), v.load(start, at + down), v.load(start, at + 2 * down)
        x3, x4, x5 = v.load(start, at + 3 * down), v.load(start, at + 4 * down), v.load(start, at + 5 * down)
        left, right = a0 + i * width, b0
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
        to = c0 + i * width
        v.store(x0, c, to)
        v.store(x1, c, to + width)
        v.store(x2, c, to + 2 * width)
        v.store(x3, c, to + 3 * width)
        v.store(x4, c, to + 4 * width)
        v.store(x5, c, to + 5 * width)


@inner
def gradient(a, a0, b, b0, rows, batch, c, c0, depth):
    """A panel of Aᵀ·B: A (batch, depth) from its first panel on, B (batch, width) -> (depth, width)."""
    width = v.width(c)
    for i in range(0, depth, QUAD):
        x0 = v.zeros(c)
        x1 = x2 = x3 = x0
        left, right = a0 + (i // width * rows * width + i % width), b0
        for _ in range(batch):
            y = v.load(b, right)
            x0 = v.fma(v.repeat(a, left), y, x0)
            x1 = v.fma(v.repeat(a, left + 1), y, x1)
            x2 = v.fma(v.repeat(a, left + 2), y, x2)
            x3 = v.fma(v.repeat(a, left + 3), y, x3)
            left += width
            right += width
        to = c0 + i * width
        v.store(x0, c, to)
        v.store(x1, c, to + width)
        v.store(x2, c, to + 2 * width)
        v.store(x3, c, to + 3 * width)


@small
def transpose(a, a0, depth, first, b, b0, units):
    """The panel of Aᵀ with A's rows from `first` on: A in panels of `depth` rows -> (units, width), in whole squares."""
    width = v.width(a)
    for at in range(0, units, width):
        v.turn(a, a0 + at * depth + first * width, b, b0 + at * width)


@small
def add(a, a0, b, b0, c, c0, rows):
    width = v.width(a)
    for i in range(rows):
        v.store(v.add(v.load(a, a0 + i * width), v.load(b, b0 + i * width)), c, c0 + i * width)


@small
def gate(r, r0, d, d0, z, z0, batch, g, b0):
    """dz = d where r > 0, else 0; db = Σ dz."""
    width = v.width(r)
    db = v.zeros(r)
    for i in range(0, batch * width, width):
        x = v.gate(v.load(r, r0 + i), v.load(d, d0 + i))
        v.store(x, z, z0 + i)
        db = v.add(db, x)
    v.store(db, g, b0)


# ------------------------------------------------------------------------------------------------ the last layer


@small
def predict(h, h0, w, w0, sums, s0, batch, first):
    """sums (batch, width) = h·w lane by lane, or with `first` false more of it; `totals` adds the lanes up."""
    width = v.width(h)
    y = v.load(w, w0)
    for i in range(0, batch * width, width):
        x = v.load(h, h0 + i)
        v.store(v.times(x, y) if first else v.fma(x, y, v.load(sums, s0 + i)), sums, s0 + i)


@small
def totals(sums, s0, w, c0, batch, o):
    """o = Σ lanes + c."""
    width = v.width(sums)
    for i in range(batch):
        o[i] = v.total(v.load(sums, s0 + i * width)) + w[c0]


@inner
def predict_backward(e, h, h0, r, r0, batch, w, w0, d, d0, keep, z, z0, g, g0, b0):
    """From e = ∂L/∂o: dw = eᵀh; dz = e·w where r > 0, else 0; db = Σ dz; and with `keep` also d = e·w."""
    width = v.width(h)
    y, dw = v.load(w, w0), v.zeros(h)
    db = dw
    for i in range(batch):
        at = i * width
        x = v.repeat(e, i)
        dw = v.fma(x, v.load(h, h0 + at), dw)
        x = v.times(x, y)
        if keep:
            v.store(x, d, d0 + at)
        x = v.gate(v.load(r, r0 + at), x)
        v.store(x, z, z0 + at)
        db = v.add(db, x)
    v.store(dw, g, g0)
    v.store(db, g, b0)


# --------------------------------------------------------------------------------------------------- batch norm


@inner
def normalise(z, z0, hat, hat0, rows, batch, x, scale, shift, work, root0, running, mean0, spread0, few, n0):
    """relu(scale·ẑ + shift) in place, ẑ = (z − mean)/√(variance + eps) over the batch; the running statistics follow.

    `few` has from n0 on: 1/batch, eps, what the running statistics keep, what they take of mean and variance, and 1.
    """
    width = v.width(z)
    share, eps, one = v.repeat(few, n0), v.repeat(few, n0 + 1), v.repeat(few, n0 + 5)
    keep, take, take_more = v.repeat(few, n0 + 2), v.repeat(few, n0 + 3), v.repeat(few, n0 + 4)
    mean = spread = v.zeros(z)
    for i in range(0, batch * width, width):
        mean = v.add(mean, v.load(z, z0 + i))
    mean = v.times(mean, share)
    for i in range(0, batch * width, width):
        gap = v.minus(v.load(z, z0 + i), mean)
        spread = v.fma(gap, gap, spread)
    spread = v.times(spread, share)
    rest = v.over(one, v.root(v.add(spread, eps)))
    v.store(rest, work, root0)
    v.store(v.fma(take, mean, v.times(keep, v.load(running, mean0))), running, mean0)
    v.store(v.fma(take_more, spread, v.times(keep, v.load(running, spread0))), running, spread0)
    slope, plus = v.load(x, scale), v.load(x, shift)
    for i in range(0, rows * width, width):
        unit = v.times(v.minus(v.load(z, z0 + i), mean), rest)
        v.store(unit, hat, hat0 + i)
        v.store(v.relu(v.fma(slope, unit, plus)), z, z0 + i)


@inner
def normalise_backward(z, z0, hat, hat0, batch, x, scale, work, root0, g, b0, g_scale, g_shift, few, n0):
    """From dy in `z`: d shift = Σ dy (which is there already, at b0), d scale = Σ dy·ẑ, dz in place, db = 0."""
    width = v.width(z)
    share = v.repeat(few, n0)
    shift, slope = v.load(g, b0), v.zeros(z)
    for i in range(0, batch * width, width):
        slope = v.fma(v.load(z, z0 + i), v.load(hat, hat0 + i), slope)
    v.store(shift, g, g_shift)
    v.store(slope, g, g_scale)
    v.store(v.zeros(z), g, b0)
    shift, slope = v.times(shift, share), v.times(slope, share)
    factor = v.times(v.load(x, scale), v.load(work, root0))
    for i in range(0, batch * width, width):
        left = v.minus(v.minus(v.load(z, z0 + i), shift), v.times(v.load(hat, hat0 + i), slope))
        v.store(v.times(factor, left), z, z0 + i)


@inner
def normalise_by(z, z0, rows, x, scale, shift, running, mean0, spread0, few, n0):
    """relu(scale·(z − mean)/√(variance + eps) + shift) in place, by the running statistics."""
    width = v.width(z)
    mean, spread = v.load(running, mean0), v.add(v.load(running, spread0), v.repeat(few, n0 + 1))
    factor, plus = v.over(v.load(x, scale), v.root(spread)), v.load(x, shift)
    for i in range(0, rows * width, width):
        v.store(v.relu(v.fma(v.minus(v.load(z, z0 + i), mean), factor, plus)), z, z0 + i)


# ----------------------------------------------------------------------------------------------------- counting


@small
def tally(r, r0, batch, active, nonfinite, at):
    """active += (r > 0), nonfinite += (r not finite): per unit, over the rows."""
    width = v.width(r)
    for i in range(0, batch * width, width):
        x = v.load(r, r0 + i)
        v.tally(active, at, v.positive(x))
        v.tally(nonfinite, at, v.huge(x))
