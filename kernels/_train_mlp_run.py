"""Runs the compiled training of `_train_mlp_loops.py`: lays out its memory, hands replicas to threads, keeps the records.

`run(job, state, on_progress)` is all that kernels/__init__.py calls. Imported at first use, as it needs Numba.
"""

from __future__ import annotations

import math
import threading
import time
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from . import _jit
from ._panels import QUAD, TILE, v
from ._pool import empty
from ._train_mlp_loops import (
    BATCH,
    COUNTS,
    D0,
    D1,
    D2,
    DEPTH,
    FEW,
    HAT,
    INPUTS,
    LAST_C,
    LAST_W,
    MEAN,
    NORM,
    NOTHING,
    PANELS,
    RESIDUAL,
    ROOT,
    ROWS,
    RULE,
    RULES,
    SCALE,
    SHIFT,
    SUMS,
    TURNED,
    UNITS,
    B,
    H,
    R,
    W,
    X,
    walk,
)  # fmt: skip
from .train_mlp import EPS, MOMENTUM, Job, OnProgress, Records, State, coefficients, empty_records, standing

# Floating-point operations between two looks at whether to stop, some 20 ms.
SEGMENT = 1_000_000_000
QUIET = 0.1  # seconds between two calls of on_progress, which asks all replicas


# ------------------------------------------------------------------------------------------------------- memory


class _Layout(NamedTuple):
    """Where everything of one replica lies. `order`: of each number of the arrays of Net.shapes, one array after the other,
    the place in panels; `statistics`: the same for the running statistics."""

    table: np.ndarray
    sizes: np.ndarray
    order: np.ndarray
    statistics: np.ndarray
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
    places: list[tuple[int, int]] = []
    inputs = net.inputs
    for layer, (row, units) in enumerate(zip(table, net.widths, strict=True)):
        depth, columns = -(-inputs // QUAD) * QUAD, -(-units // width) * width
        row[[INPUTS, DEPTH, PANELS, UNITS]] = inputs, depth, columns // width, units
        row[W], row[B] = theta.take(depth * columns), theta.take(columns)
        places += [(int(row[W]), depth), (int(row[B]), 1)]
        row[R], row[COUNTS] = work.take(rows * columns), counts.take(columns)
        row[H] = work.take(rows * columns) if net.residual and layer else row[R]
        if net.batch_norm:
            row[SCALE], row[SHIFT], row[MEAN] = theta.take(columns), theta.take(columns), running.take(2 * columns)
            places += [(int(row[SCALE]), 1), (int(row[SHIFT]), 1)]
            row[HAT], row[ROOT] = work.take(rows * columns), work.take(columns)
        inputs = units
    sizes[LAST_W], sizes[LAST_C] = theta.take(-(-inputs // width) * width), theta.take(width)
    places += [(int(sizes[LAST_W]), 1), (int(sizes[LAST_C]), 1)]
    theta.take(width * width)  # which the last square of a matrix may reach into
    widest = max(int(row[PANELS]) * width for row in table)
    sizes[TURNED] = work.take(-(-max(net.widths) // width) * width * width)  # a panel of transposed weights
    sizes[[D0, D1, D2]] = [work.take(rows * widest) for _ in range(3)]
    far = job.batch / max(job.batch - 1, 1)
    few = np.array([1 / job.batch, EPS, 1 - MOMENTUM, MOMENTUM, MOMENTUM * far, 1.0], dtype)
    means = [
        (int(row[MEAN]) + k * int(row[PANELS]) * width, int(row[UNITS])) for row in table for k in (0, 1) if net.batch_norm
    ]
    return _Layout(
        table, sizes, _order(places, net.shapes(), width), _rows(means),
        theta.used, running.used, counts.used, work.used, few, width,
    )  # fmt: skip


def _order(places: list[tuple[int, int]], shapes: list[tuple[int, int]], width: int) -> np.ndarray:
    """Where the numbers of matrices (rows, columns) lie in panels: each of `places` is an offset and the panels' rows."""
    found = []
    for (at, rows), shape in zip(places, shapes, strict=True):
        i, o = shape[::-1] if rows == 1 and shape[1] == 1 else shape  # the last weights (O, 1) lie as one row
        column = np.arange(o)
        found.append((at + column // width * rows * width + column % width + width * np.arange(i)[:, None]).ravel())
    return np.concatenate(found)


def _rows(places: list[tuple[int, int]]) -> np.ndarray:
    """Where the numbers of rows lie: an offset and a length each."""
    return np.concatenate([np.arange(at, at + length) for at, length in places] or [np.arange(0)])


def _zeros(count: int, dtype: Any) -> np.ndarray:
    made = empty(count, dtype)
    made[...] = 0
    return made


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
        for arrays, flat, order in self._packed():
            flat[order] = np.concatenate([array[r].ravel() for array in arrays])

    def _packed(self) -> list[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
        """Arrays of the state, where their numbers are in panels, and in which order."""
        state, layout = self.state, self.layout
        own = zip([state.parameters, *state.slots], [self.theta, self.m, self.s], strict=False)
        found = [(arrays, flat, layout.order) for arrays, flat in own]
        return [*found, (state.running, self.running, layout.statistics)] if state.running else found

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
        for arrays, flat, order in self._packed():
            edges = np.cumsum([array[0].size for array in arrays])[:-1]
            for array, part in zip(arrays, np.split(flat[order], edges), strict=True):
                array[self.r] = part.reshape(array.shape[1:])
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
    """Replicas in flight, of which each thread takes the one that is least far. While many are left there are as many as
    threads, so that memory does not grow with R; the last ones, fewer than twice the threads, take turns, so that no
    thread is left alone with a whole training."""

    def __init__(self, job: Job, state: State, on_progress: OnProgress) -> None:
        self.job, self.state, self.on_progress = job, state, on_progress
        self.layout, self.records = _layout(job), empty_records(job)
        self.first, self.last = state.step, int(job.record_at[-1])
        self.steps = _segment(job)
        self.unborn = list(range(len(job.seeds)))[::-1]
        self.resting: list[_Replica] = []
        self.reached = np.full(len(job.seeds), self.first)  # the step of each replica
        self.measured = np.full(len(job.seeds), -1)  # and its last record
        self.told = -math.inf
        self.failure: BaseException | None = None
        self.lock = threading.Lock()
        threads = min(_jit.thread_count(), len(job.seeds))
        self.threads, self.under_way = threads, 0
        self.X, self.X_eval = (_whole_vectors(X, self.layout.width) for X in (job.X, job.X_eval))
        helpers = [threading.Thread(target=self._work, name="minirelu", daemon=True) for _ in range(threads - 1)]
        try:
            for helper in helpers:
                helper.start()
            self._work(self._tell)
            for helper in helpers:
                while helper.is_alive():
                    helper.join(QUIET)
                    self._tell()
        except BaseException as failure:  # Ctrl-C, or on_progress, while the others finish
            self.failure = self.failure or failure
        for helper in helpers:
            if helper.ident is not None:
                helper.join()
        if self.failure is not None:
            raise self.failure
        self._tell(at_once=True)  # whichever thread was the last, the end is heard
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
        """The replica that is least far; a new one while fewer than `threads` are under way, or few are left."""
        with self.lock:
            if self.failure is not None:
                return None
            last = len(self.unborn) + self.under_way < 2 * self.threads
            if not self.unborn or not (last or self.under_way < self.threads):
                self.resting.sort(key=lambda replica: -replica.step)
                return self.resting.pop() if self.resting else None
            r = self.unborn.pop()
            self.under_way += 1
        return _Replica(r, self.job, self.state, self.layout)

    def _tell(self, at_once: bool = False) -> None:
        if not at_once and time.monotonic() < self.told + QUIET:
            return
        self.told = time.monotonic()
        done, total = int((self.reached - self.first).sum()), len(self.reached) * (self.last - self.first)
        known = np.flatnonzero(self.measured >= 0)
        at = self.measured[known]
        loss, active, nonfinite = (kept[known, at] for kept in self.records)
        self.on_progress(done, total, *standing(loss, active, nonfinite))


def _segment(job: Job) -> int:
    """Steps of one replica that take some 20 ms."""
    sides = (job.net.inputs, *job.net.widths, 1)
    return max(1, SEGMENT // (6 * job.batch * sum(a * b for a, b in pairwise(sides))))
