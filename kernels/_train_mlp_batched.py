"""The training of train_mlp.py for nets too large for a block: all replicas at once, their products batched (cuBLAS by CuPy).

The formulas of the reference with a leading axis of replicas; between the products run the fused kernels of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from .philox import batch_rows
from .train_mlp import EPS, EVALUATED, MOMENTUM, Job, Net, OnProgress, Records, State, coefficients, empty_records, standing

Array = Any

HEARD = 250  # steps between two calls of on_progress, whose rows are drawn and moved to the device at once


class _Device(NamedTuple):
    """What lies on the device for the whole run."""

    X: Array
    targets: Array  # (R, N)
    X_eval: Array
    parameters: list[Array]
    slots: list[list[Array]]
    running: list[Array]


@np.errstate(all="ignore")  # replicas may diverge
def run(job: Job, state: State, on_progress: OnProgress) -> Records:
    """Train to the last step of `record_at` on the GPU, all replicas step by step."""
    import cupy

    targets = (job.gamma[:, None] * job.y + job.delta[:, None]).astype(job.X.dtype)
    here = _Device(
        cupy.asarray(job.X),
        cupy.asarray(targets),
        cupy.asarray(job.X_eval),
        [cupy.asarray(a) for a in state.parameters],
        [[cupy.asarray(a) for a in slot] for slot in state.slots],
        [cupy.asarray(a) for a in state.running],
    )
    records, R, step, first = empty_records(job), len(job.seeds), state.step, state.step
    length, latest = int(job.record_at[-1]) - first, (np.full(R, np.nan), records.active[:, 0], records.nonfinite[:, 0] + 1)
    for t, stop in enumerate(job.record_at.tolist()):
        for now in _trained(cupy, job, here, step, stop):
            on_progress(R * (now - first), R * length, *standing(*latest))
        step, latest = stop, _measured(cupy, job, here)
        for kept, measured in zip(records, latest, strict=True):
            kept[:, t] = measured
    on_progress(R * length, R * length, *standing(*latest))
    for mine, theirs in zip(_arrays(state), _arrays(here), strict=True):
        mine[...] = theirs.get()
    state.step = step
    return records


def _arrays(holder: Any) -> list[Array]:
    return [*holder.parameters, *(a for slot in holder.slots for a in slot), *holder.running]


def _trained(xp: Any, job: Job, here: _Device, step: int, stop: int) -> Iterator[int]:
    """Train from `step` to `stop`; the step is given every `HEARD` steps on the way."""
    each = xp.arange(len(job.seeds))[:, None]
    while step < stop:
        ahead = min(HEARD, stop - step)
        drawn = xp.asarray(batch_rows(job.seeds, step, ahead, job.batch, len(job.X)))
        for k in range(ahead):
            rows = drawn[:, k]
            found = _gradients(xp, job.net, here.X[rows], here.targets[each, rows][..., None], here)
            c = xp.asarray(np.concatenate([coefficients(job, r, step) for r in range(len(job.seeds))], axis=1))
            for i, (g, *own) in enumerate(zip(found, *here.slots, strict=True)):
                here.parameters[i] = kernels.optimiser_step(job.rule, here.parameters[i], g, c, *own, checked=True)
            step += 1
        if step < stop:
            yield step


def _gradients(xp: Any, net: Net, x: Array, t: Array, here: _Device) -> list[Array]:
    """Of the loss on x (R, B, I), t (R, B, 1), for each parameter; batch norm's running statistics follow on the way."""
    h, passes, theta, n = x, [], here.parameters, x.shape[-2]
    for layer, (W, b, *norm) in enumerate(_hidden(net, theta)):
        z, unit, root = xp.matmul(h, W), None, None
        if norm:
            z, unit, root = _normalised(xp, z + b, here.running, layer)
            z, b = norm[0] * unit, norm[1]
        r, mask, _, _ = kernels.bias_relu_forward(z, b, out=z)
        passes.append((h, mask, unit, root))
        h = h + r if net.residual and layer else r
    g = (xp.matmul(h, theta[-2]) + theta[-1] - t) * x.dtype.type(2 / n)
    found = [g.sum(axis=-2, keepdims=True), xp.matmul(h.swapaxes(-1, -2), g)]  # backwards
    d = xp.matmul(g, theta[-2].swapaxes(-1, -2))
    for layer, (W, b, *norm) in reversed(list(enumerate(_hidden(net, theta)))):
        below, mask, unit, root = passes[layer]
        dz, db = kernels.relu_backward(d, mask)
        if norm:
            d_scale = (dz * unit).sum(axis=-2, keepdims=True)
            dz = norm[0] / root * (dz - db / n - unit * (d_scale / n))
            found += [db, d_scale, xp.zeros_like(b)]
        else:
            found.append(db)
        found.append(xp.matmul(below.swapaxes(-1, -2), dz))
        if layer:
            d = xp.matmul(dz, W.swapaxes(-1, -2)) + (d if net.residual else 0)
    return found[::-1]


def _hidden(net: Net, theta: list[Array]) -> Iterator[list[Array]]:
    per = 4 if net.batch_norm else 2
    return (theta[i : i + per] for i in range(0, per * len(net.widths), per))


def _normalised(xp: Any, z: Array, running: list[Array], layer: int) -> tuple[Array, Array, Array]:
    """z, x̂ and √(variance + eps) of the batch; the running statistics move towards the batch's."""
    n, mean = z.shape[-2], z.mean(axis=-2, keepdims=True)
    spread = ((z - mean) ** 2).mean(axis=-2, keepdims=True)
    for i, now in ((2 * layer, mean), (2 * layer + 1, (n / (n - 1)) * spread)):
        running[i] = (1 - MOMENTUM) * running[i] + MOMENTUM * now
    root = xp.sqrt(spread + EPS)
    return z, (z - mean) / root, root


def _measured(xp: Any, job: Job, here: _Device) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R,) errors and (R, units) counts on X_eval."""
    parts = [_evaluated(xp, job.net, here.X_eval[i : i + EVALUATED], here) for i in range(0, len(job.X_eval), EVALUATED)]
    predictions = np.concatenate([p.get() for p, _, _ in parts], axis=-1).astype(np.float64)
    errors = (((predictions - job.delta[:, None]) / job.gamma[:, None] - job.y_eval) ** 2).mean(axis=-1)
    active, nonfinite = (
        np.sum([np.concatenate([c.get() for c in part[i]], axis=-1) for part in parts], axis=0) for i in (1, 2)
    )
    return np.where(np.isfinite(errors), errors, np.nan), active, nonfinite


def _evaluated(xp: Any, net: Net, x: Array, here: _Device) -> tuple[Array, list[Array], list[Array]]:
    """Predictions (R, B) in evaluation mode, and the counts of each hidden layer."""
    h, active, nonfinite = x, [], []
    for layer, (W, b, *norm) in enumerate(_hidden(net, here.parameters)):
        z = xp.matmul(h, W)
        if norm:
            mean, variance = here.running[2 * layer : 2 * layer + 2]
            z, b = (z + b - mean) * (norm[0] / xp.sqrt(variance + EPS)), norm[1]
        r, _, on, strange = kernels.bias_relu_forward(z, b, out=z)
        active.append(on)
        nonfinite.append(strange)
        h = h + r if net.residual and layer else r
    return (xp.matmul(h, here.parameters[-2]) + here.parameters[-1])[..., 0], active, nonfinite
