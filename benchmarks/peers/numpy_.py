"""The jobs in NumPy.

`naive`: as most people write it. `out=`: into given buffers, with a bool mask. `tuned`: the quickest spelling that we know:
the bytes of the mask are summed over blocks of 255 rows; non-finite numbers are counted only if the sum of y is not finite;
the gradient is selected by a product of integers, which is exact for ±inf and NaN too, and summed by BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.jobs import Job
from benchmarks.peers.arrays import Builder, Call, bool_mask, summands

ZERO = np.zeros((), np.float32)


def forward_naive(job: Job) -> Call:
    inputs = summands(job)

    def call() -> Any:
        y = np.maximum(sum(inputs[1:], start=inputs[0]), 0)
        mask = y > 0
        return y, mask, mask.sum(axis=-2), (~np.isfinite(y)).sum(axis=-2)

    return call


def forward_out(job: Job) -> Call:
    (first, second, *rest), y = summands(job), job.arrays["y"]
    mask, finite = np.empty(y.shape, bool), np.empty(y.shape, bool)
    active, nonfinite = (np.empty((*y.shape[:-2], y.shape[-1]), np.int64) for _ in range(2))

    def call() -> Any:
        np.add(first, second, out=y)
        for more in rest:
            np.add(y, more, out=y)
        np.maximum(y, ZERO, out=y)
        np.greater(y, ZERO, out=mask)
        np.sum(mask, axis=-2, out=active)
        np.isfinite(y, out=finite)
        np.logical_not(finite, out=finite)
        np.sum(finite, axis=-2, out=nonfinite)
        return y, mask, active, nonfinite

    return call


def forward_tuned(job: Job) -> Call:
    (first, second, *rest), y = summands(job), job.arrays["y"]
    mask = np.empty(y.shape, bool)
    count = _counts(y, mask)

    def call() -> Any:
        np.add(first, second, out=y)
        for more in rest:
            np.add(y, more, out=y)
        np.maximum(y, ZERO, out=y)
        return y, mask, *count()

    return call


def _counts(y: np.ndarray, mask: np.ndarray) -> Call:
    rows, counts = y.shape[-2], (*y.shape[:-2], y.shape[-1])
    ones = mask.view(np.uint8)
    blocks = [ones[..., i : i + 255, :] for i in range(0, rows, 255)]

    def call() -> Any:
        np.greater(y, ZERO, out=mask)
        active = np.zeros(counts, np.int64)
        for block in blocks:
            active += np.add.reduce(block, axis=-2, dtype=np.uint8)
        if np.isfinite(np.add.reduce(y, axis=None)):
            return active, np.zeros(counts, np.int64)
        return active, (~np.isfinite(y)).sum(axis=-2)

    return call


def counts_naive(job: Job) -> Call:
    y = job.arrays["y"]
    return lambda: ((y > 0).sum(axis=-2), (~np.isfinite(y)).sum(axis=-2))


def counts_tuned(job: Job) -> Call:
    y = job.arrays["y"]
    return _counts(y, np.empty(y.shape, bool))


def backward_naive(job: Job) -> Call:
    g, mask = job.arrays["g"], bool_mask(job)

    def call() -> Any:
        dz = np.where(mask, g, ZERO)
        return dz, dz.sum(axis=-2, keepdims=True)

    return call


def backward_out(job: Job) -> Call:
    g, dz, mask = job.arrays["g"], job.arrays["dz"], bool_mask(job)
    db = np.empty((*g.shape[:-2], 1, g.shape[-1]), g.dtype)

    def call() -> Any:
        np.multiply(g, mask, out=dz)
        np.sum(dz, axis=-2, keepdims=True, out=db)
        return dz, db

    return call


def backward_tuned(job: Job) -> Call:
    g, dz, mask = job.arrays["g"], job.arrays["dz"], bool_mask(job)
    integer = np.int32 if g.dtype == np.float32 else np.int64
    bits, selected, ones = g.view(integer), dz.view(integer), np.ones((1, g.shape[-2]), g.dtype)

    def call() -> Any:
        np.multiply(bits, mask, out=selected)
        return dz, np.matmul(ones, dz)

    return call


FORWARD: dict[str, Builder] = {"NumPy naive": forward_naive, "NumPy out=": forward_out, "NumPy tuned": forward_tuned}
BACKWARD: dict[str, Builder] = {"NumPy naive": backward_naive, "NumPy out=": backward_out, "NumPy tuned": backward_tuned}
COUNTS: dict[str, Builder] = {"NumPy naive": counts_naive, "NumPy tuned": counts_tuned}
