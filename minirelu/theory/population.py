"""One ReLU f(wᵀx + b) on x ~ N(0, I): its expected loss, gradient and Hessian, in terms that need no rotation.

L = ½E[(f(wᵀx + b) − y)²] (the paper's Eq. 10), where y is Γᵀx + Δ (target "linear", the masked gradient of Eq. 11–12,
24–26) or f(Γᵀx + Δ) (target "relu", Eq. 5). With u = w/‖w‖, z = b/‖w‖, φ = φ(z), Φ = Φ(z):

    ∂L/∂w = Φw − φEu − PΓ         ∂L/∂b = E[f(wᵀx + b)] − B

(Stein's lemma on 1{wᵀx + b > 0}·y), where E = E[y | wᵀx + b = 0], and for the linear target P = Φ, B = E[y·1{active}] =
ΔΦ + γᵤφ with γᵤ = Γ·u, so that with a = w − Γ, c = b − Δ it becomes Φa + (c − z a·u)φu and (a·u)φ + cΦ (Eq. 27–29).
For the ReLU target P = P(active, Γᵀx + Δ > 0) is bivariate normal. Nothing is divided by 1 − r², r = Γ·u/‖Γ‖, so the
formulas hold where w and Γ are parallel.

At w = 0 the unit is active everywhere for b > 0 and nowhere for b ≤ 0, as f'(0) = 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import _checks
from ._checks import Real
from .normal import LIMIT, bivariate_cdf, cdf, pdf, ratio, rectified_mean, rectified_square

TARGETS = ("linear", "relu")


class _Unit(NamedTuple):
    """‖w‖, u and z, φ(z), Φ(z)."""

    norm: np.ndarray
    u: np.ndarray
    z: np.ndarray
    pdf: np.ndarray
    cdf: np.ndarray


def _norm(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """‖a‖ and a/‖a‖ (0 for a = 0), without overflow or underflow of the squares."""
    largest = np.abs(a).max(axis=-1)
    scaled = a / np.where(largest == 0, 1.0, largest)[..., None]
    length = np.sqrt(_dot(scaled, scaled))
    return largest * length, scaled / np.where(length == 0, 1.0, length)[..., None]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=-1)


def _unit(w: np.ndarray, b: np.ndarray) -> _Unit:
    norm, u = _norm(w)
    z = ratio(b, norm, -LIMIT)
    return _Unit(norm, u, z, pdf(z), cdf(z))


class _AtEdge(NamedTuple):
    """y on the hyperplane wᵀx + b = 0, before f: N(μ, τ²), μ = Δ − zγᵤ; and Γ's part across u, of length τ."""

    gamma_u: np.ndarray
    across: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def _at_edge(p: _Unit, Gamma: np.ndarray, Delta: np.ndarray) -> _AtEdge:
    gamma_u = _dot(Gamma, p.u)
    across = Gamma - gamma_u[..., None] * p.u
    return _AtEdge(gamma_u, across, Delta - p.z * gamma_u, _norm(across)[0])


class _Overlap(NamedTuple):
    """For the ReLU target: E = E[y | wᵀx + b = 0], P = P(both active), B = E[y·1{wᵀx + b > 0}]."""

    edge: np.ndarray
    both: np.ndarray
    mass: np.ndarray


def _overlap(p: _Unit, w: np.ndarray, b: np.ndarray, Gamma: np.ndarray, Delta: np.ndarray) -> _Overlap:
    """B = ΔP + E[Γᵀx·1{both active}] = ΔP + γφ(ζ)P(wᵀx + b > 0 | Γᵀx = −Δ) + γᵤφ(z)P(Γᵀx + Δ > 0 | wᵀx = −b)."""
    e = _at_edge(p, Gamma, Delta)
    gamma, v = _norm(Gamma)
    zeta = ratio(Delta, gamma, -LIMIT)
    known = gamma > 0
    safe = np.where(known, gamma, 1.0)
    both = bivariate_cdf(p.z, zeta, np.where(known, e.gamma_u / safe, 0.0), np.where(known, e.std / safe, 1.0))
    w_v = _dot(w, v)
    other = cdf(ratio(b - w_v * zeta, _norm(w - w_v[..., None] * v)[0], 0.0))
    own = cdf(ratio(e.mean, e.std, 0.0))
    mass = Delta * both + gamma * pdf(zeta) * other + e.gamma_u * p.pdf * own
    return _Overlap(rectified_mean(e.mean, e.std), both, mass)


def active_probability(w: Real, b: Real) -> np.ndarray:
    """P(wᵀx + b > 0) = Φ(b/‖w‖) (Eq. 23), for w (..., L) and b (...); at w = 0 it is 1 for b > 0 and 0 otherwise.

    Raises `ShapeError` for shapes that do not broadcast, `ValueError` for numbers that are not finite.
    """
    w, b, _, _ = _checks.unit(w, b, np.zeros(np.shape(w)[-1:]), 0.0)
    return _unit(w, b).cdf[()]


def cone(w: Real, b: Real, eps: float = 1e-4) -> np.ndarray:
    """−1 in the dead cone P(active) < eps, +1 in the linear cone P(active) > 1 − eps, 0 elsewhere.

    In z = b/‖w‖: dead is z < Φ⁻¹(eps), linear is z > −Φ⁻¹(eps); the paper's §5 prints both with the other sign. Raises as
    `active_probability`, and `ValueError` for eps outside (0, ½).
    """
    if not 0 < eps < 0.5:
        raise ValueError(f"eps must be in (0, 0.5), got {eps}")
    w, b, _, _ = _checks.unit(w, b, np.zeros(np.shape(w)[-1:]), 0.0)
    p = _unit(w, b)  # 1 − Φ(z) as Φ(−z), which is exact where 1 − Φ(z) is rounded
    return ((cdf(-p.z) < eps).astype(int) - (p.cdf < eps))[()]


def loss(w: Real, b: Real, Gamma: Real, Delta: Real, target: str = "linear") -> np.ndarray:
    """L = ½E[(f(wᵀx + b) − y)²], shape (...), for w, Gamma (..., L) and b, Delta (...).

    "linear": ½E[((w − Γ)ᵀx + b − Δ)²; active] + ½E[y²; not active], two terms without cancellation between them; in the
    dead cone ½(γ² + Δ²). "relu": ½E[f(wᵀx + b)²] + ½E[y²] − (w·(φEu + PΓ) + bB), error about 1e-16 of the first two.
    Raises `ShapeError`, or `ValueError` for an unknown target or numbers that are not finite.
    """
    _checks.choice("target", target, TARGETS)
    w, b, Gamma, Delta = _checks.unit(w, b, Gamma, Delta)
    p = _unit(w, b)
    if target == "relu":
        o = _overlap(p, w, b, Gamma, Delta)
        product = p.norm * p.pdf * o.edge + o.both * _dot(w, Gamma) + b * o.mass
        squares = rectified_square(b, p.norm) + rectified_square(Delta, _norm(Gamma)[0])
        return np.maximum(0.5 * squares - product, 0.0)[()]
    a, c = w - Gamma, b - Delta
    s, g = _dot(a, p.u), _dot(Gamma, p.u)
    active = (_dot(a, a) + c * c) * p.cdf + s * (2 * c - p.z * s) * p.pdf
    silent = (_dot(Gamma, Gamma) + Delta * Delta) * cdf(-p.z) + g * (p.z * g - 2 * Delta) * p.pdf
    return (0.5 * (active + silent))[()]


def gradient(w: Real, b: Real, Gamma: Real, Delta: Real, target: str = "linear") -> tuple[np.ndarray, np.ndarray]:
    """(∂L/∂w (..., L), ∂L/∂b (...)), see the top of this file; 0 in the dead cone and at w = 0, b ≤ 0.

    Raises `ShapeError`, or `ValueError` for an unknown target or numbers that are not finite.
    """
    _checks.choice("target", target, TARGETS)
    return raw_gradient(*_checks.unit(w, b, Gamma, Delta), target)


def raw_gradient(w: np.ndarray, b: np.ndarray, Gamma: np.ndarray, Delta: np.ndarray, target: str) -> tuple:
    """`gradient` of float64 arrays that broadcast already."""
    p = _unit(w, b)
    if target == "relu":
        o = _overlap(p, w, b, Gamma, Delta)
        dw = p.cdf[..., None] * w - (p.pdf * o.edge)[..., None] * p.u - o.both[..., None] * Gamma
        return dw, (rectified_mean(b, p.norm) - o.mass)[()]
    a, c = w - Gamma, b - Delta
    edge = Delta - p.z * _dot(Gamma, p.u)  # zs − c without its cancellation
    dw = p.cdf[..., None] * a - (p.pdf * edge)[..., None] * p.u
    return dw, (_dot(a, p.u) * p.pdf + c * p.cdf)[()]


def hessian(w: Real, b: Real, Gamma: Real, Delta: Real, target: str = "linear") -> np.ndarray:
    """The second derivatives (..., L + 1, L + 1) in the order (w, b).

    E[x̃x̃ᵀ; active] − (φ/‖w‖)·E[y x̃x̃ᵀ | wᵀx + b = 0] with x̃ = (x, 1). The first term is [[ΦI − zφuuᵀ, φu], [φuᵀ, Φ]];
    at the optimum the second is 0, as y = wᵀx + b there. At w = 0: I for b > 0 and 0 for b ≤ 0. Raises as `gradient`.
    """
    _checks.choice("target", target, TARGETS)
    w, b, Gamma, Delta = _checks.unit(w, b, Gamma, Delta)
    p, L = _unit(w, b), w.shape[-1]
    e = _at_edge(p, Gamma, Delta)
    # E[y], E[y·x across u] and E[y·x xᵀ across u] on the hyperplane, where x = −zu + x across u
    if target == "linear":
        mean, slope, bend = e.mean, e.across, np.zeros(e.std.shape)
    else:
        k = ratio(e.mean, e.std, 0.0)
        mean, slope = rectified_mean(e.mean, e.std), cdf(k)[..., None] * e.across
        bend = pdf(k) / np.where(e.std == 0, 1.0, e.std)
    along = _outer(p.u, p.u)
    across = np.eye(L) - along
    mixed = _outer(p.u, slope) + _outer(slope, p.u)
    m, z, density = (q[..., None, None] for q in (mean, p.z, p.pdf))
    yxx = m * (z * z * along + across) - z * mixed + bend[..., None, None] * _outer(e.across, e.across)
    yx = slope - (mean * p.z)[..., None] * p.u
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        weight = np.where(p.pdf == 0, 0.0, p.pdf / p.norm)
    H = np.empty((*w.shape[:-1], L + 1, L + 1))
    H[..., :L, :L] = p.cdf[..., None, None] * np.eye(L) - z * density * along - weight[..., None, None] * yxx
    H[..., :L, L] = H[..., L, :L] = p.pdf[..., None] * p.u - weight[..., None] * yx
    H[..., L, L] = p.cdf - weight * mean
    return H


def _outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., :, None] * b[..., None, :]
