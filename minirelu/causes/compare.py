"""Two trainings that began with the same seeds, compared seed by seed: what of their difference is sure.

- `compared(before, after, widths, comparisons)`: a `Comparison`.
- `resolution(shares, widths)`: the step in which the shares of the worst layers come.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..estimates import Estimate, error_estimate, estimate
from .training import Outcome

Widths = tuple[int, ...]


class Comparison(NamedTuple):
    """Over the n seeds that stayed finite both times, with intervals that hold for all comparisons together at 95 %.

    fewer: by how much the silent share of the worst layer is less after than before; fit: the error after ÷ before.
    """

    fewer: Estimate
    fit: Estimate


NONE = Comparison(estimate([]), error_estimate([]))


def compared(before: Outcome, after: Outcome, widths: tuple[Widths, Widths], comparisons: int) -> Comparison:
    """Both have the same R seeds; `widths` are those before and after; 5 % is shared by so many `comparisons`.

    Each side rounds its shares in steps of its own (`resolution`). The two roundings know nothing of each other, so that their
    variances add: the step of the difference is the hypotenuse of both steps, and never finer than the coarser one.
    """
    both, level = before.finite & after.finite, 1 - 0.05 / comparisons
    fewer = before.worst[both] - after.worst[both]
    ratio = np.maximum(after.error[both, -1], 1e-300) / np.maximum(before.error[both, -1], 1e-300)
    step = math.hypot(*(resolution(of.dead[both], own) for of, own in zip((before, after), widths, strict=True)))
    return Comparison(estimate(fewer, -1, 1, resolution=step, level=level), error_estimate(ratio, level))


def resolution(shares: np.ndarray, widths: Widths) -> float:
    """The step in which the largest of the shares (R, L) of each seed comes: 1/units of its layer, of equal ones the coarsest.

    Where the seeds' worst layers have different widths, the root mean square: rounding to steps s has the variance s²/12.
    0 for no seed.
    """
    steps = np.where(shares == shares.max(axis=1, keepdims=True), 1 / np.array(widths), 0.0).max(axis=1)
    return float(np.sqrt((steps**2).mean())) if len(steps) else 0.0
