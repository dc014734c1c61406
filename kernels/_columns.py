"""How many rows of a packed mask have each bit set: sums of binary digits, many columns in one register.

Seven rows are added to three digits by carry-save adders, and these to the eight digits of the sums so far: 42 operations
on 64 bytes count 7 × 512 units (Muła, Kurz and Lemire 2018, "Faster population counts using AVX2 instructions", §3, for the
adders; Klarqvist, Muła and Lemire 2019, for columns). The mask was just written and is in the cache.

Imported at the first use of a compiled kernel, as it needs Numba.
"""

import numba
import numpy as np

from ._jit import words
from .mask import BITS

lanes = words()
DIGITS = 8  # for up to 255 rows


@numba.njit
def count(mask, first, rows, step, counters, offset):
    """counters[offset + j] = how many of `rows` rows, `step` words each and the first one at word `first`, have bit j set."""
    n, w = lanes.width(mask), 0
    digits = np.empty(DIGITS * n, np.uint32)
    while w + n <= step:
        _add(lanes.load, mask, first + w, rows, step, digits, n)
        for k in range(n):
            lanes.spell(digits, k, n, counters, offset + (w + k) * BITS)
        w += n
    while w < step:
        _add(lanes.one, mask, first + w, rows, step, digits, 1)
        lanes.spell(digits, 0, 1, counters, offset + w * BITS)
        w += 1


@numba.njit
def _full(a, b, c):
    """Sum and carry of three digits."""
    ab = lanes.unlike(a, b)
    return lanes.unlike(ab, c), lanes.unlike(lanes.both(a, b), lanes.both(ab, c))


@numba.njit
def _add(load, mask, at, rows, step, digits, n):
    """The digits of the sums of the rows, in the words that `load` takes at once."""
    none = lanes.unlike(load(mask, at), load(mask, at))
    d0, d1, d2, d3, d4, d5, d6, d7 = none, none, none, none, none, none, none, none
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
    lanes.store(d0, digits, 0)
    lanes.store(d1, digits, n)
    lanes.store(d2, digits, 2 * n)
    lanes.store(d3, digits, 3 * n)
    lanes.store(d4, digits, 4 * n)
    lanes.store(d5, digits, 5 * n)
    lanes.store(d6, digits, 6 * n)
    lanes.store(d7, digits, 7 * n)
