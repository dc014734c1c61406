"""What a study saw: means with intervals, and one paragraph in plain language that claims no more than they allow.

- `summary(outcomes)`: a row for each optimiser, net, γ and δ.
- `paragraph(outcomes, name)`: the paragraph.

Means and intervals are those of minirelu/estimates.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..estimates import Estimate, error_estimate, estimate
from .study import Net, Outcome, Rule


class SummaryRow(NamedTuple):
    """Dead share and error ÷ γ² of one optimiser and net at one γ and δ; `diverged` replicas are in neither."""

    rule: Rule
    net: Net
    gamma: float
    delta: float
    dead: Estimate
    mse: Estimate
    diverged: int


def share_estimate(outcomes: Sequence[Outcome]) -> Estimate:
    """The mean share of dead units of these (finite) outcomes."""
    return estimate([o.dead for o in outcomes], 0.0, 1.0, resolution=_step(outcomes))


def _step(outcomes: Sequence[Outcome]) -> float:
    return 1 / sum(layer.units for layer in outcomes[0].course[-1].layers) if outcomes else 0.0


def finite(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that have not diverged."""
    return [o for o in outcomes if not math.isnan(o.dead)]


def summary(outcomes: Sequence[Outcome]) -> list[SummaryRow]:
    """A row for each optimiser, net, γ and δ, in the order of `outcomes`."""
    groups: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in outcomes:
        rule, *rest, _ = outcome.replica
        groups.setdefault((rule.name, *rest), []).append(outcome)
    rows = []
    for group in groups.values():
        fine, of = finite(group), group[0].replica
        errors = error_estimate([o.mse for o in fine])
        rows.append(SummaryRow(of.rule, of.net, of.gamma, of.delta, share_estimate(fine), errors, len(group) - len(fine)))
    return rows


# ------------------------------------------------------------------------------------------------------- series


class Series(NamedTuple):
    """The outcomes of one line of a figure: everything but the varied letter (γ or δ) and the seed is the same."""

    label: str
    rule: Rule
    at: dict[float, list[Outcome]]


def varied(outcomes: Sequence[Outcome]) -> str:
    """The letter that figures and comparisons run over: "gamma", or "delta" if only that varies."""
    gammas, deltas = ({getattr(o.replica, name) for o in outcomes} for name in ("gamma", "delta"))
    return "delta" if len(gammas) == 1 and len(deltas) > 1 else "gamma"


def series(outcomes: Sequence[Outcome]) -> list[Series]:
    """The lines, labelled by the optimiser and by what else differs between them."""
    along = varied(outcomes)
    other = "delta" if along == "gamma" else "gamma"
    parts: dict[tuple[object, ...], list[Outcome]] = {}
    for o in outcomes:
        parts.setdefault((o.replica.rule.name, o.replica.net, getattr(o.replica, other)), []).append(o)
    name = differing(outcomes, other)
    found = []
    for part in parts.values():
        at: dict[float, list[Outcome]] = {}
        for o in sorted(part, key=lambda o: getattr(o.replica, along)):
            at.setdefault(getattr(o.replica, along), []).append(o)
        found.append(Series(name(part[0]), part[0].replica.rule, at))
    return found


def differing(outcomes: Sequence[Outcome], other: str) -> Callable[[Outcome], str]:
    """A function that names an outcome's optimiser and those of depth, width, batch and `other` that are not all equal."""
    letter = {"delta": "δ", "gamma": "γ"}[other]
    nets = {o.replica.net for o in outcomes}
    names = [name for name in Net._fields if len({getattr(net, name) for net in nets}) > 1]
    lettered = len({getattr(o.replica, other) for o in outcomes}) > 1

    def name(o: Outcome) -> str:
        parts = [o.replica.rule.name, *(f"{name} {getattr(o.replica.net, name)}" for name in names)]
        return ", ".join(parts + ([f"{letter} {getattr(o.replica, other):g}"] if lettered else []))

    return name


# ---------------------------------------------------------------------------------------------------- in plain words


def paragraph(outcomes: Sequence[Outcome], name: str) -> str:
    """What was seen. Two ends of a series are compared seed by seed, and all comparisons together at 95 % (Bonferroni)."""
    lines, letter = series(outcomes), {"gamma": "γ", "delta": "δ"}[varied(outcomes)]
    replica = outcomes[0].replica
    step = outcomes[0].course[-1].step
    seeds = len({o.replica.seed for o in outcomes})
    start = f"Seen on {name}: after {step:,} steps, with {seeds} seed{'s' * (seeds > 1)} a setting"
    ends = [(line, min(line.at), max(line.at)) for line in lines if len(line.at) > 1]
    if not ends:
        value = f"{letter} = {getattr(replica, varied(outcomes)):g}"
        shares = "; ".join(f"{line.label} {_percent(finite(next(iter(line.at.values()))))}" for line in lines)
        said = [f"{start} and {value}, the mean share of dead units was: {shares}."]
    else:
        said = [f"{start}, the mean share of dead units at {letter} = {ends[0][1]:g} and {letter} = {ends[0][2]:g} was:"]
        said += _compared(ends, letter)
    diverged = len(outcomes) - len(finite(outcomes))
    if diverged:
        said.append(f"{diverged} of {len(outcomes)} trainings diverged; they are in none of these numbers.")
    brackets = "Brackets are 95 % intervals (Student's t)" if seeds > 1 else "One seed gives no interval, and shows nothing"
    if len(ends) > 1 and seeds > 1:
        brackets += f"; what is called more or fewer allows for {len(ends)} comparisons"
    said.append(f"{brackets}. All of it holds for these settings and the rows trained on, not beyond.")
    return " ".join(said)


def _compared(ends: Sequence[tuple[Series, float, float]], letter: str) -> list[str]:
    """A sentence for each finding: the series that show it, with the shares at their two ends."""
    found: dict[int, dict[str, list[str]]] = {1: {}, -1: {}, 0: {}}
    for line, small, large in ends:
        shares = " and ".join(_percent(finite(line.at[end])) for end in (small, large))
        finding = found[_verdict(line.at[small], line.at[large], 1 - 0.05 / len(ends))]
        finding.setdefault(shares, []).append(line.label)
    words = {1: f"more units dead at the smaller {letter}", -1: f"fewer at the smaller {letter}", 0: "no difference shown"}
    return [
        f"{'; '.join(f'{_and(labels)} {shares}' for shares, labels in parts.items())}: {words[finding]}."
        for finding, parts in found.items()
        if parts
    ]


def _and(names: Sequence[str]) -> str:
    """`A`, `A and B`, `A, B and C`; names that contain a comma are kept apart by semicolons."""
    comma = "; " if any("," in name for name in names) else ", "
    return comma.join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _verdict(small: Sequence[Outcome], large: Sequence[Outcome], level: float) -> int:
    """1, -1 or 0: more, fewer, or neither shown, by the differences of replicas with the same seed."""
    other = {o.replica.seed: o.dead for o in finite(large)}
    pairs = [o for o in finite(small) if o.replica.seed in other]
    if len(pairs) < 2:
        return 0
    e = estimate([o.dead - other[o.replica.seed] for o in pairs], resolution=_step(pairs) * 2**0.5, level=level)
    return 1 if e.low > 0 else -1 if e.high < 0 else 0


def _percent(outcomes: Sequence[Outcome]) -> str:
    """`41.2% [32.1, 50.2]`; without brackets for one seed, `–` for none."""
    e = share_estimate(outcomes)
    interval = f" [{100 * e.low:.1f}, {100 * e.high:.1f}]" if e.n > 1 else ""
    return f"{100 * e.mean:.1f}%{interval}" if e.n else "– (all diverged)"
