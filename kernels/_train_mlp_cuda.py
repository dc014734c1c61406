"""The launches of train_mlp.cu: a block a replica, thousands of steps a launch. Nets too large for a block go to cuBLAS.

`run(job, state, on_progress)` is all that is called from outside; job and state are NumPy's, the copies on the device are
made here.

- all of a replica fits a block's shared memory: it stays there for a whole launch;
- else, up to `LARGEST` bytes a replica: the same text on global memory, behind the second cache;
- else `_train_mlp_batched.py`: products of all replicas at once by cuBLAS, a step by step.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from . import _cuda, _train_mlp_batched
from .optimiser_step import RULES
from .train_mlp import Job, OnProgress, Records, State, empty_records, standing

PARTS = ("_rules.h", "train_mlp")

# Threads of a block: no sum depends on them. Not yet measured.
THREADS = 256

# Updates of one replica between two looks at whether to stop, unless the next record is further away.
SEGMENT = 2000

# Bytes of one replica from which the products are large enough for cuBLAS. Not yet measured.
LARGEST = 1 << 20


class Layout(NamedTuple):
    """The table that train_mlp.cu reads (its enums), and what it follows from."""

    table: np.ndarray
    kept: int  # numbers of a replica that outlive a launch: parameters, states, running statistics
    cells: int  # numbers of a replica in all

    @classmethod
    def of(cls, job: Job) -> Layout:
        """Where everything of a replica lies."""
        net, batch, states = job.net, job.batch, len(RULES[job.rule][1])
        sizes = [i * o for i, o in net.shapes()]
        starts = [0, *accumulate(sizes)]
        parameters, per, units = starts[-1], 4 if net.batch_norm else 2, sum(net.widths)
        running = 2 * units if net.batch_norm else 0
        at_running = (1 + states) * parameters
        kept = at_running + running
        at_e, at_x = kept + 8, kept + 8 + batch
        at_d = at_x + batch * net.inputs
        end = at_d + (batch * max(net.widths) if len(net.widths) > 1 else 0)
        lines, first, fan_in = [], 0, net.inputs
        for layer, out in enumerate(net.widths):
            r, end = end, end + batch * out
            h, end = (end, end + batch * out) if net.residual and layer else (r, end)
            hat, end = (end, end + batch * out) if net.batch_norm else (end, end)
            root, end = (end, end + out) if net.batch_norm else (end, end)
            lines += [fan_in, out, starts[per * layer], 2 * first, first, r, h, hat, root]
            first, fan_in = first + out, out
        residual = net.residual and len(net.widths) > 1
        head = [net.inputs, len(job.X), len(job.X_eval), batch, len(net.widths), list(RULES).index(job.rule), residual]
        head += [net.batch_norm, parameters, states, running, units, len(job.record_at), end]
        head += [starts[-3], at_running, kept, at_e, at_x, at_d]
        return cls(np.array([*head, *lines], np.int64), kept, end)


def run(job: Job, state: State, on_progress: OnProgress) -> Records:
    """Train to the last step of `record_at` on the GPU, all replicas at once."""
    layout, head = Layout.of(job), -(-12 * job.batch // 16) * 16
    size = layout.cells * job.X.itemsize
    here = head + size <= _cuda.attribute("MaxSharedMemoryPerBlockOptin")
    if not here and size > LARGEST:
        return _train_mlp_batched.run(job, state, on_progress)
    name = f"train_mlp_{'shared' if here else 'global'}_{_cuda.TYPES[job.X.dtype.name]}"
    return _launched(job, state, on_progress, layout, name, head + size * here)


def _launched(job: Job, state: State, on_progress: OnProgress, layout: Layout, name: str, shared: int) -> Records:
    import cupy

    R, first, at = len(job.seeds), state.step, job.record_at
    records = empty_records(job)
    targets = (job.gamma[:, None] * job.y + job.delta[:, None]).astype(job.X.dtype)
    settings = np.stack([job.lr, job.beta, job.beta2, job.eps, job.gamma, job.delta], axis=1)
    given = [cupy.asarray(a) for a in (layout.table, job.X, targets, job.X_eval, job.y_eval, job.seeds, settings)]
    kept, loss, active, nonfinite = (cupy.asarray(a) for a in (_packed(state), *records))
    cells = 1 if "shared" in name else R * layout.cells
    memory, steps = cupy.empty(cells, job.X.dtype), cupy.asarray(at)
    step, length = first, int(at[-1]) - first
    for begin, end in _segments(at.tolist(), first):
        arguments = (*given, kept, memory, steps, loss, active, nonfinite, step, begin, end)
        _cuda.launch(PARTS, name, (R,), (THREADS,), arguments, shared=shared, options=_cuda.CONTRACTED)
        step = int(at[end - 1])
        latest = (kept_[:, end - 1].get() for kept_ in (loss, active, nonfinite))
        on_progress(R * (step - first), R * length, *standing(*latest))
    _unpack(kept.get(), state)
    state.step = step
    return Records(loss.get(), active.get(), nonfinite.get())


def _segments(at: list[int], step: int) -> list[tuple[int, int]]:
    """Records (begin, end) of each launch: about `SEGMENT` updates."""
    found, begin = [], 0
    for end in range(1, len(at) + 1):
        if end == len(at) or at[end] - step > SEGMENT:
            found.append((begin, end))
            begin, step = end, at[end - 1]
    return found


def _arrays(state: State) -> list[np.ndarray]:
    return [*state.parameters, *(a for slot in state.slots for a in slot), *state.running]


def _packed(state: State) -> np.ndarray:
    """(R, kept): everything of a replica in one row."""
    return np.concatenate([a.reshape(len(a), -1) for a in _arrays(state)], axis=1)


def _unpack(rows: np.ndarray, state: State) -> None:
    first = 0
    for a in _arrays(state):
        size: Any = a[0].size
        a[...] = rows[:, first : first + size].reshape(a.shape)
        first += size
