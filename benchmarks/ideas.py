"""What makes the kernels fast, switched off one idea at a time: the kernels' own loops in other surroundings.

- `run(rounds)`: `bias_relu_forward` and `relu_backward` on float32 arrays that do not fit the cache, all in one
  interleaved run; every variant must make the right results before it is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.timing import interleaved, machine, middle, ratio
from minirelu import kernels
from minirelu.kernels import _jit

SHAPE = (8192, 4096)
AS_IT_IS = "as it is"


def run(rounds: int, shape: tuple[int, int] = SHAPE) -> dict[str, Any]:
    """The JSON of this benchmark (schema: benchmarks/README.md)."""
    rng = np.random.default_rng(0)
    z, g, y = (np.empty(shape, np.float32) for _ in range(3))
    for array in (z, g):
        rng.standard_normal(out=array, dtype=np.float32)
    b = np.full((1, shape[1]), 0.05, np.float32)
    _, mask, active, nonfinite = kernels.bias_relu_forward(z, b, out=y)
    db = np.empty_like(b)
    jobs: dict[str, tuple[np.ndarray, ...]] = {
        "bias_relu_forward": (z, b, y, mask, active, nonfinite, z),
        "relu_backward": (g, mask, y, db),
    }
    rows: list[dict[str, Any]] = []
    about = machine(_jit.thread_count())
    for kernel, arrays in jobs.items():
        calls = _variants(kernel, arrays)
        _check(calls, arrays)
        times = interleaved(calls, rounds, seconds=0)
        for name, seconds in times.items():
            slower, low, high = ratio(seconds, times[AS_IT_IS])
            rows.append(
                {
                    "kernel": kernel,
                    "variant": name,
                    "median_ms": round(middle(seconds)[0] * 1e3, 3),
                    "ratio": round(slower, 3),
                    "ratio_low": round(low, 3),
                    "ratio_high": round(high, 3),
                }
            )
    return {"benchmark": "ideas", "rounds": rounds, "shape": list(shape), "dtype": "float32", "machine": about, "rows": rows}


def _variants(kernel: str, arrays: tuple[np.ndarray, ...]) -> dict[str, Callable[[], object]]:
    made, lanes = kernels.KERNELS[kernel], _jit.words()
    module = sys.modules[f"minirelu.kernels.{kernel}"]
    tasks, columns, dtype = made.scratch(arrays[0])

    def call(words: ModuleType, streaming: bool, ahead: int, threads: int) -> Callable[[], object]:
        import numba

        before = module.AHEAD
        loops = made.numba(numba.njit(nogil=True, error_model="numpy"), words, streaming)
        scratch = np.zeros((tasks, columns), dtype)

        def do() -> None:
            scratch.fill(0)
            if threads > 1:
                _jit.spread(loops, arrays, scratch, tasks)
            else:
                loops(*arrays, scratch, 0, tasks)
                loops(*arrays, scratch, 0, -1)

        module.AHEAD = ahead  # type: ignore[attr-defined]
        try:
            do()  # compiled now, with this AHEAD
        finally:
            module.AHEAD = before  # type: ignore[attr-defined]
        return do

    plain = sys.modules.get("minirelu.kernels._plain") or __import__("minirelu.kernels._plain", fromlist=["_plain"])
    all_threads = _jit.thread_count()
    return {
        AS_IT_IS: call(lanes, True, _jit.AHEAD, all_threads),
        "ordinary stores": call(lanes, False, _jit.AHEAD, all_threads),
        "not asking ahead": call(lanes, True, 0, all_threads),
        "one thread": call(lanes, True, _jit.AHEAD, 1),
        "no vectors (plain loops)": call(plain, False, _jit.AHEAD, all_threads),
    }


def _check(calls: dict[str, Callable[[], object]], arrays: tuple[np.ndarray, ...]) -> None:
    outputs = arrays[2:6]
    calls[AS_IT_IS]()
    right = [a.copy() for a in outputs]
    for name, call in calls.items():
        for a in outputs:
            a.fill(7)
        call()
        for found, expected in zip(outputs, right, strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=name)


def table(result: dict[str, Any]) -> str:
    """Markdown: each variant's time and how many times longer than the kernel as it is."""
    lines = ["| kernel | variant | median ms | times as long [95 %] |", "| --- | --- | ---: | ---: |"]
    for row in result["rows"]:
        interval = f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        lines.append(f"| `{row['kernel']}` | {row['variant']} | {row['median_ms']:.1f} | {interval} |")
    about, (rows, units) = result["machine"], result["shape"]
    lines.append(
        f"\nfloat32, {rows} × {units}, arrays from `np.empty`; {about['date']}; {about['processor']}, "
        f"{about['threads']} threads; {result['rounds']} interleaved rounds."
    )
    return "\n".join(lines)
