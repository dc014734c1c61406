"""Figures of a study, drawn with matplotlib, each as PNG and SVG.

- `dead_and_error(outcomes, folder, title)`: dead share and error ÷ γ² against γ (or δ), one line an optimiser and net.
- `dead_over_time(outcomes, folder, title)`: dead share against the step, one panel a γ, and by layer where there are several.

Lines are means over seeds, shades their 95 % intervals (minirelu/estimates.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..estimates import Estimate, error_estimate, estimate
from ..files import write_atomically
from .study import Moment, Outcome
from .summary import Series, finite, series, share_estimate, varied

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which colour-blind readers can tell apart; line styles and markers say the same again.
COLOURS = ("#0072B2", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", "-", "--", "-.", ":")
MARKERS = "os^DvPX"
PANELS = 4  # at most, side by side
ROWS = 6  # at most, one below the other


def dead_and_error(outcomes: Sequence[Outcome], folder: str | os.PathLike[str], title: str) -> list[str]:
    """Write dead_and_error.png and .svg to `folder`; returns their paths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    lines, along = series(outcomes), varied(outcomes)
    for k, line in enumerate(lines):
        x = list(line.at)
        look = {**style(k), "marker": MARKERS[(k + k // 7) % 7], "markersize": 4.5, "label": line.label, "zorder": 3 + k}
        draw_line(left, x, [times(share_estimate(finite(part)), 100) for part in line.at.values()], look)
        draw_line(right, x, [error_estimate([o.mse for o in finite(part)]) for part in line.at.values()], look)
    name = {"gamma": "target scale γ", "delta": "target shift δ"}[along]
    for axes in (left, right):
        if along == "gamma":
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=min((abs(x) for line in lines for x in line.at if x), default=1))
        plain(axes, name)
    left.set(ylabel="dead units (%)", ylim=(-3, 103))
    right.set(yscale="log", ylabel="mean squared error ÷ γ², geometric mean")
    right.axhline(1, color="0.55", linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    right.annotate("the mean as the prediction", (0.99, 1), xycoords=("axes fraction", "data"), xytext=(0, 2), ha="right",
                   textcoords="offset points", fontsize=7.5, color="0.45")  # fmt: skip
    finish(figure, left, title, len(lines))
    return write_both(figure, folder, "dead_and_error")


def dead_over_time(outcomes: Sequence[Outcome], folder: str | os.PathLike[str], title: str) -> list[str]:
    """Write dead_over_time.png and .svg to `folder`; returns their paths.

    With one hidden layer a line is an optimiser, and the panels are the values of γ; with several, a line is a layer, and
    each optimiser and net has a row of its own. At most 4 columns (spread over the range) and 6 rows are drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    lines, along = series(outcomes), {"gamma": "γ", "delta": "δ"}[varied(outcomes)]
    values = _spread(sorted({x for line in lines for x in line.at}), PANELS)
    layers = max(len(o.course[0].layers) for o in outcomes)
    rows = [lines] if layers == 1 else [[line] for line in lines[:ROWS]]
    size = (1.5 + 2.9 * len(values), 1.3 + (2.6 if len(rows) == 1 else 1.7) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(values), sharex=True, sharey=True, squeeze=False)
    for own, panels in zip(rows, grid, strict=True):
        for value, axes in zip(values, panels, strict=True):
            for k, line in enumerate(own):
                _courses(axes, line, value, layers, {**style(k), "label": line.label})
            head = f"{along} = {value:g}" if layers == 1 else f"{own[0].label}, {along} = {value:g}"
            axes.set_title(head, fontsize=9.5)
            plain(axes, "step" if own is rows[-1] else "")
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 20k
        panels[0].set(ylabel="dead units (%)", ylim=(-3, 103))
    left_out = len(lines) - ROWS if layers > 1 and len(lines) > ROWS else 0
    finish(
        figure, grid[0][0], title + (f"; {left_out} more not drawn" if left_out else ""), len(lines) if layers == 1 else layers
    )
    return write_both(figure, folder, "dead_over_time")


def style(k: int) -> dict[str, Any]:
    """Colour and dashes of line k; after seven lines the colours come again with other dashes."""
    return {"color": COLOURS[k % 7], "linestyle": DASHES[(k + k // 7) % 7]}


def _courses(axes: Any, line: Series, value: float, layers: int, look: dict[str, Any]) -> None:
    """The line of an optimiser, or those of its layers from light (first) to dark (last)."""
    from matplotlib import colormaps

    for layer in range(layers):
        part = [o for o in finite(line.at.get(value, [])) if layer < len(o.course[0].layers)]
        steps = [moment.step for moment in part[0].course] if part else []
        found = [times(_layer_share([o.course[i] for o in part], layer), 100) for i in range(len(steps))]
        shade = colormaps["viridis_r"](0.3 + 0.7 * layer / max(layers - 1, 1))
        draw_line(axes, steps, found, look if layers == 1 else {"color": shade, "label": f"layer {layer + 1}"})


def _layer_share(moments: Sequence[Moment], layer: int) -> Estimate:
    units = moments[0].layers[layer].units
    return estimate([m.layers[layer].dead / units for m in moments], 0.0, 1.0, resolution=1 / units)


def draw_line(axes: Any, x: Sequence[float], estimates: Sequence[Estimate], look: dict[str, Any]) -> None:
    """A line through the means and a shade over the intervals, where there are any."""
    kept = [(at, e) for at, e in zip(x, estimates, strict=True) if e.n]
    axes.plot([at for at, _ in kept], [e.mean for _, e in kept], linewidth=1.7, **look)
    shaded = [(at, e) for at, e in kept if e.n > 1]
    if shaded:
        low, high = [e.low for _, e in shaded], [e.high for _, e in shaded]
        axes.fill_between([at for at, _ in shaded], low, high, color=look["color"], alpha=0.16, linewidth=0, zorder=2)


def times(e: Estimate, factor: float) -> Estimate:
    return Estimate(factor * e.mean, factor * e.low, factor * e.high, e.n)


def _spread(values: Sequence[float], most: int) -> list[float]:
    """At most `most` of `values`, the first and the last among them, evenly in between."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def plain(axes: Any, xlabel: str) -> None:
    axes.set_xlabel(xlabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", zorder=0)
    axes.set_axisbelow(True)


def finish(figure: Figure, axes: Any, title: str, entries: int) -> None:
    """A title, and a legend below with as many columns as the longest of its labels leaves room for."""
    handles, labels = axes.get_legend_handles_labels()
    inches = 0.5 + 0.07 * max(map(len, labels), default=0)
    columns = min(entries, max(1, int(figure.get_size_inches()[0] / inches)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10.5)


def write_both(figure: Figure, folder: str | os.PathLike[str], name: str) -> list[str]:
    """Both files; no dates and no random names in them, so that the same study gives the same bytes."""
    from matplotlib import rc_context

    paths = [os.path.join(folder, f"{name}.{kind}") for kind in ("png", "svg")]
    with rc_context({"svg.hashsalt": "minirelu"}):
        for path, options in zip(paths, ({"dpi": 160}, {"metadata": {"Date": None}}), strict=True):
            write_atomically(path, lambda file, o=options, k=path[-3:]: figure.savefig(file, format=k, **o))  # type: ignore[misc]
    return paths
