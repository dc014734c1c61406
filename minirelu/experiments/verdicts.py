"""Claims of the paper, what we found, and the verdict that the interval allows.

- `Claim`, `Finding`, `not_run(claim, why)`.
- `near(e, paper, within)`, `below(e, limit)`, `above(e, limit)`: verdicts on an estimate. `said(e)`: an estimate in words.
"""

from __future__ import annotations

from typing import NamedTuple

from ..estimates import Estimate

REPRODUCED, NOT_REPRODUCED, IN_PART, NOT_RUN = "reproduced", "not reproduced", "in part", "not run"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, IN_PART, NOT_RUN)


class Claim(NamedTuple):
    """What the paper says: in words, where, and its number."""

    text: str
    source: str
    paper: str


class Finding(NamedTuple):
    """What we have measured: in words with its interval, of n independent runs (0: a calculation without chance)."""

    claim: Claim
    ours: str
    n: int
    verdict: str
    why: str = ""


def not_run(claim: Claim, why: str) -> Finding:
    return Finding(claim, "–", 0, NOT_RUN, why)


def near(e: Estimate, paper: float, within: float) -> str:
    """Reproduced if the whole interval is within `within` of the paper's number, not if it is wholly outside; else in part."""
    return _inside(e, paper - within, paper + within)


def below(e: Estimate, limit: float) -> str:
    """The same for a number that should be at most `limit`."""
    return _inside(e, float("-inf"), limit)


def above(e: Estimate, limit: float) -> str:
    """The same for a number that should be at least `limit`."""
    return _inside(e, limit, float("inf"))


def _inside(e: Estimate, low: float, high: float) -> str:
    if e.n < 2:
        return NOT_RUN  # no verdict rests on one seed
    if low <= e.low and e.high <= high:
        return REPRODUCED
    return NOT_REPRODUCED if e.high < low or e.low > high else IN_PART


def said(e: Estimate, digits: int = 3) -> str:
    """`.959 [.954, .964]`, the mean and its 95 % interval."""
    return f"{e.mean:.{digits}f} [{e.low:.{digits}f}, {e.high:.{digits}f}]"
