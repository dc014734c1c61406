"""The CUDA kernels on this machine's GPU: every step of their ladder against a copy on the device and other libraries.

- `run(quick, parts, keep)`: the JSON of this benchmark, with every sample in it; `keep` gets it after each piece of work.
- `table(result)`: what a reader wants to know of it.

The candidates of a case work on the same arrays and are timed in rotated order, each sample by events around `CALLS` calls in a
row, so that the host's work hides behind the device's. Every candidate is checked on poisoned outputs before and after.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import gpu_peers, gpu_training, jobs, optimisers
from benchmarks.timing import machine, middle
from minirelu import backend, kernels
from minirelu.kernels.mask import unpack
from minirelu.kernels.optimiser_step import RULES

Call = Callable[[], Any]
COPY = "copy on the device"
CALLS, ROUNDS = 20, 15


class Case(NamedTuple):
    """One kernel on one shape."""

    kernel: str
    shape: tuple[int, ...]
    dtype: str = "float32"


CASES = [
    *(Case(kernel, (16384, 8192)) for kernel in ("bias_relu_forward", "relu_backward", "residual_relu", "count_units")),
    *(Case(kernel, (8192, 8192), "float64") for kernel in ("bias_relu_forward", "relu_backward")),
    *(Case(kernel, (65536, 1000)) for kernel in ("bias_relu_forward", "relu_backward")),  # rows of 16 bytes, not of 32 units
    *(Case(kernel, (640, 1024, 200)) for kernel in ("bias_relu_forward", "relu_backward")),  # narrow layers of replicas
    Case("adam_step", (1, 8192, 8192)),
    Case("sgd_step", (1, 8192, 8192)),
    *(Case(k, (16384, 8192), dtype) for dtype in ("float16", "bfloat16") for k in ("bias_relu_forward", "relu_backward")),
]
QUICK = [
    Case("bias_relu_forward", (300, 132)),
    Case("relu_backward", (300, 132)),
    Case("count_units", (40, 33)),
    Case("adam_step", (2, 8, 12)),
    Case("bias_relu_forward", (40, 48), "float16"),
    Case("relu_backward", (40, 48), "bfloat16"),
]


PARTS = ("kernels", "training")


def run(
    quick: bool = False,
    parts: Sequence[str] = PARTS,
    keep: Callable[[dict[str, Any]], None] = lambda result: None,
    seconds: float = math.inf,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure `parts` and add them to `before`; `quick` is a check that it all works, not a measurement.

    After `seconds` no more cases are begun; "left_out" names them. A case that raises, as it does where a result of ours is
    wrong, is in "failed", and the rest goes on; so is what another library cannot do. Raises where there is no GPU.
    """
    backend.to_device(np.zeros(1))  # the reason, where there is none
    import cupy

    start = time.monotonic()
    result = (before or {}) | {"benchmark": "gpu", "machine": machine(os.cpu_count() or 1), "gpu": describe(cupy)}
    result["missing"] = gpu_peers.missing()
    if "kernels" in parts:
        result |= {"cases": [], "left_out": [], "failed": []}
        for case in QUICK if quick else CASES:
            if case.dtype == "bfloat16" and "ml_dtypes" in result["missing"]:
                continue
            if time.monotonic() - start > seconds:
                result["left_out"].append([case.kernel, list(case.shape), case.dtype])
                continue
            try:
                result["cases"].append(_measure(cupy, case, 2 if quick else ROUNDS, 1 if quick else CALLS))
            except Exception as error:  # whatever goes wrong on a card that is lent for minutes, the other cases count
                result["failed"].append([case.kernel, list(case.shape), case.dtype, repr(error)[:1000]])
            keep(result)
            cupy.get_default_memory_pool().free_all_blocks()
    if "training" in parts:
        result["train"] = {}
        for piece in gpu_training.pieces(quick):
            result["train"] |= piece
            keep(result)
    return result


def describe(cupy: Any) -> dict[str, Any]:
    """The card and what drives it."""
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "name": properties["name"].decode(),
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
    }


# --------------------------------------------------------------------------------------------------------- kernels


def _measure(cupy: Any, case: Case, rounds: int, calls: int) -> dict[str, Any]:
    rule = case.kernel.removesuffix("_step")
    updates = rule in optimisers.RULES
    make = optimisers.make if updates else jobs.make
    work: Any = make(rule if updates else case.kernel, case.shape, case.dtype, "np.empty")
    arrays = {letter: cupy.asarray(array) for letter, array in work.arrays.items()}
    candidates = _steps(rule, work, arrays) if updates else _ladder(cupy, work, arrays) | gpu_peers.found(cupy, work, arrays)
    right = {} if updates else {letter: cupy.asarray(array) for letter, array in work.expected.items()}
    firsts: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, call in list(candidates.items()):
        try:
            firsts[name] = _checked(work, arrays, right, name, call)
        except Exception as error:
            if name not in gpu_peers.NAMES:
                raise
            failed[name] = repr(error)[:1000]
            del candidates[name]
    source = arrays["x" if updates else _first(work)]
    target = cupy.empty_like(source)
    timed = {COPY: lambda: cupy.copyto(target, source), **candidates}
    times = _interleaved(cupy, timed, rounds, calls)
    if not updates:  # an optimiser has moved on
        for name, call in candidates.items():
            _checked(work, arrays, right, name, call)
    rows = [
        {
            "candidate": name,
            "bytes": 2 * source.nbytes if name == COPY else work.bytes,
            "first_call_s": firsts.get(name),
            "seconds": [float(f"{t:.4g}") for t in times[name]],
        }
        for name in timed
    ]
    return {**case._asdict(), "shape": list(case.shape), "calls": calls, "rows": rows, "failed": failed}


def _first(work: Any) -> str:
    return next(iter(work.arrays))


def _ladder(cupy: Any, work: jobs.Job, arrays: dict[str, Any]) -> dict[str, Call]:
    """The public function, then each step of the ladder into the same outputs."""
    a, expected = arrays, {letter: cupy.empty(x.shape, x.dtype) for letter, x in work.expected.items()}
    expected |= {letter: a[letter] for letter in work.returns if letter in a}
    cuda: Any = kernels.KERNELS[work.kernel].cuda
    public = jobs.public(jobs.Job(work.kernel, a, work.returns, work.expected, work.source, work.target, work.bound))
    inputs: dict[str, Callable[[], tuple[Any, ...]]] = {
        "bias_relu_forward": lambda: (a["z"], a["b"], *expected.values(), a["z"]),
        "residual_relu": lambda: (a["z"], a["b"], *expected.values(), a["skip"]),
        "relu_backward": lambda: (a["g"], a["mask"], *expected.values()),
        "count_units": lambda: (a["y"], *expected.values()),
    }

    def step(version: int) -> Call:
        def call() -> Any:
            cuda(*inputs[work.kernel](), version=version)
            return tuple(expected.values())

        return call

    return {"minirelu": public} | {f"minirelu, step {version}": step(version) for version in (1, 2, 3)}


def _steps(rule: str, work: Any, arrays: dict[str, Any]) -> dict[str, Call]:
    """The steps of an optimiser's ladder; each call moves the state on, so only the bytes and the time are compared."""
    import cupy

    names = RULES[rule][1]
    x, g, new = arrays["x"], arrays["g"], cupy.empty_like(arrays["x"])
    state = [arrays[name] for name in names]
    c = cupy.asarray(np.asarray(work.coefficients, work.source.dtype).reshape(-1, 1))
    cuda: Any = kernels.KERNELS[rule].cuda

    def step(version: int) -> Call:
        return lambda: cuda(x, g, new, c, *state, version=version)

    return {f"minirelu, step {version}": step(version) for version in (1, 2, 3)}


def _checked(work: Any, arrays: dict[str, Any], right: dict[str, Any], name: str, call: Call) -> float:
    """Check what `call` makes on poisoned outputs, on the device; how long it took. Optimisers are checked by the tests."""
    if isinstance(work, jobs.Job):
        for letter in work.returns:
            if letter in arrays:
                arrays[letter].fill(jobs.POISON)
    start = time.perf_counter()
    found = getattr(call, "checked", call)()
    backend.to_host(arrays[_first(work)].ravel()[:1])  # waits
    seconds = time.perf_counter() - start
    if isinstance(work, jobs.Job):
        for letter, ours in zip(work.returns, found, strict=True):
            _compare(work, f"{name}: {letter} of {work.kernel}", letter, ours, right[letter])
    return seconds


def _compare(work: jobs.Job, what: str, letter: str, found: Any, right: Any) -> None:
    """jobs.Job.check where the arrays are: half a gigabyte a time would take longer to move than to make."""
    xp = backend.array_module(right)
    if right.itemsize == 2:
        found, right = found.astype(np.float32), right.astype(np.float32)
    if letter == "db":
        far = xp.abs(found.reshape(right.shape) - right) > xp.asarray(work.bound)
        assert not bool((far | ~xp.isfinite(found.reshape(right.shape))).any()), f"{what} is beyond its bound"
        return
    if letter == "mask" and found.dtype == bool:
        right = unpack(right, work.source.shape[-1])
    assert found.shape == right.shape, f"{what} has the shape {found.shape}, not {right.shape}"
    assert bool((found == right).all()), f"{what} is wrong"


def _interleaved(cupy: Any, candidates: dict[str, Call], rounds: int, calls: int) -> dict[str, np.ndarray]:
    """Seconds a call, a sample a round, in rotated order."""
    names, times = list(candidates), {name: np.empty(rounds) for name in candidates}
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            call = candidates[name]
            call()
            begin.record()
            for _ in range(calls):
                call()
            end.record()
            end.synchronize()
            times[name][k] = cupy.cuda.get_elapsed_time(begin, end) / 1e3 / calls
    return times


# --------------------------------------------------------------------------------------------------------- reading


def table(result: dict[str, Any]) -> str:
    """The medians as a table, then what minirelu gains; shares and ratios are taken round by round."""
    lines = ["| kernel | candidate | ms | GB/s | of the copy [95 %] |", "| --- | --- | ---: | ---: | ---: |"]
    gains = []
    for case in result.get("cases", []):
        rows = {row["candidate"]: np.array(row["seconds"]) for row in case["rows"]}
        size = {row["candidate"]: row["bytes"] for row in case["rows"]}
        what = f"`{case['kernel']}` {'×'.join(map(str, case['shape']))} {case['dtype']}"
        for name, seconds in rows.items():
            speed = size[name] / seconds / (size[COPY] / rows[COPY])
            share, low, high = middle(speed)
            ms, rate = np.median(seconds) * 1e3, size[name] / np.median(seconds) / 1e9
            lines.append(f"| {what} | {name} | {ms:.3f} | {rate:,.0f} | {share:.0%} [{low:.0%}, {high:.0%}] |")
            if name in gpu_peers.NAMES:
                ratio, low, high = middle(seconds / rows["minirelu"])
                gains.append(f"- {what}: {ratio:.2f} [{low:.2f}, {high:.2f}] times as fast as {name}")
    lines += [f"\nNot measured for want of time: {result['left_out']}"] if result.get("left_out") else []
    lines += [f"\nFailed: {what}" for what in result.get("failed", [])]
    lines += ["", *gains] if gains else []
    return "\n".join([*lines, *gpu_training.told(result.get("train", {}))])
