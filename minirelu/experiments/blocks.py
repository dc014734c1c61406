"""The residual nets of Figure 6 in other layouts: does the block, which the paper leaves open, decide how many units die?

Claim (§6, Fig. 6): at γ = 1e-4, averaged over the four data sets, residual nets with batch norm before the ReLU have .26 of
the units of their worst layer dead after 95,000 steps of Adam with 1 layer, .60 with 4: fewer than MLPs, and more the deeper.
The layout of a block is not stated. In that of fig6.py (the first layer has no skip) we find .95 and .85. Here are two more,
else with the settings of fig6.py. Ours (two seeds on each set) are .38 and .36 with a stem, .06 and .23 on the inputs, so that
the layout decides, even whether depth kills; none has all of the paper's numbers. Intervals: docs/reproduction.md.

- "stem": a linear layer of 200 units, then blocks h + relu(batch norm(W h)), so that every ReLU has a skip around it;
- "inputs": blocks x + W₂ relu(batch norm(W₁ x)) of 200 ReLUs on the inputs themselves, so that there is no other layer.

Run time: trained by the engine, as the kernel has one layout of blocks: about 75 minutes on two idle cores, the quick form
half a minute.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import data as data_sets
from .. import init, nn, optim
from ..causes import tasks
from ..engine import no_graph, quiet
from ..files import read_arrays
from ..monitor import UnitActivity
from ..train.loop import fit
from ..train.nets import moved
from ..train.settings import prepared
from . import fig6, networks
from .fig6 import GAMMA, STEPS, TIE, WITHIN, Columns
from .figures import plain
from .networks import OnProgress, Size
from .verdicts import NOT_RUN, Claim, Finding, above, near, not_run, said

VERSION = 1  # of what a training's numbers depend on besides its `Nets`
FULL = Size(fig6.FULL.data, 2, fig6.FULL.steps)
QUICK = Size(fig6.FULL.data, 2, 500)
DEPTHS = (1, 2, 4)
WIDTH, BATCH, LR = fig6.FULL.width, fig6.FULL.batch, fig6.FULL.lr
SECONDS = {"stem": 1e-3, "inputs": 7e-4}  # a step, seed and block of the engine takes, about, on an idle core
LAYOUTS = {
    "stem": "a linear layer, then h + relu(batch norm(W h))",
    "inputs": "x + W₂ relu(batch norm(W₁ x)) on the inputs",
}

# ------------------------------------------------------------------------------------------------------------- nets


def net(layout: str, inputs: int, depth: int, rng: Any, width: int) -> nn.Sequential:
    """`depth` residual blocks with batch norm before the ReLU, and one output."""

    def linear(fan_in: int, units: int) -> nn.Linear:
        return nn.Linear(fan_in, units, rng=rng)

    def relu() -> tuple[nn.Layer, nn.Layer]:
        return nn.BatchNorm(width, rng=rng), nn.Activation("relu", rng=rng)

    if layout == "inputs":
        blocks = [nn.Residual(linear(inputs, width), *relu(), linear(width, inputs)) for _ in range(depth)]
        return nn.Sequential(*blocks, linear(inputs, 1))
    stem = linear(inputs, width)
    blocks = [nn.Residual(linear(width, width), *relu()) for _ in range(depth)]
    return nn.Sequential(stem, *blocks, linear(width, 1))


class Training(NamedTuple):
    """A net of one layout, depth and seed on a data set; `numbers` is the set's checksum."""

    data: str
    numbers: str
    layout: str
    depth: int
    seed: int
    steps: int

    def key(self) -> str:
        """The name of its file."""
        own = [VERSION, *self[1:], WIDTH, BATCH, LR, GAMMA, STEPS]
        return hashlib.sha256(json.dumps(own).encode()).hexdigest()[:20]

    def cost(self) -> float:
        """Seconds on an idle core, roughly."""
        return self.steps * self.depth * SECONDS[self.layout]


class Course(NamedTuple):
    """How a net went at T steps."""

    step: np.ndarray  # (T,)
    dead: np.ndarray  # (T,): share of dead units in the worst layer; NaN where a unit is non-finite
    seconds: np.ndarray  # ()


@quiet
def trained(task: Training, sets: dict[str, tuple[np.ndarray, np.ndarray]], _: Any) -> Course:
    """Train `task` with the engine on raw X (N, I) and y (N, 1)."""
    start, seeds = time.perf_counter(), [task.seed]
    rows = prepared(*sets[task.data], None, None, True, np.float32)
    targets = (GAMMA * rows.y).astype(np.float32)[:, None]
    made = net(task.layout, rows.X.shape[1], task.depth, init.replicas(seeds), WIDTH)
    parameters = made.parameters()
    opt = optim.Adam([parameters[i] for i in moved(made)], LR)
    step = np.array(sorted({t for t in STEPS if t <= task.steps} | {task.steps}))
    dead = []
    for stop in step.tolist():
        fit(made, opt, rows.X, targets, batch=min(BATCH, len(targets)), steps=stop, seeds=seeds)
        dead.append(worst(made, rows.X_eval)[0])
    return Course(step, np.array(dead), np.array(time.perf_counter() - start))


def worst(made: nn.Sequential, X: np.ndarray) -> np.ndarray:
    """(R,): share of dead units in the layer that has most, over the rows of X, in evaluation mode."""
    with no_graph():
        return np.max(list(UnitActivity.over(made, X, warn=False).dead_share().values()), axis=0)


# ------------------------------------------------------------------------------------------------------------- runs


def planned(size: Size) -> Iterator[Training]:
    """Every training of this size. Raises `DataError` for data that cannot be read."""
    for name in size.data:
        numbers = data_sets.read(name).checksum()
        for layout, depth, seed in product(LAYOUTS, DEPTHS, range(size.seeds)):
            yield Training(name, numbers, layout, depth, seed, size.steps)


def predicted(folder: Path, size: Size) -> float:
    """Seconds on one idle core that what is missing will take. Data sets that cannot be read cost nothing."""
    there, _ = networks.present(size.data)
    wanted = planned(size._replace(data=tuple(there)))
    return sum(task.cost() for task in wanted if tasks.found(task, folder / "blocks", Course) is None)


def lengths(folder: Path) -> list[int]:
    """The steps of what `folder` has, each once, ascending."""
    found = (read_arrays(path) for path in (folder / "blocks").glob("*.npz"))
    return sorted({int(arrays["step"][-1]) for arrays in found if arrays is not None and "step" in arrays})


def train(folder: Path, size: Size, workers: int, on_progress: OnProgress) -> None:
    """Train what is missing. Raises `DataError` if none of the data can be read."""
    there = size._replace(data=tuple(networks.needed(size.data)))
    tasks.train(planned(there), folder / "blocks", workers, on_progress, trained, Course)


def collect(folder: Path, size: Size) -> Columns:
    """What `folder` has of this size, a row a net and measured step: the columns of fig6, `block` being the layout."""
    rows: list[tuple[Any, ...]] = []
    there, _ = networks.present(size.data)
    for task in planned(size._replace(data=tuple(there))):
        course = tasks.found(task, folder / "blocks", Course)
        if course is not None:
            own = (task.data, task.layout, "adam", task.depth, task.seed)
            for t, (step, dead) in enumerate(zip(course.step.tolist(), course.dead.tolist(), strict=True)):
                rows.append((*own, step, dead, task.steps, float(course.seconds) * (t == 0)))
    columns = zip(*rows, strict=True) if rows else [()] * len(fig6.NAMES)
    return dict(zip(fig6.NAMES, map(np.array, columns), strict=True))


# ----------------------------------------------------------------------------------------------- figure and verdicts


def draw(columns: Columns) -> Any:
    """Dead share of the worst layer over the steps, a panel a layout and a line a depth, over the paper's points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    whole = set(columns["data"]) == set(FULL.data)
    panels = figure.subplots(1, len(LAYOUTS), sharey=True)
    for axes, (layout, words) in zip(panels, LAYOUTS.items(), strict=True):
        for depth in DEPTHS:
            fig6.draw_course(axes, columns, layout, "adam", depth)
            if whole:
                fig6.draw_paper(axes, columns, "residual", "adam", depth)
        axes.set_title(f"{layout}: {words}", fontsize=9)
        plain(axes, "step")
        axes.set_ylim(-0.04, 1.04)
    panels[0].set_ylabel("dead share of the worst layer")
    fig6.draw_legend(figure, panels[0], whole)
    names = ", ".join(networks.title(name) for name in networks.in_order(columns["data"], FULL.data))
    figure.suptitle(f"Adam, γ = 1e-4; mean over {names}; shades: 95 % intervals", fontsize=8.5)
    return figure


def claims(layout: str, step: int) -> list[Claim]:
    """What Figure 6 says of residual nets, of which the layout is not stated: their end points, and that depth kills."""
    column = STEPS.index(step)
    paper = [fig6.ADAM["residual"][fig6.DEPTHS.index(depth)][column] for depth in DEPTHS]
    name = f"Residual net, layout “{layout}”"
    return [
        *(Claim(f"{name}, {depth} layer{'s' * (depth > 1)}, Adam: dead share of the worst layer after {step:,} steps",
                f"Fig. 6, digitised; within ±{WITHIN:g}", f"{share:g}") for depth, share in zip(DEPTHS, paper, strict=True)),
        Claim(f"{name}, Adam: {DEPTHS[-1]} layers lose more units than 1 after {step:,} steps",
              f"§6, Fig. 6; by more than {TIE:g}", f"{paper[-1] - paper[0]:g}"),
    ]  # fmt: skip


def findings(columns: Columns, reasons: dict[str, str]) -> list[Finding]:
    """Four of each layout, as `fig6.over_all_sets` judges."""
    return fig6.over_all_sets([f for layout in LAYOUTS for f in _found(columns, layout)], columns, reasons)


def _found(columns: Columns, layout: str) -> list[Finding]:
    step = fig6.judged_at(columns)
    *ends, order = claims(layout, step)
    shares = [fig6.at(columns, layout, "adam", depth, step) for depth in DEPTHS]
    found = [Finding(c, said(e), e.n, near(e, float(c.paper), WITHIN)) for c, e in zip(ends, shares, strict=True)]
    if float(order.paper) <= TIE:
        return [*found, not_run(order, f"after {step:,} steps the paper's own nets do not differ yet; more steps would tell")]
    more = fig6.difference(columns, layout, step, DEPTHS[0], DEPTHS[-1])
    return [*found, Finding(order, said(more), more.n, above(more, TIE))]


def sentences(columns: Columns) -> list[str]:
    """The shares at the end of every layout and depth, on whatever data, and the verdicts."""
    names = ", ".join(networks.title(name) for name in networks.in_order(columns["data"], FULL.data))
    last = max(fig6.measured(columns, "adam"), default=0)
    told = [f"Dead share of the worst layer, residual nets, γ = 1e-4, Adam, after {last:,} steps, mean over {names}:"]
    for layout, words in LAYOUTS.items():
        shares = [(depth, fig6.at(columns, layout, "adam", depth, last)) for depth in DEPTHS]
        parts = [f"{depth} hidden {said(e)} (n = {e.n})" for depth, e in shares if e.n]
        told.append(f"{layout} ({words}): {'; '.join(parts)}.")
    found = [f for f in findings(columns, {}) if f.verdict != NOT_RUN]
    return [*told, *(f"{f.claim.text}: {f.ours}, n = {f.n}; paper {f.claim.paper}: {f.verdict}." for f in found)]
