"""Columns of numbers, and what must hold before a net is trained on them.

- `Columns(name, names, values, note, target)`: a source as it was read; `.predicting(target)` gives the
- `Table(X, y, inputs, target, note)`.
- `nearest(word, known)`: ` (did you mean 'price'?)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from ..errors import DataError

FEWEST_ROWS = 10


class Table(NamedTuple):
    """X (N, I) and y (N, 1), float64, unscaled; the names of their columns; one line on where they come from."""

    X: np.ndarray
    y: np.ndarray
    inputs: tuple[str, ...]
    target: str
    note: str

    def checksum(self) -> str:
        """SHA-256 of the numbers."""
        return sha256(f"{self.X.shape}\n".encode() + self.X.tobytes() + self.y.tobytes()).hexdigest()


class Columns(NamedTuple):
    """`values` (N, K) under their `names`, read from `name`; `target` is predicted if no other column is asked for."""

    name: str
    names: tuple[str, ...]
    values: np.ndarray
    note: str
    target: str | None

    def predicting(self, target: str | None = None) -> Table:
        """The table in which `target` is predicted from all other columns.

        Raises `DataError` if there is no such column, nothing to predict it from, too few rows, a value that is not
        finite (naming row and column), or a target that is constant.
        """
        target = find_target(self.name, self.names, self.target if target is None else target)
        k = self.names.index(target)
        X, y = np.delete(self.values, k, axis=1), self.values[:, [k]]
        if len(y) < FEWEST_ROWS:
            raise DataError(f"{self.name} has {len(y)} row{'s' * (len(y) != 1)} of data; a study needs at least {FEWEST_ROWS}")
        if not X.shape[1]:
            raise DataError(f"{self.name} has no column besides the target {target!r}; add columns to predict it from")
        wild = np.argwhere(~np.isfinite(self.values))
        if len(wild):
            row, column = (int(i) for i in wild[0])
            raise DataError(
                f"{self.name}: column {self.names[column]!r} is {self.values[row, column]} in row {row + 1} (the header not "
                f"counted){_others(len(wild))}; fill it in or delete the row"
            )
        if y.max() - y.min() <= 10 * np.finfo(float).eps * np.abs(y).max():
            raise DataError(
                f"{self.name}: the target {target!r} is {y[0, 0]:g} in all {len(y):,} rows, so there is nothing to learn; "
                "choose another column as the target"
            )
        return Table(X, y, tuple(name for name in self.names if name != target), target, self.note)


def _others(count: int) -> str:
    return f", and {count - 1:,} more cell{'s are' if count > 2 else ' is'} not finite" if count > 1 else ""


def find_target(source: str, names: Sequence[str], target: str | None) -> str:
    """`target`, if it is one of the columns' `names`; else `DataError` with the nearest."""
    if target is None:
        raise DataError(f"say which column of {source} is to be predicted (--target NAME); it has {listed(names)}")
    if target not in names:
        raise DataError(f"{source} has no column {target!r}{nearest(target, names)}; it has {listed(names)}")
    return target


def nearest(word: str, known: Sequence[str]) -> str:
    """` (did you mean 'price'?)` for the member of `known` that resembles `word` most, or nothing."""
    from difflib import get_close_matches

    lower = {name.lower(): name for name in known}
    found = get_close_matches(word.strip().lower(), lower, n=1)
    return f" (did you mean {lower[found[0]]!r}?)" if found else ""


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
