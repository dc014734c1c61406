"""Sets from openml.org, through scikit-learn's `fetch_openml`, which keeps what it has downloaded."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..errors import DataError
from .table import Columns, Table, find_target


def read_openml(name: str, target: str | None = None) -> Table:
    """The OpenML set of this name (its active version) or number; `target` replaces the default target.

    Raises `DataError` without scikit-learn or a network, for an unknown set, and for columns that are not numbers.
    """
    bunch = _fetch(name)
    label = f"openml:{name}"
    names = [*bunch.feature_names, *bunch.target_names]
    default = bunch.target_names[0] if len(bunch.target_names) == 1 else None
    wanted = find_target(label, names, default if target is None else target)
    _refuse_text(label, bunch.categories or {}, wanted)
    X = bunch.data.toarray() if hasattr(bunch.data, "toarray") else bunch.data
    y = np.asarray(bunch.target).reshape(len(X), -1)
    try:
        values = np.column_stack([X, y]).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{label}: the target {default!r} is not a number ({error}); choose another --target") from error
    number, version = bunch.details["id"], bunch.details["version"]
    note = f"{label}: {bunch.details['name']} version {version} (number {number}), {len(y):,} rows, {len(names) - 1} inputs"
    return Columns(label, tuple(names), values, note, default).predicting(wanted)


def _fetch(name: str) -> Any:
    try:
        from sklearn.datasets import fetch_openml
    except ImportError as error:
        raise DataError("OpenML sets are read with scikit-learn; install it with pip install 'minirelu[lab]'") from error
    which: dict[str, Any] = {"data_id": int(name)} if name.isdigit() else {"name": name}
    try:
        with warnings.catch_warnings():
            # what we say ourselves if it comes to that
            warnings.filterwarnings("ignore", "(Invalid cache|A network error)")
            return fetch_openml(**which, as_frame=False, parser="liac-arff", n_retries=1, delay=0.5)
    except OSError as error:  # URLError and time-outs are OSErrors
        code = getattr(error, "code", None)
        if code is not None and 400 <= code < 500:
            raise DataError(f"OpenML has no data set {name!r} (it answered {code}); look for it on openml.org") from error
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"openml.org cannot be reached ({reason}); check the network, or save the set as a CSV file and give its path"
        ) from error
    except ValueError as error:
        raise DataError(f"the OpenML set {name!r} cannot be used: {' '.join(str(error).split())}") from error


def _refuse_text(label: str, categories: dict[str, list[Any]], target: str) -> None:
    if categories:
        column, values = next(iter(categories.items()))
        what = "the target" if column == target else "column"
        raise DataError(
            f"{label}: {what} {column!r} holds categories ({', '.join(map(str, values[:3]))}, …), not numbers; save the set "
            "as a CSV file with columns of 0 and 1 in their place and give its path"
        )
