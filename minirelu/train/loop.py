"""Minibatches that are a function of (seed, step), and the training loop.

    for x, t in minibatches(X, y, batch=64, seeds=0, steps=1000):
        loss = losses.mse(net(x), t); loss.backward(); opt.step()

- `minibatches(X, y, batch, seeds, steps, start)`: rows drawn with replacement by Philox4x32-10 (kernels/philox.py).
- `fit(net, opt, X, y, ...)`: that loop, with a callback every k steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import losses
from ..backend import array_module, is_array
from ..engine import Array
from ..errors import ShapeError, whole
from ..init import seed_array
from ..kernels.philox import batch_rows
from ..nn import Layer
from ..optim import Optimiser

# Rows drawn at a time: enough to pay for the NumPy calls, small enough to stay in the cache.
DRAWN_AHEAD = 1 << 14


def minibatches(
    X: Array, y: Array, batch: int, seeds: int | Sequence[int] | np.ndarray, steps: int | None = None, start: int = 0
) -> Iterator[tuple[Array, Array]]:
    """Pairs (x, t) for the steps start, start + 1, …, `steps` of them (None: without end).

    X (N, I), y (N, O), arrays or lists. With one seed x is (B, I) and t (B, O); with R seeds, one a replica, (R, B, I) and
    (R, B, O), and y may be (R, N, O), targets of each replica's own. The batch of a step depends on the seed and the step
    alone.
    Raises `ShapeError`, `ValueError` or `TypeError` before the first batch.
    """
    X, y = (a if is_array(a) else np.asarray(a) for a in (X, y))
    keys = seed_array(seeds)
    replicas = keys.shape  # () or (R,)
    if X.ndim != 2 or y.ndim < 2 or y.shape[-2] != len(X) or y.shape[:-2] not in ((), replicas) or not 0 < len(X) < 2**32:
        raise ShapeError(
            f"minibatches takes X (N, I) and y (N, O) or, with R seeds, (R, N, O), with N >= 1 rows; got X {X.shape}, "
            f"y {y.shape} and seeds of shape {replicas}; a column of targets is y.reshape(-1, 1)"
        )
    batch, start = whole("batch", batch, 1), whole("start", start, 0, 2**64)
    steps = None if steps is None else whole("steps", steps, 0, 2**64)
    return _batches(X, y, batch, keys, steps, start)


def _batches(X: Array, y: Array, batch: int, seeds: np.ndarray, steps: int | None, start: int) -> Iterator[tuple[Any, Any]]:
    xp = array_module(X, y)
    keys = seeds.reshape(-1)
    ahead = max(1, DRAWN_AHEAD // (batch * len(keys)))
    own = xp.arange(len(keys))[:, None]
    step, end = start, None if steps is None else start + steps
    while end is None or step < end:
        count = ahead if end is None else min(ahead, end - step)
        drawn = xp.asarray(batch_rows(keys, step, count, batch, len(X)))  # (R, count, B)
        for k in range(count):
            rows = drawn[:, k] if seeds.ndim else drawn[0, k]
            yield X[rows], y[own, rows] if y.ndim > 2 else y[rows]
        step += count


def fit(
    net: Layer,
    opt: Optimiser,
    X: Array,
    y: Array,
    *,
    batch: int = 64,
    steps: int,
    seeds: int | Sequence[int] | np.ndarray,
    loss: Callable[[Any, Any], Any] = losses.mse,
    every: int = 1000,
    callback: Callable[[int, Any], object] | None = None,
) -> None:
    """Train until `opt` has made `steps` steps in all; a resumed optimiser goes on where it stopped.

    `callback(step, loss)` is called with the step's loss Tensor, its graph still whole, before the first step's update,
    then before every `every`-th and before the last one. Raises as `minibatches`.
    """
    dtype = net.parameters()[0].data.dtype
    X, y = ((a if is_array(a) else np.asarray(a)).astype(dtype, copy=False) for a in (X, y))
    steps, every, first = whole("steps", steps, 0, 2**64), whole("every", every, 1), opt.steps
    for step, (x, t) in enumerate(minibatches(X, y, batch, seeds, max(steps - first, 0), first), first):
        value = loss(net(x), t)
        if callback is not None and (step == first or step % every == 0 or step == steps - 1):
            callback(step, value)
        value.backward()
        opt.step()
