"""When units die, layer by layer: rows, pictures and words about nets whose units are watched (`survival`).

- `rows(course, units, arm)`: the columns of `momentum`, a row a net, layer and step of its survival curve.
- `draw_arms(axes, columns, data, arms)`: survival in nets of one layer, a line an arm. `draw_layers(axes, columns, data, arm)`:
  in deep nets, a line a layer.
- `sentences(columns, data, arms)`: the same in words.

Units that are born dead are told apart from those that die: shares count all units of a layer, while times of first deaths
are those of the units that are alive at step 0. Units of one net depend on each other, so every estimate is one over nets.
Layers are compared net by net, by their mean first-death times, which exist also where more than half of a layer never die.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from ..estimates import Estimate, estimate
from . import networks, survival
from .figures import COLOURS, draw_line, plain
from .survival import EARLY, Course, Units
from .verdicts import said

RESOLUTION = 1 / 200  # of a dead share

Columns = dict[str, Any]


def rows(course: Course, units: Units, arm: str) -> Columns:
    """The share `alive` at `step` of every net and layer.

    `dead_share` at the end, `half_dead` and `first_death` (the median and the mean of `survival.first_death`) are the same in
    all rows of a layer of a net.
    """
    early, all_ = np.linspace(0, min(EARLY, course.steps), 51), np.linspace(0, course.steps, 101)
    steps = np.unique(np.concatenate([early, all_]).astype(int))  # whole steps first: of short runs many are the same
    parts = [_layer(course, survival.of_layer(units, layer), layer, steps) for layer in range(1, course.depth + 1)]
    made = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    same = {"data": course.data, "gamma": course.gamma, "lr": course.lr, "mse": np.nan, "steps": course.steps}
    same |= {"wall_seconds": 0.0, "arm": arm, "depth": course.depth}
    return made | {name: np.full(len(made["step"]), value) for name, value in same.items()}


def _layer(course: Course, units: Units, layer: int, steps: np.ndarray) -> Columns:
    nets = [units["net"] == net for net in range(course.seeds)]
    times = [survival.first_death(units["died"][net], course.steps) for net in nets]
    own: Columns = {"seed": np.arange(course.seeds), "dead_share": [units["dead"][net].mean() for net in nets]}
    own |= {"half_dead": [half for half, _ in times], "first_death": [mean for _, mean in times]}
    made = {name: np.repeat(values, len(steps)) for name, values in own.items()}
    curves = survival.alive(units, course.steps, steps)
    return made | {
        "layer": np.full(curves.size, layer),
        "step": np.tile(steps, course.seeds),
        "alive": curves.ravel(),
    }


# ------------------------------------------------------------------------------------------------------------ numbers


def watched(columns: Columns, data: str, arm: str, deep: bool, layer: int = 1) -> np.ndarray:
    """Which rows are about one layer of the nets of one layer, or of the deep ones."""
    own = (columns["data"] == data) & (columns["arm"] == arm) & (columns["layer"] == layer) & (columns["step"] >= 0)
    return own & ((columns["depth"] > 1) == deep)


def depth(columns: Columns, data: str, arm: str) -> int:
    """Of the deep nets; 0 if there are none."""
    own = (columns["data"] == data) & (columns["arm"] == arm) & (columns["step"] >= 0) & (columns["depth"] > 1)
    return int(columns["depth"][own].max(initial=0))


def alive(columns: Columns, own: np.ndarray, step: int) -> Estimate:
    """The share of units that have not been dead up to `step`."""
    return estimate(columns["alive"][own & (columns["step"] == step)], 0, 1, resolution=RESOLUTION)


def of_nets(columns: Columns, own: np.ndarray, name: str) -> np.ndarray:
    """A column that is the same at all steps, once a net, in the order of the seeds."""
    first = own & (columns["step"] == 0)
    return columns[name][first][np.argsort(columns["seed"][first])]


def order(times: Sequence[np.ndarray], resolution: float) -> tuple[list[int], list[bool]]:
    """Layers (from 1) by the mean over nets of their `times` (nets,); for each but the last, whether it and all before it are
    clearly before all after it.

    One is clearly before another if the interval of the difference, net by net, is below 0: at level 1 − .05/m for the m pairs
    of layers that there are (Bonferroni), as it is the times that say which pairs are looked at. Times are read in steps of
    `resolution`.
    """
    found = sorted(range(len(times)), key=lambda k: (np.mean(times[k]), k))
    level = 1 - 0.05 / max(len(times) * (len(times) - 1) // 2, 1)
    clear = {
        (a, b): estimate(times[a] - times[b], level=level, resolution=resolution).high < 0 for a, b in combinations(found, 2)
    }
    apart = [all(clear[a, b] for a in found[:k] for b in found[k:]) for k in range(1, len(found))]
    return [k + 1 for k in found], apart


# ------------------------------------------------------------------------------------------------------------ figure


def draw_arms(axes: Any, columns: Columns, data: str, arms: Sequence[str]) -> None:
    """Survival curves of nets of one layer."""
    for k, arm in enumerate(arms):
        _curve(axes, columns, watched(columns, data, arm, deep=False), {"color": COLOURS[(0, 1, 4, 3)[k]], "label": arm})
    _look(axes)


def draw_layers(axes: Any, columns: Columns, data: str, arm: str) -> None:
    """Survival curves of the layers of deep nets, from light (first) to dark (last)."""
    from matplotlib import colormaps

    layers = depth(columns, data, arm)
    for k in range(layers):
        shade = colormaps["viridis_r"](0.2 + 0.8 * k / max(layers - 1, 1))
        _curve(axes, columns, watched(columns, data, arm, True, k + 1), {"color": shade, "label": f"layer {k + 1}"})
    _look(axes)


def _curve(axes: Any, columns: Columns, own: np.ndarray, look: dict[str, Any]) -> None:
    if own.any():
        steps = np.unique(columns["step"][own])
        found = [alive(columns, own, step) for step in steps]
        draw_line(axes, steps.tolist(), found, {**look, "drawstyle": "steps-post"})


def _look(axes: Any) -> None:
    plain(axes, "step")
    axes.set_ylim(-0.04, 1.04)
    axes.set_xscale("symlog", linthresh=100)
    axes.set_xlim(left=0)


# ------------------------------------------------------------------------------------------------------------- words


def sentences(columns: Columns, data: str, arms: Sequence[str]) -> list[str]:
    """One for each arm whose units were watched in nets of one layer, then one for each that was in deep ones."""
    one = [_of_nets_of_one(columns, data, arm) for arm in arms if watched(columns, data, arm, deep=False).any()]
    return one + [_of_layers(columns, data, arm) for arm in arms if depth(columns, data, arm)]


def _of_nets_of_one(columns: Columns, data: str, arm: str) -> str:
    """How many units of nets of one layer have not died, at the beginning, early and at the end."""
    own = watched(columns, data, arm, deep=False)
    early, last = _ends(columns, own)
    left = [said(alive(columns, own, step)) for step in (0, early, last)]
    return (
        f"{networks.title(data)}, {arm}, γ = 1e-4: units not yet dead at step 0 (the rest is born dead) {left[0]}, "
        f"at {early:,} {left[1]}, at {last:,} {left[2]}; n = {alive(columns, own, 0).n} nets."
    )


def _of_layers(columns: Columns, data: str, arm: str) -> str:
    """Of each layer: born dead, dead early and by the end, of which some come back; when half have died; which dies first."""
    layers = [watched(columns, data, arm, True, k + 1) for k in range(depth(columns, data, arm))]
    early, last = _ends(columns, layers[0])
    n = alive(columns, layers[0], 0).n
    shares = {
        f"have died by step {step:,}" if step else "born dead": [_dead(columns, own, step) for own in layers]
        for step in sorted({0, early, last})
    }
    shares["dead at the end"] = [estimate(of_nets(columns, own, "dead_share"), 0, 1, resolution=RESOLUTION) for own in layers]
    lists = [f"{name} {' | '.join(said(e, 2) for e in found)}" for name, found in shares.items()]
    halves = " | ".join(_half(columns, own) for own in layers)
    return (
        f"{networks.title(data)}, {arm}, {len(layers)} layers, γ = 1e-4, n = {n} nets; layer by layer: {'; '.join(lists)}; "
        f"step by which half of the units alive at step 0 have died: {halves}. {_in_order(columns, layers, last)}"
    )


def _ends(columns: Columns, own: np.ndarray) -> tuple[int, int]:
    last = int(columns["step"][own].max())
    return min(EARLY, last), last


def _dead(columns: Columns, own: np.ndarray, step: int) -> Estimate:
    left = alive(columns, own, step)
    return Estimate(1 - left.mean, 1 - left.high, 1 - left.low, left.n)


def _half(columns: Columns, own: np.ndarray) -> str:
    """The median first-death time of the nets in which it exists; a mean only if that is all of them."""
    halves = of_nets(columns, own, "half_dead")
    known = halves[~np.isnan(halves)]
    if not len(known):
        return "more than half never die"
    if len(known) < len(halves):
        return f"more than half never die in {len(halves) - len(known)} of {len(halves)} nets"
    last = int(columns["steps"][own].max())
    e = estimate(known, 0, last, resolution=survival.spacing(last))
    return f"{e.mean:,.0f} [{e.low:,.0f}, {e.high:,.0f}]"


def _in_order(columns: Columns, layers: Sequence[np.ndarray], last: int) -> str:
    times = [of_nets(columns, own, "first_death") for own in layers]
    if min(map(len, times)) < 2 or np.isnan(times).any():
        return "Which layer dies first these nets do not tell."
    found, clear = order(times, survival.spacing(last))
    if not any(clear):
        return "Which layer dies first the intervals leave open."
    words = "".join(f"{', before' if apart else ' and'} {layer}" for apart, layer in zip(clear, found[1:], strict=True))
    means = ", ".join(f"{np.mean(times[layer - 1]):,.0f}" for layer in found)
    return f"Layers by their mean first death within {last:,} steps, paired over nets: {found[0]}{words} ({means})."
