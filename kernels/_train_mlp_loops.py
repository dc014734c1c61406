"""The compiled training run of train_mlp.py: a thread a replica, thousands of steps a call, on matrices in panels.

A replica's parameters, in panels (_panels.py), are one flat array; its gradients and the optimiser's arrays have the same
order, so an update is one loop. With what a step computes they stay in the cache of the core that trains the replica.

`walk` is all that is called from outside, by _train_mlp_run.py, which lays out the memory. Imported at first use, as it needs
Numba.
"""

from typing import Any

import numba
import numpy as np

from . import _jit
from ._panels import (
    OPTIONS,
    add,
    clear,
    gate,
    gradient,
    inner,
    normalise,
    normalise_backward,
    normalise_by,
    predict,
    predict_backward,
    product,
    small,
    tally,
    totals,
    transpose,
    v,
)
from .optimiser_step import RULES as UPDATES

RULES = tuple(UPDATES)
SGD, NESTEROV, EMA, ADAM = map(RULES.index, ("sgd", "nesterov", "ema", "adam"))

# Columns of the table that describes a hidden layer to the loops: sizes, then offsets into the parameters (W … SHIFT), the
# running statistics (MEAN), the counters (COUNTS) and the scratch memory (R … ROOT).
INPUTS, DEPTH, PANELS, UNITS, W, B, SCALE, SHIFT, MEAN, COUNTS, R, H, HAT, ROOT = range(14)
# What the loops need to know besides: sizes, the offsets of the last layer's w and c, and of scratch memory. The zeros are
# never written to; three matrices are for the way back.
ROWS, BATCH, RULE, RESIDUAL, NORM, LAST_W, LAST_C, X, SUMS, FEW, NOTHING, TURNED, D0, D1, D2 = range(15)


def compiled(function: Any) -> Any:
    """`function`, compiled at its first call and cached on disk where a folder is writable."""
    try:
        return _jit.cached(numba.njit(cache=True, **OPTIONS)(function))
    except RuntimeError:  # Numba found no folder that it could cache in
        return numba.njit(**OPTIONS)(function)


# ----------------------------------------------------------------------------------------------------- compiled


@small
def _philox(seed, step, block):
    """Four random words of 32 bits, in uint64 (philox.py)."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1 = seed & low, seed >> half
    c0, c1, c2, c3 = np.uint64(step), np.uint64(block), np.uint64(0), np.uint64(0)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (q >> half) ^ c1 ^ k0, q & low, (p >> half) ^ c3 ^ k1, p & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@small
def _draw(seed, step, rows, batch, n):
    """The rows of the minibatch `step`, of n."""
    half, scale = np.uint64(32), np.uint64(n)
    for at in range(0, batch, 4):
        words = _philox(seed, step, at // 4)
        for k in range(min(4, batch - at)):
            rows[at + k] = np.int64((words[k] * scale) >> half)


@small
def _gather(data, pieces, rows, count, work, x0, stride):
    """`count` rows of `data` (whole vectors each) as panels of `stride` rows."""
    width = v.width(work)
    for i in range(count):
        for p in range(pieces):
            v.store(v.load(data, (rows[i] * pieces + p) * width), work, x0 + (p * stride + i) * width)


@small
def _forward(table, sizes, x, running, work, batch, training, o):
    """All layers, from the batch in `work`, to the predictions o; a panel goes through all it can while it is in the cache."""
    rows, few, norm = sizes[ROWS], sizes[FEW], sizes[NORM] == 1
    width = v.width(work)
    high, h = rows * width, sizes[X]
    for layer in range(len(table)):
        row = table[layer]
        for p in range(row[PANELS]):
            r, own = row[R] + p * high, p * width
            product(work, h, x, row[W] + own * row[DEPTH], r, rows, row[INPUTS], x, row[B] + own, 0, not norm)
            if norm:
                scale, shift, root = row[SCALE] + own, row[SHIFT] + own, row[ROOT] + own
                mean, spread = row[MEAN] + own, row[MEAN] + row[PANELS] * width + own
                if training:
                    hat = row[HAT] + p * high
                    normalise(work, r, hat, rows, batch, x, scale, shift, root, running, mean, spread, few)
                else:
                    normalise_by(work, r, rows, x, scale, shift, running, mean, spread, few)
            real = np.uint32((1 << min(row[UNITS] - own, width)) - 1)  # a bit for each unit of the panel
            if row[UNITS] - own < width:
                clear(work, r, rows, real)
            if row[H] != row[R]:
                add(work, h + p * high, r, row[H] + p * high, rows)
            if layer == len(table) - 1:
                predict(work, row[H] + p * high, x, sizes[LAST_W] + own, sizes[SUMS], batch, p == 0, real)
        h = row[H]
    totals(work, sizes[SUMS], x, sizes[LAST_C], batch, o)


@small
def _backward(table, sizes, x, g, work, e):
    """All gradients from e = ∂L/∂o."""
    rows, batch, residual = sizes[ROWS], sizes[BATCH], sizes[RESIDUAL] == 1
    width = v.width(work)
    high = rows * width
    d, z, other = sizes[D0], sizes[D1], sizes[D2]
    dc = e[0]
    for i in range(1, batch):
        dc += e[i]
    g[sizes[LAST_C]] = dc
    for layer in range(len(table) - 1, -1, -1):
        row = table[layer]
        below = table[layer - 1][H] if layer > 0 else sizes[X]
        for p in range(row[PANELS]):
            at, own = p * high, p * width
            h, r, b, last = row[H] + at, row[R] + at, row[B] + own, sizes[LAST_W] + own
            dz = z + at if layer > 0 else z  # nobody reads the first layer's dz again: one panel of it is enough
            if layer == len(table) - 1:
                predict_backward(e, work, h, r, batch, x, g, last, b, d + at, residual and layer > 0, dz)
            else:
                gate(work, r, d + at, dz, batch, g, b)
            if sizes[NORM] == 1:
                hat, root = row[HAT] + at, row[ROOT] + own
                normalise_backward(work, dz, hat, batch, x, g, b, row[SCALE] + own, row[SHIFT] + own, root, sizes[FEW])
            gradient(work, below, dz, rows, batch, g, row[W] + own * row[DEPTH], row[DEPTH])
        if layer > 0:
            for p in range(table[layer - 1][PANELS]):
                transpose(x, row[W], row[DEPTH], p * width, work, sizes[TURNED], row[UNITS])
                start, down = (d + p * high, width) if residual else (sizes[NOTHING], 0)
                product(work, z, work, sizes[TURNED], other + p * high, rows, row[UNITS], work, start, down, False)
            d, other = other, d


@inner
def _update(rule, x, g, new, m, s, c):
    """The formulas of optimiser_step.py, to the bit, in vectors: its loops would take three times as long to compile."""
    width = v.width(x)
    last = c.size - 1
    lr, beta, rest = v.repeat(c, 0), v.repeat(c, min(1, last)), v.repeat(c, min(2, last))
    for at in range(0, x.size, width):
        p, q = v.load(x, at), v.load(g, at)
        if rule == ADAM:
            mean = v.add(v.times(beta, v.load(m, at)), v.times(rest, q))
            square = v.add(v.times(v.repeat(c, 3), v.load(s, at)), v.times(v.repeat(c, 4), v.times(q, q)))
            v.store(mean, m, at)
            v.store(square, s, at)
            move = v.over(mean, v.add(v.times(v.root(square), v.repeat(c, 5)), v.repeat(c, 6)))
        elif rule == SGD:
            move = q
        else:
            move = v.add(v.times(beta, v.load(m, at)), v.times(rest, q) if rule == EMA else q)
            v.store(move, m, at)
            if rule == NESTEROV:
                move = v.add(v.times(beta, move), q)
        v.store(v.minus(p, v.times(lr, move)), new, at)


@compiled
def walk(
    table, sizes, x, spare, g, m, s, running, work, kept, hyper, seed, data, targets, first, stop, training, active, nonfinite
):  # fmt: skip
    """Train one replica from step `first` to `stop`, or measure it on blocks of rows; both in one, to be compiled once.

    Training, after an odd number of steps the parameters are those in `spare`. Measuring, Σ ((o − δ)/γ − y)² is returned
    and the rows where a unit is active and non-finite are added to the counters. `hyper` (float64): β, β₂, η, γ, δ; `kept`
    are the coefficients of optimiser_step, of which Adam's change from step to step.
    """
    rows, batch, n = sizes[ROWS], sizes[BATCH], targets.size
    width = v.width(work)
    pieces = -(-table[0][INPUTS] // width)
    chosen = np.empty(rows, np.int64)
    o, e = np.empty(rows, work.dtype), np.zeros(rows, work.dtype)
    beta, beta2, lr, gamma, delta = hyper
    slope = work.dtype.type(2.0 / batch)
    found = 0.0
    for at in range(first, stop):
        if training:
            count = batch
            _draw(seed, at, chosen, batch, n)
        else:
            count = min(rows, n - at * rows)
            for i in range(count):
                chosen[i] = at * rows + i
        _gather(data, pieces, chosen, count, work, sizes[X], rows)
        _forward(table, sizes, x, running, work, count, training, o)
        if training:
            for i in range(batch):
                e[i] = (o[i] - work.dtype.type(gamma * targets[chosen[i]] + delta)) * slope
            _backward(table, sizes, x, g, work, e)
            if sizes[RULE] == ADAM:
                kept[0] = lr / (1 - beta ** np.float64(at + 1))
                kept[5] = 1 / np.sqrt(1 - beta2 ** np.float64(at + 1))
            _update(sizes[RULE], x, g, spare, m, s, kept)
            x, spare = spare, x
        else:
            for i in range(count):
                gap = (np.float64(o[i]) - delta) / gamma - targets[chosen[i]]
                found += gap * gap
            for layer in range(len(table)):
                row = table[layer]
                for p in range(row[PANELS]):
                    tally(work, row[R] + p * rows * width, count, active, nonfinite, row[COUNTS] + p * width)
    return found
