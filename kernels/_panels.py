"""Products and other steps of a net on matrices in *panels*, compiled; what `_train_mlp_loops.py` is made of.

A matrix (rows × columns) in panels is `width` columns (one vector of `_lanes.py`) of all its rows, one row after the other,
then the next columns. A product reads its operands in the order of memory then, and runs near the arithmetic limit of the
processor at sizes for which a BLAS call has hardly started. Rows and columns are filled up to whole tiles and vectors. What is
computed there is never read by what counts: sums over a batch, over units and over inputs go over the real ones alone.

Each function makes one panel, so that its caller can do all that is to be done with it while it is in the first cache. Panels
are given by the offset of their first number in one of three flat arrays: `work` (inputs, activations, what goes back), `x`
(parameters) or `g` (their gradients, at the same offsets). Sizes: `rows` of a panel in `work`, filled up to a multiple of TILE,
of which the first `batch` are real; `depth` rows of a panel of weights. Imported at first use, as it needs Numba.
"""

from typing import Any

import numba

from . import _jit

v = _jit.words()
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_BARE: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **OPTIONS}
# Compiled without the entries for Python and C, which take as long as the loops; `small` ones become a part of their caller
# before anything is compiled at all.
inner = numba.njit(**_BARE)
small = numba.njit(inline="always", **OPTIONS)

TILE = 6  # rows of a product that are summed side by side: with their operands they fill the registers of AVX2
QUAD = 4  # inputs of a weight gradient, likewise


# -------------------------------------------------------------------------------------------------------- matrices


@inner
def product(work, a0, b, b0, c0, rows, inputs, start, s0, down, rectified):
    """A panel of start + A·B, rectified or not: A (rows, inputs) from its first panel on, B (inputs, width) in an array b.

    The start of row i is the vector at s0 + i·down: a bias or zeros (down 0), or a panel. Each sum goes through the inputs
    in their order.
    """
    width = v.width(work)
    for i in range(0, rows, TILE):
        at = s0 + i * down
        x0, x1, x2 = v.load(start, at), v.load(start, at + down), v.load(start, at + 2 * down)
        x3, x4, x5 = v.load(start, at + 3 * down), v.load(start, at + 4 * down), v.load(start, at + 5 * down)
        left, right = a0 + i * width, b0
        for first in range(0, inputs, width):
            for k in range(left, left + min(width, inputs - first)):
                y = v.load(b, right)
                x0 = v.fma(v.repeat(work, k), y, x0)
                x1 = v.fma(v.repeat(work, k + width), y, x1)
                x2 = v.fma(v.repeat(work, k + 2 * width), y, x2)
                x3 = v.fma(v.repeat(work, k + 3 * width), y, x3)
                x4 = v.fma(v.repeat(work, k + 4 * width), y, x4)
                x5 = v.fma(v.repeat(work, k + 5 * width), y, x5)
                right += width
            left += rows * width
        if rectified:
            x0, x1, x2, x3, x4, x5 = v.relu(x0), v.relu(x1), v.relu(x2), v.relu(x3), v.relu(x4), v.relu(x5)
        to = c0 + i * width
        v.store(x0, work, to)
        v.store(x1, work, to + width)
        v.store(x2, work, to + 2 * width)
        v.store(x3, work, to + 3 * width)
        v.store(x4, work, to + 4 * width)
        v.store(x5, work, to + 5 * width)


@inner
def gradient(work, a0, b0, rows, batch, g, c0, depth):
    """A panel of Aᵀ·B: A (batch, depth) from its first panel on, B (batch, width) -> (depth, width)."""
    width = v.width(work)
    apart = 1 if width >= QUAD else rows * width  # two inputs that follow each other: in one panel, or in two
    for i in range(0, depth, QUAD):
        x0 = v.zeros(work)
        x1 = x2 = x3 = x0
        left, right = a0 + (i // width * rows * width + i % width), b0
        for _ in range(batch):
            y = v.load(work, right)
            x0 = v.fma(v.repeat(work, left), y, x0)
            x1 = v.fma(v.repeat(work, left + apart), y, x1)
            x2 = v.fma(v.repeat(work, left + 2 * apart), y, x2)
            x3 = v.fma(v.repeat(work, left + 3 * apart), y, x3)
            left += width
            right += width
        to = c0 + i * width
        v.store(x0, g, to)
        v.store(x1, g, to + width)
        v.store(x2, g, to + 2 * width)
        v.store(x3, g, to + 3 * width)


@small
def transpose(x, a0, depth, first, work, b0, units):
    """The panel of Aᵀ with A's rows from `first` on: A in panels of `depth` rows -> (units, width), in whole squares."""
    width = v.width(x)
    for at in range(0, units, width):
        v.turn(x, a0 + at * depth + first * width, work, b0 + at * width)


@small
def add(work, a0, b0, c0, rows):
    """C = A + B."""
    width = v.width(work)
    for i in range(0, rows * width, width):
        v.store(v.add(v.load(work, a0 + i), v.load(work, b0 + i)), work, c0 + i)


@small
def clear(work, z0, rows, word):
    """+0 in the lanes whose bit in `word` is not set: those beyond the last unit, where ∞ times a weight 0 is NaN."""
    width = v.width(work)
    for i in range(z0, z0 + rows * width, width):
        v.store(v.keep(word, v.load(work, i)), work, i)


@small
def gate(work, r0, d0, z0, batch, g, b0):
    """dz = d where r > 0, else 0; db = Σ dz."""
    width = v.width(work)
    db = v.zeros(work)
    for i in range(0, batch * width, width):
        dz = v.gate(v.load(work, r0 + i), v.load(work, d0 + i))
        v.store(dz, work, z0 + i)
        db = v.add(db, dz)
    v.store(db, g, b0)


# ------------------------------------------------------------------------------------------------ the last layer


@small
def predict(work, h0, x, w0, s0, batch, first, word):
    """Sums (batch, width) of h·w lane by lane, new with `first`, else added to; `totals` adds the lanes up.

    Lanes whose bit in `word` is not set have no unit, and are cleared in h.
    """
    width = v.width(work)
    w = v.keep(word, v.load(x, w0))
    for i in range(0, batch * width, width):
        h = v.load(work, h0 + i)
        v.store(v.times(h, w) if first else v.fma(h, w, v.load(work, s0 + i)), work, s0 + i)


@small
def totals(work, s0, x, c0, batch, o):
    """o = Σ lanes + c."""
    width = v.width(work)
    for i in range(batch):
        o[i] = v.total(v.load(work, s0 + i * width)) + x[c0]


@inner
def predict_backward(e, work, h0, r0, batch, x, g, w0, b0, d0, keep, z0):
    """From e = ∂L/∂o: dw = eᵀh; dz = e·w where r > 0, else 0; db = Σ dz; and with `keep` also d = e·w."""
    width = v.width(work)
    w, dw, db = v.load(x, w0), v.zeros(work), v.zeros(work)
    for i in range(batch):
        at = i * width
        own = v.repeat(e, i)
        dw = v.fma(own, v.load(work, h0 + at), dw)
        d = v.times(own, w)
        if keep:
            v.store(d, work, d0 + at)
        dz = v.gate(v.load(work, r0 + at), d)
        v.store(dz, work, z0 + at)
        db = v.add(db, dz)
    v.store(dw, g, w0)
    v.store(db, g, b0)


# --------------------------------------------------------------------------------------------------- batch norm


@inner
def normalise(work, z0, hat0, rows, batch, x, scale, shift, root0, running, mean0, spread0, n0):
    """relu(scale·ẑ + shift) in place, ẑ = (z − mean)/√(variance + eps) over the batch; the running statistics follow.

    `work` has from n0 on: 1/batch, eps, what the running statistics keep, what they take of mean and variance, and 1.
    """
    width = v.width(work)
    share, eps, one = v.repeat(work, n0), v.repeat(work, n0 + 1), v.repeat(work, n0 + 5)
    keep, take, take_more = v.repeat(work, n0 + 2), v.repeat(work, n0 + 3), v.repeat(work, n0 + 4)
    mean = spread = v.zeros(work)
    for i in range(0, batch * width, width):
        mean = v.add(mean, v.load(work, z0 + i))
    mean = v.times(mean, share)
    for i in range(0, batch * width, width):
        gap = v.minus(v.load(work, z0 + i), mean)
        spread = v.fma(gap, gap, spread)
    spread = v.times(spread, share)
    rest = v.over(one, v.root(v.add(spread, eps)))
    v.store(rest, work, root0)
    v.store(v.fma(take, mean, v.times(keep, v.load(running, mean0))), running, mean0)
    v.store(v.fma(take_more, spread, v.times(keep, v.load(running, spread0))), running, spread0)
    slope, plus = v.load(x, scale), v.load(x, shift)
    for i in range(0, rows * width, width):
        unit = v.times(v.minus(v.load(work, z0 + i), mean), rest)
        v.store(unit, work, hat0 + i)
        v.store(v.relu(v.fma(slope, unit, plus)), work, z0 + i)


@inner
def normalise_backward(work, z0, hat0, batch, x, g, b0, scale, shift, root0, n0):
    """From dy in place of dz: d shift = Σ dy (which is there already, at b0), d scale = Σ dy·ẑ, dz in place, db = 0."""
    width = v.width(work)
    share = v.repeat(work, n0)
    plus, slope = v.load(g, b0), v.zeros(work)
    for i in range(0, batch * width, width):
        slope = v.fma(v.load(work, z0 + i), v.load(work, hat0 + i), slope)
    v.store(plus, g, shift)
    v.store(slope, g, scale)
    v.store(v.zeros(work), g, b0)
    plus, slope = v.times(plus, share), v.times(slope, share)
    factor = v.times(v.load(x, scale), v.load(work, root0))
    for i in range(0, batch * width, width):
        left = v.minus(v.minus(v.load(work, z0 + i), plus), v.times(v.load(work, hat0 + i), slope))
        v.store(v.times(factor, left), work, z0 + i)


@inner
def normalise_by(work, z0, rows, x, scale, shift, running, mean0, spread0, n0):
    """relu(scale·(z − mean)/√(variance + eps) + shift) in place, by the running statistics."""
    width = v.width(work)
    mean, spread = v.load(running, mean0), v.add(v.load(running, spread0), v.repeat(work, n0 + 1))
    factor, plus = v.over(v.load(x, scale), v.root(spread)), v.load(x, shift)
    for i in range(0, rows * width, width):
        v.store(v.relu(v.fma(v.minus(v.load(work, z0 + i), mean), factor, plus)), work, z0 + i)


# ----------------------------------------------------------------------------------------------------- counting


@small
def tally(work, r0, batch, active, nonfinite, at):
    """active += (r > 0), nonfinite += (r not finite): per unit, over the rows."""
    width = v.width(work)
    for i in range(0, batch * width, width):
        r = v.load(work, r0 + i)
        v.tally(active, at, v.positive(r))
        v.tally(nonfinite, at, v.huge(r))
