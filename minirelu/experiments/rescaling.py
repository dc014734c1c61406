"""The rescaling theorem on trained nets (paper §6, App. D).

Claim: no single ν > 0 has γ·ŷ(x; θ) = ŷ(x; νθ) for a net with hidden layers and γ ≠ 1. Ours: so it is, and one factor a layer
does it (theory/rescaling.py). Nets of one, two and three hidden layers of 50 ReLUs, trained on diabetes for 2,000 steps.
Deviation: the paper proves, we measure, at γ = 1e-2. Run time: seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import data as data_sets
from .. import train
from ..estimates import error_estimate
from ..theory import rescaling as theory
from .verdicts import NOT_REPRODUCED, REPRODUCED, Claim, Finding

GAMMA, DEPTHS, WIDTH, STEPS = 1e-2, (1, 2, 3), 50, 2000
FACTORS = 2000  # single factors tried
CLAIM = Claim("No single factor of all parameters scales a net's output by γ", "§6, Theorem D.1; γ = 1e-2", "no ν exists")
PER_LAYER = Claim("γ·f(wᵀx + b) = f(γwᵀx + γb), and so for nets with a factor for each layer", "§6 for one ReLU", "exact")


def errors(depth: int, seeds: int, gamma: float = GAMMA) -> tuple[list[float], list[float]]:
    """For each net: the least relative error of γ·ŷ over single factors ν, and that with a factor for each layer."""
    X, y = data_sets.load("diabetes")
    result = train.train_mlp(X, y, widths=(WIDTH,) * depth, steps=STEPS, seeds=range(seeds), standardize=False)
    found = [_errors(X, [p[r].astype(float) for p in result.parameters.values()], gamma) for r in range(seeds)]
    return [one for one, _ in found], [each for _, each in found]


def _errors(X: np.ndarray, parameters: list[np.ndarray], gamma: float) -> tuple[float, float]:
    layers = [(W, b[0]) for W, b in zip(parameters[::2], parameters[1::2], strict=True)]
    wanted = gamma * theory.network(X, layers)

    def distance(made: Any) -> float:
        return float(np.linalg.norm(theory.network(X, made) - wanted) / np.linalg.norm(wanted))

    # ν lies between γ, which is right for the last bias, and γ^(1/(N+1)), which is right without biases
    factors = np.geomspace(gamma / 2, 2 * gamma ** (1 / len(layers)), FACTORS)
    return min(distance([(nu * W, nu * b) for W, b in layers]) for nu in factors), distance(theory.rescaled(layers, gamma))


def findings(seeds: int) -> list[Finding]:
    """The theorem, and what does work; n nets of each depth."""
    one, each = zip(*(errors(depth, seeds) for depth in DEPTHS), strict=True)
    least = [error_estimate(own) for own in one]
    words = "; ".join(f"{d} hidden: {e.mean:.2g} [{e.low:.2g}, {e.high:.2g}]" for d, e in zip(DEPTHS, least, strict=True))
    worst = max(max(own) for own in each)
    verdict = REPRODUCED if min(map(min, one)) > 1e-6 else NOT_REPRODUCED
    return [
        Finding(CLAIM, f"least relative error over ν, {words}", seeds, verdict),
        Finding(PER_LAYER, f"largest relative error of {3 * seeds} nets: {worst:.1g}", 3 * seeds,
                REPRODUCED if worst < 1e-10 else NOT_REPRODUCED),
    ]  # fmt: skip
