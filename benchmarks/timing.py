"""Interleaved timing: every candidate is timed in every round, so that a noisy machine slows them all alike.

- `interleaved(candidates, rounds)`: {name: seconds a call in each round}.
- `ratio(times, base)`: the median over rounds of t/t_base, with a 95 % interval of that median.
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

import numpy as np

LIBRARIES = ("numpy", "numba", "torch", "jax")


def interleaved(candidates: dict[str, Callable[[], object]], rounds: int, seconds: float = 2e-3) -> dict[str, np.ndarray]:
    """Seconds a call of each candidate in each round; a round calls each for about `seconds`, in rotated order."""
    calls = {name: _calls(call, seconds) for name, call in candidates.items()}
    times = {name: np.empty(rounds) for name in candidates}
    names = list(candidates)
    gc.collect()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            call, count = candidates[name], calls[name]
            start = time.perf_counter()
            for _ in range(count):
                call()
            times[name][i] = (time.perf_counter() - start) / count
    return times


def _calls(call: Callable[[], object], seconds: float) -> int:
    """How many calls take about `seconds`, after a warm-up of 50 calls."""
    for _ in range(50):
        call()
    start = time.perf_counter()
    for _ in range(20):
        call()
    return max(1, round(seconds * 20 / (time.perf_counter() - start)))


def ratio(times: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Median of the rounds' t/t_base and its 95 % interval by order statistics (the sign test's)."""
    ratios = np.sort(times / base)
    n = len(ratios)
    half = NormalDist().inv_cdf(0.975) * n**0.5 / 2
    low, high = max(int(n / 2 - half), 0), min(int(np.ceil(n / 2 + half)), n - 1)
    return float(np.median(ratios)), float(ratios[low]), float(ratios[high])


def machine() -> dict[str, object]:
    """Processor, cores, interpreter, library versions, date and load."""
    versions: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "libraries": versions,
        "threads": 1,
        "load_before": os.getloadavg()[0],
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    fields = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    vectors = "AVX-512" if "avx512f" in found.get("flags", "") else "AVX2" if "avx2" in found.get("flags", "") else "SSE"
    return f"{found.get('model name', 'unknown')}, family {found.get('cpu family')} model {found.get('model')}, {vectors}"
