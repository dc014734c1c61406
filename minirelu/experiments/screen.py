"""The table of a study, from 80 columns on, in the terminal's own colours; and numbers as tables have them.

- `table(rows)`: dead shares and errors with their intervals.
- `interval(estimate, text)`, `letter(x)`, `short(x)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.table import Table

from ..estimates import Estimate
from .study import Net
from .summary import SummaryRow


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
