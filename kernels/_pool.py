"""Large arrays from memory that earlier ones have left, so that a training does not fault in fresh pages at each step.

    empty(shape, dtype)      uninitialised, C-contiguous, aligned to 64 bytes
    scratch(shape, dtype)    the same, from the pool however small it is

An array refers to a *lease*; when the last array or view that refers to it is gone, its memory is free for the next one of
about that size. At most `KEPT` bytes wait for that; the oldest are given back to the system first.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

ALIGNED = 64

# Bytes from which an array is worth keeping: the allocator gives larger ones back to the system at once.
POOLED_FROM = 1 << 20

# Bytes that may wait for their next use.
KEPT = 1 << 29

_lock = threading.RLock()  # a lease may end, in a collection of garbage, while this thread is in here
_waiting: OrderedDict[int, Memory] = OrderedDict()  # id of the memory -> the memory, oldest first


class Memory(np.ndarray):
    """Bytes that own themselves. A type of its own, because NumPy lets a view refer past views of its own type."""


class Lease(np.ndarray):
    """A view of some memory, which gives it back when nothing refers to the lease any more."""

    memory: Memory | None = None

    def __del__(self) -> None:
        if self.memory is not None:
            _keep(self.memory)


def empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised C-contiguous array, its first element at a multiple of 64 bytes, from the pool if it is large."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    return _made(shape, dtype, math.prod(shape) * dtype.itemsize >= POOLED_FROM)


def scratch(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """What a kernel writes to and nobody else sees: uninitialised, aligned, and from the pool however small it is.

    Between two calls of a kernel the system may have got 100 KB back, and then each call pays for fresh pages.
    """
    return _made(shape, np.dtype(dtype), True)


def _made(shape: tuple[int, ...], dtype: np.dtype[Any], pooled: bool) -> np.ndarray:
    room = _room(math.prod(shape) * dtype.itemsize, pooled)
    memory = _take(room) if pooled else None
    if memory is None:
        memory = Memory((room,), np.uint8)
    lease = memory.view(Lease)
    if pooled:
        lease.memory = memory
    first = -memory.__array_interface__["data"][0] % ALIGNED
    return np.ndarray(shape, dtype, buffer=lease, offset=first)


def owns(array: np.ndarray) -> bool:
    """Whether `array` has its memory for itself and is no view of another array: NumPy's own, or of this pool."""
    return array.base is None or type(array.base) is Lease


def _room(size: int, pooled: bool) -> int:
    """Bytes for `size` and the alignment; rounded up in the pool, so that nearly equal sizes serve each other."""
    step = max(ALIGNED, 1 << max(size.bit_length() - 4, 0)) if pooled else ALIGNED
    return -(-(size + ALIGNED) // step) * step


def _take(room: int) -> Memory | None:
    with _lock:
        for key in reversed(list(_waiting)):  # of a copy: a lease may end meanwhile. The youngest is likely in the cache
            memory = _waiting.get(key)
            if memory is not None and memory.size == room:
                return _waiting.pop(key)
    return None


def _keep(memory: Memory) -> None:
    with _lock:
        _waiting[id(memory)] = memory
        while sum([m.size for m in list(_waiting.values())]) > KEPT:
            _waiting.popitem(last=False)
