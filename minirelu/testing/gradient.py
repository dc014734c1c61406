"""`check_gradient`: is vjp(g, x) the transposed Jacobian of f times g, at kinks too?

Along a direction v the slope of ⟨g, f⟩ must be ⟨vjp(g), v⟩. Away from kinks that is the whole test, one argument at a time.
At a kink a valid gradient is base + Σ_k s_k·c_k, each s_k between the two slopes of kink k. Along a direction that crosses
kinks of mixed sign this range is wider than the interval between the two one-sided slopes; so kinks are separated:

- black box: coordinates along which some output has two slopes are found by bisection, left out of the random directions,
  and checked alone, one output at a time: there one kink is left, and the gradient must lie between its two slopes.
  Where several hidden kinks may move together no verdict is possible, and `NoVerdict` says so;
- with the function's own pre-activations: directions are steered, see kinks.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from .oracles import Direction, Slopes, two_slopes
from .report import Finding, GradientMismatch, NoVerdict, Report
from .subject import Subject, one_hot, random_outputs, restricted

MODES = ("directions", "elementwise")
ASIDE = 2.0**-10  # how far beside a point its neighbours are looked at
LOCATED = 64  # outputs that are tried one by one to locate a fault


class Check(Subject):
    """The check of one point: random directions, kinks alone, and where a fault is."""

    def run(self, mode: str = "directions", directions: int = 3) -> Report:
        self.use(random_outputs(self.point.y.size, self.rng))
        for a, x in enumerate(self.args):
            everything = np.arange(x.size)
            blocks = [everything] if mode == "directions" else [everything[i : i + 1] for i in everything]
            for block in blocks:
                self.check_block(a, block, directions if len(block) > 1 else 1)
        if self.regions is not None:
            self.regions.check_kinks()
        self.report.evaluations = self.point.evaluations
        return self.report

    def check_block(self, a: int, coordinates: np.ndarray, directions: int) -> None:
        """Random directions in these coordinates of argument `a`; kinked ones are checked alone."""
        for _ in range(directions if len(coordinates) else 0):
            v, slopes = self.measure(self.direction(a, coordinates))
            if two_slopes(slopes).any():
                kinked = np.array(list(self.find_kinked(a, coordinates)), int)
                alone = [self.check_alone(a, int(i)) for i in kinked]
                for one, other in itertools.pairwise(alone):
                    self.check_pair(a, one, other)
                self.report.kinks += len(kinked)
                if len(kinked):
                    return self.check_block(a, np.setdiff1d(coordinates, kinked), directions)
            found = self.mismatch(v, slopes, self.names[a])
            if found:
                self.explain(found, a, coordinates)
        return None

    def find_kinked(self, a: int, coordinates: np.ndarray) -> Iterator[int]:
        """The coordinates along which some output has two slopes, by bisection."""
        if not len(coordinates) or not self.kinked(self.direction(a, coordinates)):
            return
        if len(coordinates) == 1:
            yield int(coordinates[0])
            return
        half = len(coordinates) // 2
        yield from self.find_kinked(a, coordinates[:half])
        yield from self.find_kinked(a, coordinates[half:])

    def check_alone(self, a: int, i: int) -> tuple[Direction, np.ndarray]:
        """One coordinate at a kink: the outputs with two slopes one by one, all the others together.

        Returns the direction, and how much the slope of each output changes along it.
        """
        v, slopes = self.measure(self.direction(a, np.array([i])))
        double, kept = two_slopes(slopes), self.g
        rest = np.where(double, 0.0, kept)
        for j, g in [(None, rest), *((int(j), one_hot(int(j), len(kept))) for j in np.flatnonzero(double))]:
            self.use(g)
            picked = restricted(slopes, g)
            found = self.mismatch(v, picked, *self._place(a, i, j))
            if found:
                self.decide(found, a, i)
            if j is not None and self.convention is not None:
                self.check_convention(v, picked, a, i, j)
        self.use(kept)
        return v, np.where(double, slopes.above[:-1] - slopes.below[:-1], 0.0)

    def check_pair(self, a: int, one: tuple[Direction, np.ndarray], other: tuple[Direction, np.ndarray]) -> None:
        """Two coordinates at one and the same kink of an output must take the same share of it.

        If it is one kink, a step along both crosses it twofold or, with the other sign, not at all: then f is smooth along
        it. If it is a kink of each, both signs look alike, and nothing follows.
        """
        (v, jumps), (w, others) = one, other
        shared = np.flatnonzero((jumps != 0) & (others != 0))
        if not len(shared):
            return
        j, kept = int(shared[0]), self.g
        small = min(abs(jumps[j]), abs(others[j]))
        ways = [
            [None if p is None else small * (p / jumps[j] + s * q / others[j]) for p, q in zip(v, w, strict=True)]
            for s in (1, -1)
        ]
        self.use(one_hot(j, len(kept)))
        found = [self.measure(way)[1] for way in ways]
        smooth = [not two_slopes(slopes)[j] for slopes in found]
        if sum(smooth) == 1:
            k = smooth.index(True)
            wrong = self.mismatch(ways[k], restricted(found[k], self.g), self.names[a])
            if wrong:
                wrong.why = "two entries that share one kink take different shares of it"
                self.fail(wrong)
        self.use(kept)

    def check_convention(self, v: Direction, slopes: Slopes, a: int, i: int, j: int) -> None:
        pinned = np.append(slopes.above[:-1], self.convention(float(slopes.below[-1]), float(slopes.above[-1])))  # type: ignore[misc]
        found = self.mismatch(v, slopes._replace(below=pinned, above=pinned), *self._place(a, i, j))
        if found:
            found.why = "the gradient at the kink is valid, but not the slope that minirelu takes there"
            self.fail(found)

    # ----------------------------------------------------------------------------------------- when it is wrong

    def explain(self, whole: Finding, a: int, coordinates: np.ndarray) -> None:
        """Locate the fault along one coordinate and one output, if it shows there, and fail."""
        while len(coordinates) > 1:
            half = len(coordinates) // 2
            for part in (coordinates[:half], coordinates[half:]):
                v, slopes = self.measure(self.direction(a, part))
                if self.mismatch(v, slopes):
                    coordinates = part
                    break
            else:
                return self.fail(whole)
        v, slopes = self.measure(self.direction(a, coordinates))
        found = self.mismatch(v, slopes, *self._place(a, int(coordinates[0]), None)) or whole
        return self.decide(self.at_one_output(found, a, int(coordinates[0]), v, slopes), a, int(coordinates[0]))

    def at_one_output(self, found: Finding, a: int, i: int, v: Direction, slopes: Slopes) -> Finding:
        """The same fault for one output alone, if it shows there; the outputs that move most are tried first."""
        kept = self.g
        for j in np.argsort(-np.abs(slopes.above[:-1]), kind="stable")[:LOCATED]:
            self.use(one_hot(int(j), len(kept)))
            alone = self.mismatch(v, restricted(slopes, self.g), *self._place(a, i, int(j)))
            if alone:
                return alone
        self.use(kept)
        return found

    def decide(self, found: Finding, a: int, i: int) -> None:
        """Fail, unless the gradient is right on both sides of this very point and only f's own kinks could tell."""
        known = self.one_kink or (self.regions is not None and bool(self.regions.kinks.any()))
        if not known and self.right_on_both_sides(a, i):
            raise NoVerdict(
                f"{found}\nbut the gradient is right on both sides of this point. With one kink here it is wrong; with "
                "several that move together it may be valid, and a black box cannot tell. Give "
                "preactivations=lambda *args: (whatever is compared with 0), or move the point"
            )
        self.fail(found)

    def right_on_both_sides(self, a: int, i: int) -> bool:
        v = self.direction(a, np.array([i]))
        for side in (-ASIDE, ASIDE):
            beside = [x.astype(y.dtype) for x, y in zip(self.point.moved(v, side), self.args, strict=True)]
            try:
                there = Subject(self.f, self.vjp, beside, self.rng, names=self.names)
                there.use(self.g)
                _, slopes = there.measure(v)
                if two_slopes(slopes).any() or there.mismatch(v, slopes):
                    return False
            except (NoVerdict, GradientMismatch):
                return False
        return True
