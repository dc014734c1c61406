"""The compiled training run of train_mlp.py: a thread a replica, thousands of steps a call, on matrices in panels.

A replica's parameters, in panels (_panels.py), are one flat array; its gradients and the optimiser's arrays have the same
order, so an update is one loop. With what a step computes they stay in the cache of the core that trains the replica.

`run(job, state, on_progress)` is all that is called from outside. Imported at first use, as it needs Numba.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numba
import numpy as np

from . import _jit
from ._panels import (
    QUAD,
    TILE,
    add,
    count,
    gate,
    gradient,
    inner,
    normalise,
    normalise_backward,
    normalise_by,
    predict,
    predict_backward,
    product,
    transpose,
    v,
)
from ._pool import empty
from .optimiser_step import RULES as UPDATES
from .optimiser_step import numba as update_loops
from .train_mlp import EPS, MOMENTUM, Job, Net, OnProgress, Records, State, coefficients, empty_records, standing

# Floating-point operations between two looks at whether to stop, some 20 ms.
SEGMENT = 1_000_000_000

RULES = tuple(UPDATES)
SGD, HEAVY_BALL, NESTEROV, EMA, ADAM = map(RULES.index, ("sgd", "heavy_ball", "nesterov", "ema", "adam"))
_sgd, _heavy_ball, _nesterov, _ema, _adam = (
    update_loops[rule](inner, v, False) for rule in ("sgd", "heavy_ball", "nesterov", "ema", "adam")
)

# Columns of the table that describes a hidden layer to the loops: sizes, then offsets into the parameters (W … SHIFT), the
# running statistics (MEAN), the counters (COUNTS) and the scratch memory (R … ROOT).
INPUTS, DEPTH, PANELS, UNITS, W, B, SCALE, SHIFT, MEAN, COUNTS, R, H, HAT, ROOT = range(14)
# What the loops need to know besides: sizes, the offsets of the last layer's w and c, and of scratch memory. The zeros are
# never written to; three matrices are for the way back.
ROWS, BATCH, RULE, RESIDUAL, NORM, LAST_W, LAST_C, X, SUMS, FEW, NOTHING, TURNED, D0, D1, D2 = range(15)


def compiled(function: Any) -> Any:
    """`function`, compiled at its first call and cached on disk where a folder is writable."""
    try:
        return _jit.forgiving(numba.njit(nogil=True, error_model="numpy", cache=True)(function))
    except RuntimeError:  # Numba found no folder that it could cache in
        return inner(function)


# ----------------------------------------------------------------------------------------------------- compiled


@inner
def _philox(seed, step, block):
    """Four random words of 32 bits, in uint64 (philox.py)."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1 = seed & low, seed >> half
    c0, c1, c2, c3 = np.uint64(step), np.uint64(block), np.uint64(0), np.uint64(0)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (q >> half) ^ c1 ^ k0, q & low, (p >> half) ^ c3 ^ k1, p & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return c0, c1, c2, c3


@inner
def _draw(seed, step, rows, n):
    """The rows of the minibatch `step`, of n."""
    half, scale = np.uint64(32), np.uint64(n)
    for at in range(0, rows.size, 4):
        words = _philox(seed, step, at // 4)
        for k in range(min(4, rows.size - at)):
            rows[at + k] = np.int64((words[k] * scale) >> half)


@inner
def _gather(data, pieces, rows, first, work, x0, stride):
    """Rows of `data` (whole vectors each) as panels of `stride` rows; with first >= 0, the rows from there on."""
    width = v.width(work)
    for i in range(rows.size):
        row = rows[i] if first < 0 else first + i
        for p in range(pieces):
            v.store(v.load(data, (row * pieces + p) * width), work, x0 + (p * stride + i) * width)


@inner
def _forward(table, sizes, x, running, work, training):
    """All hidden layers, from the batch in `work`; returns the offset of the last one's output."""
    rows, batch, few = sizes[ROWS], sizes[BATCH], sizes[FEW]
    width = v.width(work)
    h = sizes[X]
    for layer in range(len(table)):
        row = table[layer]
        r, panels, norm = row[R], row[PANELS], sizes[NORM] == 1
        product(work, h, x, row[W], row[DEPTH], work, r, rows, panels, row[INPUTS], x, row[B], width, 0, not norm)
        if norm and training:
            normalise(
                work, r, work, row[HAT], work, r, rows, batch, panels, x, row[SCALE], row[SHIFT], work, row[ROOT],
                running, row[MEAN], work, few,
            )  # fmt: skip
        elif norm:
            normalise_by(work, r, work, r, rows, panels, x, row[SCALE], row[SHIFT], running, row[MEAN], work, few)
        if row[H] != r:
            add(work, h, work, r, work, row[H], rows * panels * width)
        h = row[H]
    return h


@inner
def _backward(table, sizes, x, g, work, h, e):
    """All gradients from e = ∂L/∂o."""
    rows, batch, few, norm = sizes[ROWS], sizes[BATCH], sizes[FEW], sizes[NORM] == 1
    width = v.width(work)
    residual = sizes[RESIDUAL] == 1
    d, z, other = sizes[D0], sizes[D1], sizes[D2]
    last = len(table) - 1
    row = table[last]
    predict_backward(
        e, work, h, work, row[R], rows, batch, row[PANELS], x, sizes[LAST_W], work, d, residual and last > 0, work, z,
        g, sizes[LAST_W], row[B],
    )  # fmt: skip
    g[sizes[LAST_C]] = e.sum()
    for layer in range(last, -1, -1):
        row = table[layer]
        if norm:
            normalise_backward(
                work, z, work, row[HAT], rows, batch, row[PANELS], x, row[SCALE], work, row[ROOT],
                g, row[B], row[SCALE], row[SHIFT], work, few,
            )  # fmt: skip
        below = sizes[X] if layer == 0 else table[layer - 1][H]
        gradient(work, below, work, z, rows, batch, g, row[W], row[DEPTH], row[PANELS])
        if layer > 0:
            under = table[layer - 1]
            units, panels = row[UNITS], under[PANELS]
            transpose(x, row[W], row[DEPTH], row[PANELS], work, sizes[TURNED], units, row[INPUTS])
            start, across, down = (d, rows * width, width) if residual else (sizes[NOTHING], 0, 0)
            product(work, z, work, sizes[TURNED], units, work, other, rows, panels, units, work, start, across, down, False)
            d, other = other, d
            gate(work, under[R], work, d, work, z, rows, batch, panels, g, under[B])


@inner
def _update(rule, x, g, new, m, s, c, none):
    if rule == SGD:
        _sgd(x, g, new, c, none, -1, -1)
    elif rule == HEAVY_BALL:
        _heavy_ball(x, g, new, c, m, none, -1, -1)
    elif rule == NESTEROV:
        _nesterov(x, g, new, c, m, none, -1, -1)
    elif rule == EMA:
        _ema(x, g, new, c, m, none, -1, -1)
    else:
        _adam(x, g, new, c, m, s, none, -1, -1)


@compiled
def train(table, sizes, x, spare, g, m, s, running, work, few, data, targets, kept, hyper, seed, step, stop):
    """Train one replica from `step` to `stop`. `hyper` (float64): β, β₂, η, γ, δ; `few` has the constants of the dtype.

    `kept` are the coefficients of optimiser_step, of which Adam's change from step to step.
    """
    rows, batch = sizes[ROWS], sizes[BATCH]
    width = v.width(work)
    pieces = -(-table[0][INPUTS] // width)
    chosen = np.empty(batch, np.int64)
    o, e = np.empty(rows, work.dtype), np.zeros(rows, work.dtype)
    beta, beta2, lr, gamma, delta = hyper
    slope = work.dtype.type(2.0 / batch)
    turns = stop - step
    for at in range(step, stop):
        if sizes[RULE] == ADAM:
            kept[0, 0] = lr / (1 - beta ** np.float64(at + 1))
            kept[5, 0] = 1 / np.sqrt(1 - beta2 ** np.float64(at + 1))
        _draw(seed, at, chosen, targets.size)
        _gather(data, pieces, chosen, -1, work, sizes[X], rows)
        h = _forward(table, sizes, x, running, work, True)
        predict(work, h, rows, table[-1][PANELS], x, sizes[LAST_W], sizes[LAST_C], work, sizes[SUMS], batch, o)
        for i in range(batch):
            e[i] = (o[i] - work.dtype.type(gamma * targets[chosen[i]] + delta)) * slope
        _backward(table, sizes, x, g, work, h, e)
        _update(sizes[RULE], x, g, spare, m, s, kept, few)
        x, spare = spare, x
    if turns % 2:
        spare[:] = x  # after an odd number of swaps the caller's array is the spare one


@compiled
def measure(table, sizes, x, running, work, data, targets, gamma, delta, active, nonfinite):
    """The mean of ((o − δ)/γ − y)² over all rows of `data`, and per unit the rows where it is active and non-finite."""
    rows = sizes[ROWS]
    width = v.width(work)
    pieces = -(-table[0][INPUTS] // width)
    o = np.empty(rows, work.dtype)
    found = 0.0
    for first in range(0, targets.size, rows):
        here = min(rows, targets.size - first)
        _gather(data, pieces, np.empty(here, np.int64), first, work, sizes[X], rows)
        h = _forward(table, sizes, x, running, work, False)
        predict(work, h, rows, table[-1][PANELS], x, sizes[LAST_W], sizes[LAST_C], work, sizes[SUMS], here, o)
        for i in range(here):
            gap = (np.float64(o[i]) - delta) / gamma - targets[first + i]
            found += gap * gap
        for layer in range(len(table)):
            row = table[layer]
            count(work, row[R], rows, here, row[PANELS], active, nonfinite, row[COUNTS])
    return found / targets.size


# ------------------------------------------------------------------------------------------------------- memory


class _Layout(NamedTuple):
    """Where everything of one replica lies. `places`: of each array of Net.shapes, the offset, rows and columns in panels."""

    table: np.ndarray
    sizes: np.ndarray
    places: list[tuple[int, int, int]]
    parameters: int  # numbers in all, filled up
    running: int
    units: int
    work: int
    few: np.ndarray
    width: int


class _Room:
    """Offsets handed out one after the other, in whole vectors."""

    def __init__(self, width: int) -> None:
        self.width, self.used = width, 0

    def take(self, count: int) -> int:
        at, self.used = self.used, self.used + -(-count // self.width) * self.width
        return at


def _layout(job: Job) -> _Layout:
    net, dtype = job.net, job.X.dtype
    width = int(_width(np.empty(0, dtype)))
    rows = -(-job.batch // TILE) * TILE
    theta, running, counts, work = (_Room(width) for _ in range(4))
    table = np.zeros((len(net.widths), 14), np.int64)
    sizes = np.zeros(15, np.int64)
    sizes[[ROWS, BATCH, RULE, RESIDUAL, NORM]] = rows, job.batch, RULES.index(job.rule), net.residual, net.batch_norm
    sizes[X], sizes[SUMS] = work.take(rows * -(-net.inputs // width) * width), work.take(rows * width)
    sizes[FEW], sizes[NOTHING] = work.take(width + 6), work.take(width)
    places: list[tuple[int, int, int]] = []
    inputs = net.inputs
    for layer, (row, units) in enumerate(zip(table, net.widths, strict=True)):
        depth, columns = -(-inputs // QUAD) * QUAD, -(-units // width) * width
        row[[INPUTS, DEPTH, PANELS, UNITS]] = inputs, depth, columns // width, units
        row[W], row[B] = theta.take(depth * columns), theta.take(columns)
        places += [(int(row[W]), depth, columns), (int(row[B]), 1, columns)]
        row[R], row[COUNTS] = work.take(rows * columns), counts.take(columns)
        row[H] = work.take(rows * columns) if net.residual and layer else row[R]
        if net.batch_norm:
            row[SCALE], row[SHIFT], row[MEAN] = theta.take(columns), theta.take(columns), running.take(2 * columns)
            places += [(int(row[SCALE]), 1, columns), (int(row[SHIFT]), 1, columns)]
            row[HAT], row[ROOT] = work.take(rows * columns), work.take(columns)
        inputs = units
    sizes[LAST_W], sizes[LAST_C] = theta.take(-(-inputs // width) * width), theta.take(width)
    places += [(int(sizes[LAST_W]), 1, -(-inputs // width) * width), (int(sizes[LAST_C]), 1, width)]
    widest = max(int(row[PANELS]) * width for row in table)
    turned = max((row[PANELS] * width * under[UNITS] for row, under in zip(table, table[1:], strict=False)), default=0)
    sizes[TURNED] = work.take(int(turned))
    sizes[[D0, D1, D2]] = [work.take(rows * widest) for _ in range(3)]
    far = job.batch / max(job.batch - 1, 1)
    few = np.array([1 / job.batch, EPS, 1 - MOMENTUM, MOMENTUM, MOMENTUM * far, 1.0], dtype)
    return _Layout(table, sizes, places, theta.used, running.used, counts.used, work.used, few, width)


@numba.njit
def _width(array):
    return v.width(array)


def _zeros(count: int, dtype: Any) -> np.ndarray:
    made = empty(count, dtype)
    made[...] = 0
    return made


def _panels(flat: np.ndarray, at: int, rows: int, columns: int, width: int) -> np.ndarray:
    """A view (panels, rows, width) of a matrix in `flat`."""
    return flat[at : at + rows * columns].reshape(columns // width, rows, width)


def _into_panels(matrix: np.ndarray, panels: np.ndarray) -> None:
    width = panels.shape[2]
    for p, panel in enumerate(panels):
        part = matrix[:, p * width : (p + 1) * width]
        panel[: len(part), : part.shape[1]] = part


def _from_panels(panels: np.ndarray, matrix: np.ndarray) -> None:
    width = panels.shape[2]
    for p, panel in enumerate(panels):
        part = matrix[:, p * width : (p + 1) * width]
        part[...] = panel[: len(part), : part.shape[1]]


def _whole_vectors(X: np.ndarray, width: int) -> np.ndarray:
    """The rows of X, filled up with zeros, in one flat array."""
    columns = -(-X.shape[1] // width) * width
    data = _zeros(len(X) * columns, X.dtype)
    data.reshape(len(X), columns)[:, : X.shape[1]] = X
    return data


# ------------------------------------------------------------------------------------------------------ replicas


class _Replica:
    """Replica r in panels, from its first step to its last; what is finished stands in the state again."""

    def __init__(self, r: int, job: Job, state: State, layout: _Layout) -> None:
        self.r, self.job, self.state, self.layout = r, job, state, layout
        self.step = state.step
        self.t = 0  # the next record
        dtype = job.X.dtype
        self.theta, self.spare, self.m, self.s = (_zeros(layout.parameters, dtype) for _ in range(4))
        self.running = _zeros(layout.running, dtype)
        self.kept = coefficients(job, r, 0)
        for matrix, panels in self._matrices():
            _into_panels(matrix, panels)

    def _matrices(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each array of the state, and its place in panels."""
        layout, state, r = self.layout, self.state, self.r
        for arrays, flat in zip([state.parameters, *state.slots], [self.theta, self.m, self.s], strict=False):
            for array, (at, rows, columns) in zip(arrays, layout.places, strict=True):
                # the last weights (O, 1) lie as one row
                matrix = array[r].T if array.shape[-1] == 1 and rows == 1 else array[r]
                yield matrix, _panels(flat, at, rows, columns, layout.width)
        for row, pair in zip(layout.table, zip(state.running[::2], state.running[1::2], strict=True), strict=False):
            for k, array in enumerate(pair):
                columns = int(row[PANELS]) * layout.width
                yield array[r], _panels(self.running, int(row[MEAN]) + k * columns, 1, columns, layout.width)

    def advance(self, steps: int, memory: _Memory, records: Records) -> bool:
        """Train for at most `steps` steps, up to the next record, and make that; True when all is done."""
        job, layout, r = self.job, self.layout, self.r
        stop = int(job.record_at[self.t])
        to = min(self.step + steps, stop)
        if to > self.step:
            hyper = tuple(float(values[r]) for values in (job.beta, job.beta2, job.lr, job.gamma, job.delta))
            train(
                layout.table, layout.sizes, self.theta, self.spare, memory.g, self.m, self.s, self.running, memory.work,
                memory.none, memory.X, job.y, self.kept, hyper, job.seeds[r], self.step, to,
            )  # fmt: skip
            self.step = to
        if to == stop:
            self._measure(memory, records)
            self.t += 1
        if self.t < len(job.record_at):
            return False
        for matrix, panels in self._matrices():
            _from_panels(panels, matrix)
        return True

    def _measure(self, memory: _Memory, records: Records) -> None:
        job, layout, r = self.job, self.layout, self.r
        memory.counts[...] = 0
        gamma, delta = float(job.gamma[r]), float(job.delta[r])
        error = measure(
            layout.table, layout.sizes, self.theta, self.running, memory.work, memory.X_eval, job.y_eval, gamma, delta,
            *memory.counts,
        )  # fmt: skip
        records.loss[r, self.t] = error if np.isfinite(error) else np.nan
        for kept, counts in zip(records[1:], memory.counts, strict=True):
            parts = [counts[row[COUNTS] : row[COUNTS] + row[UNITS]] for row in layout.table]
            kept[r, self.t] = np.concatenate(parts)


class _Memory:
    """What a thread needs to train one replica at a time: gradients, activations, counters; and the data."""

    def __init__(self, layout: _Layout, X: np.ndarray, X_eval: np.ndarray) -> None:
        self.X, self.X_eval = X, X_eval
        self.g, self.work = _zeros(layout.parameters, X.dtype), _zeros(layout.work, X.dtype)
        self.work[layout.sizes[FEW] :][: len(layout.few)] = layout.few
        self.counts = np.zeros((2, layout.units), np.int32)
        self.none = np.empty((0, 0), X.dtype)


def run(job: Job, state: State, on_progress: OnProgress) -> Records:
    """Train to the last step of `record_at`, a thread a replica, on as many threads as Numba would take."""
    return _Run(job, state, on_progress).records


class _Run:
    """Replicas in flight, of which each thread takes the one that is least far; a little more than the threads, so that
    towards the end none has to wait long, and not all, so that memory does not grow with R."""

    def __init__(self, job: Job, state: State, on_progress: OnProgress) -> None:
        self.job, self.state, self.on_progress = job, state, on_progress
        self.layout, self.records = _layout(job), empty_records(job)
        self.first, self.last = state.step, int(job.record_at[-1])
        self.steps = _segment(job)
        self.unborn = iter(range(len(job.seeds)))
        self.resting: list[_Replica] = []
        self.reached = np.full(len(job.seeds), self.first)  # the step of each replica
        self.measured = np.full(len(job.seeds), -1)  # and its last record
        self.failure: BaseException | None = None
        self.lock = threading.Lock()
        threads = min(_jit.thread_count(), len(job.seeds))
        self.in_flight, self.under_way = 2 * threads - 1, 0
        self.X, self.X_eval = (_whole_vectors(X, self.layout.width) for X in (job.X, job.X_eval))
        helpers = [threading.Thread(target=self._work, name="minirelu", daemon=True) for _ in range(threads - 1)]
        for helper in helpers:
            helper.start()
        try:
            self._work(self._tell)
        finally:
            for helper in helpers:
                helper.join()
        if self.failure is not None:
            raise self.failure
        state.step = self.last

    def _work(self, tell: Any = lambda: None) -> None:
        """Take replicas and train them a segment at a time, until there are none or another thread has failed."""
        try:
            memory = _Memory(self.layout, self.X, self.X_eval)
            while (replica := self._next()) is not None:
                done = replica.advance(self.steps, memory, self.records)
                self.reached[replica.r], self.measured[replica.r] = replica.step, replica.t - 1
                with self.lock:
                    if done:
                        self.under_way -= 1
                    else:
                        self.resting.append(replica)
                tell()
        except BaseException as failure:  # a thread's failure, or Ctrl-C, is the caller's
            self.failure = self.failure or failure

    def _next(self) -> _Replica | None:
        """The replica that is least far; a new one while fewer than `in_flight` are under way."""
        with self.lock:
            if self.failure is not None:
                return None
            if self.under_way < self.in_flight and (r := next(self.unborn, None)) is not None:
                self.under_way += 1
                return _Replica(r, self.job, self.state, self.layout)
            if not self.resting:
                return None
            self.resting.sort(key=lambda replica: -replica.step)
            return self.resting.pop()

    def _tell(self) -> None:
        done, total = int((self.reached - self.first).sum()), len(self.reached) * (self.last - self.first)
        known = np.flatnonzero(self.measured >= 0)
        at = self.measured[known]
        loss, active, nonfinite = (kept[known, at] for kept in self.records)
        self.on_progress(done, total, *standing(loss, active, nonfinite))


def _segment(job: Job) -> int:
    """Steps of one replica that take some 20 ms."""
    sides = (job.net.inputs, *job.net.widths, 1)
    return max(1, SEGMENT // (6 * job.batch * sum(a * b for a, b in zip(sides, sides[1:], strict=False))))
