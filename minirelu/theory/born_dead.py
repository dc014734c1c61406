"""How often a deep ReLU net is born dead: constant at initialisation (Lu et al. 2019, "Dying ReLU and Initialization").

A net of depth L has L − 1 hidden layers. Weights are symmetric about 0 and independent.

- `upper_bound(depth, width)`: their Theorem 2, biases zero or symmetric. `lower_bound`: Theorem 3, one input, no biases.
- `point_survival(width, hidden)`: one input point is still active somewhere. `orthant_death(width)`: a layer of n units is
  dead on all of the positive orthant (symmetric biases).
- `rai_sigma(mean, second_moment)`: the spread of randomised asymmetric initialisation, from the law of its one entry.
- `simulate_*`: the same by drawing nets; `Share` is a count with its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from . import _checks

Widths = int | Sequence[int]


def _hidden_widths(depth: int, width: Widths) -> list[int]:
    hidden = _checks.count("depth", depth, 2) - 1
    if isinstance(width, (int, np.integer)):
        return [_checks.count("width", width)] * hidden
    widths = [_checks.count("width", n) for n in width]
    if len(widths) != hidden:
        raise ValueError(f"depth {depth} has {hidden} hidden layers, got {len(widths)} widths; give one a hidden layer")
    return widths


def upper_bound(depth: int, width: Widths) -> float:
    """P(born dead) ≤ 1 − Π(1 − 2^−Nₗ) over the hidden layers (Theorem 2): each layer may silence one given point.

    `width` is one number or one a hidden layer. Raises `ValueError` for depth < 2, width < 1 or a wrong number of widths.
    """
    exponents = np.array([float(n) for n in _hidden_widths(depth, width)])
    return float(-np.expm1(np.log1p(-(2.0**-exponents)).sum()))


def lower_bound(depth: int, width: int) -> float:
    """P(born dead) ≥ this, for one input and no biases (Theorem 3), all hidden layers equally wide.

    Such a net is two rays, x > 0 and x < 0. Count a layer that leaves them one active unit in common as leaving one ray,
    and let the rays differ as much as they can (orthogonal, which is best for survival). Then a layer of n units turns
    two rays into none with 4⁻ⁿ, keeps two with a₂ = (1 − 2⁻ⁿ)² − n4⁻ⁿ, and keeps one ray with a₁ = 1 − 2⁻ⁿ; after the
    first layer there are two with 1 − 2^(1−n). Summed, with k = depth − 2 further layers:

        1 − a₁ᵏ − (1 − 2^(1−n))(1 − 2⁻ⁿ)/(1 + (n − 1)2⁻ⁿ)·(a₁ᵏ − a₂ᵏ)

    Raises `ValueError` for depth < 2 or width < 1.
    """
    k, n = _checks.count("depth", depth, 2) - 2, _checks.count("width", width)
    p = 2.0**-n
    one, two = 1 - p, (1 - p) ** 2 - n * p * p
    weight = (1 - 2 * p) * (1 - p) / (1 + (n - 1) * p)
    dead_one = -np.expm1(k * np.log1p(-p))  # 1 − a₁ᵏ
    return float(dead_one - weight * (one**k - two**k))


def point_survival(width: int, hidden: int) -> float:
    """(1 − 2⁻ⁿ)ᵏ: the chance that one input point is still active after k hidden layers of n units."""
    n, k = _checks.count("width", width), _checks.count("hidden", hidden, 0)
    return float(np.exp(k * np.log1p(-(2.0**-n))))


def orthant_death(width: int) -> float:
    """2^(−n(n+1)): n units of n inputs and a symmetric bias are all silent wherever x ≥ 0: all entries are ≤ 0."""
    n = _checks.count("width", width)
    return float(2.0 ** (-n * (n + 1)))


def rai_sigma(mean: float, second_moment: float) -> float:
    """σ_w = √2·(−μ₁/√π + √(μ₁²/π + 1 − μ₂)); .6007 for Beta(2, 1), whose moments are 2/3 and 1/2 (Lu et al., §4).

    Rows are N(0, σ_w²/n) but for one entry p ≥ 0 of these moments. E[f(Z)²] ≤ ½τ² + 2φ(0)mτ + m² for Z ~ N(m, τ²), m ≥ 0,
    so a layer multiplies the second moment by at most ½σ_w² + √(2/π)·μ₁σ_w + μ₂; σ_w makes that 1. Raises `ValueError`
    where no law on [0, ∞) has these moments (mean < 0 or second_moment < mean²) or no σ_w > 0 exists (second_moment ≥ 1).
    """
    first, second = float(_checks.at_least("mean", mean, 0)), float(_checks.at_least("second_moment", second_moment, 0))
    if second < first**2 or second >= 1:
        raise ValueError(f"second_moment must be in [mean², 1) = [{first**2:g}, 1), got {second:g}")
    return float(np.sqrt(2) * (np.sqrt(first**2 / np.pi + 1 - second) - first / np.sqrt(np.pi)))


# ------------------------------------------------------------------------------------------------------ simulation


class Share(NamedTuple):
    """`mean` of n trials with its 95 % interval (Clopper & Pearson)."""

    mean: float
    low: float
    high: float
    n: int


def share(hits: int, n: int) -> Share:
    """The exact interval for `hits` of `n`. Raises `ValueError` unless 0 ≤ hits ≤ n and n ≥ 1."""
    hits, n = _checks.count("hits", hits, 0), _checks.count("n", n)
    if hits > n:
        raise ValueError(f"hits must be at most n = {n}, got {hits}")
    low = special.betaincinv(hits, n - hits + 1, 0.025) if hits else 0.0
    high = special.betaincinv(hits + 1, n - hits, 0.975) if hits < n else 1.0
    return Share(hits / n, float(low), float(high), n)


def simulate_born_dead(depth: int, width: Widths, n: int = 10_000, seed: int = 0, law: str = "he") -> Share:
    """The share of n nets of one input that are constant on it.

    "he": N(0, 2/I) without biases: such a net is decided by x = ±1, so the share is unbiased and both bounds hold for it.
    "rai": He in the first layer, then rows [W, b] as in `rai_sigma` with Beta(2, 1); constant is tested on 65 points of
    [−√3, √3], so it may be overestimated slightly. Raises `ValueError` for an unknown law, and as the bounds.
    """
    widths, n = _hidden_widths(depth, width), _checks.count("n", n)
    _checks.choice("law", law, ("he", "rai"))
    rng = np.random.default_rng(_checks.count("seed", seed, 0))
    x = np.array([-1.0, 1.0]) if law == "he" else np.linspace(-(3**0.5), 3**0.5, 65)
    hits, block = 0, 2000  # nets at a time, so that memory stays small
    for start in range(0, n, block):
        y = np.broadcast_to(x[:, None], (min(block, n - start), len(x), 1))
        for layer, units in enumerate(widths):
            y = np.maximum(_affine(y, units, rng, law == "rai" and layer > 0), 0)
        hits += int((y == y[:, :1]).all(axis=(1, 2)).sum())
    return share(hits, n)


def _affine(y: np.ndarray, units: int, rng: np.random.Generator, rai: bool) -> np.ndarray:
    """A new layer on y (nets, points, I): He without biases, or RAI."""
    nets, _, inputs = y.shape
    if not rai:
        return y @ rng.normal(0.0, (2 / inputs) ** 0.5, (nets, inputs, units))
    rows = rng.normal(0.0, rai_sigma(2 / 3, 1 / 2) / inputs**0.5, (nets, inputs + 1, units))
    place = rng.integers(0, inputs + 1, (nets, 1, units))
    np.put_along_axis(rows, place, rng.beta(2.0, 1.0, place.shape), axis=1)
    return y @ rows[:, :inputs] + rows[:, inputs:]


def simulate_point_survival(width: int, hidden: int, n: int = 10_000, seed: int = 0) -> Share:
    """The share of n nets, normal weights and biases, in which the point x = (1, …, 1) is active in every hidden layer."""
    width, hidden = _checks.count("width", width), _checks.count("hidden", hidden, 0)
    rng = np.random.default_rng(_checks.count("seed", seed, 0))
    y, alive = np.ones((_checks.count("n", n), 1, width)), np.ones(n, bool)
    for _ in range(hidden):
        y = np.maximum(y @ rng.normal(size=(n, width, width)) + rng.normal(size=(n, 1, width)), 0)
        alive &= (y > 0).any(axis=(1, 2))
    return share(int(alive.sum()), n)


def simulate_orthant_death(width: int, n: int = 100_000, seed: int = 0) -> Share:
    """The share of n layers with normal weights and biases that are silent on {x ≥ 0}, seen at 0 and far out on each axis.

    z = xW + b ≤ 0 for all x ≥ 0 if and only if it is at x = 0 and in the direction of every axis.
    """
    width, n = _checks.count("width", width), _checks.count("n", n)
    rng = np.random.default_rng(_checks.count("seed", seed, 0))
    x = np.vstack([np.zeros(width), 1e12 * np.eye(width)])
    z = x @ rng.normal(size=(n, width, width)) + rng.normal(size=(n, 1, width))
    return share(int((z <= 0).all(axis=(1, 2)).sum()), n)
