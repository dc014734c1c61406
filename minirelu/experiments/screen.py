"""How a study looks in a terminal, from 80 columns on: bars while it runs, then a table. The colours are the terminal's own.

- `progress(plan, shards, console)`: a context with a function that takes `Progress`.
- `table(rows)`: dead shares and errors with their intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .study import Net, Plan, Replica, Shard
from .study import Progress as Report
from .summary import Estimate, SummaryRow, error_estimate

ALL = "all"


@contextmanager
def progress(plan: Plan, shards: Sequence[Shard], console: Console) -> Iterator[Callable[[Report], None]]:
    """A bar for everything, with the time left, and one for each optimiser: dead share and error at up to three γ.

    Plain lines, one for each shard that is done, where there is no terminal.
    """
    names = list(dict.fromkeys(shard.rule.name for shard in shards))
    bars = Progress(
        TextColumn("{task.description:<17.17}"),
        BarColumn(bar_width=7),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
    )
    latest: dict[str, dict[Any, Report]] = {name: {} for name in names}
    weights = {name: plan.steps * sum(shard.rule.name == name for shard in shards) for name in names}
    asked = {name: sum(len(shard.replicas) for shard in shards if shard.rule.name == name) for name in names}
    with bars:
        whole = bars.add_task(ALL, total=sum(weights.values()), state=_heading(plan))
        tasks = {name: bars.add_task(name, total=weights[name], state="") for name in names}

        def show(report: Report) -> None:
            name = report.shard.rule.name
            latest[name][_key(report.shard.replicas[0])] = report
            done = {n: sum(r.step for r in reports.values()) for n, reports in latest.items()}
            bars.update(tasks[name], completed=done[name], state=_state(list(latest[name].values())))
            bars.update(whole, completed=sum(done.values()))
            if not console.is_terminal and report.step >= plan.steps and len(report.moments[0].layers):
                ended = [own for own in latest[name].values() if own.step >= plan.steps]
                said = f"{sum(len(own.shard.replicas) for own in ended)}/{asked[name]} trainings done"
                console.print(f"{name}: {said}; {_heading(plan)} {_state(ended)}", highlight=False)

        yield show


def _key(replica: Replica) -> tuple[Any, ...]:
    return replica.net, replica.gamma, replica.delta, replica.seed


def _gammas(values: Sequence[float]) -> list[float]:
    """The largest, the middle and the smallest."""
    ordered = sorted(set(values), reverse=True)
    return ordered if len(ordered) <= 3 else [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


def _heading(plan: Plan) -> str:
    return f"at γ = {', '.join(f'{g:g}' for g in _gammas(plan.gammas))}"


def _state(reports: Sequence[Report]) -> str:
    """`dead 3 12 62 % error 0.07 1 3e4`: mean dead share and geometric mean of error ÷ γ² at each γ; at most 42 characters."""
    pairs = [(r.gamma, m) for report in reports for r, m in zip(report.shard.replicas, report.moments, strict=True)]
    gammas = _gammas(reports[0].shard.plan.gammas)
    dead = (_mean([100 * m.dead() for g, m in pairs if g == gamma], ".0f") for gamma in gammas)
    error = (_middle([m.mse for g, m in pairs if g == gamma]) for gamma in gammas)
    return f"dead {' '.join(dead)} % error {' '.join(error)}"


def _mean(values: Sequence[float], form: str) -> str:
    """The mean of the finite values; `–` if there are none."""
    kept = [v for v in values if math.isfinite(v)]
    return _exponent(f"{sum(kept) / len(kept):{form}}") if kept else "–"


def _middle(errors: Sequence[float]) -> str:
    """Their mean as it stands in the table, where there is a part that is finite."""
    mean = error_estimate([e for e in errors if math.isfinite(e)])
    return _exponent(f"{mean.mean:.1g}") if mean.n else "–"


# ----------------------------------------------------------------------------------------------------------- table


def table(rows: Sequence[SummaryRow]) -> Table:
    """One line a row: an optimiser's name, below it its settings, and whatever of γ, δ and the net varies."""
    made = Table(
        title="Dead units (mean) and error (geometric mean) [95 % interval] over n seeds",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    extra = _varying(rows)
    made.add_column("optimiser", overflow="fold")
    diverged = any(row.diverged for row in rows)
    for heading in (*extra, "γ", "dead %", "MSE ÷ γ², geom. mean", "n", *(["diverged"] if diverged else [])):
        made.add_column(heading, justify="right", overflow="fold")
    for name in dict.fromkeys(row.rule.name for row in rows):
        own = [row for row in rows if row.rule.name == name]
        options = own[0].rule.options()
        labels = [name, options] + [""] * len(own) if len(own) > 1 else [f"{name}, {options}"]
        for i, row in enumerate(own):
            n = [f"{row.dead.n}", *([f"{row.diverged or ''}"] if diverged else [])]
            dead, mse = interval(row.dead, lambda share: f"{100 * share:.1f}"), interval(row.mse, short)
            values = [letter(get(row)) for get in extra.values()]
            made.add_row(labels[i], *values, letter(row.gamma), dead, mse, *n, end_section=i == len(own) - 1)
    return made


def _varying(rows: Sequence[SummaryRow]) -> dict[str, Callable[[SummaryRow], float]]:
    """{heading: value} for those of δ, depth, width and batch that are not the same in all rows."""
    columns: dict[str, Callable[[SummaryRow], float]] = {"δ": lambda row: row.delta}
    columns |= {name: lambda row, name=name: getattr(row.net, name) for name in Net._fields}  # type: ignore[misc]
    return {name: get for name, get in columns.items() if len({get(row) for row in rows}) > 1}


def interval(e: Estimate, text: Callable[[float], str]) -> str:
    if not e.n:
        return "–"
    return f"{text(e.mean)} [{text(e.low)}, {text(e.high)}]" if e.n > 1 else text(e.mean)


def letter(x: float) -> str:
    """`1`, `0.01`, `1e-4`, `256`."""
    return f"{x:g}" if x == 0 or 1e-3 <= abs(x) < 1e4 else _exponent(f"{x:.1e}")


def short(x: float) -> str:
    """Two significant digits in at most six characters: 0.0082, 222, 4440, 3.2e-7; one where the exponent has two: 8e-13."""
    if 100 <= abs(x) < 1e5:
        return f"{x:.0f}"
    if x == 0 or 1e-3 <= abs(x) < 100:
        return f"{x:.2g}"
    return _exponent(f"{x:.1e}" if 9.95e-10 <= abs(x) < 9.95e9 else f"{x:.0e}")


def _exponent(text: str) -> str:
    """`1e-4` for `1e-04`."""
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace(".0e", "e")
