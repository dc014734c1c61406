"""`check_optimizer`: an optimiser against its textbook form, written as two sequences, on random quadratics.

    SGD           θ' = θ − η∇L(θ)
    HeavyBall     θ' = θ − η∇L(θ) + β(θ − θ₋)                                        (Polyak 1964; θ₋ = θ at first)
    Nesterov      y = θ + βu; u' = βu − η∇L(y); θ' = θ + u'; the parameter is y      (Sutskever et al. 2013)
    EMAMomentum   θ' = θ − η(1 − β)∇L(θ) + β(θ − θ₋)                                 (the paper's Eq. 6–7, eliminated)
    Adam          Algorithm 1 of Kingma & Ba 2015, in Python floats

On a quadratic both forms are linear iterations, which carry the roundings of each step on: a stable one at most step-fold
(at a double root of its characteristic polynomial), an unstable one as it carries the parameter itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..engine import Var
from ..tensor import Tensor
from .report import Finding, GradientMismatch, Report
from .rounding import ROUNDINGS, roundoff

SIZE = 5  # parameters of a quadratic
Gradient = Callable[[np.ndarray], np.ndarray]


def sgd(theta: np.ndarray, gradient: Gradient, opt: Any) -> Iterator[np.ndarray]:
    while True:
        theta = theta - opt.lr * gradient(theta)
        yield theta


def heavy_ball(theta: np.ndarray, gradient: Gradient, opt: Any, share: float = 1.0) -> Iterator[np.ndarray]:
    before = theta
    while True:
        before, theta = theta, theta - opt.lr * share * gradient(theta) + opt.beta * (theta - before)
        yield theta


def nesterov(theta: np.ndarray, gradient: Gradient, opt: Any) -> Iterator[np.ndarray]:
    u = np.zeros_like(theta)
    while True:
        u = opt.beta * u - opt.lr * gradient(theta + opt.beta * u)
        theta = theta + u
        yield theta + opt.beta * u


def ema_momentum(theta: np.ndarray, gradient: Gradient, opt: Any) -> Iterator[np.ndarray]:
    return heavy_ball(theta, gradient, opt, 1 - opt.beta)


def adam(theta: np.ndarray, gradient: Gradient, opt: Any) -> Iterator[np.ndarray]:
    shape, values = theta.shape, theta.ravel().tolist()
    m, v, t = [0.0] * len(values), [0.0] * len(values), 0
    while True:
        t += 1
        for i, g in enumerate(gradient(np.reshape(values, shape)).ravel().tolist()):
            m[i] = opt.beta1 * m[i] + (1 - opt.beta1) * g
            v[i] = opt.beta2 * v[i] + (1 - opt.beta2) * g * g
            rate = opt.lr / (1 - opt.beta1**t)
            values[i] -= rate * m[i] / (math.sqrt(v[i] / (1 - opt.beta2**t)) + opt.eps)
        yield np.reshape(values, shape)


TEXTBOOK: dict[str, Callable[[np.ndarray, Gradient, Any], Iterator[np.ndarray]]] = {
    "SGD": sgd,
    "HeavyBall": heavy_ball,
    "Nesterov": nesterov,
    "EMAMomentum": ema_momentum,
    "Adam": adam,
}


def check_optimizer(
    make: Callable[[list[Any]], Any],
    rng: np.random.Generator,
    *,
    textbook: Callable[[np.ndarray, Gradient, Any], Iterator[np.ndarray]] | None = None,
    steps: int = 50,
    dtype: Any = np.float64,
) -> Report:
    """Check the optimiser `make([parameter])` against its two-sequence form on a random quadratic ½(θ − c)ᵀH(θ − c).

    `textbook(θ₀, gradient, opt)` yields θ₁, θ₂, …; by default the form above that has the name of the optimiser's class.
    H is symmetric with eigenvalues in (0.05, 2). Adam, whose step is not a continuous function of a tiny gradient, is given
    the gradients of one path, its own. Returns a `Report`; raises `GradientMismatch` at the first step that differs,
    `ValueError` for an optimiser that has no textbook form here.
    """
    gradient, start = quadratic(rng, dtype)
    parameter = Tensor(start, "theta", dtype)
    opt = make([parameter])
    name = type(opt).__name__
    form = textbook or TEXTBOOK.get(name)
    if form is None:
        raise ValueError(f"there is no textbook form of {name}; expected one of {', '.join(TEXTBOOK)}, or textbook=")
    seen: list[np.ndarray] = []
    driven = "Adam" in name  # both follow the gradients of the optimiser's own path
    expected = form(np.asarray(start, np.float64), (lambda theta: seen[-1]) if driven else gradient, opt)
    report = Report(str(np.dtype(dtype)), roundoff(dtype), SIZE, {"two-sequence form"})
    size = float(np.abs(start).max())
    for step in range(1, steps + 1):
        seen.append(_step(parameter, opt, gradient, dtype))
        theta = next(expected)
        size = max(size, float(np.abs(theta).max()))
        _compare(report, name, step, parameter.data, theta, step * step * size)
    return report


def quadratic(rng: np.random.Generator, dtype: Any = np.float64) -> tuple[Gradient, np.ndarray]:
    """(gradient of ½(θ − c)ᵀH(θ − c), θ₀) with θ of shape (1, 5)."""
    axes, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    H = axes @ np.diag(rng.uniform(0.05, 2, SIZE)) @ axes.T
    H, centre = (H + H.T) / 2, rng.normal(size=(1, SIZE))
    return lambda theta: (theta - centre) @ H, rng.normal(size=(1, SIZE)).astype(dtype)


def _step(parameter: Var, opt: Any, gradient: Gradient, dtype: Any) -> np.ndarray:
    """One step at the gradient of where the parameter is; returns that gradient."""
    g = gradient(parameter.data.astype(np.float64)).astype(dtype)
    parameter.grad = g
    opt.step()
    return g.astype(np.float64)


def _compare(report: Report, name: str, step: int, found: np.ndarray, expected: np.ndarray, size: float) -> None:
    """A step makes about 8 roundings of size u·|θ|, each of which is carried on at most step-fold."""
    tolerance = 8 * ROUNDINGS * report.roundoff * size
    off = np.abs(found - expected)
    report.comparisons += off.size
    report.tolerance = max(report.tolerance, tolerance)
    if (off <= tolerance).all():  # NaN fails
        report.closest = max(report.closest, float(off.max() / tolerance))
        return
    i = tuple(int(k) for k in np.unravel_index(int(np.nanargmax(off)) if np.isfinite(off).any() else 0, off.shape))
    report.finding = Finding(
        f"{name} after step {step}",
        i,
        None,
        float(expected[i]),
        float(expected[i]),
        float(found[i]),
        tolerance,
        "the parameter is not where the textbook form is",
        slopes=False,
    )
    raise GradientMismatch(report)
