"""Initialisers, and the random stream in which the replica axis is born.

An initialiser is a function `(rng, shape, dtype) -> array`. For the weights of a layer, `shape` is (I, O); where weights
and biases are drawn together it returns the pair (W, b) with b of shape (1, O), otherwise biases are 0.

    torch_default   U(±1/√I) for weights and biases (PyTorch's linear layer, and the paper's, App. A)
    he  xavier  lecun   variance 2/I, 2/(I + O), 1/I; law="normal" or "uniform"; zero biases
    rai             randomised asymmetric (Lu et al. 2019): weights and biases drawn together
    constant(v) uniform(a) normal(s)   every entry v, U(±a), N(0, s²)

`rng` is a `numpy.random.Generator` for one net, or `replicas(seeds)` for R independent nets trained as one: every array
drawn from it has a leading axis of R, and entry r is what `numpy.random.default_rng(seeds[r])` would have drawn alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

Shape = tuple[int, ...]
Initialiser = Callable[[Any, Shape, Any], Any]


class Replicas:
    """R random generators side by side; `seeds` names them."""

    def __init__(self, seeds: Sequence[int] | np.ndarray) -> None:
        self.seeds = [int(seed) for seed in seeds]
        self.generators = [np.random.default_rng(seed) for seed in self.seeds]

    def __len__(self) -> int:
        return len(self.seeds)


def seed_array(seeds: int | Sequence[int] | np.ndarray) -> np.ndarray:
    """`seeds` as uint64: shape () for one, (R,) for one a replica. Raises `ValueError` for anything else."""
    single = np.ndim(seeds) == 0
    given: list[Any] = [seeds] if single else list(seeds)  # type: ignore[arg-type]
    # checked one by one, because NumPy makes floats of integers on both sides of 2**63
    numbers = [int(seed) for seed in given if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)]
    if not numbers or len(numbers) < len(given) or min(numbers) < 0 or max(numbers) >= 2**64:
        raise ValueError(f"seeds must be a non-negative integer or one for each replica, below 2**64; got {seeds!r}")
    return np.array(numbers[0] if single else numbers, np.uint64)


def replicas(seeds: int | Sequence[int] | np.ndarray, n: int | None = None) -> Replicas:
    """The random stream of R replicas: `replicas([3, 5, 8])`, or `replicas(0, 64)` for 64 seeds derived from one.

    Raises `ValueError` for anything else.
    """
    if np.ndim(seeds) != (0 if n is not None else 1):
        raise ValueError(
            f"replicas was given seeds={seeds!r}, n={n!r}; expected a sequence of non-negative integers (one a replica), "
            "or one integer and the number of replicas"
        )
    array = seed_array(seeds)
    if n is not None:
        if n < 1:
            raise ValueError(f"replicas was given n={n}; expected at least 1")
        array = np.random.SeedSequence(int(array)).generate_state(n, np.uint64)
    return Replicas(array)


def draw(rng: Generator | Replicas, one: Callable[[Generator], Any]) -> Any:
    """`one(rng)`; for replicas, the results of their generators stacked along a new first axis."""
    if isinstance(rng, Replicas):
        return np.stack([one(generator) for generator in rng.generators])
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng must be a numpy.random.Generator or init.replicas(...), got {type(rng).__name__}; "
            "write rng=numpy.random.default_rng(seed)"
        )
    return one(rng)


# ------------------------------------------------------------------------------------------------ plain entries


def constant(value: float) -> Initialiser:
    """Every entry `value`."""
    return lambda rng, shape, dtype: draw(rng, lambda _: np.full(shape, value, dtype))


def uniform(bound: float) -> Initialiser:
    """Entries from U(−bound, bound)."""
    return lambda rng, shape, dtype: draw(rng, lambda one: one.uniform(-bound, bound, shape).astype(dtype))


def normal(std: float) -> Initialiser:
    """Entries from N(0, std²)."""
    return lambda rng, shape, dtype: draw(rng, lambda one: one.normal(0.0, std, shape).astype(dtype))


zeros = constant(0.0)


# ------------------------------------------------------------------------------------------------ weights (I, O)


def torch_default(rng: Generator | Replicas, shape: Shape, dtype: Any) -> tuple[Any, Any]:
    """Weights and biases from U(±1/√I): PyTorch's default, and Appendix A of the paper."""
    fan_in, fan_out = shape
    fill = uniform(fan_in**-0.5)
    return fill(rng, shape, dtype), fill(rng, (1, fan_out), dtype)


def _scaled(variance: float, law: str) -> Initialiser:
    if law == "normal":
        return normal(variance**0.5)
    if law == "uniform":
        return uniform((3 * variance) ** 0.5)
    raise ValueError(f"law must be 'normal' or 'uniform', got {law!r}")


def he(rng: Generator | Replicas, shape: Shape, dtype: Any, law: str = "normal") -> Any:
    """Variance 2/I, which keeps the second moment through ReLU layers (He et al. 2015, Eq. 10)."""
    return _scaled(2 / shape[0], law)(rng, shape, dtype)


def xavier(rng: Generator | Replicas, shape: Shape, dtype: Any, law: str = "normal") -> Any:
    """Variance 2/(I + O) (Glorot & Bengio 2010, Eq. 12 and 16)."""
    return _scaled(2 / (shape[0] + shape[1]), law)(rng, shape, dtype)


def lecun(rng: Generator | Replicas, shape: Shape, dtype: Any, law: str = "normal") -> Any:
    """Variance 1/I (LeCun et al. 1998, §4.6)."""
    return _scaled(1 / shape[0], law)(rng, shape, dtype)


# σ_w for which the second moment is kept when P = Beta(2, 1), with moments μ₁ = 2/3, μ₂ = 1/2 (Lu et al. 2019, §4):
# σ_w = √2·(−μ₁/√π + √(μ₁²/π + 1 − μ₂)) = 0.6007
RAI_STD = 2**0.5 * (-(2 / 3) / np.pi**0.5 + ((2 / 3) ** 2 / np.pi + 1 - 1 / 2) ** 0.5)


def rai(rng: Generator | Replicas, shape: Shape, dtype: Any) -> tuple[Any, Any]:
    """Randomised asymmetric initialisation for layers after the first (Lu et al. 2019, "Dying ReLU and Initialization").

    Each unit's row [W_j, b_j] is drawn from N(0, σ_w²/I), then one of its I + 1 entries, the bias included, is replaced
    by a draw from Beta(2, 1). The first layer of that paper is `he`.
    """
    fan_in, fan_out = shape

    def one(generator: Generator) -> Any:
        rows = generator.normal(0.0, RAI_STD / fan_in**0.5, (fan_in + 1, fan_out))
        rows[generator.integers(0, fan_in + 1, fan_out), np.arange(fan_out)] = generator.beta(2.0, 1.0, fan_out)
        return rows.astype(dtype)

    rows = draw(rng, one)
    return np.ascontiguousarray(rows[..., :fan_in, :]), np.ascontiguousarray(rows[..., fan_in:, :])


# ------------------------------------------------------------------------------------------------------------ names

NAMED: dict[str, Initialiser] = {
    "torch_default": torch_default,
    "he": he,
    "xavier": xavier,
    "lecun": lecun,
    "rai": rai,
}


def named(given: str | Initialiser) -> Initialiser:
    """The initialiser that `given` names, or `given` itself if it is one. Raises `ValueError` for another name."""
    if callable(given):
        return given
    if not isinstance(given, str) or given not in NAMED:
        raise ValueError(f"init was given {given!r}; expected one of {', '.join(NAMED)}, or a function of init.py")
    return NAMED[given]
