"""Shards of a study in processes of their own: spread, heard, and stopped by Ctrl-C.

- `run_shards(shards, X, y, workers, on_progress, on_outcomes)`: outcomes of all shards.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import numpy as np

from .study import Interrupted, Outcome, Progress, Shard, train_shard

_mail: Any = None
_stop: Any = None
_data: Any = None


def run_shards(
    shards: Sequence[Shard],
    X: np.ndarray,
    y: np.ndarray,
    workers: int,
    on_progress: Callable[[Progress], object],
    on_outcomes: Callable[[list[Outcome]], object],
) -> list[Outcome]:
    """Train `shards` on X and y in at most `workers` processes with one BLAS and Numba thread each.

    On Ctrl-C, or when a shard fails, the workers stop at their next report and the exception goes on to the caller.
    """
    if not shards:
        return []
    context = get_context("spawn")
    mail, stop = context.Queue(), context.Event()
    with (
        _one_thread_each(),
        ProcessPoolExecutor(min(workers, len(shards)), context, _start_worker, (mail, stop, X, y)) as pool,
    ):
        try:
            return _listen([pool.submit(_work, shard) for shard in shards], mail, on_progress, on_outcomes)
        except BaseException:
            with _handler(lambda _: None):  # a second Ctrl-C would break the pool off while it stops, and hang
                stop.set()
                pool.shutdown(cancel_futures=True)
            raise


def _listen(
    futures: list[Future[list[Outcome]]],
    mail: Any,
    on_progress: Callable[[Progress], object],
    on_outcomes: Callable[[list[Outcome]], object],
) -> list[Outcome]:
    """Pass progress and outcomes on until all shards are done; the first failure is raised."""
    found: list[Outcome] = []
    heard: list[int] = []
    waiting = set(futures)
    while True:
        done, waiting = wait(waiting, timeout=0)
        for future in done:
            outcomes = future.result()
            with _handler(heard.append):  # a shard that is done is kept before Ctrl-C is obeyed
                on_outcomes(outcomes)
            found += outcomes
        if heard:
            raise KeyboardInterrupt
        try:
            on_progress(mail.get(timeout=0.1))
        except queue.Empty:
            if not waiting:
                return found


@contextmanager
def _handler(heard: Callable[[int], object]) -> Iterator[None]:
    """Inside, Ctrl-C calls `heard` and nothing else."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, lambda number, _: heard(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start_worker(mail: Any, stop: Any, X: np.ndarray, y: np.ndarray) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it sets `stop`
    globals().update(_mail=mail, _stop=stop, _data=(X, y))


def _work(shard: Shard) -> list[Outcome]:
    def report(progress: Progress) -> None:
        if _stop.is_set():
            raise Interrupted
        _mail.put(progress)

    X, y = _data
    return train_shard(shard, X, y, report)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside use one thread for BLAS and Numba: they share the cores among themselves."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
