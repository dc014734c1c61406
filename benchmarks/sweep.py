"""Sweeps: what a shard costs besides its training, how much of the kernel's throughput remains, how quickly runs are read.

- `run(parts, quick)`: the parts "cost", "figure1", "executors", "reading".
- `table(result)`: Markdown.

Trainings have one thread each. "Efficiency" is the run-steps a second of a sweep, without each worker's first shard (which
loads the kernels), against those of `train_mlp` called directly in one process with as many threads. Start-up is told apart.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import timing
from minirelu import sweep, train
from minirelu.sweep import cost, running, shards, store, work
from minirelu.sweep.grid import Run

PARTS = ("cost", "figure1", "executors", "reading")
# rows and inputs of UCI's files, and the sweep's grid: 10 γ, 2 optimisers, 8 seeds (paper, Fig. 1 and App. A)
SETS = {"airfoil": (1503, 5), "real_estate": (414, 6), "superconductivity": (21263, 81), "facebook": (199030, 53)}
RUNS_A_SET, STEPS = 80, 250_000  # of each optimiser: 10 γ, 8 seeds
BATCHES = (59, 60, 61, 62, 63, 64)
LONG = 40_000  # steps that make a shard of four runs as short as a sweep cuts them (shards.SECONDS), where overhead is largest
BASE = {"data": "gaussian", "lr": 1e-3, "seed": 0}


def run(parts: tuple[str, ...] = PARTS, quick: bool = False) -> dict[str, Any]:
    """The measurements of `parts`, as the JSON's schema says (README.md)."""
    todo: dict[str, Callable[[bool], Any]] = {
        "cost": _cost, "figure1": _figure1, "executors": _executors, "reading": _reading,
    }  # fmt: skip
    found: dict[str, Any] = {"benchmark": "sweep", "machine": timing.machine(threads=os.cpu_count() or 1)}
    return found | {part: todo[part](quick) for part in parts}


# -------------------------------------------------------------------------------------------------------------- cost


def _data(rows: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, inputs))
    return X, np.tanh(X[:, 0]) + 0.1 * rng.normal(size=rows)


def _run(**axes: Any) -> Run:
    (made,) = sweep.Grid(**{**BASE, "optimizer": "adam", "steps": 100, **axes}).runs()
    return made


def _seconds(of: Run, X: np.ndarray, y: np.ndarray, replicas: int) -> float:
    """The training of that many replicas, on one thread."""
    start = time.perf_counter()
    train.train_mlp(
        X, y, widths=(of.width,) * of.depth, block=of.block, batch_norm=of.batch_norm, optimizer=of.optimizer, batch=of.batch,
        lr=of.lr, beta=of.beta, steps=of.steps, record_every=of.record_every, seeds=range(replicas), standardize=False,
    )  # fmt: skip
    return time.perf_counter() - start


def _parts(of: Run, X: np.ndarray, y: np.ndarray, rounds: int) -> tuple[float, float]:
    """Seconds of a step and of a measurement of one replica: from runs that differ in nothing else."""
    a, b = (cost.seconds(of._replace(steps=n, record_every=n), *X.shape) for n in (1, 1001))
    guess = (b - a) / 1000
    n = int(np.clip(0.1 / guess, 50, 20_000))
    variants = {
        "short": of._replace(steps=n, record_every=n),
        "long": of._replace(steps=3 * n, record_every=3 * n),
        "measured": of._replace(steps=n, record_every=-(-n // 200)),
    }
    _seconds(variants["short"]._replace(steps=2, record_every=2), X, y, 1)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            times[name].append(_seconds(variant, X, y, 1))
    short, long, measured = (statistics.median(times[name]) for name in variants)
    extra = cost.measurements(variants["measured"]) - 2
    return (long - short) / (2 * n), max(measured - short, 0.0) / extra


FITTED = (
    [{"width": w, "optimizer": rule} for w in (10, 50, 200, 500) for rule in ("sgd", "adam")]
    + [{"depth": 4, "width": 64}, {"depth": 10, "width": 32, "batch_norm": True}, {"batch": 256}, {"batch": 16}]
)  # fmt: skip


def _cost(quick: bool) -> dict[str, Any]:
    """Constants of the cost model by least squares on relative errors, and how far its predictions are off."""
    rows: list[dict[str, Any]] = []
    for axes in FITTED:
        for inputs in (10, 80):
            of = _run(**axes)
            step, measured = _parts(of, *_data(2000, inputs), 1 if quick else 2)
            rows.append({"axes": axes, "inputs": inputs, "step_us": 1e6 * step, "measurement_us": 1e6 * measured})
    made = [_run(**row["axes"]) for row in rows]
    nets = [(of, row["inputs"]) for of, row in zip(made, rows, strict=True)]
    terms = np.array([[1.0, cost.flops(*net), cost.parameters(*net)] for net in nets])
    steps = np.array([row["step_us"] for row in rows]) / 1e6
    constants = _nonnegative(terms / steps[:, None])
    measurements = np.array([row["measurement_us"] for row in rows]) / 1e6
    seen = measurements > 0  # the others are lost in the noise
    evaluation = _nonnegative(
        np.array([[1.0, 2000 * 2 * cost.products(*net)] for net in nets])[seen] / measurements[seen, None]
    )
    now = [cost.STEP, cost.FLOP, cost.UPDATE]
    for row, predicted, used in zip(rows, terms @ constants, terms @ now, strict=True):
        row |= {"predicted_us": 1e6 * float(predicted), "used_us": 1e6 * float(used)}
    names = ("step", "flop", "update", "measured", "measured_flop")
    fitted = dict(zip(names, map(float, (*constants, *evaluation)), strict=True))
    used = {name: getattr(cost, name.upper()) for name in names}
    return {"fitted": fitted, "used": used, "rows": rows}


def _nonnegative(terms: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls

    scale = terms.max(axis=0)  # the columns differ by many orders of magnitude
    return nnls(terms / scale, np.ones(len(terms)))[0] / scale


# ----------------------------------------------------------------------------------------------------------- Figure 1


def _figure1(quick: bool) -> dict[str, Any]:
    """A fraction of the grid as a sweep with two workers: all sets and optimisers, fewer γ, seeds and steps.

    Two lengths, and what the longer one takes more: the preparation of the data, which a whole run does as seldom as a short
    one, is not multiplied.
    """
    short, long = (1000, 3000) if quick else (10_000, 30_000)
    sets = {(name, None): shards.Set(name, "", name, *_data(*shape)) for name, shape in SETS.items()}
    first, second = (_fraction(steps, sets) for steps in (short, long))
    rows = [
        {"data": data, "optimizer": rule, "step_us": 1e6 * (second[data, rule] - first[data, rule]) / (long - short)}
        for data in SETS
        for rule in ("adam", "sgd")
    ]
    fraction = 4 * (long - short) / (RUNS_A_SET * STEPS)
    seconds = sum(second.values()) - sum(first.values())  # of one core and run
    whole = RUNS_A_SET * STEPS * seconds / (long - short)
    return {"rows": rows, "workers": 2, "fraction": fraction, "seconds": 4 * seconds / 2, "minutes": whole / 2 / 60}


def _fraction(steps: int, sets: Any) -> dict[tuple[str, str], float]:
    """Seconds a run of each set and optimiser, of four runs each in a sweep with two workers."""
    import polars as pl

    axes = {"data": list(SETS), "gamma": [1.0, 1e-4], "seed": range(2), "steps": steps, "record_every": steps // 2}
    grid = sweep.Grid(**axes, optimizer="adam", lr=1e-3) + sweep.Grid(**axes, optimizer="sgd", lr=0.01)
    with mock.patch.object(running, "load_sets", return_value=sets), tempfile.TemporaryDirectory() as out:
        running.run_with(grid, out, "processes", 2, lambda _: None, lambda _: None, work.train_shard)
        means = sweep.load(out).group_by("data", "optimizer").agg(pl.col("wall_seconds").mean())
    return {(data, rule): seconds for data, rule, seconds in means.rows()}


# ---------------------------------------------------------------------------------------------------------- executors


def nothing(shard: Any, sets: Any, report: Any) -> Any:
    """Numbers without a training: what remains is the sweep's own time."""
    R, L = len(shard.runs), shard.runs[0].depth
    zeros = np.zeros((R, 21, L), np.int64)
    now = time.time()
    return work.Outcome(np.arange(21), np.ones((R, 21)), zeros, zeros, zeros, zeros, "none", now, now, "host", os.getpid())


def _executors(quick: bool) -> list[dict[str, Any]]:
    """A row for each executor and number of workers; every round times each of them, and the kernel alone, once."""
    names = ("processes", *(["dask"] if _has_dask() else []))
    empty = {name: _swept(_many(), name, 1, nothing)["each"] for name in names}
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(1 if quick else 3):
        for workers in (1, 2):
            alone = _kernel_rate(workers, quick)
            for name in names:
                once = _swept(_even(quick), name, workers, work.train_shard) | {"kernel": alone}
                found.setdefault((name, workers), []).append(once)
    return [
        {
            "executor": name, "workers": workers, "overhead_ms": 1e3 * empty[name],
            "start_s": statistics.median(once["start"] for once in rounds),
            "steps_per_second": [once["rate"] for once in rounds],
            "kernel_steps_per_second": [once["kernel"] for once in rounds],
            "efficiency": statistics.median(once["rate"] / once["kernel"] for once in rounds),
        }
        for (name, workers), rounds in sorted(found.items(), reverse=True)
    ]  # fmt: skip


def _has_dask() -> bool:
    try:
        import distributed  # noqa: F401
    except ImportError:
        return False
    return True


def _many() -> sweep.Grid:
    """200 shards of one run each: so many shapes."""
    return sweep.Grid(**BASE, optimizer="sgd", steps=20, width=list(range(1, 201)))


def _even(quick: bool) -> sweep.Grid:
    """Six shards of four runs each, of nearly equal cost."""
    return sweep.Grid(**{**BASE, "seed": range(4)}, optimizer="adam", steps=2000 if quick else LONG, batch=list(BATCHES))


def _kernel_rate(threads: int, quick: bool) -> float:
    """Steps a second of all replicas of `_even`, trained directly in a process with so many threads."""
    code = (
        "import time; from benchmarks import sweep as s; from minirelu import data, train\n"
        f"X, y = data.load('gaussian'); steps = {2000 if quick else LONG}\n"
        "def once(steps, batch):\n"
        "    train.train_mlp(X, y, steps=steps, record_every=-(-steps // 20), seeds=range(4), batch=batch, standardize=False)\n"
        "once(20, 64); start = time.perf_counter()\n"
        f"for batch in {BATCHES}: once(steps, batch)\n"
        f"print({4 * len(BATCHES)} * steps / (time.perf_counter() - start))"
    )
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
    root = Path(__file__).parent.parent
    ran = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True, check=True)
    return float(ran.stdout)


def _swept(grid: sweep.Grid, executor: str, workers: int, what: Any) -> dict[str, float]:
    """Start-up, rate and time a shard of a sweep."""
    with tempfile.TemporaryDirectory() as out:
        heard: list[float] = []
        begun = time.time()
        running.run_with(
            grid, out, executor, workers, lambda p: heard.append(time.time()) if p.shards_done else None, lambda _: None, what
        )
        frame = sweep.load(out)
        first: Any = frame["started"].min()
        shards_done = len(list(Path(out).glob("results-*/*.parquet")))
    after = heard[-1] - heard[0]
    return {"start": first.timestamp() - begun, "rate": _rate(frame), "each": after / max(shards_done - 1, 1)}


def _rate(frame: Any) -> float:
    """Steps a second of all workers, each from the end of its first shard (which loads the kernels) to that of its last."""
    total = 0.0
    for _, own in frame.group_by("pid"):
        seconds = (own["finished"].max() - own["finished"].min()).total_seconds()
        later = own.filter(own["finished"] > own["finished"].min())
        total += float(later["steps"].sum()) / seconds if seconds else 0.0
    return total


# ------------------------------------------------------------------------------------------------------------ reading


def _reading(quick: bool) -> dict[str, Any]:
    """A store of 100,000 tiny runs: how long it takes to make it of finished shards, and to read it."""
    n = 10_000 if quick else 100_000
    axes = {**BASE, "seed": range(n // 20)}
    grid = sweep.Grid(**axes, optimizer=["sgd", "adam"], gamma=[10.0**-k for k in range(10)], steps=20, width=5)
    with tempfile.TemporaryDirectory() as out:
        runs = grid.runs()
        sets = shards.load_sets(runs)
        made = store.Store(out)
        cut = shards.cut(runs, sets)
        made.prepare()
        start = time.perf_counter()
        for shard in cut:
            made.keep(shard, nothing(shard, sets, None), sets)
        written = time.perf_counter() - start
        found: dict[str, Any] = {"runs": len(runs), "shards": len(cut), "write_s": written}
        found["load_s"] = _timed(lambda: sweep.load(out), 3)
        found["history_s"] = _timed(lambda: sweep.history(out), 3)
        found["resume_s"] = _timed(lambda: sweep.run(grid, out), 1)
        found["status_s"] = _timed(lambda: _command("status", out), 3)
        found["show_s"] = _timed(lambda: _command("show", out), 3)
        found["bytes"] = sum(path.stat().st_size for path in made.results.iterdir())
    return found | {"rows_per_second": found["runs"] / found["load_s"]}


def _timed(call: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _command(name: str, out: str) -> None:
    command = [sys.executable, "-m", "minirelu.cli", "sweep", name, out]
    subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, check=True)


# -------------------------------------------------------------------------------------------------------------- table


def table(result: dict[str, Any]) -> str:
    """What was measured, in the order of the parts."""
    lines = []
    if "executors" in result:
        lines += [
            "| executor | workers | start-up s | a shard besides its training ms | of the kernel's own throughput |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
        lines += [
            f"| {row['executor']} | {row['workers']} | {row['start_s']:.1f} | {row['overhead_ms']:.0f} "
            f"| {100 * row['efficiency']:.0f} % |"
            for row in result["executors"]
        ]
        lines.append("")
    if "reading" in result:
        r = result["reading"]
        read = f"`load` {r['load_s']:.2f} s ({r['rows_per_second']:,.0f} rows/s), `history` {r['history_s']:.2f} s"
        lines.append(
            f"A store of {r['runs']:,} runs in {r['shards']} shards ({r['bytes'] / 1e6:.0f} MB): {read}; finding that nothing "
            f"is left to do {r['resume_s']:.1f} s; `minirelu sweep status` {r['status_s']:.2f} s, `show` {r['show_s']:.2f} s.\n"
        )
    if "figure1" in result:
        f = result["figure1"]
        lines += ["| data | optimiser | µs a step and run |", "| --- | --- | ---: |"]
        lines += [f"| {row['data']} | {row['optimizer']} | {row['step_us']:.1f} |" for row in f["rows"]]
        lines.append(
            f"\nThe whole Figure 1 grid (640 runs of {STEPS:,} steps on data of these shapes) with {f['workers']} workers: "
            f"{f['minutes']:.0f} minutes, from {100 * f['fraction']:.1f} % of it in {f['seconds']:.0f} s.\n"
        )
    if "cost" in result:
        ratios = sorted(row["used_us"] / row["step_us"] for row in result["cost"]["rows"])
        lines.append(
            f"The cost model's seconds ÷ the measured ones over {len(ratios)} nets: {ratios[0]:.2f} to {ratios[-1]:.2f}, "
            f"median {statistics.median(ratios):.2f}.\n"
        )
    about = result["machine"]
    lines.append(f"{about['date']}; {about['processor']}, {about['cores']} cores; {about['python']}.")
    return "\n".join(lines)
