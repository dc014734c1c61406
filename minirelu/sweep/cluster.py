"""Tasks on a Dask cluster: the scheduler at an address, or workers started here. The same face as `Processes`.

What travels: once to every worker, also to those that join later, the data sets; then shards (some kB) and what was measured.
Workers write no files. A worker that is lost costs the shards it was working on, which Dask gives to others, and if that
happens to them three times they are reported as failed. A scheduler that is lost ends the sweep: all its tasks are.
"""

from __future__ import annotations

import logging
import queue
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ..errors import BackendUnavailableError
from .processes import Advanced, Event, Failed, Finished, Work, deaf_to_ctrl_c
from .shards import RESULTS_VERSION

CONNECT = 15  # seconds


class Cluster:
    """Workers of the Dask scheduler at `address`, or with None of `workers` processes started for this sweep."""

    def __init__(self, work: Work, common: Any, address: str | None = None, workers: int = 2) -> None:
        self.work, self.address = work, address
        self._client, self._own = _connected(address, workers)
        self._heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks: dict[str, Any] = {}  # Dask's key: what is being worked on
        self._futures: dict[str, Any] = {}
        self._tries = 0
        self._plugin = f"minirelu-{id(self)}-{time.time_ns()}"
        self._client.register_plugin(_plugin(common), name=self._plugin)
        self._client.subscribe_topic(self._plugin, lambda event: self._heard.put(("advanced", *event[1])))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        with deaf_to_ctrl_c():
            if self._client.status == "running":
                self._tidy_up()
            log = logging.getLogger("distributed.client")
            log.disabled = self._client.status != "running"  # tracebacks of its attempts to connect again
            self._client.close()
            log.disabled = False
            if self._own is not None:
                self._own.close()

    def _tidy_up(self) -> None:
        with suppress(OSError, RuntimeError):  # the scheduler may be lost at any moment
            self._client.cancel(list(self._futures.values()), force=True)
            if self._own is None:
                self._client.unregister_worker_plugin(self._plugin)

    @property
    def busy(self) -> bool:
        """Whether a task waits or is worked on."""
        return bool(self._tasks)

    def submit(self, task: Any) -> None:
        """Tasks are begun in the order in which they are submitted."""
        self._tries += 1
        key = f"{self._plugin}-{self._tries}"
        self._tasks[key] = task
        future = self._client.submit(_call, self.work, task, self._plugin, RESULTS_VERSION, key=key, priority=-self._tries)
        self._futures[key] = future
        future.add_done_callback(lambda done: self._heard.put(("done", done.key, done)))

    def events(self, timeout: float) -> Iterator[Event]:
        """What happens until something has happened or `timeout` seconds are over.

        Raises `BackendUnavailableError` when the scheduler is lost.
        """
        try:
            kind, key, content = self._heard.get(timeout=timeout)
        except queue.Empty:
            self._check_scheduler()
            return
        if key not in self._tasks:
            return
        if kind == "advanced":
            yield Advanced(self._tasks[key], content)
        else:
            del self._futures[key]
            yield _ended(self._tasks.pop(key), content)

    def _check_scheduler(self) -> None:
        """Dask itself says nothing: it tries to connect again, and to a scheduler that has forgotten the tasks."""
        if self._client.status != "running" or any(future.cancelled() for future in self._futures.values()):
            raise BackendUnavailableError(
                f"the connection to the Dask scheduler at {self.address} was lost, and its tasks with it; what was finished is "
                "kept: start the scheduler again, and the same sweep goes on"
            ) from None


def _ended(task: Any, future: Any) -> Event:
    try:
        kind, answer = future.result()
    except Exception as error:  # what Dask says of a task that has lost its workers, or was cancelled
        return Failed(task, f"its Dask worker was lost ({type(error).__name__}: {error})", lost=True)
    return Finished(task, answer) if kind == "finished" else Failed(task, answer, lost=False)


def _connected(address: str | None, workers: int) -> tuple[Any, Any]:
    """A client, and the cluster if it was started here."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise BackendUnavailableError(
            f"Dask is not installed ({error}); install it with pip install 'minirelu[dask]'"
        ) from None
    if address is None:
        # One thread for Numba too; for BLAS, Dask sees to that itself.
        environment = {"NUMBA_NUM_THREADS": "1"}
        cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None, env=environment)
        return Client(cluster), cluster
    try:
        return Client(address, timeout=CONNECT), None
    except (OSError, ValueError) as error:
        raise BackendUnavailableError(
            f"no Dask scheduler answers at {address!r} ({error}); start one with `dask scheduler`, and give the tcp:// address "
            "that it prints"
        ) from None


def _plugin(common: Any) -> Any:
    """What gives `common` to every worker, whenever it joins."""
    from distributed import WorkerPlugin

    plugin: Any = WorkerPlugin()
    plugin.common = common
    return plugin


def _call(work: Work, task: Any, name: str, version: int) -> tuple[str, Any]:
    """On a worker: do the task; an exception comes back as its traceback, because its class may not travel."""
    from distributed import get_worker

    worker: Any = get_worker()
    key = _key()
    try:
        if version != RESULTS_VERSION:
            raise RuntimeError(f"results of version {version} are asked for, and minirelu here makes {RESULTS_VERSION}")
        return "finished", work(task, worker.plugins[name].common, lambda report: worker.log_event(name, (key, report)))
    except Exception:  # nothing is lost: as in processes.py
        return "failed", traceback.format_exc()


def _key() -> str:
    from distributed.worker import thread_state

    return thread_state.key
