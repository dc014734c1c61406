"""The fused optimiser updates on 10⁷ parameters, judged by a plain Numba kernel with the same read and write streams.

- `make(rule, shape, dtype, layout)`: an `Update`, the same thing as a Job to the rest of the benchmark.
- `streams(update, threads)`: the ruler: it reads parameter, gradient and state and writes the state and the new parameter.
- `peers(update)`: the same formula in NumPy and PyTorch into given buffers, and in JAX.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.jobs import PATTERN, Array
from benchmarks.peers import MISSING
from minirelu import kernels

Call = Callable[[], Any]
LR, BETA1, BETA2, EPS = 0.1, 0.9, 0.999, 1e-8
STREAMS = "plain, same streams"
STEPS = 3  # taken before: Adam's bias correction depends on it

# rule: (coefficients, slots, arithmetic operations an element), all as in minirelu/optim.py
RULES: dict[str, tuple[tuple[float, ...], tuple[str, ...], int]] = {
    "sgd": ((LR,), (), 2),
    "heavy_ball": ((LR, BETA1), ("v",), 4),
    "nesterov": ((LR, BETA1), ("v",), 6),
    "ema": ((LR, BETA1, 1 - BETA1), ("m",), 5),
    "adam": (
        (LR / (1 - BETA1**STEPS), BETA1, 1 - BETA1, BETA2, 1 - BETA2, (1 - BETA2**STEPS) ** -0.5, EPS),
        ("m", "v"),
        13,
    ),
}


@dataclass(frozen=True)
class Update:
    """One step of one rule: what goes in, what must come out."""

    kernel: str
    rule: str
    coefficients: tuple[Array, ...]
    arrays: dict[str, Array]  # x, g, new and the slots
    start: dict[str, Array]  # the slots before the step
    expected: dict[str, Array]  # new and the slots after it

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(self.start)

    @property
    def source(self) -> Array:
        return self.arrays["x"]

    @property
    def target(self) -> Array:
        return self.arrays["new"]

    @property
    def bytes(self) -> int:
        """x and g are read, the new parameter is written, the slots are both."""
        return sum(array.nbytes for array in (*self.arrays.values(), *self.start.values()))

    @property
    def operations(self) -> int:
        """Arithmetic operations of a step; a root and a quotient are one each."""
        return RULES[self.rule][2] * self.source.size

    def check(self, name: str, call: Call) -> None:
        """From the first state `call()` makes the right (new, *slots), up to the rounding of a few operations."""
        for slot, array in self.start.items():
            self.arrays[slot][...] = array
        self.target.fill(7)
        for letter, array in zip(("new", *self.slots), call(), strict=True):
            near = np.isclose(np.asarray(array), self.expected[letter], rtol=1e-5, atol=1e-6)
            assert near.all(), f"{name}: {letter} of {self.kernel} is wrong"


def make(rule: str, shape: tuple[int, ...], dtype: str, layout: str) -> Update:
    """The update of `rule` on normal numbers, in arrays of this layout (`aligned` or `np.empty`)."""
    constants, slots, _ = RULES[rule]
    empty, rng = np.empty if layout == "np.empty" else kernels.empty, np.random.default_rng(0)
    arrays = {}
    for letter in ("x", "g", *slots):
        arrays[letter] = empty(shape, np.dtype(dtype))
        arrays[letter][...] = np.resize(rng.standard_normal(PATTERN, np.dtype(dtype)), shape)
    if rule == "adam":
        arrays["v"] *= arrays["v"]
    start = {slot: arrays[slot].copy() for slot in slots}
    after = _formula(rule, arrays["x"], arrays["g"], constants, list(start.values()))
    arrays["new"] = empty(shape, np.dtype(dtype))
    coefficients = tuple(np.asarray(c, dtype) for c in constants)
    return Update(f"{rule}_step", rule, coefficients, arrays, start, dict(zip(("new", *slots), after, strict=True)))


def _formula(rule: str, x: Any, g: Any, constants: tuple[float, ...], slots: Sequence[Any]) -> tuple[Any, ...]:
    """(new parameter, *new slots), as a textbook writes it, for the arrays of any library."""
    lr, *rest = constants
    if rule == "sgd":
        return (x - lr * g,)
    if rule == "adam":
        (beta1, rest1, beta2, rest2, root, eps), (m, v) = rest, slots
        m, v = beta1 * m + rest1 * g, beta2 * v + rest2 * g * g
        return x - lr * m / (v**0.5 * root + eps), m, v
    beta = rest[0]
    v = beta * slots[0] + (rest[1] if rule == "ema" else 1) * g
    return x - lr * (g + beta * v if rule == "nesterov" else v), v


# --------------------------------------------------------------------------------------------------- the candidates


def minirelu(update: Update) -> Call:
    """The fused kernel into the given array."""
    x, g, new = (update.arrays[letter] for letter in ("x", "g", "new"))
    slots, rule, coefficients = [update.arrays[slot] for slot in update.slots], update.rule, update.coefficients

    def call() -> Any:
        return kernels.optimiser_step(rule, x, g, coefficients, *slots, out=new), *slots

    return call


def streams(update: Update, threads: int) -> dict[str, Call]:
    """{STREAMS: call}, on as many threads as Numba has been given."""
    kernel = _plain(len(update.slots), threads > 1)
    arrays = [update.arrays[letter] for letter in ("x", "g", *update.slots, "new")]
    flat = [array.reshape(-1) for array in arrays]
    return {STREAMS: lambda: kernel(*flat)}


@functools.cache
def _plain(slots: int, parallel: bool) -> Callable[..., None]:
    import numba

    span = numba.prange if parallel else range

    def none(x, g, new):
        for i in span(x.size):
            new[i] = x[i] - g[i]

    def one(x, g, v, new):
        for i in span(x.size):
            v[i] = g[i] - v[i]
            new[i] = x[i] - v[i]

    def two(x, g, m, v, new):
        for i in span(x.size):
            m[i] = g[i] - m[i]
            v[i] = abs(g[i] - v[i])  # never negative: Adam takes its root
            new[i] = x[i] - m[i] - v[i]

    return numba.njit(parallel=parallel, nogil=True)((none, one, two)[slots])


def peers(update: Update) -> dict[str, Call]:
    """{name: call} for every library that is installed."""
    calls = {"NumPy naive": _numpy(update)}
    if "torch" not in MISSING:
        calls["torch.compile"] = _torch(update)
    if "jax" not in MISSING:
        calls["JAX jit"] = _jax(update)
    return calls


def _numpy(update: Update) -> Call:
    x, g = update.arrays["x"], update.arrays["g"]
    slots, constants = [update.arrays[slot] for slot in update.slots], RULES[update.rule][0]

    def call() -> Any:
        new, *after = _formula(update.rule, x, g, constants, slots)
        for slot, value in zip(slots, after, strict=True):
            slot[...] = value
        return new, *slots

    return call


def _torch(update: Update) -> Call:
    import torch

    x, g, new, *slots = (torch.from_numpy(update.arrays[letter]) for letter in ("x", "g", "new", *update.slots))
    constants = RULES[update.rule][0]

    @functools.partial(torch.compile, dynamic=False)
    def step(x: Any, g: Any, *written: Any) -> None:
        for tensor, value in zip(written, _formula(update.rule, x, g, constants, written[1:]), strict=True):
            tensor.copy_(value)

    def call() -> Any:
        step(x, g, new, *slots)
        return new, *slots

    return call


def _jax(update: Update) -> Call:
    import jax
    import jax.numpy as jnp

    x, g, *slots = (jnp.asarray(a) for a in (update.arrays["x"], update.arrays["g"], *update.start.values()))
    constants = RULES[update.rule][0]
    step = jax.jit(lambda x, g, slots: _formula(update.rule, x, g, constants, slots))
    return lambda: jax.block_until_ready(step(x, g, slots))
