"""Which kernel is timed on which arrays: kernel × shape × dtype × layout × cache × threads.

The large shape is 128 MiB an array in float32, four times the last-level cache of the machines we know: it is cold by
itself. `warm` arrays stay in the cache from call to call; before a `cold` call of a smaller case the cache is flushed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.jobs import OPERATIONS
from benchmarks.optimisers import RULES

LARGE, LAYER, ONE = (8192, 4096), (64, 200), (1, 1)
RAGGED, REPLICAS = (4099, 1001), (64, 64, 200)
PARAMETERS = (2500, 4000)  # 10⁷
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Case:
    """One set of arrays; `peers`: are other libraries timed beside the kernel? `seconds`: about how long to measure."""

    kernel: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str = "aligned"
    cache: str = "cold"
    threads: int = THREADS
    peers: bool = False
    seconds: float = 2.5


def all_cases() -> list[Case]:
    """Everything, in the order of the table."""
    found = [case for kernel in OPERATIONS for case in _of(kernel)]
    return found + [Case(f"{rule}_step", PARAMETERS, peers=True, seconds=4) for rule in RULES]


def quick_cases() -> list[Case]:
    """A look at every kernel in less than half a minute: smaller arrays, no other library."""
    found = []
    for kernel in OPERATIONS:
        found += [Case(kernel, (4096, 4096), seconds=0.5), Case(kernel, LAYER, cache="warm", threads=1, seconds=0.3)]
    return found + [Case(f"{rule}_step", PARAMETERS, seconds=0.5) for rule in RULES]


def chosen(
    quick: bool = False,
    kernel: Sequence[str] | None = None,
    shape: Sequence[str] | None = None,
    dtype: Sequence[str] | None = None,
    layout: Sequence[str] | None = None,
) -> list[Case]:
    """The cases whose properties are among those given; `shape` as "64x200". Raises `ValueError` where none is left."""
    wanted = {"kernel": kernel, "shape": shape, "dtype": dtype, "layout": layout}
    every = quick_cases() if quick else all_cases()
    found = [case for case in every if all(not given or _text(case, name) in given for name, given in wanted.items())]
    if not found:
        axes = "; ".join(f"{name}: {', '.join(dict.fromkeys(_text(case, name) for case in every))}" for name in wanted)
        raise ValueError(f"there is no such case; choose among {axes}")
    return found


def _text(case: Case, name: str) -> str:
    value = getattr(case, name)
    return "x".join(map(str, value)) if name == "shape" else value


def _of(kernel: str) -> Iterator[Case]:
    large, small = Case(kernel, LARGE), Case(kernel, LAYER, threads=1, seconds=1.5)
    # first, before minutes of work slow a shared machine down: the time of a call is its one figure that is no ratio
    yield replace(small, shape=ONE, cache="warm", seconds=3)
    yield replace(large, peers=True, seconds=50)
    if kernel != "count_units":  # which writes nothing
        yield replace(large, layout="np.empty")
    if kernel in ("bias_relu_forward", "relu_backward"):
        yield replace(large, layout="in place")
    if THREADS > 1:
        yield replace(large, threads=1)
    yield replace(large, shape=(4096, 4096), dtype="float64")
    yield replace(large, shape=RAGGED, layout="np.empty")
    yield replace(large, shape=REPLICAS, cache="warm", seconds=1)
    yield replace(small, cache="warm", peers=True)
    yield replace(small, cache="warm", dtype="float64", peers=True)
    yield replace(small, peers=True, seconds=4)
