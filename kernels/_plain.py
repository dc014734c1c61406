"""The words of `_lanes.py` for one number at a time: for processors and versions of Numba that lack the vectors.

A vector is one number here and a truth is a bool, so a kernel's loops over whole vectors do all the work.
"""

import numba
import numpy as np

_word = numba.njit
ZERO = np.float32(0)  # of the narrower type, so that it makes neither wider


@_word
def width(array):
    return 1


@_word
def load(array, offset):
    return array.flat[offset]


half = one = repeat = load


@_word
def zeros(array):
    return ZERO


@_word
def store(value, array, offset):
    array.flat[offset] = value


stream = store


@_word
def prefetch(array, offset):
    pass


@_word
def add(a, b):
    return a + b


@_word
def minus(a, b):
    return a - b


@_word
def times(a, b):
    return a * b


@_word
def over(a, b):
    return a / b


@_word
def both(a, b):
    return a & b


@_word
def unlike(a, b):
    return a ^ b


@_word
def root(a):
    return np.sqrt(a)


@_word
def fma(a, b, c):
    return a * b + c


@_word
def total(a):
    return a


@_word
def turn(source, at, target, to):
    target.flat[to] = source.flat[at]


@_word
def scale(a, number):
    return a * number


@_word
def relu(s):
    return ZERO if s <= 0 else s


@_word
def positive(s):
    return s > 0


@_word
def huge(s):
    return not s < np.inf


@_word
def wild(s):
    return not (-np.inf < s < np.inf)


@_word
def bits(truth):
    return np.uint32(truth)


@_word
def keep(word, value):
    return value if word & np.uint32(1) else ZERO


@_word
def gate(s, value):
    return value if s > 0 else ZERO


@_word
def tally(counters, offset, truth):
    counters.flat[offset] += np.uint8(truth)


@_word
def spell(planes, at, step, counters, offset):
    for j in range(32):
        count = np.int64(0)
        for p in range(8):
            count |= np.int64(planes.flat[at + p * step] >> np.uint32(j) & np.uint32(1)) << np.int64(p)
        counters.flat[offset + j] = count


@_word
def accumulate(sums, offset, value):
    sums.flat[offset] += value
