"""When a column of numbers is constant: one rule for all that divides by standard deviations.

- `constant(mean, std, rows)`
"""

from __future__ import annotations

import numpy as np

EPS = float(np.finfo(np.float64).eps)


def constant(mean: np.ndarray, std: np.ndarray, rows: int) -> np.ndarray:
    """Whether the spread of columns, with these means and standard deviations (÷ N) of N rows, is rounding error of the mean.

    scikit-learn's rule σ² <= N·eps·σ² + (N·μ·eps)²: a sum of N numbers is right to N·eps of it, and so is the mean. It is
    applied to standard deviations, which neither overflow nor underflow where variances would.
    """
    small = rows * EPS
    return std * max(1 - small, 0.0) ** 0.5 <= small * np.abs(mean)
