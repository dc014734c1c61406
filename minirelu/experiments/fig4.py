"""The paper's Figure 4: basins of attraction without momentum, for smaller and smaller targets.

Claim (§5): as γ falls the dead region changes side, but the majority of starts survives. Exactly, with the factor ρ of
Eq. 32, 81 % of the starts die at γ = 0.001 without any momentum; a majority survives only in the form as drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import panels
from .panels import Columns, Panel

PANELS = tuple(Panel(gamma, 0.0) for gamma in (0.5, 0.1, 0.001))
PAPER = (0.104, 0.060, 0.372)  # blue share of the coloured area, digitised from the paper's figure


def run(
    workers: int = 2,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    n: int = panels.N,
    **options: Any,
) -> Columns:
    """The numbers (see panels.py); `options` go to `basins`."""
    return panels.run(PANELS, workers, on_progress, n, **options)


def draw(columns: Columns) -> Any:
    return panels.draw(columns, PANELS)


def sentences(columns: Columns) -> list[str]:
    return panels.sentences(columns, PANELS, PAPER)
