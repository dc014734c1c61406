"""What scaling a net's parameters does to its output: the paper's §6 and Appendix D.

- One ReLU: γf(wᵀx + b) = f(γwᵀx + γb), and ∇L(kw, kb; kΓ, kΔ) = k∇L(w, b; Γ, Δ), so trajectories from scaled starts are
  scaled ones: a single ReLU's death does not depend on γ if its start scales with γ.
- A net with N hidden layers: no single ν > 0 gives γŷ(x; θ) = ŷ(x; νθ) (Theorem D.1). The last layer shows why: its
  weights need ν^(N+1) = γ and its bias ν = γ. The theorem needs biases: where all are 0, ν = γ^(1/(N+1)) does it.
- One factor a layer works: ν = γ^(1/(N+1)) for all weights, ν^ℓ for the biases of layer ℓ = 1 … N + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError
from . import _checks
from ._checks import Real

Layers = Sequence[tuple[Real, Real]]


def _layers(layers: Layers) -> list[tuple[np.ndarray, np.ndarray]]:
    found = [(_checks.real("W", W), _checks.real("b", b)) for W, b in layers]
    widths = [W.shape[-1] for W, _ in found if W.ndim == 2]
    fits = len(widths) == len(found) > 0 and all(b.shape == (n,) for n, (_, b) in zip(widths, found, strict=True))
    if not fits or any(W.shape[0] != n for n, (W, _) in zip(widths, found[1:], strict=False)):
        raise ShapeError(f"layers are pairs W (I, O), b (O,) that fit together, got {[(W.shape, b.shape) for W, b in found]}")
    return found


def network(x: Real, layers: Layers) -> np.ndarray:
    """ŷ (..., O) of x (..., I): ReLU after every layer but the last; layers are pairs W (I, O), b (O,).

    Raises `ShapeError` for layers that do not fit together or x that does not fit the first.
    """
    x, found = _checks.real("x", x), _layers(layers)
    if x.ndim == 0 or x.shape[-1] != len(found[0][0]):
        raise ShapeError(f"x must be (..., {len(found[0][0])}) for this net, got {x.shape}")
    for W, b in found[:-1]:
        x = np.maximum(x @ W + b, 0)
    return x @ found[-1][0] + found[-1][1]


def scale_factors(gamma: float, hidden: int) -> tuple[float, np.ndarray]:
    """(ν, ν^ℓ for ℓ = 1 … N + 1): what to multiply weights and biases by, so that the output is multiplied by γ.

    Raises `ValueError` for gamma ≤ 0 or hidden < 0.
    """
    gamma = float(_checks.positive("gamma", gamma))
    layers = _checks.count("hidden", hidden, 0) + 1
    nu = gamma ** (1 / layers)
    return nu, nu ** np.arange(1, layers + 1)


def rescaled(layers: Layers, gamma: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """The layers with per-layer factors applied: network(x, rescaled(layers, γ)) = γ·network(x, layers)."""
    found = _layers(layers)
    nu, powers = scale_factors(gamma, len(found) - 1)
    return [(nu * W, power * b) for (W, b), power in zip(found, powers, strict=True)]
