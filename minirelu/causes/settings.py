"""The user's own settings as a recipe: what `minirelu diagnose` makes of its options.

- `recipe_of(...)`: a `Recipe`, or `ValueError` with a sentence.
- `usual_rate(rule)`: the learning rate of an optimiser where none is given.
- `typed(recipe, changed)`: the options that make one recipe the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..data.table import nearest
from ..kernels.optimiser_step import RULES
from ..nn import ACTIVATIONS
from ..optim import rule_name
from ..sweep.axes import INITS
from .recipe import Recipe

USUAL_RATES = {"adam": 1e-3}
USUAL_OTHER = 1e-2  # of the other optimisers
SCALINGS = ("standard", "raw")
OPTIONS = ("widths", "activation", "batch_norm", "init", "init_scale", "negative", "bias", "optimizer", "lr", "clip", "inputs",
           "targets", "gamma", "delta", "batch")  # fmt: skip


def recipe_of(
    y: np.ndarray,
    *,
    widths: str,
    activation: str,
    batch_norm: bool,
    init: str,
    init_scale: float,
    negative: float,
    bias: float,
    optimizer: str,
    lr: float | None,
    clip: float,
    inputs: str,
    targets: str,
    gamma: float,
    delta: float,
    batch: int,
) -> Recipe:
    """The recipe of these options, for raw targets y (N, 1). `init` may be "constant:0.1"; of `lr` None is the usual one.

    Raises `ValueError` for the first option that cannot be.
    """
    optimizer = rule_name(optimizer)
    for name, given, known in (
        ("--activation", activation, ACTIVATIONS),
        ("--optimizer", optimizer, tuple(RULES)),
        ("--inputs", inputs, SCALINGS),
        ("--targets", targets, SCALINGS),
    ):
        _among(name, given, known)
    kind, constant = _init(init)
    lr = usual_rate(optimizer) if lr is None else lr
    for name, number, also, fits in (
        ("--init-scale", init_scale, "", True),
        ("--bias", bias, "", True),
        ("--lr", lr, ", above 0", lr > 0),
        ("--clip", clip, ", 0 (for any norm) or above", clip >= 0),
        ("--gamma", gamma, ", above 0", gamma > 0),
        ("--delta", delta, "", True),
    ):
        if not (fits and math.isfinite(number)):
            raise ValueError(f"{name} was given {number:g}; expected a finite number{also}")
    if not 0 <= negative <= 1:
        raise ValueError(f"--negative was given {negative:g}; expected the share of negative weights, 0 to 1")
    if batch < (2 if batch_norm else 1):
        raise ValueError(f"--batch was given {batch}; expected at least 1 row, and with batch norm 2")
    mean, spread = (float(y.mean()), float(y.std())) if targets == "raw" else (0.0, 1.0)
    return Recipe(
        widths=_widths(widths), activation=activation, batch_norm=batch_norm, init=kind, init_scale=init_scale,
        negative=negative, constant=constant, bias=bias, optimizer=optimizer, lr=lr, clip=clip,
        raw=float(inputs == "raw"), gamma=gamma * spread, delta=gamma * mean + delta, batch=batch,
    )  # fmt: skip


def usual_rate(rule: str) -> float:
    """The learning rate of an optimiser where none is given, above which a rate is unusual."""
    return USUAL_RATES.get(rule, USUAL_OTHER)


def _among(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{name} was given {given!r}{nearest(given, known)}; expected one of {', '.join(known)}")


def _init(given: str) -> tuple[str, float]:
    name, _, value = given.partition(":")
    if name != "constant":
        _among("--init", given, (*INITS, "constant:VALUE"))
        return name, 0.0
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"--init was given {given!r}; expected constant:VALUE, such as constant:0.1")
    return name, number


def _widths(given: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in given.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ValueError(f"--widths was given {given!r}; expected units of the hidden layers by commas, such as 64,64")
    return found


# --------------------------------------------------------------------------------------------------------- and back to words


def listed(widths: Sequence[int]) -> str:
    """`64,64`"""
    return ",".join(map(str, widths))


def _drawn(recipe: Recipe) -> str:
    kind = f"constant:{recipe.constant:g}" if recipe.init == "constant" else recipe.init
    return f"--init {kind} --init-scale {recipe.init_scale:g} --negative {recipe.negative:g}"


TYPED: dict[tuple[str, ...], Callable[[Recipe], str]] = {  # fields of a recipe that belong together: their options
    ("init", "constant", "init_scale", "negative"): _drawn,
    ("bias",): lambda recipe: f"--bias {recipe.bias:g}",
    ("lr",): lambda recipe: f"--lr {recipe.lr:g}",
    ("raw", "shift"): lambda recipe: f"--inputs {'raw' if recipe.raw else 'standard'}",
    ("gamma", "delta"): lambda recipe: f"--targets standard --gamma {recipe.gamma:g} --delta {recipe.delta:g}",
    ("widths",): lambda recipe: f"--widths {listed(recipe.widths)}",
}


def typed(recipe: Recipe, changed: Recipe) -> str:
    """What to type after the options of `recipe`, to get `changed`: the options of all fields that differ."""
    differing = {name for name in Recipe._fields if getattr(recipe, name) != getattr(changed, name)}
    return " ".join(words(changed) for fields, words in TYPED.items() if differing & set(fields))
