"""What a training is judged by: dead at birth or died since, how much its hidden layer can still say, how soon it fits.

- `hidden(net, X)`: pre-activation and output of every hidden layer. `silent(z)`: units that never leave the negative side.
- `effective_rank(H)`: of a representation (Roy & Vetterli 2007). `steps_to(step, error, goal)`: convergence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import nn, ops
from ..engine import no_graph, quiet
from ..errors import ShapeError


@quiet
def hidden(net: nn.Sequential, X: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """[(z, h)] of every layer with an activation, each (..., N, O), and the output (..., N, 1); in evaluation mode.

    z is what the activation is given, so that for leaky units too it is known on which side they are.
    """
    found, x = [], X
    with nn.evaluating(net), no_graph():
        for layer in net.layers:
            z: Any = x
            if isinstance(layer, nn.Dense):
                z = ops.affine(x, layer.W, layer.b)
                x = layer.activation(z)
            else:
                x = layer(x)
            if isinstance(layer, (nn.Dense, nn.Activation)):
                found.append((_array(z), _array(x)))
    return found, _array(x)


def _array(x: Any) -> np.ndarray:
    return x.data if hasattr(x, "node") else x


def silent(z: np.ndarray) -> np.ndarray:
    """(..., O): units whose pre-activation z (..., N, O) is above 0 on no row, and finite on all.

    For a ReLU that is death; a leaky unit that is silent is alive, but on these rows it is an affine function, and what its
    kink could do is lost: the honest counterpart.
    """
    return ~(z > 0).any(axis=-2) & np.isfinite(z).all(axis=-2)


def effective_rank(H: np.ndarray) -> np.ndarray:
    """exp of the entropy of the singular values of H (..., N, O), as shares of their sum (Roy & Vetterli 2007): 1 to O.

    0 for a representation that is zero, NaN where it is not finite. H is not centred. Raises `ShapeError` for vectors.
    """
    H = np.asarray(H, np.float64)
    if H.ndim < 2:
        raise ShapeError(f"effective_rank takes representations (..., N, O), got shape {H.shape}")
    sound = np.isfinite(H).all(axis=(-2, -1))
    safe = np.where(sound[..., None, None], H, 0.0)
    largest = np.abs(safe).max(axis=(-2, -1), keepdims=True)
    values = np.linalg.svd(safe / np.where(largest > 0, largest, 1.0), compute_uv=False)
    total = values.sum(axis=-1, keepdims=True)
    share = values / np.where(total > 0, total, 1.0)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=-1)
    return np.where(sound, np.where(total[..., 0] > 0, np.exp(entropy), 0.0), np.nan)


def steps_to(step: np.ndarray, error: np.ndarray, goal: float) -> np.ndarray:
    """(...,): the first of the ascending `step` (T,) at which `error` (..., T) is at most `goal`; inf if it never is."""
    reached = np.asarray(error) <= goal  # false for NaN
    return np.where(reached.any(axis=-1), np.asarray(step, np.float64)[reached.argmax(axis=-1)], np.inf)
