"""Basins of attraction side by side, exact and as drawn: what Figures 4 and 5 have in common.

- `Panel(gamma, beta)`, `PanelFigure(panels, paper)`: such a figure, with the functions that `reproduce` asks for.
- `run(panels, ...)`: the numbers of all panels in both forms, in processes.
- `draw(columns, panels)`: yellow survives, blue ends in the dead cone, black points are the ends.
- `sentences(columns, panels, paper)`: dead shares of both forms beside those of the paper's picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from ..theory.basins import Basins, Reason, basins
from .fig3 import FORMS, evidence

N = 60  # starts a side
CONE = -4.0  # in the paper's pictures the black ends hide the starts below this b/‖w‖

ALIVE, DEAD = "#F5D547", "#2F6DB5"

Columns = dict[str, Any]


class Panel(NamedTuple):
    gamma: float
    beta: float


class PanelFigure(NamedTuple):
    """Panels, and the dead share of each in the paper's picture."""

    panels: tuple[Panel, ...]
    paper: tuple[float, ...]

    def run(
        self,
        workers: int = 2,
        on_progress: Callable[[int, int], object] = lambda done, total: None,
        n: int = N,
        **options: Any,
    ) -> Columns:
        return run(self.panels, workers, on_progress, n, **options)

    def draw(self, columns: Columns) -> Any:
        return draw(columns, self.panels)

    def sentences(self, columns: Columns) -> list[str]:
        return sentences(columns, self.panels, self.paper)


def run(panels: Sequence[Panel], workers: int, on_progress: Callable[[int, int], object], n: int, **options: Any) -> Columns:
    """A row a start: form, gamma, beta, w0, b0, w, b, dead, steps, reason; n² rows a panel and form.

    `options` go to `basins`.
    """
    jobs = [(form, panel) for form in FORMS for panel in panels]
    with ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn")) as pool:
        futures = [pool.submit(basins, panel.gamma, panel.beta, n=n, form=form, **options) for form, panel in jobs]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                on_progress(done, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return _columns(jobs, [future.result() for future in futures])


def _columns(jobs: Sequence[tuple[str, Panel]], found: Sequence[Basins]) -> Columns:
    size = len(found[0].dead)
    start, end = (np.concatenate([getattr(f, name) for f in found]) for name in ("start", "end"))
    return {
        "form": np.repeat([form for form, _ in jobs], size),
        "gamma": np.repeat([panel.gamma for _, panel in jobs], size),
        "beta": np.repeat([panel.beta for _, panel in jobs], size),
        "w0": start[:, 0],
        "b0": start[:, 1],
        "w": end[:, 0],
        "b": end[:, 1],
        "dead": np.concatenate([f.dead for f in found]),
        "steps": np.concatenate([f.steps for f in found]),
        "reason": [Reason(r).name.lower() for f in found for r in f.reason],
    }


def _own(columns: Columns, form: str, panel: Panel) -> np.ndarray:
    return (columns["form"] == form) & (columns["gamma"] == panel.gamma) & (columns["beta"] == panel.beta)


def draw(columns: Columns, panels: Sequence[Panel]) -> Any:
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(2.5 * len(panels) + 0.6, 5.9), layout="constrained")
    grid = figure.subplots(len(FORMS), len(panels), sharex=True, sharey=True)
    for row, form in zip(grid, FORMS, strict=True):
        for axes, panel in zip(row, panels, strict=True):
            own = _own(columns, form, panel)
            n = round(own.sum() ** 0.5)
            axes.imshow(
                columns["dead"][own].reshape(n, n),
                origin="lower",
                extent=(-1, 1, -1, 1),
                vmin=0,
                vmax=1,
                cmap=ListedColormap([ALIVE, DEAD]),
            )
            axes.plot(columns["w"][own], columns["b"][own], "k.", markersize=1.5, rasterized=True)
            axes.set(xlim=(-1, 1), ylim=(-1, 1), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
            axes.set_title(f"γ = {panel.gamma:g}, β = {panel.beta:g}\n{columns['dead'][own].mean():.1%} dead", fontsize=10)
        row[0].set_ylabel(f"{FORMS[form]}\nb")
    for axes in grid[-1]:
        axes.set_xlabel("$w_L$")
    looks: dict[str, Any] = {"color": "white", "linestyle": "", "marker": "s", "markersize": 9}
    entries = [
        Line2D([], [], **looks | {"markerfacecolor": ALIVE}, label="starts that survive"),
        Line2D([], [], **looks | {"markerfacecolor": DEAD}, label="starts that end in the dead cone"),
        Line2D([], [], **looks | {"color": "black", "marker": ".", "markersize": 5}, label="where they end"),
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=3, frameon=False)
    return figure


def sentences(columns: Columns, panels: Sequence[Panel], paper: Sequence[float]) -> list[str]:
    said = [
        "Dead share of all starts; in brackets of those that do not start below b/‖w‖ = −4,",
        "which the black end points of the paper's picture hide. Paper: digitised from that picture.",
        f"  {'γ':<8}{'β':<8}{'exact':<17}{'as drawn':<17}paper",
    ]
    for panel, picture in zip(panels, paper, strict=True):
        exact, drawn = (_shares(columns, _own(columns, form, panel)) for form in FORMS)
        said.append(f"  {panel.gamma:<8g}{panel.beta:<8g}{exact:<17}{drawn:<17}[{picture:.1%}]")
    return [*said, evidence()]


def _shares(columns: Columns, own: np.ndarray) -> str:
    seen = own & (columns["b0"] >= CONE * np.abs(columns["w0"]))
    return f"{columns['dead'][own].mean():.1%} [{columns['dead'][seen].mean():.1%}]"
