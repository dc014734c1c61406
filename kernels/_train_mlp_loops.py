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
    gate,
    gradient,
    inner,
    normalise,
    normalise_backward,
    normalise_by,
    predict,
    predict_backward,
    product,
    small,
    tally,
    totals,
    transpose,
    v,
)
from ._pool import empty
from .optimiser_step import RULES as UPDATES
from .train_mlp import EPS, MOMENTUM, Job, Net, OnProgress, Records, State, coefficients, empty_records, standing

# Floating-point operations between two looks at whether to stop, some 20 ms.
SEGMENT = 1_000_000_000

RULES = tuple(UPDATES)
SGD, NESTEROV, EMA, ADAM = map(RULES.index, ("sgd", "nesterov", "ema", "adam"))

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


@small
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


@small
def _draw(seed, step, rows, batch, n):
    """The rows of the minibatch `step`, of n."""
    half, scale = np.uint64(32), np.uint64(n)
    for at in range(0, batch, 4):
        words = _philox(seed, step, at // 4)
        for k in range(min(4, batch - at)):
            rows[at + k] = np.int64((words[k] * scale) >> half)


@small
def _gather(data, pieces, rows, count, work, x0, stride):
    """`count` rows of `data` (whole vectors each) as panels of `stride` rows."""
    width = v.width(work)
    for i in range(count):
        for p in range(pieces):
            v.store(v.load(data, (rows[i] * pieces + p) * width), work, x0 + (p * stride + i) * width)


@small
def _forward(table, sizes, x, running, work, batch, training, o):
    """All layers, from the batch in `work`, to the predictions o; a panel goes through all it can while it is in the cache."""
    rows, few, norm = sizes[ROWS], sizes[FEW], sizes[NORM] == 1
    width = v.width(work)
    high, h = rows * width, sizes[X]
    for layer in range(len(table)):
        row = table[layer]
        for p in range(row[PANELS]):
            r, own = row[R] + p * high, p * width
            product(work, h, x, row[W] + own * row[DEPTH], work, r, rows, row[INPUTS], x, row[B] + own, 0, not norm)
            if norm:
                scale, shift, mean = row[SCALE] + own, row[SHIFT] + own, row[MEAN] + own
                spread = mean + row[PANELS] * width
                if training:
                    hat = row[HAT] + p * high
                    normalise(
                        work,
                        r,
                        work,
                        hat,
                        rows,
                        batch,
                        x,
                        scale,
                        shift,
                        work,
                        row[ROOT] + own,
                        running,
                        mean,
                        spread,
                        work,
                        few,
                    )
                else:
                    normalise_by(work, r, rows, x, scale, shift, running, mean, spread, work, few)
            if row[H] != row[R]:
                add(work, h + p * high, work, r, work, row[H] + p * high, rows)
            if layer == len(table) - 1:
                predict(work, row[H] + p * high, x, sizes[LAST_W] + own, work, sizes[SUMS], batch, p == 0)
        h = row[H]
    totals(work, sizes[SUMS], x, sizes[LAST_C], batch, o)


@small
def _backward(table, sizes, x, g, work, e):
    """All gradients from e = ∂L/∂o."""
    rows, batch, few, norm = sizes[ROWS], sizes[BATCH], sizes[FEW], sizes[NORM] == 1
    width = v.width(work)
    high, residual = rows * width, sizes[RESIDUAL] == 1
    d, z, other = sizes[D0], sizes[D1], sizes[D2]
    db = e[0]
    for i in range(1, batch):
        db += e[i]
    g[sizes[LAST_C]] = db
    for layer in range(len(table) - 1, -1, -1):
        row = table[layer]
        below = table[layer - 1][H] if layer > 0 else sizes[X]
        for p in range(row[PANELS]):
            at, own = p * high, p * width
            to = z + at if layer > 0 else z  # nobody reads the first layer's dz again: one panel of it is enough
            if layer == len(table) - 1:
                last, keep = sizes[LAST_W] + own, residual and layer > 0
                predict_backward(
                    e, work, row[H] + at, work, row[R] + at, batch, x, last, work, d + at, keep, work, to, g, last, row[B] + own
                )
            else:
                gate(work, row[R] + at, work, d + at, work, to, batch, g, row[B] + own)
            if norm:
                scale, shift = row[SCALE] + own, row[SHIFT] + own
                normalise_backward(
                    work,
                    to,
                    work,
                    row[HAT] + at,
                    batch,
                    x,
                    scale,
                    work,
                    row[ROOT] + own,
                    g,
                    row[B] + own,
                    scale,
                    shift,
                    work,
                    few,
                )
            gradient(work, below, work, to, rows, batch, g, row[W] + own * row[DEPTH], row[DEPTH])
        if layer > 0:
            units = row[UNITS]
            for p in range(table[layer - 1][PANELS]):
                transpose(x, row[W], row[DEPTH], p * width, work, sizes[TURNED], units)
                start, down = (d + p * high, width) if residual else (sizes[NOTHING], 0)
                product(work, z, work, sizes[TURNED], work, other + p * high, rows, units, work, start, down, False)
            d, other = other, d


@inner
def _update(rule, x, g, new, m, s, c):
    """The formulas of optimiser_step.py, to the bit, in vectors: its loops would take three times as long to compile."""
    width = v.width(x)
    last = c.size - 1
    lr, beta, rest = v.repeat(c, 0), v.repeat(c, min(1, last)), v.repeat(c, min(2, last))
    for at in range(0, x.size, width):
        p, q = v.load(x, at), v.load(g, at)
        if rule == ADAM:
            mean = v.add(v.times(beta, v.load(m, at)), v.times(rest, q))
            square = v.add(v.times(v.repeat(c, 3), v.load(s, at)), v.times(v.repeat(c, 4), v.times(q, q)))
            v.store(mean, m, at)
            v.store(square, s, at)
            move = v.over(mean, v.add(v.times(v.root(square), v.repeat(c, 5)), v.repeat(c, 6)))
        elif rule == SGD:
            move = q
        else:
            move = v.add(v.times(beta, v.load(m, at)), v.times(rest, q) if rule == EMA else q)
            v.store(move, m, at)
            if rule == NESTEROV:
                move = v.add(v.times(beta, move), q)
        v.store(v.minus(p, v.times(lr, move)), new, at)


@compiled
def walk(
    table, sizes, x, spare, g, m, s, running, work, kept, hyper, seed, data, targets, first, stop, training, active, nonfinite
):  # fmt: skip
    """Train one replica from step `first` to `stop`, or measure it on blocks of rows; both in one, to be compiled once.

    Training, after an odd number of steps the parameters are those in `spare`. Measuring, Σ ((o − δ)/γ − y)² is returned
    and the rows where a unit is active and non-finite are added to the counters. `hyper` (float64): β, β₂, η, γ, δ; `kept`
    are the coefficients of optimiser_step, of which Adam's change from step to step.
    """
    rows, batch, n = sizes[ROWS], sizes[BATCH], targets.size
    width = v.width(work)
    pieces = -(-table[0][INPUTS] // width)
    chosen = np.empty(rows, np.int64)
    o, e = np.empty(rows, work.dtype), np.zeros(rows, work.dtype)
    beta, beta2, lr, gamma, delta = hyper
    slope = work.dtype.type(2.0 / batch)
    found = 0.0
    for at in range(first, stop):
        if training:
            count = batch
            _draw(seed, at, chosen, batch, n)
        else:
            count = min(rows, n - at * rows)
            for i in range(count):
                chosen[i] = at * rows + i
        _gather(data, pieces, chosen, count, work, sizes[X], rows)
        _forward(table, sizes, x, running, work, count, training, o)
        if training:
            for i in range(batch):
                e[i] = (o[i] - work.dtype.type(gamma * targets[chosen[i]] + delta)) * slope
            _backward(table, sizes, x, g, work, e)
            if sizes[RULE] == ADAM:
                kept[0] = lr / (1 - beta ** np.float64(at + 1))
                kept[5] = 1 / np.sqrt(1 - beta2 ** np.float64(at + 1))
            _update(sizes[RULE], x, g, spare, m, s, kept)
            x, spare = spare, x
        else:
            for i in range(count):
                gap = (np.float64(o[i]) - delta) / gamma - targets[chosen[i]]
                found += gap * gap
            for layer in range(len(table)):
                row = table[layer]
                for p in range(row[PANELS]):
                    tally(work, row[R] + p * rows * width, count, active, nonfinite, row[COUNTS] + p * width)
    return found


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
    width = getattr(v, "BYTES", dtype.itemsize) // dtype.itemsize
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
    theta.take(width * width)  # which the last square of a matrix may reach into
    widest = max(int(row[PANELS]) * width for row in table)
    sizes[TURNED] = work.take(-(-max(net.widths) // width) * width * width)  # a panel of transposed weights
    sizes[[D0, D1, D2]] = [work.take(rows * widest) for _ in range(3)]
    far = job.batch / max(job.batch - 1, 1)
    few = np.array([1 / job.batch, EPS, 1 - MOMENTUM, MOMENTUM, MOMENTUM * far, 1.0], dtype)
    return _Layout(table, sizes, places, theta.used, running.used, counts.used, work.used, few, width)


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
        self.kept = coefficients(job, r, 0).ravel()
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
        stop = int(self.job.record_at[self.t])
        to = min(self.step + steps, stop)
        if to > self.step:
            self._walk(memory, memory.X, self.job.y, self.step, to, True)
            if (to - self.step) % 2:
                self.theta, self.spare = self.spare, self.theta
            self.step = to
        if to == stop:
            self._measure(memory, records)
            self.t += 1
        if self.t < len(self.job.record_at):
            return False
        for matrix, panels in self._matrices():
            _from_panels(panels, matrix)
        return True

    def _measure(self, memory: _Memory, records: Records) -> None:
        job, layout, r = self.job, self.layout, self.r
        memory.counts[...] = 0
        blocks = -(-len(job.y_eval) // int(layout.sizes[ROWS]))
        error = self._walk(memory, memory.X_eval, job.y_eval, 0, blocks, False) / len(job.y_eval)
        records.loss[r, self.t] = error if np.isfinite(error) else np.nan
        for kept, counts in zip(records[1:], memory.counts, strict=True):
            parts = [counts[row[COUNTS] : row[COUNTS] + row[UNITS]] for row in layout.table]
            kept[r, self.t] = np.concatenate(parts)

    def _walk(self, memory: _Memory, X: np.ndarray, y: np.ndarray, first: int, stop: int, training: bool) -> float:
        job, layout = self.job, self.layout
        hyper = tuple(float(values[self.r]) for values in (job.beta, job.beta2, job.lr, job.gamma, job.delta))
        return walk(
            layout.table, layout.sizes, self.theta, self.spare, memory.g, self.m, self.s, self.running, memory.work, self.kept,
            hyper, job.seeds[self.r], X, y, first, stop, training, *memory.counts,
        )  # fmt: skip


class _Memory:
    """What a thread needs to train one replica at a time: gradients, activations, counters; and the data."""

    def __init__(self, layout: _Layout, X: np.ndarray, X_eval: np.ndarray) -> None:
        self.X, self.X_eval = X, X_eval
        self.g, self.work = _zeros(layout.parameters, X.dtype), _zeros(layout.work, X.dtype)
        self.work[layout.sizes[FEW] :][: len(layout.few)] = layout.few
        self.counts = np.zeros((2, layout.units), np.int32)


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
