"""Losses: they reduce the last two axes, so a net gets one number and R replicas get (R,).

    mse        mean (p − t)²         half_mse   mean ½(p − t)²  (the paper's Eq. 10)
    huber      mean of ½e² where |e| <= delta, else delta·(|e| − ½delta)

`prediction` (..., B, O) is a Tensor; `target` (..., B, O) must have the same last two axes: (B,) against (B, 1) would
broadcast to (B, B) without a word, and is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .backend import array_module
from .engine import Array, primitive, quiet
from .errors import ShapeError

ndarray, dot, vdot = np.ndarray, np.dot, np.vdot


def _difference(prediction: Array, target: Array) -> tuple[Array, int]:
    """p − t, and the number of entries that one loss averages over (1 if there are none: the loss of no data is 0)."""
    p, t = prediction.shape, getattr(target, "shape", ())
    if len(p) < 2 or t[-2:] != p[-2:]:
        raise ShapeError(
            f"the loss compares predictions (..., B, O) = {p} with targets of the same last two axes, got {t}; "
            "a column of targets is y.reshape(-1, 1)"
        )
    return prediction - target, p[-2] * p[-1] or 1


def _squares(e: Array) -> Array:
    """Σ e² over the last two axes: one flat sum a replica, so that its order depends on (B, O) alone."""
    if e.ndim == 2 and type(e) is ndarray and e.dtype.kind == "f":
        return vdot(e, e)
    flat = e.reshape(*e.shape[:-2], e.shape[-2] * e.shape[-1])
    if type(e) is not ndarray:
        return (flat * flat).sum(axis=-1)
    if flat.ndim == 1:
        return dot(flat, flat)
    return np.array([dot(flat[r], flat[r]) for r in np.ndindex(flat.shape[:-1])], e.dtype).reshape(flat.shape[:-1])


def _pull(slope: Array, factor: float) -> Any:
    """The joint vjp for prediction and target where d loss / d prediction is factor·slope in each entry."""

    def pull(g: Array, wanted: Any) -> tuple[Any, Any]:
        # one loss: with NumPy's scalars, the quicker way
        d = slope * ((g * factor)[..., None, None] if g.ndim else g[()] * g.dtype.type(factor))
        return d, None if wanted[1] is None else -d

    return pull


@primitive
@quiet
def mse(prediction: Array, target: Array) -> Any:
    """mean (p − t)² over the last two axes."""
    e, entries = _difference(prediction, target)
    return _squares(e) / entries, _pull(e, 2 / entries)


@primitive
@quiet
def half_mse(prediction: Array, target: Array) -> Any:
    """mean ½(p − t)² over the last two axes."""
    e, entries = _difference(prediction, target)
    return _squares(e) / (2 * entries), _pull(e, 1 / entries)


@primitive
@quiet
def huber(prediction: Array, target: Array, *, delta: float = 1.0) -> Any:
    """mean of ½e² where |e| <= delta, else delta·(|e| − ½delta), over the last two axes (Huber 1964).

    Raises `ValueError` unless delta > 0.
    """
    if not delta > 0:
        raise ValueError(f"huber was given delta={delta!r}; expected delta > 0")
    e, entries = _difference(prediction, target)
    xp = array_module(e)
    size = xp.abs(e)
    loss = xp.where(size <= delta, 0.5 * (e * e), delta * (size - 0.5 * delta))
    total = loss.reshape(*loss.shape[:-2], loss.shape[-2] * loss.shape[-1]).sum(axis=-1)
    return total / entries, _pull(xp.clip(e, -delta, delta), 1 / entries)
