"""Every kernel with its reference, its loops, its launcher, and the scratch that the loops want."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import _jit
from . import bias_relu_forward as _bias_relu_forward
from . import count_units as _count_units
from . import optimiser_step as _optimiser_step
from . import relu_backward as _relu_backward
from . import residual_relu as _residual_relu
from . import small_affine as _small_affine

Cut = tuple[int, int, np.dtype[Any]]  # tasks, columns, dtype of the partial sums
_BYTE = np.dtype(np.uint8)


class Kernel(NamedTuple):
    """One formula in its speeds."""

    reference: Callable[..., Any]
    numba: Any  # a _jit.Builder
    cuda: Callable[..., None] | None  # None: what is small is not worth a launch, and CuPy arrays go another way
    scratch: Callable[[np.ndarray], Cut]  # Numba's, from the first array
    streams: bool = False  # whether the third array may be written past the cache


def _chunks(x: np.ndarray) -> int:
    return x.size // (x.shape[-2] * x.shape[-1]) * -(-x.shape[-2] // _jit.ROWS)


def _counters(z: np.ndarray) -> Cut:
    return _chunks(z), z.shape[-1] + _jit.SPARE, _BYTE


def _two_counters(y: np.ndarray) -> Cut:
    return _chunks(y), 2 * y.shape[-1] + _jit.SPARE, _BYTE


def _sums(g: np.ndarray) -> Cut:
    return _chunks(g), g.shape[-1] + _jit.SPARE, g.dtype


def _no_sums(x: np.ndarray) -> Cut:
    return -(-x.size // _optimiser_step.TASK), 0, _BYTE


def _one_task(x: np.ndarray) -> Cut:
    return 1, 0, _BYTE


KERNELS = {
    "bias_relu_forward": Kernel(
        _bias_relu_forward.reference, _bias_relu_forward.numba, _bias_relu_forward.cuda, _counters, True
    ),
    "residual_relu": Kernel(_residual_relu.reference, _residual_relu.numba, _residual_relu.cuda, _counters, True),
    "relu_backward": Kernel(_relu_backward.reference, _relu_backward.numba, _relu_backward.cuda, _sums, True),
    "count_units": Kernel(_count_units.reference, _count_units.numba, _count_units.cuda, _two_counters),
    "small_affine": Kernel(_small_affine.reference, _small_affine.numba, None, _one_task),
    "small_affine_backward": Kernel(_small_affine.reference_backward, _small_affine.numba_backward, None, _one_task),
} | {
    rule: Kernel(_optimiser_step.reference[rule], _optimiser_step.numba[rule], _optimiser_step.cuda[rule], _no_sums)
    for rule in _optimiser_step.RULES
}
