"""Data sets for regression: X (N, I) and y (N, 1), float64, every column with mean 0 and standard deviation 1.

    X, y = load("diabetes")                    442 x 10, inside scikit-learn (Efron et al. 2004)
    X, y = load("friedman1")                   1000 x 10, drawn by the formula of Friedman (1991); also "sine", "gaussian"
    X, y = load("airfoil")                     the paper's sets, from the folder MINIRELU_DATA: see docs/data.md
    X, y = load("openml:abalone")              by name or number from openml.org, through scikit-learn
    X, y = load("my.csv", target="price")      a file of your own

- `load(name_or_path, target=None, standardise=True, seed=0)`: all rows are the training set, as in the paper.
- `read(name_or_path, target=None, seed=0)`: the same as a `Table`, unscaled, with the columns' names and a note on its source.
- `moments(X)`: mean and standard deviation of every column. `standardised(X)`: the columns less one, over the other.
- `split(X, y, test=0.2, seed=0)`: (X, y, X_test, y_test), standardised with the training rows' statistics alone.
- `SETS`: the names.
"""

from __future__ import annotations

import os

import numpy as np

from ..columns import constant
from ..errors import DataError, ShapeError
from .table import Table, nearest

GENERATED = ("diabetes", "friedman1", "sine", "gaussian")
UCI = ("airfoil", "real_estate", "superconductivity", "facebook")
SETS = GENERATED + UCI


def load(
    name_or_path: str | os.PathLike[str], target: str | None = None, *, standardise: bool = True, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """X (N, I) and y (N, 1) of a set by name, an OpenML set, or a CSV file whose column `target` is predicted.

    `seed` draws the generated sets; `standardise=False` leaves the columns as they are. Raises `DataError`, with a
    sentence that says where and what to do, for whatever cannot be found, read or trained on.
    """
    table = read(name_or_path, target, seed=seed)
    return (standardised(table.X)[0], standardised(table.y)[0]) if standardise else (table.X, table.y)


def read(name_or_path: str | os.PathLike[str], target: str | None = None, *, seed: int = 0) -> Table:
    """The same, unscaled, as a `Table`: X, y, the names of the columns, and a note that says what was used."""
    name = os.fspath(name_or_path)
    if name in GENERATED:
        from .generated import generated

        return generated(name, seed).predicting(target)
    if name in UCI:
        from .uci import read_uci

        return read_uci(name).predicting(target)
    if name.startswith("openml:"):
        from .openml import read_openml

        return read_openml(name.removeprefix("openml:"), target)
    if not isinstance(name_or_path, str) or os.path.exists(name) or os.sep in name or "." in name:
        from .csv_files import read_csv

        return read_csv(name).predicting(target)
    raise DataError(
        f"there is no data set called {name!r}{nearest(name, SETS)}; expected one of {', '.join(SETS)}, "
        "openml:NAME_OR_NUMBER, or the path of a CSV file"
    )


def standardised(train: np.ndarray, *more: np.ndarray) -> tuple[np.ndarray, ...]:
    """`train` and `more` less the mean, divided by the standard deviation, both those of the rows of `train`.

    A constant column becomes 0. Raises `DataError` for a value that is not finite.
    """
    if not all(np.isfinite(a).all() for a in (train, *more)):
        raise DataError("there is a NaN or an infinity among the values to standardise; fill it in or delete the row")
    exponent = _exponent(train)
    train, *others = (np.ldexp(a, exponent) for a in (train, *more))
    mean, spread = moments(train)
    return tuple(np.where(spread == 0, 0.0, (a - mean) / np.where(spread == 0, 1.0, spread)) for a in (train, *others))


def moments(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every column of (N, K), each (K,); the latter is 0 where the column is `constant`."""
    exponent = _exponent(columns)
    columns = np.ldexp(columns, exponent)
    mean, spread = columns.mean(axis=0), columns.std(axis=0)
    spread = np.where(constant(mean, spread, len(columns)), 0.0, spread)
    return np.ldexp(mean, -exponent), np.ldexp(spread, -exponent)


def _exponent(columns: np.ndarray) -> np.ndarray:
    """Of the power of two, which changes no digit, that takes each column to where squares neither overflow nor vanish."""
    return -np.frexp(np.abs(columns).max(axis=0, initial=0.0))[1]


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
