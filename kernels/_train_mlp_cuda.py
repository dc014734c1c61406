"""The launches of train_mlp.cu: a block a replica, thousands of steps a launch. Nets too large for a block go to cuBLAS.

`run(job, state, on_progress)` is all that is called from outside; job and state are NumPy's, the copies on the device are
made here.

- all of a replica fits a block's shared memory: it stays there for a whole launch;
- all but the optimiser's arrays fits: these are in global memory, behind the second cache, and the rest in shared memory;
- else, up to `LARGEST` bytes a replica without these arrays: the same text on global memory alone;
- else `_train_mlp_batched.py`: products of all replicas at once by cuBLAS, a step by step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from . import _cuda, _train_mlp_batched
from .optimiser_step import RULES
from .train_mlp import Job, OnProgress, Records, State, empty_records, standing

PARTS = ("_rules.h", "_products.h", "train_mlp")

# Threads of a block: no sum depends on them. Where fewer than three blocks share a multiprocessor each has more, up to LIMIT a
# multiprocessor, which is what the registers allow. Not yet measured.
THREADS, LIMIT = 128, 512

# Updates of one replica between two looks at whether to stop, unless the next record is further away.
SEGMENT = 2000

# Bytes of one replica, without the optimiser's arrays, from which the products are large enough for cuBLAS. Not yet measured.
# Below 4 million numbers a replica the kernel's divisions by float32 reciprocals are exact, too.
LARGEST = 1 << 20


def padded(size: int) -> int:
    """Numbers from row to row of a matrix of rows of `size`; as train_mlp.cu has it."""
    return 4 * (-(-size // 4) | 1)


class Layout(NamedTuple):
    """The table that train_mlp.cu reads (its enums), and what it follows from."""

    table: np.ndarray
    places: list[tuple[int, int]]  # of each parameter array: its first cell, and numbers from row to row
    parameters: int  # cells of all parameters; each array of the rule has as many
    states: int  # the first of the rule's arrays
    kept: int  # cells of a replica that outlive a launch: parameters, running statistics, states
    cells: int  # cells of a replica in all

    @classmethod
    def of(cls, job: Job, beside: bool = True) -> Layout:
        """Where everything of a replica lies; the rule's arrays among the cells if they are `beside`, else in `kept` alone."""
        net, stride = job.net, padded(job.batch)
        places, end = [], 0
        for rows, columns in net.shapes()[:-2]:
            places.append((end, padded(columns)))
            end += rows * padded(columns)
        last_w, units = end, net.widths[-1]
        places += [(last_w, 1), (last_w + units, 1)]  # the output's weights are a row, and so is its bias
        parameters = end + padded(units + 1)
        states = parameters + (padded(2 * sum(net.widths)) if net.batch_norm else 0)
        kept = states + parameters * len(RULES[job.rule][1])
        at_c = kept if beside else states
        at_e, at_x = at_c + 8, at_c + 8 + stride
        at_d = at_x + stride * _with_ones(net.inputs)
        end = at_d + (stride * _with_ones(max(net.widths)) if len(net.widths) > 1 else 0)
        lines, first, fan_in = [], 0, net.inputs
        for layer, out in enumerate(net.widths):
            size = stride * _with_ones(out)
            r, end = end, end + size
            h, end = (end, end + size) if net.residual and layer else (r, end)
            hat, end = (end, end + size) if net.batch_norm else (end, end)
            root, end = (end, end + padded(out)) if net.batch_norm else (end, end)
            lines += [fan_in, out, places[(4 if net.batch_norm else 2) * layer][0], 2 * first, first, r, h, hat, root]
            first, fan_in = first + out, out
        residual = net.residual and len(net.widths) > 1
        head = [net.inputs, len(job.X), len(job.X_eval), job.batch, len(net.widths), list(RULES).index(job.rule), residual]
        head += [net.batch_norm, parameters, sum(net.widths), len(job.record_at), end, kept]
        head += [last_w, parameters, states, at_c, at_e, at_x, at_d]
        return cls(np.array([*head, *lines], np.int64), places, parameters, states, kept, end)


def _with_ones(units: int) -> int:
    """Rows of an activation: a thread reads four at a time, and below the units is one of ones."""
    return -(-(units + 1) // 4) * 4


def run(job: Job, state: State, on_progress: OnProgress) -> Records:
    """Train to the last step of `record_at` on the GPU, all replicas at once."""
    where, layout, shared = placed(job, _cuda.attribute("MaxSharedMemoryPerBlockOptin"))
    if where == "batched":
        return _train_mlp_batched.run(job, state, on_progress)
    return _launched(job, state, on_progress, layout, where, shared)


def placed(job: Job, room: int) -> tuple[str, Layout, int]:
    """(where, layout, bytes of shared memory a block takes), where blocks may have `room` bytes of it: as at the top."""
    head = -(-12 * job.batch // 32) * 32  # the rows of the batch
    whole, without = (Layout.of(job, beside) for beside in (True, False))
    for where, layout in (("shared", whole), ("split", without)):
        shared = head + layout.cells * job.X.itemsize
        if shared <= room:
            return where, layout, shared
    return "global" if without.cells * job.X.itemsize <= LARGEST else "batched", without, head


def _launched(job: Job, state: State, on_progress: OnProgress, layout: Layout, where: str, shared: int) -> Records:
    import cupy

    R, first, at = len(job.seeds), state.step, job.record_at
    records = empty_records(job)
    targets = (job.gamma[:, None] * job.y + job.delta[:, None]).astype(job.X.dtype)
    settings = np.stack([job.lr, job.beta, job.beta2, job.eps, job.gamma, job.delta], axis=1)
    given = [cupy.asarray(a) for a in (layout.table, job.X, targets, job.X_eval, job.y_eval, job.seeds, settings)]
    kept, loss, active, nonfinite = (cupy.asarray(a) for a in (_packed(state, layout), *records))
    memory, steps = cupy.empty(R * layout.cells if where == "global" else 1, job.X.dtype), cupy.asarray(at)
    name, threads = f"train_mlp_{where}_{_cuda.TYPES[job.X.dtype.name]}", _threads(shared)
    step, length = first, int(at[-1]) - first
    for begin, end in _segments(at.tolist(), first):
        arguments = (*given, kept, memory, steps, loss, active, nonfinite, step, begin, end)
        _cuda.launch(PARTS, name, (R,), (threads,), arguments, shared=shared, options=_cuda.CONTRACTED)
        step = int(at[end - 1])
        latest = (kept_[:, end - 1].get() for kept_ in (loss, active, nonfinite))
        on_progress(R * (step - first), R * length, *standing(*latest))
    _unpack(kept.get(), state, layout)
    state.step = step
    return Records(loss.get(), active.get(), nonfinite.get())


def _threads(shared: int) -> int:
    """Threads of a block that takes so many bytes of shared memory; the system takes a kilobyte more."""
    blocks = _cuda.attribute("MaxSharedMemoryPerMultiprocessor") // (shared + 1024)
    return LIMIT // blocks if blocks in (1, 2) else THREADS


def _segments(at: list[int], step: int) -> list[tuple[int, int]]:
    """Records (begin, end) of each launch: about `SEGMENT` updates."""
    found, begin = [], 0
    for end in range(1, len(at) + 1):
        if end == len(at) or at[end] - step > SEGMENT:
            found.append((begin, end))
            begin, step = end, at[end - 1]
    return found


def _views(rows: np.ndarray, state: State, layout: Layout) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each array of `state` (R, I, O), and where it lies in the rows (R, kept)."""
    for number, own in enumerate((state.parameters, *state.slots)):
        start = layout.states + (number - 1) * layout.parameters if number else 0
        for a, (first, stride) in zip(own, layout.places, strict=True):
            at = start + first
            yield a, rows[:, at : at + a.shape[1] * stride].reshape(len(a), -1, stride)[..., : a.shape[2]]
    at = layout.parameters
    for a in state.running:
        yield a, rows[:, None, at : at + a.shape[2]]
        at += a.shape[2]


def _packed(state: State, layout: Layout) -> np.ndarray:
    """(R, kept): everything of a replica in one row, and 0 between."""
    rows = np.zeros((len(state.parameters[0]), layout.kept), state.parameters[0].dtype)
    for a, place in _views(rows, state, layout):
        place[...] = a
    return rows


def _unpack(rows: np.ndarray, state: State, layout: Layout) -> None:
    for a, place in _views(rows, state, layout):
        a[...] = place
