"""Data sets for regression: X (N, I) and y (N, 1), float64, every column with mean 0 and standard deviation 1.

    X, y = load("diabetes")        442 x 10, inside scikit-learn (Efron et al. 2004)
    X, y = load("friedman1")       1000 x 10, 10·sin(πx₁x₂) + 20(x₃ − ½)² + 10x₄ + 5x₅ + N(0, 1), x ~ U(0, 1) (Friedman 1991)
    X, y = load("gaussian")        1000 x 5, x ~ N(0, I), y = Γᵀx with ‖Γ‖ = 1: the paper's linear target (Eq. 2)

- `load(name, standardise=True, seed=0)`: all rows are the training set, as in the paper.
- `split(X, y, test=0.2, seed=0)`: (X, y, X_test, y_test), standardised with the training rows' statistics alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import DataError, ShapeError

Data = tuple[np.ndarray, np.ndarray]


def load(name: str, *, standardise: bool = True, seed: int = 0) -> Data:
    """The data set `name`. `seed` draws the generated ones; `standardise=False` leaves the columns as they are.

    Raises `DataError` for an unknown name, and where scikit-learn is needed and missing.
    """
    if name not in SETS:
        raise DataError(f"there is no data set called {name!r}; expected one of {', '.join(SETS)}")
    X, y = SETS[name](np.random.default_rng(seed))
    return (standardised(X)[0], standardised(y)[0]) if standardise else (X, y)


def standardised(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """`train` and `others` less the mean, divided by the standard deviation, both those of the rows of `train`.

    A constant column becomes 0.
    """
    mean, std = train.mean(axis=0), train.std(axis=0)
    # a column whose spread is rounding error of its mean is constant
    constant = std <= 10 * np.finfo(float).eps * np.abs(train).max(axis=0, initial=0.0)
    return tuple(np.where(constant, 0.0, (a - mean) / np.where(constant, 1.0, std)) for a in (train, *others))


def split(X: np.ndarray, y: np.ndarray, *, test: float = 0.2, seed: int = 0) -> tuple[np.ndarray, ...]:
    """(X, y, X_test, y_test): a random share `test` of the rows set apart, all standardised with the training rows."""
    if len(X) != len(y):
        raise ShapeError(f"X has {len(X)} rows and y has {len(y)}; they must agree")
    order = np.random.default_rng(seed).permutation(len(X))
    held_out = round(test * len(X))
    if not 0 < held_out < len(X):
        raise ValueError(f"test={test} of {len(X)} rows leaves {len(X) - held_out} to train and {held_out} to test on")
    kept, apart = order[held_out:], order[:held_out]
    (X_train, X_test), (y_train, y_test) = standardised(X[kept], X[apart]), standardised(y[kept], y[apart])
    return X_train, y_train, X_test, y_test


def _diabetes(rng: np.random.Generator) -> Data:
    try:
        from sklearn.datasets import load_diabetes
    except ImportError as error:
        raise DataError("the diabetes set lies inside scikit-learn; install it with pip install 'minirelu[lab]'") from error
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return X, y.reshape(-1, 1)


def _friedman1(rng: np.random.Generator) -> Data:
    X = rng.uniform(size=(1000, 10))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    return X, (y + rng.normal(size=1000)).reshape(-1, 1)


def _gaussian(rng: np.random.Generator) -> Data:
    X = rng.normal(size=(1000, 5))
    direction = rng.normal(size=(5, 1))
    return X, X @ (direction / np.linalg.norm(direction))


SETS: dict[str, Callable[[np.random.Generator], Data]] = {
    "diabetes": _diabetes,
    "friedman1": _friedman1,
    "gaussian": _gaussian,
}
