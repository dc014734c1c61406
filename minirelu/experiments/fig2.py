"""The paper's Figure 2: momentum makes the affine model oscillate.

Claim (§4): with lr η = 0.1 the eigenvalues of Eq. 20 become complex at a momentum β ≈ 0.7, and b/‖w‖ then swings below 0.
Here: exactly at β* = ((1 − η)/(1 + η))² = 0.6694. The right panel starts at b = 10, w_L = 5, ‖w_⊥‖ = 3 in units of γ, which
the paper does not state; these values reproduce its curves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..theory import linear_system

LR, BETAS, STEPS = 0.1, (0.0, 0.7, 0.9), 100
W, B, GAMMA = np.array([3.0, 5.0]), 10.0, np.array([0.0, 1.0])
COLOURS = ("#0072B2", "#009E73", "#D55E00")

Columns = dict[str, Any]


def run(workers: int = 1, on_progress: Callable[[int, int], object] = lambda done, total: None) -> Columns:
    """The numbers, a row each: eigenvalue pairs for 200 values of β (where t is −1), and z = b/‖w‖ for each β and t."""
    betas = np.linspace(0, 0.995, 200)
    pairs = linear_system.eigenvalues("ema", LR, betas)
    t = np.arange(STEPS + 1)
    ratios = np.concatenate([ratio(beta, t) for beta in BETAS])
    rows, more = 2 * len(betas), len(ratios)
    on_progress(1, 1)
    return {
        "panel": ["eigenvalues"] * rows + ["ratio"] * more,
        "beta": np.concatenate([np.repeat(betas, 2), np.repeat(BETAS, len(t))]),
        "real": np.concatenate([pairs.real.ravel(), np.full(more, np.nan)]),
        "imag": np.concatenate([pairs.imag.ravel(), np.full(more, np.nan)]),
        "t": np.concatenate([np.full(rows, -1), np.tile(t, len(BETAS))]),
        "z": np.concatenate([np.full(rows, np.nan), ratios]),
    }


def ratio(beta: float, t: np.ndarray) -> np.ndarray:
    """z = b/‖w‖ after t steps of the affine model: every coordinate's distance from the target is rₜ of the first."""
    r = linear_system.response("ema", LR, beta, t)
    return r * B / np.linalg.norm(GAMMA + r[:, None] * (W - GAMMA), axis=-1)


def draw(columns: Columns) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    panel = np.array(columns["panel"])
    eigen = panel == "eigenvalues"
    points = left.scatter(columns["real"][eigen], columns["imag"][eigen], c=columns["beta"][eigen], s=7, cmap="viridis")
    figure.colorbar(points, ax=left, label="momentum β")
    star = float(linear_system.critical_beta("ema", LR))
    meet = linear_system.eigenvalues("ema", LR, star)[0].real
    left.annotate(f"β* = {star:.4f}", (meet, 0), (meet - 0.3, 0.055), arrowprops={"arrowstyle": "-", "color": "0.4"})
    left.set(xlabel="real part", ylabel="imaginary part", title=f"eigenvalues, learning rate {LR}")
    for beta, colour in zip(BETAS, COLOURS, strict=True):
        own = ~eigen & (columns["beta"] == beta)
        right.plot(columns["t"][own], columns["z"][own], color=colour, label=f"β = {beta:g}")
    right.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    right.set(xlabel="step t", ylabel="b/‖w‖", title="one start, three momenta")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def sentences(columns: Columns) -> list[str]:
    star = float(linear_system.critical_beta("ema", LR))
    said = [f"The eigenvalues are complex for β > β* = ((1 − η)/(1 + η))² = {star:.4f} (paper: about 0.7)."]
    for beta in BETAS:
        z = ratio(beta, np.arange(STEPS + 1))
        said.append(f"β = {beta:g}: lowest b/‖w‖ = {z.min():.3f} at t = {z.argmin()}.")
    return [*said, "Golden values of the paper's curve for β = 0.9: −2.55 at t = 35; for 0 and 0.7 nowhere below −0.002."]
