"""What `python -m benchmarks kernels` prints (needs rich).

- `show_case(case)`: every candidate: median, GB/s, the rate in % of the three copies, the time ÷ minirelu's, the first call.
- `show_summary(result)`: the kernels' first calls in fresh processes, the goals, and the machine.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import goals, reading
from benchmarks.copies import IN_PLACE, NON_TEMPORAL, ORDINARY
from benchmarks.reading import Row
from benchmarks.tables import OWN, footnote, number, share_text

COLUMNS = ("", "median", "GB/s", "% of\ncopy", "% in\nplace", "% non-\ntemporal", "÷\nours", "first\ncall")
WIDE = 110  # columns of a terminal that has room for the intervals of the last ratio


def show_case(case: dict[str, Any]) -> None:
    """Print one case."""
    console = Console()
    console.print(_title(case), style="bold")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for i, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if i else "left", vertical="bottom", min_width=0 if i else 21, no_wrap=True)
    for row in case["rows"]:
        style = "bold green" if row["candidate"] == OWN else "dim" if row["group"] == "ruler" else ""
        table.add_row(*_cells(case, row, console.width >= WIDE), style=style)
    console.print(table, "")


def show_summary(result: dict[str, Any]) -> None:
    """Print what belongs to the run as a whole."""
    console = Console()
    if result["first_calls"]:
        table = _titled("First calls in a fresh process", "", "compiled", "from the disk cache")
        for kernel, seconds in result["first_calls"].items():
            table.add_row(kernel, _time(seconds["compiled_s"]), _time(seconds["cached_s"]))
        console.print(table, "")
    if judged := goals.judged(result):
        table = _titled("Goals", "", "goal", "measured [95 %]", "reached")
        for goal in judged:
            table.add_row(*goal.cells, style="" if goal.verdict == "yes" else "yellow" if "?" in goal.verdict else "red")
        console.print(table, "")
    console.print(footnote(result))


def _titled(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, no_wrap=bool(name))
    return table


def _title(case: Row) -> str:
    shape = "×".join(map(str, case["shape"]))
    threads = f"{case['threads']} thread{'s' * (case['threads'] > 1)}"
    return f"{case['kernel']} {shape} {case['dtype']}, {case['layout']}, {case['cache']}, {threads}, {case['rounds']} rounds"


def _cells(case: Row, row: Row, wide: bool) -> list[str]:
    own = reading.row(case, OWN)
    against = ""
    if own is not None and row["group"] != "ruler":
        middle, low, high = reading.speedup(own, row)
        against = f"{middle:.2f} [{low:.2f}, {high:.2f}]" if wide else f"{middle:.2f}"
    first = row["first_call_s"]
    return [
        row["candidate"],
        _time(reading.median(row)),
        f"{reading.rate(row) / 1e9:.1f}",
        *(share_text(case, row, ruler, interval=False) for ruler in (ORDINARY, IN_PLACE)),
        share_text(case, row, NON_TEMPORAL, interval=row["group"] != "ruler"),
        against,
        "" if first is None else _time(first),
    ]


def _time(seconds: float) -> str:
    unit, scale = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if seconds >= s), ("µs", 1e-6))
    return f"{number(seconds / scale)} {unit}"
