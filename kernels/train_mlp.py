"""A whole training run: R replicas of one ReLU MLP, each with its own data targets, seed, settings and parameters.

    for every step s and replica r, on the rows of the minibatch (seed_r, s) of philox.py:
    h_0 = x;   z = h_{l-1} W_l + b_l   [batch norm: z ← scale·(z − mean)/√(variance + 1e-5) + shift];   r_l = relu(z)
    h_l = r_l, or h_{l-1} + r_l from the second layer on in residual nets;   p = h_L w + c
    loss = mean (p − t)² with t = γ_r·y + δ_r;   θ ← the rule of optimiser_step.py

Shapes   `Net`, `Job`, `State` and `Records` below say them all; a state is changed in place.
Batch norm as nn.BatchNorm: the biased variance of the batch in training, running statistics with momentum .1 (of the unbiased
         variance) in evaluation. The bias b before it has the exact gradient 0, and that is what it gets (the engine has
         rounding noise there).
Measured at the steps `record_at` (s: after s updates), on X_eval in evaluation mode: the error in float64, and on how many
         rows each unit's r is active (r > 0) and non-finite.
Special  relu and its slope by the table of docs/decisions.md: NaN stays NaN, the slope is selected and not multiplied. A
         replica that diverges goes on; its error is recorded as NaN and its units as non-finite, and no other replica notices.
Exact    on one backend, parameters, state and records do not depend to the bit on which replicas are trained together, on
         the number of threads, or on where a run is cut into segments: every sum's order depends on one replica alone.
         The minibatches are the same on every backend, and the engine's.
Bound    the backends and the engine differ in the order of sums and in contraction (a·b + c rounded once) alone: a relative
         √n·eps in a sum of n terms. Training multiplies the difference, so a bound holds for some steps and not for ever.
         Over the first 100 steps of the paper's net, and of 3 and 4 layers of 40 units, losses agree with the engine's to a
         relative 1e-5 in float32 and 1e-12 in float64, and counts of dead units are equal (tests/test_train_mlp.py; measured
         1e-6 and 4e-15). Deeper or wider nets part earlier in float32: at 4 layers of 200 units Adam's losses differ by 2e-3
         after 100 steps, at 8 layers with batch norm by up to 6e-2; in float64 both by 7e-15. What holds for all lengths is
         that outcomes are equal as distributions.
Backends reference (NumPy, one replica after another), numba (_train_mlp_loops.py), cuda (_train_mlp_cuda.py). The engine
         runs the same `Job` and `State` in minirelu/train/with_engine.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import optimiser_step
from .philox import batch_rows

EPS = 1e-5  # of batch norm
MOMENTUM = 0.1

EVALUATED = 4096  # rows of X_eval that go through the net at once
HEARD = 250  # steps of the reference between two calls of on_progress, whose rows are drawn at once

OnProgress = Callable[[int, int, float, float], object]


class Net(NamedTuple):
    """A ReLU MLP with one output: `inputs`, then hidden layers of `widths` units."""

    inputs: int
    widths: tuple[int, ...]
    residual: bool = False
    batch_norm: bool = False

    def shapes(self) -> list[tuple[int, int]]:
        """(I, O) of one replica's parameters in forward order: W, b [, scale, shift] a hidden layer; then W, b."""
        sides = (self.inputs, *self.widths)
        made: list[tuple[int, int]] = []
        for fan_in, units in zip(sides, self.widths, strict=False):
            made += [(fan_in, units), *[(1, units)] * (3 if self.batch_norm else 1)]
        return [*made, (sides[-1], 1), (1, 1)]


class Job(NamedTuple):
    """What R replicas are trained on. Replica r's targets are gamma[r]·y + delta[r], computed in float64, then rounded."""

    net: Net
    rule: str  # of optimiser_step.RULES
    X: np.ndarray  # (N, I), of the dtype of everything
    y: np.ndarray  # (N,) float64
    X_eval: np.ndarray  # (M, I)
    y_eval: np.ndarray  # (M,) float64; NaN gives an error of NaN
    batch: int
    seeds: np.ndarray  # (R,) uint64, of the minibatches
    lr: np.ndarray  # (R,) float64, as all that follow
    beta: np.ndarray
    beta2: np.ndarray
    eps: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    record_at: np.ndarray  # (T,) int64, ascending; training ends at the last


@dataclass
class State:
    """R replicas at one step: all that the next steps depend on. Arrays are C-contiguous and written in place."""

    parameters: list[np.ndarray]  # (R, I, O) each, in the order of Net.shapes
    running: list[np.ndarray]  # a hidden layer's mean and variance, (R, 1, O) each; empty without batch norm
    slots: list[list[np.ndarray]]  # the arrays of the rule, each a list like `parameters`
    step: int = 0


class Records(NamedTuple):
    """What was measured at the T steps of `record_at`; the units of all hidden layers stand side by side."""

    loss: np.ndarray  # (R, T) float64: mean ((p − δ)/γ − y)² over X_eval, NaN if not finite
    active: np.ndarray  # (R, T, units) int64: rows of X_eval
    nonfinite: np.ndarray  # (R, T, units) int64


def fresh(rule: str, parameters: list[np.ndarray], running: list[np.ndarray]) -> State:
    """The state at step 0, with the arrays of `rule` at 0."""
    return State(parameters, running, [[np.zeros_like(p) for p in parameters] for _ in optimiser_step.RULES[rule][1]])


def empty_records(job: Job) -> Records:
    """Records to be filled: errors NaN, counts 0."""
    shape = len(job.seeds), len(job.record_at)
    counts = (*shape, sum(job.net.widths))
    return Records(np.full(shape, np.nan), np.zeros(counts, np.int64), np.zeros(counts, np.int64))


def standing(loss: np.ndarray, active: np.ndarray, nonfinite: np.ndarray) -> tuple[float, float]:
    """Mean error and share of dead units of the latest records (R,), (R, units): of what is finite, NaN if nothing is."""
    known, sound = np.isfinite(loss), ~nonfinite.any(axis=-1)
    return (
        float(loss[known].mean()) if known.any() else np.nan,
        float((active[sound] == 0).mean()) if sound.any() else np.nan,
    )


def coefficients(job: Job, r: int, step: int) -> np.ndarray:
    """Replica r's coefficients (n, 1) of `optimiser_step` for the update number step + 1, as optim.py makes them."""
    lr, beta, beta2, eps = (float(values[r]) for values in (job.lr, job.beta, job.beta2, job.eps))
    if job.rule == "adam":
        t = step + 1
        made = [lr / (1 - beta**t), beta, 1 - beta, beta2, 1 - beta2, 1 / np.sqrt(1 - beta2**t), eps]
    else:
        made = [lr, beta, 1 - beta][: len(optimiser_step.RULES[job.rule][0])]
    return np.array(made, job.X.dtype)[:, None]


# ------------------------------------------------------------------------------------------------------- reference


def reference(job: Job, state: State, on_progress: OnProgress) -> Records:
    """Train to the last step of `record_at`, one replica after another."""
    records, first, R = empty_records(job), state.step, len(job.seeds)
    length = int(job.record_at[-1]) - first
    latest = Records(*(kept[:, 0].copy() for kept in records))
    latest.nonfinite[...] = 1  # of replicas that have not been measured nothing is known
    for r in range(R):
        at = first
        for t, stop in enumerate(job.record_at.tolist()):
            for step in _trained(job, state, r, at, stop):
                on_progress(r * length + step - first, R * length, *standing(*latest))
            for kept, own, now in zip(records, latest, _measured(job, state, r), strict=True):
                kept[r, t] = own[r] = now
            at = stop
        on_progress((r + 1) * length, R * length, *standing(*latest))
    state.step = first + length
    return records


def _trained(job: Job, state: State, r: int, step: int, stop: int) -> Iterator[int]:
    """Train replica r from `step` to `stop`; the step is given every `HEARD` steps on the way."""
    targets = (job.gamma[r] * job.y + job.delta[r]).astype(job.X.dtype)
    theta, running = [p[r] for p in state.parameters], [a[r] for a in state.running]
    slots = [[a[r] for a in slot] for slot in state.slots]
    rule = optimiser_step.reference[job.rule]
    while step < stop:
        ahead = min(HEARD, stop - step)
        for rows in batch_rows(job.seeds[r : r + 1], step, ahead, job.batch, len(job.X))[0]:
            gradients = _gradients(job.net, job.X[rows], targets[rows, None], theta, running)
            c = coefficients(job, r, step)
            for x, g, *own in zip(theta, gradients, *slots, strict=True):
                rule(x, g, x, c, *own)
            step += 1
        if step < stop:
            yield step


class _Pass(NamedTuple):
    """What the way back through a hidden layer needs: its input, and which units were active; with batch norm x̂ and √."""

    h: np.ndarray
    active: np.ndarray
    unit: Any = None
    spread: Any = None


def _gradients(net: Net, x: np.ndarray, t: np.ndarray, theta: list[np.ndarray], running: list[np.ndarray]) -> list[np.ndarray]:
    """Of the loss on x (B, I), t (B, 1), for each of `theta`; batch norm's running statistics follow on the way."""
    h, passes = x, []
    for layer, (W, b, *norm) in enumerate(_hidden(net, theta)):
        z, unit, spread = h @ W + b, None, None
        if norm:
            z, unit, spread = _normalised(z, *norm, *running[2 * layer : 2 * layer + 2])
        passes.append(_Pass(h, z > 0, unit, spread))
        r = np.where(z <= 0, 0, z)
        h = h + r if net.residual and layer else r
    g = (h @ theta[-2] + theta[-1] - t) * x.dtype.type(2 / len(x))
    found = [g.sum(axis=0, keepdims=True), h.T @ g]  # backwards
    d = g @ theta[-2].T
    for layer, (W, b, *norm) in reversed(list(enumerate(_hidden(net, theta)))):
        own = passes[layer]
        dz = np.where(own.active, d, 0)
        if norm:
            d_scale, d_shift = (dz * own.unit).sum(axis=0, keepdims=True), dz.sum(axis=0, keepdims=True)
            dz = norm[0] / own.spread * (dz - d_shift / len(x) - own.unit * (d_scale / len(x)))
            found += [d_shift, d_scale, np.zeros_like(b)]
        else:
            found.append(dz.sum(axis=0, keepdims=True))
        found.append(own.h.T @ dz)
        if layer:
            d = dz @ W.T + (d if net.residual else 0)
    return found[::-1]


def _hidden(net: Net, theta: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The parameters of each hidden layer."""
    per = 4 if net.batch_norm else 2
    return (theta[i : i + per] for i in range(0, per * len(net.widths), per))


def _normalised(z: np.ndarray, scale: Any, shift: Any, mean: Any, variance: Any) -> tuple[np.ndarray, ...]:
    """scale·x̂ + shift, x̂ and √(variance + eps) of the batch; the running `mean` and `variance` move towards the batch's."""
    own = z.mean(axis=0, keepdims=True)
    spread = ((z - own) ** 2).mean(axis=0, keepdims=True)
    mean[...] = (1 - MOMENTUM) * mean + MOMENTUM * own
    variance[...] = (1 - MOMENTUM) * variance + MOMENTUM * (len(z) / (len(z) - 1)) * spread
    root = np.sqrt(spread + EPS)
    unit = (z - own) / root
    return scale * unit + shift, unit, root


def _measured(job: Job, state: State, r: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The error of replica r on X_eval, and per unit the rows on which it is active and non-finite."""
    theta, running = [p[r] for p in state.parameters], [a[r] for a in state.running]
    parts = [_evaluated(job.net, job.X_eval[i : i + EVALUATED], theta, running) for i in range(0, len(job.X_eval), EVALUATED)]
    predictions = np.concatenate([p for p, _, _ in parts]).astype(np.float64)
    error = (((predictions - job.delta[r]) / job.gamma[r] - job.y_eval) ** 2).mean()
    active, nonfinite = (np.sum([part[i] for part in parts], axis=0) for i in (1, 2))
    return (float(error) if np.isfinite(error) else np.nan), active, nonfinite


def _evaluated(net: Net, x: np.ndarray, theta: list[np.ndarray], running: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Predictions (B,) in evaluation mode, and the counts of all units side by side."""
    h, active, nonfinite = x, [], []
    for layer, (W, b, *norm) in enumerate(_hidden(net, theta)):
        z = h @ W + b
        if norm:
            mean, variance = running[2 * layer : 2 * layer + 2]
            z = (z - mean) * (norm[0] / (variance + EPS) ** 0.5) + norm[1]
        r = np.where(z <= 0, 0, z)
        active.append((r > 0).sum(axis=0))
        nonfinite.append((~np.isfinite(r)).sum(axis=0))
        h = h + r if net.residual and layer else r
    return (h @ theta[-2] + theta[-1])[:, 0], np.concatenate(active), np.concatenate(nonfinite)
