"""The paper's Figure 3: where gradient descent goes in the plane (w_L, b) of one ReLU, for target scales γ.

Claims (§5): the optimum (γ, 0) moves to the origin as γ falls; an attracting line at the lower right leads into the dead
cone; gradients vanish near w_L = 0, b < 0. Shown exactly (Eq. 31–32), and as drawn in the paper: without the factor
ρ = sign w_L in the bias gradient. The lower left, which the paper sends towards the linear cone first, differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..theory.single_relu import plane_gradient

GAMMAS = (1.0, 0.1, 0.01, 0.001)
FORMS = {"exact": "exact (Eq. 31–32)", "figure": "as drawn (no ρ in Eq. 32)"}
SIDE = 60  # even, so that w = 0 is not on the grid

Columns = dict[str, Any]


def run(workers: int = 1, on_progress: Callable[[int, int], object] = lambda done, total: None) -> Columns:
    """The numbers, a row a point: form, gamma, w, b, dw, db; b slowly and w quickly varying in each panel."""
    line = np.linspace(-1, 1, SIDE)
    w, b = (a.ravel() for a in np.meshgrid(line, line))
    panels = [(form, gamma) for form in FORMS for gamma in GAMMAS]
    fields = np.concatenate([np.transpose(plane_gradient(w, b, gamma, form=form)) for form, gamma in panels])
    on_progress(1, 1)
    return {
        "form": np.repeat([form for form, _ in panels], w.size),
        "gamma": np.repeat([gamma for _, gamma in panels], w.size),
        "w": np.tile(w, len(panels)),
        "b": np.tile(b, len(panels)),
        "dw": fields[:, 0],
        "db": fields[:, 1],
    }


def draw(columns: Columns) -> Any:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.3), layout="constrained")
    grid = figure.subplots(len(FORMS), len(GAMMAS), sharex=True, sharey=True)
    line, norm = np.linspace(-1, 1, SIDE), LogNorm(1e-6, 1, clip=True)
    for row, form in zip(grid, FORMS, strict=True):
        for axes, gamma in zip(row, GAMMAS, strict=True):
            dw, db = _panel(columns, form, gamma)
            lines = axes.streamplot(
                line,
                line,
                -dw,
                -db,
                color=np.maximum(np.hypot(dw, db), 1e-6),
                norm=norm,
                cmap="viridis_r",
                density=0.9,
                linewidth=0.8,
                arrowsize=0.7,
            )
            axes.plot(gamma, 0, "o", color="white", markeredgecolor="black", markersize=6, zorder=5)
            axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
            if form == "exact":
                axes.set_title(f"γ = {gamma:g}")
        row[0].set_ylabel(f"{FORMS[form]}\nb")
    for axes in grid[-1]:
        axes.set_xlabel("$w_L$")
    figure.colorbar(lines.lines, ax=grid, label="‖gradient‖", shrink=0.8)
    return figure


def _panel(columns: Columns, form: str, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    own = (columns["form"] == form) & (columns["gamma"] == gamma)
    return columns["dw"][own].reshape(SIDE, SIDE), columns["db"][own].reshape(SIDE, SIDE)


def sentences(columns: Columns) -> list[str]:
    said = [evidence()]
    for gamma in GAMMAS:
        (dw, db), (_, drawn) = (_panel(columns, form, gamma) for form in FORMS)
        cosine = (dw * dw + db * drawn) / (np.hypot(dw, db) * np.hypot(dw, drawn) + 1e-300)
        strong = np.hypot(dw, db) > 1e-6
        said.append(
            f"γ = {gamma:g}: the two fields point more than 90° apart on {(strong & (cosine < 0)).mean():.1%} of the plane "
            f"and more than 10° apart on {(strong & (cosine < np.cos(np.pi / 18))).mean():.1%}; all of it has w_L < 0."
        )
    return said


def bias_gradient_errors() -> tuple[float, float]:
    """(exact, as drawn): the largest distance of ∂L/∂b from E[(wx + b − γx); wx + b > 0] by quadrature, over 400 points."""
    rng = np.random.default_rng(0)
    w, b, gamma = rng.uniform(-1, 1, 400), rng.uniform(-1, 1, 400), rng.uniform(0, 1, 400)
    edge = np.clip(-b / w, -12, 12)
    low, high = np.where(w > 0, edge, -12.0), np.where(w > 0, 12.0, edge)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    x = 0.5 * (high - low)[:, None] * nodes + 0.5 * (high + low)[:, None]
    residual = (w - gamma)[:, None] * x + b[:, None]
    mean = 0.5 * (high - low) * ((residual * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)) @ weights)
    exact, drawn = (np.abs(plane_gradient(w, b, gamma, form=form)[1] - mean).max() for form in FORMS)
    return float(exact), float(drawn)


def evidence() -> str:
    """Which form is the gradient, in one sentence with its numbers."""
    exact, drawn = bias_gradient_errors()
    return (
        f"Eq. 32 with the factor ρ = sign w_L is the gradient: it is within {exact:.0e} of quadrature at 400 random points, "
        f"the form as drawn within {drawn:.2f}. The two differ for w_L < 0."
    )
