"""Dead units against the scale γ (and shift δ) of the targets, for optimisers with and without momentum.

The paper's one-hidden-layer net (App. A: width 200, batch 64, PyTorch's initialisation) on a real data set, targets
γ·y + δ with y standardised (Eq. 1). Momentum and Adam's normalisation are separate switches here: the paper compares Adam
with plain SGD, where both change at once. Depth, residual blocks and batch norm before the ReLU are those of Figure 6.

    run(Plan(), "study", workers=2)
    for row in summary(collect(Plan(), "study")): print(row)

Every (optimiser, net, γ, δ, seed) is one replica, and a run of a sweep (minirelu/sweep), which trains them and keeps what is
finished. Counts and errors are exact passes over all training rows (over 4096 of them, if there are more), in evaluation mode.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import optim, sweep
from ..sweep import shards
from ..sweep.grid import Run
from .networks import added

if TYPE_CHECKING:
    from polars import DataFrame


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
    """The net of a replica and its batch."""

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

    def replicas(self) -> list[Replica]:
        """Every training, in the order of the results."""
        nets = itertools.starmap(Net, itertools.product(self.depths, self.widths, self.batches))
        return [Replica(*of) for of in itertools.product(self.rules, nets, self.gammas, self.deltas, self.seeds)]

    def grid(self) -> sweep.Grid:
        """The replicas as runs of a sweep. Raises `GridError` with everything that is wrong with them."""
        return added([sweep.Grid(**self._axes(rule)) for rule in self.rules])

    def _axes(self, rule: Rule) -> dict[str, Any]:
        return {
            "data": self.data, "target": self.target, "gamma": self.gammas, "delta": self.deltas,
            "optimizer": rule.rule, "lr": rule.settings["lr"], "beta": rule.beta(),
            "depth": self.depths, "width": self.widths, "block": "residual" if self.residual else "dense",
            "batch_norm": self.batch_norm, "batch": self.batches, "seed": self.seeds, "steps": self.steps,
            "record_every": self.every or None, "dtype": self.dtype,
        }  # fmt: skip


class Replica(NamedTuple):
    """One training."""

    rule: Rule
    net: Net
    gamma: float
    delta: float
    seed: int


class Units(NamedTuple):
    """The units of one hidden layer, as the monitor counts them."""

    units: int
    dead: int
    nearly_dead: int
    linear: int
    nonfinite: int


class Moment(NamedTuple):
    """A replica after `step` steps: mean squared error ÷ γ² (NaN if not finite), and its layers."""

    step: int
    mse: float
    layers: tuple[Units, ...]

    def dead(self) -> float:
        """Share of dead units over all hidden layers; NaN if any unit or the error is not finite: diverged."""
        wild = any(layer.nonfinite for layer in self.layers) or math.isnan(self.mse)
        return math.nan if wild else sum(layer.dead for layer in self.layers) / sum(layer.units for layer in self.layers)


class Outcome(NamedTuple):
    """One finished replica, its course, and the kernels that trained it."""

    replica: Replica
    course: tuple[Moment, ...]
    backend: str

    @property
    def mse(self) -> float:
        """The last error ÷ γ²; NaN for a diverged replica."""
        return self.course[-1].mse

    @property
    def dead(self) -> float:
        """The last share of dead units; NaN for a diverged replica."""
        return self.course[-1].dead()


# ------------------------------------------------------------------------------------------------------ through a sweep


def check(plan: Plan) -> None:
    """Raises `GridError` for what cannot be trained, on this data too, before anything is done."""
    shards.load_sets(plan.grid().runs())


def run(
    plan: Plan,
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    on_progress: Callable[[sweep.Progress], object] = lambda _: None,
    on_start: Callable[[sweep.Report], object] = lambda _: None,
) -> sweep.Report:
    """Train what of `plan` is not in the folder `out` yet, as `sweep.run` does, which says what is raised."""
    if "cuda" in (plan.device, plan.kernels):
        return sweep.run(plan.grid(), out, device="cuda", on_progress=on_progress, on_start=on_start)
    own = {"device": "cpu", "backend": plan.kernels}
    return sweep.run(plan.grid(), out, workers=workers, **own, on_progress=on_progress, on_start=on_start)


def collect(plan: Plan, out: str | os.PathLike[str]) -> list[Outcome]:
    """The outcomes of `plan` that are in `out`, in the order of its replicas; of other runs there, and other data, none."""
    import polars as pl

    runs = plan.grid().runs()
    sets = shards.load_sets(runs)
    ids = {_settings(run): shards.identity(run, sets[run.data, run.target]) for run in runs}
    backends = dict(sweep.load(out, ["run_id", "backend"]).rows())
    own = sweep.history(out).filter(pl.col("run_id").is_in(list(ids.values())))
    courses = {name: part for (name,), part in own.group_by(["run_id"])}
    named = ((replica, ids[_settings(replica)]) for replica in plan.replicas())
    return [Outcome(r, _course(courses[name], r.net.width), backends[name]) for r, name in named if name in courses]


def _settings(of: Replica | Run) -> tuple[Any, ...]:
    """What tells the runs of one study apart."""
    if isinstance(of, Replica):
        return of.rule.rule, of.rule.settings["lr"], of.rule.beta(), *of.net, of.gamma, of.delta, of.seed
    return of.optimizer, of.lr, of.beta, of.depth, of.width, of.batch, of.gamma, of.delta, of.seed


def _course(history: DataFrame, width: int) -> tuple[Moment, ...]:
    """The moments of one run, of its rows by step and layer."""
    rows = history.sort("step", "layer").select("step", "mse", *Units._fields[1:]).rows()
    moments = ((step, list(layers)) for step, layers in itertools.groupby(rows, key=lambda row: row[0]))
    return tuple(Moment(step, layers[0][1], tuple(Units(width, *row[2:]) for row in layers)) for step, layers in moments)
