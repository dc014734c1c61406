"""Tasks in processes of this machine, one thread each; a worker that raises or is killed costs its own task only.

    with Processes(work, common, workers=2) as pool:       work(task, common, report) -> answer, run in a worker
        for task in tasks: pool.submit(task)
        while pool.busy:
            for event in pool.events(timeout=0.2): ...     Advanced, Finished, Failed

- `Processes`, and the events, which other executors have in common with it (cluster.py).
- `deaf_to_ctrl_c()`: a context in which Ctrl-C does nothing.

Workers write no files, so they may be killed at any moment. If the parent is killed, they end at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

Work = Callable[[Any, Any, Callable[[Any], object]], Any]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2  # that are ours
STILLBORN = 3  # workers that may die before they have begun; then something is wrong with all of them


class Advanced(NamedTuple):
    """What `work` reported on its way."""

    task: Any
    report: Any


class Finished(NamedTuple):
    """What `work` returned."""

    task: Any
    answer: Any


class Failed(NamedTuple):
    """The traceback of what `work` raised; or what became of its worker, and then it was `lost`."""

    task: Any
    why: str
    lost: bool


Event = Advanced | Finished | Failed


class _Worker:
    """A process and this side of its pipe."""

    def __init__(self, work: Work, common: Any) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, work, common), daemon=True)
        with _one_blas_thread():
            self.process.start()
        other.close()
        self.ready = False
        self.task: Any = None

    def give(self, task: Any) -> None:
        self.task = task
        self.pipe.send(task)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.process.close()


class Processes:
    """At most `workers` processes that do `work(task, common, report)`; both must be importable and picklable."""

    def __init__(self, work: Work, common: Any, workers: int) -> None:
        self.work, self.common, self.most = work, common, workers
        self._waiting: deque[Any] = deque()
        self._workers: list[_Worker] = []
        self._stillborn = 0

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        with deaf_to_ctrl_c():
            for worker in self._workers:
                worker.end()
            self._workers.clear()

    @property
    def busy(self) -> bool:
        """Whether a task waits or is worked on."""
        return bool(self._waiting) or any(worker.task is not None for worker in self._workers)

    def submit(self, task: Any) -> None:
        """Tasks are begun in the order in which they are submitted."""
        self._waiting.append(task)

    def events(self, timeout: float) -> Iterator[Event]:
        """What happens until something has happened or `timeout` seconds are over."""
        self._assign()
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(pipes), timeout):
            yield from self._hear(pipes[pipe])  # type: ignore[index]
        self._assign()

    def _assign(self) -> None:
        for worker in self._workers:
            if self._waiting and worker.task is None:
                self._give(worker)
        while self._waiting and len(self._workers) < self.most:
            self._workers.append(_Worker(self.work, self.common))
            self._give(self._workers[-1])

    def _give(self, worker: _Worker) -> None:
        try:
            worker.give(self._waiting[0])
        except OSError:  # it died while it had nothing to do, which will be heard from its pipe
            worker.task = None
        else:
            self._waiting.popleft()

    def _hear(self, worker: _Worker) -> Iterator[Event]:
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if kind == "ready":
            worker.ready, self._stillborn = True, 0
        elif kind == "advanced":
            yield Advanced(worker.task, content)
        else:
            task, worker.task = worker.task, None
            if self._waiting:
                self._give(worker)  # before the answer is heard, whose keeping takes a while
            yield Finished(task, content) if kind == "finished" else Failed(task, content, lost=False)

    def _bury(self, worker: _Worker) -> Iterator[Event]:
        """A worker has died; its place is free for another."""
        self._workers.remove(worker)
        worker.process.join()
        code, task = worker.process.exitcode, worker.task
        worker.end()
        if worker.ready and task is not None:
            yield Failed(task, f"its worker process {_died(code)}", lost=True)
            return
        if task is not None:
            self._waiting.appendleft(task)
        self._stillborn += not worker.ready
        if self._stillborn >= STILLBORN:
            raise RuntimeError(
                f"{STILLBORN} worker processes ended before they had begun (the last one {_died(code)}). A script that starts "
                'processes must do so under if __name__ == "__main__":, because they import it'
            )


def _died(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by signal {-code}" + (", perhaps for want of memory" if code == -9 else "")
    return f"ended with exit status {code}"


def _serve(pipe: Connection, work: Work, common: Any) -> None:
    """A worker's life: a task, an answer, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _one_numba_thread()
    try:
        pipe.send(("ready", None))
        while True:
            pipe.send(_answer(work, pipe.recv(), common, lambda report: pipe.send(("advanced", report))))
    except (EOFError, OSError):
        return


def _answer(work: Work, task: Any, common: Any, report: Callable[[Any], object]) -> tuple[str, Any]:
    try:
        return "finished", work(task, common, report)
    except Exception:  # nothing is lost: the parent keeps the traceback, tries again, and reports it
        return "failed", traceback.format_exc()


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Inside, Ctrl-C does nothing: what stops the workers must not be stopped half-way itself."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Processes started inside use one thread for BLAS, which reads these variables once, when NumPy is loaded.

    Numba's own is not among them: it is read again at each compilation, also here and in another thread.
    """
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
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


def _end_with_parent() -> None:
    """End this process when its parent does, also in the middle of a task."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _one_numba_thread() -> None:
    """For the thread that calls this, which is the one that works."""
    if "numba" in sys.modules:  # its variable may not change any more if the user's script has run it
        sys.modules["numba"].set_num_threads(1)
    else:
        os.environ["NUMBA_NUM_THREADS"] = "1"
