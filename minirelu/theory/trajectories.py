"""Gradient descent with momentum on the population loss, and the rule that says who overshoots into the dead cone.

- `trajectory(w, b, Gamma, Delta, lr, beta, steps)`: the path of one ReLU, or of many at once.
- `lowest_ratio(...)`, `dies_by_overshoot(...)`: what the linear system alone predicts for a unit in the linear cone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import _checks, linear_system
from ._checks import Real
from .population import TARGETS, raw_gradient


class Trajectory(NamedTuple):
    """w (steps + 1, ..., L) and b (steps + 1, ...), the start first."""

    w: np.ndarray
    b: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """z = b/‖w‖ at each step, ±inf or NaN where w = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.b / np.linalg.norm(self.w, axis=-1)


def velocity(momentum: str, beta: float, m: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, the direction of the step) after gradient g: the three forms at the top of linear_system.py."""
    m = beta * m + (1 - beta if momentum == "ema" else 1.0) * g
    return m, g + beta * m if momentum == "nesterov" else m


def trajectory(
    w: Real,
    b: Real,
    Gamma: Real,
    Delta: Real,
    lr: float = 0.1,
    beta: float = 0.0,
    steps: int = 1000,
    momentum: str = "ema",
    target: str = "linear",
) -> Trajectory:
    """`steps` steps from (w, b), starting at rest (m = 0). `momentum` is "ema" (Eq. 6–7), "heavy_ball" or "nesterov".

    Raises `ShapeError`, or `ValueError` for lr < 0, beta outside [0, 1), steps < 0, unknown names, or numbers that are not
    finite. A path that diverges goes on as inf and NaN.
    """
    _checks.choice("target", target, TARGETS)
    _checks.choice("momentum", momentum, linear_system.FORMS)
    rate, keep = _checks.at_least("lr", lr, 0), _checks.fraction("beta", beta)
    if rate.ndim or keep.ndim:
        raise _checks.ShapeError(f"trajectory takes one lr and one beta, got shapes {rate.shape} and {keep.shape}")
    steps = _checks.count("steps", steps, 0)
    w, b, Gamma, Delta = _checks.unit(w, b, Gamma, Delta)
    path = Trajectory(np.empty((steps + 1, *w.shape)), np.empty((steps + 1, *b.shape)))
    m_w, m_b = np.zeros(w.shape), np.zeros(b.shape)
    for t in range(steps + 1):
        path.w[t], path.b[t] = w, b
        with np.errstate(over="ignore", invalid="ignore"):
            dw, db = raw_gradient(w, b, Gamma, Delta, target)
            m_w, step_w = velocity(momentum, float(keep), m_w, dw)
            m_b, step_b = velocity(momentum, float(keep), m_b, db)
            w, b = w - rate * step_w, b - rate * step_b
    return path


def lowest_ratio(
    w: Real,
    b: Real,
    Gamma: Real,
    Delta: Real,
    lr: float = 0.1,
    beta: float = 0.9,
    momentum: str = "ema",
    steps: int = 1000,
) -> np.ndarray:
    """The lowest z = b/‖w‖ within `steps` steps if the unit were affine: w = Γ + rₜ(w₀ − Γ), b = Δ + rₜ(b₀ − Δ).

    That is its motion in the linear cone. For γ → 0 and Δ = 0 it is rₜ·(w₀, b₀): where rₜ < 0 the point is mirrored
    through the origin, from the linear cone into the dead one. Raises as `trajectory`.
    """
    w, b, Gamma, Delta = _checks.unit(w, b, Gamma, Delta)
    r = linear_system.response(momentum, lr, beta, np.arange(_checks.count("steps", steps) + 1))
    r = r.reshape(-1, *[1] * b.ndim)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (Delta + r * (b - Delta)) / np.linalg.norm(Gamma + r[..., None] * (w - Gamma), axis=-1)
    return np.nanmin(z, axis=0)[()]


def dies_by_overshoot(
    w: Real, b: Real, Gamma: Real, Delta: Real, lr: float = 0.1, beta: float = 0.9, momentum: str = "ema", below: float = -3.0
) -> np.ndarray:
    """The overshoot rule for units that start in the linear cone: such a unit dies if `lowest_ratio` < `below`.

    −3 is empirical: φ(−3) = .004 leaves too little gradient to turn back. Raises as `trajectory`.
    """
    return lowest_ratio(w, b, Gamma, Delta, lr, beta, momentum) < below
