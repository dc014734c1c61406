"""What a worker does: train a shard. It needs minirelu with NumPy and Numba, the data that it is given, and no disk.

- `train_shard(shard, sets, report, device)`: the `Outcome` of all its runs.
- `DEVICES`: what `device` may be.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from .. import kernels, train
from .shards import Sets, Shard

DEVICES = ("auto", "cpu", "cuda")
REPORTED = 0.4  # seconds between two reports of a shard, at least


class Outcome(NamedTuple):
    """What was measured of R runs at T steps, by hidden layer; where, and from when to when (seconds since 1970)."""

    step: np.ndarray  # (T,) int64
    mse: np.ndarray  # (R, T) float64, ÷ γ²; NaN if not finite
    dead: np.ndarray  # (R, T, layers) int64: units; also those below
    nearly_dead: np.ndarray
    linear: np.ndarray
    nonfinite: np.ndarray
    backend: str
    started: float
    finished: float
    host: str
    pid: int


class Standing(NamedTuple):
    """How far a shard is: the share of its work that is done, and the latest mean error and share of dead units."""

    share: float
    mse: float
    dead: float


def train_shard(
    shard: Shard, sets: Sets, report: Callable[[Standing], object], device: str = "auto", backend: str = "auto"
) -> Outcome:
    """Train all runs of `shard`, each from its own seed to its last step; `report` may raise to stop.

    `device`: "cuda" (raises `BackendUnavailableError` where it is not), "cpu", or "auto": CUDA where it is. `backend`: the
    kernels that train on a CPU, as `kernels.using` takes them; "auto" leaves it to this machine.
    """
    with kernels.using(backend) if backend != "auto" else nullcontext():
        return _trained(shard, sets, report, _backend(device))


def _trained(shard: Shard, sets: Sets, report: Callable[[Standing], object], backend: str) -> Outcome:
    run, of, started = shard.runs[0], sets[shard.source], time.time()

    def column(name: str) -> np.ndarray:
        return np.array([getattr(one, name) for one in shard.runs])

    result = train.train_mlp(
        of.X,
        of.y,
        widths=(run.width,) * run.depth,
        block=run.block,
        batch_norm=run.batch_norm,
        optimizer=run.optimizer,
        lr=column("lr"),
        beta=column("beta"),
        beta2=column("beta2"),
        eps=np.where(column("eps") > 0, column("eps"), 1e-8),  # 0: ignored
        gamma=column("gamma"),
        delta=column("delta"),
        init_scale=column("init_scale"),
        bias_shift=column("bias_shift"),
        batch=run.batch,
        steps=run.steps,
        seeds=[one.seed for one in shard.runs],
        init=run.init,
        standardize=False,  # the parent has done it, so that all machines begin with the same numbers
        record_every=run.record_every,
        dtype=run.dtype,
        backend=backend,
        on_progress=_rarely(report),
    )
    return Outcome(
        result.step, result.loss, result.dead, result.nearly_dead, result.linear, result.nonfinite, result.backend,
        started, time.time(), platform.node(), os.getpid(),
    )  # fmt: skip


def _backend(device: str) -> str:
    """What `train.train_mlp` is asked for; by itself not CUDA where MINIRELU_KERNELS asks for something else."""
    if device != "auto":
        return "cuda" if device == "cuda" else "auto"
    free = os.environ.get("MINIRELU_KERNELS", "auto") == "auto"
    return "cuda" if free and kernels.available()["train_mlp"]["cuda"] == "ok" else "auto"


def _rarely(report: Callable[[Standing], object]) -> Callable[[int, int, float, float], None]:
    """What train_mlp calls every 20 ms or so, and what tells `report` every `REPORTED` seconds."""
    told = -REPORTED

    def heard(done: int, total: int, mse: float, dead: float) -> None:
        nonlocal told
        if time.monotonic() - told >= REPORTED:
            told = time.monotonic()
            report(Standing(done / total, mse, dead))

    return heard
