"""Born-dead nets: bounds of Lu et al. 2019 against drawn nets (what the paper's Figure 6 begins with).

Claim: a net of He-initialised layers without biases is constant with a probability between Theorems 3 and 2; randomised
asymmetric initialisation (RAI) makes it rarer, 22 % at depth 10 and width 2. Ours: inside the bounds at every depth and width
tried. Deviation: none. Run time: seconds.
"""

from __future__ import annotations

from ..theory import born_dead as theory
from .verdicts import IN_PART, NOT_REPRODUCED, REPRODUCED, Claim, Finding

NETS = ((10, 2), (10, 3), (10, 5), (20, 4))
RAI = 0.22


def findings(n: int) -> list[Finding]:
    """A finding for each (depth, width) of `NETS`, of n nets drawn, with the exact binomial interval."""
    return [*(_bounded(depth, width, n) for depth, width in NETS), _rai(n)]


def _bounded(depth: int, width: int, n: int) -> Finding:
    low, high = theory.lower_bound(depth, width), theory.upper_bound(depth, width)
    found = theory.simulate_born_dead(depth, width, n)
    claim = Claim(f"Born dead, depth {depth}, width {width}", "Lu et al. 2019, Theorems 2 and 3", f"{low:.3f} to {high:.3f}")
    return Finding(claim, _words(found), n, _verdict(found, low, high))


def _rai(n: int) -> Finding:
    found = theory.simulate_born_dead(10, 2, n, law="rai")
    claim = Claim("Born dead with RAI, depth 10, width 2", "Lu et al. 2019; asked within ±.03", f"{RAI:.2f}")
    return Finding(claim, _words(found), n, _verdict(found, RAI - 0.03, RAI + 0.03))


def _verdict(found: theory.Share, low: float, high: float) -> str:
    if low <= found.low and found.high <= high:
        return REPRODUCED
    return NOT_REPRODUCED if found.high < low or found.low > high else IN_PART


def _words(found: theory.Share) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
