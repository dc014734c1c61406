"""What `train_mlp` makes of its arguments before anything runs: `Data` and a `Setup`, or a sentence about what is wrong.

- `prepared(X, y, ...)`: rows and targets checked, standardised and cast.
- `setup(...)`: every setting as an array of R, names and counts checked.
- `check_rounded(...)`, `check_targets(...)`: whether settings and targets still mean something in the dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import init, kernels
from ..data.table import nearest
from ..errors import ShapeError, whole
from ..init import Initialiser, seed_array
from ..kernels.optimiser_step import RULES
from ..kernels.train_mlp import Net
from ..scalers import IdentityScaler, StandardScaler

BACKENDS = ("auto", "engine", *kernels.BACKENDS)
EVALUATED_AT_MOST = 4096


class Data(NamedTuple):
    """Standardised rows of `dtype` and targets in standard units, to train and to measure on; and what scaled them."""

    X: np.ndarray  # (N, I)
    y: np.ndarray  # (N,) float64
    X_eval: np.ndarray  # (M, I)
    y_eval: np.ndarray  # (M,) float64, NaN where no targets were given
    x_scaler: StandardScaler | IdentityScaler
    y_scaler: StandardScaler | IdentityScaler


class Setup(NamedTuple):
    """Checked arguments; `numbers` are float64 (R,) by name."""

    net: Net
    rule: str
    initialiser: Initialiser
    backend: str  # "engine", "reference", "numba" or "cuda"
    batch: int
    record_at: np.ndarray
    seeds: np.ndarray
    numbers: dict[str, np.ndarray]


def setup(
    *,
    inputs: int,
    rows: int,
    widths: Any,
    block: str,
    batch_norm: bool,
    optimizer: str,
    init: Any,
    backend: str,
    batch: Any,
    steps: Any,
    record_every: Any,
    seeds: Any,
    numbers: dict[str, Any],
) -> Setup:
    """Raises `ValueError` (`ShapeError` for lengths), `TypeError` or `BackendUnavailableError`, each one sentence."""
    _among("optimizer", optimizer, RULES)
    _among("block", block, ("dense", "residual"))
    net = Net(inputs, _widths(widths), block == "residual", bool(batch_norm))
    kernels.training_checks.check_net(net)
    batch, steps, record_every = (
        whole(name, n, low) for name, n, low in (("batch", batch, 1), ("steps", steps, 0), ("record_every", record_every, 1))
    )
    if batch > rows:
        raise ValueError(f"batch is {batch}, the data has {rows} rows; expected 1 <= batch <= {rows}")
    kernels.training_checks.check_batch(batch, net.batch_norm)
    keys, values = _replicas(seeds, numbers)
    bounded = {name: values[name] for name in values if name in kernels.training_checks.BOUNDS}
    kernels.training_checks.check_settings(bounded)
    record_at = np.array([*range(0, steps, record_every), steps], np.int64)
    return Setup(
        net=net,
        rule=optimizer,
        initialiser=_initialiser(init),
        backend=_backend(backend),
        batch=batch,
        record_at=record_at,
        seeds=keys,
        numbers=values,
    )


def _among(name: str, value: Any, known: Sequence[str] | dict[str, Any]) -> None:
    if not isinstance(value, str) or value not in known:
        near = nearest(value, tuple(known)) if isinstance(value, str) else ""
        raise ValueError(f"{name} was given {value!r}{near}; expected one of {', '.join(known)}")


def _widths(widths: Any) -> tuple[int, ...]:
    given = [widths] if np.ndim(widths) == 0 else list(widths)
    if not given:
        raise ShapeError("widths is empty; expected the number of units of at least one hidden layer, such as (200,)")
    return tuple(whole("a width", width, 1) for width in given)


def _initialiser(given: Any) -> Initialiser:
    if callable(given):
        return given
    _among("init", given, init.NAMED)
    return init.NAMED[given]


def _backend(backend: str) -> str:
    _among("backend", backend, BACKENDS)
    if backend == "auto":
        chosen = kernels.training_backend()
        return "engine" if chosen == "reference" else chosen
    return backend if backend == "engine" else kernels.training_backend(backend)


def _replicas(seeds: Any, numbers: dict[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The seeds (R,), and each of the numbers as float64 (R,); R is the one length among them that is not a single value."""
    keys = np.atleast_1d(seed_array(seeds))
    arrays = {"seeds": keys if np.ndim(seeds) else keys[0]} | {name: _numbers(name, x) for name, x in numbers.items()}
    lengths = {name: array.size for name, array in arrays.items() if array.ndim}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        said = ", ".join(f"{n} of {name}" for name, n in lengths.items())
        raise ShapeError(f"settings are one number or one for each replica, got {said}; give all the same length")
    R = max(lengths.values(), default=1)
    made = {name: np.ascontiguousarray(np.broadcast_to(array, (R,))) for name, array in arrays.items()}
    _all_different(made)
    return made.pop("seeds"), made


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or one for each replica, got {value!r}") from None
    if array.ndim > 1:
        raise ShapeError(f"{name} must be a number or one for each replica, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {value!r}")
    return array


def _all_different(settings: dict[str, np.ndarray]) -> None:
    """Raise `ValueError` if two replicas would be the same training."""
    seen: dict[tuple[Any, ...], int] = {}
    for r, key in enumerate(zip(*(array.tolist() for array in settings.values()), strict=True)):
        if key in seen:
            raise ValueError(
                f"replicas {seen[key]} and {r} both have the seed {key[0]} and the same settings, so they would be the same "
                "training; give each a seed of its own"
            )
        seen[key] = r


# ------------------------------------------------------------------------------------------------------------ data


def prepared(X: Any, y: Any, X_eval: Any, y_eval: Any, standardize: bool, dtype: Any) -> Data:
    """X and y standardised by the statistics of the training rows; raises as `setup`."""
    dtype = _dtype(dtype)
    X, y = table("X", X), _column("y", y)
    if len(X) != len(y):
        raise ShapeError(f"X has {len(X)} rows and y {len(y)}; give one target a row")
    x_scaler, y_scaler = (StandardScaler(), StandardScaler()) if standardize else (IdentityScaler(), IdentityScaler())
    x_scaler.fit(X)
    y_scaler.fit(y[:, None])
    if (
        isinstance(y_scaler, StandardScaler) and y_scaler.scale_[0] == 1.0 and not 0.5 < y.std() < 2
    ):  # the scaler's rule for constant columns
        raise ValueError(f"y is constant ({y[0]:g} up to rounding), so it cannot be standardised; give targets that vary")
    X_eval, y_eval = _evaluation(X, y, X_eval, y_eval)
    x, x_eval = (_cast(name, x_scaler.transform(a), dtype) for name, a in (("X", X), ("X_eval", X_eval)))
    known = np.isfinite(y_eval)
    scaled = y_eval.copy()
    if known.any():
        scaled[known] = y_scaler.transform(y_eval[known, None])[:, 0]
    return Data(x, y_scaler.transform(y[:, None])[:, 0], x_eval, scaled, x_scaler, y_scaler)


def check_rounded(numbers: dict[str, np.ndarray], dtype: np.dtype) -> None:
    """Raise `ValueError` if a setting leaves its bounds when it is rounded to `dtype`: 1e-50 is 0 in float32."""
    for name in ("lr", "beta", "beta2", "eps"):
        expected, within = kernels.training_checks.BOUNDS[name]
        with np.errstate(over="ignore"):
            rounded = numbers[name].astype(dtype).astype(np.float64)
        wrong = ~(np.isfinite(rounded) & within(rounded))
        if wrong.any():
            r = int(wrong.argmax())
            raise ValueError(
                f"{name} is {numbers[name][r]} for replica {r}, which rounds to {rounded[r]:g} in {dtype}; "
                f"expected {expected}, finite, there too"
            )


def check_targets(y: np.ndarray, gamma: np.ndarray, delta: np.ndarray, dtype: np.dtype) -> None:
    """Raise `ValueError` if a replica's targets γ·y + δ do not fit `dtype`, or if nothing is left of y in them."""
    with np.errstate(over="ignore", under="ignore"):
        least, most = ((gamma * extreme + delta).astype(dtype) for extreme in (y.min(), y.max()))
        vanished = (gamma * np.abs(y).max()).astype(dtype) == 0
    beyond = ~(np.isfinite(least) & np.isfinite(most))
    if beyond.any():
        r = int(beyond.argmax())
        raise ValueError(
            f"gamma {gamma[r]:g} and delta {delta[r]:g} of replica {r} give targets beyond {dtype}; make them smaller"
        )
    lost = ((least == most) & (y.min() < y.max())) | (vanished & y.any())  # rounding keeps the order, so all are equal
    if lost.any():
        r = int(lost.argmax())
        raise ValueError(
            f"gamma {gamma[r]:g} and delta {delta[r]:g} of replica {r} give targets that are all {least[r] + 0:g} in {dtype}; "
            "make gamma larger, delta smaller, or train with dtype='float64'"
        )


def _evaluation(X: np.ndarray, y: np.ndarray, X_eval: Any, y_eval: Any) -> tuple[np.ndarray, np.ndarray]:
    """The rows that everything is measured on, and their targets."""
    if X_eval is None:
        if y_eval is not None:
            raise ValueError("y_eval was given without X_eval; give both, or leave both out")
        if len(X) <= EVALUATED_AT_MOST:
            return X, y
        rows = np.sort(np.random.default_rng(0).choice(len(X), EVALUATED_AT_MOST, replace=False))
        return X[rows], y[rows]
    X_eval = table("X_eval", X_eval)
    if X_eval.shape[1] != X.shape[1]:
        raise ShapeError(f"X_eval has {X_eval.shape[1]} columns and X {X.shape[1]}; give the same columns")
    if y_eval is None:
        return X_eval, np.full(len(X_eval), np.nan)
    y_eval = _column("y_eval", y_eval)
    if len(X_eval) != len(y_eval):
        raise ShapeError(f"X_eval has {len(X_eval)} rows and y_eval {len(y_eval)}; give one target a row")
    return X_eval, y_eval


def _dtype(dtype: Any) -> np.dtype:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
    return found


def table(name: str, given: Any) -> np.ndarray:
    """`given` as finite float64 (N, I) with at least one row and column."""
    raw = np.asarray(given)
    if raw.ndim != 2 or 0 in raw.shape:
        raise ShapeError(f"{name} must be rows and columns (N, I), at least one of each, got shape {raw.shape}")
    return _finite(name, raw)


def _column(name: str, given: Any) -> np.ndarray:
    """`given`, (N,) or (N, 1), as finite float64 (N,)."""
    raw = np.asarray(given)
    if raw.shape[1:] not in ((), (1,)) or raw.ndim == 0 or not len(raw):
        raise ShapeError(f"{name} must be one target a row, (N,) or (N, 1), got shape {raw.shape}")
    return _finite(name, raw.reshape(-1, 1))[:, 0]


def _finite(name: str, raw: np.ndarray) -> np.ndarray:
    try:
        if raw.dtype.kind == "c":
            raise TypeError("complex numbers")
        rows = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold real numbers, got an array of {raw.dtype}: {error}") from None
    wrong = ~(np.abs(rows) <= 1e307)  # true for NaN; beyond it the scalers' differences may overflow
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"row {row}, column {column} of {name} (counted from 0) is {rows[row, column]}; expected numbers within ±1e307: "
            "fill the value in or leave the row out"
        )
    return rows


def _cast(name: str, rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(rows, dtype)
    if not np.isfinite(made).all():
        raise ValueError(f"{name} holds numbers beyond {dtype}; standardise it, or train with dtype='float64'")
    return made
