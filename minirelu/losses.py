"""Losses: they reduce the last two axes, so a net gets one number and R replicas get (R,).

    mse        mean (p − t)²         half_mse   mean ½(p − t)²  (the paper's Eq. 10)
    huber      mean of ½e² where |e| <= delta, else delta·(|e| − ½delta)

`prediction` (..., B, O) is a Tensor; `target` (..., B, O) must have the same last two axes: (B,) against (B, 1) would
broadcast to (B, B) without a word, and is refused.
"""

from __future__ import annotations

from typing import Any

from .backend import array_module
from .engine import Array, primitive, quiet
from .errors import ShapeError


def _difference(prediction: Array, target: Array) -> tuple[Array, int]:
    """p − t, and the number of entries that one loss averages over."""
    p, t = prediction.shape, getattr(target, "shape", ())
    if len(p) < 2 or t[-2:] != p[-2:]:
        raise ShapeError(
            f"the loss compares predictions (..., B, O) = {p} with targets of the same last two axes, got {t}; "
            "a column of targets is y.reshape(-1, 1)"
        )
    return prediction - target, p[-2] * p[-1]


def _reduced(loss: Array, slope: Array, entries: int) -> tuple[Array, Any]:
    """The mean of `loss` over its last two axes, and the vjp of (p, t), given d loss / d p for each entry."""

    def pull(g: Array) -> Array:
        return slope * (g / entries)[..., None, None]

    # one flat sum per replica, so that its order depends on (B, O) alone
    mean = loss.reshape(*loss.shape[:-2], entries).sum(axis=-1) / entries
    return mean, (pull, lambda g: -pull(g))


@primitive
@quiet
def mse(prediction: Array, target: Array) -> Any:
    """mean (p − t)² over the last two axes."""
    e, entries = _difference(prediction, target)
    return _reduced(e * e, e + e, entries)


@primitive
@quiet
def half_mse(prediction: Array, target: Array) -> Any:
    """mean ½(p − t)² over the last two axes."""
    e, entries = _difference(prediction, target)
    return _reduced(0.5 * (e * e), e, entries)


@primitive
@quiet
def huber(prediction: Array, target: Array, *, delta: float = 1.0) -> Any:
    """mean of ½e² where |e| <= delta, else delta·(|e| − ½delta), over the last two axes (Huber 1964)."""
    e, entries = _difference(prediction, target)
    xp = array_module(e)
    size = xp.abs(e)
    loss = xp.where(size <= delta, 0.5 * (e * e), delta * (size - 0.5 * delta))
    return _reduced(loss, xp.clip(e, -delta, delta), entries)
