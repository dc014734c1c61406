"""Shards of a study on the sweep's workers (minirelu/sweep/processes.py): spread, heard, and stopped by Ctrl-C.

- `run_shards(shards, X, y, workers, on_progress, on_outcomes)`: outcomes of all shards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from ..sweep.processes import Advanced, Failed, Processes
from .study import Outcome, Progress, Shard, train_shard


def run_shards(
    shards: Sequence[Shard],
    X: np.ndarray,
    y: np.ndarray,
    workers: int,
    on_progress: Callable[[Progress], object],
    on_outcomes: Callable[[list[Outcome]], object],
) -> list[Outcome]:
    """Train `shards` on X and y in at most `workers` processes with one BLAS and Numba thread each.

    On Ctrl-C the workers are stopped and it goes on to the caller. Unlike a sweep, a study has few shards and needs them all:
    when one fails, the rest is stopped, and `RuntimeError` has the traceback (`BrokenProcessPool` if the worker was killed).
    """
    found: list[Outcome] = []
    with Processes(_train, (X, y), workers) as pool:
        for shard in shards:
            pool.submit(shard)
        while pool.busy:
            for event in pool.events(timeout=0.2):
                if isinstance(event, Failed):
                    raise BrokenProcessPool(event.why) if event.lost else RuntimeError(event.why)
                if isinstance(event, Advanced):
                    on_progress(event.report)
                else:
                    on_outcomes(event.answer)
                    found += event.answer
    return found


def _train(shard: Shard, data: tuple[np.ndarray, np.ndarray], report: Callable[[Any], object]) -> list[Outcome]:
    return train_shard(shard, *data, report)
