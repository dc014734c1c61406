"""Tolerances: how far two correct computations of one number may lie apart.

Roundings are independent and of mean zero to a good approximation, so a sum of n products is off by at most
λ·√n·u·‖terms‖ with probability 1 − 2·exp(−λ²/2) (Higham & Mary 2019, Theorem 2.4), where u is half the distance of 1 to the
next number. `ROUNDINGS` is λ for a probability of 1e-12. What a formula loses by cancellation inside cannot be seen from
outside; it is measured, by moving every argument by one rounding, `PROBES` times, and multiplied by `MEASURED`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ROUNDINGS = math.sqrt(2 * math.log(2 / 1e-12))  # 7.5
# Four measured differences are all below 1/MEASURED of a fifth one with probability (2/π/√2/MEASURED·…)⁴ < 1e-6.
MEASURED = 4 * ROUNDINGS


def roundoff(dtype: Any) -> float:
    """u: the largest relative error of one rounding in `dtype`."""
    return float(np.finfo(dtype).eps) / 2


def of_sum(u: float, fan_in: int, *terms: float) -> float:
    """λ·√n·u·‖terms‖: a sum of `fan_in` products whose terms have the 2-norms `terms`."""
    return ROUNDINGS * math.sqrt(fan_in) * u * math.hypot(*terms)
