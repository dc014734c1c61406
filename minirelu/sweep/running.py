"""A sweep from its grid to its store: skip what is there, do the rest somewhere, keep, retry, go on.

- `run(grid, out, executor, workers)`: the `Report`.
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..errors import StoreError
from . import manifest
from .cluster import Cluster
from .grid import Grid
from .processes import CORES, Advanced, Finished, Processes, Work
from .progress import Course, Progress
from .shards import Sets, Shard, cut, load_sets, without
from .store import Store
from .work import DEVICES, Outcome, Standing, train_shard

RETRIES = 2
TICK = 0.2  # seconds between two looks at what happens


class Report(NamedTuple):
    """What became of a sweep: `runs` asked for, `found` in the store before, `failed` given up; `damaged` files replaced."""

    runs: int
    found: int
    failed: int
    damaged: int
    seconds: float
    why: str  # the last failure's traceback, or ""


class Task(NamedTuple):
    """What is to be done with a store: `todo` of all `shards`, besides `before` runs that are there in other shards."""

    shards: list[Shard]
    todo: list[Shard]
    before: int
    damaged: int


def run(
    grid: Grid,
    out: str | os.PathLike[str],
    executor: str = "processes",
    workers: int | None = None,
    *,
    device: str = "auto",
    backend: str = "auto",
    on_progress: Callable[[Progress], object] = lambda _: None,
    on_start: Callable[[Report], object] = lambda _: None,
) -> Report:
    """Train every run of `grid` that is not in the folder `out` yet, and keep the results there.

    `executor`: "processes" (`workers` of them, one a core unless given, one thread each), "dask" (a cluster of `workers`
    started here), or the address of a Dask scheduler, "tcp://host:port". A shard that fails is tried again twice, its
    traceback is kept, and the rest goes on. Stopped in any way, the same call goes on: what is whole in `out` is skipped.
    `device`: "cuda" (every worker needs a GPU; one process unless `workers` says more), "cpu", or "auto": each worker takes
    its GPU if it has one. `backend`: the kernels on a CPU, as `kernels.using` takes them.

    Raises, before anything runs, `GridError` (with all problems at once), `StoreError` if `out` cannot be written or
    another sweep runs there, `BackendUnavailableError` if there is no such cluster or GPU; later `StoreError` if `out` fails.
    """
    if device not in DEVICES:
        raise ValueError(f"device was given {device!r}; expected one of {', '.join(DEVICES)}")
    if device == "cuda" and executor == "processes":
        kernels.training_backend("cuda")  # the reason, where it is not here
        workers = 1 if workers is None else workers
    with kernels.using(backend):  # or the reason why not, before anything runs
        pass
    work = functools.partial(train_shard, device=device, backend=backend)
    return run_with(grid, out, executor, workers, on_progress, on_start, work, device == "cuda")


def run_with(
    grid: Grid, out: Any, executor: str, workers: int | None, on_progress: Any, on_start: Any, work: Work, for_gpu: bool = False
) -> Report:  # fmt: skip
    """`run`, with `work` instead of a training; `for_gpu`: in shards that fill a card."""
    if not isinstance(grid, Grid):
        raise TypeError(f"run takes a sweep.Grid, got {type(grid).__name__}; Grid.from_toml(path) reads a file")
    start = _checked(executor, workers)
    runs = grid.runs()
    sets = load_sets(runs)
    shards = cut(runs, sets, for_gpu)
    store = Store(out)
    store.prepare()
    with store.locked():
        task = _left(store, shards, sets)
        store.check_room(task.todo)
        store.forget_failures(task.todo)
        asked = sum(len(shard.runs) for shard in shards)
        report = Report(asked, asked - sum(len(shard.runs) for shard in task.todo), 0, task.damaged, 0.0, "")
        on_start(report)
        manifest.begin(store, grid, sets, task.shards, task.before, {"executor": executor, "workers": workers or CORES})
        begun = time.monotonic()
        course = Course(task.todo, asked, len(task.shards))
        with manifest.told_if_stopped(store):
            failed, why = _do(task, store, sets, lambda: start(work, sets), course, on_progress)
        manifest.end(store, {"failed_shards": failed})
    return report._replace(failed=failed, why=why, seconds=time.monotonic() - begun)


def _checked(executor: str, workers: int | None) -> Callable[[Work, Any], Processes | Cluster]:
    """What starts the executor of that name."""
    count = CORES if workers is None else workers
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"workers must be at least 1, got {workers!r}")
    if executor == "processes":
        return lambda work, common: Processes(work, common, count)
    if executor == "dask":
        return lambda work, common: Cluster(work, common, None, count)
    if "://" in executor:
        return lambda work, common: Cluster(work, common, executor)
    raise ValueError(
        f"executor was given {executor!r}; expected 'processes', 'dask', or the address of a scheduler, tcp://host:port"
    )


def _left(store: Store, shards: list[Shard], sets: Sets) -> Task:
    """What of `shards` is not in the store: neither under their own names nor, run by run, under others."""
    contents = store.contents()
    for path in contents.damaged:
        path.unlink()
    own = {shard.key for shard in shards}
    foreign = contents._replace(whole={key: path for key, path in contents.whole.items() if key not in own})
    there = set(store.frame(foreign, ["run_id"])["run_id"]) if foreign.whole else set()
    missing = [shard for shard in shards if shard.key not in contents.whole]
    todo = without(missing, there, sets)
    before = sum(len(shard.runs) for shard in missing) - sum(len(shard.runs) for shard in todo)
    done = [shard for shard in shards if shard.key in contents.whole]
    return Task([*done, *todo], todo, before, len(contents.damaged))


def _do(
    task: Task, store: Store, sets: Sets, start: Callable[[], Processes | Cluster], course: Course, on_progress: Any
) -> tuple[int, str]:
    """Do the shards; the number of those given up, and the last one's traceback."""
    on_progress(course.now())
    if not task.todo:
        return 0, ""
    tries: Counter[str] = Counter()
    failed, why = 0, ""
    with start() as pool:
        for shard in task.todo:
            pool.submit(shard)
        while pool.busy:
            for event in pool.events(TICK):
                shard = event.task
                if isinstance(event, Advanced):
                    course.advanced(shard, Standing(*event.report))
                elif isinstance(event, Finished):
                    _keep(store, shard, event.answer, sets)
                    course.finished(shard, _ended(event.answer, shard))
                elif _again(tries, shard):
                    course.begun_again(shard)
                    pool.submit(shard)
                else:
                    store.keep_failure(shard, event.why, tries[shard.key])
                    failed, why = failed + 1, event.why
                    course.failed(shard)
            on_progress(course.now())
    return failed, why


def _again(tries: Counter[str], shard: Shard) -> bool:
    tries[shard.key] += 1
    return tries[shard.key] <= RETRIES


def _keep(store: Store, shard: Shard, outcome: Outcome, sets: Sets) -> None:
    try:
        store.keep(shard, outcome, sets)
    except OSError as error:
        raise StoreError(
            f"writing to {store.path} failed: {error.strerror}; what was finished is kept, and the same call goes on"
        ) from error


def _ended(outcome: Outcome, shard: Shard) -> Standing:
    """The mean error and share of dead units at the end, over the runs that have not diverged."""
    sound = (outcome.nonfinite[:, -1].sum(axis=-1) == 0) & ~np.isnan(outcome.mse[:, -1])
    if not sound.any():
        return Standing(1.0, np.nan, np.nan)
    return Standing(1.0, float(outcome.mse[sound, -1].mean()), float(outcome.dead[sound, -1].mean() / shard.runs[0].width))
