"""Numba, imported at the first use of a compiled kernel and not before.

A kernel file gives a *builder*: a function `(njit, span) -> compiled loops`. `compiled(builder, parallel)` calls it once
for the serial and once for the parallel version; `span` is `range` or `numba.prange`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

# Rows that one task of a kernel walks. Partial sums are combined in the order of the tasks, so the order of every sum
# depends on (B, O) alone: not on the replicas beside it, the number of threads or the schedule.
ROWS = 256

# Elements from which the parallel version is quicker although it must wake the threads.
PARALLEL_FROM = 1 << 17

Builder = Callable[[Callable[..., Any], Any], Callable[..., None]]


@functools.cache
def compiled(builder: Builder, parallel: bool) -> Callable[..., None]:
    """The loops of `builder`, compiled at their first call and cached on disk where a folder is writable."""
    import numba

    span = numba.prange if parallel else range
    options = {"nogil": True, "parallel": parallel}
    try:
        return builder(numba.njit(**options, cache=True), span)
    except RuntimeError:  # Numba found no folder that it could cache in
        return builder(numba.njit(**options), span)


@functools.cache
def missing() -> str:
    """Why Numba cannot run here, or the empty string."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        return f"Numba cannot be imported ({error}); install it with pip install numba"
    return ""
