"""The axes of a grid: their kinds, their defaults, and everything that can be wrong with them, said at once.

- `AXES`: {name: `Axis`}, in the order of the columns of the results.
- `read(settings)`: {name: values} and the problems found, a sentence each; nothing is raised.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .. import data as data_sets
from ..data.table import nearest
from ..optim import rule_name

REQUIRED = object()
RULES = ("sgd", "heavy_ball", "nesterov", "ema", "adam")
INITS = ("torch_default", "he", "xavier", "lecun", "rai")


class Axis(NamedTuple):
    """`kind` of a value (float, int, bool or str), its default, what it must be in words and as a test; `meant`: of a value in
    another spelling the one that is meant.
    """

    kind: type
    default: Any
    expected: str
    fits: Callable[[Any], bool]
    meant: Callable[[Any], Any] = lambda value: value


def _one_of(*words: str) -> tuple[str, Callable[[str], bool]]:
    return f"one of {', '.join(words)}", lambda word: word in words


_POSITIVE = "a positive number", lambda x: 0 < x < math.inf
_FINITE = "a finite number", math.isfinite
_COUNT = "a whole number from 1 to below 2**32", lambda n: 1 <= n < 2**32
_SHARE = "a number from 0 to below 1", lambda x: 0 <= x < 1
_ANY = "True or False", lambda x: True

# None as a default: left to `Run` (see grid.py)
AXES: dict[str, Axis] = {
    "data": Axis(str, REQUIRED, "the name of a data set or the path of a CSV file", lambda name: not _unknown(name)),
    "target": Axis(str, None, "the name of a column", bool),
    "gamma": Axis(float, 1.0, *_POSITIVE),
    "delta": Axis(float, 0.0, *_FINITE),
    "optimizer": Axis(str, REQUIRED, *_one_of(*RULES), rule_name),
    "lr": Axis(float, REQUIRED, *_POSITIVE),
    "beta": Axis(float, 0.9, *_SHARE),
    "beta2": Axis(float, 0.999, *_SHARE),
    "eps": Axis(float, 1e-8, *_POSITIVE),
    "depth": Axis(int, 1, *_COUNT),
    "width": Axis(int, 200, *_COUNT),
    "block": Axis(str, "dense", *_one_of("dense", "residual")),
    "batch_norm": Axis(bool, False, *_ANY),
    "batch": Axis(int, 64, *_COUNT),
    "init": Axis(str, "torch_default", *_one_of(*INITS)),
    "init_scale": Axis(float, 1.0, *_POSITIVE),
    "bias_shift": Axis(float, 0.0, *_FINITE),
    "dtype": Axis(str, "float32", *_one_of("float32", "float64")),
    "steps": Axis(int, REQUIRED, *_COUNT),
    "record_every": Axis(int, None, *_COUNT),
    "seed": Axis(int, REQUIRED, "a whole number from 0 to 2**64 - 1", lambda n: 0 <= n < 2**64),
}


def read(settings: dict[str, Any]) -> tuple[dict[str, tuple[Any, ...]], list[str]]:
    """The values of every axis of one grid, and a sentence for whatever is unknown, missing, empty or impossible."""
    problems = [f"there is no axis {key!r}{nearest(key, tuple(AXES))}" for key in settings if key not in AXES]
    found: dict[str, tuple[Any, ...]] = {}
    for name, axis in AXES.items():
        given = settings.get(name, axis.default)
        if given is REQUIRED:
            problems.append(f"{name} is missing; expected {axis.expected}, or a list of such")
        elif given is None:
            found[name] = (None,)
        else:
            found[name] = tuple(_values(name, axis, given, problems))
    return found, problems + _together(found)


def _values(name: str, axis: Axis, given: Any, problems: list[str]) -> Iterable[Any]:
    """The valid ones of the values given; the others, and a list without any, become problems."""
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, dict))
    entries = list(given) if several else [given]
    if not entries:
        problems.append(f"{name} is an empty list; expected at least one value: {axis.expected}")
    for entry in entries:
        value = _as(axis.kind, entry)
        value = value if value is None else axis.meant(value)
        if value is None or not axis.fits(value):
            why = _unknown(value) if name == "data" and value is not None else f"expected {axis.expected}"
            problems.append(f"{name} = {entry!r}{_hint(axis, value)}: {why}")
        else:
            yield value


def _as(kind: type, value: Any) -> Any:
    """`value` as a plain Python value of that kind; None if it is none."""
    value = value.item() if isinstance(value, np.generic) else os.fspath(value) if isinstance(value, os.PathLike) else value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e5 in TOML is a float
    return value if type(value) is kind else None


def _hint(axis: Axis, value: Any) -> str:
    return nearest(value, axis.expected.removeprefix("one of ").split(", ")) if "one of" in axis.expected and value else ""


def _unknown(name: str) -> str:
    """Why there is certainly no such data set, without reading one; or nothing."""
    if name in data_sets.SETS or name.startswith("openml:"):
        return ""
    if os.sep in name or "." in name:
        return "" if os.path.exists(name) else "there is no such file"
    known = ", ".join(data_sets.SETS)
    return f"there is no such data set{nearest(name, data_sets.SETS)}; expected {known}, openml:NAME, or a CSV file"


def _together(found: dict[str, tuple[Any, ...]]) -> list[str]:
    """What only several axes together make impossible."""
    problems = []
    if True in found.get("batch_norm", ()) and 1 in found.get("batch", ()):
        problems.append("batch = 1 with batch_norm: a batch of at least 2 rows is needed to have a variance")
    if any(n is not None and n > min(found.get("steps", ()), default=n) for n in found.get("record_every", ())):
        problems.append("record_every is larger than steps: expected at most the number of steps")
    return problems
