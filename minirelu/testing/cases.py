"""Points at which each primitive is tried when its source is mutated: broadcasting, kinks, ties, axes, layouts of operands.

`CASES[primitive]`: [(rng -> operands, rng -> options)].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Case = tuple[Callable[[np.random.Generator], list[np.ndarray]], Callable[[np.random.Generator], dict[str, Any]]]


def case(*shapes: tuple[int, ...], change: Callable[..., Any] = lambda *xs: xs, **options: Any) -> Case:
    """Normal numbers of these shapes, after `change`; options may be functions of rng."""

    def make(rng: np.random.Generator) -> list[np.ndarray]:
        return list(change(*(rng.normal(size=shape) for shape in shapes)))

    return make, lambda rng: {key: value(rng) if callable(value) else value for key, value in options.items()}


def positive(*xs: Any) -> Any:
    return [np.abs(x) + 0.5 for x in xs]


def zeros_in(*xs: Any) -> Any:
    """The first operand with a tenth of zeros, or one."""
    first = xs[0].copy()
    first.flat[:: max(first.size // 2, 1)] = 0
    return [first, *xs[1:]]


def rounded(*xs: Any) -> Any:
    """Few different values: ties."""
    return [np.round(x) for x in xs]


def dead_row(x: Any, W: Any, b: Any) -> Any:
    """The first row of x and the biases are 0: units exactly at their kink."""
    x, b = x.copy(), 0 * b
    x[..., 0, :] = 0
    return x, W, b


def opposite(x: Any, z: Any) -> Any:
    z = z.copy()
    z[0] = -x[0]
    return x, z


def slowly(x: Any, W: Any, b: Any) -> Any:
    """Rows are the slow axis, so that the product is not contiguous."""
    return x.swapaxes(0, 1), W, b


PAIR = [case((3, 4), (3, 4)), case((3, 4), (4,)), case((2, 1), (1, 3)), case((), (2,))]
ONE = [case((3, 4)), case(()), case((2, 0))]
REDUCED = [
    case((3, 4)),
    case((3, 4), axis=0),
    case((2, 3, 4), axis=(0, 2)),
    case((2, 3), axis=-1, keepdims=True),
    case((4,), keepdims=True),
]
TIES = [(lambda rng, make=make: [np.round(x) for x in make(rng)], options) for make, options in REDUCED]
AFFINE = [
    case((5, 4), (4, 3), (1, 3)),
    case((2, 5, 4), (2, 4, 3), (2, 1, 3)),
    case((5, 1), (1, 3), (1, 3)),
    case((5, 4), (4, 1), (1, 1)),
    case((2, 5, 4), (4, 3), (1, 3)),
    case((4, 2, 1), (1, 3), (1, 3), change=slowly),
    case((3, 40), (40, 33), (1, 33)),
]


def _mask(rng: np.random.Generator) -> Any:
    return rng.random((3, 4)) < 0.5


CASES: dict[str, list[Case]] = {
    **dict.fromkeys(["add", "sub", "mul", "div"], PAIR),
    **dict.fromkeys(["neg", "exp", "tanh", "sigmoid"], ONE),
    "pow": [
        case((3, 4), (3, 4), change=positive),
        case((3, 4), (4,), change=positive),
        case((4,), (), change=lambda a, b: (np.abs(a) * np.arange(4), b * 0 + 2)),  # 0²
        case((3,), (3,), change=lambda a, b: (np.abs(a) + 0.5, np.arange(3.0))),  # exponents 0, 1, 2
    ],
    "matmul": [
        case((3, 4), (4, 2)),
        case((4,), (4, 2)),
        case((3, 4), (4,)),
        case((4,), (4,)),
        case((2, 3, 4), (4, 2)),
        case((2, 3, 4), (4,)),
        case((3, 3), (3, 3)),
    ],
    "affine": [*AFFINE, case((3, 3), (3, 3), (1, 3))],
    "log": [case((3, 4), change=positive)],
    "sqrt": [case((3, 4), change=positive)],
    "abs": [case((3, 4)), case((3, 4), change=zeros_in)],
    "sum": REDUCED,
    "mean": REDUCED,
    "max": [*REDUCED, *TIES],
    "min": [*REDUCED, *TIES],
    "maximum": [*PAIR, case((3, 4), (3, 4), change=rounded)],
    "minimum": [*PAIR, case((3, 4), (3, 4), change=rounded)],
    "_choose": [case((3, 4), (3, 4), mask=_mask), case((4,), (3, 1), mask=_mask)],
    "reshape": [case((3, 4), shape=(2, 6)), case((3, 4), shape=-1)],
    "transpose": [case((2, 3, 4)), case((2, 3, 4), axes=(1, -1, 0)), case((2, 3, 4), axes=(2, 0, 1))],
    "swapaxes": [case((3, 4)), case((2, 3, 4), first=0, second=1), case((2, 3, 3), first=0, second=-1)],
    "broadcast_to": [case((1, 4), shape=(3, 4)), case((4,), shape=(2, 3, 4))],
    "index": [
        case((4, 3), key=slice(1, None)),
        case((4, 3), key=lambda rng: np.array([0, 2, 0, 3])),
        case((4, 3), key=([0, 2, 0],)),
        case((4, 3), key=(slice(None), 1)),
        case((4, 3), key=lambda rng: np.array([True, False, True, True])),
        case((4, 3), key=lambda rng: (slice(None), np.array([1, 1, 0]))),
        case((4, 3), key=[1, 1, 0]),
        case((4, 3), key=((0, 2, 0), slice(None))),
    ],
    "_join": [case((2, 3), (2, 1), (2, 2), axis=-1), case((2, 3), (1, 3), axis=0), case((2, 3), axis=1)],
    "relu": [case((3, 4)), case((3, 4), change=zeros_in), case((2, 33), change=zeros_in)],
    "leaky_relu": [case((3, 4)), case((3, 4), change=zeros_in, slope=0.3), case((3, 4), change=zeros_in)],
    "prelu": [case((3, 4), (4,)), case((3, 4), (1,), change=zeros_in)],
    "elu": [case((3, 4)), case((3, 4), change=zeros_in, alpha=0.5), case((3, 4), alpha=0.5)],
    "affine_relu": [*AFFINE, case((4, 3), (3, 33), (1, 33), change=dead_row), case((2, 4, 3), (3, 5), (1, 5), change=dead_row)],
    "residual_relu": [*PAIR[:3], case((3, 4), (3, 4), change=opposite), case((3, 33), (3, 33))],
    "batch_norm": [
        case((5, 3), (1, 3), (1, 3)),
        case((2, 5, 3), (2, 1, 3), (1, 3)),
        case((5, 3), (1, 3), (1, 3), eps=0.5),
    ],
}
