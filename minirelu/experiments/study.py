"""Dead units against the scale γ of the targets, for optimisers with and without momentum.

The paper's one-hidden-layer net (App. A: width 200, batch 64, PyTorch's initialisation) on a real data set, targets γ·y
with y standardised (Eq. 1, δ = 0). Momentum and Adam's normalisation are separate switches here: the paper compares Adam
with plain SGD, where both change at once.

    outcomes = run(Plan(), workers=2)
    for row in summary(outcomes): print(row)

Every (optimiser, γ, seed) is one replica; replicas of one optimiser are trained together, in shards that are spread over
processes with one BLAS thread each. Dead shares and errors are exact passes over all training rows.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np

from .. import data, init, nn, optim, train
from ..engine import quiet
from ..monitor import UnitActivity


@dataclass(frozen=True)
class Rule:
    """An optimiser and its settings."""

    name: str
    kind: str
    settings: dict[str, float]

    def build(self, parameters: Sequence[Any]) -> optim.Optimiser:
        return getattr(optim, self.kind)(parameters, **self.settings)

    def options(self) -> str:
        """`lr 0.01, beta 0.9`."""
        return ", ".join(f"{name} {value:g}" for name, value in self.settings.items())


# Learning rates fixed before the results were looked at: SGD and momentum move by the same amount a step in the long run
# (.1 and .01/(1 − .9)); Adam's is ten times the paper's 1e-3, which on diabetes shows the effect only after more than
# 50,000 steps.
RULES = (
    Rule("SGD", "SGD", {"lr": 0.1}),
    Rule("heavy ball", "HeavyBall", {"lr": 0.01, "beta": 0.9}),
    Rule("Nesterov", "Nesterov", {"lr": 0.01, "beta": 0.9}),
    Rule("Adam", "Adam", {"lr": 0.01, "beta1": 0.9}),
    Rule("Adam, no momentum", "Adam", {"lr": 0.01, "beta1": 0.0}),
)


@dataclass(frozen=True)
class Plan:
    """What a study trains. `every`: steps between two progress reports."""

    data: str = "diabetes"
    gammas: tuple[float, ...] = (1.0, 1e-2, 1e-4)
    rules: tuple[Rule, ...] = RULES
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 20_000
    batch: int = 64
    width: int = 200
    every: int = 1000
    shard_seeds: int = 3  # nine replicas a shard: fewer overheads a step outweigh the odd number of shards

    def __post_init__(self) -> None:
        for name in ("gammas", "rules", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"a study needs at least one of {name}")
        if not all(math.isfinite(g) and g > 0 for g in self.gammas):
            raise ValueError(f"the target scales must be positive and finite, got {self.gammas}")
        for name in ("steps", "batch", "width", "every", "shard_seeds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def shards(self) -> list[Shard]:
        """One optimiser, all γ and up to `shard_seeds` seeds each."""
        parts = [self.seeds[i : i + self.shard_seeds] for i in range(0, len(self.seeds), self.shard_seeds)]
        return [Shard(self, rule, part) for part in parts for rule in self.rules]


@dataclass(frozen=True)
class Shard:
    """Replicas trained as one: `rule` on every (γ, seed)."""

    plan: Plan
    rule: Rule
    seeds: tuple[int, ...]

    def replicas(self) -> list[tuple[float, int]]:
        """(γ, seed) of each replica."""
        return [(gamma, seed) for gamma in self.plan.gammas for seed in self.seeds]


@dataclass(frozen=True)
class Progress:
    """How a shard stands: per replica the mean squared error ÷ γ² and the share of dead units."""

    shard: Shard
    step: int
    mse: np.ndarray
    dead: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """One finished replica. `mse` is the error over all training rows ÷ γ²; both are NaN for a diverged replica."""

    rule: Rule
    gamma: float
    seed: int
    mse: float
    dead: float


class Interrupted(Exception):
    """The study was stopped from outside."""


# ------------------------------------------------------------------------------------------------------ one shard


def train_shard(shard: Shard, report: Callable[[Progress], object]) -> list[Outcome]:
    """Train the replicas of `shard`; `report` hears of them every `plan.every` steps and may raise to stop."""
    plan = shard.plan
    X, y = (a.astype(np.float32) for a in data.load(plan.data))
    gammas, seeds = (np.array(column) for column in zip(*shard.replicas(), strict=True))
    scale = gammas.astype(np.float32)[:, None, None]
    targets = scale * y
    rng = init.replicas(seeds)
    net = nn.Sequential(nn.Dense(X.shape[1], plan.width, rng=rng), nn.Linear(plan.width, 1, rng=rng))
    opt = shard.rule.build(net.parameters())
    for step in range(0, plan.steps, plan.every):
        train.fit(net, opt, X, targets, batch=plan.batch, steps=min(step + plan.every, plan.steps), seeds=seeds)
        report(Progress(shard, opt.steps, _mse(net, X, y, scale), _dead(net, X)))
    return [
        Outcome(shard.rule, float(gamma), int(seed), float(mse), float(dead))
        for gamma, seed, mse, dead in zip(gammas, seeds, _mse(net, X, y, scale), _dead(net, X), strict=True)
    ]


@quiet
def _mse(net: nn.Layer, X: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Mean squared error over all rows, ÷ γ², per replica; in float64, as γ² may be 1e-10. NaN where it is not finite."""
    errors = net.predict(X).astype(np.float64) / scale - y
    mse = (errors**2).mean(axis=(-2, -1))
    return np.where(np.isfinite(mse), mse, np.nan)


def _dead(net: nn.Layer, X: np.ndarray) -> np.ndarray:
    """Share of hidden units that no row of X makes active, per replica."""
    return UnitActivity.over(net, X, warn=False).dead_share()["0"]


# ------------------------------------------------------------------------------------------------------ processes

_mail: Any = None
_stop: Any = None


def run(plan: Plan, *, workers: int = 2, on_progress: Callable[[Progress], object] = lambda _: None) -> list[Outcome]:
    """Train everything in `plan` in `workers` processes, one BLAS and Numba thread each.

    Outcomes come in the order of the plan and do not depend on the number of workers. On Ctrl-C the workers stop at
    their next report and `KeyboardInterrupt` goes on to the caller.
    """
    context = get_context("spawn")
    mail, stop = context.Queue(), context.Event()
    shards = plan.shards()
    with (
        _one_thread_each(),
        ProcessPoolExecutor(min(workers, len(shards)), context, _start_worker, (mail, stop)) as pool,
    ):
        try:
            # Adam's shards are the longest and SGD's the shortest: begin with the former, end with the latter
            futures = [pool.submit(_work, shard) for shard in reversed(shards)]
            _listen(futures, mail, on_progress)
        except BaseException:
            with _deaf():
                stop.set()
                pool.shutdown(cancel_futures=True)
            raise
    outcomes = [outcome for future in futures for outcome in future.result()]
    return sorted(outcomes, key=lambda o: (plan.rules.index(o.rule), plan.gammas.index(o.gamma), plan.seeds.index(o.seed)))


def _listen(futures: list[Future[list[Outcome]]], mail: Any, on_progress: Callable[[Progress], object]) -> None:
    """Pass progress on until all shards are done; the first failure is raised."""
    while True:
        done, running = wait(futures, timeout=0)
        for future in done:
            future.result()
        try:
            on_progress(mail.get(timeout=0.1))
        except queue.Empty:
            if not running:
                return


@contextmanager
def _deaf() -> Iterator[None]:
    """Inside, Ctrl-C is ignored: a second one would break the pool off while it stops, and the program would hang."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker(mail: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it sets `stop`
    globals().update(_mail=mail, _stop=stop)


def _work(shard: Shard) -> list[Outcome]:
    def report(progress: Progress) -> None:
        if _stop.is_set():
            raise Interrupted
        _mail.put(progress)

    return train_shard(shard, report)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside use one thread for BLAS and Numba: they share the cores among themselves."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# -------------------------------------------------------------------------------------------------------- summary


@dataclass(frozen=True)
class Estimate:
    """A mean over n replicas with its 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class SummaryRow:
    """Dead share and normalised error of one optimiser at one γ; `diverged` replicas are in neither."""

    rule: Rule
    gamma: float
    dead: Estimate
    mse: Estimate
    diverged: int = field(default=0)


def estimate(values: Sequence[float], low: float = -math.inf, high: float = math.inf) -> Estimate:
    """Mean and 95 % interval of `values`, the interval cut to [low, high]; one value alone gives the whole range."""
    n = len(values)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(values))
    if n == 1:
        return Estimate(mean, low, high, 1)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / n**0.5
    return Estimate(mean, max(mean - half, low), min(mean + half, high), n)


def summary(outcomes: Sequence[Outcome]) -> list[SummaryRow]:
    """A row for each optimiser and γ, in the order of `outcomes`."""
    groups: dict[tuple[str, float], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.rule.name, outcome.gamma), []).append(outcome)
    rows = []
    for (_, gamma), group in groups.items():
        fine = [o for o in group if not (math.isnan(o.dead) or math.isnan(o.mse))]
        dead, mse = estimate([o.dead for o in fine], 0.0, 1.0), estimate([o.mse for o in fine], 0.0)
        rows.append(SummaryRow(group[0].rule, gamma, dead, mse, len(group) - len(fine)))
    return rows
