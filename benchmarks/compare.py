"""`python -m benchmarks compare OLD NEW`: what became quicker or slower between two runs, and what is only noise.

Microseconds of two runs cannot be compared: the machine has changed in between. What is compared is each candidate's time
relative to the ruler (or base) of its own run. The rulers and peers are the control group: their code has not changed, so
how far *they* moved shows how far two runs differ by themselves.

- `verdicts(old, new)`: a `Verdict` for every row that both results have.
- `noise(verdicts)`: the change that 90 % of the control rows stay below; 5 % where there are fewer than five of them.
- `show(old, new)`: print them.
- a row is "faster" or "slower" if its change is beyond the noise and its 95 % interval does not hold 0, otherwise "same".
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import reading
from benchmarks.copies import IN_PLACE, NON_TEMPORAL, ORDINARY
from benchmarks.optimisers import STREAMS
from benchmarks.reading import Interval

Scores = dict[tuple[str, ...], Interval]
OWN = ("minirelu", "minirelu reference")
ENOUGH, ASSUMED = 5, 0.05


class Verdict(NamedTuple):
    """`change` is log(new relative time / old relative time), with its 95 % interval: below 0 is faster."""

    key: tuple[str, ...]
    change: Interval
    control: bool

    def word(self, noise: float) -> str:
        """faster, slower or same."""
        middle, low, high = self.change
        if abs(middle) <= noise or low <= 0 <= high:
            return "same"
        return "faster" if middle < 0 else "slower"


def verdicts(old: dict[str, Any], new: dict[str, Any]) -> list[Verdict]:
    """Every row of `new` that `old` has too. Raises `ValueError` if they are not results of one benchmark."""
    if old["benchmark"] != new["benchmark"]:
        raise ValueError(f"cannot compare the benchmark {old['benchmark']} with {new['benchmark']}; give two files of one")
    before, after = _scores(old), _scores(new)
    both = [key for key in after if key in before]
    if not both:
        raise ValueError("the two files have no row in common; run the same benchmark with the same options")
    return [Verdict(key, _change(before[key], after[key]), key[-1] not in OWN) for key in both]


def noise(found: list[Verdict]) -> float:
    """How far two runs differ by themselves, as a logarithm."""
    moved = [abs(verdict.change[0]) for verdict in found if verdict.control]
    return float(np.quantile(moved, 0.9)) if len(moved) >= ENOUGH else ASSUMED


def _change(old: Interval, new: Interval) -> Interval:
    """The logarithm of new/old; the two runs' errors are independent, so their widths add as squares."""
    middle = math.log(new[0] / old[0])
    down = math.hypot(math.log(new[0] / new[1]), math.log(old[2] / old[0]))
    up = math.hypot(math.log(new[2] / new[0]), math.log(old[0] / old[1]))
    return middle, middle - down, middle + up


def _scores(result: dict[str, Any]) -> Scores:
    """{row: its time relative to the base of its case}; the bases themselves are left out."""
    if result["benchmark"] == "engine":
        rows = [row for row in result["rows"] if row["candidate"] != result["base"]]
        return {(r["net"], r["candidate"]): (r["ratio"], r["ratio_low"], r["ratio_high"]) for r in rows}
    scores: Scores = {}
    for case in result["cases"]:
        base = _base(case)
        shape = "×".join(map(str, case["shape"]))
        place = (case["kernel"], shape, case["dtype"], case["layout"], case["cache"], f"{case['threads']} threads")
        for row in case["rows"]:
            if row is not base:
                middle, low, high = reading.speedup(row, base)
                scores[(*place, row["candidate"])] = (1 / middle, 1 / high, 1 / low)
        if case.get("pair"):
            own, base = case["pair"]
            middle, low, high = reading.speedup(own, base)
            scores[(*place, f"relative to {base['candidate']}", own["candidate"])] = (1 / middle, 1 / high, 1 / low)
    return scores


def _base(case: dict[str, Any]) -> dict[str, Any]:
    """The ruler that this case is judged by: the one whose way of storing is that of the kernel."""
    names = (STREAMS, IN_PLACE if case["layout"] == "in place" else ORDINARY if case["cache"] == "warm" else NON_TEMPORAL)
    return next(row for name in names if (row := reading.row(case, name)))


def load(path: Path) -> dict[str, Any]:
    """A result from its file. Raises `ValueError` with a sentence if it is none."""
    try:
        result = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}; python -m benchmarks kernels --output {path} makes one") from None
    except ValueError:
        result = None
    if not isinstance(result, dict) or result.get("benchmark") not in ("engine", "kernels"):
        raise ValueError(f"{path} is not a result of these benchmarks; give a file that --output has written")
    return result


def show(old: dict[str, Any], new: dict[str, Any]) -> int:
    """Print what changed, most changed first; 1 if a row of ours became slower, else 0."""
    found = verdicts(old, new)
    limit = noise(found)
    words = [(verdict, verdict.word(limit)) for verdict in found]
    moved = sorted(((v, word) for v, word in words if word != "same"), key=lambda pair: -abs(pair[0].change[0]))
    print(f"{_about(old)}  ->  {_about(new)}: {len(found)} rows in common")
    print(f"Noise between the runs: {math.expm1(limit):.1%} (from {sum(v.control for v in found)} rows of rulers and peers)")
    for verdict, word in moved:
        middle, low, high = (math.expm1(x) for x in verdict.change)
        whose = " (control)" if verdict.control else ""
        print(f"{word:>6} {middle:+7.1%} [{low:+.1%}, {high:+.1%}]  {', '.join(verdict.key)}{whose}")
    own = [word for verdict, word in words if not verdict.control]
    print(f"Ours: {own.count('faster')} faster, {own.count('slower')} slower, {own.count('same')} same.")
    return int("slower" in own)


def _about(result: dict[str, Any]) -> str:
    return f"{result['machine']['date']} on {result['machine']['processor']}"
