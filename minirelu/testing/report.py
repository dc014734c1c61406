"""What a check found: the report it returns, and the two exceptions it can end with.

- `Report`: what was compared, by which oracles, how near the tolerance it came.
- `GradientMismatch` (an AssertionError): the gradient is wrong; `.report.finding` says where.
- `NoVerdict` (not an AssertionError): the point, or f, allows no verdict; never a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SHOWN = 64  # arrays with more entries are not written out as code


@dataclass
class Finding:
    """One comparison that failed. `index` and `output` are None where a whole direction or all outputs are meant."""

    argument: str
    index: tuple[int, ...] | None
    output: tuple[int, ...] | None
    below: float
    above: float
    analytic: float
    tolerance: float
    why: str = "the gradient is not the slope"
    slopes: bool = True  # or else values: what was expected, and what was found

    @classmethod
    def plain(cls, argument: str, why: str, slopes: bool = True) -> Finding:
        """A finding without numbers: a shape, an array that was written to."""
        return cls(argument, None, None, math.nan, math.nan, math.nan, math.nan, why, slopes)

    def __str__(self) -> str:
        if math.isnan(self.tolerance):
            return f"{self.why}: {self.argument}"
        place = f"{self.argument}" + ("" if self.index is None else f", entry {self.index}")
        if self.output is not None:
            place += f", output {self.output}"
        if not self.slopes:
            values = f"expected {self.above:.17g}, found {self.analytic:.17g}, tolerance {self.tolerance:.3g}"
            return f"{self.why}: {place}\n  {values}"
        return (
            f"{self.why}: {place}\n"
            f"  slope below     {self.below:.17g}\n"
            f"  slope above     {self.above:.17g}\n"
            f"  analytic value  {self.analytic:.17g}\n"
            f"  tolerance       {self.tolerance:.3g}"
        )


@dataclass
class Report:
    """What a check did. `closest` is the largest |difference|/tolerance of the comparisons that passed.

    `kinks`: coordinates (or units) at a kink, which were checked alone. `nearest`: {layer: (distance of its nearest
    pre-activation to 0, its index)}, empty for a black box. `tolerance`: the largest one that was used, with what it was
    derived from: `roundoff` of the gradient's dtype, `fan_in`, and the oracles' own errors at their steps.
    """

    dtype: str
    roundoff: float
    fan_in: int
    oracles: set[str] = field(default_factory=set)
    comparisons: int = 0
    evaluations: int = 0
    kinks: int = 0
    tolerance: float = 0.0
    closest: float = 0.0
    nearest: dict[str, tuple[float, tuple[int, ...]]] = field(default_factory=dict)
    finding: Finding | None = None
    example: str = ""

    def __str__(self) -> str:
        lines = [] if self.finding is None else [str(self.finding)]
        if not self.evaluations:  # no function was differentiated: an optimiser or a scaler
            return "\n".join([*lines, f"  {self.comparisons} comparisons in {self.dtype} with the {', '.join(self.oracles)}"])
        lines.append(
            f"  {self.comparisons} comparisons in {self.dtype} (roundoff {self.roundoff:.2g}, fan-in {self.fan_in}), "
            f"{self.evaluations} evaluations; oracles: {', '.join(sorted(self.oracles)) or 'none needed'}"
        )
        lines += [f"  nearest kink    {layer}: {distance:.3g} at {index}" for layer, (distance, index) in self.nearest.items()]
        if not self.nearest:
            lines.append("  nearest kink    not known: f is a black box (preactivations= would tell)")
        if self.example:
            lines.append("to reproduce it:\n" + self.example)
        return "\n".join(lines)


class GradientMismatch(AssertionError):
    """The gradient is wrong. `report` says where, by how much, and how to reproduce it."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


class NoVerdict(Exception):
    """No verdict is possible here: NaN, inf or a jump, oracles that disagree, or kinks that cannot be separated."""


def nearest(layers: dict[str, np.ndarray]) -> dict[str, tuple[float, tuple[int, ...]]]:
    """{layer: (the smallest |pre-activation|, its index)}, without empty layers."""
    found = {}
    for name, s in layers.items():
        if s.size:
            where = np.unravel_index(np.argmin(np.abs(s)), s.shape)
            found[name] = float(abs(s[where])), tuple(int(i) for i in where)
    return found


def code(array: Any) -> str:
    """`array` as an expression that makes it again, or a remark if it is too large to print."""
    if array.size > SHOWN:
        return f"...  # {array.dtype} {array.shape}, too large to print: the arguments of this check"
    text = np.array2string(array, separator=", ", threshold=SHOWN, floatmode="unique", max_line_width=10**6)
    text = " ".join(text.split()).replace("nan", "np.nan").replace("inf", "np.inf")
    shape = "" if array.size else f".reshape({array.shape})"
    return f"np.array({text}, np.{array.dtype}){shape}"


def to_paste(call: str, arrays: dict[str, Any], options: str = "") -> str:
    """Code that runs the failing check again; `call` is its beginning, as "testing.check_gradient(f, vjp"."""
    lines = ["  import numpy as np", "  from minirelu import testing"]
    lines += [f"  {name} = {code(array)}" for name, array in arrays.items()]
    lines.append(f"  {call}, {', '.join(arrays)}, rng=np.random.default_rng(0){options})")
    return "\n".join(lines)
