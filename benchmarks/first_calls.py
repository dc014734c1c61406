"""What the first call of a kernel costs: where Numba must compile it, and where it finds it in its cache on the disk.

- `measure()`: {kernel: {"compiled_s": …, "cached_s": …}} of two fresh processes that share a new and empty cache folder.

Each process calls a kernel on a small array and on one that is large enough for the threads; import of Numba not included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SHAPES = ((64, 200), (4096, 200))


def measure() -> dict[str, dict[str, float]]:
    """Run this file twice."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-m", "benchmarks.first_calls"]
        root = Path(__file__).parent.parent
        compiled, cached = (
            json.loads(subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(2)
        )
    return {kernel: {"compiled_s": compiled[kernel], "cached_s": cached[kernel]} for kernel in compiled}


def main() -> None:
    """Print {kernel: seconds of its first calls} as JSON."""
    found = {}
    for kernel, calls in _calls().items():
        start = time.perf_counter()
        for call in calls:
            call()
        found[kernel] = round(time.perf_counter() - start, 4)
    print(json.dumps(found))


def _calls() -> dict[str, list[Callable[[], object]]]:
    import numba  # noqa: F401

    from benchmarks import jobs, optimisers

    calls = {}
    for kernel in jobs.OPERATIONS:
        calls[kernel] = [jobs.public(jobs.make(kernel, shape, "float32", "aligned")) for shape in SHAPES]
    for rule in optimisers.RULES:
        steps = [optimisers.make(rule, shape, "float32", "aligned") for shape in SHAPES]
        calls[f"{rule}_step"] = [optimisers.minirelu(step) for step in steps]
    return calls


if __name__ == "__main__":
    main()
