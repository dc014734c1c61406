"""The paper's Figure 5: basins of attraction at γ = 0.001 with momentum (its caption says "without momentum").

Claim (§5): up to β = 0.7 nothing changes, beyond it dead starts take over. That holds in both forms: exactly, the share
goes from 83 % to all starts; as drawn from 43 % to 97 %.
"""

from __future__ import annotations

from .panels import Panel, PanelFigure

PANELS = tuple(Panel(0.001, beta) for beta in (0.7, 0.8, 0.9, 0.95))
PAPER = (0.385, 0.565, 0.829, 0.945)  # blue share of the coloured area, digitised from the paper's figure

figure = PanelFigure(PANELS, PAPER)
run, draw, sentences = figure.run, figure.draw, figure.sentences
