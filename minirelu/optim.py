"""Optimisers, sorted by complexity; each `update` is the textbook formula, in PyTorch's convention.

    SGD(lr)                            θ ← θ − ηg
    HeavyBall(lr, beta)                v ← βv + g;            θ ← θ − ηv
    Nesterov(lr, beta)                 v ← βv + g;            θ ← θ − η(g + βv)
    EMAMomentum(lr, beta)              m ← βm + (1 − β)g;     θ ← θ − ηm          (the paper's Eq. 6–7)
    Adam(lr, beta1, beta2, eps)        m̂/(√v̂ + eps), bias-corrected              (Kingma & Ba 2015, Alg. 1)

`opt.step()` reads `p.grad`. Hyper-parameters are floats or one value a replica, and may be set between steps
(`opt.lr = 0.001`). How other libraries write the same momentum: docs/how-it-works.md.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from .backend import ALONE, array_module, to_host
from .engine import Array, Var, quiet
from .errors import GraphError, ShapeError

Hyper = float | Sequence[float] | np.ndarray


class Optimiser:
    """Common work: checking, hyper-parameters per replica, and steps that leave existing graphs true.

    A subclass names its `hyper` parameters and its `slots` (state arrays a parameter, zero at first) and gives
    `coefficients()` and `update(xp, θ, g, new, *coefficients, *slots)`, which writes the new parameter to `new`; `xp` is
    the array module.
    """

    hyper: ClassVar[tuple[str, ...]] = ("lr",)
    slots: ClassVar[tuple[str, ...]] = ()
    update: Callable[..., None]

    def __init__(self, parameters: Iterable[Var], **hyper: Hyper) -> None:
        self.parameters = list(dict.fromkeys(parameters))
        if not self.parameters:
            raise ValueError(f"{type(self).__name__} was given no parameters; pass net.parameters()")
        self.steps = 0
        self.state: dict[str, list[Array]] = {
            slot: [array_module(p.data).zeros_like(p.data) for p in self.parameters] for slot in self.slots
        }
        self._spare: list[Array] = [None for _ in self.parameters]
        self._used: list[weakref.ref[Any] | None] = [None for _ in self.parameters]
        for name, value in hyper.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, self._checked(name, value) if name in self.hyper else value)

    def _checked(self, name: str, value: Hyper) -> float | np.ndarray:
        """A float, or a float64 array (R, 1, 1) that broadcasts over parameters (R, I, O)."""
        array = np.asarray(value, np.float64)
        lowest, below = _RANGES[name]
        if not (np.isfinite(array).all() and (array >= lowest).all() and (array < below).all()):
            raise ValueError(f"{type(self).__name__} was given {name}={value!r}; expected {lowest} <= {name} < {below}")
        if array.ndim == 0:
            return float(array)
        replicas = {p.data.shape[:-2] for p in self.parameters}
        if replicas != {(array.size,)}:
            raise ShapeError(
                f"{type(self).__name__} was given {array.size} values of {name}, one a replica, but the parameters have the "
                f"leading axes {sorted(replicas)}; make the net with rng=init.replicas(...) of {array.size} seeds"
            )
        return array.reshape(-1, 1, 1)

    def coefficients(self) -> tuple[Any, ...]:
        """What `update` needs besides arrays, in float64: the hyper-parameters, or numbers derived from them."""
        return tuple(getattr(self, name) for name in self.hyper)

    @quiet
    def step(self) -> None:
        """Move every parameter by its `grad`. Nothing is moved if any gradient is missing, used up or misshapen.

        Parameters are rebound, never written in place, so a graph that was built before the step stays true after it.
        """
        spares, used, moves = self._spare, self._used, []
        for p, last in zip(self.parameters, used, strict=True):
            x, g = p.data, p.grad
            if g is None or g.shape != x.shape or g.dtype != x.dtype or (last is not None and last() is g):
                self._refuse(p)
            moves.append((p, x, g))
        self.steps += 1
        update, constants, state = self.update, self.coefficients(), list(self.state.values())
        dtype = None
        for i, (p, x, g) in enumerate(moves):
            if dtype is None or x.dtype != dtype:  # as arrays, because NumPy is three times slower with Python floats
                dtype, xp = x.dtype, array_module(x)
                cast = [xp.asarray(c, dtype) for c in constants]
            # the array from before the last step is written again, unless a graph (or anybody) still refers to it
            new = spares[i] if getrefcount(spares[i]) == ALONE else xp.empty_like(x)
            if new.shape != x.shape or new.dtype != dtype or new.base is not None:
                new = xp.empty_like(x)
            if state:
                update(xp, x, g, new, *cast, *[slot[i] for slot in state])
            else:
                update(xp, x, g, new, *cast)
            spares[i], p.data, used[i] = x, new, weakref.ref(g)

    def _refuse(self, p: Var) -> None:
        name = p.name or "without a name"
        if p.grad is None:
            raise GraphError(f"parameter {name} has no gradient; call loss.backward() on a loss that depends on it")
        if p.grad.shape != p.data.shape or p.grad.dtype != p.data.dtype:
            raise ShapeError(
                f"parameter {name} is {p.data.dtype} {p.data.shape}, its gradient {p.grad.dtype} {p.grad.shape}; "
                "they must agree"
            )
        raise GraphError(
            f"the gradient of parameter {name} was already used by the previous step; call loss.backward() first "
            "(if the loss does not depend on this parameter, leave it out of the optimiser)"
        )

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Everything besides parameters that the next steps depend on, on the host: steps, hyper-parameters, slots."""
        arrays = {"steps": np.asarray(self.steps)}
        arrays |= {f"hyper.{name}": np.array(getattr(self, name)) for name in self.hyper}
        return arrays | {f"{slot}.{i}": np.array(to_host(a)) for slot in self.slots for i, a in enumerate(self.state[slot])}

    def load_state_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `state_arrays` gave. Raises `ShapeError` if it belongs to other parameters."""
        mine = self.state_arrays()
        shapes, given = ({k: a.shape for k, a in s.items() if "hyper." not in k} for s in (mine, arrays))
        if shapes != given or mine.keys() != arrays.keys():
            raise ShapeError(
                f"the saved optimiser state does not belong to this {type(self).__name__} over {len(self.parameters)} "
                f"parameters: it has {sorted(arrays)}, expected {sorted(mine)} with the same shapes"
            )
        hyper = {name: self._checked(name, arrays[f"hyper.{name}"].squeeze()) for name in self.hyper}
        self.steps = int(arrays["steps"])
        self.__dict__.update(hyper)
        for slot in self.slots:
            self.state[slot] = [
                array_module(p.data).array(arrays[f"{slot}.{i}"], p.data.dtype) for i, p in enumerate(self.parameters)
            ]
        self._used = [None for _ in self.parameters]


# name: (lowest allowed value, value it must stay below)
_RANGES = {
    "lr": (0.0, math.inf),
    "beta": (0.0, 1.0),
    "beta1": (0.0, 1.0),
    "beta2": (0.0, 1.0),
    "eps": (0.0, math.inf),
}


def _power(base: float | np.ndarray, exponent: int) -> Any:
    """baseᵗ by the C library for floats and arrays alike; NumPy's array loop may differ in the last bit."""
    if isinstance(base, float):
        return base**exponent
    return np.array([b**exponent for b in base.ravel().tolist()]).reshape(base.shape)


class SGD(Optimiser):
    """θ ← θ − ηg."""

    lr: Any

    def __init__(self, parameters: Iterable[Var], lr: Hyper) -> None:
        super().__init__(parameters, lr=lr)

    def update(self, xp: ModuleType, x: Array, g: Array, new: Array, lr: Array) -> None:
        xp.multiply(g, lr, new)
        xp.subtract(x, new, new)


class HeavyBall(Optimiser):
    """v ← βv + g; θ ← θ − ηv (Polyak 1964)."""

    hyper = ("lr", "beta")
    slots = ("v",)
    lr: Any
    beta: Any

    def __init__(self, parameters: Iterable[Var], lr: Hyper, beta: Hyper = 0.9) -> None:
        super().__init__(parameters, lr=lr, beta=beta)

    def update(self, xp: ModuleType, x: Array, g: Array, new: Array, lr: Array, beta: Array, v: Array) -> None:
        v *= beta
        v += g
        xp.multiply(v, lr, new)
        xp.subtract(x, new, new)


class Nesterov(HeavyBall):
    """v ← βv + g; θ ← θ − η(g + βv) (Nesterov 1983, in the one-point form)."""

    def update(self, xp: ModuleType, x: Array, g: Array, new: Array, lr: Array, beta: Array, v: Array) -> None:
        v *= beta
        v += g
        xp.multiply(v, beta, new)
        new += g
        new *= lr
        xp.subtract(x, new, new)


class EMAMomentum(Optimiser):
    """m ← βm + (1 − β)g; θ ← θ − ηm: the paper's momentum (Eq. 6–7), HeavyBall(η(1 − β), β) in another form."""

    hyper = ("lr", "beta")
    slots = ("m",)
    lr: Any
    beta: Any

    def __init__(self, parameters: Iterable[Var], lr: Hyper, beta: Hyper = 0.9) -> None:
        super().__init__(parameters, lr=lr, beta=beta)

    def coefficients(self) -> tuple[Any, ...]:
        return self.lr, self.beta, 1 - self.beta

    def update(
        self, xp: ModuleType, x: Array, g: Array, new: Array, lr: Array, beta: Array, rest_of_one: Array, m: Array
    ) -> None:
        xp.multiply(g, rest_of_one, new)
        m *= beta
        m += new
        xp.multiply(m, lr, new)
        xp.subtract(x, new, new)


class Adam(Optimiser):
    """m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; θ ← θ − η·m̂/(√v̂ + eps) with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ)."""

    hyper = ("lr", "beta1", "beta2", "eps")
    slots = ("m", "v")
    lr: Any
    beta1: Any
    beta2: Any
    eps: Any

    def __init__(
        self,
        parameters: Iterable[Var],
        lr: Hyper = 1e-3,
        beta1: Hyper = 0.9,
        beta2: Hyper = 0.999,
        eps: Hyper = 1e-8,
    ) -> None:
        super().__init__(parameters, lr=lr, beta1=beta1, beta2=beta2, eps=eps)

    def coefficients(self) -> tuple[Any, ...]:
        rate = self.lr / (1 - _power(self.beta1, self.steps))
        root = 1 / np.sqrt(1 - _power(self.beta2, self.steps))
        return rate, self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2, root, self.eps

    def update(
        self,
        xp: ModuleType,
        x: Array,
        g: Array,
        new: Array,
        rate: Array,
        beta1: Array,
        rest1: Array,
        beta2: Array,
        rest2: Array,
        root: Array,
        eps: Array,
        m: Array,
        v: Array,
    ) -> None:
        xp.multiply(g, rest1, new)
        m *= beta1
        m += new
        xp.multiply(g, g, new)
        new *= rest2
        v *= beta2
        v += new
        xp.sqrt(v, new)
        new *= root
        new += eps
        xp.divide(m, new, new)
        new *= rate
        xp.subtract(x, new, new)
