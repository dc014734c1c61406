"""Wrong gradients, planted by hand, beside the right ones: what a checker has to catch, and what it must let pass.

`FAULTS`: NumPy functions with a right and a wrong vjp, at points with exact kinks where they have any. Those that are wrong
at the kink alone, but valid there, break minirelu's convention: they are planted in a primitive (`primitive=`).
"""

# ruff: noqa: E501  (a table: one fault a line)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import primitive
from .primitives import check_gradient, check_vjp

Arrays = list[np.ndarray]


@dataclass
class Fault:
    """`right` and `wrong`: (g, *args) -> gradients of f(*args); `primitive`: the op whose convention holds."""

    name: str
    f: Callable[..., Any]
    right: Callable[..., Any]
    wrong: Callable[..., Any]
    args: Callable[[np.random.Generator], Arrays]
    primitive: str = ""

    def check(self, rng: np.random.Generator, dtype: Any, right: bool = False) -> Any:
        """The check at its default settings, of the wrong vjp or of the right one."""
        args = [x.astype(dtype) for x in self.args(rng)]
        vjp = self.right if right else self.wrong
        if not self.primitive:
            return check_gradient(self.f, vjp, *args, rng=rng, shrink=False)
        return check_vjp(self.as_primitive(vjp), *args, rng=rng, shrink=False)

    def as_primitive(self, vjp: Callable[..., Any]) -> Any:
        def op(*xs: Any) -> Any:
            return self.f(*xs), lambda g, wanted: vjp(g, *xs)

        op.__name__ = self.primitive
        return primitive(op)


# ------------------------------------------------------------------------------------------------- where it is tried


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    return lambda rng: [rng.normal(size=shape) for shape in shapes]


def kinked(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Arrays]:
    """Normal numbers, a tenth of the first array exactly 0."""

    def draw(rng: np.random.Generator) -> Arrays:
        first, *others = (rng.normal(size=shape) for shape in shapes)
        first.flat[rng.choice(first.size, max(first.size // 10, 2), replace=False)] = 0
        return [first, *others]

    return draw


def last_alive(rng: np.random.Generator) -> Arrays:
    x = rng.normal(size=(3, 33))
    x[:, -1] = np.abs(x[:, -1])
    return [x]


def tied(rng: np.random.Generator) -> Arrays:
    """Rows whose largest entry occurs twice."""
    x = rng.normal(size=(5, 4))
    x[:, 0] = x[:, 2] = 3 + rng.random(5)
    return [x]


# --------------------------------------------------------------------------------------------------------- formulas


def relu(x: Any) -> Any:
    return np.where(x <= 0, 0, x)


def d_relu(g: Any, x: Any) -> Any:
    return (np.where(x > 0, g, 0).astype(g.dtype),)


def affine(x: Any, W: Any, b: Any) -> Any:
    return x @ W + b


def d_affine(g: Any, x: Any, W: Any, b: Any) -> Any:
    return g @ W.T, x.T @ g, g.sum(axis=0, keepdims=True)


def hidden(x: Any, W: Any, b: Any) -> Any:
    return relu(x @ W + b)


def d_hidden(g: Any, x: Any, W: Any, b: Any) -> Any:
    return d_affine(np.where(x @ W + b > 0, g, 0).astype(g.dtype), x, W, b)


def residual(x: Any, W: Any) -> Any:
    return relu(x + x @ W)


def d_residual(g: Any, x: Any, W: Any) -> Any:
    dz = np.where(x + x @ W > 0, g, 0).astype(g.dtype)
    return dz + dz @ W.T, x.T @ dz


def norm(x: Any) -> Any:
    centred = x - x.mean(axis=0)
    return centred / np.sqrt((centred**2).mean(axis=0) + 1e-5)


def _norm_parts(g: Any, x: Any) -> Any:
    spread = np.sqrt(x.var(axis=0) + 1e-5)
    unit = (x - x.mean(axis=0)) / spread
    return spread, unit, g.mean(axis=0), (g * unit).mean(axis=0)


def d_norm(g: Any, x: Any) -> Any:
    spread, unit, mean, along = _norm_parts(g, x)
    return ((g - mean - unit * along) / spread,)


def _norm_without(dropped: str) -> Callable[..., Any]:
    def wrong(g: Any, x: Any) -> Any:
        spread, unit, mean, along = _norm_parts(g, x)
        return ((g - mean * (dropped != "mean") - unit * along * (dropped != "variance")) / spread,)

    return wrong


def mse(p: Any, t: Any) -> Any:
    return ((p - t) ** 2).mean()


def d_mse(g: Any, p: Any, t: Any) -> Any:
    d = g * 2 * (p - t) / p.size
    return d, -d


def largest(x: Any) -> Any:
    return x.max(axis=1)


def d_largest(g: Any, x: Any) -> Any:
    hit = x == x.max(axis=1, keepdims=True)
    return ((hit * g[:, None] / hit.sum(axis=1, keepdims=True)).astype(g.dtype),)


TAKEN = np.array([0, 2, 0, 3, 0])


def taken(x: Any) -> Any:
    return x[TAKEN]


def d_taken(g: Any, x: Any) -> Any:
    d = np.zeros_like(x)
    np.add.at(d, TAKEN, g)
    return (d,)


def _last_wins(g: Any, x: Any) -> Any:
    d = np.zeros_like(x)
    d[TAKEN] = g
    return (d,)


def leaky(x: Any) -> Any:
    return np.where(x > 0, x, 0.1 * x)


def elu(x: Any) -> Any:
    return np.where(x > 0, x, 0.5 * np.expm1(np.where(x > 0, 0, x)))


def d_elu(g: Any, x: Any) -> Any:
    return (np.where(x > 0, g, g * 0.5 * np.exp(np.minimum(x, 0))),)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def d_sigmoid(g: Any, x: Any) -> Any:
    return (g * sigmoid(x) * (1 - sigmoid(x)),)


def prelu(x: Any, slope: Any) -> Any:
    return np.where(x > 0, x, slope * x)


def d_prelu(g: Any, x: Any, slope: Any) -> Any:
    return np.where(x > 0, g, slope * g), np.where(x > 0, 0, g * x).sum(axis=0, keepdims=True)


def huber(x: Any) -> Any:
    return np.where((x < 1) & (x > -1), x * x / 2, np.where(x > 0, x, -x) - 0.5)


# ----------------------------------------------------------------------------------------------------------- faults

square = normal((4, 4), (4, 4), (1, 4))
wide = kinked((3, 33))
layer = normal((6, 4), (4, 5), (1, 5))


def _one_entry(g: Any, x: Any) -> Any:
    d = np.array(g * np.exp(x))
    d.flat[0] *= 1 + 64 * np.sqrt(np.finfo(d.dtype).eps)
    return (d,)


def _written(g: Any, x: Any) -> Any:
    x *= 1 + (x > 2)
    x += 1
    return (np.where(x > 1, g, 0),)


FAULTS = [
    Fault("relu: wrong sign", relu, d_relu, lambda g, x: (-d_relu(g, x)[0],), wide),
    Fault("relu: slope 1 at 0", relu, d_relu, lambda g, x: (np.where(x >= 0, g, 0).astype(g.dtype),), wide, "relu"),
    Fault("relu: slope 1/2 at 0", relu, d_relu, lambda g, x: (((x > 0) + (x >= 0)) * g / 2,), wide, "relu"),
    Fault("relu: slope 2 at 0", relu, d_relu, lambda g, x: (d_relu(g, x)[0] + 2 * g * (x == 0),), wide, "relu"),
    Fault("relu: region from -0.05", relu, d_relu, lambda g, x: (g * (x > -0.05),), wide),
    Fault("relu: mask off by one unit", relu, d_relu, lambda g, x: (g * (np.roll(x, 1, -1) > 0),), wide),
    Fault("relu: last word of the mask missing", relu, d_relu, lambda g, x: (d_relu(g, x)[0] * (np.arange(33) < 32),), last_alive),
    Fault("relu: stale mask", relu, d_relu, lambda g, x: (g * (np.arange(x.size).reshape(x.shape) % 3 > 0),), wide),
    Fault("relu: mask of g", relu, d_relu, lambda g, x: (g * (g > 0),), wide),
    Fault("relu: NaN for inactive units", relu, d_relu, lambda g, x: (g * x / (x * (x > 0)) * (x > 0),), wide),
    Fault("relu: writes to its argument", relu, d_relu, _written, wide),
    Fault("affine: transposed weight gradient", affine, d_affine, lambda g, x, W, b: (g @ W.T, g.T @ x, d_affine(g, x, W, b)[2]), square),
    Fault("affine: W instead of its transpose", affine, d_affine, lambda g, x, W, b: (g @ W, *d_affine(g, x, W, b)[1:]), square),
    Fault("affine: missing broadcast sum", affine, d_affine, lambda g, x, W, b: (*d_affine(g, x, W, b)[:2], g), layer),
    Fault("affine: bias gradient of the first row", affine, d_affine, lambda g, x, W, b: (*d_affine(g, x, W, b)[:2], g[:1]), layer),
    Fault("affine: bias gradient scaled by 1/B", affine, d_affine, lambda g, x, W, b: (*d_affine(g, x, W, b)[:2], g.mean(0, keepdims=True)), layer),
    Fault("affine: weight gradient scaled by B", affine, d_affine, lambda g, x, W, b: (g @ W.T, len(x) * x.T @ g, g.sum(0, keepdims=True)), layer),
    Fault("affine: last row dropped", affine, d_affine, lambda g, x, W, b: (g @ W.T, x[:-1].T @ g[:-1], g.sum(0, keepdims=True)), layer),
    Fault("hidden layer: mask before the bias", hidden, d_hidden, lambda g, x, W, b: d_affine(g * (x @ W > 0), x, W, b), layer),
    Fault("hidden layer: no mask", hidden, d_hidden, d_affine, layer),
    Fault("hidden layer: bias gradient without mask", hidden, d_hidden, lambda g, x, W, b: (*d_hidden(g, x, W, b)[:2], g.sum(0, keepdims=True)), layer),
    Fault("hidden layer: slope 1 at 0", hidden, d_hidden, lambda g, x, W, b: d_affine(g * (x @ W + b >= 0), x, W, b),
          lambda rng: [np.vstack([np.zeros((1, 4)), rng.normal(size=(5, 4))]), rng.normal(size=(4, 5)), np.zeros((1, 5))], "affine_relu"),
    Fault("residual: branch dropped", residual, d_residual, lambda g, x, W: (d_residual(g, x, W)[0] - d_relu(g, x + x @ W)[0], d_residual(g, x, W)[1]), normal((5, 4), (4, 4))),
    Fault("residual: mask of the branch alone", residual, d_residual, lambda g, x, W: (d_residual(g, x, W)[0], x.T @ d_relu(g, x @ W)[0]), normal((5, 4), (4, 4))),
    Fault("batch norm: mean term missing", norm, d_norm, _norm_without("mean"), normal((6, 3))),
    Fault("batch norm: variance term missing", norm, d_norm, _norm_without("variance"), normal((6, 3))),
    Fault("batch norm: unbiased variance", norm, d_norm, lambda g, x: (d_norm(g, x)[0] * np.sqrt(1 - 1 / len(x)),), normal((6, 3))),
    Fault("mse: factor 2 missing", mse, d_mse, lambda g, p, t: tuple(d / 2 for d in d_mse(g, p, t)), normal((6, 2), (6, 2))),
    Fault("mse: sign of the target", mse, d_mse, lambda g, p, t: (d_mse(g, p, t)[0], d_mse(g, p, t)[0]), normal((6, 2), (6, 2))),
    Fault("max: every tied entry takes all", largest, d_largest, lambda g, x: (g[:, None] * (x == x.max(axis=1, keepdims=True)),), tied),
    Fault("index: the last of repeated entries wins", taken, d_taken, _last_wins, normal((4, 3))),
    Fault("leaky relu: slope 0 below", leaky, lambda g, x: (np.where(x > 0, g, 0.1 * g),), d_relu, wide),
    Fault("elu: alpha missing", elu, d_elu, lambda g, x: (np.where(x > 0, g, g * np.exp(np.minimum(x, 0))),), wide),
    Fault("prelu: slope gradient of the active side", prelu, d_prelu, lambda g, x, s: (d_prelu(g, x, s)[0], np.where(x > 0, g * x, 0).sum(0, keepdims=True)), kinked((6, 4), (1, 4))),
    Fault("sigmoid: factor 1 - y missing", sigmoid, d_sigmoid, lambda g, x: (g * sigmoid(x),), normal((5, 4))),
    Fault("huber: slope not clipped", huber, lambda g, x: (g * np.clip(x, -1, 1),), lambda g, x: (g * x,), normal((5, 4))),
    Fault("exp: one entry of 100 off by 64 square roots of eps", np.exp, lambda g, x: (g * np.exp(x),), _one_entry, normal((10, 10))),
]  # fmt: skip

# Float32 can only be too coarse where the arguments are float64.
FLOAT64_ONLY = [
    Fault("affine: float32 accumulation", affine, d_affine,
          lambda g, x, W, b: (g @ W.T, (x.T.astype(np.float32) @ g.astype(np.float32)).astype(np.float64), g.sum(0, keepdims=True)), layer),
]  # fmt: skip


def planted(dtype: Any) -> list[Fault]:
    """The faults that can be planted in `dtype`."""
    return FAULTS + (FLOAT64_ONLY if np.dtype(dtype) == np.float64 else [])
