"""Causes and remedies of dying ReLU on one bench: which trainings, and what came out of them as rows.

Every cause (causes/cases.py) at every dose, under Adam and under SGD; every remedy against every cause under Adam.
Deviation: folklore gives no numbers. Ours: docs/causes-and-remedies.md, with the run times.

- `FULL`, `QUICK`: sizes. `train(folder, size, ...)`: what is missing. `collect(folder, size)`: `Row`s, one a setting and set.
- `over_sets(rows)`: the same, one a setting. `kills(rows)`: whether a cause does; `killing(rows)`: the first dose that does.
- `remedied`, `hardly_kills`, `recommended`: what helps against a cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import data as data_sets
from ..causes import cases, compare
from ..causes.cases import Cause
from ..causes.measures import steps_to
from ..causes.recipe import BASE
from ..causes.tasks import Task, found
from ..causes.tasks import train as train_tasks
from ..causes.training import Outcome
from ..estimates import Estimate, error_estimate, estimate
from ..monitor import ALARM
from .networks import OnProgress, Size

SETS = ("diabetes", "airfoil", "real_estate")
FULL = Size(SETS, 8, 4000)
QUICK = Size(SETS, 3, 1000)
RULES = {"adam": lambda recipe: recipe, "sgd": cases.under_sgd}
KILLS = ALARM  # the share of a layer from which on a cause is said to kill
EASED = 0.15  # a remedy that leaves at most this share more than the best one is as good, and the fit decides


class Row(NamedTuple):
    """A setting on a data set, or over several; n seeds, without the `diverged` ones.

    born: silent at birth in the worst layer then; dead: silent at the end in the worst layer; died: of that layer, silent at
    the end but not at birth. `steps` to the error `goal`, counted as the training's length for the `never` seeds that did not
    get there.

    Of a remedy, against none, seed by seed (causes/compare.py): `fewer` silent in the worst layer, and `fit`, the error ÷ that
    of none, all remedies against a cause together at 95 %.
    """

    data: str
    cause: str
    rule: str
    dose: str
    remedy: str
    n: int
    diverged: int
    born: Estimate
    dead: Estimate
    died: Estimate
    rank: Estimate
    error: Estimate
    steps: Estimate
    never: int
    fewer: Estimate
    fit: Estimate


# ---------------------------------------------------------------------------------------------------------- trainings


def checksums(size: Size) -> dict[str, str]:
    """{name: checksum} of every data set. Raises `DataError` for one that cannot be read."""
    return {name: data_sets.read(name).checksum() for name in size.data}


def cause_tasks(size: Size, sums: dict[str, str]) -> Iterator[tuple[str, str, str, Task]]:
    """(cause, rule, dose, task): every cause at every dose, under both optimisers, on the data sets with these `checksums`."""
    for data, numbers in sums.items():
        for rule, change in RULES.items():
            for cause in cases.CAUSES:
                for dose in cause.doses:
                    task = Task(data, numbers, change(dose.recipe), size.seeds, size.steps * cause.length)
                    yield cause.key, rule, dose.label, task


def remedy_tasks(size: Size, sums: dict[str, str]) -> Iterator[tuple[str, str, str, Task]]:
    """(cause, remedy, dose, task): none and every remedy against every cause at its lethal dose, under Adam."""
    for data, numbers in sums.items():
        for cause in cases.CAUSES:
            for remedy in (cases.NONE, *cases.REMEDIES):
                task = Task(data, numbers, remedy.change(cause.dose.recipe), size.seeds, size.steps * cause.length)
                yield cause.key, remedy.key, cause.dose.label, task


def train(folder: Path, size: Size, workers: int, on_progress: OnProgress, remedies: bool = True) -> None:
    """Train what is not in `folder` yet. Raises `DataError` for data that cannot be read, `StoreError` for a failure."""
    sums = checksums(size)
    wanted = [task for *_, task in cause_tasks(size, sums)]
    train_tasks(wanted + [task for *_, task in remedy_tasks(size, sums)] * remedies, folder, workers, on_progress)


def collect(folder: Path, size: Size) -> list[Row]:
    """A row for each setting and data set that is in `folder`: of doses without a remedy ("none"), then of remedies.

    Raises `DataError` for data that cannot be read.
    """
    rows, known, sums = [], {}, checksums(size)
    for data, numbers in sums.items():
        base = found(Task(data, numbers, BASE, size.seeds, size.steps), folder)
        if base is not None:
            known[data] = goal(base)
    for cause, rule, dose, task in cause_tasks(size, sums):
        rows += _row(task, folder, known, cause=cause, rule=rule, dose=dose, remedy="none")
    without = None
    for cause, remedy, dose, task in remedy_tasks(size, sums):
        if remedy == "none":
            without = found(task, folder)
        else:
            rows += _row(task, folder, known, without, cause=cause, rule="adam", dose=dose, remedy=remedy)
    return rows


def goal(base: Outcome) -> float:
    """The error whose steps are counted: what healthy nets (Adam) have after a quarter of the steps, geometric mean."""
    quarter = int(np.searchsorted(base.step, base.step[-1] / 4))
    return error_estimate(base.error[:, quarter]).mean


def _row(task: Task, folder: Path, goals: dict[str, float], without: Outcome | None = None, **names: str) -> list[Row]:
    of = found(task, folder)
    if of is None or task.data not in goals:
        return []
    return [judged(of, goals[task.data], task.recipe.widths, without, data=task.data, **names)]


def judged(of: Outcome, goal: float, widths: tuple[int, ...], without: Outcome | None = None, **names: str) -> Row:
    """The row of an outcome of nets with these `widths`; of a remedy, also against that of the same seeds `without` it, which
    changes no width. `names`: the row's first fields.
    """
    own = of.only(of.finite)
    share = lambda values, worst: estimate(values, 0, 1, resolution=compare.resolution(worst, widths))
    took = steps_to(own.step, own.error, goal)
    last = int(of.step[-1])
    against = compare.NONE if without is None else compare.compared(without, of, (widths, widths), len(cases.REMEDIES))
    return Row(
        **names, n=len(own.worst), diverged=len(of.worst) - len(own.worst),
        born=share(of.born.max(axis=1), of.born), dead=share(own.worst, own.dead), died=share(own.worst_layer()[1], own.dead),
        rank=estimate(own.rank, 0), error=error_estimate(own.error[:, -1]),
        steps=estimate(np.minimum(took, last), 0, last), never=int(np.isinf(took).sum()),
        fewer=against.fewer, fit=against.fit,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- over the sets


def over_sets(rows: Iterable[Row]) -> list[Row]:
    """One row a setting: the mean of the sets' means (of errors the geometric one), with the interval of that mean."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.cause, row.rule, row.dose, row.remedy), []).append(row)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[Row]) -> Row:
    def mean(name: str) -> Estimate:
        return pooled([getattr(row, name) for row in group], logarithmic=name in ("error", "fit"))

    names = ("born", "dead", "died", "rank", "error", "steps", "fewer", "fit")
    total = {name: sum(getattr(row, name) for row in group) for name in ("n", "diverged", "never")}
    return group[0]._replace(data=", ".join(row.data for row in group), **total, **{name: mean(name) for name in names})  # type: ignore[arg-type]


def pooled(parts: Sequence[Estimate], logarithmic: bool = False) -> Estimate:
    """The mean of independent means. Its interval's half is the root of the halves' squares, by their number.

    Parts without a run are left out; so the mean is of the sets on which any seed stayed finite.
    """
    kept = [e for e in parts if e.n]
    if not kept:
        return Estimate(np.nan, np.nan, np.nan, 0)
    table = np.array([e[:3] for e in kept])
    if logarithmic:
        table = np.log(np.maximum(table, 1e-300))
    mean, below, above = table[:, 0].mean(), table[:, 0] - table[:, 1], table[:, 2] - table[:, 0]
    low, high = mean - np.hypot.reduce(below) / len(kept), mean + np.hypot.reduce(above) / len(kept)
    made = np.exp([mean, low, high]) if logarithmic else np.array([mean, low, high])
    return Estimate(float(made[0]), float(made[1]), float(made[2]), sum(e.n for e in kept))


def doses(rows: Iterable[Row], cause: Cause, rule: str) -> list[Row]:
    """The rows of a cause without a remedy, from healthy to strong."""
    own = {row.dose: row for row in rows if (row.cause, row.rule, row.remedy) == (cause.key, rule, "none")}
    return [own[dose.label] for dose in cause.doses if dose.label in own]


def dosed(rows: Sequence[Row]) -> list[Row]:
    """Those of a cause's rows, healthy first, that are doses at which more than one net stayed finite."""
    return [row for row in rows[1:] if row.dead.n > 1]


def killing(rows: Sequence[Row]) -> Row | None:
    """The first dose whose dead share is above `KILLS` with its whole interval."""
    return next((row for row in dosed(rows) if row.dead.low > KILLS), None)


def kills(rows: Sequence[Row]) -> bool | None:
    """Whether a cause kills at some dose; not if the whole interval is below `KILLS` at every dose; None: neither is shown."""
    if killing(rows):
        return True
    return False if dosed(rows) and all(row.dead.high < KILLS for row in dosed(rows)) else None


def hardly_kills(without: Row) -> bool:
    """Whether so few units are silent without a remedy that there is nothing for one to ease but the fit."""
    return without.dead.mean <= EASED


def remedied(rows: Iterable[Row], cause: Cause) -> dict[str, Row]:
    """{remedy: row} against a cause under Adam, "none" first."""
    own = {row.remedy: row for row in rows if (row.cause, row.rule, row.dose) == (cause.key, "adam", cause.dose.label)}
    return {key: own[key] for key in ("none", *(remedy.key for remedy in cases.REMEDIES)) if key in own}


def recommended(tried: dict[str, Row]) -> Row | None:
    """The remedy to take: of those that leave nearly as few silent units as the best, surely fewer than none, and do not fit
    surely worse than none, the best fit. Where the cause hardly kills: of those that fit surely better than none.

    None if there is none. Those that diverge for a seed, or were tried on other data sets, are left out.
    """
    if "none" not in tried:
        return None
    without = tried["none"]
    sound = [row for key, row in tried.items() if key != "none" and row.n and not row.diverged and row.data == without.data]
    if hardly_kills(without):
        helping = [row for row in sound if row.fit.high < 1]
    else:
        helping = [row for row in sound if row.fewer.low > 0 and row.fit.low <= 1]
    least = min((row.dead.mean for row in helping), default=0.0)
    return min((row for row in helping if row.dead.mean <= least + EASED), key=lambda row: row.error.mean, default=None)
