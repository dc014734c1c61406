"""Which array module an array belongs to, and the way between host and device.

An array *is* its device: there is no global device and no `Tensor.device`. CuPy is never imported to find out.

- `array_module(*arrays)`: `numpy` or `cupy`; a mixture is refused.
- `to_host(array)`, `to_device(array)`: explicit copies.
- `ALONE`: what `sys.getrefcount(items[i])` answers where nothing but the list `items` refers to `items[i]`.
"""

from __future__ import annotations

import sys
from collections.abc import MutableSequence
from types import ModuleType
from typing import Any

import numpy as np

from .errors import BackendUnavailableError


def module_name(array: object) -> str:
    """`"numpy"`, `"cupy"`, or the top-level module of any other type."""
    return type(array).__module__.partition(".")[0]


def array_module(*arrays: Any) -> ModuleType:
    """The module (`numpy` or `cupy`) that all `arrays` belong to; Python scalars belong to both.

    Raises `TypeError` if NumPy and CuPy arrays are mixed.
    """
    for array in arrays:
        if type(array) is not np.ndarray:
            return _other_module(arrays)
    return np


def _other_module(arrays: tuple[Any, ...]) -> ModuleType:
    on_device = [i for i, array in enumerate(arrays) if module_name(array) == "cupy"]
    if not on_device:
        return np
    on_host = [i for i, array in enumerate(arrays) if isinstance(array, np.ndarray)]
    if on_host:
        raise TypeError(
            f"arguments {on_host} are NumPy arrays and arguments {on_device} are CuPy arrays; "
            "move them to one side with minirelu.backend.to_device or to_host first"
        )
    return sys.modules["cupy"]


def is_array(value: object) -> bool:
    """Whether `value` is a NumPy or CuPy array."""
    return isinstance(value, np.ndarray) or (module_name(value) == "cupy" and hasattr(value, "ndim"))


def to_host(array: Any) -> np.ndarray:
    """`array` as a NumPy array (copied from the device if it lies there)."""
    return array.get() if module_name(array) == "cupy" else np.asarray(array)


def to_device(array: Any) -> Any:
    """`array` as a CuPy array. Raises `BackendUnavailableError` where CuPy or a GPU is missing."""
    try:
        import cupy
    except ImportError as error:
        raise BackendUnavailableError(
            "CuPy is not installed; install minirelu[cuda] (CUDA 13) or minirelu[cuda12] to use a GPU"
        ) from error
    if not cupy.cuda.is_available():
        raise BackendUnavailableError("CuPy is installed but finds no GPU; keep the arrays on the host")
    return cupy.asarray(array)


def _calibrate(items: MutableSequence[Any], i: int) -> int:
    return sys.getrefcount(items[i])


# sys.getrefcount(items[i]) for an object that only the list `items` holds (a view counts: it refers to its base).
# Measured, because interpreters differ.
ALONE = _calibrate([object()], 0)
