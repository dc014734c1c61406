"""Whole training runs on the GPU: Figure 1's grid by train_mlp.cu, by JAX on the same card, and against the CPU's outcomes.

- `pieces(quick)`: parts of the JSON, as they are measured.       - `told(train)`: lines for a reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import gpu_peers, training
from minirelu import kernels
from minirelu.kernels import _train_mlp_cuda
from minirelu.kernels.train_mlp import Job, Net, fresh

Call = Callable[[], Any]

# Figure 1 of the paper: 640 runs of 250,000 steps of one hidden layer of 200 units
RUNS, STEPS, SIZES = 640, 250_000, (5, 200, 1)
LONGEST = 75.0  # seconds that it may take; where it would take more, fewer steps are taken


def pieces(quick: bool = False) -> Iterator[dict[str, Any]]:
    """What is known of the training, a piece of work at a time: ours, JAX's, the whole of Figure 1, the CPU's outcomes."""
    replicas, steps, whole = (4, 5, 10) if quick else (RUNS, 2000, STEPS)
    task = training.make(SIZES, "adam", replicas, steps)
    rows = {"minirelu, cuda": _best(lambda: _cuda_run(task, steps), 3)}
    threads = {"threads_a_block": _train_mlp_cuda.THREADS}
    yield {"sizes": list(SIZES), "replicas": replicas, "steps": steps, "seconds": dict(rows)} | threads
    expected = min(rows["minirelu, cuda"]) * whole / steps
    done = whole if expected <= LONGEST else steps * max(1, int(LONGEST / min(rows["minirelu, cuda"])))
    yield {"figure_1": {"steps": done, "seconds": _best(lambda: _cuda_run(task, done), 1)[0]}}
    yield {"against_the_cpu": _against_the_cpu(quick)}
    for name, call in gpu_peers.trainings(task).items():
        try:
            rows[name] = _best(call, 3)
        except Exception as error:
            yield {"failed": {name: repr(error)[:1000]}}
        else:
            yield {"seconds": dict(rows)}


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


def told(train: dict[str, Any]) -> list[str]:
    """Lines of Markdown."""
    if not train:
        return []
    seconds = {name: min(found) for name, found in train["seconds"].items()}
    ours = seconds["minirelu, cuda"]
    lines = ["", f"Training {train['replicas']} × {train['steps']:,} steps of {train['sizes']}:"]
    lines += [f"- {name}: {found:.3g} s, {found / ours:.3g} times ours" for name, found in seconds.items()]
    if figure := train.get("figure_1"):
        lines.append(f"- Figure 1, {train['replicas']} × {figure['steps']:,} steps: {figure['seconds']:.3g} s")
    if against := train.get("against_the_cpu"):
        worst = max(against["dead_share_difference"])
        lines.append(f"- dead shares against the CPU's, {against['replicas']} runs: at most {worst:.3g} apart")
    return lines
