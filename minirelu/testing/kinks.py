"""Directions that cross no kink, or one alone: steered by the function's own pre-activations.

A kink is where a pre-activation s_k is 0. `steer` bends a direction until every kink at this point moves at a wanted rate
ds_k/dt, by a small linear system in a few random directions:

    rate 0 for all          f is smooth along it: one equation for the gradient
    rate 1 for one of them  that kink alone is crossed: the gradient lies between its two slopes
    negative rates          every unit goes to its inactive side: the slope there is minirelu's convention (slope 0 at 0)

Away from kinks the step is chosen so that the pattern of signs is the same at both ends of the segment; one argument at a
time, that proves that it is the same in between, layer by layer, because each s is affine there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import oracles, rounding
from .oracles import Direction, Slopes
from .report import NoVerdict

if TYPE_CHECKING:
    from .subject import Subject

LONGEST = 2.0**-4  # of a segment of one region
SPARE = 4  # directions more than there are kinks
ROUNDS = 6  # of steering; kinks of deeper layers depend on those before them


class Regions:
    """The pre-activations of a Subject: which are at a kink, and how they move."""

    def __init__(self, subject: Subject, preactivations: Callable[..., Any], pinned: bool) -> None:
        self.subject, self.pinned, self._call = subject, pinned, preactivations
        point = subject.point
        fine = point.dtype == np.float64
        self.small, self.shortest = (2.0**-17, 2.0**-20) if fine else (2.0**-8, 2.0**-8)
        self.largest = 2.0**-10 if fine else 2.0**-4  # step for exact rates
        self.layers = named(self._values(subject.args))
        self.s = self.at([None] * len(point.args), 0.0)
        given = flat(self.layers)
        self.noise = self._noise()
        self.exact = (self.s == 0) & (given == 0)
        # within the roundings of the dtype that is checked, nobody knows on which side a unit is
        self.near = ~self.exact & (np.abs(self.s) <= self.noise * (subject.u / point.roundoff))
        self.kinks = self.exact | self.near
        self._inward: Direction | None = None
        self._systems: dict[bytes, tuple[list[Direction], np.ndarray]] = {}

    def _values(self, args: Any) -> Any:
        with np.errstate(all="ignore"):
            return self._call(*args)

    def at(self, v: Direction, t: float) -> np.ndarray:
        """All pre-activations at x + tv, flat."""
        return flat(named(self._values(self.subject.point.moved(v, t))))

    def _noise(self) -> np.ndarray:
        point, rng = self.subject.point, self.subject.rng
        rows = np.zeros((oracles.PROBES, self.s.size))
        for row in rows:
            row += self.at([2 * point.roundoff * x * rng.uniform(-1, 1, x.shape) for x in point.args], 1.0) - self.s
        return rounding.MEASURED * np.abs(rows).max(axis=0, initial=0)

    # ----------------------------------------------------------------------------------------------- directions

    def rates(self, v: Direction) -> np.ndarray:
        """ds/dt along +v, 0 where it is lost in the noise; roughly: in a single step."""
        rates = (self.at(v, self.small) - self.s) / self.small
        return np.where(np.abs(rates) * self.small <= 8 * self.noise, 0.0, rates)

    def exact_rates(self, v: Direction) -> tuple[np.ndarray, np.ndarray]:
        """(ds/dt along +v, how blurred they are by roundings): three steps on this side of the nearest other kink."""
        rough = self.rates(v)
        t = min(max(0.5 * self._nearest(rough, self.kinks), self.small), self.largest)
        one, two, three = ((self.at(v, t / n) - self.s) * n / t for n in (1, 2, 4))
        rates = (4 * (2 * three - two) - (2 * two - one)) / 3  # without the terms in t and t²
        blur = 32 * self.noise / rounding.MEASURED / t
        return np.where(np.abs(rates) <= blur, 0.0, rates), blur

    def _nearest(self, rates: np.ndarray, apart_from: np.ndarray) -> float:
        """When the first of the other units comes to its kink."""
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.abs(self.s / rates)[~apart_from & (rates != 0) & (self.s != 0)]
        return float(times.min(initial=np.inf))

    def measure(self, v: Direction) -> tuple[Direction, Slopes | None]:
        """(v steered off the kinks, its slopes); no slopes where f has kinks that its pre-activations do not show."""
        rates = self.rates(v)
        kinks = self._at_kinks(rates)
        if not kinks.any():
            h = self._step(v, rates, kinks, kinks)
            return v, None if h is None else self._central(v, h)
        kinks |= self._moving()  # to steer is to move everything a little: no other kink may be crossed by that
        inactive = kinks & self.exact & self.pinned
        resting = kinks & ~inactive
        start, first = v, rates
        if resting.any():
            v, rates = self.steer(v, resting, np.zeros(np.count_nonzero(resting)))
        if inactive.any():
            v, rates = self.inward(v)
        h = self._step(v, rates, kinks, inactive)
        if h is None:
            return v, None
        slopes = self._forward(v, h) if inactive.any() else self._central(v, h)
        size, left = self._left_over(start, first[resting], v, resting)
        return v, slopes._replace(error=slopes.error + size * left, before=size)

    def _left_over(self, start: Direction, first: np.ndarray, v: Direction, resting: np.ndarray) -> tuple[float, float]:
        """The size of the slopes before steering, and the share of it that the kinks which should rest still add."""
        if not len(first):
            return 0.0, 0.0
        point, g = self.subject.point, self.subject.g
        sides = [np.linalg.norm(g * (point.at(start, t) - point.y)) / self.small for t in (self.small, -self.small)]
        rates, blur = self.exact_rates(v)
        share = (np.abs(rates) + blur)[resting].max() / (np.abs(first).max() or 1.0) + 8 * point.roundoff
        return float(max(sides)), float(rounding.ROUNDINGS * share)

    def _at_kinks(self, rates: np.ndarray) -> np.ndarray:
        """The units that are at their kink, or nearer than the smallest step, and move."""
        with np.errstate(divide="ignore", invalid="ignore"):
            soon = np.abs(self.s) < self.shortest * np.abs(rates)
        return (self.exact | self.near | soon) & (rates != 0)

    def _typical(self, rates: np.ndarray) -> float:
        return float(np.abs(rates).max(initial=0)) or 1.0

    def _step(self, v: Direction, rates: np.ndarray, kinks: np.ndarray, inactive: np.ndarray) -> float | None:
        """Half the way to the nearest kink, checked at both ends; those that became inactive must still be so at +h."""
        largest = max((float(np.abs(d / np.where(w, w, 1)).max(initial=0)) for d, w in self._relative(v)), default=1.0)
        h = min(LONGEST / max(largest, 1.0), 0.5 * self._nearest(rates, kinks))
        still = ~(kinks | self.exact | self.near)
        while h >= self.shortest / 64:
            ahead, behind = self.at(v, h), self.at(v, -h)
            same = (np.sign(ahead) == np.sign(self.s)) & (np.sign(behind) == np.sign(self.s))
            if same[still].all() and (ahead[inactive] <= 0).all():
                return h
            h /= 4
        return None

    def _relative(self, v: Direction) -> Any:
        weights = self.subject.weights
        return [(d, w.reshape(d.shape)) for d, w in zip(v, weights, strict=True) if d is not None]

    def _central(self, v: Direction, h: float) -> Slopes:
        """Central differences at h, h/4, h/16, h/64: the largest ones as they are, and all of them extrapolated."""
        point, g = self.subject.point, self.subject.g
        steps = h / 4.0 ** np.arange(4)
        ends = np.array([oracles.with_sum(point.at(v, t) - point.at(v, -t), g) / (2 * t) for t in steps])
        noise = oracles.with_noise(point, g) / steps[:, None]
        value, error = oracles.extrapolated(ends, noise, 16.0)
        both = [Slopes(value, value, error, "extrapolated differences"), oracles.same_region(ends, noise)]
        self.subject.report.oracles |= {s.name for s in both if s}
        return oracles.agree(both)

    def _forward(self, v: Direction, h: float) -> Slopes:
        """One-sided differences on the side where every kink is inactive."""
        point, g = self.subject.point, self.subject.g
        steps = h / 4.0 ** np.arange(8)
        y = oracles.with_sum(point.y, g)
        ends = np.array([(oracles.with_sum(point.at(v, t), g) - y) / t for t in steps])
        value, error = oracles.extrapolated(ends, oracles.with_noise(point, g) / steps[:, None], 4.0)
        self.subject.report.oracles.add(oracles.INACTIVE)
        return Slopes(value, value, 8 * error, oracles.INACTIVE)  # 8: one-sided quotients converge half as fast

    # ------------------------------------------------------------------------------------------------- steering

    def steer(self, v: Direction, kinks: np.ndarray, wanted: np.ndarray) -> tuple[Direction, np.ndarray]:
        """A direction near `v` along which the units `kinks` move at the rates `wanted`, and all rates along it.

        Raises `NoVerdict` where the kinks move together, so that no direction separates them.
        """
        directions, system = self._system(kinks)
        rates, blur = self.exact_rates(v)
        for k in range(ROUNDS):
            off = rates[kinks] - wanted
            slack = np.maximum(2.0**-40 * self._typical(system), 2 * blur[kinks])
            if self._reached(rates[kinks], wanted, slack, k > 0):
                return v, rates
            v = _combined([v, *directions], [1.0, *-np.linalg.lstsq(system, off, rcond=1e-9)[0]])
            rates, blur = self.exact_rates(v)
            if not self._reached(rates[kinks], wanted, slack, True):  # kinks of deeper layers depend on those before them
                system = self._system_around(v, rates, kinks, directions)
        raise NoVerdict(
            f"{np.count_nonzero(kinks)} pre-activations are 0 at this point and move together: no direction separates them; "
            "move the point, or give the units biases of their own"
        )

    def _reached(self, rates: np.ndarray, wanted: np.ndarray, slack: np.ndarray, steered: bool) -> bool:
        """Once steered, a unit that should become inactive may also stay where it is: the relu of one that is inactive."""
        inactive = (wanted < 0) & ((rates <= 0.5 * wanted) | (steered & (rates == 0)))
        return bool((inactive | (np.abs(rates - wanted) <= slack)).all())

    def inward(self, v: Direction) -> tuple[Direction, np.ndarray]:
        """`v` and as much of a direction that makes every unit at its kink inactive as is needed."""
        if self._inward is None:
            moving = self._moving()
            still = [np.zeros_like(x) for x in self.subject.point.args]
            self._inward = self.steer(still, moving, np.where(self.exact, -1.0, 0.0)[moving])[0]
            self._refuse_jumps(self._inward)
        rates = self.rates(v)
        for factor in 2.0 ** np.arange(0, 24, 2):
            bent = _combined([v, self._inward], [1.0, factor])
            rates = self.rates(bent)
            if (rates[self.exact] <= 0).all():
                return bent, rates
        raise NoVerdict("no direction makes every unit at its kink inactive; move the point")

    def _refuse_jumps(self, inward: Direction) -> None:
        """f must be continuous towards the active side, although its slope there is not used."""
        point = self.subject.point
        far, near = (np.abs(point.at(inward, -t) - point.y) for t in (self.small, self.small / 4))
        if ((near > 0.9 * far) & (near > 2 * rounding.MEASURED * point.noise)).any():
            raise NoVerdict("f jumps where a unit becomes active, so it has no slope there; move the point off the kink")

    def _moving(self) -> np.ndarray:
        """The units at a kink that some argument moves."""
        moving = self.kinks.copy()
        _, system = self._system(self.kinks)
        moving[np.flatnonzero(moving)[(system == 0).all(axis=1)]] = False
        return moving

    def _system(self, kinks: np.ndarray) -> tuple[list[Direction], np.ndarray]:
        """A few random directions in all arguments, and the rates (kinks, directions) along them."""
        key = kinks.tobytes()
        if key not in self._systems:
            rng, shapes = self.subject.rng, [x.shape for x in self.subject.args]
            directions: list[Direction] = [
                [(w * rng.normal(size=w.shape)).reshape(shape) for w, shape in zip(self.subject.weights, shapes, strict=True)]
                for _ in range(int(kinks.sum()) + SPARE)
            ]
            self._systems[key] = directions, np.array([self.exact_rates(d)[0][kinks] for d in directions]).T
        return self._systems[key]

    def _system_around(self, v: Direction, rates: np.ndarray, kinks: np.ndarray, directions: list[Direction]) -> np.ndarray:
        """How the rates along v change with v: what `_system` gives where no kink depends on another."""
        step = 2.0**-10
        return np.array([(self.rates(_combined([v, d], [1.0, step])) - rates)[kinks] / step for d in directions]).T

    def check_kinks(self) -> None:
        """Each kink alone: the gradient lies between its two slopes. Where the convention is pinned that has been seen."""
        subject = self.subject
        if self.pinned or not self.kinks.any():
            subject.report.kinks += int(np.count_nonzero(self.exact))
            return
        moving, still = self._moving(), [np.zeros_like(x) for x in subject.point.args]
        size = self._steepest(self._system(moving)[0])
        for k in np.flatnonzero(moving):
            v, _ = self.steer(still, moving, (np.flatnonzero(moving) == k).astype(float))
            rates, blur = self.exact_rates(v)
            others = moving & (np.arange(len(moving)) != k)
            left = rounding.ROUNDINGS * ((np.abs(rates) + blur)[others].max(initial=0) + 8 * subject.point.roundoff)
            found_slopes = (oracle(subject.point, v, subject.g) for oracle in (oracles.complex_step, oracles.differences))
            slopes = oracles.agree([s._replace(error=s.error + left * size) for s in found_slopes if s])
            found = subject.mismatch(v, slopes, f"along the direction that moves {self._unit(int(k))} alone")
            if found:
                share = (found.analytic - found.below) / (found.above - found.below)
                unit = self._unit(int(k))
                found.why = f"{unit} is at its kink, and the gradient goes {share:.4g} of the way from one slope to the other"
                subject.fail(found)
        subject.report.kinks = int(np.count_nonzero(moving))

    def _steepest(self, directions: list[Direction]) -> float:
        """The largest slope of the outputs along some directions, per unit of the largest rate."""
        point, g = self.subject.point, self.subject.g
        steps = [np.linalg.norm(g * (point.at(d, self.small) - point.y)) / self.small for d in directions]
        return float(max(steps)) / self._typical(np.array([self.rates(d) for d in directions]))

    def _unit(self, k: int) -> str:
        """The name and index of the k-th pre-activation."""
        sizes = np.cumsum([s.size for s in self.layers.values()])
        layer = int(np.searchsorted(sizes, k, side="right"))
        name, s = list(self.layers.items())[layer]
        index = np.unravel_index(k - int(sizes[layer]) + s.size, s.shape)
        return f"pre-activation {tuple(int(i) for i in index)} of {name}"


# -------------------------------------------------------------------------------------------------------- helpers


def named(values: Any) -> dict[str, np.ndarray]:
    """Pre-activations as {layer: array}: one array, several, or a dict of them."""
    if isinstance(values, dict):
        return {str(name): np.asarray(s) for name, s in values.items()}
    if isinstance(values, (tuple, list)):
        return {f"layer {i}": np.asarray(s) for i, s in enumerate(values)}
    return {"layer 0": np.asarray(values)}


def flat(layers: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(s.ravel().astype(np.float64) for s in layers.values())])


def _combined(directions: list[Direction], factors: list[float]) -> Direction:
    """Σ factor·direction, where None stands for 0."""
    total: list[Any] = []
    for parts in zip(*directions, strict=True):
        terms = [f * p for f, p in zip(factors, parts, strict=True) if p is not None]
        total.append(sum(terms[1:], terms[0]) if terms else None)
    return total
