"""What `kernels.train_mlp` makes sure of before it trains: a sentence that says what was given, expected, and to be done.

- `check(job, state)`: everything; afterwards the loops trust every array.
- `check_settings(settings)`: the numbers of a replica, for whoever makes a job from them.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ShapeError
from .optimiser_step import RULES

if TYPE_CHECKING:
    from .train_mlp import Job, Net, State

# setting: what is expected of a finite value
BOUNDS = {
    "lr": ("lr > 0", lambda x: x > 0),
    "beta": ("0 <= beta < 1", lambda x: (x >= 0) & (x < 1)),
    "beta2": ("0 <= beta2 < 1", lambda x: (x >= 0) & (x < 1)),
    "eps": ("eps > 0", lambda x: x > 0),
    "gamma": ("gamma > 0", lambda x: x > 0),
    "delta": ("a finite delta", lambda x: x == x),
}


def check(job: Job, state: State) -> None:
    """Raise `TypeError`, `ShapeError` or `ValueError` unless `job` and `state` are as kernels/train_mlp.py says."""
    check_net(job.net)
    if job.rule not in RULES:
        raise ValueError(f"train_mlp knows the rules {', '.join(RULES)}, got {job.rule!r}")
    dtype = _data(job)
    R = len(_array("seeds", job.seeds, np.uint64, (None,)))
    for name in BOUNDS:
        _array(name, getattr(job, name), np.float64, (R,))
    if not R:
        raise ShapeError("train_mlp was given no seeds; expected at least one replica")
    check_settings({name: getattr(job, name) for name in BOUNDS})
    check_batch(job.batch, job.net.batch_norm)
    _steps(job.record_at, state.step)
    shapes = [(R, *shape) for shape in job.net.shapes()]
    norms = [(R, 1, units) for units in job.net.widths for _ in range(2)] if job.net.batch_norm else []
    _arrays("parameters", state.parameters, dtype, shapes)
    _arrays("running", state.running, dtype, norms)
    slots = RULES[job.rule][1]
    if len(state.slots) != len(slots):
        raise ShapeError(f"the rule {job.rule} keeps {len(slots)} lists of arrays in slots, got {len(state.slots)}")
    for name, slot in zip(slots, state.slots, strict=True):
        _arrays(f"slot {name}", slot, dtype, shapes)


def check_net(net: Net) -> None:
    """Raise `ShapeError` unless the net can be built."""
    sizes = (net.inputs, *net.widths)
    if len(sizes) < 2 or min(map(operator.index, sizes)) < 1:
        raise ShapeError(f"a net needs inputs and at least one hidden layer of at least one unit each, got {sizes}")
    if net.residual and len(set(net.widths)) > 1:
        raise ShapeError(f"residual blocks add a layer's input to its output, so all widths must be equal, got {net.widths}")


def check_batch(batch: int, batch_norm: bool) -> None:
    """Raise `ValueError` unless batch >= 1, and batch >= 2 with batch norm. It may be larger than the data: rows repeat."""
    if operator.index(batch) < 1:
        raise ValueError(f"batch is {batch}; expected at least 1")
    if batch_norm and batch < 2:
        raise ValueError("batch norm needs a batch of at least 2 rows to have a variance, got batch 1")


def check_settings(settings: dict[str, np.ndarray]) -> None:
    """Raise `ValueError` for the first value, float64 (R,), that is outside its bounds."""
    for name, values in settings.items():
        said, within = BOUNDS[name]
        wrong = ~(np.isfinite(values) & within(values))
        if wrong.any():
            r = int(wrong.argmax())
            raise ValueError(f"{name} is {values[r]} for replica {r}; expected {said}, finite")


def _data(job: Job) -> np.dtype[Any]:
    dtype = getattr(job.X, "dtype", None)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"X must be a float32 or float64 array, got {type(job.X).__name__} of {dtype}")
    _array("X", job.X, dtype, (None, job.net.inputs))
    _array("y", job.y, np.float64, (len(job.X),))
    _array("X_eval", job.X_eval, dtype, (None, job.net.inputs))
    _array("y_eval", job.y_eval, np.float64, (len(job.X_eval),))
    if not (0 < len(job.X) < 2**32 and len(job.X_eval)):
        raise ShapeError(f"train_mlp needs rows to train on and to measure on, got {len(job.X)} and {len(job.X_eval)}")
    return dtype


def _steps(record_at: Any, step: int) -> None:
    at = _array("record_at", record_at, np.int64, (None,))
    if not len(at) or (np.diff(at) <= 0).any() or not 0 <= step <= at[0] or at[-1] >= 2**32:
        raise ValueError(
            f"record_at must be ascending steps from {step}, the state's, to below 2**32, "
            f"got {np.array2string(at, threshold=8)}"
        )


def _array(name: str, x: Any, dtype: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """`x`, if it is a C-contiguous array of `dtype` and `shape` (None: any length)."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, got {type(x).__name__}")
    fits = x.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, x.shape, strict=True))
    if x.dtype != dtype or not fits or not x.flags.c_contiguous:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        order = "" if x.flags.c_contiguous else ", not C-contiguous"
        raise ShapeError(f"{name} must be {np.dtype(dtype)} {wanted}, C-contiguous, got {x.dtype} {x.shape}{order}")
    return x


def _arrays(name: str, given: Sequence[Any], dtype: Any, shapes: Sequence[tuple[int, ...]]) -> None:
    if len(given) != len(shapes):
        raise ShapeError(f"{name} must be {len(shapes)} arrays, in the order of Net.shapes, got {len(given)}")
    for i, (x, shape) in enumerate(zip(given, shapes, strict=True)):
        if not _array(f"{name}[{i}]", x, dtype, shape).flags.writeable:
            raise ValueError(f"{name}[{i}] is read-only; give a writable array")
