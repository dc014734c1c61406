"""Trainings kept in a folder, a file each: what is there is not trained again.

- `Task`: a recipe on a data set, some seeds. `train(tasks, folder, ...)`: those that are missing, in processes.
- `found(task, folder)`: its `Outcome`, or None.
- `Named`: what else can be kept so; `train` takes the function that trains it, `found` the type of what comes out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import data as data_sets
from ..errors import StoreError
from ..files import read_arrays, write_arrays
from ..sweep.processes import Failed, Finished, Processes
from .recipe import Recipe
from .training import Outcome, measured, on_engine

VERSION = 2  # of what a task's numbers depend on besides the task


class Task(NamedTuple):
    """Seeds 0 to `seeds` − 1 of a recipe on a data set; `numbers` is the set's checksum: its name may come to mean others."""

    data: str
    numbers: str
    recipe: Recipe
    seeds: int
    steps: int

    def key(self) -> str:
        """The name of its file."""
        said = json.dumps([VERSION, self.numbers, self.recipe._asdict(), self.seeds, self.steps])
        return hashlib.sha256(said.encode()).hexdigest()[:20]

    def cost(self) -> float:
        """Roughly proportional to its time: what takes long is begun first."""
        sides = (10, *self.recipe.widths)
        work = self.seeds * sum(a * b for a, b in pairwise(sides))
        layers = len(self.recipe.widths)
        return self.steps * (work + 30_000 * layers if on_engine(self.recipe) else work)


class Named(Protocol):
    """Trainings on a data set, named by all that their numbers depend on; like `Task`."""

    @property
    def data(self) -> str: ...

    def key(self) -> str: ...

    def cost(self) -> float: ...


def found(task: Named, folder: Path, kind: Any = Outcome) -> Any:
    """What `folder` has of it, a named tuple of arrays; None if nothing, or a file that cannot be read."""
    arrays = read_arrays(folder / f"{task.key()}.npz")
    return kind(**arrays) if arrays is not None and arrays.keys() == set(kind._fields) else None


def keep(task: Named, outcome: Any, folder: Path) -> None:
    """Write its file, whole or not at all."""
    write_arrays(folder / f"{task.key()}.npz", outcome._asdict())


def train(
    tasks: Iterable[Any],
    folder: Path,
    workers: int,
    on_progress: Callable[[int, int], object],
    work: Any = None,
    kind: Any = Outcome,
) -> None:
    """Train those of `tasks` that `folder` does not have. Raises `DataError` for data, `StoreError` for what failed.

    `work(task, {name: (X, y)}, _)`, a function of a module, gives a `kind`; by default an `Outcome` of a `Task`.
    """
    todo = {task.key(): task for task in tasks if found(task, folder, kind) is None}
    folder.mkdir(parents=True, exist_ok=True)
    sets = {name: data_sets.read(name)[:2] for name in {task.data for task in todo.values()}}
    on_progress(0, len(todo))
    if not todo:
        return
    done = 0
    with Processes(work or _work, sets, min(workers, len(todo))) as pool:
        for task in sorted(todo.values(), key=lambda task: task.cost(), reverse=True):
            pool.submit(task)
        while pool.busy:
            for event in pool.events(timeout=0.2):
                if isinstance(event, Failed):
                    raise StoreError(f"a training failed: {event.why.strip().splitlines()[-1]}")
                if isinstance(event, Finished):
                    keep(event.task, event.answer, folder)
                    done += 1
                    on_progress(done, len(todo))


def _work(task: Task, sets: dict[str, tuple[np.ndarray, np.ndarray]], _: Callable[[Any], object]) -> Outcome:
    X, y = sets[task.data]
    return measured(task.recipe, X, y, range(task.seeds), task.steps)
