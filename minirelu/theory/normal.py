"""The normal distribution in one and two dimensions, right in the tails and at the ends.

- `ratio(mean, std)`: mean/std, cut to ±`LIMIT`, also for std = 0.
- `pdf`, `cdf`: φ and Φ. `bivariate_cdf(h, k, r)`: Φ₂, P(X < h, Y < k) for standard normals of correlation r.
- `rectified_mean`, `rectified_square`: E[f(Z)] and E[f(Z)²] for Z ~ N(mean, std²), f = max(·, 0).
"""

from __future__ import annotations

import numpy as np
from scipy import special

# φ(±40) = 0 and Φ(−40) = 0 in float64: beyond, nothing changes, and z·φ(z) is 0 and not inf·0
LIMIT = 40.0
_TINY = 1e-150
_PEAK = (2 * np.pi) ** -0.5


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def ratio(mean: np.ndarray, std: np.ndarray, undecided: float) -> np.ndarray:
    """mean/std in [−LIMIT, LIMIT] for std ≥ 0, and `undecided` for 0/0."""
    mean, std = np.asarray(mean), np.asarray(std)
    return np.clip(np.where((mean == 0) & (std == 0), undecided, mean / std), -LIMIT, LIMIT)


def pdf(z: np.ndarray) -> np.ndarray:
    return _PEAK * np.exp(-0.5 * z * z)


def cdf(z: np.ndarray) -> np.ndarray:
    return special.ndtr(z)


def rectified_mean(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """E[f(Z)] = std·φ(z) + mean·Φ(z), z = mean/std; in the tail its relative error is about z²·1e-15."""
    z = ratio(mean, std, 0.0)
    return np.maximum(std * pdf(z) + mean * cdf(z), 0)


def rectified_square(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """E[f(Z)²] = (std² + mean²)Φ(z) + mean·std·φ(z); in the tail its relative error is about z⁴·1e-14."""
    z = ratio(mean, std, 0.0)
    return np.maximum((std**2 + mean**2) * cdf(z) + mean * std * pdf(z), 0)


@np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore")
def bivariate_cdf(h: np.ndarray, k: np.ndarray, r: np.ndarray, s: np.ndarray | None = None) -> np.ndarray:
    """Φ₂(h, k; r) by Owen's T (Owen 1956, Eq. 2.1), error about 1e-16; s = √(1 − r²), if it is known more exactly.

    The result is cut to Fréchet's bounds [Φ(h) + Φ(k) − 1, min(Φ(h), Φ(k))], so in the tails it is never larger than
    what it is a part of. r = ±1 is allowed.
    """
    h, k, r = (np.asarray(a, np.float64) for a in (h, k, r))
    s = np.sqrt((1 - r) * (1 + r)) if s is None else s
    # the formula is continuous at 0 from either side
    h0, k0 = (np.where(np.abs(a) < _TINY, _TINY, a) for a in (h, k))
    # k − rh and h − rk through k − h (r > 0) or k + h: their rounding errors must not be divided by a small s
    sign = np.where(r < 0, -1.0, 1.0)
    rest = s * s / (1 + np.abs(r))  # 1 − |r|
    to_h, to_k = (k0 - sign * h0) + sign * rest * h0, (h0 - sign * k0) + sign * rest * k0
    owen = special.owens_t(h0, to_h / (h0 * s)) + special.owens_t(k0, to_k / (k0 * s))
    inside = 0.5 * (cdf(h) + cdf(k)) - owen - np.where((h0 < 0) != (k0 < 0), 0.5, 0.0)
    least, most = np.maximum(cdf(h) - cdf(-k), 0), np.minimum(cdf(h), cdf(k))
    return np.where(s == 0, np.where(r > 0, most, least), np.clip(inside, least, most))
