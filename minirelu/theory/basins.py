"""Basins of attraction in the plane (w_L, b): where each start of a grid ends, and why (the paper's Figures 4 and 5).

    found = basins(gamma=0.001, beta=0.9)
    found.dead_share, found.start, found.end, found.dead, found.steps, found.reason

All starts move at once as arrays; those that have stopped leave the arrays.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from enum import IntEnum
from multiprocessing import get_context

import numpy as np

from . import _checks, linear_system
from .plane import check_form, raw_plane_gradient
from .trajectories import velocity


class Reason(IntEnum):
    """Why a start ended where it did. Dead: its last b/‖w‖ is below `dead_below`."""

    OPTIMUM = 0  # it reached (γ, 0), as closely as the tolerance tells
    BORN_DEAD = 1  # it started in the dead cone and never left
    PUSHED_OPPOSED = 2  # the gradient pushed it in while w pointed away from Γ: being silent is then the lesser error
    PUSHED_ALIGNED = 3  # the gradient pushed it in although w pointed along Γ
    CARRIED = 4  # momentum carried it in: the gradient alone would have raised b/‖w‖
    UNDECIDED = 5  # it stopped elsewhere, or still moved after max_steps
    DIVERGED = 6  # it left the finite numbers; not dead


@dataclass(frozen=True)
class Basins:
    """The starts and their ends (n², 2) as (w, b), b slowly and w quickly varying; dead, steps and reason (n²,)."""

    start: np.ndarray
    end: np.ndarray
    dead: np.ndarray
    steps: np.ndarray
    reason: np.ndarray

    @property
    def dead_share(self) -> float:
        return float(self.dead.mean())

    def reasons(self) -> dict[Reason, float]:
        """The share of each reason that occurs."""
        return {r: float((self.reason == r).mean()) for r in Reason if (self.reason == r).any()}


@dataclass
class _Moving:
    """Starts that have not stopped yet: their numbers, place, momentum, and how they last entered the dead cone."""

    index: np.ndarray
    w: np.ndarray
    b: np.ndarray
    m_w: np.ndarray
    m_b: np.ndarray
    below: np.ndarray
    entry: np.ndarray

    def keep(self, mask: np.ndarray) -> _Moving:
        return _Moving(*(getattr(self, field.name)[mask] for field in fields(self)))


@dataclass(frozen=True)
class _Rule:
    gamma: float
    beta: float
    lr: float
    form: str
    target: str
    tol: float
    max_steps: int
    dead_below: float
    momentum: str


def basins(
    gamma: float,
    beta: float,
    lr: float = 0.1,
    n: int = 60,
    form: str = "exact",
    target: str = "linear",
    tol: float = 1e-6,
    max_steps: int = 30000,
    dead_below: float = -2.0,
    momentum: str = "ema",
    workers: int = 1,
) -> Basins:
    """Follow the starts linspace(−1, 1, n)² until ‖m‖ < tol (Γ = (0, …, 0, γ), Δ = 0), in `workers` processes.

    `form` "exact" is Eq. 31–32, "figure" leaves the factor ρ out of Eq. 32 (see plane.py); `momentum` is a form of
    linear_system.py. A start is dead where its last b/‖w‖ < dead_below. `tol` is absolute, as in the paper: with a γ near it
    nearly every start stops at once. The result does not depend on `workers`; with more than one, a script must begin under
    `if __name__ == "__main__":`, as everywhere with new processes. Raises `ValueError` for gamma < 0, lr, tol or
    n ≤ 0, beta outside [0, 1), unknown names, or numbers that are not finite.
    """
    check_form(form, target)
    _checks.choice("momentum", momentum, linear_system.FORMS)
    numbers = {
        "gamma": _checks.at_least("gamma", gamma, 0),
        "beta": _checks.fraction("beta", beta),
        "lr": _checks.positive("lr", lr),
        "tol": _checks.positive("tol", tol),
        "dead_below": _checks.real("dead_below", dead_below),
    }
    for name, value in numbers.items():
        if value.ndim:
            raise ValueError(f"{name} must be one number, got shape {value.shape}")
    limit = _checks.count("max_steps", max_steps)
    rule = _Rule(
        form=form, target=target, momentum=momentum, max_steps=limit, **{name: float(v) for name, v in numbers.items()}
    )
    line = np.linspace(-1, 1, _checks.count("n", n))
    start = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    workers = min(_checks.count("workers", workers), len(start))
    parts = [start[k::workers] for k in range(workers)]  # interleaved: neighbours take equally long
    if workers == 1:
        ends = [_follow(start, rule)]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            ends = list(pool.map(_follow, parts, [rule] * workers))
    return Basins(start, *(_woven(columns, len(start)) for columns in zip(*ends, strict=True)))


def _woven(parts: tuple[np.ndarray, ...], rows: int) -> np.ndarray:
    whole = np.empty((rows, *parts[0].shape[1:]), parts[0].dtype)
    for k, part in enumerate(parts):
        whole[k :: len(parts)] = part
    return whole


@np.errstate(all="ignore")
def _follow(start: np.ndarray, rule: _Rule) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(end, dead, steps, reason) of each start."""
    count = len(start)
    end, steps, entry = start.copy(), np.full(count, rule.max_steps), np.zeros(count, int)
    stopped = np.zeros(count, bool)
    w, b = start[:, 0].copy(), start[:, 1].copy()
    below = b < rule.dead_below * np.abs(w)
    born = np.where(below, Reason.BORN_DEAD, Reason.UNDECIDED)
    moving = _Moving(np.arange(count), w, b, np.zeros(count), np.zeros(count), below, born)
    for t in range(1, rule.max_steps + 1):
        _step(moving, rule)
        speed = moving.m_w * moving.m_w + moving.m_b * moving.m_b
        going = speed >= rule.tol * rule.tol  # False for NaN as well
        if not going.all() or t == rule.max_steps:
            out = moving if t == rule.max_steps else moving.keep(~going)
            end[out.index], steps[out.index] = np.stack([out.w, out.b], axis=-1), t
            entry[out.index], stopped[out.index] = out.entry, t < rule.max_steps
            moving = moving.keep(going)
            if not len(moving.index):
                break
    dead, reason = _verdict(end, stopped, entry, rule)
    return end, dead, steps, reason


def _step(s: _Moving, rule: _Rule) -> None:
    """One step of all, and how those that enter the dead cone with it came there."""
    dw, db = raw_plane_gradient(s.w, s.b, rule.gamma, 0.0, rule.form, rule.target)
    w, b = s.w, s.b
    s.m_w, step_w = velocity(rule.momentum, rule.beta, s.m_w, dw)
    s.m_b, step_b = velocity(rule.momentum, rule.beta, s.m_b, db)
    s.w, s.b = w - rule.lr * step_w, b - rule.lr * step_b
    below = s.b < rule.dead_below * np.abs(s.w)
    entering = below & ~s.below
    if entering.any():
        w, b, dw, db = w[entering], b[entering], dw[entering], db[entering]
        pushed = db * np.abs(w) > b * np.sign(w) * dw  # −g lowers b/|w|
        s.entry[entering] = np.where(pushed, np.where(w < 0, Reason.PUSHED_OPPOSED, Reason.PUSHED_ALIGNED), Reason.CARRIED)
    s.below = below


def _verdict(end: np.ndarray, stopped: np.ndarray, entry: np.ndarray, rule: _Rule) -> tuple[np.ndarray, np.ndarray]:
    """(dead, reason) of each end."""
    w, b = end[:, 0], end[:, 1]
    finite = np.isfinite(end).all(axis=1)
    dead = finite & (b < rule.dead_below * np.abs(w))
    # there the gradient is H·distance, and H's lowest eigenvalue is ½ − φ(0) = .10: ‖m‖ < tol leaves about 10·tol
    arrived = stopped & (np.hypot(w - rule.gamma, b) <= 20 * rule.tol)
    reason = np.where(dead, entry, np.where(arrived, Reason.OPTIMUM, Reason.UNDECIDED))
    return dead, np.where(finite, reason, Reason.DIVERGED)
