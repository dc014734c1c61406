"""The user's own settings as a recipe: what `minirelu diagnose` makes of its options.

- `recipe_of(...)`: a `Recipe`, or `ValueError` with a sentence.
- `typed(recipe, changed)`: the options that make one recipe the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..data.table import nearest
from ..nn import ACTIVATIONS
from .recipe import Recipe
from .with_engine import RULES

USUAL_INITS = ("torch_default", "he", "xavier", "lecun", "rai")
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
    lr: float,
    clip: float,
    inputs: str,
    targets: str,
    gamma: float,
    delta: float,
    batch: int,
) -> Recipe:
    """The recipe of these options, for raw targets y (N, 1). `init` may be "constant:0.1".

    Raises `ValueError` for the first option that cannot be.
    """
    for name, given, known in (
        ("--activation", activation, ACTIVATIONS),
        ("--optimizer", optimizer, tuple(RULES)),
        ("--inputs", inputs, SCALINGS),
        ("--targets", targets, SCALINGS),
    ):
        _among(name, given, known)
    kind, constant = _init(init)
    numbers = {"--init-scale": init_scale, "--bias": bias, "--lr": lr, "--clip": clip, "--gamma": gamma, "--delta": delta}
    for name, number in numbers.items():
        if not math.isfinite(number) or (name in ("--lr", "--gamma") and number <= 0) or (name == "--clip" and number < 0):
            raise ValueError(f"{name} was given {number:g}; expected a finite number" + ", above 0" * (name != "--bias"))
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


def _among(name: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ValueError(f"{name} was given {given!r}{nearest(given, known)}; expected one of {', '.join(known)}")


def _init(given: str) -> tuple[str, float]:
    name, _, value = given.partition(":")
    if name != "constant":
        _among("--init", given, (*USUAL_INITS, "constant:VALUE"))
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
