"""CuPy, imported at the first use of a CUDA kernel and not before; how the .cu texts are compiled, cut up and launched.

- `missing()`: why no CUDA kernel can run here, or the empty string.
- `compiled(...)`: the file that NVRTC made of a text for the card that is there.
- `launch(parts, name, ...)`: one launch of an entry of the text `parts` on CuPy's current stream.
- `Shape.of(array)`: how an array (..., B, O) is cut into tasks for the blocks of the third step (see _words.h).
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..files import write_atomically

Array = Any

HERE = Path(__file__).parent

# As _words.h has it: rows of a slab.
ROWS = 128

# Threads of a block, and blocks of the optimisers' grid, which stays on the card, for each of its multiprocessors. Not yet
# measured.
THREADS = 256
BLOCKS = 8

# How the counting kernels are cut into tasks: threads side by side in a row, and blocks for each multiprocessor, so many that
# nearly every task has its own, and the card deals out the next one whenever one ends. Not yet measured.
WIDE = 64
TASKS = 64

# Nothing that changes NaN, infinities or zeros; without contraction the optimisers have NumPy's bits.
OPTIONS = ("--std=c++17", "--fmad=false")
CONTRACTED = ("--std=c++17",)

TYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}


def missing() -> str:
    """Why no CUDA kernel can run here, or the empty string."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed; install minirelu[cuda] (CUDA 13) or minirelu[cuda12]"
    return _unfit(cupy)


@functools.cache
def _unfit(cupy: Any) -> str:
    if not cupy.cuda.is_available():
        return "CuPy is installed but finds no GPU"
    return "" if hasattr(cupy, "RawModule") else "this CuPy has no RawModule, which compiles the kernels"


def source(*parts: str) -> str:
    """The text that is compiled: the common words, then the files `parts` (.cu if they do not say). No kernel includes any."""
    files = ("_words.h", *(p if "." in p else f"{p}.cu" for p in parts))
    return "".join(f'#line 1 "{name}"\n{(HERE / name).read_text()}' for name in files)


def compiled(cupy: Any, text: str, options: tuple[str, ...]) -> Path:
    """The file that NVRTC makes of `text` for the current device, kept beside CuPy's own (CUPY_CACHE_DIR).

    RawModule would compile by itself, but CuPy puts -ftz=true behind whatever options it is given, and the last one holds:
    subnormal float32 numbers would become 0, and units with such a z would count as dead (github.com/cupy/cupy/issues/9576).
    """
    card, version = cupy.cuda.Device().compute_capability, cupy.cuda.nvrtc.getVersion()
    key = hashlib.sha256("\0".join([text, *options, card, *map(str, version)]).encode()).hexdigest()[:32]
    folder = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
    path = folder / f"minirelu-{key}.cubin"
    if not path.exists():
        made, _ = cupy.cuda.compiler.compile_using_nvrtc(text, options, cache_in_memory=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file: file.write(made))
    return path


@functools.cache
def _module(cupy: Any, parts: tuple[str, ...], options: tuple[str, ...], device: int) -> Any:
    return cupy.RawModule(path=str(compiled(cupy, source(*parts), options)))


@functools.cache
def _function(cupy: Any, parts: tuple[str, ...], name: str, options: tuple[str, ...], device: int) -> Any:
    return _module(cupy, parts, options, device).get_function(name)


def launch(
    parts: tuple[str, ...],
    name: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: tuple[Any, ...],
    *,
    shared: int = 0,
    options: tuple[str, ...] = OPTIONS,
) -> None:
    """Run the entry `name` of the text `parts`; integers go as 64 bits."""
    import cupy

    function = _function(cupy, parts, name, options, cupy.cuda.Device().id)
    if shared > function.max_dynamic_shared_size_bytes:
        function.max_dynamic_shared_size_bytes = shared
    function(grid, block, tuple(np.int64(a) if isinstance(a, int) else a for a in arguments), shared_mem=shared)


def attribute(name: str) -> int:
    """A number that describes the current device."""
    import cupy

    return _attribute(cupy, cupy.cuda.Device().id, name)


@functools.cache  # CuPy asks the driver for all of a hundred attributes each time
def _attribute(cupy: Any, device: int, name: str) -> int:
    return cupy.cuda.Device(device).attributes[name]


class Shape(NamedTuple):
    """(R, B, O) of an array and how it is cut: V numbers a thread, the block's threads (x, y), strips and slabs."""

    replicas: int
    rows: int
    units: int
    V: int
    x: int
    y: int

    @classmethod
    def of(cls, array: Array, *others: Array) -> Shape:
        """V is 16 bytes' worth if all rows of all arrays begin at multiples of 16 bytes, else 1."""
        rows, units = array.shape[-2:]
        V = 16 // array.itemsize
        if units % V or any(address(a) % 16 for a in (array, *others)):
            V = 1
        x = min(WIDE, 32 * -(-units // (32 * V)))
        return cls(array.size // (rows * units), rows, units, V, x, THREADS // x)

    @property
    def strips(self) -> int:
        return -(-self.units // (self.V * self.x))

    @property
    def slabs(self) -> int:
        return -(-self.rows // ROWS)

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.replicas, self.rows, self.units

    def entry(self, kernel: str, version: int, dtype: Any) -> str:
        """The name of an entry: relu_backward_3_f32, or relu_backward_3_f32_ragged where V is 1."""
        ragged = "_ragged" if self.V == 1 and version > 1 else ""
        return f"{kernel}_{version}_{TYPES[dtype.name]}{ragged}"

    def blocks(self) -> int:
        """Blocks of the grid: one a task, or each takes one task after another."""
        return min(self.replicas * self.strips * self.slabs, TASKS * attribute("MultiProcessorCount"))

    def scratch(self, xp: Any, dtype: Any) -> tuple[Array, Array]:
        """A line of sums for each slab, and a ticket for each strip; one number each where a slab is all there is."""
        if self.slabs == 1:
            return xp.empty(1, dtype), xp.empty(1, xp.uint32)
        return xp.empty(self.replicas * self.slabs * self.units, dtype), xp.zeros(self.replicas * self.strips, xp.uint32)

    def shared(self, dtype: Any) -> int:
        """Bytes in which a block adds up its rows: V sums of `dtype` a thread."""
        return np.dtype(dtype).itemsize * self.V * self.x * self.y


def spread(count: int) -> tuple[int]:
    """Blocks for `count` threads that then go on from grid to grid."""
    return (min(-(-count // THREADS), 1 << 16),)


def address(array: Array) -> int:
    return array.data.ptr
