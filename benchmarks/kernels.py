"""The kernels against the memory of this machine and against other libraries, all in one interleaved run a case.

- `run(cases)`: the JSON of this benchmark (schema: benchmarks/README.md), with every single time in it.
- `merged(before, result)`: the kept results, with the cases that were measured again.

In each case every candidate is checked against the right answer before it is timed and again after, on the same arrays;
its first call, which may compile, is timed apart. Three rulers copy the same arrays in the same rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks import copies, first_calls, jobs, optimisers, peak, peers, without_counts
from benchmarks.cases import LARGE, ONE, THREADS, Case, all_cases
from benchmarks.timing import cache, interleaved, machine, plan, same_machine
from minirelu import kernels

Call = Callable[[], Any]
Work = jobs.Job | optimisers.Update

# rounds of a pair that is timed alone, because it differs by less than two of many candidates can be told apart
PAIRED = 500

# who does less than the whole job, and what it does not make
FEWER = {"torch.compile, y only": ("mask", "active", "nonfinite"), without_counts.NAME: ("active", "nonfinite")}


def run(
    cases: Iterable[Case],
    backends: Iterable[str] = ("numba", "reference"),
    first: bool = True,
    show: Callable[[dict[str, Any]], None] = lambda case: None,
) -> dict[str, Any]:
    """Measure `cases`, and hand each to `show` when it is done; `first` measures the first calls in fresh processes too."""
    about, measured = machine(THREADS), []
    for case in cases:
        measured.append(_measure(case, tuple(backends)))
        show(measured[-1])
    return {
        "benchmark": "kernels",
        "machine": about,
        "missing": list(peers.MISSING),
        "additions_per_second": peak.additions_per_second(THREADS),
        "first_calls": first_calls.measure() if first else {},
        "cases": measured,
    }


def merged(before: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """`result`, in which cases that were not measured are those of `before`, and so are first calls.

    Raises `ValueError` where that was another machine, or other versions.
    """
    if not before:
        return result
    same_machine(before, result)
    order = [_key(asdict(case)) for case in all_cases()]
    found = {_key(case): case for case in (*before["cases"], *result["cases"])}
    cases = sorted((case for key, case in found.items() if key in order), key=lambda case: order.index(_key(case)))
    return before | result | {"first_calls": result["first_calls"] or before["first_calls"], "cases": cases}


def _key(case: dict[str, Any]) -> tuple[Any, ...]:
    return case["kernel"], tuple(case["shape"]), *(case[axis] for axis in ("dtype", "layout", "cache", "threads"))


def _measure(case: Case, backends: tuple[str, ...]) -> dict[str, Any]:
    _set_threads(case.threads)
    work = _work(case)
    candidates = _candidates(case, work, backends)
    calls = {name: call for name, (_, call) in candidates.items()}
    for name in (name for name, (group, _) in candidates.items() if group == "ruler"):
        calls[name]()  # compiles
    copies.check(work.source, work.target, calls)
    firsts = {name: _first_call(work, name, call) for name, call in calls.items() if candidates[name][0] != "ruler"}
    seconds = 0.0 if work.bytes > 4 * cache() else 2e-3  # larger than the cache: every call is a cold one
    flush = _flush if case.cache == "cold" and seconds else None
    rounds, slow = plan(calls, case.seconds, seconds, flush)
    times = interleaved(calls, rounds, seconds, flush, slow)
    for name in firsts:
        work.check(name, calls[name])
    copies.check(work.source, work.target, calls)
    rows = [_row(name, *candidates[name], work, firsts.get(name), times[name]) for name in candidates]
    return _describe(case, work, rounds) | {"rows": rows, "pair": _pair(case, work) if "numba" in backends else []}


def _pair(case: Case, work: Work) -> list[dict[str, Any]]:
    """The forward kernel and its loops without counting, on the large arrays: a row each, or none for other cases."""
    if not (case.shape == LARGE and case.peers and isinstance(work, jobs.Job) and case.kernel == "bias_relu_forward"):
        return []
    calls = {"minirelu": jobs.public(work), without_counts.NAME: without_counts.call(work)}
    for name, call in calls.items():
        work.check(name, call)
    times = interleaved(calls, PAIRED, 0)
    for name, call in calls.items():
        work.check(name, call)
    return [_row(name, "minirelu", call, work, None, times[name]) for name, call in calls.items()]


def _row(name: str, group: str, call: Call, work: Work, first: float | None, seconds: np.ndarray) -> dict[str, Any]:
    """One candidate. A copy moves its source and its target, and who makes y alone moves neither mask nor counts."""
    moved = work.bytes
    if name in copies.RULERS:
        moved = work.source.nbytes + work.target.nbytes
    elif name in FEWER:
        moved -= sum(work.expected[letter].nbytes for letter in FEWER[name])
    return {
        "candidate": name,
        "group": group,
        "bytes": moved,
        "first_call_s": None if first is None else float(f"{first:.3g}"),
        "seconds": [float(f"{t:.4g}") for t in seconds],
    }


def _describe(case: Case, work: Work, rounds: int) -> dict[str, Any]:
    return {
        "kernel": case.kernel,
        "shape": list(case.shape),
        "dtype": case.dtype,
        "layout": case.layout,
        "cache": case.cache,
        "threads": case.threads,
        "rounds": rounds,
        "operations": work.operations,
        "offsets": {letter: array.ctypes.data % 64 for letter, array in work.arrays.items()},
    }


def _work(case: Case) -> Work:
    rule = case.kernel.removesuffix("_step")
    if rule in optimisers.RULES:
        return optimisers.make(rule, case.shape, case.dtype, case.layout)
    return jobs.make(case.kernel, case.shape, case.dtype, case.layout)


def _candidates(case: Case, work: Work, backends: tuple[str, ...]) -> dict[str, tuple[str, Call]]:
    """{name: (ruler, minirelu or peer, call)}."""
    found = {
        "ruler": copies.rulers(work.source, work.target, case.threads),
        "minirelu": _ours(case, work, backends),
        "peer": {},
    }
    if isinstance(work, optimisers.Update):
        found["ruler"] |= optimisers.streams(work, case.threads)
    if case.peers:
        found["peer"] |= optimisers.peers(work) if isinstance(work, optimisers.Update) else peers.found(work)
    return {name: (group, call) for group, calls in found.items() for name, call in calls.items()}


def _ours(case: Case, work: Work, backends: tuple[str, ...]) -> dict[str, Call]:
    """The kernel by its backends; the reference, which takes a second on the large arrays, there only if asked for alone."""
    call = optimisers.minirelu(work) if isinstance(work, optimisers.Update) else jobs.public(work)
    calls = {}
    if "numba" in backends:
        calls["minirelu"] = call
    if "reference" in backends and ((case.peers and case.shape != LARGE) or case.shape == ONE or "numba" not in backends):
        calls["minirelu reference"] = _with("reference", call)
    return calls


def _with(backend: str, call: Call) -> Call:
    def inside() -> Any:
        with kernels.using(backend):
            return call()

    return inside


def _first_call(work: Work, name: str, call: Call) -> float:
    """Check the candidate's first call; how long it took."""
    seconds = []

    def timed() -> Any:
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
        return result

    work.check(name, timed)
    return seconds[0]


def _set_threads(threads: int) -> None:
    """For Numba and PyTorch. NumPy's loops have one thread, JAX as many as there are cores."""
    import numba

    numba.set_num_threads(threads)
    if "torch" not in peers.MISSING:
        import torch

        torch.set_num_threads(threads)


_dirt: list[np.ndarray] = []


def _flush() -> None:
    """Write more memory than the caches hold."""
    if not _dirt:
        _dirt.append(np.zeros(2 * cache(), np.uint8))
    np.add(_dirt[0], 1, out=_dirt[0])
