"""The README's tables of `python -m benchmarks kernels`, made from its JSON.

- `markdown(result)`: the goals, and the kernels beside the other libraries. Losing rows stay; what was not measured is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import goals, reading
from benchmarks.cases import LARGE, LAYER, PARAMETERS
from benchmarks.copies import IN_PLACE, NON_TEMPORAL, ORDINARY
from benchmarks.jobs import OPERATIONS
from benchmarks.optimisers import RULES, STREAMS
from benchmarks.reading import Row

OWN = "minirelu"


def markdown(result: dict[str, Any]) -> str:
    """The README's tables. A cell that could not be measured stays empty."""
    threads = result["machine"]["threads"]
    large = [reading.case(result, k, shape=LARGE, dtype="float32", layout="aligned", threads=threads) for k in OPERATIONS]
    small = [reading.case(result, k, shape=LAYER, dtype="float32", cache="warm") for k in OPERATIONS]
    steps = [reading.case(result, f"{rule}_step", shape=PARAMETERS) for rule in RULES]
    kernels = [f"`{kernel}`" for kernel in OPERATIONS]
    judged = [goal.cells for goal in goals.judged(result)]
    parts = [
        _markdown(("goal", "asked", "measured [95 %]", "reached"), judged),
        f"8192×4096 float32, {threads} threads, 64-byte aligned arrays: ms (% of the non-temporal copy [95 %]).",
        _markdown(("", *kernels), _pivot(large, 1e3, lambda case, row: share_text(case, row, NON_TEMPORAL))),
        "64×200 float32 in cache, one thread: µs (time ÷ minirelu's [95 %]).",
        _markdown(("", *kernels), _pivot(small, 1e6, _against)),
        f"One optimiser step on 10⁷ parameters, {threads} threads: ms (% of a plain kernel with the same streams [95 %]).",
        _markdown(("", *RULES), _pivot(steps, 1e3, lambda case, row: share_text(case, row, STREAMS))),
        footnote(result),
    ]
    return "\n\n".join(part for part in parts if part)


def _pivot(cases: Sequence[Row | None], scale: float, note: Any) -> list[list[str]]:
    """A row a candidate, a column a case."""
    names = list(dict.fromkeys(row["candidate"] for case in cases if case for row in case["rows"]))
    names.sort(key=lambda name: name in (ORDINARY, NON_TEMPORAL, IN_PLACE, STREAMS))  # the rulers last
    table = []
    for name in names:
        found = [(case, reading.row(case, name)) for case in cases]
        cells = [f"{number(scale * reading.median(row))} ({note(case, row)})" if row else "" for case, row in found]
        table.append([f"**{name}**" if name == OWN else name, *(cell.replace(" ()", "") for cell in cells)])
    return table


def _against(case: Row, row: Row) -> str:
    own = reading.row(case, OWN)
    if own is None or row is own or row["group"] == "ruler":
        return ""
    middle, low, high = reading.speedup(own, row)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    if not rows:
        return ""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share_text(case: Row, row: Row, ruler: str, interval: bool = True) -> str:
    base = reading.row(case, ruler)
    if base is None:
        return ""
    middle, low, high = (100 * x for x in reading.share(row, base))
    return f"{middle:.0f} [{low:.0f}, {high:.0f}]" if interval and row is not base else f"{middle:.0f}"


def footnote(result: dict[str, Any]) -> str:
    about = result["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items() if version)
    missing = f" Not installed: {', '.join(result['missing'])}." if result["missing"] else ""
    return (
        f"{about['date']}; {about['processor']}, {about['cores']} cores, load before {about['load_before']:.1f}; "
        f"{about['python']}, {libraries}.{missing}"
    )
