"""What a kernel has to do in a benchmark: its arrays, the right answer, and a check that every candidate is put through.

- `make(kernel, shape, dtype, layout)`: a Job on arrays that are `aligned` to 64 bytes (`kernels.empty`), on arrays as
  `np.empty` gives them, or with the first input as its output (`in place`; for `bias_relu_forward` and `relu_backward`).
- `job.check(name, call)`: poisons the outputs, calls, and compares what comes back; raises `AssertionError`.
- `public(job)`: the call of the kernel that does the job.
- `job.bytes`: what must be read and written once, summed from the arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minirelu import kernels
from minirelu.kernels.mask import words

Array = np.ndarray
LAYOUTS = ("aligned", "np.empty", "in place")
POISON = 7
EPS_OF_HALVES = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
PATTERN = 1_000_003  # a prime, so that no two rows are alike

# Operations an element, as in the formulas: additions, comparisons that select or make the bit, comparisons that count.
OPERATIONS = {"bias_relu_forward": 4, "relu_backward": 2, "residual_relu": 5, "count_units": 4}


@dataclass(frozen=True)
class Job:
    """Arrays by their letters (DESIGN §2), the letters that a call returns, in order, and the right answer to each."""

    kernel: str
    arrays: dict[str, Array]  # inputs and given outputs
    returns: tuple[str, ...]
    expected: dict[str, Array]
    source: Array  # what the rulers copy
    target: Array  # and where to
    bound: Array | float = 0.0  # of the error of db; everything else is exact

    @property
    def bytes(self) -> int:
        """Inputs read once, outputs written once; in place the same array counts as both."""
        besides = [array for letter, array in self.expected.items() if letter not in self.arrays]
        return sum(array.nbytes for array in (*self.arrays.values(), *besides))

    @property
    def operations(self) -> int:
        """Arithmetic operations of a call."""
        return OPERATIONS[self.kernel] * self.source.size

    def check(self, name: str, call: Callable[[], Any]) -> None:
        """`call()` returns the arrays of `self.returns`, or the first of them alone, and they are right."""
        for letter in self.returns:
            if letter in self.arrays and self.arrays[letter] is not self.source:
                self.arrays[letter].fill(POISON)
        for letter, found in zip(self.returns, call(), strict=False):
            self._compare(f"{name}: {letter} of {self.kernel}", letter, np.asarray(found))

    def _compare(self, what: str, letter: str, found: Array) -> None:
        right = self.expected[letter]
        if letter == "mask":
            found, right = _bits(found, right.shape[-1]), right.view(np.uint8)
        found = found.reshape(right.shape)
        if letter == "db":
            near = np.abs(found - right) <= self.bound
            assert near.all(), f"{what} is beyond the bound of its rounding error"
        else:
            assert np.array_equal(found, right), f"{what} is wrong"


def _bits(mask: Array, count: int) -> Array:
    """A mask as it comes (bool, 0.0 or 1.0, packed bytes, words) as the bytes of `count` words a row."""
    one_each = mask.dtype == bool or mask.dtype.kind == "f"
    packed = np.packbits(mask != 0, axis=-1, bitorder="little") if one_each else mask.view(np.uint8)
    missing = 4 * count - packed.shape[-1]
    return np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, missing)]) if missing else packed


def make(kernel: str, shape: tuple[int, ...], dtype: str, layout: str) -> Job:
    """The job of `kernel` on normal numbers of `shape` (..., B, O); the same numbers every time."""
    empty = np.empty if layout == "np.empty" else kernels.empty
    return _Maker(shape, number(dtype), empty, layout == "in place").make(kernel)


def number(name: str) -> np.dtype[Any]:
    """The dtype called `name`; "bfloat16" is of the package ml_dtypes, and an `ImportError` without it."""
    if name == "bfloat16":
        import ml_dtypes  # noqa: F401  (NumPy knows the name from now on)
    return np.dtype(name)


@dataclass
class _Maker:
    shape: tuple[int, ...]
    dtype: Any
    empty: Callable[..., Array]
    in_place: bool

    def make(self, kernel: str) -> Job:
        self.rng = np.random.default_rng(0)
        self.target = self.empty(self.shape, self.dtype)
        return getattr(self, kernel)()

    def bias_relu_forward(self) -> Job:
        z, b = self.normal(self.shape), self.bias()
        return self.relu("bias_relu_forward", self.wide(z) + self.wide(b), z=z, b=b)

    def residual_relu(self) -> Job:
        z, skip, b = self.normal(self.shape), self.normal(self.shape), self.bias()
        return self.relu("residual_relu", self.wide(z) + self.wide(skip) + self.wide(b), z=z, skip=skip, b=b)

    def relu_backward(self) -> Job:
        g, active = self.normal(self.shape), self.normal(self.shape) > 0
        dz = np.where(active, g, np.zeros((), self.dtype))
        sums, size = (x.sum(axis=-2, keepdims=True, dtype=np.float64) for x in (self.wide(dz), np.abs(self.wide(dz))))
        expected = {"dz": dz, "db": sums.astype(self.dtype)}
        wide = self.wide(expected["db"])
        bound = (2 * self.shape[-2] * np.finfo(wide.dtype).eps * size).astype(wide.dtype)  # kernels/relu_backward.py
        if self.dtype.itemsize == 2:  # theirs and ours are rounded, each by half an ulp at most
            bound += EPS_OF_HALVES[self.dtype.name] * (np.abs(wide) + bound)
        arrays = {"g": g, "mask": self.fill(_words(active)), "dz": g if self.in_place else self.target}
        return Job("relu_backward", arrays, ("dz", "db"), expected, g, self.target, bound)

    def count_units(self) -> Job:
        y = self.normal(self.shape)
        expected = _counts(y)
        return Job("count_units", {"y": y}, ("active", "nonfinite"), expected, y, self.target)

    def relu(self, kernel: str, s: Array, **inputs: Array) -> Job:
        """The job of a forward kernel with the pre-activation `s`."""
        y = np.maximum(s, 0, out=s).astype(self.dtype, copy=False)
        expected = {"y": y, "mask": _words(y > 0), **_counts(y)}
        z = inputs["z"]
        mask = self.empty(expected["mask"].shape, np.uint32)
        arrays = {**inputs, "y": z if self.in_place else self.target, "mask": mask}
        return Job(kernel, arrays, tuple(expected), expected, z, self.target)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """A million normal numbers, over and over: more of them take longer to draw than to measure with."""
        narrow = self.dtype.itemsize == 2
        drawn = self.rng.standard_normal(PATTERN, np.float32 if narrow else self.dtype)
        return self.fill(np.resize(drawn.astype(self.dtype, copy=False), shape))

    def wide(self, x: Array) -> Array:
        """`x`, in float32 if it is of 16 bits."""
        return x.astype(np.float32) if self.dtype.itemsize == 2 else x

    def bias(self) -> Array:
        """(..., 1, O); zeros in place, so that doing the job again changes nothing."""
        b = self.normal((*self.shape[:-2], 1, self.shape[-1]))
        b *= 0 if self.in_place else 0.1
        return b

    def fill(self, values: Array) -> Array:
        """`values` in an array of this job's layout."""
        array = self.empty(values.shape, values.dtype)
        array[...] = values
        return array


def _words(active: Array) -> Array:
    """bool (..., B, O) -> uint32 (..., B, ceil(O/32)), by NumPy's packbits instead of the project's own."""
    return np.ascontiguousarray(_bits(active, words(active.shape[-1]))).view(np.dtype("<u4"))


def _counts(y: Array) -> dict[str, Array]:
    return {"active": (y > 0).sum(axis=-2), "nonfinite": (~np.isfinite(y)).sum(axis=-2)}


def public(job: Job) -> Callable[[], Any]:
    """The public function, as anybody calls it, into the given arrays."""
    a = job.arrays
    if job.kernel == "bias_relu_forward":
        return lambda: kernels.bias_relu_forward(a["z"], a["b"], out=a["y"], mask=a["mask"])
    if job.kernel == "residual_relu":
        return lambda: kernels.residual_relu(a["z"], a["skip"], a["b"], out=a["y"], mask=a["mask"])
    if job.kernel == "relu_backward":
        return lambda: kernels.relu_backward(a["g"], a["mask"], out=a["dz"])
    return lambda: kernels.count_units(a["y"])
