"""All critical points of one ReLU's population loss, and what kind they are (the paper's §5, completed).

For w ≠ 0 and Γ ≠ 0, (Γ, Δ) is the only one, for both targets:

- linear: ∂L/∂b = 0 gives c = −sφ/Φ with s = a·u; then ∂L/∂w = 0 leaves a ∥ u and sΦV = 0, where V = 1 − zλ − λ², λ = φ/Φ,
  is the variance of a normal cut off below −z, so V > 0: hence s = 0, c = 0, a = 0.
- relu: across u, ∂L/∂w is −P times Γ's part, so u = ±Γ/γ. If u = Γ/γ, both equations give z + λ(z) = ζ + λ(ζ), ζ = Δ/γ, or
  those of the linear target; z + λ(z) increases strictly (its slope is V), so z = ζ. If u = −Γ/γ, the residual on the
  active set increases strictly in u·x, so it cannot be orthogonal to both 1 and u·x.

At w = 0: for b > 0, ∂L/∂w = −PΓ ≠ 0. For b < 0 everything is 0: the dead half-line, a saddle without any curvature,
since for small w the loss is below ½E[y²] if w·Γ > 0 and above it if w·Γ < 0. b = 0 is the kink.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import _checks
from ._checks import Real
from .normal import cdf, pdf, rectified_square
from .population import TARGETS, hessian, loss


class CriticalPoint(NamedTuple):
    """`kind` is "minimum" or "flat saddle"; a half-line is named by its end w = 0, b = 0, which is not part of it."""

    kind: str
    w: np.ndarray
    b: float
    half_line: bool
    loss: float
    curvatures: np.ndarray


def critical_points(Gamma: Real, Delta: Real, target: str = "linear") -> tuple[CriticalPoint, CriticalPoint]:
    """The optimum (Γ, Δ) and the dead half-line w = 0, b < 0, with the eigenvalues of their Hessians.

    At the optimum these are Φ(ζ), L − 1 times, and Φ − ½ζφ ± √((½ζφ)² + φ²): ½ and ½ ± φ(0) for Δ = 0. Raises `ShapeError`
    if Gamma is not one vector or Delta not one number, and `ValueError` for Gamma = 0 or an unknown target.
    """
    _checks.choice("target", target, TARGETS)
    Gamma, _, _, Delta = _checks.unit(Gamma, 0.0, Gamma, Delta)
    if Gamma.ndim != 1:
        raise _checks.ShapeError(f"critical_points takes one Gamma (L,) and one Delta, got a leading shape {Gamma.shape[:-1]}")
    gamma = np.linalg.norm(Gamma)
    if gamma == 0:
        raise ValueError("Gamma is 0, a constant target; its optimum is the constant itself: give a Gamma that is not 0")
    nowhere = np.zeros(Gamma.shape)
    square = gamma**2 + Delta**2 if target == "linear" else rectified_square(Delta, np.asarray(gamma))
    curvatures = np.linalg.eigvalsh(hessian(Gamma, Delta, Gamma, Delta, target))
    return (
        CriticalPoint("minimum", Gamma, float(Delta), False, float(loss(Gamma, Delta, Gamma, Delta, target)), curvatures),
        CriticalPoint("flat saddle", nowhere, 0.0, True, float(0.5 * square), np.zeros(len(Gamma) + 1)),
    )


def truncated_variance(z: Real) -> np.ndarray:
    """V(z) = 1 − zλ − λ², λ = φ(z)/Φ(z): the variance of a standard normal above −z. Its digits suffice for z ≥ −30."""
    z = _checks.real("z", z)
    hazard = pdf(z) / cdf(z)
    return (1 - hazard * (z + hazard))[()]
