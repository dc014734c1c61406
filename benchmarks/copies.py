"""The rulers: how fast this machine copies memory, measured in the same run and on the same arrays as what they judge.

- `ordinary`: read the input, store to the output. A store that misses the cache reads its line first: 3 transfers for 2.
- `in_place`: read the array and write it back (xor with a key that is 0 and that the compiler does not know).
- `non_temporal`: stores that go round the cache, so that no line is read in order to be overwritten; ends with a fence.

Every ruler is written with vector intrinsics of its own (whole cache lines, the ends by bytes), because LLVM turns a
plain loop into a call of memcpy, which chooses between ordinary and non-temporal stores by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from benchmarks.timing import interleaved

LINE = 64
WIDTHS = (16, 32, 64)  # bytes of one store; what the processor has not is split into what it has
ORDINARY, NON_TEMPORAL, IN_PLACE = RULERS = ("ordinary copy", "non-temporal copy", "in-place copy")


def rulers(source: np.ndarray, target: np.ndarray, threads: int) -> dict[str, Callable[[], object]]:
    """{name: copy `source` to `target` once}, on `threads` threads; the in-place ruler rewrites `target`.

    Both arrays must be C-contiguous and of one size. Of the non-temporal stores the quickest width is taken.
    """
    s, t = (array.reshape(-1).view(np.uint8) for array in (source, target))
    parallel = threads > 1
    calls = (_call(32, False, parallel, s, t), non_temporal(s, t, parallel), _call(32, False, parallel, t, t))
    return dict(zip(RULERS, calls, strict=True))


def check(source: np.ndarray, target: np.ndarray, calls: dict[str, Callable[[], object]]) -> None:
    """Every ruler among `calls` makes `target` equal to `source`, or leaves it equal; raises `AssertionError`."""
    for name in RULERS:
        if name != IN_PLACE:
            target.fill(7)
        calls[name]()
        assert np.array_equal(source, target), f"the {name} is wrong"


def non_temporal(source: np.ndarray, target: np.ndarray, parallel: bool) -> Callable[[], object]:
    """The non-temporal copy with the quickest width of store for these arrays (bytes)."""
    calls = {width: _call(width, True, parallel, source, target) for width in WIDTHS}
    times = interleaved({str(width): call for width, call in calls.items()}, rounds=9)
    return calls[min(WIDTHS, key=lambda width: np.median(times[str(width)]))]


def _call(width: int, stream: bool, parallel: bool, source: np.ndarray, target: np.ndarray) -> Callable[[], object]:
    copy = compiled(width, stream, parallel)
    return lambda: copy(source, target, 0)


@functools.cache
def compiled(width: int, stream: bool, parallel: bool) -> Callable[..., None]:
    """`copy(source, target, key)` of bytes, xor `key`, by stores of `width` bytes; `stream` makes them non-temporal."""
    line = _line(width, stream)
    span = numba.prange if parallel else range

    @numba.njit(parallel=parallel, nogil=True)
    def copy(source, target, key):
        x, y, n = source.ctypes.data, target.ctypes.data, target.size
        head = min(n, -y % LINE)
        lines = (n - head) // LINE
        for i in range(head):
            target[i] = source[i] ^ key
        tasks = min(lines, 64)
        for task in span(tasks):
            for i in range(lines * task // tasks, lines * (task + 1) // tasks):
                line(x + head + LINE * i, y + head + LINE * i, key)
            fence()
        for i in range(head + LINE * lines, n):
            target[i] = source[i] ^ key

    return copy


def _line(width: int, stream: bool) -> Any:
    """An intrinsic `line(source, target, key)`: 64 bytes from one address to another, the target's a multiple of 64."""
    vector = ir.VectorType(ir.IntType(64), width // 8)

    def line(typing_context: Any, source: Any, target: Any, key: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, y, k = (
                builder.trunc(a, i64) if a.type.width > 64 else builder.zext(a, i64) if a.type.width < 64 else a
                for a in arguments
            )
            keys = vector(ir.Undefined)
            for lane in range(width // 8):
                keys = builder.insert_element(keys, k, ir.Constant(ir.IntType(32), lane))
            for first in range(0, LINE, width):
                offset = ir.Constant(i64, first)
                read = builder.load(builder.inttoptr(builder.add(x, offset), vector.as_pointer()), align=1)
                write = builder.inttoptr(builder.add(y, offset), vector.as_pointer())
                store = builder.store(builder.xor(read, keys), write, align=width)
                if stream:
                    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            return context.get_dummy_value()

        i64 = ir.IntType(64)
        return numba.types.void(source, target, key), generate

    return intrinsic(line)


def _generate_fence(typing_context: Any) -> Any:
    """Non-temporal stores are done when this returns."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return numba.types.void(), generate


fence: Any = intrinsic(_generate_fence)
