"""Is it momentum that kills units at small targets, or Adam's normalisation? The question that the paper leaves open.

Claim (§5–7): momentum makes units overshoot into the dead cone; on nets the paper compares Adam with plain SGD, which differ in
two things. Here they are two switches, on the paper's net (App. A), at γ = 1 and 1e-4:

- momentum alone: EMA (the paper's), heavy ball, Nesterov, β = .9 and .99, and Adam without its second moment;
- normalisation alone: Adam with β₁ = 0, which is SGD normalised by the root mean square; both: Adam with β₁ = .5, .9, .99.

The learning rate of every rule without normalisation is tuned for each data set and γ by the fit of pilots, all at the same
effective step sizes: in the long run a constant gradient g moves a weight by lr·g a step under SGD and EMA, by lr/(1 − β)·g
under heavy ball and Nesterov. Adam's rate is its own, 1e-3. Adam without second moment is Adam with ε = 1e8 and
a learning rate of η·1e8, so that m̂/(√v̂ + ε)·η·1e8 = η·m̂.
Besides: γ times lr under Adam, and when units die at γ = 1e-4, also by layer in nets of four layers under Adam.

Ours (n = 8, 40,000 steps, dead share at γ = 1e-4; airfoil / facebook / real estate / superconductivity): Adam with β₁ = 0
.991 / .119 / .998 / .186, with β₁ = .99 .287 / .703 / .334 / .987; heavy ball at .9 .136 / 0 / 0 / 0. The paper has no
numbers of these rules. Of four layers with β₁ = 0 at most .01 of the first ever die, and 1.00 of the last, on each set.
Intervals, and all rules: docs/reproduction.md.

Run time on two idle cores by the cost model: 120 minutes, 20 of them for the deep nets; the quick form about a minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import sweep
from ..errors import StoreError
from ..estimates import Estimate, estimate
from . import deaths, networks, survival
from .deaths import RESOLUTION
from .figures import draw_line, plain
from .networks import OnProgress, Size
from .verdicts import IN_PART, NOT_REPRODUCED, NOT_RUN, REPRODUCED, Claim, Finding, above, not_run, said

FULL = Size(("airfoil", "facebook", "real_estate", "superconductivity"), 8, 250_000)
QUICK = Size(FULL.data, 2, 4000)
SMALL, LARGE = 1e-4, 1.0
EFFECTIVE = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0)  # that rules without normalisation are tried at
HUGE = 1e8  # the ε that switches the second moment off
PLANE = (1.0, 1e-1, 1e-2), (1e-4, 1e-3, 1e-2)  # γ and lr: both diagonals, γ·lr and lr/γ, have three points
MATTERS = 0.05  # a difference of dead shares that is called one


class Arm(NamedTuple):
    """A rule with its switches; `tuned` ones take their learning rate from the pilots."""

    name: str
    optimizer: str
    beta: float
    momentum: bool
    normalised: bool
    eps: float = 1e-8

    @property
    def tuned(self) -> bool:
        return not self.normalised

    def rates(self) -> list[float]:
        """The learning rates whose effective step sizes are `EFFECTIVE`."""
        times = 1 - self.beta if self.optimizer in ("heavy_ball", "nesterov") else HUGE if self.eps == HUGE else 1.0
        return [float(f"{size * times:.3g}") for size in EFFECTIVE]


ARMS = (
    Arm("SGD", "sgd", 0.0, False, False),
    *(Arm(f"{name}, β = {beta:g}", rule, beta, True, False)
      for name, rule in (("EMA", "ema"), ("heavy ball", "heavy_ball"), ("Nesterov", "nesterov")) for beta in (0.9, 0.99)),
    Arm("Adam, no second moment", "adam", 0.9, True, False, HUGE),
    Arm("Adam, β₁ = 0", "adam", 0.0, False, True),
    *(Arm(f"Adam, β₁ = {beta:g}", "adam", beta, True, True) for beta in (0.5, 0.9, 0.99)),
)  # fmt: skip
WATCHED = ("SGD", "heavy ball, β = 0.9", "Adam, β₁ = 0", "Adam, β₁ = 0.9")
DEEP = ("Adam, β₁ = 0", "Adam, β₁ = 0.9")  # watched in nets of DEPTH layers too: normalised rules need no tuned rate
DEPTH = 4

KEPT = ("data", "gamma", "lr", "seed", "mse", "dead_share", "steps", "wall_seconds", "depth")

Columns = dict[str, Any]

# --------------------------------------------------------------------------------------------------------------- runs


def pilots(size: Size) -> sweep.Grid:
    """Every tuned rule at every rate, at both γ."""
    tuned = [arm for arm in ARMS if arm.tuned]
    return networks.added(
        [networks.tuning(size, [(arm.optimizer, arm.beta)], (LARGE, SMALL), arm.rates(), eps=arm.eps) for arm in tuned]
    )


def arms(size: Size, rates: networks.Rates) -> sweep.Grid:
    """Every arm at both γ, and the plane of γ and lr under Adam."""
    grids = [_plane(size)]
    for name in size.data:
        for gamma in (LARGE, SMALL):
            for arm in ARMS:
                rate = rates.get((name, arm.optimizer, arm.beta, gamma)) if arm.tuned else 1e-3
                if rate is not None:
                    grids.append(_grid(size, [name], arm, rate, gamma))
    return networks.added(grids)


def _plane(size: Size) -> sweep.Grid:
    gammas, rates = PLANE
    return _grid(size, list(size.data), ARMS[-2], list(rates), list(gammas))


def _grid(size: Size, data: list[str], arm: Arm, rate: Any, gamma: Any) -> sweep.Grid:
    own: dict[str, Any] = {"data": data, "optimizer": arm.optimizer, "beta": arm.beta, "eps": arm.eps, "lr": rate}
    return sweep.Grid(**own, gamma=gamma, seed=range(size.seeds), steps=size.steps)


def planned(size: Size) -> sweep.Grid:
    """What `train` trains by a sweep, but for the tuned rates: for the cost model. `besides` has the rest."""
    return pilots(size) + arms(size, _any_rates(size))


def _any_rates(size: Size) -> networks.Rates:
    rules = [(arm.optimizer, arm.beta) for arm in ARMS if arm.tuned]
    return {(name, *rule, gamma): EFFECTIVE[0] for name in size.data for rule in rules for gamma in (LARGE, SMALL)}


def predicted(folder: Path, size: Size) -> float:
    """Seconds on one idle core that the cost model expects of what is not in `folder`, the nets whose units are watched too."""
    swept = networks.expected(planned(size), folder)
    size = size._replace(data=tuple(networks.present(size.data)[0]))
    try:
        rates = _any_rates(size) | networks.tuned(networks.collect(pilots(size), folder)) if size.data else {}
    except StoreError:
        rates = _any_rates(size)
    missing = [course for _, course in _courses(size, rates) if survival.kept(course, folder / "units") is None]
    return swept + sum(survival.seconds(course) for course in missing)


def train(folder: Path, size: Size, workers: int, on_progress: OnProgress) -> None:
    """Train what is missing: pilots, arms, then the nets whose units are watched."""
    size = size._replace(data=tuple(networks.needed(size.data)))
    networks.train(pilots(size), folder, workers, on_progress)
    rates = networks.tuned(networks.collect(pilots(size), folder))
    networks.train(arms(size, rates), folder, workers, on_progress)
    courses = _courses(size, rates)
    for k, (_, course) in enumerate(courses):
        survival.watch(course, folder / "units")
        on_progress(k + 1, len(courses))


def _courses(size: Size, rates: networks.Rates) -> list[tuple[str, survival.Course]]:
    """(arm, nets whose units are watched): those of one layer, then the deep ones."""
    found = []
    for name in size.data:
        for arm in (arm for arm in ARMS if arm.name in WATCHED):
            rate = rates.get((name, arm.optimizer, arm.beta, SMALL)) if arm.tuned else 1e-3
            if rate is not None:
                course = survival.Course(name, arm.optimizer, rate, arm.beta, SMALL, size.seeds, size.steps)
                found.append((arm.name, course))
                if arm.name in DEEP:
                    found.append((arm.name, course._replace(depth=DEPTH, steps=deep_steps(size.steps))))
    return found


def deep_steps(steps: int) -> int:
    """How long deep nets are trained: a step of theirs costs as much as ten to forty of the others.

    At most 40,000, by when with β₁ = 0 nine tenths of layers 2 to 4 have died (of Facebook's layer 2 .60); in short forms
    500, for births and first deaths.
    """
    return min(steps, 40_000 if steps >= 10_000 else 500)


def collect(folder: Path, size: Size) -> Columns:
    """What `folder` has of this size: arm, data, gamma, lr, seed, mse, dead_share (at the end), steps, seconds, depth; step,
    layer, alive, half_dead, first_death.

    A row a run, with step -1 and layer 0; and for nets whose units are watched a row a layer (from 1) and step: `deaths.rows`.
    """
    rates = networks.tuned(networks.collect(pilots(size), folder))
    frame = networks.collect(arms(size, rates), folder)
    names = {(arm.optimizer, arm.beta, arm.eps if arm.optimizer == "adam" else 0.0): arm.name for arm in ARMS}
    parts: list[Columns] = [{name: frame[name].to_numpy() for name in KEPT}]
    parts[0]["arm"] = np.array([names[key] for key in frame.select("optimizer", "beta", "eps").rows()], dtype=str)
    parts[0] |= {"step": np.full(frame.height, -1), "layer": np.full(frame.height, 0)}
    parts[0] |= {name: np.full(frame.height, np.nan) for name in ("alive", "half_dead", "first_death")}
    watched = [(arm, course, survival.kept(course, folder / "units")) for arm, course in _courses(size, rates)]
    parts += [deaths.rows(course, units, arm) for arm, course, units in watched if units is not None]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# ------------------------------------------------------------------------------------------------------------ numbers


def at(columns: Columns, data: str, arm: str, gamma: float, lr: float | None = None) -> dict[int, float]:
    """Seed: dead share at the end, of runs that have not diverged."""
    own = (columns["data"] == data) & (columns["arm"] == arm) & (columns["gamma"] == gamma) & (columns["step"] < 0)
    if ARMS[-2].name == arm:
        own &= columns["lr"] == (1e-3 if lr is None else lr)
    own &= ~np.isnan(columns["dead_share"])
    return dict(zip(columns["seed"][own].tolist(), columns["dead_share"][own].tolist(), strict=True))


def share(columns: Columns, data: str, arm: str, gamma: float, lr: float | None = None) -> Estimate:
    return estimate(list(at(columns, data, arm, gamma, lr).values()), 0, 1, resolution=RESOLUTION)


def difference(columns: Columns, data: str, arm: str) -> Estimate:
    """Dead share at γ = 1e-4 less that at γ = 1, seed by seed."""
    small, large = (at(columns, data, arm, gamma) for gamma in (SMALL, LARGE))
    return estimate([small[seed] - large[seed] for seed in small if seed in large], -1, 1, resolution=RESOLUTION)


# ------------------------------------------------------------------------------------------------------------- figure


def draw(columns: Columns) -> Any:
    """A column a data set: dead shares of every arm at both γ, the plane of γ and lr, and survival at γ = 1e-4; where there
    are deep nets, a row more for each of their rules, with the survival of each layer.
    """
    from matplotlib.figure import Figure

    names = networks.in_order(columns["data"], FULL.data)
    deep = [arm for arm in DEEP if any(deaths.depth(columns, name, arm) for name in names)]
    heights = (5, 3, 3, *(3 for _ in deep))
    figure = Figure(figsize=(2.6 + 3.3 * len(names), 10 / 11 * sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), len(names), squeeze=False, height_ratios=heights, sharey="row")
    for name, (top, middle, bottom, *others) in zip(names, grid.T, strict=True):
        _shares(top, columns, name)
        _planes(middle, columns, name)
        deaths.draw_arms(bottom, columns, name, WATCHED)
        for arm, axes in zip(deep, others, strict=True):
            deaths.draw_layers(axes, columns, name, arm)
        top.set_title(networks.title(name), fontsize=10)
    grid[0][0].set_yticks(range(len(ARMS)), [arm.name for arm in ARMS])
    grid[0][0].invert_yaxis()
    labels = ["dead share, Adam", "units that have not died,\n1 layer, γ = 1e-4"]
    labels += [f"the same, {DEPTH} layers,\n{arm}" for arm in deep]
    for row, label in zip(grid[1:], labels, strict=True):
        row[0].set_ylabel(label)
    for row in grid:
        drawn = [axes for axes in row if axes.get_legend_handles_labels()[0]]
        if drawn:
            drawn[-1].legend(fontsize=8, frameon=False, loc="best")
    return figure


def _shares(axes: Any, columns: Columns, name: str) -> None:
    for gamma, colour, marker, shift in ((SMALL, "0.1", "o", -0.12), (LARGE, "0.6", "s", 0.12)):
        found = [(k, share(columns, name, arm.name, gamma)) for k, arm in enumerate(ARMS)]
        found = [(k, e) for k, e in found if e.n]
        spread = np.transpose([(e.mean - e.low, e.high - e.mean) for _, e in found]) if found else np.zeros((2, 0))
        x, y = [e.mean for _, e in found], [k + shift for k, _ in found]
        axes.errorbar(x, y, xerr=spread, fmt=marker, color=colour, markersize=4.5, linewidth=1.5, label=f"γ = {gamma:g}")
    axes.axhline(7.5, color="0.6", linewidth=0.8, linestyle=":")
    axes.annotate("normalised below", (1, 7.45), xycoords=("axes fraction", "data"), ha="right", fontsize=7.5, color="0.4")
    plain(axes, "dead share")
    axes.set_xlim(-0.04, 1.04)


def _planes(axes: Any, columns: Columns, name: str) -> None:
    gammas, rates = PLANE
    for k, rate in enumerate(rates):
        found = [share(columns, name, ARMS[-2].name, gamma, rate) for gamma in gammas]
        look = {"color": ("0.1", "0.45", "0.7")[k], "marker": "osD"[k], "markersize": 4, "label": f"lr {rate:g}"}
        draw_line(axes, gammas, found, look)
    plain(axes, "γ")
    axes.set(xscale="log", ylim=(-0.04, 1.04))


# ----------------------------------------------------------------------------------------------------------- verdicts


def claims(name: str) -> tuple[Claim, Claim]:
    """What the paper says, or implies, of one data set."""
    title = networks.title(name)
    return (
        Claim(f"{title}: momentum kills at small γ, also without normalisation",
              f"§5–7; dead share of each rule with momentum alone at γ = 1e-4 less that at 1, above {MATTERS:g}", "yes"),
        Claim(f"{title}: without momentum small γ does not kill",
              f"§5–7; dead share of Adam with β₁ = 0 at γ = 1e-4 less that at 1, at most {MATTERS:g}", "yes"),
    )  # fmt: skip


def findings(columns: Columns, reasons: dict[str, str]) -> list[Finding]:
    """Two for each of the paper's data sets, and for others in `columns`."""
    found = []
    for name in networks.in_order([*FULL.data, *columns["data"]], FULL.data):
        why = reasons.get(name, "no runs of this size with at least two seeds are in the folder")
        found += [f if f.verdict != NOT_RUN else not_run(f.claim, why) for f in _found(columns, name)]
    return found


def _found(columns: Columns, name: str) -> list[Finding]:
    kills, spares = claims(name)
    alone = {arm.name: difference(columns, name, arm.name) for arm in ARMS if arm.momentum and not arm.normalised}
    other = difference(columns, name, "Adam, β₁ = 0")
    run = min(_runs(columns, name, arm, gamma) for arm in alone for gamma in (SMALL, LARGE))
    alone = {arm: e for arm, e in alone.items() if e.n > 1}  # of some rules all but one training may have diverged
    if run < 2 or not alone or other.n < 2:
        return [not_run(kills, ""), not_run(spares, "")]
    most = max(alone, key=lambda arm: alone[arm].mean)
    verdicts = [above(e, MATTERS) for e in alone.values()]
    verdict = verdicts[0] if len(set(verdicts)) == 1 else IN_PART
    ours = f"largest difference of {len(alone)} rules: {said(alone[most])} ({most})"
    spared = {REPRODUCED: NOT_REPRODUCED, NOT_REPRODUCED: REPRODUCED, IN_PART: IN_PART}[above(other, MATTERS)]
    return [
        Finding(kills, ours, min(e.n for e in alone.values()), verdict),
        Finding(spares, f"difference {said(other)}", other.n, spared),
    ]


def _runs(columns: Columns, name: str, arm: str, gamma: float) -> int:
    """How many trainings there are, diverged ones too."""
    own = (columns["data"] == name) & (columns["arm"] == arm) & (columns["gamma"] == gamma) & (columns["step"] < 0)
    return int(np.sum(own))


def besides(columns: Columns) -> list[str]:
    """When units die, in nets of one layer and by layer in deep ones."""
    names = networks.in_order(columns["data"], FULL.data)
    return [sentence for name in names for sentence in deaths.sentences(columns, name, WATCHED)]


def sentences(columns: Columns) -> list[str]:
    """Dead shares of every arm, when units die, and the verdicts."""
    said_ = [f"After {int(columns['steps'].max()):,} steps, dead shares at γ = 1e-4 and at γ = 1 (n seeds):"]
    for name in networks.in_order(columns["data"], FULL.data):
        for arm in ARMS:
            small, large = (share(columns, name, arm.name, gamma) for gamma in (SMALL, LARGE))
            if small.n and large.n:
                said_.append(f"{networks.title(name)}, {arm.name}: {said(small)} and {said(large)}, n = {small.n}.")
    said_ += besides(columns)
    found = [f for f in findings(columns, {}) if f.verdict != NOT_RUN]
    return [*said_, *(f"{f.claim.text}: {f.ours}, n = {f.n}: {f.verdict}." for f in found)]
