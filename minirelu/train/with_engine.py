"""A training job of `kernels.train_mlp` run by the engine: layers, losses, optimisers, and the loop `fit`.

It is what the kernels are measured against, and what runs where they cannot: without Numba. As in the kernels, the
bias directly before batch norm stays as it is (nets.py).

- `run(job, state, on_progress)`. `optimiser(rule, parameters, lr, ...)`: by the rule's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn, optim
from ..engine import quiet
from ..kernels.train_mlp import EVALUATED, HEARD, Job, OnProgress, Records, State, empty_records, standing
from .loop import fit
from .nets import moved, rebuilt


def run(job: Job, state: State, on_progress: OnProgress) -> Records:
    """`kernels.train_mlp` with all replicas at once."""
    R, first, last = len(job.seeds), state.step, int(job.record_at[-1])
    targets = (job.gamma[:, None] * job.y + job.delta[:, None]).astype(job.X.dtype)[..., None]
    net = rebuilt(job.net, state.parameters, state.running, R)
    trained = moved(net)
    opt = _resumed(job, state, net.parameters(), trained)
    records, latest = empty_records(job), (np.nan, np.nan)
    for t, stop in enumerate(job.record_at.tolist()):
        while opt.steps < stop:
            fit(net, opt, job.X, targets, batch=job.batch, steps=min(opt.steps + HEARD, stop), seeds=job.seeds)
            if opt.steps < stop:
                on_progress(R * (opt.steps - first), R * (last - first), *latest)
        for kept, now in zip(records, _measured(job, net), strict=True):
            kept[:, t] = now
        latest = standing(*(kept[:, t] for kept in records))
        on_progress(R * (stop - first), R * (last - first), *latest)
    _bring_back(state, net, opt, trained)
    return records


def optimiser(
    rule: str, parameters: list[Any], lr: Any, beta: Any = 0.9, beta2: Any = 0.999, eps: Any = 1e-8
) -> optim.Optimiser:
    """The optimiser that a rule is called in kernels/optimiser_step.py; `beta` is Adam's first."""
    made: dict[str, Callable[[], optim.Optimiser]] = {
        "sgd": lambda: optim.SGD(parameters, lr),
        "heavy_ball": lambda: optim.HeavyBall(parameters, lr, beta),
        "nesterov": lambda: optim.Nesterov(parameters, lr, beta),
        "ema": lambda: optim.EMAMomentum(parameters, lr, beta),
        "adam": lambda: optim.Adam(parameters, lr, beta, beta2, eps),
    }
    return made[rule]()


def _resumed(job: Job, state: State, everything: list[Any], trained: list[int]) -> optim.Optimiser:
    """The job's optimiser, where the state left it."""
    opt = optimiser(job.rule, [everything[i] for i in trained], job.lr, job.beta, job.beta2, job.eps)
    opt.steps = state.step
    for name, slot in zip(opt.slots, state.slots, strict=True):
        opt.state[name] = [slot[i] for i in trained]
    return opt


@quiet
def _measured(job: Job, net: nn.Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per replica the error (R,), and per unit the active and non-finite rows (R, units), from one pass over X_eval."""
    from ..monitor import UnitActivity

    activity, outputs = UnitActivity(), []
    with nn.evaluating(net):
        for i in range(0, len(job.X_eval), EVALUATED):
            output = net(job.X_eval[i : i + EVALUATED])
            activity.update(output)
            outputs.append(output.data[..., 0])
    predictions = np.concatenate(outputs, axis=-1).astype(np.float64)
    # in float64, as γ² may be 1e-10
    errors = (((predictions - job.delta[:, None]) / job.gamma[:, None] - job.y_eval) ** 2).mean(axis=-1)
    active, nonfinite = zip(*activity.unit_counts().values(), strict=True)
    return np.where(np.isfinite(errors), errors, np.nan), np.concatenate(active, -1), np.concatenate(nonfinite, -1)


def _bring_back(state: State, net: nn.Layer, opt: optim.Optimiser, trained: list[int]) -> None:
    """Everything that the next steps depend on, into the arrays of `state`."""
    kept = [*state.parameters, *state.running, *(slot[i] for slot in state.slots for i in trained)]
    made = [tensor.data for tensor in (*net.parameters(), *net.buffers())]
    for old, new in zip(kept, made + [array for name in opt.slots for array in opt.state[name]], strict=True):
        old[...] = new
    state.step = opt.steps
