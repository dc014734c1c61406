"""The flat part of the roofline: how many float32 additions a second the vector units do, without any memory.

Additions, because the kernels' formulas consist of additions and comparisons; fused multiply-adds would double the figure.
"""

from __future__ import annotations

import time
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.extending import intrinsic

CHAINS = 12  # independent sums: enough to hide the latency of an addition, few enough for the registers
LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8


def _generate_additions(typing_context: Any, count: Any) -> Any:
    """`count` rounds of CHAINS vector additions; returns their sum, so that nothing can be left out."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, integer, (n,) = ir.VectorType(ir.FloatType(), LANES), arguments[0].type, arguments
        before, loop, after = (
            builder.block,
            builder.append_basic_block("loop"),
            builder.append_basic_block("after"),
        )
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(integer)
        sums = [builder.phi(vector) for _ in range(CHAINS)]
        one = ir.Constant(vector, [1.0] * LANES)
        more = [builder.fadd(s, one) for s in sums]
        following = builder.add(i, integer(1))
        starts = [ir.Constant(vector, [float(k)] * LANES) for k in range(CHAINS)]  # unlike, or LLVM would merge the sums
        for phi, start, value in zip([i, *sums], [integer(0), *starts], [following, *more], strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, n), loop, after)
        builder.position_at_end(after)
        total = more[0]
        for value in more[1:]:
            total = builder.fadd(total, value)
        return builder.extract_element(total, ir.IntType(32)(0))

    return numba.float32(count), generate


_additions: Any = intrinsic(_generate_additions)


@numba.njit(parallel=True)
def _work(out: np.ndarray, count: int) -> None:
    for thread in numba.prange(out.size):
        out[thread] = _additions(count)


def additions_per_second(threads: int) -> float:
    """The best of some short runs on so many threads: a limit is what the machine can do at best."""
    out, count, seconds = np.empty(threads, np.float32), 300_000, []
    _work(out, 1)
    for _ in range(100):
        start = time.perf_counter()
        _work(out, count)
        seconds.append(time.perf_counter() - start)
    return float(f"{threads * count * CHAINS * LANES / min(seconds):.4g}")
