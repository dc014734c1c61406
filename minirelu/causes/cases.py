"""The causes and remedies of dying ReLU, each as a change of one thing in a recipe.

- `CAUSES`: dose axes; the first dose of each is healthy. `REMEDIES`: changes that are recommended against them.
- `under_sgd(recipe)`: the same with plain SGD, at a rate as many times its own base as the recipe's is Adam's.

Doses and lethal doses were fixed on pilots with seeds that are not among those of the results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .recipe import BASE, Recipe

SGD_RATE = 0.05  # at which the healthy net fits about as well as with Adam at BASE.lr
ADAM_RATE = BASE.lr


class Dose(NamedTuple):
    label: str
    recipe: Recipe


class Cause(NamedTuple):
    """Doses from healthy to strong; `lethal`: the one that remedies are tried against; `length`: times the usual steps."""

    key: str
    title: str
    doses: tuple[Dose, ...]
    lethal: int
    length: int = 1

    @property
    def dose(self) -> Dose:
        """The one that remedies are tried against."""
        return self.doses[self.lethal]


class Remedy(NamedTuple):
    key: str
    title: str
    change: Callable[[Recipe], Recipe]


def _axis(
    key: str, title: str, make: Callable[[Any], Recipe], healthy: Any, doses: tuple[Any, ...], lethal: Any, length: int = 1,
    label: Callable[[Any], str] = "{:g}".format,
) -> Cause:  # fmt: skip
    made = tuple(Dose(label(dose), make(dose)) for dose in (healthy, *doses))
    return Cause(key, title, made, (healthy, *doses).index(lethal), length)


def _set(name: str) -> Callable[[Any], Recipe]:
    return lambda value: BASE._replace(**{name: value})


def _constant(value: float | None) -> Recipe:
    return BASE if value is None else BASE._replace(init="constant", constant=value)


CAUSES = (
    _axis("scale_large", "initial weights too large, ×", _set("init_scale"), 1.0, (3.0, 10.0, 30.0, 100.0), 30.0),
    _axis("scale_small", "initial weights too small, ×", _set("init_scale"), 1.0, (0.3, 0.1, 0.01, 0.001), 0.001),
    _axis("sign", "share of negative weights", _set("negative"), 0.5, (0.7, 0.8, 0.9, 1.0), 1.0),
    _axis("constant", "all weights alike", _constant, None, (0.1, 0.01, 0.0, -0.01, -0.1), -0.1,
          label=lambda value: "drawn" if value is None else f"{value:g}"),
    _axis("bias", "initial bias", _set("bias"), 0.0, (-0.1, -0.3, -0.5, -1.0, -3.0), -1.0),
    _axis("lr", "learning rate", _set("lr"), ADAM_RATE, (0.01, 0.03, 0.1, 0.3), 0.03),
    _axis("raw", "inputs not normalised (1: raw)", _set("raw"), 0.0, (0.25, 0.5, 0.75, 1.0), 1.0),
    _axis("shift", "inputs shifted by", _set("shift"), 0.0, (1.0, 3.0, 10.0, 30.0, 100.0), 10.0),
    _axis("gamma", "target scale γ", _set("gamma"), 1.0, (0.1, 1e-2, 1e-3, 1e-4, 1e-6), 1e-4, length=5,
          label=lambda value: f"{value:g}" if value > 0.05 else f"{value:.0e}".replace("e-0", "e-")),
    _axis("delta", "target shift δ", _set("delta"), 0.0, (3.0, 10.0, 100.0, 1000.0), 100.0),
    _axis("depth", "hidden layers of 32", BASE.deep, 2, (4, 8, 16, 24), 8),
    _axis("width", "units a layer, 2 layers", BASE.wide, 32, (16, 8, 4, 2, 1), 2),
    _axis("deep_narrow", "hidden layers of 4", BASE.wide(4).deep, 2, (4, 8, 16), 8),
)  # fmt: skip


def _initialised(name: str) -> Callable[[Recipe], Recipe]:
    """Another initialisation: what was done to the weights is undone, a bias that was added stays."""
    return lambda recipe: recipe._replace(init=name, init_scale=1.0, negative=0.5, constant=0.0)


def _with(**fields: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: recipe._replace(**fields)


def under_sgd(recipe: Recipe) -> Recipe:
    return recipe._replace(optimizer="sgd", lr=recipe.lr / ADAM_RATE * SGD_RATE)


NONE = Remedy("none", "none", lambda recipe: recipe)
REMEDIES = (
    Remedy("he", "He initialisation", _initialised("he")),
    Remedy("xavier", "Xavier initialisation", _initialised("xavier")),
    Remedy("rai", "RAI", _initialised("rai")),
    Remedy("leaky_relu", "LeakyReLU", _with(activation="leaky_relu")),
    Remedy("prelu", "PReLU", _with(activation="prelu")),
    Remedy("elu", "ELU", _with(activation="elu")),
    Remedy("batch_norm", "batch norm", _with(batch_norm=True)),
    Remedy("lower_lr", "learning rate ÷ 10", lambda recipe: recipe._replace(lr=recipe.lr / 10)),
    Remedy("clip", "gradients clipped at 1", _with(clip=1.0)),
    Remedy("sgd", "SGD instead of Adam", under_sgd),
    Remedy("targets", "targets normalised", _with(gamma=1.0, delta=0.0)),
    Remedy("pop_art", "Pop-Art", _with(pop_art=True)),
    Remedy("inputs", "inputs normalised", _with(raw=0.0, shift=0.0)),
)
LEAKY = ("leaky_relu", "prelu", "elu")  # whose units are counted as silent, not as dead
