"""Questions to the JSON of `python -m benchmarks kernels`; tables, goals, figure and comparison are made of the answers.

- `case(result, kernel, …)`: the one case that fits, or None. `row(case, candidate, among)`: likewise.
- `median(row)`, `rate(row)`: seconds a call; bytes a second.
- `share(row, ruler)`: the rate as a share of the ruler's, round by round: (median, low, high).
- `speedup(row, other)`: how many times quicker than the other, likewise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.timing import ratio

Row = dict[str, Any]
Interval = tuple[float, float, float]


def case(result: Row, kernel: str, **wanted: Any) -> Row | None:
    """The first case of `kernel` whose shape, dtype, layout, cache and threads are those given."""
    for found in result["cases"]:
        if found["kernel"] == kernel and all(_plain(found[key]) == _plain(value) for key, value in wanted.items()):
            return found
    return None


def row(found: Row | None, candidate: str, among: str = "rows") -> Row | None:
    """The candidate's row among the case's "rows" or its "pair", if the case and the candidate are there."""
    rows = found.get(among, []) if found else []
    return next((each for each in rows if each["candidate"] == candidate), None)


def median(found: Row) -> float:
    """Seconds a call."""
    return float(np.median(found["seconds"]))


def rate(found: Row) -> float:
    """Bytes a second."""
    return found["bytes"] / median(found)


def share(found: Row, ruler: Row) -> Interval:
    """The rate as a share of the ruler's, with its 95 % interval."""
    scale = found["bytes"] / ruler["bytes"]
    middle, low, high = speedup(found, ruler)
    return scale * middle, scale * low, scale * high


def speedup(found: Row, other: Row) -> Interval:
    """The other's time divided by this one's, with its 95 % interval."""
    return ratio(np.array(other["seconds"]), np.array(found["seconds"]))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
