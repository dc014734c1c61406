"""The paper's Figure 4: basins of attraction without momentum, for smaller and smaller targets.

Claim (§5): as γ falls the dead region changes side, but the majority of starts survives. Exactly, with the factor ρ of
Eq. 32, 81 % of the starts die at γ = 0.001 without any momentum; a majority survives only in the form as drawn.
"""

from __future__ import annotations

from .panels import Panel, PanelFigure

PANELS = tuple(Panel(gamma, 0.0) for gamma in (0.5, 0.1, 0.001))
PAPER = (0.104, 0.060, 0.372)  # blue share of the coloured area, digitised from the paper's figure

figure = PanelFigure(PANELS, PAPER)
run, draw, sentences = figure.run, figure.draw, figure.sentences
