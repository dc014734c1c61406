"""What the experiments on trained nets have in common: how large they are, which data there is, and their runs.

- `Size`: data sets, seeds, steps.
- `asked(--data, usual)`: the data sets of a command: what is named must be there, of the usual ones what is.
- `present(names)`: those that can be read, and why the others cannot; `needed(names)`: at least one of them.
- `train(grid, folder)`: what of a grid is not in the folder yet, through a sweep. `collect(grid, folder)`: what is there.
  `expected(grid, folder)`: how long the former will take, by the cost model.
- `tuning`, `tuned`: learning rates chosen by the fit of shorter runs with seeds of their own.

All experiments in one folder share its runs: what two of them need is trained once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import data as data_sets
from .. import sweep
from ..errors import DataError, StoreError
from ..sweep import cost
from ..sweep.grid import Run

if TYPE_CHECKING:
    from polars import DataFrame

OnProgress = Callable[[int, int], object]
PILOT_SEEDS = (1000, 1001)  # none of those that the results are made of
PILOT_SHARE = 10  # pilots take a tenth of the steps
TITLES = {
    "airfoil": "Airfoil",
    "facebook": "Facebook (variant 1)",
    "real_estate": "Real estate",
    "superconductivity": "Superconductivity (32 % of the rows)",
    "diabetes": "Diabetes",
}


def title(name: str) -> str:
    """What figures and tables call a data set."""
    return TITLES.get(name, name)


def in_order(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Every name once: those of `order` first, as there."""
    there = set(names)
    return [*(name for name in order if name in there), *sorted(there - set(order))]


class Size(NamedTuple):
    """How much is trained: `seeds` nets a setting, each for `steps` steps."""

    data: tuple[str, ...]
    seeds: int
    steps: int


def asked(given: str | None, usual: tuple[str, ...]) -> tuple[str, ...]:
    """The data sets of an option `--data`, which are separated by commas; `usual` without it, whether they are there or not.

    Raises `ValueError` if none is named, and `DataError` if one is named that cannot be read.
    """
    if given is None:
        return usual
    names = tuple(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))  # twice the same is not two
    if not names:
        raise ValueError(f"--data was given {given!r}; expected names of data sets separated by commas")
    _, reasons = present(names)
    if reasons:
        raise DataError("; ".join(reasons.values()))
    return names


def present(names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The data sets that can be read, and a sentence for each of the others."""
    there, reasons = [], {}
    for name in names:
        try:
            data_sets.read(name)
            there.append(name)
        except DataError as error:
            reasons[name] = str(error)
    return there, reasons


def needed(names: Iterable[str]) -> list[str]:
    """Those that can be read; raises `DataError` with every reason if there is none."""
    there, reasons = present(names)
    if not there:
        raise DataError("; ".join(reasons.values()))
    return there


def added(grids: Sequence[sweep.Grid]) -> sweep.Grid:
    """The sum of at least one grid."""
    total = grids[0]
    for grid in grids[1:]:
        total += grid
    return total


def train(grid: sweep.Grid, folder: Path, workers: int, on_progress: OnProgress) -> None:
    """Train what is not in `folder` yet. Raises `StoreError` if a part of it failed three times."""

    def show(p: sweep.Progress) -> None:
        on_progress(int(p.done), p.runs)

    report = sweep.run(grid, folder, workers=workers, on_progress=show)
    if report.failed:
        raise StoreError(f"{report.failed} shards failed, the last one: {report.why.strip().splitlines()[-1]}")


def collect(grid: sweep.Grid, folder: Path) -> DataFrame:
    """The runs of `grid` that are in `folder`, as `sweep.load` has them; nothing is trained."""
    import polars

    asked = set(grid.runs())
    frame = sweep.load(folder)
    own = [Run(*row) in asked for row in frame.select(Run._fields).rows()]
    return frame.filter(polars.Series(own, dtype=polars.Boolean))


def expected(grid: sweep.Grid, folder: Path) -> float:
    """Seconds on one idle core that the cost model (docs/sweeps.md) predicts for what of `grid` is not in `folder`.

    Data sets that cannot be read cost nothing. Learning rates are not compared, as they may not be tuned yet.
    """
    there, _ = present(dict.fromkeys(run.data for run in grid.runs()))
    shapes = {name: data_sets.read(name).X.shape for name in there}
    asked = Counter(run._replace(lr=1.0) for run in grid.runs() if run.data in shapes)
    try:
        done = Counter(Run(*row)._replace(lr=1.0) for row in sweep.load(folder, Run._fields).rows())
    except StoreError:
        done = Counter()
    return sum(n * cost.seconds(run, *shapes[run.data]) for run, n in (asked - done).items())


# ---------------------------------------------------------------------------------------------------- learning rates

Rates = dict[tuple[str, str, float, float], float]  # (data, optimiser, β, γ): learning rate


def tuning(
    size: Size, rules: Sequence[tuple[str, float]], gammas: Sequence[float], rates: Sequence[float], **axes: Any
) -> sweep.Grid:
    """The pilots: every rule (optimiser, β) at every γ and rate, for a tenth of the steps."""
    steps = max(size.steps // PILOT_SHARE, 1)
    return added(
        [
            sweep.Grid(
                data=list(size.data), optimizer=rule, beta=beta, lr=list(rates), gamma=list(gammas),
                seed=PILOT_SEEDS, steps=steps, record_every=steps, **axes,
            )
            for rule, beta in rules
        ]
    )  # fmt: skip


def tuned(frame: DataFrame) -> Rates:
    """The rate with the least geometric-mean error of the pilots `frame`; a rate at which one diverged is out."""
    errors: dict[tuple[str, str, float, float], dict[float, list[float]]] = {}
    names = ("data", "optimizer", "beta", "gamma", "lr", "mse")
    for *setting, rate, error in frame.select(names).rows():
        errors.setdefault(tuple(setting), {}).setdefault(rate, []).append(_log(error))
    best = {setting: min(own, key=lambda rate: sum(own[rate]) / len(own[rate])) for setting, own in errors.items()}
    return {setting: rate for setting, rate in best.items() if math.isfinite(sum(errors[setting][rate]))}


def _log(error: float) -> float:
    return math.log(max(error, 1e-300)) if math.isfinite(error) else math.inf
