"""The primitives: one function each, with its value and its vjp side by side, like a table of derivatives.

Arithmetic  add sub mul div neg pow matmul affine
Functions   exp log sqrt abs tanh sigmoid
Reductions  sum mean max min            Selection  maximum minimum where
Shapes      reshape transpose swapaxes broadcast_to index concatenate
Units       relu leaky_relu prelu elu affine_relu residual_relu batch_norm

Each takes Tensors or arrays and broadcasts like NumPy; `op.raw` is the same formula on arrays alone. The trailing axes
are (batch, features); anything before them is free, so replicas need no special case.

At a kink the slope is a choice, made once here: relu and abs 0; leaky_relu, prelu and elu that of the negative side;
maximum, minimum, max and min share the gradient equally among tied entries.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import kernels
from .backend import array_module, is_array
from .engine import Array, primitive
from .errors import ShapeError
from .products import row_sums, times

Axis = int | tuple[int, ...] | None


def swap(a: Array) -> Array:
    """`a` with its last two axes exchanged (a view)."""
    return a.swapaxes(-1, -2)


# ---------------------------------------------------------------------------------------------------- arithmetic


@primitive
def add(a, b):
    return a + b, (lambda g: g, lambda g: g)


@primitive
def sub(a, b):
    return a - b, (lambda g: g, lambda g: -g)


@primitive
def mul(a, b):
    return a * b, (lambda g: g * b, lambda g: g * a)


@primitive
def div(a, b):
    y = a / b
    return y, (lambda g: g / b, lambda g: -g * y / b)


@primitive
def neg(a):
    return -a, (lambda g: -g,)


@primitive
def pow(a, b):
    """aᵇ; the slope in b is taken as 0 where a = 0, its limit for b > 0."""
    y = a**b

    def slope_in_a(g):
        return array_module(a, b).where(b == 0, 0, g * b * a ** (b - 1))

    def slope_in_b(g):
        xp = array_module(a, b)
        return g * y * xp.log(xp.where(a == 0, 1, a)).astype(y.dtype)

    return y, (slope_in_a, slope_in_b)


@primitive
def matmul(a, b):
    """a (..., B, I) @ b (..., I, O); a vector on either side is a row or a column, as in NumPy."""
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul needs at least one axis on both sides, got shapes {a.shape} and {b.shape}")
    A = a[None, :] if a.ndim == 1 else a
    B = b[:, None] if b.ndim == 1 else b

    def lifted(g):
        if b.ndim == 1:
            g = g[..., None]
        return g[..., None, :] if a.ndim == 1 else g

    def pull_a(g):
        d = lifted(g) @ swap(B)
        return d[..., 0, :] if a.ndim == 1 else d

    def pull_b(g):
        d = swap(A) @ lifted(g)
        return d[..., 0] if b.ndim == 1 else d

    return a @ b, (pull_a, pull_b)


def _check_affine(x: Array, W: Array, b: Array) -> None:
    """Raise `ShapeError` unless x, W and b are arrays that make xW + b, and b adds no axis of its own."""
    _check_shapes(getattr(x, "shape", None), getattr(W, "shape", None), getattr(b, "shape", None))


@functools.lru_cache(maxsize=1024)
def _check_shapes(x: Any, W: Any, b: Any) -> None:
    def said(shape: Any) -> Any:
        return "a number" if shape is None else shape

    lead = x and W and _broadcast(x[:-2], W[:-2])
    if lead is None or len(x) < 2 or len(W) < 2 or x[-1] != W[-2]:
        raise ShapeError(f"xW + b needs x (..., B, I) and W (..., I, O), got {said(x)} and {said(W)}")
    if not b or b[-2:] != (1, W[-1]) or _broadcast(lead, b[:-2]) != lead:
        made = (*lead, x[-2], W[-1])
        raise ShapeError(f"xW is (..., B, O) = {made}, so b must be (..., 1, O) = (1, {W[-1]}), got {said(b)}")


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(one, other)
    except ValueError:
        return None


def _small_pull(mask, x, W):
    """The vjp of a small layer; an empty mask stands for no ReLU."""

    def pull(g, wanted):
        if not g.flags.c_contiguous:
            g = g.copy()
        return kernels.small_affine_backward(g, mask, x, W, wanted[0] is not None)

    return pull


@primitive
def affine(x, W, b):
    """xW + b: x (..., B, I), W (..., I, O), b (..., 1, O) -> (..., B, O). Raises `ShapeError`."""
    small = kernels.small_layer(x, W, b)
    if small:
        y, mask, _, _ = kernels.small_affine(*small, False)
        return y, _small_pull(mask, *small[:2])
    _check_affine(x, W, b)
    y = times(x, W)
    y += b

    def pull(g, wanted):
        dx = None if wanted[0] is None else times(g, W.swapaxes(-1, -2))
        dW = None if wanted[1] is None else times(x.swapaxes(-1, -2), g)
        return dx, dW, None if wanted[2] is None else row_sums(g)

    return y, pull


# ----------------------------------------------------------------------------------------------------- functions


@primitive
def exp(x):
    y = array_module(x).exp(x)
    return y, (lambda g: g * y,)


@primitive
def log(x):
    return array_module(x).log(x), (lambda g: g / x,)


@primitive
def sqrt(x):
    y = array_module(x).sqrt(x)
    return y, (lambda g: g / (2 * y),)


@primitive
def abs(x):
    xp = array_module(x)
    return xp.abs(x), (lambda g: g * xp.sign(x),)


@primitive
def tanh(x):
    y = array_module(x).tanh(x)
    return y, (lambda g: g * (1 - y * y),)


@primitive
def sigmoid(x):
    y = 1 / (1 + array_module(x).exp(-x))
    return y, (lambda g: g * y * (1 - y),)


# ---------------------------------------------------------------------------------------- reductions and selection


def _spread(g: Array, x: Array, axis: Axis, keepdims: bool) -> Array:
    """A reduced gradient `g`, repeated over the axes of `x` that were reduced."""
    xp = array_module(x)
    if axis is not None and not keepdims:
        g = xp.expand_dims(g, axis)
    return xp.broadcast_to(g, x.shape)


@primitive
def sum(x, *, axis=None, keepdims=False):
    return x.sum(axis=axis, keepdims=keepdims), (lambda g: _spread(g, x, axis, keepdims),)


@primitive
def mean(x, *, axis=None, keepdims=False):
    y = x.mean(axis=axis, keepdims=keepdims)
    return y, (lambda g: _spread(g, x, axis, keepdims) * (y.size / (x.size or 1)),)


def _extremum(x, y, axis, keepdims):
    """The vjp of a maximum or minimum `y` (axes kept) over `axis`: tied entries share."""
    xp = array_module(x)

    def pull(g):
        hit = x == y
        ties = hit.sum(axis=axis, keepdims=True, dtype=x.dtype)
        return xp.where(hit, _spread(g, x, axis, keepdims) / ties, 0)

    return (pull,)


@primitive
def max(x, *, axis=None, keepdims=False):
    y = x.max(axis=axis, keepdims=True)
    return y if keepdims else y.squeeze(axis), _extremum(x, y, axis, keepdims)


@primitive
def min(x, *, axis=None, keepdims=False):
    y = x.min(axis=axis, keepdims=True)
    return y if keepdims else y.squeeze(axis), _extremum(x, y, axis, keepdims)


def _share(a, b, wins):
    """The vjp of an elementwise choice between a and b: `wins(a, b)` where a is taken, halves where they tie."""
    xp = array_module(a, b)
    return (
        lambda g: xp.where(wins(a, b), g, xp.where(a == b, g / 2, 0)),
        lambda g: xp.where(wins(b, a), g, xp.where(a == b, g / 2, 0)),
    )


@primitive
def maximum(a, b):
    return array_module(a, b).maximum(a, b), _share(a, b, lambda p, q: p > q)


@primitive
def minimum(a, b):
    return array_module(a, b).minimum(a, b), _share(a, b, lambda p, q: p < q)


@primitive
def _choose(a, b, *, mask):
    xp = array_module(a, b, mask)
    return xp.where(mask, a, b), (lambda g: xp.where(mask, g, 0), lambda g: xp.where(mask, 0, g))


def where(mask: Array, a: Any, b: Any) -> Any:
    """a where `mask` (an array of bools) is true, else b."""
    return _choose(a, b, mask=mask)


# -------------------------------------------------------------------------------------------------------- shapes


@primitive
def reshape(x, *, shape):
    return x.reshape(shape), (lambda g: g.reshape(x.shape),)


@primitive
def transpose(x, *, axes=None):
    """`axes` as in NumPy: a permutation, or None to reverse them all."""
    y = x.transpose(axes)
    inverse = None if axes is None else tuple(sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim))
    return y, (lambda g: g.transpose(inverse),)


@primitive
def swapaxes(x, *, first=-1, second=-2):
    return x.swapaxes(first, second), (lambda g: g.swapaxes(first, second),)


@primitive
def broadcast_to(x, *, shape):
    return array_module(x).broadcast_to(x, shape), (lambda g: g,)


@primitive
def index(x, *, key):
    """x[key]: slices, integers, integer arrays (repeated entries add up) and masks."""

    def pull(g):
        xp = array_module(x)
        d = xp.zeros_like(x)
        if any(is_array(k) or isinstance(k, (list, tuple)) for k in (key if isinstance(key, tuple) else (key,))):
            xp.add.at(d, key, g)  # an integer array may name an entry twice
        else:
            d[key] = g
        return d

    return x[key], (pull,)


@primitive
def _join(*parts, axis):
    xp = array_module(*parts)
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part.shape[axis])

    def piece(i):
        def pull(g):
            at = [slice(None)] * g.ndim
            at[axis] = slice(ends[i], ends[i + 1])
            return g[tuple(at)]

        return pull

    return xp.concatenate(parts, axis=axis), tuple(piece(i) for i in range(len(parts)))


def concatenate(parts: Sequence[Any], axis: int = -1) -> Any:
    """Join Tensors and arrays along an existing axis."""
    return _join(*parts, axis=axis)


# --------------------------------------------------------------------------------------------------------- units


@primitive
def relu(x):
    """max(x, 0) by the table of special values (docs/decisions.md): NaN stays NaN, every zero is +0, slope 0 at 0."""
    xp = array_module(x)
    active = x > 0
    return xp.where(x <= 0, 0, x), (lambda g: xp.where(active, g, 0),)


@primitive
def leaky_relu(x, *, slope=0.01):
    """x where x > 0, else slope·x (Maas et al. 2013)."""
    xp = array_module(x)
    active = x > 0
    return xp.where(active, x, slope * x), (lambda g: xp.where(active, g, slope * g),)


@primitive
def prelu(x, slope):
    """x where x > 0, else slope·x with a learned slope (He et al. 2015)."""
    xp = array_module(x, slope)
    active = x > 0
    return xp.where(active, x, slope * x), (
        lambda g: xp.where(active, g, slope * g),
        lambda g: xp.where(active, 0, g * x),
    )


@primitive
def elu(x, *, alpha=1.0):
    """x where x > 0, else alpha·(eˣ − 1) (Clevert et al. 2016)."""
    xp = array_module(x)
    active = x > 0
    low = alpha * xp.expm1(xp.minimum(x, 0))  # the minimum, so that the branch not taken cannot overflow
    return xp.where(active, x, low), (lambda g: xp.where(active, g, g * (low + alpha)),)


@primitive
def affine_relu(x, W, b):
    """relu(xW + b) in fused kernels: x (..., B, I), W (..., I, O), b (..., 1, O) -> (..., B, O).

    Keeps a mask of one bit per unit and row instead of the pre-activation. Facts: `active` and `nonfinite`, (..., O).
    Raises `ShapeError`.
    """
    small = kernels.small_layer(x, W, b)
    if small:
        y, mask, active, nonfinite = kernels.small_affine(*small, True)
        return y, _small_pull(mask, *small[:2]), {"active": active, "nonfinite": nonfinite}
    _check_affine(x, W, b)
    z = times(x, W)
    if not z.flags.c_contiguous:  # CuPy may give the product the order of x
        z = array_module(z).ascontiguousarray(z)
    if b.dtype is z.dtype and b.shape == (*z.shape[:-2], 1, z.shape[-1]) and b.flags.c_contiguous:
        y, mask, active, nonfinite = kernels.rectify(z, b)
    else:
        y, mask, active, nonfinite = kernels.bias_relu_forward(z, b, out=z)

    def pull(g, wanted):
        if not g.flags.c_contiguous:
            g = array_module(g).ascontiguousarray(g)
        dz, db = kernels.relu_backward(g, mask, out=g)
        dx = None if wanted[0] is None else times(dz, W.swapaxes(-1, -2))
        return dx, None if wanted[1] is None else times(x.swapaxes(-1, -2), dz), db

    return y, pull, {"active": active, "nonfinite": nonfinite}


@primitive
def residual_relu(skip, z):
    """relu(skip + z) in a fused kernel, the table of special values with s = skip + z. Facts as in `affine_relu`."""
    xp = array_module(skip, z)
    if skip.shape != z.shape or z.ndim < 2 or z.dtype.kind != "f":
        s = skip + z  # what the kernel does not take: broadcasting, vectors, the complex numbers of a gradient check
        y, active = xp.where(s <= 0, 0, s), s > 0

        def pull(g, wanted):
            view = xp.where(active, g, 0)[...]  # two views: the engine must not take either for its own
            return view, view

        return y, pull

    y, mask, active, nonfinite = kernels.residual_relu(z, skip)

    def pull_fused(g, wanted):
        dz, _ = kernels.relu_backward(g, mask, out=g if g.flags.c_contiguous else None)
        view = dz[...]
        return view, view

    return y, pull_fused, {"active": active, "nonfinite": nonfinite}


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of x (..., B, O) over the batch, each (..., 1, O)."""
    mean = x.mean(axis=-2, keepdims=True)
    return mean, ((x - mean) ** 2).mean(axis=-2, keepdims=True)


@primitive
def batch_norm(x, scale, shift, *, moments=None, eps=1e-5):
    """scale·x̂ + shift with x̂ = (x − mean)/√(variance + eps) over the batch (Ioffe & Szegedy 2015, Alg. 1).

    x (..., B, O), scale and shift (..., 1, O). `moments` may hand over `batch_moments(x)` if it is known already.
    """
    mean, variance = batch_moments(x) if moments is None else moments
    spread = array_module(x).sqrt(variance + eps)
    unit = (x - mean) / spread

    def pull(g, wanted):
        d_scale = (g * unit).sum(axis=-2, keepdims=True)
        d_shift = g.sum(axis=-2, keepdims=True)
        rows = x.shape[-2]
        dx = scale / spread * (g - d_shift / rows - unit * (d_scale / rows)) if wanted[0] is not None else None
        return dx, d_scale, d_shift

    return scale * unit + shift, pull
