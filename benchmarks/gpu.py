"""The CUDA kernels on this machine's GPU: every step of their ladder against a copy on the device and other libraries.

- `run(quick, show)`: the JSON of this benchmark, with every sample in it.

The candidates of a case work on the same arrays and are timed in rotated order, each sample by events around `CALLS` calls in a
row, so that the host's work hides behind the device's. Every candidate is checked on poisoned outputs before and after.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import gpu_peers, jobs, optimisers, training
from benchmarks.timing import machine, middle
from minirelu import backend, kernels
from minirelu.kernels import _train_mlp_cuda
from minirelu.kernels.optimiser_step import RULES
from minirelu.kernels.train_mlp import Job, Net, fresh

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
]
QUICK = [
    Case("bias_relu_forward", (300, 132)),
    Case("relu_backward", (300, 132)),
    Case("count_units", (40, 33)),
    Case("adam_step", (2, 8, 12)),
]


def run(quick: bool = False, show: Callable[[dict[str, Any]], None] = lambda case: None) -> dict[str, Any]:
    """Measure everything; `quick` is a check that it all works, not a measurement. Raises where there is no GPU."""
    backend.to_device(np.zeros(1))  # the reason, where there is none
    import cupy

    cases = []
    for case in QUICK if quick else CASES:
        cases.append(_measure(cupy, case, 2 if quick else ROUNDS, 1 if quick else CALLS))
        show(cases[-1])
        cupy.get_default_memory_pool().free_all_blocks()
    return {
        "benchmark": "gpu",
        "machine": machine(os.cpu_count() or 1),
        "gpu": describe(cupy),
        "missing": gpu_peers.missing(),
        "cases": cases,
        "train": trained(quick),
    }


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
    firsts = {name: _checked(work, arrays, name, call) for name, call in candidates.items()}
    source = arrays["x" if updates else _first(work)]
    target = cupy.empty_like(source)
    timed = {COPY: lambda: cupy.copyto(target, source), **candidates}
    times = _interleaved(cupy, timed, rounds, calls)
    if not updates:  # an optimiser has moved on
        for name, call in candidates.items():
            _checked(work, arrays, name, call)
    rows = [
        {
            "candidate": name,
            "bytes": 2 * source.nbytes if name == COPY else work.bytes,
            "first_call_s": firsts.get(name),
            "seconds": [float(f"{t:.4g}") for t in times[name]],
        }
        for name in timed
    ]
    return {**case._asdict(), "shape": list(case.shape), "calls": calls, "rows": rows}


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


def _checked(work: Any, arrays: dict[str, Any], name: str, call: Call) -> float:
    """Check what `call` makes on poisoned outputs; how long it took. Optimisers are checked by the tests."""
    if isinstance(work, jobs.Job):
        for letter in work.returns:
            if letter in arrays:
                arrays[letter].fill(jobs.POISON)
    start = time.perf_counter()
    found = getattr(call, "checked", call)()
    backend.to_host(arrays[_first(work)].ravel()[:1])  # waits
    seconds = time.perf_counter() - start
    if isinstance(work, jobs.Job):
        work.check(name, lambda: [backend.to_host(a) for a in found])
    return seconds


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


# -------------------------------------------------------------------------------------------------------- training

# Figure 1 of the paper: 640 runs of 250,000 steps of one hidden layer of 200 units
RUNS, STEPS, SIZES = 640, 250_000, (5, 200, 1)


def trained(quick: bool = False) -> dict[str, Any]:
    """Figure 1's grid on the card, JAX on the same card for a part of it, and how the outcomes compare with the CPU's."""
    replicas, steps, whole = (4, 5, 10) if quick else (RUNS, 500, STEPS)
    task = training.make(SIZES, "adam", replicas, steps)
    rows = {"minirelu, cuda": _best(lambda: _cuda_run(task, steps), 3)}
    for name, call in gpu_peers.trainings(task).items():
        rows[name] = _best(call, 3)
    return {
        "sizes": list(SIZES),
        "replicas": replicas,
        "steps": steps,
        "seconds": rows,
        "figure_1": {"steps": whole, "seconds": _best(lambda: _cuda_run(task, whole), 1)[0]},
        "threads_a_block": _train_mlp_cuda.THREADS,
        "against_the_cpu": _against_the_cpu(quick),
    }


def _best(call: Call, rounds: int) -> list[float]:
    """Seconds of each of `rounds` calls, after one that compiles where there are several."""
    if rounds > 1:
        call()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def _job(task: training.Task, steps: int, records: int = 1) -> Job:
    R = task.replicas
    fixed = {"lr": training.LR, "beta": training.BETA, "beta2": training.BETA2, "eps": training.EPS, "delta": 0.0}
    numbers = {name: np.full(R, value) for name, value in fixed.items()} | {"gamma": np.linspace(1, 0.5, R)}
    at = np.unique(np.linspace(0, steps, records + 1).astype(np.int64))[1:]
    net = Net(task.sizes[0], task.sizes[1:-1])
    return Job(
        net, task.rule, task.X, task.y, task.X, task.y, training.BATCH, task.seeds, **numbers, record_at=at
    )  # fmt: skip


def _cuda_run(task: training.Task, steps: int) -> Any:
    state = fresh(task.rule, [p.copy() for p in task.parameters], [])
    return kernels.train_mlp(_job(task, steps, max(1, steps // 10_000)), state, backend="cuda")


def _against_the_cpu(quick: bool) -> dict[str, Any]:
    """Dead units of the same runs on both sides: equal at the start, and how far apart at the end."""
    task, steps = training.make(SIZES, "adam", 4 if quick else 64, 1), 10 if quick else 2000
    sides = []
    for side in ("cuda", "auto"):
        state = fresh(task.rule, [p.copy() for p in task.parameters], [])
        records = kernels.train_mlp(_job(task, steps, 10), state, backend=side)
        sides.append((records.loss, (records.active == 0).mean(axis=-1)))
    (loss, dead), (right, expected) = sides
    return {
        "replicas": task.replicas,
        "steps": steps,
        "loss_relative_difference": np.abs(loss / right - 1).max(axis=0).tolist(),
        "dead_share_difference": np.abs(dead - expected).max(axis=0).tolist(),
    }


# --------------------------------------------------------------------------------------------------------- reading


def table(result: dict[str, Any]) -> str:
    """The medians as a table; shares and ratios are taken round by round."""
    lines = ["| kernel | candidate | ms | GB/s | of the copy [95 %] |", "| --- | --- | ---: | ---: | ---: |"]
    for case in result["cases"]:
        rows = {row["candidate"]: np.array(row["seconds"]) for row in case["rows"]}
        size = {row["candidate"]: row["bytes"] for row in case["rows"]}
        what = f"`{case['kernel']}` {'×'.join(map(str, case['shape']))} {case['dtype']}"
        for name, seconds in rows.items():
            speed = size[name] / seconds / (size[COPY] / rows[COPY])
            share, low, high = middle(speed)
            ms, rate = np.median(seconds) * 1e3, size[name] / np.median(seconds) / 1e9
            lines.append(f"| {what} | {name} | {ms:.3f} | {rate:,.0f} | {share:.0%} [{low:.0%}, {high:.0%}] |")
    train = result["train"]
    lines += ["", f"Training {train['replicas']} × {train['steps']:,} steps of {train['sizes']}:"]
    lines += [f"- {name}: {min(seconds):.3g} s" for name, seconds in train["seconds"].items()]
    lines.append(
        f"- Figure 1, {train['replicas']} × {train['figure_1']['steps']:,} steps: {train['figure_1']['seconds']:.3g} s"
    )
    return "\n".join(lines)
