"""What the peers share: a job's arrays in the form that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.jobs import Job

Call = Callable[[], Any]
Builder = Callable[[Job], Call]


def summands(job: Job) -> list[np.ndarray]:
    """The inputs whose sum goes into the ReLU."""
    return [job.arrays[letter] for letter in ("z", "skip", "b") if letter in job.arrays]


def bool_mask(job: Job) -> np.ndarray:
    """The packed mask of a backward job, one byte an element."""
    units = job.source.shape[-1]
    return np.unpackbits(job.arrays["mask"].view(np.uint8), axis=-1, count=units, bitorder="little").view(bool)
