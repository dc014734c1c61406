"""The sets that need no download.

diabetes     442 x 10, inside scikit-learn (Efron et al. 2004)
friedman1    1000 x 10, 10·sin(πx₁x₂) + 20(x₃ − ½)² + 10x₄ + 5x₅ + N(0, 1), x ~ U(0, 1) (Friedman 1991)
sine         1000 x 1, y = sin(2πx), x ~ U(−1, 1)
gaussian     1000 x 5, x ~ N(0, I), y = Γᵀx with ‖Γ‖ = 1: the paper's linear target (Eq. 2)
"""

from __future__ import annotations

import numpy as np

from ..errors import DataError
from .table import Columns


def generated(name: str, seed: int) -> Columns:
    """The set `name`, drawn from `seed` (diabetes does not depend on it)."""
    if name == "diabetes":
        return _diabetes()
    X, y = {"friedman1": _friedman1, "sine": _sine, "gaussian": _gaussian}[name](np.random.default_rng(seed))
    names = (*(f"x{i + 1}" for i in range(X.shape[1])), "y")
    note = f"{name}: drawn by its formula (seed {seed}), {len(X):,} rows, {X.shape[1]} input{'s' * (X.shape[1] > 1)}"
    return Columns(name, names, np.hstack([X, y.reshape(-1, 1)]), note, "y")


def _diabetes() -> Columns:
    try:
        from sklearn.datasets import load_diabetes
    except ImportError as error:
        raise DataError("the diabetes set lies inside scikit-learn; install it with pip install 'minirelu[lab]'") from error
    bunch = load_diabetes(scaled=False)
    names = (*bunch.feature_names, "progression")
    note = f"diabetes: {len(bunch.data)} patients, 10 inputs (Efron et al. 2004, inside scikit-learn)"
    return Columns("diabetes", names, np.column_stack([bunch.data, bunch.target]), note, "progression")


def _friedman1(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    X = rng.uniform(size=(1000, 10))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    return X, y + rng.normal(size=1000)


def _sine(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    X = rng.uniform(-1, 1, size=(1000, 1))
    return X, np.sin(2 * np.pi * X)


def _gaussian(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    X = rng.normal(size=(1000, 5))
    direction = rng.normal(size=(5, 1))
    return X, X @ (direction / np.linalg.norm(direction))
