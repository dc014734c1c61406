"""`check_scaler` and `check_affine_invariance`: scalers that follow scikit-learn's protocol.

A scaler has `fit(X)`, `transform(X)` and `inverse_transform(X)`, X (N, columns); minirelu's and scikit-learn's are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import losses, nn, optim
from .report import Finding, GradientMismatch, Report
from .rounding import MEASURED, ROUNDINGS, roundoff

ROWS, COLUMNS = 40, 3


def check_scaler(make: Callable[[], Any], rng: np.random.Generator, *, invariant: bool = True) -> Report:
    """Check `make()` on random columns of very different means and spreads, a constant one and a single row among them.

    `inverse_transform(transform(X))` and `transform(inverse_transform(Z))` give X and Z back; X is not written; a scaler that
    was fitted twice knows the second data only; `invariant`: what is fitted to aX + b (a > 0) gives the same as on X.
    Returns a `Report`, raises `GradientMismatch` with the first entry that is off.
    """
    report = Report("float64", roundoff(np.float64), ROWS, {"round trip"})
    X = _columns(rng)
    kept = X.copy()
    scaler = make().fit(X)
    Z = scaler.transform(X)
    spread = _spread(X)
    same(report, "inverse_transform(transform(X))", scaler.inverse_transform(Z), X, np.abs(X).max(axis=0) + spread)
    back = scaler.transform(scaler.inverse_transform(Z))
    same(report, "transform(inverse_transform(Z))", back, Z, np.abs(Z).max(axis=0) + np.abs(X).max(axis=0) / spread)
    same(report, "X after fit and transform", X, kept, np.zeros(COLUMNS))
    again = make().fit(_columns(rng)).fit(X).transform(X)
    same(report, "transform after a second fit", again, Z, np.zeros(COLUMNS))
    for few in (X[:1], np.repeat(X[:1], ROWS, axis=0)):  # one row, constant columns
        once = make().fit(few)
        same(report, "round trip of constants", once.inverse_transform(once.transform(few)), few, np.abs(few).max(axis=0))
    if invariant:
        a, b = rng.uniform(0.1, 10, COLUMNS), rng.normal(size=COLUMNS)
        moved = a * X + b
        size = np.abs(Z).max(axis=0) * np.abs(moved).max(axis=0) / _spread(moved) + np.abs(X).max(axis=0) / spread
        same(report, "transform of aX + b", make().fit(moved).transform(moved), Z, size)
    return report


def check_affine_invariance(
    make: Callable[[], Any], rng: np.random.Generator, *, steps: int = 20, a: float = 37.5, b: float = -4.25
) -> Report:
    """Training on scaled targets does not notice the units of the targets: nets trained on y and on ay + b predict p, ap + b.

    A small ReLU net, plain SGD, the same start and batches. The tolerance is what one rounding of the targets does to the
    same training, measured. Returns a `Report`; raises `GradientMismatch` where a prediction is off.
    """
    X, y = rng.normal(size=(ROWS, 2)), rng.normal(size=(ROWS, 1)) * 3 + 1
    seed = int(rng.integers(2**31))

    def predictions(targets: np.ndarray) -> np.ndarray:
        scaler = make().fit(targets)
        return scaler.inverse_transform(_trained(X, scaler.transform(targets), seed, steps))

    plain = predictions(y)
    u = roundoff(np.float64)
    lost = u * (abs(a) * np.abs(y).max() + abs(b)) / abs(a)  # the rounding of ay + b, in units of y
    shaken = [predictions(y + 2 * lost * rng.uniform(-1, 1, y.shape)) for _ in range(4)]
    noise = max(float(np.abs(p - plain).max()) for p in shaken)
    report = Report("float64", u, ROWS, {"training on y"})
    same(report, "the prediction in other units", (predictions(a * y + b) - b) / a, plain, np.array([MEASURED * noise / u]))
    return report


def _trained(X: np.ndarray, targets: np.ndarray, seed: int, steps: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Dense(2, 8, rng=rng, dtype=np.float64), nn.Linear(8, 1, rng=rng, dtype=np.float64))
    opt = optim.SGD(net.parameters(), lr=0.05)
    for _ in range(steps):
        losses.mse(net(X), targets).backward()
        opt.step()
    return net.predict(X)


def _columns(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(ROWS, COLUMNS)) * [1.0, 1e-3, 1e4] + [0.0, 5.0, -1e3]


def _spread(X: np.ndarray) -> np.ndarray:
    return X.std(axis=0)


def same(report: Report, what: str, found: Any, expected: np.ndarray, size: np.ndarray) -> None:
    """|found − expected| <= λ·√N·u·size, column by column; shapes must agree."""
    found, tolerance = np.asarray(found), ROUNDINGS * np.sqrt(report.fan_in) * report.roundoff * size
    if found.shape != expected.shape:
        report.finding = Finding.plain(what, f"the shape is {found.shape}, not {expected.shape}", False)
        raise GradientMismatch(report)
    off = np.abs(found - expected)
    report.comparisons += off.size
    report.tolerance = max(report.tolerance, float(np.max(tolerance)))
    wrong = ~(off <= tolerance)  # NaN is wrong
    if wrong.any():
        i = tuple(int(k) for k in np.argwhere(wrong)[0])
        value, limit = float(expected[i]), float(np.broadcast_to(tolerance, off.shape)[i])
        report.finding = Finding(what, i, None, value, value, float(found[i]), limit, "the scaler breaks its promise", False)
        raise GradientMismatch(report)
