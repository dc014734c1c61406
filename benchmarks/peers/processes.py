"""A peer in one process a core: each trains its share of the replicas, started once and kept for all cases."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from benchmarks.training import Arrays, Call, Task


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """`cores()` processes; their environment is this one's, in which every library has one thread."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn"))

    def spread(self, module: str, task: Task) -> Call:
        """`train(task)` of the `module` in benchmarks/peers, the replicas shared out evenly."""
        parts = [task.part(list(range(i, task.replicas, cores()))) for i in range(cores())]

        def call() -> Arrays:
            found = list(self._pool.map(_train, [module] * len(parts), parts))
            made = [np.empty_like(p) for p in task.parameters]
            for i, own in enumerate(found):
                for whole, share in zip(made, own, strict=True):
                    whole[i :: cores()] = share
            return made

        return call

    def close(self) -> None:
        self._pool.shutdown()


def _train(module: str, task: Task) -> Arrays:
    return importlib.import_module(f"benchmarks.peers.{module}").train(task)
