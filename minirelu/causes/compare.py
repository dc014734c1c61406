"""Two trainings that began with the same seeds, compared seed by seed: what of their difference is sure.

- `compared(before, after, resolution, comparisons)`: a `Comparison`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..estimates import Estimate, error_estimate, estimate
from .training import Outcome


class Comparison(NamedTuple):
    """Over the n seeds that stayed finite both times, with intervals that hold for all comparisons together at 95 %.

    fewer: by how much the silent share of the worst layer is less after than before; fit: the error after ÷ before.
    """

    fewer: Estimate
    fit: Estimate


NONE = Comparison(estimate([]), error_estimate([]))


def compared(before: Outcome, after: Outcome, resolution: float, comparisons: int) -> Comparison:
    """Both have the same R seeds; silent shares come in steps of `resolution`; 5 % is shared by so many `comparisons`."""
    both, level = before.finite & after.finite, 1 - 0.05 / comparisons
    fewer = before.worst[both] - after.worst[both]
    ratio = np.maximum(after.error[both, -1], 1e-300) / np.maximum(before.error[both, -1], 1e-300)
    step = 2**0.5 * resolution  # of a difference of two such shares
    return Comparison(estimate(fewer, -1, 1, resolution=step, level=level), error_estimate(ratio, level))
