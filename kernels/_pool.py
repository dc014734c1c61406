"""Large arrays from memory that earlier ones have left, so that a training does not fault in fresh pages at each step.

    empty(shape, dtype)      uninitialised, C-contiguous, aligned to 64 bytes
    borrow(size)             bytes for the partial sums of a kernel's tasks, until `hand_back(memory)`

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

# Bytes at most that each thread keeps for the sums of its kernels' tasks: enough for 2³⁰ bytes of input where layers have 64
# units or more, and replicas 128 rows. What is larger comes from the pool each time.
SPARED = 1 << 24

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
    size = math.prod(shape) * dtype.itemsize
    pooled = size >= POOLED_FROM
    room = _room(size, pooled)
    memory = _take(room) if pooled else None
    if memory is None:
        memory = Memory((room,), np.uint8)
    lease = memory.view(Lease)
    if pooled:
        lease.memory = memory
    first = -memory.__array_interface__["data"][0] % ALIGNED
    return np.ndarray(shape, dtype, buffer=lease, offset=first)


class _Spare(threading.local):
    memory: np.ndarray | None = None


_spare = _Spare()


def borrow(size: int) -> np.ndarray:
    """At least `size` bytes, aligned to 64, that this thread's kernels write to one after another.

    Nobody else gets them before `hand_back`: a destructor that runs meanwhile may call kernels too. After a pass through a
    large array no line of the interpreter is in the cache any more, so the pool above would cost 100 µs, and this costs 5.
    """
    memory, _spare.memory = _spare.memory, None
    return empty(size, np.uint8) if memory is None or memory.size < size else memory


def hand_back(memory: np.ndarray) -> None:
    """Keep what was borrowed for the thread's next kernel, or leave it to the pool if it is large."""
    if memory.size <= SPARED:
        _spare.memory = memory


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
