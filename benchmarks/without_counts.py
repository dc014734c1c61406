"""What counting costs: the forward kernel with its own loops, but with words for counting that do nothing.

- `call(job)`: y and mask of a `bias_relu_forward` job; neither active nor non-finite units are counted, found or combined.

The loops of `kernels/bias_relu_forward.py` are handed the vocabulary that they are written in (`kernels/_lanes.py`, or
`_plain.py`). Here that is a copy of it in which `tally` adds nothing and `huge` finds nothing; LLVM leaves the rest away.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
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

    return KERNEL.numba(numba.njit(nogil=True), _silent(_jit.words()), streaming)


def _silent(lanes: ModuleType) -> ModuleType:
    """A copy of the words with a `tally` that adds nothing and a `huge` that finds nothing."""
    from llvmlite import ir
    from numba import njit, types
    from numba.extending import intrinsic

    @njit
    def tally(counters, offset, truths):
        pass

    @intrinsic
    def huge(typing_context, vector):
        truths = lanes._truths(vector) if hasattr(lanes, "_truths") else types.boolean
        none = lambda context, *_: ir.Constant(context.get_value_type(truths), None)
        return truths(vector), none

    copy = ModuleType(f"{lanes.__name__}_without_counts")
    copy.__dict__.update(vars(lanes), tally=tally, huge=huge)
    return copy
