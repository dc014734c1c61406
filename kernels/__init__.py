"""The fused kernels: raw arrays in, raw arrays out; nothing here knows of autograd.

    y, mask, active, nonfinite = bias_relu_forward(z, b, *, out=None, mask=None)
    dz, db = relu_backward(g, mask, *, out=None)
    active, nonfinite = count_units(y)

    z, y, g, dz (..., B, O)   b, db (..., 1, O)   counts int64 (..., O)   mask uint32 (..., B, ceil(O/32)), see mask.py

One file a kernel: formula, NumPy reference, Numba. This file alone decides which of them runs: by the type of the
array, then by its size. `using("reference" | "numba" | "cuda")` and the variable MINIRELU_KERNELS override it; a backend
that is asked for by name never falls back. Inputs may be non-contiguous (they are copied once); `out=z` and `out=g` work
in place; any other overlap, a read-only or a wrongly shaped output is refused before anything is written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import array_module, module_name
from ..errors import BackendUnavailableError, ShapeError
from . import _jit
from . import bias_relu_forward as _bias_relu_forward
from . import count_units as _count_units
from . import relu_backward as _relu_backward
from .mask import words

Array = Any

BACKENDS = ("reference", "numba", "cuda")
KERNELS: dict[str, ModuleType] = {
    "bias_relu_forward": _bias_relu_forward,
    "relu_backward": _relu_backward,
    "count_units": _count_units,
}

_NO_CUDA = "this version has no CUDA kernels yet; CuPy arrays run the reference on the GPU"
_DEFAULT = os.environ.get("MINIRELU_KERNELS", "auto")
_choice: ContextVar[str] = ContextVar("minirelu_kernels", default=_DEFAULT)
_F32, _F64, _U32, _I64 = (np.dtype(t) for t in (np.float32, np.float64, np.uint32, np.int64))


# ------------------------------------------------------------------------------------------------------- dispatch


def available() -> dict[str, dict[str, str]]:
    """{kernel: {backend: "ok" or the reason why it cannot run here}}."""
    why = {"reference": "", "numba": _jit.missing(), "cuda": _NO_CUDA}
    return {kernel: {backend: why[backend] or "ok" for backend in BACKENDS} for kernel in KERNELS}


@contextmanager
def using(backend: str) -> Iterator[None]:
    """Inside this context every kernel runs on `backend`: "reference", "numba", "cuda", or "auto" for the default.

    Raises `BackendUnavailableError` at once where that backend cannot run.
    """
    _check_backend(backend, "kernels.using")
    token = _choice.set(backend)
    try:
        yield
    finally:
        _choice.reset(token)


def warm_up(dtype: Any = np.float32) -> float:
    """Compile what nets of `dtype` use, with and without replicas, small and large; returns the seconds it took."""
    start = time.perf_counter()
    for rows in (1, _jit.PARALLEL_FROM):  # one size below and one above the one where the threads come in
        for shape in ((rows, 1), (1, rows, 1)):
            z = np.zeros(shape, dtype)
            y, mask, _, _ = bias_relu_forward(z, np.zeros((1, 1), dtype), out=z)
            relu_backward(y, mask, out=y)
            count_units(y)
    return time.perf_counter() - start


def _check_backend(backend: str, asker: str) -> None:
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"{asker} was given {backend!r}; expected one of auto, {', '.join(BACKENDS)}")
    reason = _jit.missing() if backend == "numba" else _NO_CUDA if backend == "cuda" else ""
    if reason:
        raise BackendUnavailableError(f"{asker} asked for the {backend} kernels: {reason}")


def _backend(array: Array) -> str:
    """The backend that runs for `array`."""
    choice = _choice.get()
    if type(array) is np.ndarray:
        if choice == "auto":
            return "reference" if _jit.missing() else "numba"
        _check_backend(choice, "the variable MINIRELU_KERNELS")  # using() has checked its own
        return choice
    if choice == "numba":
        raise BackendUnavailableError("the numba kernels run on NumPy arrays, got a CuPy array; use to_host or auto")
    return "reference"


def _run(kernel: str, *arrays: Array) -> None:
    """Fill the outputs among `arrays`; all are C-contiguous and have the same leading axes.

    The first array is the input, the third may be the same array again, to work in place.
    """
    first = arrays[0]
    size, choice = first.size, _choice.get()
    if choice != "auto" or type(first) is not np.ndarray or _jit.missing():
        choice = _backend(first)  # the rare cases
    if size == 0 or choice == "reference":
        KERNELS[kernel].reference(*arrays)
        return
    in_place = arrays[2] is first
    if first.ndim > 3:  # one compilation for (B, O) and one for (R, B, O) are enough
        lead = first.ndim - 2
        arrays = tuple(a.reshape(-1, *a.shape[lead:]) for a in arrays)
    _jit.compiled(KERNELS[kernel].numba, size >= _jit.PARALLEL_FROM, in_place)(*arrays)


# -------------------------------------------------------------------------------------------------------- kernels


def bias_relu_forward(
    z: Array, b: Array, *, out: Array | None = None, mask: Array | None = None, checked: bool = False
) -> tuple[Array, Array, Array, Array]:
    """y = relu(z + b), its packed mask, and per unit the number of rows that are active and non-finite.

    `out` and `mask` take arrays to write to; `out=z` works in place. Raises `ShapeError`, `TypeError` or `ValueError`
    before anything is written. `checked=True` says that the caller has made sure of all that, and that z and b are
    C-contiguous with equal leading axes. Formula, bytes and special values: kernels/bias_relu_forward.py.
    """
    if not checked:
        given = z, b
        z, b = _check_input("z", z), _fit_bias(b, z)
        out = _check_output("out", out, z.shape, z.dtype, z, b, *given)
        mask = _check_output("mask", mask, (*z.shape[:-1], words(z.shape[-1])), _U32, None, z, b, out)
    xp = np if type(z) is np.ndarray else array_module(z, b)
    shape = z.shape
    y = xp.empty(shape, z.dtype) if out is None else out
    if mask is None:
        mask = xp.empty((*shape[:-1], words(shape[-1])), _U32)
    counts = (*shape[:-2], shape[-1])
    active, nonfinite = xp.empty(counts, _I64), xp.empty(counts, _I64)
    _run("bias_relu_forward", z, b, y, mask, active, nonfinite)
    return y, mask, active, nonfinite


def relu_backward(g: Array, mask: Array, *, out: Array | None = None, checked: bool = False) -> tuple[Array, Array]:
    """dz = g where the mask's bit is set, else 0, and db = Σ_rows dz.

    `out` takes an array to write dz to; `out=g` works in place. Raises `ShapeError`, `TypeError` or `ValueError`
    before anything is written; `checked=True` as in `bias_relu_forward`. Formula, bytes and the bound of db:
    kernels/relu_backward.py.
    """
    if not checked:
        given = g, mask
        g, mask = _check_input("g", g), _check_mask(mask, g)
        out = _check_output("out", out, g.shape, g.dtype, g, mask, *given)
    xp = np if type(g) is np.ndarray else array_module(g, mask)
    shape = g.shape
    dz = xp.empty(shape, g.dtype) if out is None else out
    db = xp.empty((*shape[:-2], 1, shape[-1]), g.dtype)
    _run("relu_backward", g, mask, dz, db)
    return dz, db


def count_units(y: Array) -> tuple[Array, Array]:
    """Per unit of y (..., B, O): the number of rows with y > 0, and the number with y infinite or NaN."""
    y = _check_input("y", y)
    xp = array_module(y)
    counts = (*y.shape[:-2], y.shape[-1])
    active, nonfinite = xp.empty(counts, _I64), xp.empty(counts, _I64)
    _run("count_units", y, active, nonfinite)
    return active, nonfinite


# --------------------------------------------------------------------------------------------------------- checks


def _check_input(name: str, array: Array) -> Array:
    """`array`, which must be floating and (..., B, O), C-contiguous (a copy if it is not)."""
    if not isinstance(array, np.ndarray) and module_name(array) != "cupy":
        raise TypeError(f"{name} must be a NumPy or CuPy array, got {type(array).__name__}")
    if array.dtype not in (_F32, _F64):
        raise TypeError(f"{name} must be float32 or float64, got {array.dtype}; convert it with astype")
    if array.ndim < 2:
        raise ShapeError(f"{name} must be (..., B, O) with at least two axes, got shape {array.shape}")
    return _contiguous(array)


def _fit_bias(b: Array, z: Array) -> Array:
    """`b` with the leading axes of `z` and C-contiguous, if its dtype and shape allow it."""
    if b.dtype != z.dtype:
        raise TypeError(f"z is {z.dtype} and b is {b.dtype}; give both one dtype")
    leading, shape = b.shape[:-2], z.shape
    fits = len(leading) <= len(shape) - 2 and all(
        n in (1, m) for n, m in zip(reversed(leading), reversed(shape[:-2]), strict=False)
    )
    if b.shape[-2:] != (1, shape[-1]) or not fits:
        raise ShapeError(f"z is (..., B, O) = {shape}, so b must be (..., 1, O) = (1, {shape[-1]}), got {b.shape}")
    return _contiguous(array_module(b, z).broadcast_to(b, (*shape[:-2], 1, shape[-1])))


def _check_mask(mask: Array, g: Array) -> Array:
    """`mask`, C-contiguous, if it belongs to `g`."""
    array_module(g, mask)
    shape = (*g.shape[:-1], words(g.shape[-1]))
    if mask.dtype != _U32 or mask.shape != shape:
        raise ShapeError(f"g is {g.shape}, so mask must be uint32 {shape}, got {mask.dtype} {mask.shape}")
    return _contiguous(mask)


def _check_output(name: str, output: Array, shape: tuple[int, ...], dtype: Any, same: Array, *others: Array) -> Array:
    """`output` (or None), if writing it touches no input: it may coincide with `same`, and not overlap the `others`."""
    if output is None:
        return None
    array_module(output, *(array for array in (same, *others) if array is not None))
    if output.shape != shape or output.dtype != dtype:
        raise ShapeError(f"{name} must be {dtype} {shape}, got {output.dtype} {output.shape}")
    flags = output.flags
    if not flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous; give a fresh array or leave {name} out")
    if isinstance(output, np.ndarray):
        if not flags.writeable:
            raise ValueError(f"{name} is read-only; give a writable array or leave {name} out")
        if same is not None and (output is same or _place(output) == _place(same)):
            output, inputs = same, tuple(array for array in others if array is not same)
        else:
            inputs = others if same is None else (same, *others)
        if any(array is not None and np.may_share_memory(output, array) for array in inputs):
            raise ValueError(
                f"{name} overlaps an input or another output; give {name} memory of its own"
                + ("" if same is None else ", or exactly the first input's to work in place")
            )
    return output


def _place(array: np.ndarray) -> tuple[Any, ...]:
    return array.__array_interface__["data"], array.shape, array.strides


def _contiguous(array: Array) -> Array:
    return array if array.flags.c_contiguous else array_module(array).ascontiguousarray(array)
