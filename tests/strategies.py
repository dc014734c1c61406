"""Hypothesis strategies for arrays: shapes with sides of 0 and 1, memory layouts, grids of exact values, special values.

- `shapes()`, `broadcastable(n)`, `axes(ndim)`: shapes, shapes that fit together, arguments for `axis=`.
- `points(*shapes)`: float64 arrays whose entries are all different and lie away from every kink.
- `layouts`, `laid_out(array, layout)`: the same values in another memory layout.
- `special(dtype)`: an array of the special values of IEEE arithmetic.
"""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

dtypes = st.sampled_from([np.float32, np.float64])
layouts = st.sampled_from(["C", "F", "negative", "sliced"])

# Odd multiples of 1/64 in ±4: exact in float32, never 0; two of them are equal or at least 1/32 apart, so nothing that
# is computed from distinct ones by one addition lies nearer than 1/64 to a kink at 0 or at a tie.
GRID = (2 * np.arange(-128, 128) + 1) / 64


def shapes(min_dims=0, max_dims=3, min_side=0, max_side=3):
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def broadcastable(n, min_dims=0, max_dims=3, min_side=0, max_side=3):
    """n shapes that broadcast together, sides of 0 and 1 among them."""
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=n, min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )
    return drawn.map(lambda found: found.input_shapes)


def leading(n, max_dims=2):
    """Leading axes of n operands: (), (R,) or (R, S) each, broadcastable, never longer than the first one's."""
    drawn = broadcastable(n, max_dims=max_dims, min_side=1, max_side=2)
    return drawn.map(lambda found: sorted(found, key=lambda shape: (len(shape), math.prod(shape)), reverse=True))


@st.composite
def axes(draw, ndim):
    """An argument for `axis=`: None, one axis or several, counted from either side."""
    if ndim == 0 or draw(st.booleans()):
        return None
    one = st.integers(-ndim, ndim - 1)
    many = st.lists(one, unique_by=lambda axis: axis % ndim, max_size=ndim).map(tuple)
    return draw(one | many)


def laid_out(array, layout):
    """A new array with the values of `array`: "C", "F" order, "negative" strides, or "sliced" from a wider one."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "negative":
        return np.flip(np.flip(array).copy())
    if layout == "sliced" and array.ndim:
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 99, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return np.array(array, order="C")


@st.composite
def points(draw, *shapes):
    """float64 arrays of these shapes, in layouts of their own; their entries are all different members of GRID."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = [math.prod(shape) for shape in shapes]
    values = rng.choice(GRID, sum(sizes), replace=False)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [laid_out(part.reshape(shape), draw(layouts)) for part, shape in zip(parts, shapes, strict=True)]


def broadcast_points(n):
    return broadcastable(n).flatmap(lambda found: points(*found))


def special(dtype):
    """±0, ±inf, NaN, ±subnormal, ±the smallest normal, ±1, the largest numbers and the neighbours of 1."""
    kind = np.finfo(dtype)
    positive = [0.0, np.inf, kind.smallest_subnormal, kind.tiny, 1.0, kind.max, 1 + kind.eps, 1 - kind.epsneg]
    return np.array([*positive, *[-x for x in positive], np.nan], dtype)
