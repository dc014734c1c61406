"""Dead units against the scale γ (and shift δ) of the targets, for optimisers with and without momentum.

The paper's one-hidden-layer net (App. A: width 200, batch 64, PyTorch's initialisation) on a real data set, targets
γ·y + δ with y standardised (Eq. 1). Momentum and Adam's normalisation are separate switches here: the paper compares Adam
with plain SGD, where both change at once. Depth, residual blocks and batch norm before the ReLU are those of Figure 6.

    outcomes = run(Plan(), workers=2)
    for row in summary(outcomes): print(row)

Every (optimiser, net, γ, δ, seed) is one replica; replicas of one optimiser and net are trained together, in shards that
are spread over processes (workers.py): by `kernels.train_mlp`, or by the engine on a GPU and with the reference kernels.
Counts and errors are exact passes over all training rows, in evaluation mode. A replica's numbers do not depend on its shard.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from .. import backend, data, init, kernels, nn, optim
from ..kernels.train_mlp import Job, OnProgress, Records, State, fresh
from ..kernels.train_mlp import Net as Shape
from ..monitor import NEARLY
from ..scalers import StandardScaler
from ..train import with_engine
from ..train.nets import build as build_net

CARD = 1024  # replicas of a shard on a GPU, a block of threads each: more than a card holds at once
HEARD = 0.1  # seconds between two reports of a shard, and looks at whether to stop


@dataclass(frozen=True)
class Rule:
    """An optimiser and its settings."""

    name: str
    kind: str
    settings: dict[str, float]

    @property
    def rule(self) -> str:
        """Its name in kernels/optimiser_step.py."""
        return getattr(optim, self.kind).rule

    def options(self) -> str:
        """`lr 0.01, beta 0.9`."""
        return ", ".join(f"{name} {value:g}" for name, value in self.settings.items())

    def beta(self) -> float:
        """The momentum: beta, Adam's beta1, or 0."""
        return self.settings.get("beta", self.settings.get("beta1", 0.0))


# Learning rates fixed before the results were looked at: SGD and momentum move by the same amount a step in the long run
# (.1 and .01/(1 − .9)); Adam's is the paper's 1e-3.
RULES = (
    Rule("SGD", "SGD", {"lr": 0.1}),
    Rule("heavy ball", "HeavyBall", {"lr": 0.01, "beta": 0.9}),
    Rule("Nesterov", "Nesterov", {"lr": 0.01, "beta": 0.9}),
    Rule("Adam", "Adam", {"lr": 0.001, "beta1": 0.9}),
    Rule("Adam, no momentum", "Adam", {"lr": 0.001, "beta1": 0.0}),
)
EMA = Rule("EMA momentum", "EMAMomentum", {"lr": 0.1, "beta": 0.9})


class Net(NamedTuple):
    """What replicas of one shard have in common besides the optimiser."""

    depth: int
    width: int
    batch: int


@dataclass(frozen=True)
class Plan:
    """What a study trains: every combination of the tuples. `every`: steps between two measurements (0: a 20th of all)."""

    data: str = "diabetes"
    target: str | None = None
    gammas: tuple[float, ...] = (1.0, 1e-2, 1e-4)
    deltas: tuple[float, ...] = (0.0,)
    rules: tuple[Rule, ...] = RULES
    depths: tuple[int, ...] = (1,)
    widths: tuple[int, ...] = (200,)
    batches: tuple[int, ...] = (64,)
    residual: bool = False
    batch_norm: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 60_000
    every: int = 0
    dtype: str = "float32"
    kernels: str = "auto"
    device: str = "cpu"
    shard_replicas: int = 5  # enough shards for all workers to end together

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and (not value or len(set(map(str, value))) < len(value)):
                raise ValueError(f"a study needs at least one of {field.name}, and each once; got {value}")
        if not all(math.isfinite(g) and g > 0 for g in self.gammas):
            raise ValueError(f"the target scales γ must be positive and finite, got {self.gammas}")
        if not all(map(math.isfinite, self.deltas)):
            raise ValueError(f"the target shifts δ must be finite, got {self.deltas}")
        for name in ("depths", "widths", "batches", "steps", "shard_replicas"):
            value = getattr(self, name)
            if min(value if isinstance(value, tuple) else (value,)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if min(self.seeds) < 0 or self.every < 0:
            raise ValueError(f"seeds and every must not be negative, got {self.seeds} and {self.every}")
        if self.dtype not in ("float32", "float64") or self.device not in ("cpu", "cuda"):
            raise ValueError(f"dtype is float32 or float64 and device cpu or cuda, got {self.dtype!r} and {self.device!r}")
        if self.batch_norm and min(self.batches) < 2:
            raise ValueError("batch norm needs a batch of at least 2 rows to have a variance")

    def replicas(self) -> list[Replica]:
        """Every training, in the order of the results."""
        nets = itertools.starmap(Net, itertools.product(self.depths, self.widths, self.batches))
        return [Replica(*of) for of in itertools.product(self.rules, nets, self.gammas, self.deltas, self.seeds)]

    def missing(self, finished: Iterable[Outcome]) -> list[Replica]:
        """The replicas that are not among `finished`."""
        done = {_key(outcome.replica) for outcome in finished}
        return [replica for replica in self.replicas() if _key(replica) not in done]

    def shards(self, replicas: Iterable[Replica] | None = None) -> list[Shard]:
        """`replicas` (all, unless given) in groups of one optimiser and net, and some `shard_replicas` of them (on a GPU
        `CARD`, if that is more)."""
        groups: dict[tuple[str, Net], list[Replica]] = {}
        for replica in self.replicas() if replicas is None else replicas:
            groups.setdefault((replica.rule.name, replica.net), []).append(replica)
        most = self.shard_replicas if self.device == "cpu" else max(self.shard_replicas, CARD)
        parts = max(-(-len(group) // most) for group in groups.values()) if groups else 0
        return [Shard(self, tuple(part)) for i in range(parts) for g in groups.values() if (part := g[i::parts])]

    def measured_at(self) -> list[int]:
        """The steps at which everything is counted: 0, every, …, and the last."""
        return [*range(0, self.steps, self.every or -(-self.steps // 20)), self.steps]


class Replica(NamedTuple):
    """One training."""

    rule: Rule
    net: Net
    gamma: float
    delta: float
    seed: int


class Shard(NamedTuple):
    """Replicas of one optimiser and net, trained as one."""

    plan: Plan
    replicas: tuple[Replica, ...]

    @property
    def rule(self) -> Rule:
        return self.replicas[0].rule


class Units(NamedTuple):
    """The units of one hidden layer, as the monitor counts them."""

    units: int
    dead: int
    nearly_dead: int
    linear: int
    nonfinite: int


class Moment(NamedTuple):
    """A replica after `step` steps: mean squared error over all training rows ÷ γ² (NaN if not finite), and its layers."""

    step: int
    mse: float
    layers: tuple[Units, ...]

    def dead(self) -> float:
        """Share of dead units over all hidden layers; NaN if any unit or the error is not finite: diverged."""
        wild = any(layer.nonfinite for layer in self.layers) or math.isnan(self.mse)
        return math.nan if wild else sum(layer.dead for layer in self.layers) / sum(layer.units for layer in self.layers)


class Outcome(NamedTuple):
    """One finished replica and its course."""

    replica: Replica
    course: tuple[Moment, ...]

    @property
    def mse(self) -> float:
        """The last error ÷ γ²; NaN for a diverged replica."""
        return self.course[-1].mse

    @property
    def dead(self) -> float:
        """The last share of dead units; NaN for a diverged replica."""
        return self.course[-1].dead()


class Progress(NamedTuple):
    """How a shard stands: the step, and per replica what was measured last."""

    shard: Shard
    step: int
    moments: tuple[Moment, ...]


class Interrupted(Exception):
    """The study was stopped from outside."""


# ------------------------------------------------------------------------------------------------------ one shard


def shape(plan: Plan, net: Net, inputs: int) -> Shape:
    """`depth` hidden layers of ReLUs, from the second on in residual blocks if the plan says so, and one output."""
    return Shape(inputs, (net.width,) * net.depth, plan.residual, plan.batch_norm)


def build(plan: Plan, net: Net, inputs: int, rng: Any) -> nn.Sequential:
    """The net at its initialisation."""
    return build_net(shape(plan, net, inputs), rng, np.dtype(plan.dtype))


def train_shard(shard: Shard, X: np.ndarray, y: np.ndarray, report: Callable[[Progress], object]) -> list[Outcome]:
    """Train the replicas of `shard` on X (N, I) and y (N, 1), both standardised; `report` may raise to stop."""
    job, state = _prepared(shard, X, y)
    courses: list[tuple[Moment, ...]] = []
    with kernels.using(shard.plan.kernels):
        for stop in shard.plan.measured_at():
            heard = _heard(shard, state.step, courses, report)
            records = _train(shard.plan, job._replace(record_at=np.array([stop], np.int64)), state, heard)
            courses.append(tuple(_moments(records, job, stop)))
            report(Progress(shard, stop, courses[-1]))
    return [Outcome(replica, course) for replica, course in zip(shard.replicas, zip(*courses, strict=True), strict=True)]


def _prepared(shard: Shard, X: np.ndarray, y: np.ndarray) -> tuple[Job, State]:
    """The shard as a job of `kernels.train_mlp`, and its replicas at step 0."""
    plan, rule, net = shard.plan, shard.rule, shard.replicas[0].net
    seeds = np.array([replica.seed for replica in shard.replicas], np.uint64)
    rows = np.ascontiguousarray(X, plan.dtype)
    targets = StandardScaler().fit_transform(y)[:, 0]  # loaded data lacks a rounding of mean 0 and deviation 1
    fixed = {"lr": rule.settings["lr"], "beta": rule.beta()}
    fixed |= {name: rule.settings.get(name, default) for name, default in (("beta2", 0.999), ("eps", 1e-8))}
    numbers = {name: np.full(len(seeds), value, np.float64) for name, value in fixed.items()}
    numbers |= {name: np.array([getattr(r, name) for r in shard.replicas], np.float64) for name in ("gamma", "delta")}
    job = Job(
        shape(plan, net, X.shape[1]), rule.rule, rows, targets, rows, np.ascontiguousarray(y[:, 0]), net.batch, seeds,
        **numbers, record_at=np.zeros(1, np.int64),
    )  # fmt: skip
    made = build(plan, net, X.shape[1], init.replicas(seeds))
    return job, fresh(rule.rule, [p.data for p in made.parameters()], [b.data for b in made.buffers()])


def _train(plan: Plan, job: Job, state: State, heard: OnProgress) -> Records:
    """By the compiled kernel, on a GPU by the one in CUDA; by the engine with the other kernels that the plan may name."""
    if plan.device == "cuda" and plan.kernels in ("auto", "cuda"):
        return kernels.train_mlp(job, state, backend="cuda", on_progress=heard)
    if plan.device == "cuda":
        return with_engine.run(job, state, heard, place=backend.to_device)
    if kernels.training_backend() == "reference":
        return with_engine.run(job, state, heard)
    return kernels.train_mlp(job, state, on_progress=heard)


def _heard(shard: Shard, first: int, courses: list[tuple[Moment, ...]], report: Callable[[Progress], object]) -> OnProgress:
    """An `on_progress` that reports what was measured last, at most every `HEARD` seconds."""
    last = [time.monotonic()]

    def heard(done: int, total: int, loss: float, dead: float) -> None:
        if courses and done < total and time.monotonic() - last[0] >= HEARD:
            last[0] = time.monotonic()
            report(Progress(shard, first + done // len(shard.replicas), courses[-1]))

    return heard


def _moments(records: Records, job: Job, step: int) -> Iterator[Moment]:
    """What was measured at the only step of `records`, a replica at a time."""
    rows, units = len(job.X_eval), job.net.widths
    edges = np.cumsum((0, *units)).tolist()
    for error, active, nonfinite in zip(records.loss[:, 0], records.active[:, 0], records.nonfinite[:, 0], strict=True):
        finite = nonfinite == 0
        kinds = (
            finite & (active == 0),
            finite & (active > 0) & (active < NEARLY * rows),
            finite & (active == rows),
            ~finite,
        )
        layers = (Units(b - a, *(int(kind[a:b].sum()) for kind in kinds)) for a, b in itertools.pairwise(edges))
        yield Moment(step, float(error), tuple(layers))


# ------------------------------------------------------------------------------------------------------ the study


def run(
    plan: Plan,
    *,
    workers: int = 2,
    on_progress: Callable[[Progress], object] = lambda _: None,
    on_outcomes: Callable[[list[Outcome]], object] = lambda _: None,
    finished: Sequence[Outcome] = (),
    loaded: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Outcome]:
    """Train what of `plan` is not `finished` in `workers` processes, one BLAS and Numba thread each.

    All outcomes come back, in the order of the plan; they do not depend on the number of workers. `on_outcomes` hears of
    each shard that is done. `loaded` is (X, y) if the data has been read already. On Ctrl-C the workers stop within a
    moment and `KeyboardInterrupt` goes on to the caller.
    """
    from .workers import run_shards

    X, y = data.load(plan.data, plan.target) if loaded is None else loaded
    order = {_key(replica): i for i, replica in enumerate(plan.replicas())}
    # Adam's shards are the longest and SGD's the shortest: begin with the former, end with the latter
    shards = plan.shards(plan.missing(finished))[::-1]
    outcomes = list(finished) + run_shards(shards, X, y, workers, on_progress, on_outcomes)
    return sorted(outcomes, key=lambda outcome: order[_key(outcome.replica)])


def _key(replica: Replica) -> tuple[Any, ...]:
    return replica.rule.name, *replica[1:]
