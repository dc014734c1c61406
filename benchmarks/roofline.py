"""The roofline of `python -m benchmarks kernels`: how near each kernel is to what memory and vector units allow.

- `draw(result, path)`: a figure (.png or .svg) of the large cases: GB/s of the rulers as sloping roofs, additions a second
  as the flat one; a filled point is minirelu, an open one the quickest other library that does the same job.

Further to the right are kernels that compute more for each byte; on a sloping roof a kernel is as quick as that copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import reading
from benchmarks.cases import LARGE, PARAMETERS
from benchmarks.copies import RULERS
from benchmarks.jobs import OPERATIONS
from benchmarks.optimisers import RULES
from benchmarks.reading import Row
from minirelu.files import write_atomically

# Okabe & Ito's colours, which colour-blind readers can tell apart; markers say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999", "#F0E442")
MARKERS = "osD^vP*Xh"
ROOFS = ("--", "-", ":")
OWN = "minirelu"


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the figure. Raises `ValueError` if `result` has none of the large cases."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    found = _large(result)
    if not found:
        raise ValueError(f"there are no cases of {LARGE} in this result; run python -m benchmarks kernels without --quick")
    figure = Figure(figsize=(8, 5.2), layout="constrained")
    axes = figure.subplots()
    intensities = [_intensity(case) for case in found]
    fastest = max(reading.rate(row) for row in found[0]["rows"] if row["group"] == "ruler")
    left, right = min(intensities) / 2, 2 * result["additions_per_second"] / fastest
    _roofs(axes, result, found[0], left, right)
    for case, colour, marker in zip(found, COLOURS, MARKERS, strict=False):
        _points(axes, case, colour, marker)
    axes.set(xscale="log", yscale="log", xlim=(left, right))
    axes.set(xlabel="arithmetic operations per byte that must be moved", ylabel="10⁹ operations a second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.93", which="both")
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")  # by itself matplotlib would write 6×10¹ among them
    axes.plot([], [], "o", color="0.35", fillstyle="none", markersize=7, label="open: the quickest other library")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    with rc_context({"svg.hashsalt": "roofline"}):  # the same result gives the same file
        write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=160, metadata=metadata))


def _large(result: Row) -> list[Row]:
    """The kernels' and optimisers' cases on large aligned arrays, with all threads."""
    threads, common = result["machine"]["threads"], {"dtype": "float32", "layout": "aligned"}
    wanted = [(kernel, LARGE) for kernel in OPERATIONS] + [(f"{rule}_step", PARAMETERS) for rule in RULES]
    cases = (reading.case(result, kernel, shape=shape, threads=threads, **common) for kernel, shape in wanted)
    return [case for case in cases if case and reading.row(case, OWN)]


def _roofs(axes: Any, result: Row, case: Row, left: float, right: float) -> None:
    flat = result["additions_per_second"]
    x = np.geomspace(left, right, 200)
    for ruler, line in zip(RULERS, ROOFS, strict=True):
        row = reading.row(case, ruler)
        if row:
            rate = reading.rate(row)
            label = f"{ruler}, {rate / 1e9:.0f} GB/s"
            axes.plot(x, np.minimum(rate * x, flat) / 1e9, line, color="0.35", linewidth=1.2, label=label, zorder=1)
    axes.axhline(flat / 1e9, color="0.35", linewidth=2, zorder=1, label=f"vector additions, {flat / 1e9:.0f}·10⁹/s")


def _points(axes: Any, case: Row, colour: str, marker: str) -> None:
    own = reading.row(case, OWN)
    others = [row for row in case["rows"] if row["group"] == "peer" and "only" not in row["candidate"]]
    look = {"color": colour, "marker": marker, "markersize": 7, "linestyle": "none", "zorder": 3}
    axes.plot(_intensity(case), _rate(case, own), label=case["kernel"], **look)
    if others:
        best = min(others, key=reading.median)
        axes.plot(_intensity(case), _rate(case, best), fillstyle="none", **look)


def _intensity(case: Row) -> float:
    """Operations a byte; the bytes are those that the job must move, whoever does it."""
    return case["operations"] / reading.row(case, OWN)["bytes"]  # type: ignore[index]


def _rate(case: Row, row: Any) -> float:
    """10⁹ operations a second."""
    return case["operations"] / reading.median(row) / 1e9
