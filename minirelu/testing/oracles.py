"""Slopes of f at a point along a direction, from below and from above, by three independent methods.

    complex_step   Im f(x ± ihv)/(±h): exact one-sided slopes, no cancellation (Squire & Trapp 1998). At a kink NumPy's order
                   of complex numbers (real part, then imaginary part) sends +ih to one side and −ih to the other.
                   Applies where f returns complex numbers for complex numbers and is analytic in them.
    differences    (f(x ± hv) − f(x))/(±h) for steps h₀, h₀/r, h₀/r², …, extrapolated to h = 0 (Richardson) by Neville's
                   scheme; of all entries of the scheme the one with the smallest error estimate (Ridders 1982).
    same_region    central differences of a segment on which no ReLU changes its side: f is affine there along one
                   argument, so that the step can be large and has no truncation error (style of Chainer's 5 points).

Each gives slopes for all outputs and, as the last entry, for ⟨g, f⟩, with an error for each. `agree` compares them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .report import NoVerdict
from .rounding import ROUNDINGS, roundoff

Direction = Sequence[Any]  # for each argument an array of its shape, or None: it stays

INACTIVE = "one-sided differences"  # on the side where units at their kink become inactive: minirelu's convention
TINY = 2.0**-66  # the complex step; its square is lost beside the roundoff of float64
PROBES = 4  # how often f is evaluated one rounding away, to measure its noise


class Slopes(NamedTuple):
    """Slopes (outputs + 1,) from below and above, and bounds of their errors; the last entry is that of ⟨g, f⟩."""

    below: np.ndarray
    above: np.ndarray
    error: np.ndarray
    name: str
    before: float = 0.0  # how large they were before the direction was steered off the kinks


class Point:
    """f at one point, in float64 if f keeps float64 and in the precision that f returns otherwise."""

    def __init__(self, f: Callable[..., Any], args: Sequence[np.ndarray], rng: np.random.Generator) -> None:
        self.f, self.evaluations = f, 0
        self.analytic: dict[tuple[int, ...], bool] = {}  # in which arguments f is, as a function of complex numbers
        self.args = [np.asarray(x).astype(np.float64) for x in args]
        y = self._call(self.args)
        if y.dtype != np.float64:
            self.args = [np.asarray(x).astype(y.dtype) for x in args]
            y = self._call(self.args)
        if y.dtype.kind != "f":
            raise TypeError(f"f returned {y.dtype}; expected floating-point numbers")
        self.dtype, self.shape, self.y = y.dtype, y.shape, y.ravel().astype(np.float64)
        self.roundoff = roundoff(y.dtype)
        if not np.isfinite(self.y).all():
            raise NoVerdict(f"f is NaN or infinite at this point ({np.count_nonzero(~np.isfinite(self.y))} outputs)")
        self.fan_in = 8 + self.y.size + max((x.size for x in args), default=0)
        self.shaken = self._shaken(rng)
        self.noise = np.abs(self.shaken).max(axis=0) + 2 * self.roundoff * np.abs(self.y)
        fine = y.dtype == np.float64
        self.steps = 2.0 ** -np.arange(4, 21, 2) if fine else 2.0 ** -np.arange(2, 9)

    def _call(self, args: Sequence[Any]) -> np.ndarray:
        self.evaluations += 1
        with np.errstate(all="ignore"):
            return np.asarray(self.f(*args))

    def at(self, v: Direction, t: complex) -> np.ndarray:
        """f(x + tv), flat and in float64."""
        y = self._call(self.moved(v, t))
        if y.shape != self.shape:
            raise NoVerdict(f"f changes the shape of its output with the values of its input: {self.shape} and {y.shape}")
        return y.ravel() if y.dtype.kind == "c" else y.ravel().astype(np.float64)

    def moved(self, v: Direction, t: complex) -> list[np.ndarray]:
        """The arguments at x + tv."""
        dtype = self.dtype if np.isrealobj(t) else np.result_type(self.dtype, np.complex64)
        return [x if d is None else (x + t * d).astype(dtype) for x, d in zip(self.args, v, strict=True)]

    def _shaken(self, rng: np.random.Generator) -> np.ndarray:
        """f one rounding away from x, less f(x), PROBES times: its own noise, amplified by its own condition."""
        rows = []
        for _ in range(PROBES):
            v = [2 * self.roundoff * x * rng.uniform(-1, 1, x.shape) for x in self.args]
            rows.append(np.nan_to_num(self.at(v, 1.0) - self.y))
        return np.array(rows).reshape(PROBES, self.y.size)


def with_sum(values: np.ndarray, g: np.ndarray) -> np.ndarray:
    """`values` (..., outputs) with ⟨g, values⟩ as one more entry."""
    return np.concatenate([values, (values @ g)[..., None]], axis=-1)


def complex_step(point: Point, v: Direction, g: np.ndarray) -> Slopes | None:
    """Exact one-sided slopes, or None where f does not take complex numbers or is not analytic in them (abs, conj)."""
    moved = tuple(i for i, d in enumerate(v) if d is not None)
    if moved not in point.analytic:
        point.analytic[moved] = _is_analytic(point, v)
    if not point.analytic[moved]:
        return None
    above, below = _complex(point, v, TINY * 1j), _complex(point, v, -TINY * 1j)
    if above is None or below is None:
        return None
    slopes = [with_sum(np.imag(above) / TINY, g), with_sum(np.imag(below) / -TINY, g)]
    size = np.maximum(*(np.abs(s[:-1]) for s in slopes))
    error = ROUNDINGS * point.roundoff * np.sqrt(point.fan_in) * np.append(size, np.linalg.norm(size * g))
    return Slopes(slopes[1], slopes[0], error, "complex step")


def _complex(point: Point, v: Direction, t: complex) -> np.ndarray | None:
    """f at a complex point, None where it does not take one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a cast that drops the imaginary part warns
            y = point.at(v, t)
    except Exception:  # f is the user's: whatever it says to complex numbers, it does not take them
        return None
    return y.astype(np.complex128) if y.dtype.kind == "c" and np.isfinite(y).all() else None


def _is_analytic(point: Point, v: Direction) -> bool:
    """Cauchy and Riemann: a small real step and a small imaginary one give the same slope."""
    h = float(point.steps[-1])
    real, imaginary = _complex(point, v, complex(h)), _complex(point, v, h * 1j)
    if real is None or imaginary is None:
        return False
    one, other = (np.real(real) - point.y) / h, np.imag(imaginary) / h
    close = 16 * h * (np.abs(one) + np.abs(other)) + 2 * ROUNDINGS * point.noise / h  # h: the real step is one-sided
    return bool((np.abs(one - other) <= close).all())


def differences(point: Point, v: Direction, g: np.ndarray) -> Slopes:
    """One-sided slopes extrapolated to h = 0; where they agree, the sharper central ones."""
    h = point.steps[:, None]
    y = with_sum(point.y, g)
    above = (with_sum(np.array([point.at(v, t) for t in point.steps]), g) - y) / h
    below = (y - with_sum(np.array([point.at(v, -t) for t in point.steps]), g)) / h
    noise = with_noise(point, g) / h
    ratio = float(point.steps[0] / point.steps[1])
    _refuse_jumps(above, below, noise, ratio)
    n = above.shape[1]
    sides, errors = extrapolated(np.hstack([above, below]), np.hstack([noise, noise]), ratio)
    up, up_error, down, down_error = sides[:n], errors[:n], sides[n:], errors[n:]
    middle, error = extrapolated((above + below) / 2, noise, ratio**2)
    smooth = np.abs(up - down) <= up_error + down_error
    sharper = smooth & (error <= np.maximum(up_error, down_error))
    return Slopes(
        np.where(sharper, middle, down),
        np.where(sharper, middle, up),
        np.where(sharper, error, np.maximum(up_error, down_error)),
        "extrapolated differences",
    )


def _refuse_jumps(above: np.ndarray, below: np.ndarray, noise: np.ndarray, ratio: float) -> None:
    """A quotient that still grows like 1/h at the smallest step is a jump."""
    for side in (above, below):
        grows = np.abs(side[-1]) >= 0.75 * ratio * np.abs(side[-2])
        if (grows & (np.abs(side[-1]) > 16 * noise[-1])).any():
            raise NoVerdict("f jumps at this point, so it has no slope; move the point off the jump")


def with_noise(point: Point, g: np.ndarray) -> np.ndarray:
    """The noise of a difference of two values of f, for every output and for ⟨g, f⟩."""
    total = np.maximum(np.linalg.norm(g * point.noise), np.abs(point.shaken @ g).max(initial=0))
    return 2 * ROUNDINGS * np.append(point.noise, total)


def extrapolated(column: np.ndarray, noise: np.ndarray, ratio: float, orders: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """The limit of quotients (steps, n), whose errors are c₁h + c₂h² + …, for h → 0, and an estimate of its error.

    `ratio`: by what the first power of the error falls from one step to the next (r, or r² for central quotients).
    """
    best, smallest = column[-1], np.full(column.shape[1], np.inf)
    entries, factor, previous = np.arange(column.shape[1]), 1.0, column
    with np.errstate(all="ignore"):
        for _ in range(orders):
            finer = column[1:]
            change = finer - column[:-1]
            estimate = np.abs(change)
            if factor > 1:  # an entry must be near its neighbour and near the one that it was made from
                estimate = np.maximum(estimate, np.abs(finer - previous[2:]))
            estimate = 4 * estimate + noise[-len(finer) :]  # 4: it is an estimate, not a bound
            estimate[np.isnan(estimate)] = np.inf
            k = estimate.argmin(axis=0)
            value, error = finer[k, entries], estimate[k, entries]
            better = error < smallest
            best, smallest = np.where(better, value, best), np.where(better, error, smallest)
            factor *= ratio
            previous, column = column, finer + change / (factor - 1)
            if len(column) < 3:
                break
    return best, smallest


def same_region(ends: np.ndarray, noise: np.ndarray) -> Slopes | None:
    """The central quotients at the two largest steps, if they agree: f is affine on that segment. None if they do not.

    `ends` (steps, outputs + 1): central quotients on a segment of constant pattern; `noise`: theirs.
    """
    if not (np.abs(ends[0] - ends[1]) <= noise[0] + noise[1]).all():
        return None
    return Slopes(ends[0], ends[0], 2 * (noise[0] + noise[1]), "same region")  # what truncation could hide in the noise


def agree(found: Sequence[Slopes | None]) -> Slopes:
    """The sharpest of the slopes that were found, if it lies between all others' slopes within the errors.

    Where one of them sees two slopes and another only one of the two (a rounding in the complex numbers has chosen a side
    of the kink), the one that sees both is taken.
    Raises `NoVerdict` where two oracles contradict each other.
    """
    those = [s for s in found if s is not None]
    best = min(those, key=lambda s: s.error[-1])
    for other in those:
        apart = 4 * (other.error + best.error)  # both errors are estimates
        low, high = np.minimum(other.below, other.above) - apart, np.maximum(other.below, other.above) + apart
        inside = (low <= best.below) & (best.below <= high) & (low <= best.above) & (best.above <= high)
        if not inside.all():
            j = int(np.argmin(inside))
            raise NoVerdict(
                f"the oracles disagree: {best.name} gives slopes {best.below[j]:.10g} and {best.above[j]:.10g}, "
                f"{other.name} {other.below[j]:.10g} and {other.above[j]:.10g} (within {other.error[j]:.2g}); "
                "f may jump here, be noisy, or be no analytic function of complex numbers (abs, conj, real parts)"
            )
    seen = [int(two_slopes(s).sum()) for s in those]
    return min((s for s, n in zip(those, seen, strict=True) if n == max(seen)), key=lambda s: s.error[-1])


def two_slopes(slopes: Slopes) -> np.ndarray:
    """Which outputs have a slope below that differs from the one above."""
    return (np.abs(slopes.above - slopes.below) > 2 * slopes.error)[:-1]
