"""Numbers of 16 bits: float16 (NumPy's) and bfloat16 (of ml_dtypes, which is known by its name alone and never imported).

Kernels compute with them in float32 and round once. CUDA and the references take them; nothing is compiled for the CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = ("float16", "bfloat16")


def is_narrow(dtype: Any) -> bool:
    """Whether `dtype` is one of the two, in the machine's order of bytes."""
    return dtype.itemsize == 2 and dtype.isnative and dtype.name in NAMES


def wide(x: Any) -> Any:
    """`x`, or the float32 array of the same values where it is of 16 bits."""
    return x.astype(np.float32) if x.itemsize == 2 else x


def sums(dtype: Any) -> Any:
    """The dtype that sums of `dtype` are made in."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype
