"""Scalers of columns, made for targets: scikit-learn's interface, NumPy alone.

    TargetScaler(gamma=1.0, delta=0.0)     γ·(y − μ)/σ + δ                               the paper's Eq. 1
    StandardScaler()                       (y − μ)/σ                                     γ = 1, δ = 0
    MinMaxScaler(feature_range=(0, 1))     low + (high − low)·(y − min)/(max − min)
    IdentityScaler()                       y

    scaler = TargetScaler(gamma=1e-4).fit(y)          # y (N, O); one column is y.reshape(-1, 1)
    targets = scaler.transform(y)                     # train on these
    predictions = scaler.inverse_transform(outputs)   # in the units of y again

They work in scikit-learn's `TransformedTargetRegressor`, `Pipeline` and `clone`, which ask for nothing that is not here;
scikit-learn is never imported (but by itself). μ and σ (÷ N) are computed in float64, float32 comes back as float32.

`partial_fit` goes on with more rows, and gives bit for bit what `fit` gives on all of them, wherever the stream is cut:
rows are gathered into blocks of 1024, and the blocks are combined in order (Chan, Golub & LeVeque 1983).

A constant column gets σ = 1, and so does one whose spread is rounding error of its mean, by scikit-learn's rule (columns.py).
For `MinMaxScaler` a column is constant if max − min <= 10·eps·max|y|: the rule for σ, not the absolute
10·eps of scikit-learn, which takes a column of size 1e-17 for constant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from .columns import EPS, constant
from .errors import NotFittedError, ShapeError

BLOCK = 1024  # rows whose statistics are taken at once
LARGEST = np.float64(1e307)  # beyond it, the difference of two values may overflow

_UNFITTED = "this {} is not fitted; call fit or partial_fit with the training rows"


class _Stats(NamedTuple):
    """Of n rows, per column."""

    n: int
    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


class _Scaler:
    """What all scalers share: z = γ·(y − centre)/scale + δ, with centre and scale per column from `_learn`."""

    n_features_in_: int
    n_samples_seen_: int
    _stats: _Stats | None
    _rest: np.ndarray

    _learn: Callable[[_Stats], None]  # a scaler defines it: sets the fitted attributes
    _affine: Callable[[], tuple[Any, Any, float, float]]  # and this: (centre, scale, γ, δ)

    def _check_settings(self) -> None:
        """Raise `ValueError` for settings that make no sense; called by `fit`, not by `__init__` (clone needs it so)."""

    # ------------------------------------------------------------------------------------------------------ fitting

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the statistics of the columns of X (N, O), forgetting earlier ones. `y` is ignored.

        Raises `ShapeError` unless X is (N, O) with N, O >= 1, and `ValueError` for NaN, inf, values beyond ±1e307 and
        things that are not real numbers (`TypeError` for sparse matrices and objects); then nothing is changed.
        """
        self._check_settings()
        rows = _checked(X)
        self._stats, self._rest = None, rows[:0].astype(np.float64)
        self.n_samples_seen_, self.n_features_in_ = 0, rows.shape[1]
        return self._add(rows)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Go on with the rows of X (M, O): the same as `fit` on all rows so far, bit for bit. Raises as `fit`."""
        if not self._fitted():
            return self.fit(X)
        rows = _checked(X)
        self._check_columns(rows)
        return self._add(rows)

    def _add(self, rows: np.ndarray) -> Self:
        self.n_samples_seen_ += len(rows)
        waiting = np.concatenate([self._rest, rows])
        whole = len(waiting) // BLOCK * BLOCK
        for i in range(0, whole, BLOCK):
            self._stats = _combined(self._stats, _stats(waiting[i : i + BLOCK]))
        self._rest = waiting[whole:].copy()  # a view would keep all rows in memory
        self._learn(_combined(self._stats, _stats(self._rest)) if len(self._rest) else self._stats)  # type: ignore[arg-type]
        return self

    # ----------------------------------------------------------------------------------------------------- scaling

    def transform(self, X: Any) -> np.ndarray:
        """γ·(X − centre)/scale + δ, (N, O), float32 for float32 and else float64. Raises as `fit`, or `NotFittedError`."""
        rows = self._ready(X)
        centre, scale, gamma, delta = self._affine()
        return _like(rows, (rows - centre) / scale * gamma + delta)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """(X − δ)/γ·scale + centre, (N, O). Raises as `transform`.

        The way there and back ends within eps·(4|y − centre| + scale·|z|/γ + |y|) of y, where z is the scaled value (one
        rounding of half an eps for each operation); a large δ or a small γ thus costs digits. A constant column comes
        back as it was.
        """
        rows = self._ready(X)
        centre, scale, gamma, delta = self._affine()
        return _like(rows, (rows - delta) / gamma * scale + centre)

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """`fit(X).transform(X)`."""
        return self.fit(X).transform(X)

    def _ready(self, X: Any) -> np.ndarray:
        if not self._fitted():
            raise NotFittedError(_UNFITTED.format(type(self).__name__))
        self._check_settings()  # set_params may have changed them
        rows = _checked(X)
        self._check_columns(rows)
        return rows

    def _fitted(self) -> bool:
        return hasattr(self, "n_samples_seen_")

    def _check_columns(self, rows: np.ndarray) -> None:
        if rows.shape[1] != self.n_features_in_:
            raise ShapeError(
                f"X has {rows.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features as "
                "input; give it the columns it was fitted with"
            )

    # ------------------------------------------------------------------------------------- what scikit-learn asks for

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """{setting: value}, the arguments of `__init__`."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **settings: Any) -> Self:
        """Change settings; they count at once. Raises `ValueError` for an unknown name."""
        unknown = settings.keys() - self.get_params().keys()
        if unknown:
            known = ", ".join(self.get_params()) or "none"
            raise ValueError(f"{type(self).__name__} has no setting {', '.join(sorted(unknown))}; expected some of: {known}")
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the columns that come out: those that went in (x0, x1, … where they have none)."""
        if not self._fitted():
            raise NotFittedError(_UNFITTED.format(type(self).__name__))
        count = self.n_features_in_
        names = [f"x{i}" for i in range(count)] if input_features is None else list(input_features)
        if len(names) != count:
            raise ValueError(f"input_features should have length equal to number of features ({count}), got {names}")
        return np.asarray(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags  # only scikit-learn calls this

        keeps = TransformerTags(preserves_dtype=["float64", "float32"])
        return Tags(estimator_type=None, target_tags=TargetTags(required=False), transformer_tags=keeps)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"


# ------------------------------------------------------------------------------------------------------ the scalers


class TargetScaler(_Scaler):
    """γ·(y − μ)/σ + δ with the mean μ and the standard deviation σ (÷ N) of each column: the paper's Eq. 1.

    `gamma` > 0 is the standard deviation that the scaled column has, `delta` its mean. Fitted: `mean_`, `scale_` (σ, or 1
    for a constant column), `n_samples_seen_`, `n_features_in_`.
    """

    mean_: np.ndarray
    scale_: np.ndarray

    def __init__(self, gamma: float = 1.0, delta: float = 0.0) -> None:
        self.gamma, self.delta = gamma, delta

    def _check_settings(self) -> None:
        if not (np.isfinite(self.gamma) and self.gamma > 0 and np.isfinite(self.delta)):
            raise ValueError(f"{self!r}: gamma must be positive and finite, delta finite")

    def _learn(self, stats: _Stats) -> None:
        self.mean_, self.scale_ = stats.mean, np.where(constant(stats.mean, stats.std, stats.n), 1.0, stats.std)

    def _affine(self) -> tuple[Any, Any, float, float]:
        return self.mean_, self.scale_, self.gamma, self.delta


class StandardScaler(TargetScaler):
    """(y − μ)/σ: `TargetScaler` with γ = 1 and δ = 0."""

    gamma, delta = 1.0, 0.0

    def __init__(self) -> None:
        pass


class MinMaxScaler(_Scaler):
    """low + (high − low)·(y − min)/(max − min) for `feature_range` = (low, high); a constant column becomes low.

    Fitted: `data_min_`, `data_max_`, `data_range_`, `n_samples_seen_`, `n_features_in_`.
    """

    data_min_: np.ndarray
    data_max_: np.ndarray
    data_range_: np.ndarray

    def __init__(self, feature_range: tuple[float, float] = (0, 1)) -> None:
        self.feature_range = feature_range

    def _check_settings(self) -> None:
        low, high = self.feature_range
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ValueError(f"{self!r}: feature_range must be (low, high) with finite low < high")

    def _learn(self, stats: _Stats) -> None:
        self.data_min_, self.data_max_, self.data_range_ = stats.low, stats.high, stats.high - stats.low

    def _affine(self) -> tuple[Any, Any, float, float]:
        low, high = self.feature_range
        size = np.maximum(np.abs(self.data_min_), np.abs(self.data_max_))
        return self.data_min_, np.where(self.data_range_ <= 10 * EPS * size, 1.0, self.data_range_), high - low, low


class IdentityScaler(_Scaler):
    """y, bit for bit. Fitted: `n_samples_seen_`, `n_features_in_`."""

    def _learn(self, stats: _Stats) -> None:
        pass

    def transform(self, X: Any) -> np.ndarray:
        """A copy of X, (N, O). Raises as the others do."""
        return _like(self._ready(X), self._ready(X)).copy()

    inverse_transform = transform


# ------------------------------------------------------------------------------------------------------- statistics


def _stats(rows: np.ndarray) -> _Stats:
    """Statistics of a block (n, O), computed in units of each column's power of two: no square over- or underflows."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]
    unit = np.ldexp(rows, -exponent)  # within ±1
    mean = unit.mean(axis=0)
    std = np.ldexp(np.sqrt(((unit - mean) ** 2).mean(axis=0)), exponent)
    equal = low == high
    return _Stats(len(rows), np.where(equal, low, np.ldexp(mean, exponent)), np.where(equal, 0.0, std), low, high)


def _combined(a: _Stats | None, b: _Stats) -> _Stats:
    """Statistics of the rows of both (Chan, Golub & LeVeque 1983), as a sum of non-negative parts: nothing cancels."""
    if a is None:
        return b
    n = a.n + b.n
    p, q, apart = a.n / n, b.n / n, b.mean - a.mean
    std = np.hypot(np.hypot(p**0.5 * a.std, q**0.5 * b.std), (p * q) ** 0.5 * apart)
    return _Stats(n, a.mean + q * apart, std, np.minimum(a.low, b.low), np.maximum(a.high, b.high))


# ----------------------------------------------------------------------------------------------------------- checks


def _checked(X: Any) -> np.ndarray:
    """X as an array (N, O) of real finite numbers: float32 or float64."""
    rows = np.asarray(X)
    if rows.dtype.kind == "c":
        raise ValueError("Complex data not supported: a scaler takes real numbers; give the real or the imaginary part")
    if rows.dtype.kind not in "biuf":
        rows = _numbers(X, rows)
    if rows.dtype != np.float32:
        rows = rows.astype(np.float64, copy=False)
    if rows.ndim != 2:
        raise ShapeError(
            f"a scaler takes rows and columns (N, O), got shape {rows.shape}. Reshape your data: one column is "
            "y.reshape(-1, 1), one row y.reshape(1, -1)"
        )
    if 0 in rows.shape:
        raise ShapeError(
            f"a scaler needs at least one row and one column, got {rows.shape[0]} sample(s) and {rows.shape[1]} feature(s) "
            f"(shape={rows.shape}) while a minimum of 1 is required."
        )
    within = np.abs(rows) <= LARGEST  # false for NaN
    if not within.all():
        row, column = (int(i) for i in np.argwhere(~within)[0])
        raise ValueError(
            f"row {row}, column {column} (counted from 0) is {rows[row, column]}; a scaler takes numbers within ±1e307, not "
            "NaN or inf: fill the value in or leave the row out"
        )
    return rows


def _numbers(X: Any, rows: np.ndarray) -> np.ndarray:
    if rows.ndim == 0:  # a sparse matrix, a string, None
        raise TypeError(f"a scaler takes a dense array (N, O), got {type(X).__name__}; a sparse matrix is X.toarray()")
    try:
        return rows.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"a scaler takes real numbers, got an array of {rows.dtype}: {error}") from error


def _like(rows: np.ndarray, result: np.ndarray) -> np.ndarray:
    return result.astype(rows.dtype, copy=False)
