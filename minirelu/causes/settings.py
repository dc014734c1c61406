"""The user's own settings as a recipe: what `minirelu diagnose` makes of its options.

- `recipe_of(...)`: a `Recipe`, or `ValueError` with a sentence.
- `usual_rate(rule)`: the learning rate of an optimiser where none is given.
- `typed(recipe, changed)`: the options that make one recipe the other, or `ValueError` where none do.
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
    kind = f"constant:{_number(recipe.constant)}" if recipe.init == "constant" else recipe.init
    return f"--init {kind} --init-scale {_number(recipe.init_scale)} --negative {_number(recipe.negative)}"


def _inputs(recipe: Recipe) -> str | None:
    return f"--inputs {SCALINGS[int(recipe.raw)]}" if recipe.raw in (0, 1) and not recipe.shift else None


def _targets(recipe: Recipe) -> str:
    return f"--targets standard --gamma {_number(recipe.gamma)} --delta {_number(recipe.delta)}"


def _number(x: float) -> str:
    """As short as it can be read back."""
    return f"{x:g}" if float(f"{x:g}") == x else repr(float(x))


TYPED: dict[tuple[str, ...], Callable[[Recipe], str | None]] = {  # fields that belong together: their options, or None
    ("init", "constant", "init_scale", "negative"): _drawn,
    ("bias",): lambda recipe: f"--bias {_number(recipe.bias)}",
    ("optimizer",): lambda recipe: f"--optimizer {recipe.optimizer}",
    ("lr", "optimizer"): lambda recipe: f"--lr {_number(recipe.lr)}",  # without it, each optimiser has its own
    ("clip",): lambda recipe: f"--clip {_number(recipe.clip)}",
    ("batch",): lambda recipe: f"--batch {recipe.batch}",
    ("raw", "shift"): _inputs,
    ("gamma", "delta"): _targets,
    ("pop_art",): lambda recipe: None,
    ("widths",): lambda recipe: f"--widths {listed(recipe.widths)}",
    ("activation",): lambda recipe: f"--activation {recipe.activation}",
    ("batch_norm",): lambda recipe: "--batch-norm" if recipe.batch_norm else None,
}


def typed(recipe: Recipe, changed: Recipe) -> str:
    """What to type after the options of `recipe`, to get `changed`: the options of all fields that differ.

    Raises `ValueError` for a change that no option makes.
    """
    differing = {name for name in Recipe._fields if getattr(recipe, name) != getattr(changed, name)}
    said = {fields: words(changed) for fields, words in TYPED.items() if differing & set(fields)}
    for fields in (fields for fields, words in said.items() if words is None):
        given = ", ".join(f"{name}={getattr(changed, name)!r}" for name in fields)
        raise ValueError(
            f"no option of minirelu diagnose makes {given}; expected one of the fields that it has; train it in Python"
        )
    return " ".join(words for words in said.values() if words)
