"""Many trainings of one ReLU MLP at once: the face of `kernels.train_mlp`.

result = train.train_mlp(X, y, steps=250_000, seeds=range(8), gamma=1e-4)
result.dead[:, -1].mean(axis=0) / 200          # share of dead units at the end, a layer
net = result.net(3)                            # replica 3 as an nn.Sequential
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .. import init as initialisers
from .. import kernels, nn
from ..init import Initialiser
from ..kernels.train_mlp import EVALUATED, Job, Net, OnProgress, Records, State, fresh
from ..monitor import NEARLY
from . import with_engine
from .nets import build, rebuilt
from .settings import Data, Setup, check_rounded, check_targets, prepared, setup, table

# Bytes that the arrays of the replicas trained together may take, besides their results; and again their records of units,
# which are reduced to results whenever so many have come together.
MEMORY = 1 << 28
RECORDED = 16  # bytes a unit and record: two counts

Number = float | Sequence[float] | np.ndarray


@dataclass(frozen=True)
class TrainResult:
    """What became of R replicas, measured on `samples` rows at the T steps `step`, from 0 to the last.

    loss        (R, T) float64       mean squared error ÷ γ² (in units of the standardised target); NaN if not finite, and
                                     everywhere if X_eval came without y_eval
    dead        (R, T, layers) int64 units of each hidden layer that are active (r > 0) on no row; `nearly_dead`: on some, but
                                     on fewer than 1 %; `linear`: on every row; `nonfinite`: inf or NaN on some row, and then
                                     counted as nothing else
    parameters  {name: (R, I, O)}    those of `nn.Sequential.parameters()`, in its order and with its names; `buffers`: batch
                                     norm's running statistics
    active      (R, T, units) int64  with units=True: on how many rows each unit is active, the layers side by side;
                                     `nonfinite_rows`: on how many it is inf or NaN
    """

    loss: np.ndarray
    dead: np.ndarray
    nearly_dead: np.ndarray
    linear: np.ndarray
    nonfinite: np.ndarray
    step: np.ndarray
    parameters: dict[str, np.ndarray]
    buffers: dict[str, np.ndarray]
    samples: int
    gamma: np.ndarray
    delta: np.ndarray
    x_scaler: Any
    y_scaler: Any
    shape: Net
    backend: str
    active: np.ndarray | None = None
    nonfinite_rows: np.ndarray | None = None

    def net(self, r: int) -> nn.Sequential:
        """Replica r as a net of its own, without the replica axis. It takes what it was trained on: standardised rows."""
        return rebuilt(
            self.shape, (p[r].copy() for p in self.parameters.values()), (b[r].copy() for b in self.buffers.values())
        )

    def predict(self, r: int, X: Any) -> np.ndarray:
        """Replica r's predictions (N,) for raw rows X (N, I), standardised in float64 as in training, in the units of y."""
        outputs = self.net(r).predict(self.x_scaler.transform(table("X", X))).astype(np.float64)
        return self.y_scaler.inverse_transform((outputs - self.delta[r]) / self.gamma[r])[:, 0]


def train_mlp(
    X: Any,
    y: Any,
    *,
    widths: int | Sequence[int] = (200,),
    block: str = "dense",
    batch_norm: bool = False,
    optimizer: str = "adam",
    lr: Number = 1e-3,
    beta: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    gamma: Number = 1.0,
    delta: Number = 0.0,
    batch: int = 64,
    steps: int,
    seeds: int | Sequence[int] | np.ndarray,
    init: str | Initialiser = "torch_default",
    init_scale: Number = 1.0,
    bias_shift: Number = 0.0,
    X_eval: Any = None,
    y_eval: Any = None,
    standardize: bool = True,
    record_every: int = 1000,
    backend: str = "auto",
    dtype: Any = "float32",
    units: bool = False,
    on_progress: Callable[[int, int, float, float], object] | None = None,
) -> TrainResult:
    """Train R replicas of a ReLU MLP with one output on X (N, I) and y (N,) or (N, 1), by the mean squared error.

    X is standardised and y becomes γ·(y − μ)/σ + δ (the paper's Eq. 1), with the statistics of these rows; with
    `standardize=False` both are taken as they are, and the targets are γ·y + δ.

    Net: hidden layers of `widths`; `block="residual"` puts the layers from the second on into residual blocks x + relu(·);
    `batch_norm` normalises before the ReLU (the paper's Figure 6). `optimizer` is "sgd", "heavy_ball", "nesterov", "ema" or
    "adam" (`beta` is its β₁); formulas in optim.py. Minibatches are those of `train.minibatches`.

    `seeds`, `lr`, `beta`, `beta2`, `eps`, `gamma`, `delta`, `init_scale` and `bias_shift` are single values or one a
    replica; the seed names a replica's initial parameters and its minibatches, and replica r is to the bit what it would be
    alone. Parameters are drawn by `init` ("torch_default", "he", "xavier", "lecun", "rai", or a function of init.py) as
    `nn` draws them; then all W and b, the output's too, are multiplied by `init_scale`, and `bias_shift` is added to b of
    every hidden layer, or with batch norm, where b has no effect, to its shift.

    Everything is measured at step 0, every `record_every` steps, and the last, on `X_eval` and `y_eval` (raw, as X and y):
    by default on all rows, or if there are more than 4096, on 4096 of them drawn by seed 0.

    `backend`: "numba" (one compiled loop), "engine" (nets and optimisers of this library), "reference" (plain NumPy),
    "cuda" (a block of the GPU a replica; tested on a CPU only, see docs/cuda.md), or "auto": the choice of `kernels.using`,
    numba where it can run, else the engine. Replicas are trained in chunks, and long records are made in stretches, so that
    memory besides the result stays bounded; with `units` the result has 16 bytes for each unit, record and replica.
    `on_progress(done, total, loss, dead)` hears of replica-steps, and of the latest mean error and share of dead units.

    Raises `ShapeError`, `ValueError`, `TypeError` or `BackendUnavailableError` with a sentence before anything runs.
    """
    data = prepared(X, y, X_eval, y_eval, standardize, dtype)
    numbers = {"lr": lr, "beta": beta, "beta2": beta2, "eps": eps, "gamma": gamma, "delta": delta}
    numbers |= {"init_scale": init_scale, "bias_shift": bias_shift}
    given = setup(
        inputs=data.X.shape[1],
        rows=len(data.X),
        widths=widths,
        block=block,
        batch_norm=batch_norm,
        optimizer=optimizer,
        init=init,
        backend=backend,
        batch=batch,
        steps=steps,
        record_every=record_every,
        seeds=seeds,
        numbers=numbers,
    )
    check_rounded(given.numbers, data.X.dtype)
    check_targets(data.y, given.numbers["gamma"], given.numbers["delta"], data.X.dtype)
    parts = [
        _trained(given, data, part, units, heard)
        for part, heard in _chunks(given, data, on_progress or (lambda done, total, loss, dead: None))
    ]
    return _result(given, data, parts, units)


# ---------------------------------------------------------------------------------------------------------- chunks


def _chunks(given: Setup, data: Data, on_progress: OnProgress) -> Iterator[tuple[slice, OnProgress]]:
    """Slices of the replicas whose arrays fit `MEMORY`, each with an `on_progress` that counts over all of them."""
    R, most = (
        len(given.seeds),
        max(kernels._jit.thread_count() if given.backend == "numba" else 1, MEMORY // _bytes(given, data)),
    )
    length = int(given.record_at[-1])
    for start in range(0, R, most):
        part = slice(start, min(start + most, R))

        def heard(done: int, total: int, loss: float, dead: float, start: int = start) -> None:
            on_progress(start * length + done, R * length, loss, dead)

        yield part, heard


def _bytes(given: Setup, data: Data) -> int:
    """What one replica needs while it is trained: records, parameters and state, and with the engine also the passes."""
    item, units = data.X.itemsize, sum(given.net.widths)
    parameters = sum(i * o for i, o in given.net.shapes()) * item
    bytes_ = min(RECORDED * units * len(given.record_at), MEMORY) + 6 * parameters
    if given.backend == "engine":
        rows = max(given.batch, min(len(data.X_eval), EVALUATED))
        bytes_ += (3 * units + data.X.shape[1]) * rows * item + 3 * len(data.X) * item
    return bytes_


def _job(given: Setup, data: Data, part: slice) -> Job:
    numbers = {name: given.numbers[name][part] for name in ("lr", "beta", "beta2", "eps", "gamma", "delta")}
    return Job(given.net, given.rule, *data[:4], given.batch, given.seeds[part], **numbers, record_at=given.record_at)


def initial(given: Setup, part: slice, dtype: Any) -> State:
    """The replicas of `part` at step 0: drawn, scaled and shifted."""
    made = build(given.net, initialisers.replicas(given.seeds[part]), dtype, given.initialiser)
    parameters, running = ([np.ascontiguousarray(t.data) for t in tensors] for tensors in (made.parameters(), made.buffers()))
    per = 4 if given.net.batch_norm else 2
    scale, shift = (given.numbers[name][part].astype(dtype)[:, None, None] for name in ("init_scale", "bias_shift"))
    for i, p in enumerate(parameters):
        if i % per < 2:
            p *= scale
        if i < len(parameters) - 2 and i % per == per - 1:  # the last of a hidden layer: b, or batch norm's shift
            p += shift
    return fresh(given.rule, parameters, running)


def _trained(given: Setup, data: Data, part: slice, units: bool, on_progress: OnProgress) -> tuple[State, tuple[Any, ...]]:
    """The replicas of `part` at the end, and what is kept of their records: (R, T, …) each."""
    job, state = _job(given, data, part), initial(given, part, data.X.dtype)
    run: Callable[..., Records] = with_engine.run
    if given.backend != "engine":
        run = functools.partial(kernels.train_mlp, backend=given.backend)
    kept = []
    for stretch, heard in _stretches(job, on_progress):
        records = run(stretch, state, on_progress=heard)
        own = (records.active, records.nonfinite) if units else ()
        kept.append((records.loss, *counted(records, given.net.widths, len(data.X_eval)), *own))
    state.slots = []  # they are not needed any more
    return state, tuple(np.concatenate(arrays, axis=1) for arrays in zip(*kept, strict=True))


def _stretches(job: Job, on_progress: OnProgress) -> Iterator[tuple[Job, OnProgress]]:
    """The job in stretches whose records fit `MEMORY`, each with an `on_progress` that counts from its beginning."""
    R, last, begun = len(job.seeds), int(job.record_at[-1]), 0
    most = max(1, MEMORY // (RECORDED * sum(job.net.widths) * R))
    for t in range(0, len(job.record_at), most):
        record_at = job.record_at[t : t + most]

        def heard(done: int, total: int, loss: float, dead: float, begun: int = begun) -> None:
            on_progress(R * begun + done, R * last, loss, dead)

        yield job._replace(record_at=record_at), heard
        begun = int(record_at[-1])


def counted(records: Records, widths: tuple[int, ...], rows: int) -> tuple[np.ndarray, ...]:
    """Dead, nearly dead, linear, non-finite units of the hidden layers, int64 (R, T, layers), of records over `rows` rows."""
    finite, active = records.nonfinite == 0, records.active
    few = finite & (active > 0) & (active < NEARLY * rows)
    kinds = finite & (active == 0), few, finite & (active == rows), ~finite
    edges = list(pairwise(np.cumsum((0, *widths)).tolist()))
    return tuple(np.stack([kind[..., a:b].sum(axis=-1) for a, b in edges], axis=-1) for kind in kinds)


def _result(given: Setup, data: Data, parts: list[tuple[State, tuple[Any, ...]]], units: bool) -> TrainResult:
    loss, dead, nearly_dead, linear, nonfinite, *kept = (
        np.concatenate(own) for own in zip(*(own for _, own in parts), strict=True)
    )
    arrays = [(*state.parameters, *state.running) for state, _ in parts]
    made = [np.concatenate(own) for own in zip(*arrays, strict=True)]
    blank = build(given.net, np.random.default_rng(0), data.X.dtype, initialisers.zeros)
    parameters, running = ([str(t.name) for t in tensors] for tensors in (blank.parameters(), blank.buffers()))
    named = dict(zip(parameters, made[: len(parameters)], strict=True))
    buffers = dict(zip(running, made[len(parameters) :], strict=True))
    return TrainResult(
        loss=loss,
        dead=dead,
        nearly_dead=nearly_dead,
        linear=linear,
        nonfinite=nonfinite,
        step=given.record_at,
        parameters=named,
        buffers=buffers,
        samples=len(data.X_eval),
        gamma=given.numbers["gamma"],
        delta=given.numbers["delta"],
        x_scaler=data.x_scaler,
        y_scaler=data.y_scaler,
        shape=given.net,
        backend=given.backend,
        **dict(zip(("active", "nonfinite_rows"), kept, strict=False)),
    )
