"""One training, described by the things that textbooks blame for dead units; and the data and first weights it begins with.

- `Recipe`: everything that a training is named by, besides its data, seed and length. `BASE` is a healthy one. `check(recipe)`.
- `prepared(recipe, table)`: the inputs that the net sees. `Draw(recipe)`: its initialiser.

A cause is a change of one field of a recipe, and so is a remedy (cases.py). The base is PyTorch's default initialisation and
Adam on standardised inputs and targets. Two layers, because a first layer, whose inputs have both signs, hides what an
initialisation does; three times Adam's usual rate, so that what takes 60,000 steps takes 20,000.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from .. import init
from ..data import moments, standardised
from ..data.table import nearest
from ..errors import ShapeError, whole
from ..kernels.optimiser_step import RULES
from ..nn import ACTIVATIONS


class Recipe(NamedTuple):
    """A training. Fields that are at their default do nothing.

    init        weights and biases of every layer; "constant": hidden weights all `constant`, biases 0
    init_scale  factor of the hidden layers' weights and biases
    negative    share of negative hidden weights (0.5: as drawn); bias: added to the hidden biases
    raw         0: inputs (x − μ)/σ;  1: x as it is;  between: (x − (1 − raw)·μ)/σ^(1 − raw)
    shift       then added to every input
    gamma, delta  targets are γ·(y − μ)/σ + δ (paper's Eq. 1); pop_art: normalised again by running statistics
    clip        largest norm of a net's gradient; 0: any
    """

    widths: tuple[int, ...] = (32, 32)
    activation: str = "relu"
    batch_norm: bool = False
    init: str = "torch_default"
    init_scale: float = 1.0
    negative: float = 0.5
    constant: float = 0.0
    bias: float = 0.0
    optimizer: str = "adam"
    lr: float = 3e-3
    clip: float = 0.0
    raw: float = 0.0
    shift: float = 0.0
    gamma: float = 1.0
    delta: float = 0.0
    pop_art: bool = False
    batch: int = 32

    def deep(self, depth: int) -> Recipe:
        """With `depth` hidden layers of the first one's width."""
        return self._replace(widths=self.widths[:1] * depth)

    def wide(self, width: int) -> Recipe:
        """With all hidden layers of `width`."""
        return self._replace(widths=(width,) * len(self.widths))


BASE = Recipe()


def check(recipe: Recipe) -> None:
    """Raise `ValueError` or `TypeError` for fields that would otherwise do, without a word, something else than they say."""
    for name, known in (("activation", ACTIVATIONS), ("optimizer", tuple(RULES))):
        value = getattr(recipe, name)
        if value not in known:
            near = nearest(value, known) if isinstance(value, str) else ""
            raise ValueError(f"{name} was given {value!r}{near}; expected one of {', '.join(known)}")
    for name in ("batch_norm", "pop_art"):
        if not isinstance(value := getattr(recipe, name), bool):
            raise TypeError(f"{name} was given {value!r}; expected True or False")
    whole("batch", recipe.batch, 2 if recipe.batch_norm else 1)
    if not (isinstance(recipe.clip, Real) and 0 <= recipe.clip < math.inf):
        raise ValueError(f"clip was given {recipe.clip!r}; expected a finite number, 0 (for any norm) or above")


def prepared(recipe: Recipe, X: np.ndarray) -> np.ndarray:
    """The inputs that the net sees, float32 (N, I), of the raw columns X (N, I)."""
    if recipe.raw == 0:
        made = standardised(X)[0]
    else:
        rest, (mean, spread) = 1 - recipe.raw, moments(X)
        made = (X - rest * mean) / np.where(spread > 0, spread, 1.0) ** rest
    return np.ascontiguousarray(made + recipe.shift, np.float32)


class Draw:
    """The initialiser of a recipe's net, for the layers in order; it begins anew after the last one.

    RAI is meant for layers after the first, which gets He's (Lu et al. 2019); the output layer is drawn as `init` says, without
    what the recipe does to hidden layers.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self._drawn = recipe, 0

    def __call__(self, rng: Any, shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        place, last = self._drawn, len(self.recipe.widths)
        self._drawn = (place + 1) % (last + 1)
        W, b = self._pair(rng, shape, dtype, place)
        return (W, b) if place == last else self._hidden(W, b)

    def _pair(self, rng: Any, shape: tuple[int, ...], dtype: Any, place: int) -> tuple[np.ndarray, np.ndarray]:
        name, last = self.recipe.init, len(self.recipe.widths)
        if name == "constant":
            name = "torch_default" if place == last else name
        if name == "constant":
            return init.constant(self.recipe.constant)(rng, shape, dtype), init.zeros(rng, (1, shape[1]), dtype)
        drawn = getattr(init, "he" if name == "rai" and place == 0 else name)(rng, shape, dtype)
        return drawn if isinstance(drawn, tuple) else (drawn, init.zeros(rng, (1, shape[1]), dtype))

    def _hidden(self, W: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of = self.recipe
        W, b = signed(W, of.negative) * W.dtype.type(of.init_scale), b * b.dtype.type(of.init_scale)
        return W, b + b.dtype.type(of.bias)


def signed(W: np.ndarray, negative: float) -> np.ndarray:
    """W with a share `negative` of its entries negative, their sizes as they are; 0.5 leaves W alone.

    The same entries of the same W, whatever the share: those that are largest when signed change last.
    """
    if not 0 <= negative <= 1:
        raise ValueError(f"the share of negative weights is {negative}; expected 0 to 1")
    if negative == 0.5:
        return W
    if W.ndim < 2:
        raise ShapeError(f"weights are (..., I, O), got {W.shape}")
    flat = W.reshape(*W.shape[:-2], -1)
    rank = flat.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")  # 0: the most negative
    below = rank < round(negative * flat.shape[-1])
    return np.where(below, -np.abs(flat), np.abs(flat)).reshape(W.shape)
