"""The smallest example: fewer rows and columns, rounder numbers, more zeros, as long as the check still fails.

- `shrunk(check, args)`: arrays for which `check(*arrays)` still raises GradientMismatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .report import GradientMismatch

TRIES = 150


def shrunk(check: Callable[..., Any], args: Any, tries: int = TRIES) -> list[np.ndarray]:
    """`args`, made simpler step by step; `args` as they are if even they do not fail again."""
    current = [np.array(x) for x in args]
    left = [tries]
    progress = _fails(check, current, left)
    while progress:
        progress = False
        for simpler in _simpler(current):
            if left[0] <= 0:
                return current
            if _fails(check, simpler, left):
                current, progress = simpler, True
                break
    return current


def _fails(check: Callable[..., Any], args: list[np.ndarray], left: list[int]) -> bool:
    left[0] -= 1
    try:
        check(*(x.copy() for x in args))
    except GradientMismatch:
        return True
    except Exception:  # whatever else it is, it is another failure
        return False
    return False


def _simpler(args: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Candidates, the boldest first: half of an axis, one entry less, whole arrays rounded, one entry made simple."""
    for axis in (-1, -2, -3):  # axes of one length belong together: the rows of x and of y
        for n in sorted({x.shape[axis] for x in args if x.ndim >= -axis} - {0, 1}, reverse=True):
            for part in (slice(0, n // 2), slice(n // 2, n), slice(0, n - 1), slice(1, n)):
                yield [_cut(x, axis, n, part) for x in args]
    for n in sorted({n for x in args for n in x.shape} - {0, 1}, reverse=True):  # the columns of x and the rows of W
        for part in (slice(0, n // 2), slice(n // 2, n)):
            yield [x[tuple(part if m == n else slice(None) for m in x.shape)] for x in args]
    for k, x in enumerate(args):
        for rounder in (np.round(x), np.round(x, 1)):
            if not np.array_equal(rounder, x, equal_nan=True):
                yield [rounder.astype(x.dtype) if i == k else other for i, other in enumerate(args)]
    for k, x in enumerate(args):
        for at in np.ndindex(x.shape if x.size <= 16 else (0,)):
            for value in (0.0, 1.0):
                if x[at] not in (0.0, value):
                    yield [_with(x, at, value) if i == k else other for i, other in enumerate(args)]


def _cut(x: np.ndarray, axis: int, n: int, part: slice) -> np.ndarray:
    if x.ndim < -axis or x.shape[axis] != n:
        return x
    at = [slice(None)] * x.ndim
    at[axis] = part
    return x[tuple(at)]


def _with(x: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    changed = x.copy()
    changed[at] = value
    return changed
