"""Momentum on a quadratic: a linear system with two states a coordinate (the paper's §4).

A coordinate with curvature h has the loss ½ha², a its distance from the minimum; (m, a)' = A (m, a), with q = ηh:

    "ema"         m ← βm + (1 − β)ha;  a ← a − ηm           tr = 1 + β − q(1 − β)   det = β           (paper, Eq. 6–7, 20)
    "heavy_ball"  m ← βm + ha;         a ← a − ηm           tr = 1 + β − q          det = β           (Polyak 1964)
    "nesterov"    m ← βm + ha;         a ← a − η(ha + βm)   tr = (1 + β)(1 − q)     det = β(1 − q)    (Nesterov 1983)

- `matrix`, `eigenvalues`, `spectral_radius`; `discriminant`, `oscillates`, `critical_beta`; `stable`, `stability_limit`.
- `response`: rₜ with aₜ = rₜ·a₀ when m₀ = 0. `overshoot`: when and how far rₜ goes below 0.
- `convert`: the learning rate and momentum that do the same in another form.

The affine model on x ~ N(0, I) has h = 1 in every coordinate, whatever the scale γ of its target. All arguments
broadcast. Raises `ValueError` for an unknown form, lr < 0, curvature < 0, beta outside [0, 1), or anything not finite.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import ShapeError
from . import _checks
from ._checks import Real

FORMS = ("ema", "heavy_ball", "nesterov")
SEARCHED, BLOCK = 1_000_000, 4000  # steps in which an overshoot is looked for, and how many at a time


class _System(NamedTuple):
    """Trace, determinant, first response and discriminant tr² − 4det, each of the broadcast shape."""

    trace: np.ndarray
    det: np.ndarray
    first: np.ndarray
    discriminant: np.ndarray


def _checked(form: str, lr: Real, beta: Real, curvature: Real) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """η, β, h."""
    _checks.choice("form", form, FORMS)
    lr, beta = _checks.at_least("lr", lr, 0), _checks.fraction("beta", beta)
    h = _checks.at_least("curvature", curvature, 0)
    _checks.broadcast(lr=lr, beta=beta, curvature=h)
    return lr, beta, h


def _system(form: str, lr: Real, beta: Real, curvature: Real) -> _System:
    """The discriminants are factored by hand, so that their signs are right up to the threshold itself."""
    lr, beta, h = _checked(form, lr, beta, curvature)
    q, root = lr * h, np.sqrt(beta)
    if form == "ema":
        step = q * (1 - beta)
        low, high = (1 - root) - q * (1 + root), (1 + root) - q * (1 - root)
        found = 1 + beta - step, beta, 1 - step, (1 - beta) * low * high
    elif form == "heavy_ball":
        found = 1 + beta - q, beta, 1 - q, ((1 - root) ** 2 - q) * ((1 + root) ** 2 - q)
    else:
        low, high = (1 - beta) - np.sqrt(q) * (1 + beta), (1 - beta) + np.sqrt(q) * (1 + beta)
        found = (1 + beta) * (1 - q), beta * (1 - q), 1 - q * (1 + beta), (1 - q) * low * high
    return _System(*np.broadcast_arrays(*found))


# ------------------------------------------------------------------------------------------------------ spectrum


def matrix(form: str, lr: Real, beta: Real, curvature: Real = 1.0) -> np.ndarray:
    """The state matrix A (..., 2, 2) of (m, a); for "ema" and curvature 1 the paper's Eq. 20."""
    lr, beta, h = np.broadcast_arrays(*_checked(form, lr, beta, curvature))
    if form == "ema":
        rows = beta, (1 - beta) * h, -lr * beta, 1 - lr * (1 - beta) * h
    elif form == "heavy_ball":
        rows = beta, h, -lr * beta, 1 - lr * h
    else:
        rows = beta, h, -lr * beta**2, 1 - lr * h * (1 + beta)
    return np.stack(rows, axis=-1).reshape(*lr.shape, 2, 2)


def eigenvalues(form: str, lr: Real, beta: Real, curvature: Real = 1.0) -> np.ndarray:
    """The two eigenvalues of A, complex (..., 2): ½(tr ± √(tr² − 4det)), the larger real or positive imaginary part first."""
    s = _system(form, lr, beta, curvature)
    half = 0.5 * np.sqrt(s.discriminant.astype(complex))
    return np.stack([0.5 * s.trace + half, 0.5 * s.trace - half], axis=-1)


def spectral_radius(form: str, lr: Real, beta: Real, curvature: Real = 1.0) -> np.ndarray:
    """max |λ|: √det where the eigenvalues are complex. Distances shrink by this factor a step in the long run."""
    return np.abs(eigenvalues(form, lr, beta, curvature)).max(axis=-1)


def discriminant(form: str, lr: Real, beta: Real, curvature: Real = 1.0) -> np.ndarray:
    """tr² − 4det in factored form. "ema": (1 − β)·[(1 − √β) − q(1 + √β)]·[(1 + √β) − q(1 − √β)]."""
    return _system(form, lr, beta, curvature).discriminant


def oscillates(form: str, lr: Real, beta: Real, curvature: Real = 1.0) -> np.ndarray:
    """Whether the eigenvalues are complex: exactly when β > `critical_beta`."""
    return discriminant(form, lr, beta, curvature) < 0


def critical_beta(form: str, lr: Real, curvature: Real = 1.0) -> np.ndarray:
    """β*, above which the eigenvalues are complex; inf where they are real for every β in [0, 1).

    "ema": ((1 − q)/(1 + q))²; "heavy_ball": (1 − √q)² for q < 4; "nesterov": (1 − √q)/(1 + √q) for q < 1. q = 0: inf.
    """
    lr, _, h = _checked(form, lr, 0.0, curvature)
    q = lr * h
    root = np.sqrt(q)
    star = {
        "ema": ((1 - q) / (1 + q)) ** 2,
        "heavy_ball": (1 - root) ** 2,
        "nesterov": np.where(q < 1, (1 - root) / (1 + root), np.inf),
    }[form]
    return np.where(star < 1, star, np.inf)[()]


def stability_limit(form: str, beta: Real, curvature: Real = 1.0) -> np.ndarray:
    """The learning rate from which on the system is unstable (from Jury's conditions |det| < 1, |tr| < 1 + det).

    h·η < 2(1 + β)/(1 − β) for "ema", 2(1 + β) for "heavy_ball", 2(1 + β)/(1 + 2β) for "nesterov"; inf for h = 0.
    """
    _, beta, h = _checked(form, 0.0, beta, curvature)
    below = {"ema": 1 - beta, "heavy_ball": np.ones_like(beta), "nesterov": 1 + 2 * beta}[form]
    with np.errstate(divide="ignore"):
        return (2 * (1 + beta) / below / h)[()]


def stable(form: str, lr: Real, beta: Real, curvature: Real = 1.0) -> np.ndarray:
    """Whether every start goes to 0: 0 < ηh and η below `stability_limit`."""
    lr, beta, h = _checked(form, lr, beta, curvature)
    return (lr * h > 0) & (lr < stability_limit(form, beta, h))


# ------------------------------------------------------------------------------------------------------ response


def response(form: str, lr: Real, beta: Real, t: Real, curvature: Real = 1.0) -> np.ndarray:
    """rₜ in closed form: aₜ = rₜ·a₀ after t steps from m₀ = 0. `t` broadcasts with the others.

    r₀ = 1 and rₜ = r₁Sₜ − det·Sₜ₋₁ with Sₜ = (λ₁ᵗ − λ₂ᵗ)/(λ₁ − λ₂), which is ρᵗ⁻¹ sin(ωt)/sin ω for a complex pair
    ρ·exp(±iω), and tλᵗ⁻¹ for a double eigenvalue. Raises `ValueError` for t that is negative or not whole.
    """
    t = _checks.steps("t", t)
    s = _system(form, lr, beta, curvature)
    _checks.broadcast(t=t, system=s.trace)
    trace, det, first, disc, t = np.broadcast_arrays(*s, t)
    later = first * _geometric(trace, det, disc, t) - det * _geometric(trace, det, disc, t - 1)
    return np.where(t == 0, 1.0, later)[()]


@np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")
def _geometric(trace: np.ndarray, det: np.ndarray, disc: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Sₜ = (λ₁ᵗ − λ₂ᵗ)/(λ₁ − λ₂) for t ≥ 0, without cancellation where λ₁ and λ₂ are close."""
    root = np.sqrt(np.abs(disc))
    omega, rho = np.arctan2(root, trace), np.sqrt(np.abs(det))
    wave = rho ** (t - 1) * np.sin(omega * t) / np.sin(omega)
    # real: λ₁ is the larger in size, x = λ₂/λ₁ in [−1, 1], and (1 − xᵗ)/(1 − x) needs log x = log1p(−(λ₁ − λ₂)/λ₁) near 1
    large = 0.5 * (trace + np.where(trace < 0, -root, root))
    x = np.where(large == 0, 0.0, det / large**2)
    log = np.log1p(-root / np.abs(large))
    close = np.where(root == 0, t, np.expm1(t * log) / np.expm1(log))
    decay = large ** (t - 1) * np.where(x > 0.5, close, (1 - x**t) / (1 - x))
    return np.where(t <= 0, 0.0, np.where(disc < 0, wave, decay))


class Overshoot(NamedTuple):
    """The first step with rₜ < 0, the step of the lowest rₜ, and that rₜ. (None, None, 0.0) if rₜ never goes below 0."""

    first: int | None
    deepest: int | None
    depth: float


def overshoot(form: str, lr: float, beta: float, curvature: float = 1.0) -> Overshoot:
    """When and how far a stable system passes its minimum, starting at rest.

    Real eigenvalues that are both positive never do. rₜ is searched to the step from which its envelope is above the
    lowest value found, at most `SEARCHED` steps; what lies above −1e-15 is rounding and counts as 0. Raises `ValueError`
    for a system that is not stable, or for arrays.
    """
    lr, beta, curvature = map(_one_number, ("lr", "beta", "curvature"), _checked(form, lr, beta, curvature))
    if not stable(form, lr, beta, curvature):
        limit = float(stability_limit(form, beta, curvature))
        raise ValueError(
            f"{form} with lr={lr:g}, beta={beta:g} on curvature {curvature:g} is not stable; 0 < lr < {limit:g} is"
        )
    pair = eigenvalues(form, lr, beta, curvature)
    first, deepest, depth = None, None, -1e-15
    if (pair.imag == 0).all() and (pair.real >= 0).all():
        return Overshoot(None, None, 0.0)
    log_radius = float(np.log(max(np.abs(pair).max(), 1e-300)))
    # |Sₜ| ≤ tρᵗ⁻¹, |r₁| ≤ 3 and |det| ≤ ρ², hence |rₜ| ≤ 4tρᵗ⁻¹
    for start in range(0, SEARCHED, BLOCK):
        if start and np.log(4 * start) + (start - 1) * log_radius < np.log(-depth):
            break
        r = response(form, lr, beta, np.arange(start, start + BLOCK), curvature)
        if first is None and (r < depth).any():
            first = start + int(np.argmax(r < depth))
        if r.min() < depth:
            deepest, depth = start + int(np.argmin(r)), float(r.min())
    return Overshoot(first, deepest, depth if deepest is not None else 0.0)


def _one_number(name: str, array: np.ndarray) -> float:
    if array.ndim:
        raise ShapeError(f"overshoot takes one {name}, got shape {array.shape}")
    return float(array)


# ---------------------------------------------------------------------------------------------------- conversions


def convert(source: str, target: str, lr: Real, beta: Real, curvature: Real = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(lr, beta) in the form `target` of what (lr, beta) is in the form `source`.

    EMA(η, β) is heavy ball (η(1 − β), β), step for step, on every loss. Nesterov(η, β) is heavy ball (η, β(1 − ηh)) on a
    coordinate of curvature h: the same eigenvalues, and rₜ(Nesterov) = (1 + β)·rₜ(heavy ball) − β·rₜ₋₁(heavy ball),
    because Nesterov's iterate is looked at one step of its velocity ahead. Raises `ValueError` where no beta in [0, 1)
    does it.
    """
    _checks.choice("target", target, FORMS)
    lr, beta, h = np.broadcast_arrays(*_checked(source, lr, beta, curvature))
    if source == target:
        return lr[()], beta[()]
    if source == "ema":
        lr = lr * (1 - beta)
    elif source == "nesterov":
        beta = beta * (1 - lr * h)
    if target == "nesterov":
        with np.errstate(divide="ignore", invalid="ignore"):
            beta = np.where(beta == 0, 0.0, beta / (1 - lr * h))
    if not ((beta >= 0) & (beta < 1)).all():
        raise ValueError(f"no {target} with beta in [0, 1) does the same: it would need beta={beta}")
    return (lr / (1 - beta) if target == "ema" else lr)[()], beta[()]
