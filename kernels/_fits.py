"""What compiled loops make sure of by themselves: shapes that belong together, outputs over nobody else's memory.

In Python these checks take longer than a small layer. Types need none: loops in `_jit.Ready` are called for the types alone
that they were compiled for, so all arrays are C-contiguous, of the right dtype and number of axes, and outputs writable.
What does not fit is left to the sentences of `_checks.py`. Imported at the first use of a compiled kernel, as it needs Numba.
"""

import numba
import numpy as np

from .mask import BITS


@numba.njit
def forward(z, b, y, mask, skip):
    """Whether the arrays of `bias_relu_forward` or `residual_relu` fit, and are not empty; y may be z."""
    rows = z.shape[:-1]
    if not (z.size > 0 and y.shape == z.shape and skip.shape == z.shape and b.shape == (*rows[:-1], 1, z.shape[-1])):
        return False
    if mask.shape != (*rows, (z.shape[-1] + BITS - 1) // BITS):
        return False
    same = _start(y) == _start(z)
    outputs = (same or _apart(y, z)) and ((same and _start(skip) == _start(z)) or _apart(y, skip)) and _apart(y, b)
    return outputs and _apart(mask, y) and _apart(mask, z) and _apart(mask, skip) and _apart(mask, b)


@numba.njit
def backward(g, mask, dz):
    """Whether the arrays of `relu_backward` fit, and are not empty; dz may be g."""
    if not (g.size > 0 and dz.shape == g.shape and mask.shape == (*g.shape[:-1], (g.shape[-1] + BITS - 1) // BITS)):
        return False
    return (_start(dz) == _start(g) or _apart(dz, g)) and _apart(dz, mask)


@numba.njit
def streams(source, result, limit):
    """`past_the_cache` of arrays."""
    return past_the_cache(result.nbytes, result.shape[-1] * result.itemsize, _start(result), _start(source), limit)


@numba.njit
def past_the_cache(size, row, start, source, limit):
    """Whether a result of `size` bytes is better written past the cache: large, not in place, all rows at multiples of 16."""
    return size >= limit and start != source and start % 16 == row % 16 == 0


@numba.njit
def _start(array):
    return np.int64(array.ctypes.data)


@numba.njit
def _apart(a, b):
    return _start(a) + a.nbytes <= _start(b) or _start(b) + b.nbytes <= _start(a)
