"""The jobs in JAX, compiled by jit; results are fresh, as always in JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.jobs import Job
from benchmarks.peers.arrays import Builder, Call, bool_mask, summands


def forward(job: Job) -> Call:
    inputs = [jnp.asarray(array) for array in summands(job)]

    @jax.jit
    def forward(*inputs: Any) -> Any:
        y = jax.nn.relu(sum(inputs[1:], start=inputs[0]))
        return y, y > 0, (y > 0).sum(-2), (~jnp.isfinite(y)).sum(-2)

    return lambda: jax.block_until_ready(forward(*inputs))


def backward(job: Job) -> Call:
    g, mask = jnp.asarray(job.arrays["g"]), jnp.asarray(bool_mask(job))

    @jax.jit
    def backward(g: Any, mask: Any) -> Any:
        dz = jnp.where(mask, g, 0)
        return dz, dz.sum(-2, keepdims=True)

    return lambda: jax.block_until_ready(backward(g, mask))


FORWARD: dict[str, Builder] = {"JAX jit": forward}
BACKWARD: dict[str, Builder] = {"JAX jit": backward}
COUNTS: dict[str, Builder] = {}
