"""Interleaved timing: every candidate is timed in every round, so that a noisy machine slows them all alike.

- `interleaved(candidates, rounds)`: {name: seconds a call in each round}; with the caches warm, or flushed before each call.
- `plan(candidates, budget)`: how many rounds fit into a time, and which candidates are slow enough to sit most of them out.
- `ratio(times, base)`: the median over rounds of t/t_base, with a 95 % interval of that median.
- `same_machine(before, result)`: refuses to join results of two machines.
- `machine()`: what the numbers were measured on.
"""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

LIBRARIES = ("numpy", "numba", "torch", "jax")
SLOW = 5  # a candidate that is so many times slower than the quickest is timed in every SLOWth round

Call = Callable[[], object]


def interleaved(
    candidates: dict[str, Call],
    rounds: int,
    seconds: float = 2e-3,
    flush: Call | None = None,
    slow: frozenset[str] = frozenset(),
    settle: bool = True,
) -> dict[str, np.ndarray]:
    """Seconds a call of each candidate in each round; a round calls each for about `seconds`, in rotated order.

    With `flush`, which empties the caches, or `seconds=0`, each is called once a round. Without `flush` it is called once
    untimed before, to `settle`: else it would also pay for what the one before it left in the caches to be written back.
    Those named in `slow` are timed in the rounds 0, SLOW, 2·SLOW, … alone, and have so many times fewer entries.
    """
    counts = {name: _calls(call, seconds) if seconds and not flush else 1 for name, call in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    gc.collect()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            if name in slow and i % SLOW:
                continue
            if flush:
                flush()
            elif settle:
                candidates[name]()
            times[name].append(_time(candidates[name], counts[name]))
    return {name: np.array(found) for name, found in times.items()}


def plan(
    candidates: dict[str, Call], budget: float, seconds: float = 2e-3, flush: Call | None = None
) -> tuple[int, frozenset[str]]:
    """(rounds, the names of the slow): 15 to 100 rounds, about as many as fit into `budget` seconds.

    `rounds` is 1 mod SLOW, so that the slow ones have been timed at the beginning and at the end. Every candidate must have
    been called before: a first call may compile.
    """
    overhead = _time(flush, 1) if flush else 0.0
    cost = {name: _time(call, 1) for name, call in candidates.items()}
    slow = frozenset(name for name, once in cost.items() if once > max(SLOW * min(cost.values()), seconds))
    a_round = sum(
        (once + (overhead if flush else max(once, seconds))) / (SLOW if name in slow else 1) for name, once in cost.items()
    )
    return SLOW * round(min(max(budget / a_round, 15), 100) / SLOW) + 1, slow


def _time(call: Call, count: int) -> float:
    """Seconds a call, of `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _calls(call: Call, seconds: float) -> int:
    """How many calls take about `seconds`, after a warm-up of 50 calls, or fewer if they take more than 50 ms together."""
    once = min(_time(call, 1) for _ in range(2))
    if once > 1e-3:
        return max(1, round(seconds / once))
    _time(call, 50)
    return max(1, round(seconds / _time(call, 20)))


def ratio(times: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Median of the rounds' t/t_base and its 95 % interval by order statistics (the sign test's).

    Where one of the two is slow and was timed in every SLOWth round alone, those rounds are compared.
    """
    if len(times) != len(base):
        few = min(len(times), len(base))
        times, base = (t if len(t) == few else t[::SLOW] for t in (times, base))
    return middle(times / base)


def middle(values: np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % interval by order statistics; of fewer than six values the interval is their range."""
    values = np.sort(values)
    n = len(values)
    half = NormalDist().inv_cdf(0.975) * n**0.5 / 2
    low, high = max(int(n / 2 - half), 0), min(int(np.ceil(n / 2 + half)), n - 1)
    return float(np.median(values)), float(values[low]), float(values[high])


def machine(threads: int = 1) -> dict[str, Any]:
    """Processor, cores, last-level cache, interpreter, library versions, threads, date and load."""
    versions: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cache_bytes": cache(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "libraries": versions,
        "threads": threads,
        "load_before": os.getloadavg()[0],
        "date": datetime.date.today().isoformat(),
    }


def same_machine(before: dict[str, Any], result: dict[str, Any]) -> None:
    """Raises `ValueError` where two runs had other machines or versions: one table is of one machine."""
    for what in ("processor", "cores", "libraries"):
        if before["machine"][what] != result["machine"][what]:
            raise ValueError(
                f"the kept results were measured with {what} {before['machine'][what]}, these with {result['machine'][what]}; "
                "measure everything, without --part"
            )


def cache() -> int:
    """Bytes of the last-level cache; 64 MiB where the system does not say."""
    found = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    return max((int(path.read_text().strip().removesuffix("K")) << 10 for path in found), default=64 << 20)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    vectors = "AVX-512" if "avx512f" in found.get("flags", "") else "AVX2" if "avx2" in found.get("flags", "") else "SSE"
    return f"{found.get('model name', 'unknown')}, family {found.get('cpu family')} model {found.get('model')}, {vectors}"
