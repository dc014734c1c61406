"""Numba, imported at the first use of a compiled kernel and not before.

A kernel file gives a *builder*: a function `(njit, span, in_place) -> compiled loops`, called once for each variant that
is needed: `span` is `range` or `numba.prange`, and `in_place` says that the first output is the first input. The loops
are then told so, because LLVM leaves a loop scalar whose arrays it finds overlapping when it runs.
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

Builder = Callable[[Callable[..., Any], Any, bool], Callable[..., None]]


@functools.cache
def compiled(builder: Builder, parallel: bool, in_place: bool) -> Callable[..., None]:
    """The loops of `builder`, compiled at their first call and cached on disk where a folder is writable."""
    import numba

    span = numba.prange if parallel else range
    try:
        return builder(numba.njit(nogil=True, parallel=parallel, cache=True), span, in_place)
    except RuntimeError:  # Numba found no folder that it could cache in
        return builder(numba.njit(nogil=True, parallel=parallel), span, in_place)


@functools.cache
def missing() -> str:
    """Why Numba cannot run here, or the empty string."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        return f"Numba cannot be imported ({error}); install it with pip install numba"
    return ""
