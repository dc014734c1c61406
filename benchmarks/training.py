"""What `python -m benchmarks train` gives every candidate: the same nets, parameters, targets and minibatches.

- `make(net, rule, replicas, steps)`: a `Task`.            - `minirelu(task, threads)`: our candidate.
- `check(task, name, parameters)`: that a candidate has done the work.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

LR, BETA, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8
ROWS, BATCH = 1000, 64

Arrays = list[np.ndarray]
Call = Callable[[], Arrays]


class Task(NamedTuple):
    """R replicas of one net, S steps. Rows are drawn before the timing for everybody but minirelu, which draws its own."""

    sizes: tuple[int, ...]
    rule: str
    X: np.ndarray  # (N, I) float32
    y: np.ndarray  # (N,) float64
    targets: np.ndarray  # (R, N) float32
    seeds: np.ndarray  # (R,) uint64
    rows: np.ndarray  # (R, S, B) int32
    parameters: Arrays  # (R, I, O), (R, 1, O), …

    @property
    def replicas(self) -> int:
        return len(self.seeds)

    @property
    def steps(self) -> int:
        return self.rows.shape[1]

    def part(self, which: list[int]) -> Task:
        """The replicas `which` alone."""
        cut = [np.ascontiguousarray(p[which]) for p in self.parameters]
        return self._replace(targets=self.targets[which], seeds=self.seeds[which], rows=self.rows[which], parameters=cut)


def make(sizes: tuple[int, ...], rule: str, replicas: int, steps: int) -> Task:
    """The task on normal inputs; parameters as PyTorch draws them, targets γ·y with γ from 1 to 0.5."""
    from minirelu.kernels.philox import batch_rows

    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, sizes[0]), dtype=np.float32)
    y = np.sin(2.0 * X[:, 0]) + X[:, -1].astype(float) ** 2
    y = (y - y.mean()) / y.std()
    seeds = np.arange(replicas, dtype=np.uint64)
    gamma = np.linspace(1, 0.5, replicas)
    parameters = []
    for fan_in, fan_out in pairwise(sizes):
        for shape in ((fan_in, fan_out), (1, fan_out)):
            parameters.append(rng.uniform(-(fan_in**-0.5), fan_in**-0.5, (replicas, *shape)).astype(np.float32))
    rows = batch_rows(seeds, 0, steps, BATCH, ROWS).astype(np.int32)
    return Task(sizes, rule, X, y, (gamma[:, None] * y).astype(np.float32), seeds, rows, parameters)


def minirelu(task: Task, threads: int) -> Call:
    """`kernels.train_mlp` on so many threads, drawing its minibatches and measuring one batch of rows at the end."""
    import numba

    from minirelu import kernels
    from minirelu.kernels.train_mlp import Job, Net, fresh

    R = task.replicas
    fixed = {"lr": LR, "beta": BETA, "beta2": BETA2, "eps": EPS, "delta": 0.0}
    numbers = {name: np.full(R, value) for name, value in fixed.items()} | {"gamma": np.linspace(1, 0.5, R)}
    job = Job(
        Net(task.sizes[0], task.sizes[1:-1]), task.rule, task.X, task.y, task.X[:BATCH], task.y[:BATCH], BATCH, task.seeds,
        record_at=np.array([task.steps]), **numbers,
    )  # fmt: skip

    def call() -> Arrays:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            state = fresh(task.rule, [p.copy() for p in task.parameters], [])
            kernels.train_mlp(job, state, backend="numba")
        finally:
            numba.set_num_threads(before)
        return state.parameters

    return call


def losses(task: Task, parameters: Arrays) -> np.ndarray:
    """Each replica's mean squared error on all rows, (R,), in float64."""
    h: Any = task.X.astype(np.float64)
    for W, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        h = np.maximum(h @ W + b, 0)
    return (((h @ parameters[-2] + parameters[-1])[..., 0] - task.targets) ** 2).mean(axis=-1)


def check(task: Task, name: str, parameters: Arrays, expected: np.ndarray) -> None:
    """The error of every replica is `expected` up to rounding, and is not what it was before the training."""
    found = losses(task, parameters)
    np.testing.assert_allclose(found, expected, rtol=2e-2 if len(task.sizes) > 3 else 1e-3, err_msg=name)
    assert (np.abs(found / losses(task, task.parameters) - 1) > 1e-3).any(), f"{name} has trained nothing"
