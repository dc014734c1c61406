"""Optimisers, sorted by complexity, in PyTorch's convention; the formulas are in kernels/optimiser_step.py, in one pass.

    SGD(lr)                            θ ← θ − ηg
    HeavyBall(lr, beta)                v ← βv + g;            θ ← θ − ηv
    Nesterov(lr, beta)                 v ← βv + g;            θ ← θ − η(g + βv)
    EMAMomentum(lr, beta)              m ← βm + (1 − β)g;     θ ← θ − ηm          (the paper's Eq. 6–7)
    Adam(lr, beta1, beta2, eps)        m̂/(√v̂ + eps), bias-corrected              (Kingma & Ba 2015, Alg. 1)
    clip_gradients(parameters, c)      g ← g·min(1, c/‖g‖), before a step         (Pascanu et al. 2013, Alg. 1)

`opt.step()` reads `p.grad`. Hyper-parameters are floats or one value a replica, and may be set between steps
(`opt.lr = 0.001`). How other libraries write the same momentum: docs/how-it-works.md.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from sys import getrefcount
from typing import Any, ClassVar

import numpy as np

from . import kernels
from .backend import ALONE, array_module, to_host
from .engine import Array, Var, quiet
from .errors import GraphError, ShapeError

Hyper = float | Sequence[float] | np.ndarray


class Setting:
    """A hyper-parameter in [lowest, below), checked whenever it is set; a float, or one value a replica."""

    def __init__(self, lowest: float, below: float) -> None:
        self.lowest, self.below = lowest, below

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, opt: Any, owner: type | None = None) -> Any:
        return self if opt is None else opt.__dict__[self.name]

    def __set__(self, opt: Any, value: Hyper) -> None:
        opt.__dict__[self.name] = opt._checked(self.name, value)
        opt._stale = True


class Optimiser:
    """Common work: checking, hyper-parameters per replica, and steps that leave existing graphs true.

    A subclass names its `hyper` parameters, its `slots` (state arrays a parameter, zero at first) and its `rule`, the
    formula in kernels/optimiser_step.py; or it overrides `update`.
    """

    hyper: ClassVar[tuple[str, ...]] = ("lr",)
    slots: ClassVar[tuple[str, ...]] = ()
    rule: ClassVar[str] = ""
    steady: ClassVar[bool] = True  # the coefficients are the same at every step, until a hyper-parameter is set
    lr: Any = Setting(0.0, math.inf)

    def __init__(self, parameters: Iterable[Var], **hyper: Hyper) -> None:
        self.parameters = _leaves(type(self).__name__, parameters)
        self.steps = 0
        self.state: dict[str, list[Array]] = {
            slot: [array_module(p.data).zeros_like(p.data) for p in self.parameters] for slot in self.slots
        }
        self._spare: list[Array] = [None for _ in self.parameters]
        self._used: list[Callable[[], Any]] = [_nothing for _ in self.parameters]  # the last step's gradients, if alive
        self._known: list[Array] = [None for _ in self.parameters]  # the arrays that the last step has left
        self._shapes: list[tuple[int, ...]] = [() for _ in self.parameters]
        self._odd: set[int] = set()  # parameters whose arrays are not as the kernels want them
        self._columns: list[Array] = []  # the coefficients, an array a parameter
        self._stale = True
        for name, value in hyper.items():
            setattr(self, name, value)

    def _checked(self, name: str, value: Hyper) -> float | np.ndarray:
        """A float, or a float64 array (R, 1, 1) that broadcasts over parameters (R, I, O)."""
        array = np.asarray(value, np.float64)
        setting = getattr(type(self), name)
        lowest, below = setting.lowest, setting.below
        if not (np.isfinite(array).all() and (array >= lowest).all() and (array < below).all()):
            raise ValueError(f"{type(self).__name__} was given {name}={value!r}; expected {lowest} <= {name} < {below}")
        for dtype in {p.data.dtype for p in self.parameters} if below < math.inf else ():
            if not (array.astype(dtype) < below).all():
                raise ValueError(f"{type(self).__name__} was given {name}={value!r}, which rounds to {below} in {dtype}")
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
        """What the formula of the step number `steps + 1` needs besides arrays, in float64."""
        return tuple(getattr(self, name) for name in self.hyper)

    def update(self, moves: list[tuple[Array, ...]]) -> None:
        """Write each new parameter: a move is (x, g, new, c, *state), all C-contiguous, c the coefficients, (n, 1) or (n, R).

        An optimiser of your own writes to `new` and to the state, and leaves x and g as they are.
        """
        kernels.optimiser_steps(self.rule, moves)

    @quiet
    def step(self) -> None:
        """Move every parameter by its `grad`. Nothing is moved if any gradient is missing, used up or misshapen.

        Parameters are rebound, never written in place, so a graph that was built before the step stays true after it.
        """
        if self._stale or not self.steady:
            self._tabulate()
        moves, moved, known, shapes, columns = [], [], self._known, self._shapes, self._columns
        spares, used, slots = self._spare, self._used, [self.state[slot] for slot in self.slots]
        for i, p in enumerate(self.parameters):
            x, g = p.data, p.grad  # type: Array, Any
            if x is not known[i]:
                x = self._meet(i, x)
            if g is None or g.shape != shapes[i] or g.dtype is not x.dtype or used[i]() is g:
                self._examine(i, p)
            # the array from before the last step is written again, unless a graph (or anybody) still refers to it
            new = spares[i] if getrefcount(spares[i]) == ALONE else array_module(x).empty(x.shape, x.dtype)
            move = (x, g, new, columns[i], *[slot[i] for slot in slots]) if slots else (x, g, new, columns[i])
            moves.append(self._even(move) if i in self._odd or not g.flags.c_contiguous else move)
            moved.append((x, g, new))
        self.update(moves)
        self.steps += 1
        for i, (x, g, new) in enumerate(moved):
            self.parameters[i].data = known[i] = new
            spares[i] = x if x.base is None else None
            used[i] = weakref.ref(g)

    def _meet(self, i: int, x: Array) -> Array:
        """Learn about the array of parameter i, which is not the one that the last step has left; x, never to be written.

        A read-only array comes back as a view, since only an array that is its own memory is kept as the next spare.
        Raises `ShapeError` if the state or the hyper-parameters belong to an array of another shape or dtype.
        """
        self._check_state(i, x)
        self._spare[i], self._shapes[i] = None, x.shape
        if 1 < x.ndim < 4 and x.flags.c_contiguous:
            self._odd.discard(i)
        else:
            self._odd.add(i)
        self._tabulate()
        if array_module(x) is np and not x.flags.writeable:
            return x[...]
        self._known[i] = x
        return x

    def _check_state(self, i: int, x: Array) -> None:
        kind, name = type(self).__name__, self.parameters[i].name or "without a name"
        for slot, own in ((slot, self.state[slot][i]) for slot in self.slots):
            array_module(x, own)
            if own.shape != x.shape or own.dtype != x.dtype:
                raise ShapeError(
                    f"parameter {name} was {own.dtype} {own.shape} for this {kind}, as its state {slot} still is, and is now "
                    f"{x.dtype} {x.shape}; make a new {kind} for the new array"
                )
        for setting in self.hyper:
            values = getattr(self, setting)
            if np.ndim(values) and x.shape[:-2] != (np.size(values),):
                raise ShapeError(
                    f"parameter {name} is now of shape {x.shape}, but {setting} has {np.size(values)} values, one a replica of "
                    f"the parameters that this {kind} was made for; make a new {kind}"
                )

    def _tabulate(self) -> None:
        """The coefficients as one array a parameter, (n, 1) or (n, R), in its array module and dtype."""
        values = np.stack(np.broadcast_arrays(*(np.reshape(c, -1) for c in self.coefficients())))
        made: list[Array] = []
        for x in (p.data for p in self.parameters):
            alike = made and type(made[-1]) is type(x) and made[-1].dtype == x.dtype
            made.append(made[-1] if alike else array_module(x).asarray(values, x.dtype))
        self._columns[:] = made
        self._stale = False

    def _even(self, move: tuple[Array, ...]) -> tuple[Array, ...]:
        """The arrays of a move as C-contiguous (R, I, O) or (1, 1, size); what is written (all but x and g) is a view."""
        x, g, new, c, *state = move
        shape, xp = (x.shape[0] if x.ndim > 2 else 1, 1, -1), array_module(x, g)
        x, g, new, *state = (a.reshape(shape) for a in (xp.ascontiguousarray(x), xp.ascontiguousarray(g), new, *state))
        return x, g, new, c, *state

    def _examine(self, i: int, p: Var) -> None:
        """Refuse the gradient of parameter i, with the reason, unless it is right after all."""
        name = p.name or "without a name"
        if p.grad is None:
            raise GraphError(f"parameter {name} has no gradient; call loss.backward() on a loss that depends on it")
        if p.grad.shape != p.data.shape or p.grad.dtype != p.data.dtype:
            raise ShapeError(
                f"parameter {name} is {p.data.dtype} {p.data.shape}, its gradient {p.grad.dtype} {p.grad.shape}; "
                "they must agree"
            )
        if self._used[i]() is not p.grad:
            return
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
        self.steps, self._stale = int(arrays["steps"]), True
        self.__dict__.update(hyper)
        for slot in self.slots:
            self.state[slot] = [
                array_module(p.data).array(arrays[f"{slot}.{i}"], p.data.dtype) for i, p in enumerate(self.parameters)
            ]
        self._used = [_nothing for _ in self.parameters]

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy.deepcopy: which gradients are used, in place of weak references to them; no spare arrays."""
        used = [p.grad is not None and used() is p.grad for p, used in zip(self.parameters, self._used, strict=True)]
        nothing = [None for _ in self.parameters]
        return self.__dict__ | {"_used": used, "_spare": nothing, "_known": [*nothing]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._used = [
            weakref.ref(p.grad) if used else _nothing for p, used in zip(self.parameters, state["_used"], strict=True)
        ]


def _nothing() -> None:
    return None


def _leaves(kind: str, parameters: Any) -> list[Var]:
    """`parameters`, each once. Raises `TypeError` for anything but leaf tensors, and `ValueError` if there are none."""
    ask = f"{kind} takes a list of leaf tensors, such as net.parameters(); it was given "
    if isinstance(parameters, Var) or not isinstance(parameters, Iterable):
        raise TypeError(f"{ask}one {type(parameters).__name__} that is no list")
    found = list(parameters)
    for i, p in enumerate(found):
        if not isinstance(p, Var):
            raise TypeError(f"{ask}a {type(p).__name__} at position {i}")
        if p.node is not None:
            raise TypeError(f"{ask}at position {i} a tensor computed by {p.node.op}, which backward() gives no gradient")
    if not found:
        raise ValueError(f"{kind} was given no parameters; pass net.parameters()")
    return list(dict.fromkeys(found))


def _power(base: float | np.ndarray, exponent: int) -> Any:
    """baseᵗ by the C library for floats and arrays alike; NumPy's array loop may differ in the last bit."""
    if isinstance(base, float):
        return base**exponent
    return np.array([b**exponent for b in base.ravel().tolist()]).reshape(base.shape)


class SGD(Optimiser):
    """θ ← θ − ηg."""

    rule = "sgd"

    def __init__(self, parameters: Iterable[Var], lr: Hyper) -> None:
        super().__init__(parameters, lr=lr)


class HeavyBall(Optimiser):
    """v ← βv + g; θ ← θ − ηv (Polyak 1964)."""

    rule, hyper, slots = "heavy_ball", ("lr", "beta"), ("v",)
    beta: Any = Setting(0.0, 1.0)

    def __init__(self, parameters: Iterable[Var], lr: Hyper, beta: Hyper = 0.9) -> None:
        super().__init__(parameters, lr=lr, beta=beta)


class Nesterov(HeavyBall):
    """v ← βv + g; θ ← θ − η(g + βv) (Nesterov 1983, in the one-point form)."""

    rule = "nesterov"


class EMAMomentum(Optimiser):
    """m ← βm + (1 − β)g; θ ← θ − ηm: the paper's momentum (Eq. 6–7), HeavyBall(η(1 − β), β) in another form."""

    rule, hyper, slots = "ema", ("lr", "beta"), ("m",)
    beta: Any = Setting(0.0, 1.0)

    def __init__(self, parameters: Iterable[Var], lr: Hyper, beta: Hyper = 0.9) -> None:
        super().__init__(parameters, lr=lr, beta=beta)

    def coefficients(self) -> tuple[Any, ...]:
        return self.lr, self.beta, 1 - self.beta


class Adam(Optimiser):
    """m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; θ ← θ − η·m̂/(√v̂ + eps) with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ)."""

    rule, hyper, slots = "adam", ("lr", "beta1", "beta2", "eps"), ("m", "v")
    steady = False
    beta1: Any = Setting(0.0, 1.0)
    beta2: Any = Setting(0.0, 1.0)
    eps: Any = Setting(0.0, math.inf)

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
        step = self.steps + 1
        rate = self.lr / (1 - _power(self.beta1, step))
        root = 1 / np.sqrt(1 - _power(self.beta2, step))
        return rate, self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2, root, self.eps


def rule_name(given: str) -> str:
    """The `rule` that is meant by another spelling: "Heavy ball" and "heavy-ball" are "heavy_ball", "ema-momentum" is "ema".

    A word that is no rule's name comes back too, for whoever refuses it.
    """
    name = given.strip().lower().replace("-", "_").replace(" ", "_")
    return {"ema_momentum": EMAMomentum.rule}.get(name, name)


@quiet
def clip_gradients(parameters: Iterable[Var], largest: float) -> Array:
    """Scale all gradients by one factor so that their norm together is at most `largest`; the norm before, () or (R,).

    g ← g·min(1, largest/(‖g‖ + 1e-6)) over all `parameters`, replica by replica (Pascanu et al. 2013, Alg. 1; PyTorch's
    `clip_grad_norm_`). Call it between `backward` and `step`. A replica whose norm is not finite is left as it is. Raises
    `ValueError` unless largest > 0, and `GraphError` for a parameter without a gradient.
    """
    if not 0 < largest < math.inf:
        raise ValueError(f"clip_gradients was given largest={largest!r}; expected the norm not to be exceeded, above 0")
    gradients = [p.grad for p in parameters]
    if any(g is None for g in gradients):
        raise GraphError("clip_gradients was given a parameter without a gradient; call loss.backward() first")
    norm: Any = sum((g.astype(np.float64) ** 2).sum(axis=(-2, -1)) for g in gradients) ** 0.5  # type: ignore[union-attr]
    xp = array_module(norm)
    factor = xp.where(xp.isfinite(norm), xp.minimum(1.0, largest / (norm + 1e-6)), 1.0)
    for g in gradients:
        g *= factor[..., None, None].astype(g.dtype)  # type: ignore[union-attr]
    return norm
