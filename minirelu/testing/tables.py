"""The score as Markdown, and where it is published.

- `tables(result)`: planted faults, mutants, false alarms, power.
- `publish(result, json_path, page)`: the JSON, and the tables between the marks of the page.
"""

from __future__ import annotations

import collections
import json
import re
from pathlib import Path
from typing import Any

from ..files import write_atomically

BEGIN, END = "<!-- testing score -->", "<!-- end -->"


def tables(result: dict[str, Any]) -> str:
    """All tables, and on what they were measured."""
    about = result["machine"]
    libraries = ", ".join(f"{name} {version or 'not installed'}" for name, version in about["libraries"].items())
    parts = [_faults(result["faults"]), _alarms(result["false_alarms"]), _power(result["power"]), _mutants(result["mutants"])]
    parts.append(f"{about['date']}; {about['python']}, {libraries}; {result['seconds']} s.")
    return "\n\n".join(parts)


def publish(result: dict[str, Any], json_path: Path, page: Path) -> None:
    """Write both files, each whole or not at all."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no marks {BEGIN} … {END} to write the score between")
    renewed = re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{tables(result)}\n{END}", text, flags=re.DOTALL)
    body = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    write_atomically(json_path, lambda file: file.write(body.encode()))
    write_atomically(page, lambda file: file.write(renewed.encode()))


def _faults(rows: list[dict[str, Any]]) -> str:
    checkers = list(rows[0]["caught"])
    lines = ["**Planted faults caught** (faults × seeds; a fault that is caught at some seeds only counts in part)", ""]
    lines += _head(["dtype", "planted", *checkers])
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        mine = [row for row in rows if row["dtype"] == dtype]
        total = sum(row["seeds"] for row in mine)
        shares = [f"{sum(row['caught'][name] for row in mine) / total:.0%}" for name in checkers]
        lines.append(_row([dtype, f"{len(mine)} × {mine[0]['seeds']}", *shares]))
    return "\n".join(lines)


def _alarms(rows: list[dict[str, Any]]) -> str:
    lines = ["**False alarms** on correct gradients, many of them at exact kinks (95 % interval)", ""]
    lines += _head(["checker", "dtype", "trials", "false alarms", "no verdict", "rate"])
    for row in rows:
        rate = f"{row['alarms'] / max(row['trials'], 1):.2%} [{row['low']:.2%}, {row['high']:.2%}]"
        lines.append(_row([row["checker"], row["dtype"], row["trials"], row["alarms"], row["no_verdict"], rate]))
    return "\n".join(lines)


def _power(rows: list[dict[str, Any]]) -> str:
    lines = [
        "**Power**: share of trials in which one wrong entry of n is noticed, by its relative error (who objects to everything",
        "notices everything: read it beside the false alarms)",
    ]
    for dtype in dict.fromkeys(row["dtype"] for row in rows):
        mine = [row for row in rows if row["dtype"] == dtype]
        sizes = list(dict.fromkeys(row["size"] for row in mine))
        table: dict[tuple[str, int], dict[float, float]] = collections.defaultdict(dict)
        for row in mine:
            table[row["checker"], row["entries"]][row["size"]] = row["caught"] / row["trials"]
        lines += ["", *_head([f"{dtype}, {mine[0]['trials']} trials", "n", *(f"{size:g}" for size in sizes)])]
        for (who, n), shares in table.items():
            lines.append(_row([who, n, *(f"{shares[size]:.2f}" if size in shares else "–" for size in sizes)]))
    return "\n".join(lines)


def _mutants(rows: list[dict[str, Any]]) -> str:
    lines = ["**Mutants** made from the source, one change each", ""]
    lines += _head(["source", "mutants", "killed", "no verdict", "survived", "of these explained"])
    for row in rows:
        alive = [m for m in row["not_killed"] if m["outcome"] != "no verdict"]
        undecided = len(row["not_killed"]) - len(alive)
        explained = sum(bool(m["why"]) for m in row["not_killed"])
        counts = [row["mutants"], row["killed"], undecided, len(alive), f"{explained} of {len(row['not_killed'])}"]
        lines.append(_row([row["source"], *counts]))
    reasons: dict[str, list[str]] = collections.defaultdict(list)
    for row in rows:
        for m in row["not_killed"]:
            reasons[m["why"] or "not explained yet"].append(f"`{m['mutant'].split(' in: ')[0]}`")
    lines += ["", "Not killed, and why:", ""]
    return "\n".join(lines + [f"- {why}: {', '.join(names)}" for why, names in reasons.items()])


def _head(names: list[str]) -> list[str]:
    return [_row(names), "| --- " + "| ---: " * (len(names) - 1) + "|"]


def _row(cells: list[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
