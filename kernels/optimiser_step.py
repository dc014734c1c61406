"""One step of an optimiser in one pass over parameter, gradient and state. Elementwise, for each replica's coefficients:

    sgd         x - lr·g
    heavy_ball  v = beta·v + g;                                x - lr·v                        (Polyak 1964)
    nesterov    v = beta·v + g;                                x - lr·(beta·v + g)             (Nesterov 1983)
    ema         m = beta·m + rest·g;                           x - lr·m                        (arXiv 2005.06195, Eq. 6-7)
    adam        m = beta1·m + rest1·g; v = beta2·v + rest2·g²; x - rate·(m / (√v·root + eps))  (Kingma & Ba 2015)

with rest = 1 - beta, and for the step number t: rate = lr / (1 - beta1ᵗ), root = 1 / √(1 - beta2ᵗ). The result goes to a
new array `new`, because graphs may still hold x; the state (v, m) is overwritten.

Shapes   x, g, new, state (..., I, O), C-contiguous; c (coefficients, 1) or (coefficients, R), of the dtype of x.
Bytes    per parameter, with E bytes a number: sgd 3E, with one state array 5E, adam 7E.
Exact    bit-equal on every backend: the same operations in the same order, none contracted, no sums.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..backend import array_module
from . import _cuda

# Parameters that one task of a thread walks.
TASK = 1 << 14

# Numbers of each array that stay in the first cache together.
PIECE = 1 << 10

# rule: its coefficients, its state
RULES = {
    "sgd": (("lr",), ()),
    "heavy_ball": (("lr", "beta"), ("v",)),
    "nesterov": (("lr", "beta"), ("v",)),
    "ema": (("lr", "beta", "rest"), ("m",)),
    "adam": (("rate", "beta1", "rest1", "beta2", "rest2", "root", "eps"), ("m", "v")),
}


def _sgd(x, g, new, c):
    (lr,) = _columns(c, x)
    new[...] = x - lr * g


def _heavy_ball(x, g, new, c, v):
    lr, beta = _columns(c, x)
    v[...] = beta * v + g
    new[...] = x - lr * v


def _nesterov(x, g, new, c, v):
    lr, beta = _columns(c, x)
    v[...] = beta * v + g
    new[...] = x - lr * (beta * v + g)


def _ema(x, g, new, c, v):
    lr, beta, rest = _columns(c, x)
    v[...] = beta * v + rest * g
    new[...] = x - lr * v


def _adam(x, g, new, c, m, v):
    rate, beta1, rest1, beta2, rest2, root, eps = _columns(c, x)
    m[...] = beta1 * m + rest1 * g
    v[...] = beta2 * v + rest2 * (g * g)
    new[...] = x - rate * (m / (array_module(x).sqrt(v) * root + eps))


def _columns(c, x):
    """The coefficients so that each broadcasts over x: (1,), or (R, 1, 1) for x (R, I, O)."""
    return c if c.shape[1] == 1 else c.reshape(*c.shape, *(1,) * (x.ndim - 1))


reference: dict[str, Callable[..., None]] = {
    "sgd": _sgd,
    "heavy_ball": _heavy_ball,
    "nesterov": _nesterov,
    "ema": _ema,
    "adam": _adam,
}


# Each Numba version is the formula in plain loops over pieces of the arrays, which the compiler turns into vectors: a piece's
# indices count from 0, so none can be negative, and a loop has few enough arrays to be told apart when it runs. A piece stays
# in the first cache between the loops of one formula. `c` has a column a replica.


def _without_state(njit, lanes, streaming):
    @njit
    def loops(x, g, new, c, scratch, begin, end):
        x, g, new = x.ravel(), g.ravel(), new.ravel()
        n = x.size // c.shape[1]
        first, last = TASK * max(begin, 0), x.size if begin < 0 else min(x.size, TASK * end)
        for r in range(c.shape[1]):
            lr = c[0, r]
            at, to = max(first, r * n), min(last, r * n + n)
            if at < to:
                x_, g_, new_ = x[at:to], g[at:to], new[at:to]
                for k in range(x_.size):
                    new_[k] = x_[k] - lr * g_[k]

    return loops


def _with_velocity(averaged, looks_ahead):
    """The loops of heavy ball; with the running average of `ema`, or the second use of the velocity of `nesterov`."""

    def numba(njit, lanes, streaming):
        @njit
        def loops(x, g, new, c, v, scratch, begin, end):
            x, g, new, v = x.ravel(), g.ravel(), new.ravel(), v.ravel()
            n = x.size // c.shape[1]
            first, last = TASK * max(begin, 0), x.size if begin < 0 else min(x.size, TASK * end)
            for r in range(c.shape[1]):
                lr, beta, rest = c[0, r], c[1, r], c[-1, r]
                at, to = max(first, r * n), min(last, r * n + n)
                if at < to:
                    x_, g_, new_, v_ = x[at:to], g[at:to], new[at:to], v[at:to]
                    for k in range(x_.size):
                        v_[k] = beta * v_[k] + (rest * g_[k] if averaged else g_[k])
                        new_[k] = x_[k] - lr * (beta * v_[k] + g_[k] if looks_ahead else v_[k])

        return loops

    return numba


def _with_moments(njit, lanes, streaming):
    @njit
    def loops(x, g, new, c, m, v, scratch, begin, end):
        x, g, new, m, v = x.ravel(), g.ravel(), new.ravel(), m.ravel(), v.ravel()
        n = x.size // c.shape[1]
        first, last = TASK * max(begin, 0), x.size if begin < 0 else min(x.size, TASK * end)
        for r in range(c.shape[1]):
            rate, beta1, rest1, beta2, rest2, root, eps = c[0, r], c[1, r], c[2, r], c[3, r], c[4, r], c[5, r], c[6, r]
            start, stop = max(first, r * n), min(last, r * n + n)
            for at in range(start, stop, PIECE):
                to = min(at + PIECE, stop)
                x_, g_, new_, m_, v_ = x[at:to], g[at:to], new[at:to], m[at:to], v[at:to]
                for k in range(x_.size):
                    m_[k] = beta1 * m_[k] + rest1 * g_[k]
                    v_[k] = beta2 * v_[k] + rest2 * (g_[k] * g_[k])
                for k in range(x_.size):
                    new_[k] = x_[k] - rate * (m_[k] / (np.sqrt(v_[k]) * root + eps))

    return loops


numba = {
    "sgd": _without_state,
    "heavy_ball": _with_velocity(averaged=False, looks_ahead=False),
    "nesterov": _with_velocity(averaged=False, looks_ahead=True),
    "ema": _with_velocity(averaged=True, looks_ahead=False),
    "adam": _with_moments,
}


PARTS = ("_rules.h", "optimiser_step")


def _launcher(rule):
    def cuda(x, g, new, c, *state, version=3):
        """The launch of optimiser_step.cu; `version` is a step of its ladder, each with the same result."""
        columns = c.shape[1]
        size, V = x.size // columns, 16 // x.itemsize
        whole = size % V == 0 and not any(_cuda.address(a) % 16 for a in (x, g, new, *state))
        step = version if whole else 1
        blocks = -(-size // (_cuda.THREADS * (V if step > 1 else 1) * (2 if step > 2 else 1)))
        grid = (min(blocks, _cuda.BLOCKS * _cuda.attribute("MultiProcessorCount")), min(columns, 1 << 15))
        m, v = (*state, x, x)[:2]  # where a rule has no such state, an array that it does not read
        entry = f"{rule}_{step}_{_cuda.TYPES[x.dtype.name]}"
        _cuda.launch(PARTS, entry, grid, (_cuda.THREADS,), (x, g, new, c, m, v, columns, size))

    return cuda


cuda = {rule: _launcher(rule) for rule in RULES}
