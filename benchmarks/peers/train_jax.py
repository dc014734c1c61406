"""The trainings of benchmarks/train.py in JAX: the whole run as one jitted scan, alone and vmapped over the replicas."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.training import BETA, BETA2, EPS, LR, Arrays, Call, Task


def scan(task: Task) -> Call:
    """One replica after another; their parameters are donated."""
    X, targets, rows = jnp.asarray(task.X), jnp.asarray(task.targets), jnp.asarray(task.rows)
    run = jax.jit(functools.partial(_run, task.rule, X), donate_argnums=0)

    def call() -> Arrays:
        replicas = [run([jnp.array(p[r]) for p in task.parameters], targets[r], rows[r]) for r in range(task.replicas)]
        return [np.stack([np.asarray(p) for p in own]) for own in zip(*replicas, strict=True)]

    return call


def vmapped(task: Task) -> Call:
    """All replicas in one program; their parameters are donated."""
    X, targets, rows = jnp.asarray(task.X), jnp.asarray(task.targets), jnp.asarray(task.rows)
    run = jax.jit(jax.vmap(functools.partial(_run, task.rule, X)), donate_argnums=0)
    return lambda: [np.asarray(p) for p in run([jnp.array(p) for p in task.parameters], targets, rows)]


def _run(rule: str, X: Any, theta: Any, targets: Any, rows: Any) -> Any:
    """The parameters of one replica after the steps of rows (S, B)."""

    def loss(theta: Any, x: Any, t: Any) -> Any:
        h = x
        for k in range(0, len(theta) - 2, 2):
            h = jax.nn.relu(h @ theta[k] + theta[k + 1])
        return (((h @ theta[-2] + theta[-1])[:, 0] - t) ** 2).mean()

    def step(carry: Any, at: Any) -> Any:
        theta, m, v, count = carry
        g = jax.grad(loss)(theta, X[at], targets[at])
        count = count + 1
        if rule == "heavy_ball":
            m = [BETA * a + b for a, b in zip(m, g, strict=True)]
            theta = [p - LR * a for p, a in zip(theta, m, strict=True)]
        else:
            m = [BETA * a + (1 - BETA) * b for a, b in zip(m, g, strict=True)]
            v = [BETA2 * a + (1 - BETA2) * b * b for a, b in zip(v, g, strict=True)]
            rate, root = LR / (1 - BETA**count), (1 - BETA2**count) ** -0.5
            theta = [p - rate * a / (jnp.sqrt(b) * root + EPS) for p, a, b in zip(theta, m, v, strict=True)]
        return (theta, m, v, count), None

    zeros = [jnp.zeros_like(p) for p in theta]
    (theta, *_), _ = jax.lax.scan(step, (theta, zeros, zeros, jnp.float32(0)), rows)
    return theta


SPELLINGS = {"JAX scan": scan, "JAX scan, vmapped": vmapped}
