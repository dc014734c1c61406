"""The tables of `python -m benchmarks train` in Markdown, made from its JSON; losing rows stay.

- `page(result)`: everything.          - `case_table(case)`: one case.          - `judged(result)`: the goals.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.goals import Goal
from benchmarks.tables import footnote
from benchmarks.timing import ratio
from benchmarks.train import ALONE, OWN

PROCESSES = ", a process a core"


def page(result: dict[str, Any]) -> str:
    """Goals, every case, and the cost against steps and replicas."""
    goals = [f"| {' | '.join(goal.cells)} |" for goal in judged(result)]
    parts = [
        "\n".join(["| goal | asked | measured [range] | reached |", "| --- | ---: | ---: | ---: |", *goals]),
        "µs a step and replica, float32, batch 64 (÷ ours, [its range or 95 % interval over the rounds]):",
        *(case_table(case) for case in result["cases"]),
        *(table(result[name]) for name, table in (("steps", _steps), ("memory", _memory)) if name in result),
        footnote(result) + f" {result['rounds']} interleaved rounds; first call {result['compile_s']:.1f} s.",
    ]
    return "\n\n".join(parts)


def case_table(case: dict[str, Any]) -> str:
    """A row a candidate, the quickest first."""
    rows = sorted(case["rows"], key=lambda row: np.median(row["seconds"]))
    lines = [f"| {title(case)} | µs | ÷ ours |", "| --- | ---: | ---: |"]
    for row in rows:
        name = f"**{row['candidate']}**" if row["candidate"] == OWN else row["candidate"]
        slower, low, high = _against(case, row["candidate"], OWN)
        against = "" if row["candidate"] == OWN else f"{slower:.2f} [{low:.2f}, {high:.2f}]"
        lines.append(f"| {name} | {_micro(case, row):.1f} | {against} |")
    return "\n".join(lines)


def title(case: dict[str, Any]) -> str:
    """`8-200-1, adam, R = 16, 195 steps`; repeated widths as `8-4×200-1`."""
    inputs, *hidden, outputs = case["sizes"]
    middle_ = str(hidden[0]) if len(hidden) == 1 else f"{len(hidden)}×{hidden[0]}"
    return f"{inputs}-{middle_}-{outputs}, {case['rule'].replace('_', ' ')}, R = {case['replicas']}, {case['steps']} steps"


def _micro(case: dict[str, Any], row: dict[str, Any]) -> float:
    return float(np.median(row["seconds"])) / case["steps"] / case["replicas"] * 1e6


def _against(case: dict[str, Any], name: str, base: str) -> tuple[float, float, float]:
    """Time of `name` ÷ time of `base`, round by round: median and interval."""
    seconds = {row["candidate"]: np.array(row["seconds"]) for row in case["rows"]}
    return ratio(seconds[name], seconds[base])


def judged(result: dict[str, Any]) -> list[Goal]:
    """The goals of whose cases there are rows."""
    found: list[Goal] = []
    for case in result["cases"]:
        names = {row["candidate"] for row in case["rows"]}
        depth, many = len(case["sizes"]) - 2, case["replicas"] >= 16
        if depth == 1 and case["sizes"][0] == 8 and many:
            found += _best(case, {n for n in names if n.startswith("JAX")}, "the best JAX", 3.0)
            found += _best(case, names & {"PyTorch eager"}, "PyTorch eager", 30.0)
        if depth > 1:
            found += _best(case, names - {OWN, ALONE}, "the best peer", 1.3)
        if ALONE in names and many:
            found.append(Goal(f"{title(case)}: one core to two", _against(case, ALONE, OWN), 1.85))
    return found


def _best(case: dict[str, Any], names: set[str], said: str, goal: float) -> list[Goal]:
    against = [_against(case, name, OWN) for name in names]
    return [Goal(f"{title(case)}: {said} ÷ ours", min(against), goal)] if against else []


def _steps(rows: list[dict[str, Any]]) -> str:
    cells = [f"| {row['steps']:,} | {1e6 * float(np.median(row['seconds'])) / row['steps'] / 16:.2f} |" for row in rows]
    head = ["Cost against steps, 8-200-1, adam, R = 16:", "", "| steps | µs a step and replica |", "| ---: | ---: |"]
    return "\n".join(head + cells)


def _memory(rows: list[dict[str, Any]]) -> str:
    cells = [f"| {row['replicas']:,} | {row['results_mb']:.0f} | {row['peak_mb']:.0f} |" for row in rows]
    said = (
        "Memory of `train.train_mlp` on 8-200-1 with 21 counts of all units, bounded by the results and one chunk of replicas:"
    )
    return "\n".join([said, "", "| R | results, MB | at most in use, MB |", "| ---: | ---: | ---: |", *cells])
