"""When units die: first-death times of every unit of some nets, and their survival curves (Kaplan & Meier 1958).

- `Course`: an arm whose units are watched. `watch(arm, folder)`: train it, unless the folder has it; `kept(arm, folder)`.
  `seconds(arm)`: how long that takes.
- `kaplan_meier(times, died)`: the survival curve. `alive(units, last, steps)`: one a net. `of_layer(units, layer)`: its units.
- `first_death(died, last)`: when half of some units have died, and the mean time.

A unit is *born dead* if it is dead at step 0, and an *early* death if it first dies by `EARLY`; later ones die during training.
Early steps are recorded every `EARLY`/50 by a run of those steps alone, which is the beginning of the long one to the bit.
Units are measured at recorded steps only, so a time is the first recorded step at which the unit was dead. A unit that is
infinite or NaN is not dead, and a net that diverges is not set apart: rates are those that fitted best, or Adam's usual one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import data as data_sets
from .. import sweep, train
from ..errors import DataError, ShapeError
from ..files import read_arrays, write_arrays
from ..sweep import cost

VERSION = 1  # of what the units of a course depend on besides the course and its data
EARLY = 1000
NEVER = -1
FIELDS = {"net", "layer", "died", "dead"}  # of what is kept

Units = dict[str, np.ndarray]


class Course(NamedTuple):
    """What is trained: `seeds` nets of `depth` layers on one data set."""

    data: str
    optimizer: str
    lr: float
    beta: float
    gamma: float
    seeds: int
    steps: int
    depth: int = 1
    width: int = 200

    def key(self) -> str:
        """The name of its file, of the data's numbers too. Raises `DataError` if the data cannot be read."""
        said = json.dumps([VERSION, data_sets.read(self.data).checksum(), self])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def kept(arm: Course, folder: Path) -> Units | None:
    """One entry a unit: net, layer, died (first recorded step at which it was dead, or -1), dead at the last step.

    None if `folder` has no file of it that can be read, or its data cannot be.
    """
    try:
        units = read_arrays(folder / f"{arm.key()}.npz")
    except DataError:
        return None
    return units if units is not None and units.keys() == FIELDS else None


def watch(arm: Course, folder: Path) -> Units:
    """The same; what `folder` does not have is trained and kept. Raises `DataError` if the data cannot be read."""
    units = kept(arm, folder)
    if units is None:
        units = _trained(arm)
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / f"{arm.key()}.npz", units)
    return units


def seconds(arm: Course) -> float:
    """What the cost model (docs/sweeps.md) expects of its training on one idle core.

    Raises `DataError` if the data cannot be read.
    """
    shape = data_sets.read(arm.data).X.shape
    same: dict[str, Any] = {"data": arm.data, "optimizer": arm.optimizer, "lr": arm.lr, "beta": arm.beta, "gamma": arm.gamma}
    same |= {"depth": arm.depth, "width": arm.width, "seed": 0}
    runs = [sweep.Grid(**same, steps=steps, record_every=every).runs()[0] for steps, every in _stretches(arm.steps)]
    return arm.seeds * sum(cost.seconds(run, *shape) for run in runs)


def _stretches(steps: int) -> list[tuple[int, int]]:
    """(steps, steps between two records) of the runs of a course: the early one, and the whole one if it is longer."""
    early = min(EARLY, steps)
    return [(early, max(early // 50, 1)), *([(steps, max(steps // 100, 1))] if steps > early else [])]


def spacing(steps: int) -> int:
    """Steps between the last records of a course of so many: times of death are rounded up to them."""
    return _stretches(steps)[-1][1]


def _trained(arm: Course) -> Units:
    parts = [_recorded(arm, steps, every) for steps, every in _stretches(arm.steps)]
    steps = np.concatenate([step for step, _ in parts])
    dead = np.concatenate([own for _, own in parts], axis=1)
    order = np.argsort(steps, kind="stable")
    died, last = first_deaths(steps[order], dead[:, order]), parts[-1][1][:, -1]
    nets, layers = np.indices((arm.seeds, arm.depth * arm.width))
    return {"net": nets.ravel(), "layer": layers.ravel() // arm.width + 1, "died": died.ravel(), "dead": last.ravel()}


def _recorded(arm: Course, steps: int, every: int) -> tuple[np.ndarray, np.ndarray]:
    """(T,) steps and (R, T, units): whether each unit is active on no row."""
    X, y = data_sets.load(arm.data)
    result = train.train_mlp(
        X, y, widths=(arm.width,) * arm.depth, optimizer=arm.optimizer, lr=arm.lr, beta=arm.beta, gamma=arm.gamma,
        steps=steps, seeds=range(arm.seeds), record_every=every, standardize=False, units=True,
    )  # fmt: skip
    assert result.active is not None
    assert result.nonfinite_rows is not None
    return result.step, (result.active == 0) & (result.nonfinite_rows == 0)


def first_deaths(steps: np.ndarray, dead: np.ndarray) -> np.ndarray:
    """(R, units): the first of the ascending `steps` (T,) at which `dead` (R, T, units) holds, or -1."""
    return np.where(dead.any(axis=1), steps[dead.argmax(axis=1)], NEVER)


def kaplan_meier(times: Any, died: Any) -> tuple[np.ndarray, np.ndarray]:
    """(t, S(t)) at the distinct times of death, ascending: S(t) = Π over tᵢ ≤ t of (1 − dᵢ/nᵢ).

    `times` (n,) are those of death where `died`, else those at which a unit was last seen alive (censored). nᵢ are the units
    seen alive until just before tᵢ, dᵢ those that die there. Raises `ShapeError` for lengths that differ.
    """
    times, died = np.asarray(times), np.asarray(died, bool)
    if times.shape != died.shape or times.ndim != 1:
        raise ShapeError(f"times and died must be two vectors of one length, got {times.shape} and {died.shape}")
    at, deaths = np.unique(times[died], return_counts=True)
    risk = len(times) - np.searchsorted(np.sort(times), at)
    return at, np.cumprod(1 - deaths / risk)


def alive(units: Units, last: int, steps: Any) -> np.ndarray:
    """(nets, T): each net's survival curve at `steps`, all units counted, so that it begins at the share not born dead.

    One curve a net, because units of one net are not independent of each other: intervals are over nets.
    """
    curves = []
    for net in np.unique(units["net"]):
        died = units["died"][units["net"] == net]
        at, share = kaplan_meier(np.where(died == NEVER, last, died), died != NEVER)
        curves.append(np.concatenate([[1.0], share])[np.searchsorted(at, steps, side="right")])
    return np.array(curves)


def of_layer(units: Units, layer: int) -> Units:
    """The units of one layer (1 is the first) of every net."""
    own = units["layer"] == layer
    return {name: column[own] for name, column in units.items()}


def first_death(died: np.ndarray, last: int) -> tuple[float, float]:
    """(median, mean) time of the first death of units that are alive at step 0, in steps; `died` as in `kept`.

    The median is the first time at which the survival curve is at most a half, NaN if more than half never die. The mean is
    restricted to the run (Irwin 1949): a unit that never dies counts with `last`, so it is the area under the curve up to
    there. Both are NaN if every unit is born dead.
    """
    died = died[died != 0]
    if not len(died):
        return float("nan"), float("nan")
    times = np.where(died == NEVER, last, died)
    at, share = kaplan_meier(times, died != NEVER)
    half = at[share <= 0.5 + 1e-9]  # a product of n quotients
    return float(half[0]) if len(half) else float("nan"), float(times.mean())
