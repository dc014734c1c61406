"""What the kernels are to reach on an idle two-core machine, float32, given output arrays; judged from one run's JSON.

- `judged(result)`: a `Goal` a line: what was measured, with its 95 % interval, and whether that reaches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import reading, without_counts
from benchmarks.cases import LARGE, LAYER, ONE, PARAMETERS
from benchmarks.copies import NON_TEMPORAL
from benchmarks.optimisers import RULES, STREAMS
from benchmarks.reading import Interval, Row
from benchmarks.timing import middle as median

KERNEL = "minirelu"
SPELLINGS = ("NumPy naive", "NumPy out=", "NumPy tuned")


class Goal(NamedTuple):
    """`measured` should be at least `goal`, or at most where `most` is set; both in `unit`, printed with so many `digits`."""

    text: str
    measured: Interval
    goal: float
    unit: str = "×"
    digits: int = 2
    most: bool = False

    @property
    def verdict(self) -> str:
        """yes or no, by the median; with a question mark where the goal lies inside the interval."""
        value, low, high = self.measured
        reached = value <= self.goal if self.most else value >= self.goal
        return ("yes" if reached else "no") + ("?" if low < self.goal < high else "")

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Text, goal, measured with interval, verdict."""
        value, low, high = (f"{x:.{self.digits}f}" for x in self.measured)
        asked = f"{'≤' if self.most else '≥'} {self.goal:g} {self.unit}"
        return self.text, asked, f"{value} [{low}, {high}] {self.unit}", self.verdict


def judged(result: dict[str, Any]) -> list[Goal]:
    """The goals whose rows are in `result`."""
    return [*_large(result), *_counting(result), *_small(result), *_optimisers(result)]


def _large(result: Row) -> Iterator[Goal]:
    names = {"bias_relu_forward": "forward", "relu_backward": "backward"}
    for kernel, layout, percent in (
        ("bias_relu_forward", "aligned", 85),
        ("relu_backward", "aligned", 90),
        ("bias_relu_forward", "np.empty", 80),
        ("relu_backward", "np.empty", 80),
    ):
        found = _parallel(result, kernel, layout)
        yield from _share(f"{names[kernel]}, {layout} arrays: of non-temporal copy", found, NON_TEMPORAL, percent)
    for kernel, peer, goal in (
        ("bias_relu_forward", "torch.compile, y only", 1.0),
        ("bias_relu_forward", "NumPy out=", 4.0),
        ("bias_relu_forward", "NumPy tuned", 4.0),
        ("bias_relu_forward", "PyTorch reused", 10.0),
        ("bias_relu_forward", "PyTorch tuned", 10.0),
        ("relu_backward", "PyTorch reused", 2.5),
    ):
        found = _parallel(result, kernel, "aligned")
        yield from _speedup(f"{names[kernel]}: quicker than {peer}", found, peer, goal)


def _counting(result: Row) -> Iterator[Goal]:
    found = _parallel(result, "bias_relu_forward", "aligned")
    own, base = (reading.row(found, name, "pair") for name in (KERNEL, without_counts.NAME))
    if own and base:
        middle, low, high = (100 * (x - 1) for x in reading.speedup(base, own))
        yield Goal("forward: time that counting adds", (middle, low, high), 5, "%", 1, most=True)


def _small(result: Row) -> Iterator[Goal]:
    for kernel in ("bias_relu_forward", "relu_backward"):
        found = reading.case(result, kernel, shape=LAYER, dtype="float32", cache="warm")
        rows = [row for name in SPELLINGS if (row := reading.row(found, name))]
        if rows:
            best = min(rows, key=reading.median)["candidate"]
            yield from _speedup(f"{kernel}, 64×200 in cache: quicker than {best}", found, best, 1)
    for kernel in ("bias_relu_forward", "relu_backward", "count_units"):
        own = reading.row(reading.case(result, kernel, shape=ONE), KERNEL)
        if own:
            yield Goal(f"{kernel}, 1×1: dispatch", median(1e6 * np.array(own["seconds"])), 3, "µs", most=True)


def _optimisers(result: Row) -> Iterator[Goal]:
    for rule in RULES:
        found = reading.case(result, f"{rule}_step", shape=PARAMETERS)
        yield from _share(f"{rule} step: of a plain kernel with its streams", found, STREAMS, 90)


def _parallel(result: Row, kernel: str, layout: str) -> Row | None:
    threads = result["machine"]["threads"]
    return reading.case(result, kernel, shape=LARGE, dtype="float32", layout=layout, threads=threads)


def _share(text: str, found: Row | None, ruler: str, goal: float) -> Iterator[Goal]:
    own, base = reading.row(found, KERNEL), reading.row(found, ruler)
    if own and base:
        middle, low, high = reading.share(own, base)
        yield Goal(text, (100 * middle, 100 * low, 100 * high), goal, "%", 0)


def _speedup(text: str, found: Row | None, other: str, goal: float) -> Iterator[Goal]:
    own, base = reading.row(found, KERNEL), reading.row(found, other)
    if own and base:
        yield Goal(text, reading.speedup(own, base), goal)
