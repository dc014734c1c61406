"""Faults planted in the .cu texts, each found by the execution on the CPU: what these tests would be worth on real mistakes."""

import re
from typing import NamedTuple

import cuda_on_cpu
import numpy as np
import pytest
from exactness import bfloat16
from test_cuda_kernels import check_backward, check_counts, check_rectifier, check_step, normal, reference

from minirelu.kernels import _cuda

pytestmark = pytest.mark.skipif(bool(cuda_on_cpu.missing()), reason=cuda_on_cpu.missing() or "g++ is there")

FORWARD, BACKWARD, COUNT, STEP = "bias_relu_forward", "relu_backward", "count_units", "optimiser_step"


class Fault(NamedTuple):
    """`old` replaced by `new` in the text; `said` is what the watcher says, or what the comparison with the reference does."""

    kernel: str
    version: int
    old: str
    new: str
    said: str
    shape: tuple[int, ...] = (131, 33)
    dtype: type = np.float32


TYPES = {"float32": "float", "float16": "f16", "bfloat16": "bf16"}
WRONG = "not equal|AssertionError|assert"
COUNTED = "count.at[v] += u32(on) + (u32(wild(value)) << 16);\n                }"
UNROUNDED = COUNTED.replace("wild(value)", "t.inside && wild(wide(z[row * units + t.unit + v]) + wide(bias.get(v)))")
BARRIER = "    all[threadIdx.y * blockDim.x + threadIdx.x] = sum;\n    __syncthreads();"
FAULTS = {
    "missing barrier": Fault(FORWARD, 3, BARRIER, BARRIER.rsplit("\n", 1)[0], "race|nothing wrote"),
    "missing barrier before the memory is used again": Fault(
        BACKWARD,
        3,
        "    const bool found = *last;\n    __threadfence();\n    __syncthreads();",
        "    const bool found = *last;",
        "race",
        (6, 131, 40),
    ),
    "divergent barrier": Fault(
        FORWARD,
        3,
        "].at[v];\n    __syncthreads();",
        "].at[v];\n    if (threadIdx.y == 0) __syncthreads();",
        "others never come",
        (100, 33),
    ),
    "off-by-one tail": Fault(BACKWARD, 1, "row < end", "row <= end", "outside of the arrays"),
    "tail of a vector step": Fault(STEP, 3, "if (first + n * stride >= size) continue;", "", "outside of the arrays", (3, 40)),
    "wrong mask bit": Fault(FORWARD, 1, "1u << j % 32", "1u << (31 - j % 32)", WRONG),
    "wrong mask bit of a shuffle": Fault(FORWARD, 3, "% (32 / V) * V;", "% (32 / V);", WRONG, (5, 40)),
    "wrong mask bit of a ballot": Fault(FORWARD, 2, "(x | x << 3) & 0x11111111u", "(x | x << 2) & 0x11111111u", WRONG, (5, 40)),
    "race on the counts": Fault(FORWARD, 1, "atomicAdd(&active[unit], 1ull)", "active[unit] += 1", "race"),
    "race on the mask": Fault(
        FORWARD, 1, "atomicOr(&mask[row * words + j / 32], 1u << j % 32)", "mask[row * words + j / 32] |= 1u << j % 32", "race"
    ),
    ">= at the kink": Fault(FORWARD, 1, "wide(y) > Wide<T>(0)", "wide(y) >= Wide<T>(0)", WRONG),
    "multiply instead of select": Fault(
        BACKWARD, 3, "bits[a] >> v & 1u ? d[a].get(v) : T()", "T(bits[a] >> v & 1u) * d[a].get(v)", WRONG
    ),
    "fmax instead of select": Fault(FORWARD, 3, "return s <= T(0) ? T(0) : s;", "return s > T(0) ? s : T(0);", WRONG),
    "unmasked lanes in a shuffle": Fault(
        FORWARD, 3, "__shfl_xor_sync(ALL,", "__shfl_xor_sync(0xffffu,", "leaves it out", (5, 40)
    ),
    "lanes that stay away from a ballot": Fault(
        FORWARD,
        2,
        "for (int v = 0; v < V; v++) word |=",
        "for (int v = 0; v < V && j < units; v++) word |=",
        "others never come",
    ),
    "uninitialised shared memory": Fault(
        COUNT,
        3,
        "all[threadIdx.y * blockDim.x + threadIdx.x] = sum;",
        "if (threadIdx.y < 2) all[threadIdx.y * blockDim.x + threadIdx.x] = sum;",
        "nothing wrote",
    ),
    "missing fence": Fault(
        BACKWARD, 3, "    __threadfence();\n    __syncthreads();\n    if", "    __syncthreads();\n    if", "race", (131, 40)
    ),
    "the last block does not wait for the others": Fault(
        BACKWARD, 3, "== cut.slabs - 1", "== 0", "race|assert|not equal|AssertionError", (131, 40)
    ),
    "counts that are not finished": Fault(
        COUNT, 3, "for (int y = 1; y < blockDim.y; y++)", "for (int y = 1; y < blockDim.y - 1; y++)", WRONG
    ),
    "rounding towards zero": Fault(
        FORWARD, 3, "(bits + 0x7fffu + (bits >> 16 & 1u)) >> 16", "bits >> 16", WRONG, (5, 40), bfloat16
    ),
    "ties away from zero": Fault(
        FORWARD, 3, "bits + 0x7fffu + (bits >> 16 & 1u)", "bits + 0x8000u", WRONG, (131, 40), bfloat16
    ),
    "counts of what is not yet rounded": Fault(FORWARD, 3, COUNTED, UNROUNDED, WRONG, (131, 40), np.float16),
    "one of two in a register is lost": Fault(
        FORWARD, 2, "0xffff0000u >> v % 2 * 16", "0xffffu >> v % 2 * 16", WRONG, (5, 40), bfloat16
    ),
    "wrong bit of eight numbers a lane": Fault(
        FORWARD, 2, "(x | x << 7) & 0x01010101u", "(x | x << 6) & 0x01010101u", WRONG, (5, 40), np.float16
    ),
    "sums rounded at every row": Fault(
        BACKWARD,
        3,
        "sum.at[v] += wide(d[a].get(v));",
        "sum.at[v] = wide(narrow<T>(sum.at[v] + wide(d[a].get(v))));",
        WRONG,
        (131, 40),
        bfloat16,
    ),
    "velocity used before it is new": Fault(
        STEP,
        1,
        "v = c[1] * v + g;\n        return x - c[0] * v;",
        "const T w = v;\n        v = c[1] * v + g;\n        return x - c[0] * w;",
        WRONG,
    ),
}


def only(fault):
    """Of the text what the fault is looked for in, because the rest takes time to compile."""

    def cut(source):
        rest = re.sub(r"^(ENTRIES\(residual_relu|RULE\((?!heavy_ball)).*", "", source, flags=re.MULTILINE)
        return cuda_on_cpu.step_only(cuda_on_cpu.type_only(rest, TYPES[np.dtype(fault.dtype).name]), fault.version)

    return cut


def planted(fault):
    cut = only(fault)
    return lambda source: cut(source).replace(fault.old, fault.new)


def run(fault, change, seed):
    with cuda_on_cpu.installed(seed=seed, flavour=cuda_on_cpu.WATCHED_AT_ONCE, multiprocessors=1, change=change) as cupy:
        z = normal(fault.shape, fault.dtype)
        b = normal((*fault.shape[:-2], 1, fault.shape[-1]), fault.dtype, 1)
        if fault.kernel == STEP:
            check_step(cupy, "heavy_ball", fault.shape, np.float32, fault.version)
        elif fault.kernel == BACKWARD:
            check_backward(cupy, z, reference("bias_relu_forward", z, b)[1], fault.version)
        elif fault.kernel == COUNT:
            check_counts(cupy, z, fault.version)
        else:
            check_rectifier(cupy, FORWARD, (z, b), z, z, b, fault.version)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name):
    fault = FAULTS[name]
    assert fault.old in _cuda.source("_rules.h", fault.kernel), "the text has changed: plant this fault anew"
    with pytest.raises((cuda_on_cpu.KernelError, AssertionError), match=fault.said):
        run(fault, planted(fault), seed=4)


@pytest.mark.parametrize("kernel", [FORWARD, BACKWARD, COUNT])
def test_without_a_fault_nothing_is_found_in_16_bits(kernel):
    """Nor any access outside of the shared memory that eight sums a thread need."""
    fault = Fault(kernel, 3, "", "", "", (131, 40), bfloat16)
    run(fault, only(fault), seed=4)


@pytest.mark.long  # by make test in test_cuda_kernels.py alone, on more shapes, and on the whole texts
def test_without_a_fault_nothing_is_found():
    for fault in FAULTS.values():
        run(fault, only(fault), seed=4)


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_in_nearly_any_schedule(name):
    fault, found = FAULTS[name], 0
    for seed in range(16):
        try:
            run(fault, planted(fault), seed)
        except (cuda_on_cpu.KernelError, AssertionError):
            found += 1
    assert found >= 15


def test_the_line_of_a_fault_is_named():
    fault = FAULTS["race on the counts"]
    line = next(
        n for n, text in enumerate((_cuda.HERE / "bias_relu_forward.cu").read_text().splitlines(), 1) if fault.old in text
    )
    with pytest.raises(cuda_on_cpu.KernelError, match=rf"bias_relu_forward\.cu:{line}"):
        run(fault, planted(fault), seed=4)
