"""Numba, imported at the first use of a compiled kernel and not before; and the threads that share a large array.

A kernel file gives a *builder*: a function `(njit, lanes, streaming) -> compiled loops`, called once for each variant that is
needed: `lanes` is `_lanes.py` or, where the vectors are missing, `_plain.py`; `streaming` says that the first output does not
fit the cache and shall pass it by. A module and not functions are handed over, because Numba can tell from one run to the
next that a module is the same, and so finds its compilation on disk.

Compiled loops take the kernel's arrays and then `(scratch, begin, end)`: with begin = -1 they do all by themselves; with
0 <= begin < end only the tasks from begin to end, leaving their partial sums in `scratch`; with end = -1 they only combine
these, in the order of the tasks. A kernel with checks of its own (`_fits.py`) makes them first where begin = -2, and does
nothing else where begin = -3: then it returns whether a result of at least `end` bytes should pass the cache by.

Loops hold no lock of Python's, so ordinary threads run them side by side: nothing is compiled twice, and a forked child and
several callers at once are safe. Numba's own threads, with which they are not, are asked how many they are and get no work.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import platform
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

# Rows that one task of a kernel walks. Partial sums are combined in the order of the tasks, so the order of every sum
# depends on (B, O) alone: not on the replicas beside it, the number of threads or the schedule. Below 256, so that a
# counter of 8 bits is enough for a task.
ROWS = 128

# Elements from which several threads are quicker although they must be woken.
PARALLEL_FROM = 1 << 18

# Bytes of a result from which it is written past the cache: it would not be there any more when somebody reads it.
STREAM_FROM = 1 << 24

# Bytes by which a streaming kernel asks for its input ahead, for one use only. Without it the input pushes the counters
# and sums of a wide layer out of the first cache.
AHEAD = 2048

# Spare entries behind a row of counters or sums, so that each task has cache lines of its own.
SPARE = 64

Builder = Callable[[Callable[..., Any], ModuleType, bool], Callable[..., None]]


@functools.cache
def compiled(builder: Builder, streaming: bool = False) -> Callable[..., None]:
    """The loops of `builder`, compiled at their first call and cached on disk where a folder is writable."""
    import numba

    try:
        return cached(builder(numba.njit(nogil=True, error_model="numpy", cache=True), words(), streaming))
    except RuntimeError:  # Numba found no folder that it could cache in
        return builder(numba.njit(nogil=True, error_model="numpy"), words(), streaming)


class Ready:
    """Compiled loops that are called for the types alone that they have been compiled for.

    `call` is Numba's dispatcher, which is quicker than any test of types in Python: it raises `TypeError` for other types
    (a list, a wrong dtype, a strided or read-only output) instead of compiling for them.
    """

    def __init__(self, *loops: Any) -> None:
        import numba

        self.loops, self.call = loops, numba.njit(loops[0].py_func)
        self.learn()
        self.call.disable_compile()

    def learn(self) -> None:
        """What the `loops` have been compiled for by now; where two know some types, the first is called, for its checks."""
        for own in self.loops:
            for types, compiled in list(own.overloads.items()):
                if types not in self.call.overloads:
                    self.call.add_overload(compiled)


def spread(loops: Callable[..., None], arrays: tuple[Any, ...], scratch: Any, tasks: int) -> None:
    """Run the loops' tasks on as many threads as Numba would take (NUMBA_NUM_THREADS), then combine their partial sums."""
    threads = min(thread_count(), tasks)
    edges = [tasks * t // threads for t in range(threads + 1)]
    others = [_pool().submit(loops, *arrays, scratch, *ends) for ends in pairwise(edges[1:])]
    loops(*arrays, scratch, 0, edges[1])
    for other in others:
        other.result()
    loops(*arrays, scratch, 0, -1)


def thread_count() -> int:
    import numba

    return numba.get_num_threads()


@functools.cache
def _pool() -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max(thread_count() - 1, 1), "minirelu")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


@functools.cache
def _age() -> tuple[tuple[str, int, int], ...]:
    """When the files of this folder were changed: loops are made of several of them, and Numba looks at one alone."""
    found = []
    for path in sorted(Path(__file__).parent.glob("[!.]*.py")):  # an editor's lock begins with a dot, and leads nowhere
        with contextlib.suppress(OSError):
            about = path.stat()
            found.append((path.name, about.st_mtime_ns, about.st_size))
    return tuple(found)


def cached(loops: Any) -> Any:
    """`loops` with a disk cache that knows all files of this folder, and that is gone without where it cannot be written.

    Both are internals of Numba's; in a version that has them no more, its own cache remains.
    """
    cache = getattr(loops, "_cache", None)
    file: Any = getattr(cache, "_cache_file", None)
    if hasattr(file, "_source_stamp"):
        file._source_stamp = (file._source_stamp, _age())
    save = getattr(cache, "save_overload", None)
    if save is not None:

        def attempt(*arguments: Any) -> None:
            with contextlib.suppress(OSError):
                save(*arguments)

        cache.save_overload = attempt  # type: ignore[union-attr]
    return loops


@functools.cache
def words() -> ModuleType:
    """What a kernel is written in: vectors on processors whose order of bits and bytes they were made for, else numbers."""
    known = platform.machine().lower() in ("x86_64", "amd64", "aarch64", "arm64") and sys.byteorder == "little"
    name = "_lanes" if known else "_plain"
    try:
        return importlib.import_module(f"{__package__}.{name}")
    except (ImportError, AttributeError, TypeError):  # a Numba or llvmlite that has no such building blocks
        return importlib.import_module(f"{__package__}._plain")


@functools.cache
def missing() -> str:
    """Why Numba cannot run here, or the empty string."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        return f"Numba cannot be imported ({error}); install it with pip install numba"
    return ""
