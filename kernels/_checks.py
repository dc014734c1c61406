"""What the kernels make sure of before anything is written: a sentence that says what was given, expected, and to be done.

Each function returns the arrays as the loops want them: NumPy or CuPy, C-contiguous, with the leading axes of the first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import array_module, module_name
from ..errors import ShapeError
from . import _cuda
from .mask import words
from .narrow import is_narrow
from .optimiser_step import RULES

Array = Any

_F32, _F64, _U32 = (np.dtype(t) for t in (np.float32, np.float64, np.uint32))
_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's numbers


def forward(
    z: Any, b: Any, others: tuple[Any, ...], out: Any, mask: Any
) -> tuple[Array, tuple[Array, ...], Array | None, Array | None]:
    """z, (b, *others), out and mask of `bias_relu_forward`, or of `residual_relu` with skip among the others, b or None."""
    # the arrays as given, before any copy: an output may not overlap these either
    before = [array("z", z), *(array("skip", other) for other in others)]
    z = given("z", before[0])
    like = tuple(_same_shape("skip", given("skip", other), "z", z) for other in before[1:])
    if b is None:
        b = no_bias(z)
    else:
        before.append(array("b", b))
        b = _fit_bias(before[-1], z)
    out = output("out", out, z.shape, z.dtype, z, b, *like, *before)
    mask = output("mask", mask, (*z.shape[:-1], words(z.shape[-1])), _U32, None, z, b, *like, *before, out)
    return z, (b, *like), out, mask


def no_bias(z: Array) -> Array:
    """A bias for z (..., B, O) that changes nothing: adding +0 changes no sum's relu."""
    return array_module(z).zeros((*z.shape[:-2], 1, z.shape[-1]), z.dtype)


def backward(g: Any, mask: Any, out: Any) -> tuple[Array, Array, Array | None]:
    """g, mask and out of `relu_backward`."""
    before = array("g", g), array("mask", mask)
    g = given("g", before[0])
    mask = _fit_mask(before[1], g)
    return g, mask, output("out", out, g.shape, g.dtype, g, mask, *before)


def step(
    rule: str, x: Any, g: Any, coefficients: Any, state: Sequence[Any], out: Any
) -> tuple[Array, Array, Array, tuple[Array, ...], Array | None]:
    """x, g, the coefficients as one array (n, 1) or (n, R), the state and out of `optimiser_step`."""
    if rule not in RULES:
        raise ValueError(f"optimiser_step knows {', '.join(RULES)}, got {rule!r}")
    names, slots = RULES[rule]
    if len(coefficients) != len(names) or len(state) != len(slots):
        raise ValueError(
            f"the rule {rule} takes {len(names)} coefficients ({', '.join(names)}) and {len(slots)} state arrays "
            f"({', '.join(slots) or 'none'}), got {len(coefficients)} and {len(state)}"
        )
    # as in `forward`: what is written may not overlap an input as it was given
    before = array("x", x), array("g", g)
    slots_before = [array(name, slot) for name, slot in zip(slots, state, strict=True)]
    x = given("x", before[0], axes=0, narrow=False)
    g = _same_shape("g", given("g", before[1], axes=0, narrow=False), "x", x)
    xp = array_module(x, g)
    columns = np.broadcast_arrays(*(np.asarray(c, np.float64).reshape(-1) for c in coefficients))
    per = columns[0].size
    if per != 1 and (x.ndim < 3 or x.shape[0] != per):
        raise ShapeError(f"{per} values of each coefficient need x of shape ({per}, I, O), got {x.shape}")
    new = output("out", out, x.shape, x.dtype, None, x, g, *before, *slots_before)
    kept: list[Array] = []
    for name, slot in zip(slots, slots_before, strict=True):
        kept.append(output(name, slot, x.shape, x.dtype, None, x, g, *before, *kept))
    return x, g, xp.asarray(np.stack(columns), x.dtype), tuple(kept), new


# ------------------------------------------------------------------------------------------------------- one array


def array(name: str, x: Any) -> Array:
    """`x` as a NumPy or CuPy array over the same memory.

    Raises `TypeError` if it is neither and offers neither DLPack nor `__array_interface__` nor `__cuda_array_interface__`,
    if it lies on a GPU that CuPy does not find, or is of a type that NumPy or CuPy does not know.
    """
    if isinstance(x, np.ndarray) or module_name(x) == "cupy":
        return x
    if hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__"):
        xp = np if x.__dlpack_device__()[0] == 1 else _on_device(name, x)
        try:
            return xp.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError) as error:
            raise TypeError(f"{name} is a {type(x).__name__} that gives no array by DLPack: {error}") from error
    if hasattr(x, "__array_interface__") and not isinstance(x, np.generic):
        return np.asarray(x)
    if hasattr(x, "__cuda_array_interface__"):
        return _on_device(name, x).asarray(x)
    raise TypeError(
        f"{name} must be a NumPy or CuPy array, or anything on the CPU with DLPack or __array_interface__, "
        f"got {type(x).__name__}"
    )


def _on_device(name: str, x: Any) -> Any:
    """CuPy, for a tensor on a GPU."""
    kind = x.__dlpack_device__()[0] if hasattr(x, "__dlpack_device__") else _CUDA
    reason = _cuda.missing() if kind in (_CUDA, _CUDA_MANAGED) else "only CUDA devices are known"
    if reason:
        raise TypeError(f"{name} is a {type(x).__name__} on a device; the host's kernels need it on the CPU ({reason})")
    return sys.modules["cupy"]


def given(name: str, x: Any, axes: int = 2, narrow: bool = True) -> Array:
    """The input `x`, which must be floating with at least `axes` axes; C-contiguous (a copy if it is not).

    `narrow`: whether it may be of 16 bits.
    """
    x = array(name, x)
    if x.dtype not in (_F32, _F64) and not (narrow and is_narrow(x.dtype)):
        types = "float32 or float64" + (", float16 or bfloat16" if narrow else "")
        raise TypeError(f"{name} must be {types}, got {x.dtype}; convert it with astype")
    if x.ndim < axes:
        raise ShapeError(f"{name} must be (..., B, O) with at least two axes, got shape {x.shape}")
    return _contiguous(x)


def output(name: str, out: Any, shape: tuple[int, ...], dtype: Any, same: Array | None, *others: Any) -> Array | None:
    """`out` (or None), if writing it touches no input: it may coincide with `same`, and not overlap the `others`."""
    if out is None:
        return None
    out = array(name, out)
    array_module(out, *(x for x in (same, *others) if x is not None))
    if out.shape != shape or out.dtype != dtype:
        raise ShapeError(f"{name} must be {dtype} {shape}, got {out.dtype} {out.shape}")
    if not out.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous; give a fresh array or leave {name} out")
    if isinstance(out, np.ndarray):
        if not out.flags.writeable:
            raise ValueError(f"{name} is read-only; give a writable array or leave {name} out")
        if same is not None and (out is same or _place(out) == _place(same)):
            inputs = [x for x in others if x is not None and _place(x) != _place(same)]
        else:
            inputs = [x for x in (same, *others) if x is not None]
        if any(np.may_share_memory(out, x) for x in inputs):
            raise ValueError(
                f"{name} overlaps an input or another output; give {name} memory of its own"
                + ("" if same is None else ", or exactly the first input's to work in place")
            )
    return out


def _same_shape(name: str, x: Array, other: str, like: Array) -> Array:
    array_module(x, like)
    if x.shape != like.shape or x.dtype != like.dtype:
        raise ShapeError(f"{other} is {like.dtype} {like.shape}, so {name} must be the same, got {x.dtype} {x.shape}")
    return x


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


def _fit_mask(mask: Array, g: Array) -> Array:
    """`mask`, C-contiguous, if it belongs to `g`."""
    array_module(g, mask)
    shape = (*g.shape[:-1], words(g.shape[-1]))
    if mask.dtype != _U32 or mask.shape != shape:
        raise ShapeError(f"g is {g.shape}, so mask must be uint32 {shape}, got {mask.dtype} {mask.shape}")
    return _contiguous(mask)


def _place(x: np.ndarray) -> tuple[Any, ...]:
    return x.__array_interface__["data"], x.shape, x.strides


def _contiguous(x: Array) -> Array:
    return x if x.flags.c_contiguous else array_module(x).ascontiguousarray(x)
