"""What counting costs: the forward kernel's own loops, built without counting.

- `call(job)`: y and mask of a `bias_relu_forward` job; neither active nor non-finite units are counted, found or combined.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.jobs import Job
from minirelu import kernels
from minirelu.kernels import _jit

NAME = "minirelu, no counts"
KERNEL = kernels.KERNELS["bias_relu_forward"]


def call(job: Job) -> Callable[[], Any]:
    """On the job's arrays and threads, with non-temporal stores where the kernel has them."""
    z, b, y, mask = (job.arrays[letter] for letter in ("z", "b", "y", "mask"))
    counts = [np.zeros_like(job.expected[letter]) for letter in ("active", "nonfinite")]
    tasks, columns, dtype = KERNEL.scratch(z)
    scratch = np.zeros((tasks, columns), dtype)
    loops = _loops(bool(kernels._streams(z, y)))

    def tasks_only(*arguments: Any) -> None:
        if arguments[-1] != -1:  # the last call combines the tasks' counts
            loops(*arguments)

    def forward() -> tuple[np.ndarray, np.ndarray]:
        _jit.spread(tasks_only, (z, b, y, mask, *counts, z), scratch, tasks)
        return y, mask

    return forward


@functools.cache
def _loops(streaming: bool) -> Callable[..., None]:
    import numba

    return KERNEL.numba(numba.njit(nogil=True, error_model="numpy"), _jit.words(), streaming, counting=False)
