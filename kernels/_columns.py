"""How many rows of a packed mask have each bit set: sums of binary digits, many columns in one register.

Seven rows are added to three digits by carry-save adders, and these to the eight digits of the sums so far: 42 operations
on 32 bytes count 7 × 256 units (Muła, Kurz and Lemire 2018, "Faster population counts using AVX2 instructions", §3, for the
adders; Klarqvist, Muła and Lemire 2019, for columns).

A kernel adds the rows of its mask as it writes them. Where data streams past, it does so `GROUP` rows at a time: the rows are
still in the first cache, and memory hardly waits, as the hardware has asked for the next lines of the input meanwhile.

Imported at the first use of a compiled kernel, as it needs Numba.
"""

import numba
import numpy as np

from ._jit import words
from .mask import BITS

lanes = words()
DIGITS = 8  # for up to 255 rows
GROUP = 28  # rows; a multiple of the adders' seven


@numba.njit
def add(mask, first, rows, step, planes):
    """planes += the bits of `rows` rows, `step` words each and the first one at word `first`: plane p has the digits of 2ᵖ.

    In vectors of 32 bytes: the eight digits and what is added to them then fit the sixteen registers of AVX2.
    """
    n, w = max(lanes.width(mask) // 2, 1), 0
    while w + n <= step:
        _add(lanes.half, mask, first + w, rows, step, planes, w)
        w += n
    while w < step:
        _add(lanes.one, mask, first + w, rows, step, planes, w)
        w += 1


@numba.njit
def spell(planes, step, counters, offset):
    """counters[offset + j] = the number whose digits are the bits j of the planes."""
    for w in range(step):
        lanes.spell(planes, w, step, counters, offset + w * BITS)


@numba.njit
def total(counters, first, last, sums):
    """sums[j] = Σ counters[i, j] over the tasks i from `first` to `last`: in 32 bits, which vectors hold more of than of 64."""
    part = np.zeros(sums.size, np.uint32)
    while first + 4 <= last:
        a, b, c, d = counters[first], counters[first + 1], counters[first + 2], counters[first + 3]
        for j in range(part.size):
            part[j] += np.uint32(a[j]) + np.uint32(b[j]) + np.uint32(c[j]) + np.uint32(d[j])
        first += 4
    for i in range(first, last):
        for j in range(part.size):
            part[j] += np.uint32(counters[i, j])
    sums[:] = part


@numba.njit
def _full(a, b, c):
    """Sum and carry of three digits."""
    ab = lanes.unlike(a, b)
    return lanes.unlike(ab, c), lanes.unlike(lanes.both(a, b), lanes.both(ab, c))


@numba.njit
def _add(load, mask, at, rows, step, planes, w):
    """The same for the words that `load` takes at once."""
    none = lanes.unlike(load(mask, at), load(mask, at))
    d0, d1, d2, d3 = load(planes, w), load(planes, w + step), load(planes, w + 2 * step), load(planes, w + 3 * step)
    d4, d5, d6 = load(planes, w + 4 * step), load(planes, w + 5 * step), load(planes, w + 6 * step)
    d7 = load(planes, w + 7 * step)
    end = at + rows * step
    while at < end:
        if at + 7 * step <= end:
            a, d = _full(load(mask, at), load(mask, at + step), load(mask, at + 2 * step))
            b, e = _full(load(mask, at + 3 * step), load(mask, at + 4 * step), load(mask, at + 5 * step))
            ones, f = _full(a, b, load(mask, at + 6 * step))
            twos, fours = _full(d, e, f)
            at += 7 * step
        else:
            ones, twos, fours = load(mask, at), none, none
            at += step
        d0, carry = _full(d0, ones, none)
        d1, carry = _full(d1, twos, carry)
        d2, carry = _full(d2, fours, carry)
        d3, carry = _full(d3, carry, none)
        d4, carry = _full(d4, carry, none)
        d5, carry = _full(d5, carry, none)
        d6, carry = _full(d6, carry, none)
        d7, carry = _full(d7, carry, none)
    lanes.store(d0, planes, w)
    lanes.store(d1, planes, w + step)
    lanes.store(d2, planes, w + 2 * step)
    lanes.store(d3, planes, w + 3 * step)
    lanes.store(d4, planes, w + 4 * step)
    lanes.store(d5, planes, w + 5 * step)
    lanes.store(d6, planes, w + 6 * step)
    lanes.store(d7, planes, w + 7 * step)
