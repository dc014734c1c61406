"""The paper's Figure 5: basins of attraction at γ = 0.001 with momentum (its caption says "without momentum").

Claim (§5): up to β = 0.7 nothing changes, beyond it dead starts take over. That holds in both forms: exactly, the share
goes from 83 % to all starts; as drawn from 43 % to 97 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import panels
from .panels import Columns, Panel

PANELS = tuple(Panel(0.001, beta) for beta in (0.7, 0.8, 0.9, 0.95))
PAPER = (0.385, 0.565, 0.829, 0.945)  # blue share of the coloured area, digitised from the paper's figure


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
