"""Arguments of the theory, checked once: float64 arrays, or a `ValueError` that says what was expected.

- `real(name, value)`: finite numbers. `at_least`, `positive`, `fraction`: in a range as well.
- `steps(name, value)`, `count(name, value)`: whole numbers from 0, one from a lowest value.
- `choice(name, value, known)`: one of some names.
- `unit(w, b, Gamma, Delta)`: weights (..., L) and biases (...) that broadcast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import ShapeError

Real = Any  # what NumPy makes a real array of


def real(name: str, value: Real) -> np.ndarray:
    """`value` as a float64 array of finite numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be real numbers, got {value!r}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {_worst(array, ~np.isfinite(array))}")
    return array


def at_least(name: str, value: Real, lowest: float) -> np.ndarray:
    array = real(name, value)
    if (array < lowest).any():
        raise ValueError(f"{name} must be at least {lowest:g}, got {_worst(array, array < lowest)}")
    return array


def positive(name: str, value: Real) -> np.ndarray:
    array = real(name, value)
    if (array <= 0).any():
        raise ValueError(f"{name} must be positive, got {_worst(array, array <= 0)}")
    return array


def fraction(name: str, value: Real) -> np.ndarray:
    """Numbers in [0, 1): momentum."""
    array = real(name, value)
    wrong = (array < 0) | (array >= 1)
    if wrong.any():
        raise ValueError(f"{name} must be in [0, 1), got {_worst(array, wrong)}")
    return array


def steps(name: str, value: Real) -> np.ndarray:
    """Numbers of steps: whole and not negative."""
    array = at_least(name, value, 0)
    if (array != np.floor(array)).any():
        raise ValueError(f"{name} must be whole numbers, got {_worst(array, array != np.floor(array))}")
    return array


def count(name: str, value: Any, lowest: int = 1) -> int:
    """One whole number, at least `lowest`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < lowest:
        raise ValueError(f"{name} must be a whole number, at least {lowest}, got {value!r}")
    return int(value)


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    if value not in (names := tuple(known)):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}, got {value!r}")
    return value


def broadcast(**arrays: np.ndarray) -> tuple[int, ...]:
    """The common shape of the named arrays. Raises `ShapeError` with all their shapes."""
    try:
        return np.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        given = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ShapeError(f"these shapes do not broadcast together: {given}") from None


def unit(w: Real, b: Real, Gamma: Real, Delta: Real) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """w, Gamma (..., L) and b, Delta (...), each broadcast to the common leading shape."""
    w, b, Gamma, Delta = (real(n, v) for n, v in (("w", w), ("b", b), ("Gamma", Gamma), ("Delta", Delta)))
    if not (w.ndim and Gamma.ndim and w.shape[-1] == Gamma.shape[-1] > 0):
        raise ShapeError(f"w and Gamma must be (..., L) with the same L >= 1, got w {w.shape} and Gamma {Gamma.shape}")
    try:
        lead = np.broadcast_shapes(w.shape[:-1], b.shape, Gamma.shape[:-1], Delta.shape)
    except ValueError:
        raise ShapeError(
            f"got w (..., L) = {w.shape}, b (...) = {b.shape}, Gamma (..., L) = {Gamma.shape} and Delta (...) = {Delta.shape}, "
            "which do not broadcast: leave the last axis of w and Gamma out and compare the rest"
        ) from None
    wide = (*lead, w.shape[-1])
    return (
        np.broadcast_to(w, wide),
        np.broadcast_to(b, lead),
        np.broadcast_to(Gamma, wide),
        np.broadcast_to(Delta, lead),
    )


def _worst(array: np.ndarray, wrong: np.ndarray) -> str:
    """The first entry that is wrong, and its place in a large array."""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{array[first]:g}" + (f" at {first} of shape {array.shape}" if first else "")
