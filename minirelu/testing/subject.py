"""f, its vjp and one point: the slopes that can be measured there, and their comparison with the gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import oracles, rounding
from .kinks import Regions
from .oracles import Direction, Point, Slopes, two_slopes
from .report import Finding, GradientMismatch, NoVerdict, Report, nearest

BLUNT = 2.0**-8  # a tolerance above this share of what is compared would let real faults pass: no verdict


class Subject:
    """f, its vjp and one point: what can be measured there, and compared."""

    def __init__(
        self,
        f: Callable[..., Any],
        vjp: Callable[..., Sequence[Any]],
        args: Sequence[Any],
        rng: np.random.Generator,
        preactivations: Callable[..., Any] | None = None,
        names: Sequence[str] | None = None,
        pinned: bool = False,
    ) -> None:
        _check_arguments(args, rng)
        self.f, self.vjp, self.rng = f, vjp, rng
        self.args = [np.asarray(x) for x in args]
        self.names = list(names or [f"argument {i}" for i in range(len(args))])
        self.point = Point(f, args, rng)
        dtype = np.result_type(*self.args)
        self.u = max(rounding.roundoff(dtype), self.point.roundoff)
        self.report = Report(str(dtype), self.u, self.point.fan_in)
        self.weights = [_weights(x) for x in self.point.args]
        self.y_dtype = np.asarray(f(*args)).dtype
        self.convention: Callable[[float, float], float] | None = None  # the slope at a kink, from its two slopes
        self.one_kink = False  # along any one coordinate and for any one output: then a black box allows a verdict
        self.regions = None if preactivations is None else Regions(self, preactivations, pinned)
        if self.regions is not None:
            self.report.nearest = nearest(self.regions.layers)

    # ------------------------------------------------------------------------------------------------ the vjp

    def use(self, g: np.ndarray) -> None:
        """Take `g` (outputs,) as the incoming gradient from now on, and compute the gradients."""
        self.g = g
        self.d = self.pull(g)
        self._shaken: list[list[np.ndarray]] = []

    def shaken(self) -> list[list[np.ndarray]]:
        """The gradients with every argument, and g, one rounding away, PROBES times: how noisy they are."""
        while len(self._shaken) < oracles.PROBES:
            near = [_rounded_off(x, self.u, self.rng) for x in self.args]
            self._shaken.append(self.pull(_rounded_off(self.g, self.u, self.rng), near, strict=False))
        return self._shaken

    def pull(self, g: np.ndarray, args: Sequence[np.ndarray] | None = None, strict: bool = True) -> list[np.ndarray]:
        """vjp(g, *args) in float64; what is wrong without any measurement is refused here."""
        args = self.args if args is None else args
        before = [x.copy() for x in args] if strict else []
        with np.errstate(all="ignore"):
            found = self.vjp(g.reshape(self.point.shape).astype(self.y_dtype), *args)
        if not isinstance(found, (tuple, list)) or len(found) != len(args):
            count = f"{len(found)}" if isinstance(found, (tuple, list)) else f"a {type(found).__name__} instead of a tuple of"
            raise TypeError(f"vjp returned {count} gradients for {len(args)} arguments; return one for each, in order")
        ds = [np.asarray(d) for d in found]
        if strict:
            self._refuse(ds, before)
        return [d.astype(np.float64) for d in ds]

    def _refuse(self, ds: list[np.ndarray], before: list[np.ndarray]) -> None:
        for name, x, d, was in zip(self.names, self.args, ds, before, strict=True):
            if d.shape != x.shape:
                self.fail(Finding.plain(name, f"the gradient has shape {d.shape}, expected {x.shape}"))
            if not np.array_equal(x, was, equal_nan=True):
                self.fail(Finding.plain(name, "the vjp wrote to its argument"))
            if not np.isfinite(d).all():
                self._refuse_nonfinite(self.names.index(name), d)

    def _refuse_nonfinite(self, a: int, d: np.ndarray) -> None:
        """Fail, unless f itself has no finite slope there."""
        i = int(np.flatnonzero(~np.isfinite(d))[0])
        v = self.direction(a, np.array([i]))
        slopes = oracles.differences(self.point, v, np.ones(self.point.y.size))
        if not (slopes.error <= BLUNT * (np.abs(slopes.above) + np.abs(slopes.below) + 1)).all():
            raise NoVerdict(f"f has no finite slope at {self.names[a]}, entry {self._place(a, i, None)[1]}")
        below, above = (float(s[-1] / v[a].flat[i]) for s in (slopes.below, slopes.above))
        why = "the gradient is not finite where f and its slopes are (sum of all outputs)"
        self.fail(Finding(*self._place(a, i, None), below, above, float(d.flat[i]), float(slopes.error[-1]), why))

    # ------------------------------------------------------------------------------------- slopes and comparisons

    def direction(self, a: int, coordinates: np.ndarray) -> Direction:
        """A random direction in some coordinates of argument `a`: each moves by up to 1/16 of its own size, so that
        no entry changes its sign on the way."""
        v = np.zeros(self.args[a].size)
        size = self.rng.uniform(0.5, 1, len(coordinates))
        v[coordinates] = self.weights[a][coordinates] * size * self.rng.choice([-1, 1], len(coordinates))
        return [v.reshape(x.shape) if i == a else None for i, x in enumerate(self.args)]

    def measure(self, v: Direction) -> tuple[Direction, Slopes]:
        """(v, slopes along it); with pre-activations v is first steered off the kinks."""
        if self.regions is not None:
            v, slopes = self.regions.measure(v)
            if slopes is not None:
                return v, slopes
        exact = oracles.complex_step(self.point, v, self.g)
        found = oracles.agree([exact, oracles.differences(self.point, v, self.g)])
        self.report.oracles |= {"extrapolated differences"} | ({exact.name} if exact else set())
        return v, found

    def kinked(self, v: Direction) -> bool:
        """Whether some output has two slopes along v."""
        slopes = oracles.complex_step(self.point, v, self.g) or oracles.differences(self.point, v, self.g)
        return bool(two_slopes(slopes).any())

    def tolerance(self, v: Direction, slopes: Slopes, measured: bool) -> float:
        """Error of the oracle and of the sum ⟨d, v⟩, and if `measured` that of d itself.

        A vjp that changes by more than roundings when its arguments do is at a kink: then nothing is measured.
        """
        parts = [(d * e).ravel() for d, e in zip(self.d, v, strict=True) if e is not None]
        size = float(np.linalg.norm(np.concatenate(parts))) if parts else 0.0
        outputs = float(np.linalg.norm(self.g * slopes.above[:-1]))
        values = float(np.linalg.norm(self.g * self.point.y))  # a derivative is often made from f's rounded value: 1 - y²
        scale = max(size + outputs, values, slopes.before)
        tolerance = float(slopes.error[-1]) + rounding.of_sum(self.u, self.point.fan_in, size, outputs, values)
        if measured:
            moved = np.abs([dot(near, v) - dot(self.d, v) for near in self.shaken()])
            small = moved[moved <= np.sqrt(self.u) * scale]  # NaN is left out too
            tolerance += rounding.MEASURED * float(small.max(initial=0))
        if not tolerance <= BLUNT * scale and scale > 0:
            raise NoVerdict(
                f"the slope is known only within {tolerance:.2g}, too coarse for numbers of size {scale:.2g}; "
                "f may jump or oscillate near this point, or lose its digits in cancellation"
            )
        return tolerance

    def mismatch(
        self, v: Direction, slopes: Slopes, argument: str = "", index: Any = None, output: Any = None
    ) -> Finding | None:
        """None if ⟨d, v⟩ lies between the slopes of ⟨g, f⟩, within the tolerance."""
        analytic, below, above = dot(self.d, v), float(slopes.below[-1]), float(slopes.above[-1])
        excess = max(min(below, above) - analytic, analytic - max(below, above))
        report = self.report
        report.comparisons += 1
        for measured in (False, True):  # measuring costs a few calls of the vjp: only where it decides
            tolerance = self.tolerance(v, slopes, measured)
            if excess <= tolerance:  # NaN fails
                report.tolerance = max(report.tolerance, tolerance)
                report.closest = max(report.closest, excess / tolerance if tolerance else 0.0)
                return None
        unit = 1.0  # along one coordinate: what moving it by 1 would do
        if index is not None and sum(int(np.count_nonzero(e)) for e in v if e is not None) == 1:
            unit = next(float(e[index]) for e, name in zip(v, self.names, strict=True) if e is not None and name == argument)
            below, above = (below, above) if unit > 0 else (above, below)
        else:  # a direction that was steered off the kinks
            index = None
        below, above, analytic = below / unit, above / unit, analytic / unit
        finding = Finding(argument, index, output, below, above, analytic, tolerance / abs(unit))
        if slopes.name == oracles.INACTIVE:
            finding.why = "the gradient at a kink is not that of the inactive side (for ReLU: slope 0 at 0)"
        return finding

    def fail(self, finding: Finding) -> None:
        self.report.finding, self.report.evaluations = finding, self.point.evaluations
        raise GradientMismatch(self.report)

    def _place(self, a: int, i: int, j: int | None) -> tuple[str, tuple[int, ...], tuple[int, ...] | None]:
        def index(k: int, shape: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(int(n) for n in np.unravel_index(k, shape))

        return self.names[a], index(i, self.args[a].shape), None if j is None else index(j, self.point.shape)


# -------------------------------------------------------------------------------------------------------- helpers


def dot(d: Sequence[np.ndarray], v: Direction) -> float:
    return float(sum(np.sum(a * b) for a, b in zip(d, v, strict=True) if b is not None))


def one_hot(j: int, n: int) -> np.ndarray:
    return (np.arange(n) == j).astype(np.float64)


def random_outputs(n: int, rng: np.random.Generator) -> np.ndarray:
    """A gradient whose entries are exact in float32 and nowhere near 0."""
    return rng.choice([-1, 1], n) * (2 * rng.integers(16, 32, n) + 1) / 64


def restricted(slopes: Slopes, g: np.ndarray) -> Slopes:
    """The same slopes with those of ⟨g, f⟩ for another g; g picks outputs, so the errors add up in quadrature."""

    def last(values: np.ndarray, total: float) -> np.ndarray:
        return np.append(values[:-1], total)

    below, above = (last(s, float(s[:-1] @ g)) for s in (slopes.below, slopes.above))
    return Slopes(below, above, last(slopes.error, float(np.linalg.norm(slopes.error[:-1] * g))), slopes.name)


def _rounded_off(x: np.ndarray, u: float, rng: np.random.Generator) -> np.ndarray:
    return (x * (1 + 2 * u * rng.uniform(-1, 1, x.shape))).astype(x.dtype)


def _weights(x: np.ndarray) -> np.ndarray:
    """How far each coordinate moves: by its own size; zeros by the argument's typical size."""
    size = np.abs(x).ravel()
    finite = size[(size > 0) & np.isfinite(size)]
    typical = float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 1.0
    return np.where(size > np.finfo(x.dtype).tiny / np.finfo(x.dtype).eps, size, typical)


def _check_arguments(args: Sequence[Any], rng: Any) -> None:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}; write rng=np.random.default_rng(0)")
    for i, x in enumerate(args):
        dtype = getattr(x, "dtype", None)
        if dtype not in (np.float32, np.float64):
            raise TypeError(
                f"argument {i} must be an array of float32 or float64, got {dtype or type(x).__name__}; "
                "close over what has no gradient: f = lambda x: op(x, key)"
            )
        if not np.isfinite(x).all():
            raise NoVerdict(f"argument {i} holds NaN or inf: there are no slopes at this point")
