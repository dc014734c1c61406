"""The trainings of benchmarks/train.py written by hand in NumPy, one replica after another."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.training import BETA, BETA2, EPS, LR, Arrays, Call, Task


def train(task: Task) -> Arrays:
    """The parameters after all steps."""
    replicas = [_alone(task, r) for r in range(task.replicas)]
    return [np.stack(own) for own in zip(*replicas, strict=True)]


def loop(task: Task) -> Call:
    return lambda: train(task)


def _alone(task: Task, r: int) -> Arrays:
    theta = [p[r].copy() for p in task.parameters]
    m, v = ([np.zeros_like(p) for p in theta] for _ in range(2))
    zero, factor = np.asarray(0, np.float32), np.asarray(2 / task.rows.shape[-1], np.float32)
    targets = task.targets[r][:, None]
    for step, rows in enumerate(task.rows[r], 1):
        gradients = _gradients(theta, task.X[rows], targets[rows], zero, factor)
        update = _heavy_ball if task.rule == "heavy_ball" else _adam
        update(theta, gradients, m, v, step)
    return theta


def _gradients(theta: Arrays, x: Any, t: Any, zero: Any, factor: Any) -> Arrays:
    hidden = [x]
    for W, b in zip(theta[:-2:2], theta[1:-2:2], strict=True):
        z = hidden[-1] @ W
        z += b
        hidden.append(np.maximum(z, zero, out=z))
    g = hidden[-1] @ theta[-2]
    g += theta[-1]
    g -= t
    g *= factor
    found: Arrays = []
    for k in range(len(hidden) - 1, -1, -1):
        W = theta[2 * k]
        found += [np.add.reduce(g, 0, keepdims=True), hidden[k].T @ g]
        if k:
            g = g * W.T if W.shape[1] == 1 else g @ W.T
            g *= hidden[k] > zero
    return found[::-1]


def _heavy_ball(theta: Arrays, gradients: Arrays, m: Arrays, v: Arrays, step: int) -> None:
    for p, g, velocity in zip(theta, gradients, m, strict=True):
        velocity *= np.float32(BETA)
        velocity += g
        p -= np.float32(LR) * velocity


def _adam(theta: Arrays, gradients: Arrays, m: Arrays, v: Arrays, step: int) -> None:
    rate, root = np.float32(LR / (1 - BETA**step)), np.float32((1 - BETA2**step) ** -0.5)
    for p, g, first, second in zip(theta, gradients, m, v, strict=True):
        first *= np.float32(BETA)
        first += np.float32(1 - BETA) * g
        second *= np.float32(BETA2)
        g *= g
        g *= np.float32(1 - BETA2)
        second += g
        below = np.sqrt(second)
        below *= root
        below += np.float32(EPS)
        p -= rate * np.divide(first, below, out=below)


SPELLINGS = {"NumPy by hand": loop}
