"""The paper's Figure 6: with Adam and small targets deeper nets lose more units, and sooner; with SGD they lose none.

Claim (§6, Fig. 6): at γ = 1e-4, averaged over the four data sets, the dead share of the worst layer after 95,000 steps of
Adam is .87 / .96 / .96 / .966 in MLPs of 1, 2, 4, 8 hidden layers and .26 / .30 / .60 / .66 in residual nets with batch norm
before the ReLU; under SGD it stays what it was at initialisation, 0 / .013 / .106 / .495 and 0. Ours (two seeds on each set):
.854 / .960 / .943 / .963 and .948 / .964 / .851 / .705; under SGD 0 / .008 / .119 / .497, and 0 but for .828 with 8 layers.
Intervals, and what is not explained: docs/reproduction.md.

The paper does not state the width, the rates, the batch, the blocks, nor how batch norm counts; ours are the fields of
`Size6`: those of Figure 1 (width 200, batch 64, Adam at 1e-3), and SGD at 1e-3, as at .01 some residual nets of 4 and 8
layers diverge. The first hidden layer has no skip, each further one is a block x + relu(batch norm(W x)); on other layouts,
which have other shares, see blocks.py. Units are counted in evaluation mode, with the running statistics. SGD stops after
10,000 steps. A shorter run is held against the paper's curve at its own last step.

Run time on two idle cores: 66 minutes by the cost model, more than half of it for 8 layers under Adam; the quick form a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import sweep
from ..estimates import Estimate, stratified
from . import networks
from .figures import COLOURS, MARKERS, draw_line, plain
from .networks import OnProgress
from .verdicts import IN_PART, NOT_REPRODUCED, NOT_RUN, REPRODUCED, Claim, Finding, near, not_run, said


class Size6(NamedTuple):
    """How much is trained, and what the paper leaves open."""

    data: tuple[str, ...]
    seeds: int
    steps: int
    width: int = 200
    batch: int = 64
    lr: float = 1e-3  # Adam's
    sgd_lr: float = 1e-3


FULL = Size6(("airfoil", "facebook", "real_estate", "superconductivity"), 4, 95_000)
QUICK = Size6(FULL.data, 2, 1000)
GAMMA = 1e-4
DEPTHS = (1, 2, 4, 8)
SGD_STEPS = 10_000
BLOCKS = {"dense": "MLP", "residual": "Residual net"}
RULES = {"adam": "Adam", "sgd": "SGD"}
WITHIN = 0.1  # of the paper's mean over the sets: its band is about as wide
TIE = 0.05  # depths that differ by less are called equal

# Digitised from the paper's figure, about ±.005: Adam's dead share of the worst layer at STEPS, a row a depth.
STEPS = (0, 500, 5000, 10_000, 20_000, 40_000, 60_000, 95_000)
ADAM = {
    "dense": (
        (0, 0, 0.002, 0.008, 0.105, 0.52, 0.72, 0.87),
        (0.01, 0.29, 0.39, 0.53, 0.74, 0.94, 0.96, 0.96),
        (0.11, 0.67, 0.80, 0.87, 0.91, 0.94, 0.96, 0.96),
        (0.50, 0.69, 0.75, 0.83, 0.91, 0.93, 0.955, 0.966),
    ),
    "residual": (
        (0, 0, 0, 0, 0.001, 0.03, 0.07, 0.26),
        (0, 0, 0, 0, 0.02, 0.12, 0.20, 0.30),
        (0, 0, 0, 0.009, 0.11, 0.36, 0.46, 0.60),
        (0, 0, 0.001, 0.024, 0.12, 0.36, 0.505, 0.66),
    ),
}
SGD = {"dense": (0, 0.013, 0.106, 0.495), "residual": (0, 0, 0, 0)}  # at every step

Columns = dict[str, Any]
NAMES = ("data", "block", "optimizer", "depth", "seed", "step", "dead_share", "steps", "wall_seconds")

# --------------------------------------------------------------------------------------------------------------- runs


def runs(size: Size6) -> sweep.Grid:
    """Both kinds of nets at every depth, with Adam and with SGD."""
    common: dict[str, Any] = {"data": list(size.data), "gamma": GAMMA, "depth": list(DEPTHS), "seed": range(size.seeds)}
    common |= {"width": size.width, "batch": size.batch}
    own = (("adam", size.lr, size.steps), ("sgd", size.sgd_lr, min(size.steps, SGD_STEPS)))
    return networks.added(
        [
            sweep.Grid(**common, block=block, batch_norm=block == "residual", optimizer=rule, lr=lr, steps=steps,
                       record_every=min(1000, max(steps // 20, 1)))
            for block in BLOCKS for rule, lr, steps in own
        ]
    )  # fmt: skip


def planned(size: Size6) -> sweep.Grid:
    """What `train` trains, for the cost model."""
    return runs(size)


def train(folder: Path, size: Size6, workers: int, on_progress: OnProgress) -> None:
    """Train what is missing. Raises `DataError` if none of the data can be read."""
    networks.train(runs(size._replace(data=tuple(networks.needed(size.data)))), folder, workers, on_progress)


def collect(folder: Path, size: Size6) -> Columns:
    """What `folder` has of this size, a row a net and measured step: `NAMES`; dead_share is that of the worst layer.

    It is NaN once a net has diverged. `steps` is the last step, `wall_seconds` the net's at step 0 and 0 at others.
    """
    import polars as pl

    own = networks.collect(runs(size), folder)
    layers = sweep.history(folder).join(own.select("run_id"), on="run_id", how="semi")
    wild = (pl.col("nonfinite") > 0) | pl.col("mse").is_nan()
    worst = pl.when(wild.any()).then(float("nan")).otherwise(pl.col("dead").max() / size.width)
    course = layers.group_by("run_id", "step").agg(worst.alias("worst")).join(own, on="run_id").sort("run_id", "step")
    frame = course.with_columns(
        dead_share=pl.col("worst"),
        wall_seconds=pl.when(pl.col("step") == 0).then(pl.col("wall_seconds")).otherwise(0.0),
    )
    return {name: frame[name].to_numpy() for name in NAMES}


def at(columns: Columns, block: str, rule: str, depth: int, step: int) -> Estimate:
    """Dead share of the worst layer at one step: the mean over the data sets, as the paper has it; n counts nets.

    Of a setting that was not run on all sets of `columns` there is none: it would be the mean of something else.
    """
    own = (columns["block"] == block) & (columns["optimizer"] == rule) & (columns["depth"] == depth)
    own &= (columns["step"] == step) & ~np.isnan(columns["dead_share"])
    return _over_sets(columns, columns["dead_share"][own], columns["data"][own], 0)


def _over_sets(columns: Columns, values: Any, names: Any, low: float) -> Estimate:
    if set(names) != set(columns["data"]):
        values, names = [], []
    return stratified(values, names, low, 1, resolution=1 / FULL.width)


def measured(columns: Columns, rule: str) -> np.ndarray:
    """The steps, ascending, at which nets of this rule were measured."""
    return np.unique(columns["step"][columns["optimizer"] == rule])


# ------------------------------------------------------------------------------------------------------------- figure


def draw(columns: Columns) -> Any:
    """Dead share of the worst layer over the steps, a line a depth: MLPs above, residual nets below; Adam left, SGD right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 6.6), layout="constrained")
    grid = figure.subplots(2, 2, sharey=True, sharex="col")
    whole = set(columns["data"]) == set(FULL.data)
    for row, block in zip(grid, BLOCKS, strict=True):
        for axes, rule in zip(row, RULES, strict=True):
            for depth in DEPTHS:
                draw_course(axes, columns, block, rule, depth)
                if whole:
                    draw_paper(axes, columns, block, rule, depth)
            axes.set_title(f"{BLOCKS[block]}, {RULES[rule]}", fontsize=10)
            plain(axes, "step" if row is grid[-1] else "")
            axes.set_ylim(-0.04, 1.04)
        row[0].set_ylabel("dead share of the worst layer")
    draw_legend(figure, grid[0][0], whole)
    names = ", ".join(networks.title(name) for name in networks.in_order(columns["data"], FULL.data))
    figure.suptitle(f"γ = 1e-4; mean over {names}; shades: 95 % intervals", fontsize=9)
    return figure


def draw_legend(figure: Any, axes: Any, whole: bool) -> None:
    """Below the panels, with the entries of `axes`, and one for the paper's points if the `whole` mean is drawn."""
    handles, labels = axes.get_legend_handles_labels()
    if whole:
        (point,) = axes.plot([], [], "o", color="0.3", fillstyle="none")
        handles, labels = [*handles, point], [*labels, "the paper, digitised"]
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def draw_course(axes: Any, columns: Columns, block: str, rule: str, depth: int) -> None:
    """Our mean over the sets at every measured step, with its interval."""
    steps, k = measured(columns, rule), DEPTHS.index(depth)
    found = [(step, at(columns, block, rule, depth, step)) for step in steps]
    found = [(step, e) for step, e in found if e.n]
    if found:
        look = {"color": COLOURS[k], "linestyle": ("-", "--", "-.", ":")[k], "label": f"{depth} hidden"}
        draw_line(axes, [step for step, _ in found], [e for _, e in found], look)


def draw_paper(axes: Any, columns: Columns, block: str, rule: str, depth: int) -> None:
    """The paper's points up to our last step."""
    last, k = max(measured(columns, rule), default=0), DEPTHS.index(depth)
    points = ADAM[block][k] if rule == "adam" else (SGD[block][k],) * len(STEPS)
    shown = [(step, share) for step, share in zip(STEPS, points, strict=True) if step <= last]
    axes.plot(*zip(*shown, strict=True), MARKERS[0], color=COLOURS[k], fillstyle="none", markersize=5)


# ----------------------------------------------------------------------------------------------------------- verdicts


def judged_at(columns: Columns) -> int:
    """The last of the digitised steps at which nets were measured under Adam; the paper's own last if there are none."""
    return max(set(STEPS) & set(measured(columns, "adam").tolist()), default=STEPS[-1])


def claims(block: str, step: int) -> list[Claim]:
    """What the figure says of one kind of nets: the share at `step` for each depth, their order, and SGD."""
    name, column = BLOCKS[block], STEPS.index(step)
    paper = [ADAM[block][k][column] for k in range(4)]
    layers = [f"{depth} hidden layer{'s' * (depth > 1)}" for depth in DEPTHS]
    return [
        *(Claim(f"{name} with {of}, Adam: dead share of the worst layer after {step:,} steps",
                f"Fig. 6, digitised; within ±{WITHIN:g}", f"{share:g}") for of, share in zip(layers, paper, strict=True)),
        Claim(f"{name}, Adam: the deeper, the more units are dead after {step:,} steps",
              f"§6, Fig. 6; 8 layers above 1, no depth more than {TIE:g} below a shallower", " ".join(f"{p:g}" for p in paper)),
        Claim(f"{name}, SGD: training adds no dead units", f"§6, Fig. 6; share at the end less that at step 0, at most {TIE:g}",
              "flat, " + " ".join(f"{p:g}" for p in SGD[block])),
    ]  # fmt: skip


def findings(columns: Columns, reasons: dict[str, str]) -> list[Finding]:
    """Six of each kind of nets, as `over_all_sets` judges."""
    return over_all_sets([f for block in BLOCKS for f in _found(columns, block)], columns, reasons)


def over_all_sets(found: Sequence[Finding], columns: Columns, reasons: dict[str, str]) -> list[Finding]:
    """`found`; but the paper's numbers are means over its four sets, so without one of them nothing is judged."""
    missing = [name for name in FULL.data if name not in set(columns["data"])]
    why = "; ".join(reasons[name] for name in missing if name in reasons)
    why = why or "no runs on all four data sets, over which the paper averages, with at least two seeds are in the folder"
    return [not_run(f.claim, f.why or why) if missing or f.verdict == NOT_RUN else f for f in found]


def _found(columns: Columns, block: str) -> list[Finding]:
    step = judged_at(columns)
    *ends, order, flat = claims(block, step)
    shares = [at(columns, block, "adam", depth, step) for depth in DEPTHS]
    paper = [ADAM[block][k][STEPS.index(step)] for k in range(4)]
    found = [Finding(c, said(e), e.n, near(e, p, WITHIN)) for c, e, p in zip(ends, shares, paper, strict=True)]
    return [*found, _order(columns, block, order, step, shares), _flat(columns, block, flat)]


def _order(columns: Columns, block: str, claim: Claim, step: int, shares: Sequence[Estimate]) -> Finding:
    n, column = min(e.n for e in shares), STEPS.index(step)
    if ADAM[block][-1][column] - ADAM[block][0][column] <= TIE:
        return not_run(claim, f"after {step:,} steps the paper's own nets do not differ yet; more steps would tell")
    if n < 2:
        return not_run(claim, "")
    pairs = [(a, b) for i, a in enumerate(DEPTHS) for b in DEPTHS[i + 1 :]]
    more = {pair: difference(columns, block, step, *pair) for pair in pairs}
    whole = more[DEPTHS[0], DEPTHS[-1]]
    if whole.high < 0 or any(e.high < -TIE for e in more.values()):
        verdict = NOT_REPRODUCED
    else:
        verdict = REPRODUCED if whole.low > 0 and all(e.low > -TIE for e in more.values()) else IN_PART
    ours = f"{' '.join(f'{e.mean:.3f}' for e in shares)}; 8 layers less 1: {said(whole)}"
    return Finding(claim, ours, n, verdict)


def difference(columns: Columns, block: str, step: int, shallow: int, deep: int) -> Estimate:
    """Dead share of nets of depth `deep` less that of nets of depth `shallow` with the same data and seed, under Adam."""
    own = (columns["block"] == block) & (columns["optimizer"] == "adam") & (columns["step"] == step)
    return _paired(columns, own & (columns["depth"] == deep), own & (columns["depth"] == shallow))


def _paired(columns: Columns, first: np.ndarray, second: np.ndarray) -> Estimate:
    """The mean of what rows `first` have more than those of `second` with the same data and seed."""

    def keyed(own: np.ndarray) -> dict[tuple[Any, ...], float]:
        own = own & ~np.isnan(columns["dead_share"])
        names = zip(columns["data"][own].tolist(), columns["seed"][own].tolist(), strict=True)
        return dict(zip(names, columns["dead_share"][own].tolist(), strict=True))

    more, less = keyed(first), keyed(second)
    both = [key for key in more if key in less]
    return _over_sets(columns, [more[key] - less[key] for key in both], [key[0] for key in both], -1)


def _flat(columns: Columns, block: str, claim: Claim) -> Finding:
    """The depth with the largest difference decides."""
    steps = measured(columns, "sgd")
    last = steps[-1] if len(steps) else 0
    added = {}
    for depth in DEPTHS:
        own = (columns["block"] == block) & (columns["optimizer"] == "sgd") & (columns["depth"] == depth)
        added[depth] = _paired(columns, own & (columns["step"] == last), own & (columns["step"] == 0))
    n = min(e.n for e in added.values())
    if n < 2 or not last:
        return not_run(claim, "")
    most = max(added, key=lambda depth: added[depth].mean)
    starts = " ".join(f"{at(columns, block, 'sgd', depth, 0).mean:.3f}" for depth in DEPTHS)
    ours = f"at step 0 {starts}; most is added with {most}: {said(added[most])} by step {last:,}"
    verdicts = [REPRODUCED if e.high <= TIE else NOT_REPRODUCED if e.low > TIE else IN_PART for e in added.values()]
    verdict = next(v for v in (NOT_REPRODUCED, IN_PART, REPRODUCED) if v in verdicts)
    return Finding(claim, ours, n, verdict)


def sentences(columns: Columns) -> list[str]:
    """The shares at the end for every kind, rule and depth, on whatever data, and the verdicts."""
    names = ", ".join(networks.title(name) for name in networks.in_order(columns["data"], FULL.data))
    said_ = [f"Dead share of the worst layer, γ = 1e-4, mean over {names}:"]
    for block, rule in ((block, rule) for block in BLOCKS for rule in RULES):
        last = max(measured(columns, rule), default=0)
        shares = [(depth, at(columns, block, rule, depth, last)) for depth in DEPTHS]
        parts = [f"{depth} hidden {said(e)} (n = {e.n})" for depth, e in shares if e.n]
        said_.append(f"{BLOCKS[block]}, {RULES[rule]}, after {last:,} steps: {'; '.join(parts)}.")
    found = [f for f in findings(columns, {}) if f.verdict != NOT_RUN]
    return [*said_, *(f"{f.claim.text}: {f.ours}, n = {f.n}; paper {f.claim.paper}: {f.verdict}." for f in found)]
