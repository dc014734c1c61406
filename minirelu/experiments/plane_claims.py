"""The verdicts on the paper's Figures 2 to 5, which are calculations: what it says, and what the exact equations give.

- `affine()`, `field()`: Figures 2 and 3; nothing in them is random, so n is 0 and there is no interval.
- `basins(four, five)`: Figures 4 and 5 of their columns; n starts on a grid, with the binomial interval of as many random ones.
"""

from __future__ import annotations

import numpy as np

from ..theory import born_dead, linear_system
from . import fig2, fig3, fig4, fig5
from .fig2 import Columns
from .verdicts import IN_PART, NOT_REPRODUCED, REPRODUCED, Claim, Finding


def affine() -> list[Finding]:
    """Figure 2."""
    star = float(linear_system.critical_beta("ema", fig2.LR))
    z = fig2.ratio(0.9, np.arange(fig2.STEPS + 1))
    low = f"{z.min():.2f} at t = {z.argmin()}"
    return [
        Finding(Claim("The eigenvalues become complex at a momentum β of about .7", "§4, Fig. 2; η = .1", "0.7"),
                f"{star:.4f}, exactly ((1 − η)/(1 + η))²", 0, REPRODUCED if abs(star - 0.7) < 0.05 else NOT_REPRODUCED),
        Finding(Claim("With β = .9 the affine model swings below b/‖w‖ = 0", "Fig. 2, digitised", "−2.55 at t = 35"),
                low, 0, REPRODUCED if low == "-2.55 at t = 35" else NOT_REPRODUCED),
    ]  # fmt: skip


def field() -> list[Finding]:
    """Figure 3: the exact field differs from the picture for w < 0."""
    exact, drawn = fig3.bias_gradient_errors()
    claim = Claim("Starts at the lower left first go towards the linear cone", "§5, Fig. 3", "yes")
    ours = f"no: the picture lacks the factor ρ of Eq. 32; the gradient is {exact:.0e} from quadrature, without ρ {drawn:.2f}"
    return [Finding(claim, ours, 0, NOT_REPRODUCED if exact < 1e-9 < drawn else IN_PART)]


def basins(four: Columns, five: Columns) -> list[Finding]:
    """Figures 4 and 5."""
    survive, drawn = (_dead(four, 0.001, 0.0, form) for form in ("exact", "figure"))
    low, high = (_dead(five, 0.001, beta) for beta in (0.7, 0.95))
    source = "§5, Fig. 4; dead share below .5"
    return [
        Finding(Claim("Without momentum the majority of starts survives at γ = .001", source, f"dead {fig4.PAPER[-1]:g}"),
                f"dead {_words(survive)}; as drawn, without ρ: {_words(drawn)}", survive.n, _less(survive, 0.5)),
        Finding(Claim("More momentum kills more starts: β = .95 against .7", "§5, Fig. 5; intervals apart",
                      f"dead {fig5.PAPER[-1]:g} against {fig5.PAPER[0]:g}"),
                f"dead {_words(high)} against {_words(low)}", low.n,
                REPRODUCED if high.low > low.high else NOT_REPRODUCED if high.high < low.low else IN_PART),
    ]  # fmt: skip


def _dead(columns: Columns, gamma: float, beta: float, form: str = "exact") -> born_dead.Share:
    own = (np.asarray(columns["form"]) == form) & (columns["gamma"] == gamma) & (columns["beta"] == beta)
    return born_dead.share(int(np.sum(columns["dead"][own])), int(own.sum()))


def _less(share: born_dead.Share, limit: float) -> str:
    return REPRODUCED if share.high < limit else NOT_REPRODUCED if share.low > limit else IN_PART


def _words(share: born_dead.Share) -> str:
    return f"{share.mean:.3f} [{share.low:.3f}, {share.high:.3f}]"
