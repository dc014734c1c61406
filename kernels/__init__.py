"""The fused kernels: raw arrays in, raw arrays out; nothing here knows of autograd.

    y, mask, active, nonfinite = bias_relu_forward(z, b, *, out=None, mask=None)
    y, mask, active, nonfinite = residual_relu(z, skip, b=None, *, out=None, mask=None)
    dz, db = relu_backward(g, mask, *, out=None)
    active, nonfinite = count_units(y)
    new = optimiser_step(rule, x, g, coefficients, *state, out=None)
    records = train_mlp(job, state, *, backend=None, on_progress=…)   a whole training run; job and state: train_mlp.py
    array = empty(shape, dtype)                                      aligned to 64 bytes, from memory that is used again

    z, skip, y, g, dz (..., B, O)   b, db (..., 1, O)   counts int64 (..., O)   mask uint32 (..., B, ceil(O/32)), see mask.py
    float32 or float64; the first four also float16 and bfloat16, on CuPy arrays and by the reference (narrow.py)

One file a kernel: formula, NumPy reference, Numba, CUDA (its text in the .cu beside it). This file alone decides which of
them runs: by the type of the array, then by its size. `using("reference" | "numba" | "cuda")` and the variable
MINIRELU_KERNELS override it; a backend that is asked for by name never falls back. Inputs may be non-contiguous (they are
copied once), and anything with DLPack, `__array_interface__` or `__cuda_array_interface__` (tensors of PyTorch, arrays of
JAX), whose memory is used as it is; `out=z` and `out=g` work in place; any other overlap, a read-only or a wrongly shaped
output is refused before anything is written.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..backend import array_module
from ..errors import BackendUnavailableError
from . import _checks as checks
from . import _cuda, _jit
from . import _train_mlp_checks as training_checks
from . import small_affine as _small_affine
from . import train_mlp as _train_mlp
from ._pool import POOLED_FROM as POOLED_FROM
from ._pool import borrow as _borrow
from ._pool import empty as empty
from ._pool import hand_back as _hand_back
from ._pool import owns as owns
from ._table import KERNELS
from ._warm_up import warm_up as warm_up
from .mask import BITS

Array = Any


BACKENDS = ("reference", "numba", "cuda")
_COMPILED = ("auto", "numba")  # the choices that run compiled loops on NumPy arrays, once they are ready
_DEFAULT = os.environ.get("MINIRELU_KERNELS", "auto")
_choice: ContextVar[str] = ContextVar("minirelu_kernels", default=_DEFAULT)
_U32, _I64 = np.dtype(np.uint32), np.dtype(np.int64)
_ndarray, _empty = np.ndarray, np.empty
_ready: dict[str, Any] = {}  # kernel -> its compiled loops, from the first use on
_streaming: dict[str, Any] = {}  # the same for large results that pass the cache by
# the loops of both that know some types by now; those for large results only check what they are given
_checked: dict[str, _jit.Ready] = {}
_checked_large: dict[str, _jit.Ready] = {}
_NO_MASK = {2: np.empty((0, 0), np.uint32), 3: np.empty((0, 0, 0), np.uint32)}
_NO_COUNTS = {2: np.empty(0, np.int64), 3: np.empty((0, 0), np.int64)}  # by the axes of z
# the scratch of a call that needs none, by the bytes of its numbers
_NOTHING = {1: np.empty((0, 0), np.uint8), 4: np.empty((0, 0), np.float32), 8: np.empty((0, 0), np.float64)}


# ------------------------------------------------------------------------------------------------------- dispatch


def available() -> dict[str, dict[str, str]]:
    """{kernel: {backend: "ok" or the reason why it cannot run here}}."""
    why = {"reference": "", "numba": _jit.missing(), "cuda": _cuda.missing()}
    table = {kernel: {backend: why[backend] or "ok" for backend in BACKENDS} for kernel in (*KERNELS, "train_mlp")}
    for kernel, made in KERNELS.items():
        if made.cuda is None:
            table[kernel]["cuda"] = "small layers run on the CPU only; CuPy arrays take the kernels for all sizes"
    return table


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


def _check_backend(backend: str, asker: str) -> None:
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"{asker} was given {backend!r}; expected one of auto, {', '.join(BACKENDS)}")
    reason = _jit.missing() if backend == "numba" else _cuda.missing() if backend == "cuda" else ""
    if reason:
        raise BackendUnavailableError(f"{asker} asked for the {backend} kernels: {reason}")


def _backend(array: Array) -> str:
    """The backend that runs for `array`."""
    choice = _choice.get()
    if type(array) is np.ndarray:
        if choice == "auto":
            return "reference" if _jit.missing() else "numba"
        _check_backend(choice, "the variable MINIRELU_KERNELS")  # using() has checked its own
        if choice == "cuda":
            raise BackendUnavailableError("the cuda kernels run on CuPy arrays, got a NumPy array; use to_device or auto")
        return choice
    if choice == "numba":
        raise BackendUnavailableError("the numba kernels run on NumPy arrays, got a CuPy array; use to_host or auto")
    return "reference" if choice == "reference" or _cuda.missing() else "cuda"


def _quick(x: Array) -> bool:
    """Whether compiled loops that are ready may have `x` as it is, on this thread alone."""
    return type(x) is _ndarray and 0 < x.size < _jit.PARALLEL_FROM and 1 < x.ndim < 4 and _choice.get() in _COMPILED


def _run(kernel: str, *arrays: Array) -> Any:
    """Fill the outputs among `arrays`; all are C-contiguous and have the same leading axes; the first is the input.

    Returns what the loops return on one thread, or what the reference returns.
    """
    first = arrays[0]
    loops = _ready.get(kernel)
    if loops is not None and _quick(first):
        return loops(*arrays, _NOTHING[first.itemsize if kernel == "relu_backward" else 1], -1, -1)
    if (backend := _backend(first)) == "reference" or first.size == 0:
        with np.errstate(all="ignore"):
            return KERNELS[kernel].reference(*arrays)
    launch = KERNELS[kernel].cuda
    if backend == "cuda" and launch is not None:  # no CuPy array is ever given to a kernel without
        return launch(*arrays)
    return _run_compiled(kernel, arrays)


def _run_checked(kernel: str, *arrays: Any) -> None:
    """`_run` for arrays that have gone through the checks, among which may be 16-bit ones."""
    first = arrays[0]
    if first.itemsize > 2:
        _run(kernel, *arrays)
        _learn(kernel)
        return
    if type(first) is np.ndarray and _choice.get() == "numba":
        raise BackendUnavailableError(
            f"the numba kernels take float32 and float64, got {first.dtype}; convert it with astype, or use the reference"
        )
    launch = KERNELS[kernel].cuda
    if _backend(first) == "cuda" and first.size and launch is not None:
        launch(*arrays)
        return
    with np.errstate(all="ignore"):
        KERNELS[kernel].reference(*arrays)


def _learn(kernel: str) -> None:
    """From now on the quick way takes arrays of the types that the kernel has just run on."""
    plain, streaming = _ready.get(kernel), _streaming.get(kernel)
    for known, loops in ((_checked, (plain,)), (_checked_large, (plain, streaming))):
        there = [own for own in loops if own is not None and own.overloads]
        if there and (kernel not in known or len(known[kernel].loops) < len(there)):
            known[kernel] = _jit.Ready(*there)
        elif there:
            known[kernel].learn()


def _run_compiled(kernel: str, arrays: tuple[Array, ...]) -> Any:
    made, lead = KERNELS[kernel], arrays[0].ndim - 2
    if lead > 1:  # one compilation for (B, O) and one for (R, B, O) are enough
        arrays = tuple(a.reshape(-1, *a.shape[lead:]) for a in arrays)
    first = arrays[0]
    loops = _ready.setdefault(kernel, _jit.compiled(made.numba))
    if first.size < _jit.PARALLEL_FROM:
        return loops(*arrays, np.empty((0, 0), made.scratch(first)[2]), -1, -1)
    if made.streams and _streams(first, arrays[2]):
        loops = _streaming.setdefault(kernel, _jit.compiled(made.numba, streaming=True))
    _share(kernel, loops, arrays)
    return None


def _streams(first: np.ndarray, output: np.ndarray) -> bool:
    from . import _fits  # which imports Numba

    start, source = (x.__array_interface__["data"][0] for x in (output, first))
    row = output.shape[-1] * output.itemsize
    return _fits.past_the_cache.py_func(output.nbytes, row, start, source, _jit.STREAM_FROM)


def _share(kernel: str, loops: Any, arrays: tuple[Array, ...]) -> None:
    """Run the loops on several threads, with scratch for their tasks."""
    tasks, columns, dtype = KERNELS[kernel].scratch(arrays[0])
    memory = _borrow(tasks * columns * dtype.itemsize)
    _jit.spread(loops, arrays, _ndarray((tasks, columns), dtype, memory), tasks)
    _hand_back(memory)


# -------------------------------------------------------------------------------------------------------- kernels


def bias_relu_forward(
    z: Array, b: Array, *, out: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """y = relu(z + b), its packed mask, and per unit the number of rows that are active and non-finite.

    `out` and `mask` take arrays to write to; `out=z` works in place. Raises `ShapeError`, `TypeError` or `ValueError`
    before anything is written. Formula, bytes and special values: kernels/bias_relu_forward.py.
    """
    return _forward("bias_relu_forward", z, b, z, out, mask)


def residual_relu(
    z: Array, skip: Array, b: Array | None = None, *, out: Array | None = None, mask: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """y = relu(z + skip + b), its packed mask, and counts per unit; without b it is relu(z + skip).

    skip has the shape of z. Outputs and errors as in `bias_relu_forward`. Backward is `relu_backward`: dz is the gradient of
    z and of skip. Formula, bytes and special values: kernels/residual_relu.py.
    """
    if b is None and _quick(z):
        b = checks.no_bias(z)
    return _forward("residual_relu", z, b, skip, out, mask)


def _forward(
    kernel: str, z: Array, b: Array | None, skip: Array, out: Array | None, mask: Array | None
) -> tuple[Array, Array, Array, Array]:
    """The quick way for NumPy arrays that are right as they are, which the loops find out; otherwise the long way."""
    if type(z) is type(b) is _ndarray and 1 < z.ndim < 4 and _choice.get() in _COMPILED:
        shape = z.shape
        y = _empty(shape, z.dtype) if out is None else out
        packed = _empty(shape[:-1] + (-(-shape[-1] // BITS),), _U32) if mask is None else mask  # noqa: RUF005 (quicker)
        counts = shape[1:] if len(shape) == 2 else shape[::2]  # (O,) or (R, O)
        active, nonfinite = _empty(counts, _I64), _empty(counts, _I64)
        small = z.size < _jit.PARALLEL_FROM
        try:
            call = (_checked if small else _checked_large)[kernel].call
            said = call(z, b, y, packed, active, nonfinite, skip, _NOTHING[1], -2 if small else -3, _jit.STREAM_FROM)
            loops = None if small else (_streaming if said else _ready)[kernel]
        except (KeyError, TypeError):  # not compiled yet, or not for such arrays; nothing has been written
            said = -1
        if said >= 0:
            if loops is not None:
                _share(kernel, loops, (z, b, y, packed, active, nonfinite, skip))
            return y, packed, active, nonfinite
    residual = kernel == "residual_relu"
    z, (b, *skips), out, mask = checks.forward(z, b, (skip,) if residual else (), out, mask)
    skip = skips[0] if residual else z
    empty, shape = array_module(z, b, skip).empty, z.shape
    y = empty(shape, z.dtype) if out is None else out
    packed = empty((*shape[:-1], -(-shape[-1] // BITS)), _U32) if mask is None else mask
    active, nonfinite = (empty((*shape[:-2], shape[-1]), _I64) for _ in range(2))
    _run_checked(kernel, z, b, y, packed, active, nonfinite, skip)
    return y, packed, active, nonfinite


def rectify(z: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """`bias_relu_forward(z, b, out=z)` for a caller who has made sure of everything, as layers do: z and b are writable,
    C-contiguous, of one dtype and with equal leading axes.

    Where nothing is non-finite, that count is `no_rows` of its shape: read-only, and the same array each time, so that a
    monitor need not add it up.
    """
    loops = _ready.get("bias_relu_forward")
    if loops is None or not _quick(z):
        return _forward("bias_relu_forward", z, b, z, z, None)
    shape = z.shape
    units = shape[-1]
    mask = _empty((*shape[:-1], -(-units // BITS)), _U32)
    active = _empty((*shape[:-2], units), _I64)
    met = loops(z, b, z, mask, active, _NO_COUNTS[z.ndim], z, _NOTHING[1], -1, -1)
    return z, mask, active, count_units(z)[1] if met else no_rows(active.shape)


def small_affine(x: Array, W: Array, b: Array, rectified: bool) -> tuple[Array, Array, Array | None, Array | None]:
    """xW + b of a small layer, or relu of it: y, mask (empty without a ReLU), and the counts of `rectify`.

    x, W and b are what `small_layer` gave.
    """
    rows, units = x.shape[:-1], W.shape[-1]
    y = _empty((*rows, units), x.dtype)
    if not rectified:
        mask = _NO_MASK[x.ndim]
        _run("small_affine", x, W, b, y, mask, _NO_COUNTS[x.ndim])
        return y, mask, None, None
    mask = _empty((*rows, -(-units // BITS)), _U32)
    active = _empty((*rows[:-1], units), _I64)
    met = _run("small_affine", x, W, b, y, mask, active)
    return y, mask, active, no_rows(active.shape) if met is False else count_units(y)[1]


def small_affine_backward(g: Array, mask: Array, x: Array, W: Array, with_dx: bool) -> tuple[Array | None, Array, Array]:
    """dx (None unless `with_dx`), dW and db of `small_affine`; g, which must be C-contiguous, is overwritten with dz."""
    shape = W.shape
    db, dW = _empty((*shape[:-2], 1, shape[-1]), g.dtype), _empty(shape, g.dtype)
    dx = _empty(x.shape, g.dtype) if with_dx else None
    _run("small_affine_backward", g, mask, x, W, db, dW, x[:0] if dx is None else dx)
    return dx, dW, db


def small_layer(x: Array, W: Array, b: Array) -> tuple[Array, Array, Array] | None:
    """x, W and b as `small_affine` takes them, or None where the layer is not small (`taken` in kernels/small_affine.py)
    or loops are not compiled: for the reference several calls of NumPy are as good.
    """
    if _choice.get() not in _COMPILED or _jit.missing():
        return None
    return _small_affine.taken(x, W, b)


@functools.lru_cache(maxsize=256)
def no_rows(shape: tuple[int, ...]) -> np.ndarray:
    """Counts of a finite layer's non-finite rows: zeros of `shape`, read-only, one array for each shape."""
    zeros = np.zeros(shape, np.int64)
    zeros.flags.writeable = False
    return zeros


def relu_backward(g: Array, mask: Array, *, out: Array | None = None) -> tuple[Array, Array]:
    """dz = g where the mask's bit is set, else 0, and db = Σ_rows dz.

    `out` takes an array to write dz to; `out=g` works in place. Raises `ShapeError`, `TypeError` or `ValueError`
    before anything is written. Formula, bytes and the bound of db: kernels/relu_backward.py.
    """
    if type(g) is _ndarray and 1 < g.ndim < 4 and _choice.get() in _COMPILED:
        shape = g.shape
        dz = _empty(shape, g.dtype) if out is None else out
        db = _empty((1, shape[1]) if len(shape) == 2 else (shape[0], 1, shape[2]), g.dtype)
        small = g.size < _jit.PARALLEL_FROM
        try:
            call = (_checked if small else _checked_large)["relu_backward"].call
            said = call(g, mask, dz, db, _NOTHING.get(g.itemsize), -2 if small else -3, _jit.STREAM_FROM)
            loops = None if small else (_streaming if said else _ready)["relu_backward"]
        except (KeyError, TypeError):  # as in `_forward`
            said = -1
        if said >= 0:
            if loops is not None:
                _share("relu_backward", loops, (g, mask, dz, db))
            return dz, db
    g, mask, out = checks.backward(g, mask, out)
    empty, shape = array_module(g, mask).empty, g.shape
    dz = empty(shape, g.dtype) if out is None else out
    db = empty((*shape[:-2], 1, shape[-1]), g.dtype)
    _run_checked("relu_backward", g, mask, dz, db)
    return dz, db


def count_units(y: Array) -> tuple[Array, Array]:
    """Per unit of y (..., B, O): the number of rows with y > 0, and the number with y infinite or NaN."""
    if type(y) is _ndarray and 1 < y.ndim < 4 and 0 < y.size < _jit.PARALLEL_FROM and _choice.get() in _COMPILED:
        shape = y.shape
        counts = shape[1:] if len(shape) == 2 else shape[::2]
        active, nonfinite = _empty(counts, _I64), _empty(counts, _I64)
        try:
            _checked["count_units"].call(y, active, nonfinite, _NOTHING[1], -1, -1)
            return active, nonfinite
        except (KeyError, TypeError):  # as in `_forward`
            pass
    y = checks.given("y", y)
    active, nonfinite = (array_module(y).empty((*y.shape[:-2], y.shape[-1]), _I64) for _ in range(2))
    _run_checked("count_units", y, active, nonfinite)
    return active, nonfinite


def optimiser_steps(rule: str, moves: list[tuple[Array, ...]]) -> None:
    """`optimiser_step` for many parameters: a move is (x, g, new, coefficients, *state), checked, of two or three axes."""
    loops = _ready.get(rule)
    if loops is None or _choice.get() not in _COMPILED:
        for move in moves:
            _run(rule, *move)
        return
    nothing = _NOTHING[1]
    for move in moves:
        x = move[0]
        if type(x) is _ndarray and 0 < x.size < _jit.PARALLEL_FROM:
            loops(*move, nothing, -1, -1)
        else:
            _run(rule, *move)


def optimiser_step(
    rule: str, x: Array, g: Array, coefficients: Any, *state: Array, out: Array | None = None, checked: bool = False
) -> Array:
    """The parameter after one step, in a new array or in `out`; the `state` arrays are overwritten.

    `rule` is "sgd", "heavy_ball", "nesterov", "ema" or "adam". `coefficients`: a number each, or R numbers each for x
    (R, I, O). Raises `ShapeError`, `TypeError` or `ValueError` before anything is written. `checked=True`: all is right
    already, and the coefficients are one array of x's dtype, (n, 1) or (n, R). Formulas: kernels/optimiser_step.py.
    """
    if not checked:
        x, g, coefficients, state, out = checks.step(rule, x, g, coefficients, state, out)
    new = (np if type(x) is _ndarray else array_module(x, g)).empty(x.shape, x.dtype) if out is None else out
    if 1 < x.ndim < 4:
        _run(rule, x, g, new, coefficients, *state)
    else:  # the loops are compiled for two and three axes
        shape = (coefficients.shape[1], 1, -1)
        _run(rule, x.reshape(shape), g.reshape(shape), new.reshape(shape), coefficients, *(s.reshape(shape) for s in state))
    return new


def train_mlp(
    job: _train_mlp.Job,
    state: _train_mlp.State,
    *,
    backend: str | None = None,
    on_progress: _train_mlp.OnProgress = lambda done, total, loss, dead: None,
) -> _train_mlp.Records:
    """Train the replicas of `job` from `state`, in place, to the last step of `job.record_at`; returns what was measured.

    `backend`: "reference", "numba", "cuda", "auto", or None for the choice of `using`. `on_progress(done, total, loss, dead)`
    hears of replica-steps, the latest mean error and share of dead units; it may raise to stop, and then the state is of
    no use. Raises `TypeError`, `ShapeError` or `ValueError` before anything runs. Formulas: kernels/train_mlp.py.
    """
    training_checks.check(job, state)
    chosen = training_backend(backend)
    if chosen == "reference":
        with np.errstate(all="ignore"):
            return _train_mlp.reference(job, state, on_progress)
    if chosen == "cuda":
        from . import _train_mlp_cuda

        return _train_mlp_cuda.run(job, state, on_progress)
    from . import _train_mlp_run  # which imports Numba, so at the first use only

    return _train_mlp_run.run(job, state, on_progress)


def training_backend(backend: str | None = None) -> str:
    """What `train_mlp` would run: "reference", "numba" or "cuda" (if asked for by name).

    Raises `ValueError` or `BackendUnavailableError`.
    """
    choice = _choice.get() if backend is None else backend
    if choice == "auto":
        return "reference" if _jit.missing() else "numba"
    _check_backend(choice, "the variable MINIRELU_KERNELS" if backend is None else "train_mlp")
    return choice
