"""Whole training runs: µs a step and replica, ours and other libraries', in one interleaved run.

Every candidate trains the same replicas from the same parameters on the same minibatches for the same steps; before the timing
their errors on all rows must agree after 20 steps. The peers get their rows drawn beforehand, and so a little less to do. Which
peer is timed at how many replicas: a loop that takes one replica after another costs the same for each of them, so it is timed
for 1 and 16; one process a core for 16; what trains all replicas in one program for 16, 128 and 1024.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from benchmarks import training
from benchmarks.peers import MISSING
from benchmarks.peers.processes import Processes, cores
from benchmarks.timing import SLOW, interleaved, machine, same_machine
from benchmarks.training import Call, Task

OWN, ALONE = "minirelu", "minirelu, one thread"
RULES = ("heavy_ball", "adam")
PAPER = (8, 200, 1)
OTHERS = ((5, 200, 1), (53, 200, 1), (81, 200, 1), (8, *(200,) * 4, 1), (8, *(200,) * 8, 1))
ALL_AT_ONCE = ("JAX scan, vmapped", "torch.func ensemble")
COMPILED = (OWN, "JAX")  # whose first call is not like the others
CHECKED = 20  # steps after which all must have the same errors
LOOPS = {"NumPy": "train_numpy", "PyTorch": "train_torch"}


class Case(NamedTuple):
    """What is timed together."""

    sizes: tuple[int, ...]
    rule: str
    replicas: int
    steps: int


def cases(quick: bool) -> list[Case]:
    """The paper's net on 8 inputs with R = 1 … 128 (Adam also 1024), the other nets with 16; steps for about the same time."""
    found: list[tuple[tuple[int, ...], str, int]] = []
    found += [(PAPER, rule, R) for rule in RULES for R in ((16,) if quick else (1, 16, 128))]
    found += [] if quick else [(PAPER, "adam", 1024)]
    found += [(sizes, "adam", 16) for sizes in (OTHERS[3:4] if quick else OTHERS)]
    found += [] if quick else [(sizes, "heavy_ball", 16) for sizes in OTHERS[3:]]
    return [Case(sizes, rule, R, _steps(sizes, R)) for sizes, rule, R in found]


def _steps(sizes: tuple[int, ...], replicas: int) -> int:
    products = sum(a * b for a, b in pairwise(sizes))
    work = 2e7 * (1 if replicas < 100 else 3 if replicas < 1000 else 8)
    # real trainings are long: the cost of setting up a replica must not count for much
    fewest = 500 if len(sizes) == 3 and replicas < 1000 else 100
    return int(np.clip(work / products / replicas, fewest, 2000))


def part(case: Case | dict[str, Any]) -> str:
    """`adam-8-200-1-16`: the name by which a case is measured alone."""
    own = case if isinstance(case, dict) else case._asdict()
    return "-".join(map(str, (own["rule"], *own["sizes"], own["replicas"])))


def parts(quick: bool = False) -> list[str]:
    """Everything that `run` can measure, in its order."""
    return [*map(part, cases(quick)), "steps", "memory"]


def run(
    rounds: int, quick: bool = False, show: Callable[[dict[str, Any]], None] = lambda case: None, only: Sequence[str] = ()
) -> dict[str, Any]:
    """The JSON of this benchmark (schema: benchmarks/README.md), or the parts `only` of it; `show` hears of each case."""
    about, compile_s, pool = machine(cores()), _compile(), Processes()
    chosen = only or parts(quick)
    found = []
    try:
        for case in cases(quick):
            if part(case) in chosen:
                found.append(_timed(case, rounds, pool))
                show(found[-1])
    finally:
        pool.close()
    result = {"benchmark": "train", "rounds": rounds, "machine": about, "missing": list(MISSING), "compile_s": compile_s}
    scaling = {"steps": _against_steps, "memory": _memory}
    return result | {"cases": found} | {name: measure(quick) for name, measure in scaling.items() if name in chosen}


def merged(before: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """`result`, in which parts that were not measured are those of `before`.

    Raises `ValueError` where that was another machine, or other versions: one table is of one machine.
    """
    if not before:
        return result
    same_machine(before, result)
    found = {part(case): case for case in (*before["cases"], *result["cases"])}
    order = parts()
    return before | result | {"cases": sorted(found.values(), key=lambda case: order.index(part(case)))}


def _compile() -> float:
    """Seconds of the first call in this process: compiled, or read from the disk."""
    start = time.perf_counter()
    for rule in RULES:
        training.minirelu(training.make((1, 1, 1), rule, 1, 1), 1)()
    return round(time.perf_counter() - start, 2)


def _timed(case: Case, rounds: int, pool: Processes) -> dict[str, Any]:
    _check(case, pool)
    task = training.make(*case)
    calls: dict[str, Any] = dict(_candidates(task, pool))
    once = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        if name.startswith(COMPILED):
            start = time.perf_counter()
            call()
        once[name] = time.perf_counter() - start
    slow = frozenset(name for name, seconds in once.items() if seconds > 2 * SLOW * once[OWN])
    times = interleaved(calls, rounds, seconds=0, slow=slow, settle=False)
    rows = [{"candidate": name, "seconds": [round(float(t), 6) for t in seconds]} for name, seconds in times.items()]
    return {**case._asdict(), "rows": rows}


def _check(case: Case, pool: Processes) -> None:
    """Every candidate does the same in the first steps; later, float32 runs part, as rounding grows from step to step."""
    task = training.make(*case._replace(steps=min(case.steps, CHECKED)))
    calls = dict(_candidates(task, pool))
    expected = training.losses(task, calls[OWN]())
    for name, call in calls.items():
        training.check(task, name, call(), expected)


def _candidates(task: Task, pool: Processes) -> Iterator[tuple[str, Call]]:
    R = task.replicas
    yield OWN, training.minirelu(task, cores())
    if R > 1 and cores() > 1:
        yield ALONE, training.minirelu(task, 1)
    for library in ("numpy", "jax", "torch"):
        if library in MISSING:
            continue
        for name, build in importlib.import_module(f"benchmarks.peers.train_{library}").SPELLINGS.items():
            if (R >= 16) if name in ALL_AT_ONCE else (R <= 16):
                yield name, build(task)
    for name, module in LOOPS.items():
        if R == 16 and cores() > 1 and name.lower().replace("pytorch", "torch") not in MISSING:
            yield f"{name}, a process a core", pool.spread(module, task)


# ---------------------------------------------------------------------------------------------------------- scaling


def _against_steps(quick: bool) -> list[dict[str, Any]]:
    """Seconds of ours for more and more steps of 16 replicas: they must grow in proportion."""
    counts = (500, 1000, 2000) if quick else (500, 1000, 2000, 4000, 8000, 16000)
    found = []
    for steps in counts:
        call = training.minirelu(training.make(PAPER, "adam", 16, steps), cores())
        times = interleaved({OWN: call}, 3, seconds=0, settle=False)[OWN]
        found.append({"steps": steps, "seconds": [round(float(t), 6) for t in times]})
    return found


_CHILD = """
import json, sys, tracemalloc
import numpy as np
from minirelu import train
R, steps = map(int, sys.argv[1:])
X = np.random.default_rng(0).standard_normal((64, 8))
y = X[:, 0] ** 2
train.train_mlp(X, y, steps=2, seeds=range(2), record_every=1)
tracemalloc.start()
got = train.train_mlp(X, y, steps=steps, seeds=range(R), record_every=1)
arrays = [got.loss, got.dead, got.linear, got.nonfinite, *got.parameters.values()]
peak = tracemalloc.get_traced_memory()[1]
print(json.dumps({"replicas": R, "results_mb": sum(a.nbytes for a in arrays) / 1e6, "peak_mb": peak / 1e6}))
"""


def _memory(quick: bool) -> list[dict[str, Any]]:
    """MB of memory at most while R replicas are trained and their units counted 21 times, and what of it are results."""
    found = []
    for R in (16, 1024) if quick else (16, 256, 1024, 4096):
        ran = subprocess.run([sys.executable, "-c", _CHILD, str(R), "20"], capture_output=True, text=True, check=True)
        found.append({name: round(value, 1) for name, value in json.loads(ran.stdout).items()})
    return found
