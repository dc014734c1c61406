"""Means with intervals.

- `estimate(values, low, high, resolution)`: an `Estimate`, mean and 95 % interval (Student's t); `stratified`: over groups.
- `error_estimate(errors)`: the geometric mean.

Dead shares are averaged as they are. Errors spread over orders of magnitude, so theirs is the geometric mean, with the
interval of the mean logarithm. A share is a count divided by the number of units: its spread over seeds is taken to be at
least 1/(units·√12), the rounding of a number to such steps, so that three equal counts do not make an interval of width 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean over n replicas with its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float
    n: int


def estimate(
    values: Sequence[float] | np.ndarray,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    resolution: float = 0.0,
    level: float = 0.95,
) -> Estimate:
    """Mean and interval of `values`, which lie in [low, high] and come in steps of `resolution`.

    One value alone gives the interval [low, high].
    """
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Estimate(mean, low, high, 1)
    spread = max(float(np.std(values, ddof=1)), resolution / 12**0.5)
    half = _quantile(n - 1, 0.5 + level / 2) * spread / n**0.5
    return Estimate(mean, max(mean - half, low), min(mean + half, high), n)


def stratified(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    resolution: float = 0.0,
) -> Estimate:
    """The mean over groups of their means, each group counting the same, and its 95 % interval given these groups.

    The spread is that within groups, pooled (Student's t with n − groups degrees of freedom). With one value in each group
    there is none: the interval is [low, high], and n is 1, so that nothing rests on it.
    """
    values, groups = np.asarray(values, float), np.asarray(groups)
    names, own, counts = np.unique(groups, return_inverse=True, return_counts=True)
    n, k = len(values), len(names)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    means = np.bincount(own, values) / counts
    mean = float(means.mean())
    if n == k:
        return Estimate(mean, low, high, 1)
    within = math.sqrt(float(((values - means[own]) ** 2).sum()) / (n - k))
    half = _quantile(n - k, 0.975) * max(within, resolution / 12**0.5) * math.sqrt(float((1 / counts).sum())) / k
    return Estimate(mean, max(mean - half, low), min(mean + half, high), n)


def _quantile(freedom: int, p: float) -> float:
    """Student's t. For many degrees of freedom its expansion (Abramowitz & Stegun 26.7.5), good to 1e-5 of it and quicker
    than importing SciPy.
    """
    if freedom < 500:
        from scipy.special import stdtrit

        return float(stdtrit(freedom, p))
    z = NormalDist().inv_cdf(p)
    return z + (z**3 + z) / (4 * freedom)


def error_estimate(errors: Sequence[float] | np.ndarray, level: float = 0.95) -> Estimate:
    """The geometric mean of these errors, with the interval of the mean logarithm."""
    logs = np.log(np.maximum(errors, 1e-300))
    mean, low, high, n = estimate(logs, level=level)
    return Estimate(math.exp(mean) if n else math.nan, _exp(low), _exp(high), n)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
