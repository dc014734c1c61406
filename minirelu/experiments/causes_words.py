"""Causes and remedies in words: tables for the terminal and the documents, recommendations, rows of the report.

- `cause_lines(rows, rule)`, `remedy_lines(rows)`: cells of tables. `recommendations(rows)`: a sentence a cause.
- `as_json(rows)`, `from_json(text)`: every row with its intervals.
- `findings(rows)`: claims of the folklore and what the numbers say. `markdown(rows)`: tables for a document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from ..causes import cases
from ..causes.diagnose import share
from ..estimates import Estimate
from .causes import KILLS, RULES, Row, dosed, doses, hardly_kills, killing, kills, over_sets, recommended, remedied
from .verdicts import IN_PART, NOT_REPRODUCED, REPRODUCED, Claim, Finding, not_run

RULE_NAMES = {"adam": "Adam", "sgd": "SGD"}
CAUSE_HEADS = ("cause", "kills from", "dead, worst layer", "of it alive at birth", "rank", "error", "steps to goal", "n")


def sets(rows: Sequence[Row]) -> str:
    """The data sets that the rows are about, each once."""
    return ", ".join(dict.fromkeys(row.data for row in rows))


def cause_lines(rows: Sequence[Row], rule: str) -> list[tuple[str, ...]]:
    """A line a cause under a rule, over all data sets: at the dose that kills first; at the strongest, if surely none does;
    where neither is shown, at the one with most dead.

    Rank, error and steps beside those of the healthy dose.
    """
    table, lines = over_sets(rows), []
    for cause in cases.CAUSES:
        own = doses(table, cause, rule)
        if len(own) > 1:
            lines.append(_cause_line(cause.title, own))
    return lines


def _cause_line(title: str, own: Sequence[Row]) -> tuple[str, ...]:
    base, at, verdict = own[0], _telling(own), kills(own)
    gone = f", {at.diverged} diverged" if at.diverged else ""
    dose = {True: at.dose, False: f"does not ({at.dose})", None: f"not shown ({at.dose})"}[verdict] if at.n else "diverges"
    never = f" ({at.never} never)" if at.never else ""
    return (
        title, dose, share(at.dead), share(at.died), f"{base.rank.mean:.0f} → {at.rank.mean:.1f}",
        f"{base.error.mean:.2g} → {at.error.mean:.2g}", f"{base.steps.mean:.0f} → {at.steps.mean:.0f}{never}",
        f"{at.n}{gone}",
    )  # fmt: skip


def _telling(own: Sequence[Row]) -> Row:
    """The dose of a cause that its line is about."""
    if kills(own) is False:
        return dosed(own)[-1]
    return killing(own) or max(dosed(own), key=lambda row: row.dead.mean, default=own[-1])


def remedy_lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a cause: cause, then for no remedy and each remedy its silent share, over all data sets."""
    table, lines = over_sets(rows), []
    for cause in cases.CAUSES:
        tried = remedied(table, cause)
        if len(tried) > 1:
            keys = ("none", *(remedy.key for remedy in cases.REMEDIES))
            cells = (_short(tried[key]) if key in tried else "–" for key in keys)
            lines.append((f"{cause.title}: {cause.dose.label}", *cells))
    return lines


def _short(row: Row) -> str:
    return f"{100 * row.dead.mean:.0f}" if row.dead.n else "div."


def recommendations(rows: Sequence[Row]) -> list[str]:
    """A sentence a cause: what to take against it, drawn from the numbers."""
    table, said = over_sets(rows), []
    for cause in cases.CAUSES:
        tried = remedied(table, cause)
        if len(tried) > 1:
            said.append(_recommendation(cause, tried, doses(table, cause, "adam")[0]))
    return said


def _recommendation(cause: cases.Cause, tried: dict[str, Row], base: Row) -> str:
    best, without = recommended(tried), tried["none"]
    head, mild = f"{cause.title}, {cause.dose.label}", hardly_kills(without)
    if best is None:
        lacking = "fits surely better" if mild else "leaves surely fewer, and no worse a fit,"
        return f"{head}: nothing tried {lacking} than no remedy: {share(without.dead)} dead, error {without.error.mean:.2g}."
    title = next(remedy.title for remedy in cases.REMEDIES if remedy.key == best.remedy)
    silent = "silent" if best.remedy in cases.LEAKY else "dead"
    return (
        f"{head}: {'hardly kills; for the fit ' * mild}{title}: {share(best.dead)} {silent} instead of {share(without.dead)}, "
        f"error {best.error.mean:.2g} instead of {without.error.mean:.2g} (healthy {base.error.mean:.2g}), n = {best.n}."
    )


# ----------------------------------------------------------------------------------------------------------------- files


def as_json(rows: Sequence[Row]) -> str:
    """The rows, one a line; an estimate is [mean, low, high, n], and what is not finite null."""

    def plain(value: object) -> object:
        return [*map(_rounded, value[:3]), value.n] if isinstance(value, Estimate) else value

    lines = [json.dumps({k: plain(v) for k, v in row._asdict().items()}, ensure_ascii=False) for row in rows]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def from_json(text: str) -> list[Row]:
    """The rows of `as_json`, with the digits that it has; null is NaN."""

    def read(value: Any) -> Any:
        return Estimate._make(math.nan if x is None else x for x in value) if isinstance(value, list) else value

    return [Row(**{name: read(value) for name, value in row.items()}) for row in json.loads(text)]


def _rounded(x: float) -> float | None:
    """To ten digits, with which counts out of 8 nets of 32 units are exact shares: a table of read rows rounds them alike."""
    return float(f"{x:.10g}") if math.isfinite(x) else None


# ---------------------------------------------------------------------------------------------------------------- report

FOLKLORE = {
    "scale_large": "Initial weights that are too large kill",
    "scale_small": "Initial weights that are too small kill",
    "sign": "Weights of mostly one sign kill",
    "constant": "Constant initial weights kill",
    "bias": "A large negative bias kills",
    "lr": "A high learning rate kills",
    "raw": "Inputs that are not normalised kill",
    "shift": "Inputs far from 0 kill",
    "gamma": "Targets of tiny scale kill",
    "delta": "Targets far from 0 kill",
    "depth": "Depth kills",
    "width": "Narrow layers kill",
    "deep_narrow": "Depth kills narrow nets",
}


def claims() -> list[Claim]:
    """What is said of every cause, under each rule."""
    return [
        Claim(f"{FOLKLORE[cause.key]}, with {RULE_NAMES[rule]}", "folklore; docs/causes-and-remedies.md",
              f"more than {KILLS:.0%} of a layer at some dose up to {cause.doses[-1].label}")
        for cause in cases.CAUSES for rule in RULES
    ]  # fmt: skip


def findings(rows: Sequence[Row]) -> list[Finding]:
    """The verdict on every claim: reproduced if at some dose the whole interval is above the share, over the data sets run."""
    table = over_sets(rows)
    asked = [(cause, rule) for cause in cases.CAUSES for rule in RULES]
    return [_found(claim, doses(table, cause, rule)) for claim, (cause, rule) in zip(claims(), asked, strict=True)]


def _found(claim: Claim, own: Sequence[Row]) -> Finding:
    lost = sum(row.diverged for row in own[1:])
    also = f"; {lost} nets diverged, which is not dying" if lost else ""
    if not dosed(own):
        return not_run(claim, f"no net stayed finite{also}" if lost else "not trained in this size")
    most = killing(own) or max(dosed(own), key=lambda row: row.dead.mean)
    words = f"{share(most.dead)} at {most.dose}, of it {share(most.died)} alive at birth{also}"
    verdicts = {True: REPRODUCED, False: NOT_REPRODUCED, None: IN_PART}
    return Finding(claim, words, most.n, verdicts[kills(own)])


# -------------------------------------------------------------------------------------------------------------- markdown


def markdown(rows: Sequence[Row]) -> str:
    """The tables and recommendations for a document: causes under each rule, then remedies with intervals."""
    over = f", on {sets(rows)}\n\n"
    parts = [f"**{name}**{over}" + _grid(CAUSE_HEADS, cause_lines(rows, rule)) for rule, name in RULE_NAMES.items()]
    table = over_sets(rows)
    kept = [(cause, tried) for cause in cases.CAUSES if len(tried := remedied(table, cause)) > 1]
    if kept:
        heads = ("remedy", *(f"{cause.title}: {cause.dose.label}" for cause, _ in kept))
        known = [("none", "none"), *((remedy.key, remedy.title) for remedy in cases.REMEDIES)]
        lines = [(title, *(_cell(tried, key) for _, tried in kept)) for key, title in known]
        parts += [f"**Remedies**{over}" + _grid(heads, lines), "\n".join(f"- {said}" for said in recommendations(rows))]
    return "\n\n".join(parts) + "\n"


def _cell(tried: dict[str, Row], key: str) -> str:
    if key not in tried:
        return "–"
    row = tried[key]
    part = f" (n = {row.n})" if row.n < tried["none"].n else ""
    return f"{share(row.dead)}; {row.error.mean:.2g}{part}" if row.n else "diverges"


def _grid(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *lines))
