"""Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): minibatches by counter.

A minibatch is a function of (seed, step) alone, so it is the same however runs are batched, sharded or resumed:

    key = seed (64 bits, low word first);   counter = (step, block, 0, 0);   four u32 a block;   row = (u32 · N) >> 32

Draws are with replacement; the multiply-shift maps 2³² words to N rows with a bias below N/2³².
"""

from __future__ import annotations

import numpy as np

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def reference(counter: tuple, key: tuple) -> tuple:
    """Ten rounds on arrays of u32 kept in uint64: four counter words, two key words -> four random words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p, q = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (q >> HALF) ^ c1 ^ k0, q & LOW, (p >> HALF) ^ c3 ^ k1, p & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return c0, c1, c2, c3


def batch_rows(seeds: np.ndarray, first: int, steps: int, batch: int, rows: int) -> np.ndarray:
    """Row indices int64 (R, steps, batch) of the minibatches `first`, `first + 1`, … of each seed (uint64, (R,))."""
    blocks = -(-batch // 4)
    step = np.arange(first, first + steps, dtype=np.uint64)[:, None]
    block = np.arange(blocks, dtype=np.uint64)
    seeds = seeds[:, None, None]
    zero = np.uint64(0)
    words = reference((step, block, zero, zero), (seeds & LOW, seeds >> HALF))
    drawn = np.stack(np.broadcast_arrays(*words), axis=-1).reshape(len(seeds), steps, 4 * blocks)[..., :batch]
    return (drawn * np.uint64(rows) >> HALF).astype(np.int64)
