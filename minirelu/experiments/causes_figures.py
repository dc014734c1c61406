"""Figures of causes and remedies.

- `responses(rows)`: dead share against dose, a panel a cause. `consequences(rows)`: effective rank, error, convergence.
- `remedies(rows)`: dead share and error, every remedy against every cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import fill
from typing import Any

import numpy as np

from ..causes import cases
from ..estimates import Estimate
from .causes import KILLS, RULES, Row, doses, over_sets, recommended, remedied
from .figures import MARKERS, plain, style

LOOKS: dict[str, dict[str, Any]] = {  # the fourth and the first optimiser of a study (figures.py), and so in every figure
    "adam": {**style(3), "marker": MARKERS[3], "label": "Adam"},
    "sgd": {**style(0), "marker": MARKERS[0], "label": "SGD"},
}
ACROSS = 5


def _panels() -> tuple[Any, list[Any]]:
    """A panel a cause. Margins are set by hand: the automatic layout gives up on so many."""
    from matplotlib.figure import Figure

    down = -(-len(cases.CAUSES) // ACROSS)
    high = 2.2 * down + 0.6
    figure = Figure(figsize=(2.6 * ACROSS, high))
    figure.subplots_adjust(left=0.05, right=0.99, top=1 - 0.35 / high, bottom=0.75 / high, wspace=0.2, hspace=0.45)
    axes = list(figure.subplots(down, ACROSS, squeeze=False).ravel())
    for empty in axes[len(cases.CAUSES) :]:
        empty.axis("off")
    return figure, axes[: len(cases.CAUSES)]


def _line(axes: Any, rows: Sequence[Row], get: Callable[[Row], Estimate], look: dict[str, Any]) -> None:
    """Means with intervals against the doses, evenly spaced; gaps where no run stayed finite."""
    kept = [(k, get(row)) for k, row in enumerate(rows) if get(row).n]
    x, e = [k for k, _ in kept], [e for _, e in kept]
    axes.plot(x, [own.mean for own in e], linewidth=1.6, markersize=4, **look)
    axes.fill_between(x, [own.low for own in e], [own.high for own in e], color=look["color"], alpha=0.16, linewidth=0)


def _ticks(axes: Any, cause: cases.Cause) -> None:
    plain(axes, "")
    axes.set_title(cause.title, fontsize=9.5)
    axes.set_xticks(range(len(cause.doses)), [dose.label for dose in cause.doses], fontsize=7.5)
    axes.set_xlim(-0.3, len(cause.doses) - 0.7)


def responses(rows: Sequence[Row]) -> Any:
    """Dead share of the worst layer at the end (lines) and at birth (dots), and where nets diverged (crosses)."""
    figure, panels = _panels()
    table = over_sets(rows)
    for cause, axes in zip(cases.CAUSES, panels, strict=True):
        for rule in RULES:
            own = doses(table, cause, rule)
            _line(axes, own, lambda row: row.dead, LOOKS[rule])
            lost = [k for k, row in enumerate(own) if row.diverged]
            axes.plot(lost, [1.07] * len(lost), "x", color=LOOKS[rule]["color"], markersize=5, clip_on=False,
                      label="some runs diverged" if rule == "sgd" else None)  # fmt: skip
        axes.plot([row.born.mean for row in doses(table, cause, "adam")], ":", color="0.35", linewidth=1.4, label="at birth")
        axes.axhline(KILLS, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)))
        _ticks(axes, cause)
        axes.set(ylim=(-0.03, 1.1), yticks=[0, 0.5, 1])
    for axes in panels[::ACROSS]:
        axes.set_ylabel("dead in worst layer", fontsize=9)
    _legend(figure, panels)
    return figure


def _legend(figure: Any, panels: Sequence[Any]) -> None:
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(found.values(), found.keys(), loc="lower center", ncols=len(found), frameon=False, fontsize=9)


CONSEQUENCES: tuple[tuple[str, Callable[[Row], Estimate], str, float], ...] = (  # name, values, scale, what is off the panel
    ("effective rank", lambda row: row.rank, "linear", np.inf),
    ("error", lambda row: row.error, "log", 30.0),  # 1 is that of the mean
    ("steps to the goal", lambda row: row.steps, "log", np.inf),
)
BESIDE = 7  # causes in a block


def consequences(rows: Sequence[Row]) -> Any:
    """Effective rank, final error and steps to the goal against the dose: three rows of panels, a column a cause, in blocks."""
    from matplotlib.figure import Figure

    table = over_sets(rows)
    blocks = [cases.CAUSES[k : k + BESIDE] for k in range(0, len(cases.CAUSES), BESIDE)]
    across = max(3, *map(len, blocks))
    figure = Figure(figsize=(1.9 * across + 0.6, 6 * len(blocks)))
    parts = figure.subfigures(len(blocks), 1, squeeze=False).ravel().tolist()
    grid = np.array([part.subplots(len(CONSEQUENCES), across, squeeze=False) for part in parts])  # (blocks, rows, across)
    for part in parts:
        part.subplots_adjust(left=0.4 / across, right=0.99, top=0.91, bottom=0.13, wspace=0.15, hspace=0.42)
    for k, (name, get, scale, most) in enumerate(CONSEQUENCES):
        for block, panels in zip(blocks, grid[:, k], strict=True):
            _consequence(panels, block, table, get, scale)
            panels[0].set_ylabel(name)
        _same_heights(grid[:, k], most)
    for axes in grid[:, 1:].ravel():
        axes.set_title("")
    _legend(figure, list(grid[0, 0]))
    return figure


def _consequence(
    panels: Sequence[Any], causes: Sequence[cases.Cause], table: Sequence[Row], get: Callable[[Row], Estimate], scale: str
) -> None:
    """A row of panels; those that are left over stay empty."""
    for cause, axes in zip(causes, panels, strict=False):
        for rule in RULES:
            _line(axes, doses(table, cause, rule), get, LOOKS[rule])
        _ticks(axes, cause)
        axes.set_title(fill(cause.title, 20), fontsize=9)
        axes.tick_params(axis="x", rotation=45)
        axes.set_yscale(scale)
    for axes in panels[len(causes) :]:
        axes.axis("off")


def _same_heights(grid: np.ndarray, most: float) -> None:
    """The same limits for all panels, written beside the first of each row only."""
    drawn = [axes for axes in grid.ravel() if axes.axison]
    limits = np.array([axes.get_ylim() for axes in drawn])
    for axes in drawn:
        axes.set_ylim(limits[:, 0].min(), min(limits[:, 1].max(), most))
        axes.tick_params(axis="y", which="both", labelleft=axes in grid[:, 0])


def remedies(rows: Sequence[Row]) -> Any:
    """Two tables in colour: silent share of the worst layer, and error ÷ that of the healthy net; a frame: recommended.

    –: not trained; div.: all nets diverged.
    """
    from matplotlib.figure import Figure

    table = over_sets(rows)
    figure = Figure(figsize=(16, 5.8))
    figure.subplots_adjust(left=0.165, right=0.995, top=0.94, bottom=0.24, wspace=0.03)
    left, right = figure.subplots(1, 2, sharey=True)
    names = ["no remedy", *(remedy.title for remedy in cases.REMEDIES)]
    causes = [f"{cause.title}: {cause.dose.label}" for cause in cases.CAUSES]
    tried = [remedied(table, cause) for cause in cases.CAUSES]
    healthy = [next((row.error.mean for row in doses(table, cause, "adam")[:1]), np.nan) for cause in cases.CAUSES]
    dead = _matrix(tried, lambda row, _: 100 * row.dead.mean, healthy)
    ratio = _matrix(tried, lambda row, base: row.error.mean / base, healthy)
    _cells(left, dead, dead, "{:.0f}", "silent units in the worst layer, %", {"vmin": 0, "vmax": 100, "cmap": "YlOrRd"})
    shown = np.log10(np.clip(ratio, 0.1, 1000))
    _cells(right, shown, ratio, "{:.2g}", "error ÷ healthy net's", {"vmin": -0.3, "vmax": 2.2, "cmap": "YlGnBu"})
    left.set_yticks(range(len(causes)), causes, fontsize=8.5)
    for axes in (left, right):
        axes.set_xticks(range(len(names)), names, fontsize=8.5, rotation=40, ha="right", rotation_mode="anchor")
        for k, own in enumerate(tried):
            best = recommended(own)
            if best is not None:
                _frame(axes, 1 + [remedy.key for remedy in cases.REMEDIES].index(best.remedy), k)
    return figure


def _matrix(tried: Sequence[dict[str, Row]], get: Callable[[Row, float], float], healthy: Sequence[float]) -> np.ndarray:
    keys = ("none", *(remedy.key for remedy in cases.REMEDIES))
    return np.array(
        [
            [get(own[key], base) if key in own and own[key].n else np.inf if key in own else np.nan for key in keys]
            for own, base in zip(tried, healthy, strict=True)
        ]
    )


def _cells(axes: Any, shades: np.ndarray, numbers: np.ndarray, form: str, title: str, options: dict[str, Any]) -> None:
    shades = np.where(np.isfinite(numbers), shades, np.nan)
    axes.imshow(shades, aspect="auto", **options)
    middle = (options["vmin"] + options["vmax"]) / 2
    for (k, i), number in np.ndenumerate(numbers):
        said = "–" if np.isnan(number) else "div." if np.isinf(number) else "≥ 1e3" if number >= 1000 else form.format(number)
        said = f"{number:.0f}" if 100 <= number < 1000 else said
        dark = shades[k, i] > middle * 1.15
        axes.text(i, k, said, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    axes.set_title(title, fontsize=10)
    axes.tick_params(length=0)


def _frame(axes: Any, column: int, row: int) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=2))
