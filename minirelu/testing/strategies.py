"""Hypothesis strategies for what breaks gradients: ragged sizes, odd memory layouts, special values, exact ties, dead units.

    shapes() broadcastable(n) leading(n) axes(ndim) ragged_sizes     shapes, and arguments for `axis=`
    laid_out(array, layout) layouts special(dtype) dtypes            memory layouts, special values
    points(*shapes) broadcast_points(n)    float64 arrays whose entries all differ and lie away from every kink
    arrays(dtype, shape=, values=)         any shape and layout; values "plain", "tied", "special", "huge", "tiny" or "any"
    patterns(rows, units)                  bool (rows, units): all dead, one alive, every k-th, all alive, any
    pre_activations(dtype)                 (z, b, g, pattern) whose units are active exactly where the pattern says
    nets(dtype)                            (net, x): small nets, batch norm and residual blocks among them, and a batch
    stable_settings() unstable_settings()  (optimiser, hyper-parameters) inside and outside the stable range on a quadratic

Needs Hypothesis: pip install 'minirelu[test]'.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import init, nn, optim

try:
    import hypothesis.extra.numpy as hnp
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        f"minirelu.testing.strategies needs Hypothesis, which cannot be imported ({error}); "
        "install it with pip install 'minirelu[test]' (the checks themselves work without it)"
    ) from error

dtypes = st.sampled_from([np.float32, np.float64])
LAYOUTS = ("C", "F", "negative", "sliced")
layouts = st.sampled_from(LAYOUTS)
seeds = st.integers(0, 2**32 - 1)

# Around the bits of a mask's word, the lanes of vector units, and several words.
RAGGED = (0, 1, 2, 3, 31, 32, 33, 127, 128, 129)
ragged_sizes = st.sampled_from(RAGGED)

# Odd multiples of 1/64 in ±4: exact in float32, never 0; two of them are equal or at least 1/32 apart, so nothing that
# is computed from distinct ones by one addition lies nearer than 1/64 to a kink at 0 or at a tie.
GRID = (2 * np.arange(-128, 128) + 1) / 64


# --------------------------------------------------------------------------------------------------------- shapes


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 3) -> Any:
    """Shapes, 0-d and with sides of 0 and 1 among them."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)


def ragged_shapes(max_entries: int = 1024) -> Any:
    """(rows, units) with sizes around 1, 31–33 and 127–129, of at most `max_entries` entries."""
    return st.tuples(ragged_sizes, ragged_sizes).filter(lambda shape: math.prod(shape) <= max_entries)


def broadcastable(n: int, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 3) -> Any:
    """A tuple of n shapes that broadcast together, sides of 0 and 1 among them."""
    drawn = hnp.mutually_broadcastable_shapes(
        num_shapes=n, min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )
    return drawn.map(lambda found: found.input_shapes)


def leading(n: int, max_dims: int = 2) -> Any:
    """Leading axes of n operands: (), (R,) or (R, S) each, broadcastable, never longer than the first one's."""
    drawn = broadcastable(n, max_dims=max_dims, min_side=1, max_side=2)
    return drawn.map(lambda found: sorted(found, key=lambda shape: (len(shape), math.prod(shape)), reverse=True))


@st.composite
def axes(draw: Any, ndim: int) -> Any:
    """An argument for `axis=`: None, one axis or several, counted from either side."""
    if ndim == 0 or draw(st.booleans()):
        return None
    one = st.integers(-ndim, ndim - 1)
    many = st.lists(one, unique_by=lambda axis: axis % ndim, max_size=ndim).map(tuple)
    return draw(one | many)


# --------------------------------------------------------------------------------------------------------- arrays


def laid_out(array: Any, layout: str) -> np.ndarray:
    """A new array with the values of `array`: "C", "F" order, "negative" strides, or "sliced" from a wider one."""
    if layout == "F":
        return np.array(array, order="F")
    if layout == "negative":
        return np.flip(np.flip(array).copy())
    if layout == "sliced" and array.ndim:
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 99, array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    return np.array(array, order="C")


def special(dtype: Any) -> np.ndarray:
    """±0, ±inf, NaN, ±subnormal, ±the smallest normal, ±1, the largest numbers and the neighbours of 1."""
    kind = np.finfo(dtype)
    positive = [0.0, np.inf, kind.smallest_subnormal, kind.tiny, 1.0, kind.max, 1 + kind.eps, 1 - kind.epsneg]
    return np.array([*positive, *[-x for x in positive], np.nan], dtype)


@st.composite
def points(draw: Any, *shapes: Any) -> list[np.ndarray]:
    """float64 arrays of these shapes, in layouts of their own; their entries are all different members of GRID."""
    rng = np.random.default_rng(draw(seeds))
    sizes = [math.prod(shape) for shape in shapes]
    values = rng.choice(GRID, sum(sizes), replace=False)
    parts = np.split(values, np.cumsum(sizes)[:-1])
    return [laid_out(part.reshape(shape), draw(layouts)) for part, shape in zip(parts, shapes, strict=True)]


def broadcast_points(n: int) -> Any:
    """`points` of n shapes that broadcast together."""
    return broadcastable(n).flatmap(lambda found: points(*found))


def _plain(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    return rng.normal(size=shape)


def _tied(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Few values, so that many entries are equal and a third is ±0."""
    return rng.choice([-1.5, -0.0, 0.0, 1.5, 2.0, -2.0], shape)


def _special(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    return rng.choice(special(dtype), shape)


def _huge(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    return rng.normal(size=shape) * float(np.finfo(dtype).max) ** 0.25


def _tiny(rng: Any, shape: Any, dtype: Any) -> np.ndarray:
    return rng.normal(size=shape) * float(np.finfo(dtype).tiny) ** 0.25


VALUES = {"plain": _plain, "tied": _tied, "special": _special, "huge": _huge, "tiny": _tiny}


@st.composite
def arrays(draw: Any, dtype: Any = np.float64, shape: Any = None, values: str = "any") -> np.ndarray:
    """An array in any layout. `shape`: a shape, a strategy of them, or None for ragged, small, empty and 0-d ones."""
    if shape is None:
        shape = shapes() | ragged_shapes()
    drawn = draw(shape) if isinstance(shape, st.SearchStrategy) else shape
    kind = VALUES[draw(st.sampled_from(sorted(VALUES)))] if values == "any" else VALUES[values]
    rng = np.random.default_rng(draw(seeds))
    return laid_out(np.asarray(kind(rng, drawn, dtype)).astype(dtype), draw(layouts))


# -------------------------------------------------------------------------------------------- activation patterns


@st.composite
def patterns(draw: Any, rows: int, units: int) -> np.ndarray:
    """bool (rows, units), made on purpose: all dead, all alive, one alive, every k-th unit, dead columns, or any."""
    on = np.zeros((rows, units), bool)
    kind = draw(st.sampled_from(["dead", "alive", "one", "every k-th", "dead units", "any"]))
    if kind == "alive":
        on[:] = True
    elif kind == "one" and on.size:
        on[draw(st.integers(0, rows - 1)), draw(st.integers(0, units - 1))] = True
    elif kind == "every k-th":
        on[:, :: draw(st.integers(2, 33))] = True
    elif kind in ("dead units", "any"):
        rng = np.random.default_rng(draw(seeds))
        on = rng.random((rows, units)) < 0.5
        if kind == "dead units":
            on &= rng.random(units) < 0.5
    return on


@st.composite
def pre_activations(draw: Any, dtype: Any = np.float64, shape: Any = None) -> tuple[np.ndarray, ...]:
    """(z, b, g, pattern): z + b is positive exactly where the pattern is, and exactly 0 in about a quarter of the rest."""
    rows, units = draw(ragged_shapes()) if shape is None else shape
    on = draw(patterns(rows, units))
    rng = np.random.default_rng(draw(seeds))
    b = rng.integers(-8, 9, (1, units)) / 4  # quarters, so that z + b is exact
    size = rng.integers(1, 17, on.shape) / 4
    s = np.where(on, size, np.where(rng.random(on.shape) < 0.25, 0.0, -size))
    g = (2 * rng.integers(-32, 32, on.shape) + 1) / 64
    return (s - b).astype(dtype), b.astype(dtype), g.astype(dtype), on


# --------------------------------------------------------------------------------------------- nets and optimisers


@st.composite
def nets(draw: Any, dtype: Any = np.float64, max_units: int = 4, kinks: bool = True) -> tuple[nn.Sequential, np.ndarray]:
    """(net, x): up to three layers of any kind and a batch (B, I); with `kinks` some rows and biases are exactly 0."""
    rng = np.random.default_rng(draw(seeds))
    width, inputs, rows = draw(st.integers(1, max_units)), draw(st.integers(1, 3)), draw(st.integers(2, 4))
    layers: list[Any] = [nn.Dense(inputs, width, rng=rng, dtype=dtype)]
    for kind in draw(st.lists(st.sampled_from(["dense", *nn.ACTIVATIONS[1:], "norm", "residual", "relu"]), max_size=2)):
        if kind == "norm":
            layers += [nn.Linear(width, width, rng=rng, dtype=dtype), nn.BatchNorm(width, rng=rng, dtype=dtype)]
        elif kind == "residual":
            layers.append(nn.Residual(nn.Linear(width, width, rng=rng, dtype=dtype), activation="relu"))
        elif kind == "relu":
            layers += [nn.Linear(width, width, rng=rng, dtype=dtype), nn.Activation("relu")]
        else:
            activation = "relu" if kind == "dense" else kind
            layers.append(nn.Dense(width, width, rng=rng, activation=activation, init=init.he, dtype=dtype))
    net = nn.Sequential(*layers, nn.Linear(width, 1, rng=rng, dtype=dtype))
    x = rng.normal(size=(rows, inputs)).astype(dtype)
    if kinks and draw(st.booleans()):
        x[0] = 0
        net.parameters()[1].data[...] = 0
    return net, x


@st.composite
def stable_settings(draw: Any, curvature: float = 2.0) -> tuple[Any, dict[str, float]]:
    """(optimiser class, hyper-parameters) that converge on every quadratic whose curvatures lie in (0, `curvature`)."""
    kind = draw(st.sampled_from([optim.SGD, optim.HeavyBall, optim.Nesterov, optim.EMAMomentum]))
    beta = 0.0 if kind is optim.SGD else draw(st.floats(0, 0.95))
    share = draw(st.floats(0.05, 0.9))
    return kind, _settings(kind, share * largest_rate(kind, beta) / curvature, beta)


@st.composite
def unstable_settings(draw: Any, curvature: float = 2.0) -> tuple[Any, dict[str, float]]:
    """(optimiser class, hyper-parameters) that diverge along every direction of curvature `curvature`."""
    kind = draw(st.sampled_from([optim.SGD, optim.HeavyBall, optim.Nesterov, optim.EMAMomentum]))
    beta = 0.0 if kind is optim.SGD else draw(st.floats(0, 0.95))
    excess = draw(st.floats(1.1, 3))
    return kind, _settings(kind, excess * largest_rate(kind, beta) / curvature, beta)


def largest_rate(kind: Any, beta: float) -> float:
    """ηh at which the iteration on ½hθ² is no longer stable: the root −1 of its characteristic polynomial.

    λ² − (1 + β − ηh)λ + β = 0 for heavy ball: 2(1 + β); λ² − (1 + β)(1 − ηh)λ + β(1 − ηh) = 0 for Nesterov:
    2(1 + β)/(1 + 2β); EMA is heavy ball at η(1 − β).
    """
    if kind is optim.Nesterov:
        return 2 * (1 + beta) / (1 + 2 * beta)
    return 2 * (1 + beta) / (1 - beta if kind is optim.EMAMomentum else 1)


def _settings(kind: Any, lr: float, beta: float) -> dict[str, float]:
    return {"lr": lr} if kind is optim.SGD else {"lr": lr, "beta": beta}
