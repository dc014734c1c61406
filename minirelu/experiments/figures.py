"""Figures of a study, drawn with matplotlib.

- `dead_and_error(rows, path, title)`: dead share and normalised error against γ, one line an optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ..files import write_atomically
from .study import Estimate, SummaryRow

# Okabe & Ito's colours, which colour-blind readers can tell apart; line styles and markers say the same again.
STYLES = [
    ("#0072B2", "-", "o"),
    ("#009E73", "--", "s"),
    ("#56B4E9", "-.", "^"),
    ("#D55E00", "-", "D"),
    ("#CC79A7", "--", "v"),
]


def dead_and_error(rows: Sequence[SummaryRow], path: Path, title: str) -> None:
    """Write the figure to `path` (.png, .svg or .pdf). Bars are 95 % intervals; a rule's points stand slightly apart."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.rule.name for row in rows))
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, name in enumerate(names):
        own = sorted((row for row in rows if row.rule.name == name), key=lambda row: row.gamma)
        shift = 10 ** (0.06 * (k - (len(names) - 1) / 2))  # so that bars do not hide each other
        x = [row.gamma * shift for row in own]
        colour, line, marker = STYLES[k % len(STYLES)]
        look = {"color": colour, "linestyle": line, "marker": marker, "markersize": 5, "capsize": 2, "label": name}
        left.errorbar(x, [100 * row.dead.mean for row in own], _bars([row.dead for row in own], 100), **look)
        right.errorbar(x, [row.mse.mean for row in own], _bars([row.mse for row in own]), **look)
    left.set(xscale="log", xlabel="target scale γ", ylabel="dead units (%)", ylim=(-4, 104))
    right.set(xscale="log", yscale="log", xlabel="target scale γ", ylabel="mean squared error ÷ γ²")
    right.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92", zorder=0)
        axes.set_axisbelow(True)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    figure.suptitle(title, fontsize=11)
    # metadata without a date: the same study gives the same file
    metadata = {"Date": None} if path.suffix == ".svg" else {"CreationDate": None} if path.suffix == ".pdf" else {}
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=160, metadata=metadata))


def _bars(estimates: Sequence[Estimate], factor: float = 1.0) -> list[list[float]]:
    """Distances from the means down and up to the ends of the intervals; a lower end at 0 is drawn nearly so (log axes)."""
    down = [factor * (e.mean - max(e.low, 1e-3 * e.mean)) for e in estimates]
    up = [factor * (e.high - e.mean) for e in estimates]
    return [[d if math.isfinite(d) else 0.0 for d in side] for side in (down, up)]
