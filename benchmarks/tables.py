"""The tables of `python -m benchmarks kernels` in Markdown, made from its JSON; what was not measured is empty.

- `readme(result)`: the goals, and the kernels on large arrays beside the other libraries. Losing rows stay.
- `page(result)`: all tables.
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


def readme(result: dict[str, Any]) -> str:
    """The goals, and the kernels on large arrays beside the other libraries."""
    return _paragraphs(_goals(result), *_large(result), footnote(result))


def page(result: dict[str, Any]) -> str:
    """All tables, as a document of their own."""
    return _paragraphs(
        "# Results of the kernels",
        "Made by `python -m benchmarks kernels`; how it is measured: [README](README.md). Losing rows stay.",
        footnote(result),
        "## Goals",
        _goals(result),
        "## Beside other libraries",
        *_large(result),
        *_small(result, "warm", "in cache"),
        *_small(result, "cold", "with the caches flushed before every call"),
        *_optimisers(result),
        "## minirelu on other arrays",
        "The rate in % of the three copies, which have the same arrays and threads.",
        _variants(result),
        "## First calls",
        "In a fresh process, serial and parallel version together: compiled, and from Numba's cache on the disk.",
        _markdown(("", "compiled, s", "cached, s"), _first_calls(result)),
    )


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _goals(result: Row) -> str:
    return _markdown(("goal", "asked", "measured [95 %]", "reached"), [goal.cells for goal in goals.judged(result)])


def _large(result: Row) -> tuple[str, str]:
    threads = result["machine"]["threads"]
    common = {"shape": LARGE, "dtype": "float32", "layout": "aligned", "threads": threads}
    found = [reading.case(result, kernel, **common) for kernel in OPERATIONS]
    return (
        f"8192×4096 float32, {threads} threads, 64-byte aligned arrays: ms of a call, and in brackets the bytes a second that "
        "it moves in % of the non-temporal copy's, the median of the rounds' ratios [95 %]. `count_units` reads "
        "only, so it moves half the bytes of its copy.",
        _markdown(_head(OPERATIONS), _pivot(found, 1e3, lambda case, row: share_text(case, row, NON_TEMPORAL))),
    )


def _small(result: Row, cache: str, how: str) -> tuple[str, str]:
    found = [reading.case(result, kernel, shape=LAYER, dtype="float32", cache=cache) for kernel in OPERATIONS]
    return f"64×200 float32 {how}, one thread: µs (time ÷ minirelu's [95 %]).", _markdown(
        _head(OPERATIONS), _pivot(found, 1e6, _against)
    )


def _optimisers(result: Row) -> tuple[str, str]:
    threads = result["machine"]["threads"]
    found = [reading.case(result, f"{rule}_step", shape=PARAMETERS) for rule in RULES]
    return (
        f"One optimiser step on 10⁷ parameters, {threads} threads: ms (% of a plain kernel with the same streams [95 %]).",
        _markdown(_head(RULES), _pivot(found, 1e3, lambda case, row: share_text(case, row, STREAMS))),
    )


def _variants(result: Row) -> str:
    lines = []
    for case in result["cases"]:
        row = reading.row(case, OWN)
        if row:
            shares = [share_text(case, row, ruler) for ruler in (ORDINARY, IN_PLACE, NON_TEMPORAL)]
            place = f"{case['dtype']}, {case['layout']}, {case['cache']}, {case['threads']}"
            lines.append([f"{case['kernel']} {'×'.join(map(str, case['shape']))}", place, *_speed(row), *shares])
    return _markdown(("", "dtype, layout, cache, threads", "µs", "GB/s", "% of copy", "% in place", "% non-temporal"), lines)


def _speed(row: Row) -> tuple[str, str]:
    return number(1e6 * reading.median(row)), f"{reading.rate(row) / 1e9:.1f}"


def _first_calls(result: Row) -> list[list[str]]:
    return [[name, number(s["compiled_s"]), number(s["cached_s"])] for name, s in result["first_calls"].items()]


def _head(names: Iterable[str]) -> list[str]:
    return ["", *(f"`{name}`" for name in names)]


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
