"""The paper's own forms of the gradient: rotated (Eq. 27–29), and in the plane of its figures (Eq. 30–32).

- `rotation(w)`: an orthogonal U with Uw = (0, …, 0, ‖w‖) (Eq. 13–14).
- `rotated_gradient(w, b, Gamma, Delta)`: (U ∂L/∂w, ∂L/∂b).
- `plane_gradient(w, b, gamma, Delta, form, target)`: in the plane of w = (0, …, 0, w_L), b with Γ = (0, …, 0, γ):

      ∂L/∂w = aΦ + ρ(c − ρaz)φ       (Eq. 31)     a = w − γ, c = b − Δ, ρ = sign w, z = b/|w|
      ∂L/∂b = ρaφ + cΦ               (Eq. 32)

Form "figure" leaves ρ out of Eq. 32: aφ + cΦ. That is not the gradient of anything for w < 0, but it is what the paper's
Figures 3–5 show (docs/theory.md).
"""

from __future__ import annotations

import numpy as np

from . import _checks
from ._checks import Real
from .normal import LIMIT, cdf, pdf, ratio
from .population import TARGETS, _dot, _unit

PLANE_FORMS = ("exact", "figure")


def rotation(w: Real) -> np.ndarray:
    """U (..., L, L), orthogonal, with Uw = (0, …, 0, ‖w‖): a reflection of u to ±the last axis. For w = 0 any will do.

    Raises `ShapeError` if w has no axis, `ValueError` for numbers that are not finite.
    """
    w = _checks.unit(w, 0.0, w, 0.0)[0]
    u, L = _unit(w, np.zeros(w.shape[:-1])).u, w.shape[-1]
    sign = np.where(u[..., -1:] < 0, -1.0, 1.0)
    mirror = u + sign * np.eye(L)[-1]  # never near 0, so nothing cancels
    outer = mirror[..., :, None] * mirror[..., None, :]
    return -sign[..., None] * (np.eye(L) - 2 * outer / _dot(mirror, mirror)[..., None, None])


def rotated_gradient(w: Real, b: Real, Gamma: Real, Delta: Real) -> tuple[np.ndarray, np.ndarray]:
    """(U ∂L/∂w (..., L), ∂L/∂b (...)) for the linear target, as the paper prints it; ã = U(w − Γ):

    ã_iΦ for i ≠ L (Eq. 27), ã_LΦ + (c − ã_Lz)φ (Eq. 28), and ã_Lφ + cΦ (Eq. 29). Raises as `gradient`.
    """
    w, b, Gamma, Delta = _checks.unit(w, b, Gamma, Delta)
    p = _unit(w, b)
    a, c = (rotation(w) @ (w - Gamma)[..., None])[..., 0], b - Delta
    dw = a * p.cdf[..., None]
    dw[..., -1] += (c - a[..., -1] * p.z) * p.pdf
    return dw, (a[..., -1] * p.pdf + c * p.cdf)[()]


def plane_gradient(
    w: Real, b: Real, gamma: Real, Delta: Real = 0.0, form: str = "exact", target: str = "linear"
) -> tuple[np.ndarray, np.ndarray]:
    """(∂L/∂w, ∂L/∂b) in the plane, for w, b, gamma and Delta that broadcast. See the top of this file.

    Raises `ShapeError`, or `ValueError` for gamma < 0, unknown names, form "figure" with target "relu" (the paper has no
    such figure), or numbers that are not finite.
    """
    check_form(form, target)
    w, b, Delta = (_checks.real(n, v) for n, v in (("w", w), ("b", b), ("Delta", Delta)))
    gamma = _checks.at_least("gamma", gamma, 0)
    _checks.broadcast(w=w, b=b, gamma=gamma, Delta=Delta)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        dw, db = raw_plane_gradient(w, b, gamma, Delta, form, target)
    return dw[()], db[()]


def check_form(form: str, target: str) -> None:
    _checks.choice("form", form, PLANE_FORMS)
    _checks.choice("target", target, TARGETS)
    if form == "figure" and target == "relu":
        raise ValueError("form 'figure' is how the paper drew the linear target; use form='exact' with target='relu'")


def raw_plane_gradient(w, b, gamma, Delta, form: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """`plane_gradient` of float64 arrays. Basins call it 30,000 times: the caller silences floating-point warnings."""
    n, rho = np.abs(w), np.sign(w)
    z = np.minimum(np.fmax(b / n, -LIMIT), LIMIT)  # fmax: 0/0 is in the dead cone
    density, active = pdf(z), cdf(z)
    if target == "relu":
        return _relu_target(w, b, gamma, Delta, n, rho, z, density, active)
    a, c = w - gamma, b - Delta
    dw = a * active + (z * gamma - rho * Delta) * density  # Eq. 31 with c − ρaz = ρzγ − Δ, which does not cancel
    if form == "exact":
        return dw, rho * a * density + c * active
    return dw, a * density + c * active


def _relu_target(w, b, gamma, Delta, n, rho, z, density, active):
    """The ReLU target where w and Γ are parallel (ρ = 1) or opposite (ρ = −1): both are active on an interval or a ray."""
    zeta = ratio(Delta, gamma, -LIMIT)
    both = np.where(rho > 0, cdf(np.minimum(z, zeta)), np.maximum(active - cdf(-zeta), 0))
    edge = Delta - rho * z * gamma
    own, other = edge > 0, np.heaviside(z - rho * zeta, 0.5)
    mass = Delta * both + gamma * pdf(zeta) * other + rho * gamma * density * np.where(edge == 0, 0.5, own)
    dw = active * w - rho * density * np.maximum(edge, 0) - both * gamma
    return dw, n * density + b * active - mass
