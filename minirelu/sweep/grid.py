"""Grids of runs: the product of lists, and sums of such products.

    grid = Grid(data="airfoil", gamma=[1.0, 1e-4], optimizer="adam", lr=1e-3, seed=range(8), steps=10_000)
    grid += Grid(data="airfoil", gamma=[1.0, 1e-4], optimizer="sgd", lr=[0.01, 0.1], seed=range(8), steps=10_000)
    grid = Grid.from_toml("grid.toml")

- `Grid`: `.runs()` are its `Run`s, each once.
- `Run`: one training, named by everything that its numbers depend on besides the data's own.
"""

from __future__ import annotations

import itertools
import os
import tomllib
from typing import Any, NamedTuple

from ..data.table import nearest
from ..errors import GridError
from .axes import AXES, REQUIRED, read


class Run(NamedTuple):
    """One training. `record_every`: steps between two measurements. What its optimiser ignores is 0."""

    data: str
    target: str | None
    gamma: float
    delta: float
    optimizer: str
    lr: float
    beta: float
    beta2: float
    eps: float
    depth: int
    width: int
    block: str
    batch_norm: bool
    batch: int
    init: str
    init_scale: float
    bias_shift: float
    dtype: str
    steps: int
    record_every: int
    seed: int

    def shape(self) -> tuple[Any, ...]:
        """What runs that are trained as one have in common: all but the settings that each replica has for itself."""
        return tuple(getattr(self, name) for name in SHAPE)


OWN = ("gamma", "delta", "lr", "beta", "beta2", "eps", "init_scale", "bias_shift", "seed")
SHAPE = tuple(name for name in Run._fields if name not in OWN)


class Grid:
    """Every combination of the axes' values, each a scalar or a list; `g1 + g2` has the runs of both.

    `data`, `optimizer` ("sgd", "heavy_ball", "nesterov", "ema", "adam"), `lr`, `seed` and `steps` must be given. `block` is
    "dense" or "residual"; beta is ignored for sgd, beta2 and eps for all but adam; `record_every` is a 20th of the steps
    unless given. Further axes: target, beta2, eps, init, init_scale, bias_shift, dtype, record_every.
    Raises `GridError` with everything that is wrong at once.
    """

    def __init__(
        self,
        *,
        data: Any = REQUIRED,
        gamma: Any = 1.0,
        delta: Any = 0.0,
        optimizer: Any = REQUIRED,
        lr: Any = REQUIRED,
        beta: Any = 0.9,
        depth: Any = 1,
        width: Any = 200,
        block: Any = "dense",
        batch_norm: Any = False,
        batch: Any = 64,
        seed: Any = REQUIRED,
        steps: Any = REQUIRED,
        **further: Any,
    ) -> None:
        given = {
            "data": data, "gamma": gamma, "delta": delta, "optimizer": optimizer, "lr": lr, "beta": beta, "depth": depth,
            "width": width, "block": block, "batch_norm": batch_norm, "batch": batch, "seed": seed, "steps": steps,
        }  # fmt: skip
        axes, problems = read({**given, **further})
        if problems:
            raise GridError(problems)
        self.products: tuple[dict[str, tuple[Any, ...]], ...] = (axes,)

    def __add__(self, other: Grid) -> Grid:
        if not isinstance(other, Grid):
            return NotImplemented
        return _sum([*self.products, *other.products])

    def runs(self) -> list[Run]:
        """Every run once, in the order of the lists (the last axis, the seed, the quickest)."""
        made = (_run(dict(zip(p, values, strict=True))) for p in self.products for values in itertools.product(*p.values()))
        return list(dict.fromkeys(made))

    def axes(self) -> list[dict[str, Any]]:
        """What was given, as from_toml takes it: a dictionary a product, without what is left at its default."""
        return [
            {name: list(v) if len(v) > 1 else v[0] for name, v in product.items() if v != (AXES[name].default,)}
            for product in self.products
        ]

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Grid:
        """The grid of a TOML file: axes as keys; those at the top hold for every table `[[grid]]`, whose products add up.

        Raises `GridError` with everything that is wrong in the file, and `OSError` if it cannot be opened.
        """
        with open(path, "rb") as file:
            try:
                given = tomllib.load(file)
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise GridError([f"{os.fspath(path)} is not TOML: {error}"]) from None
        return from_tables(given)


def from_tables(given: dict[str, Any]) -> Grid:
    """The grid of what a TOML file says."""
    tables = given.pop("grid", [{}])
    tables = tables if isinstance(tables, list) else [tables]
    if not all(isinstance(table, dict) for table in tables):
        raise GridError([f"grid = {tables}: expected tables, each headed [[grid]]"])
    products, problems = [], []
    for number, table in enumerate(tables, 1):
        where = f"grid {number}: " if len(tables) > 1 else ""
        merged = {**given, **table}
        nested = [key for key, value in merged.items() if _is_table(value)]
        axes, wrong = read({key: value for key, value in merged.items() if key not in nested})
        problems += [f"there is no table {key!r}{nearest(key, ('grid',))}; expected [[grid]]" for key in nested]
        problems += [where + problem for problem in wrong]
        products.append(axes)
    if not tables:
        problems.append("grid = []: expected at least one table, headed [[grid]]")
    if problems:
        raise GridError(list(dict.fromkeys(problems)))
    return _sum(products)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(entry, dict) for entry in value))


def _sum(products: list[dict[str, tuple[Any, ...]]]) -> Grid:
    made = Grid.__new__(Grid)
    made.products = tuple(products)
    return made


def _run(values: dict[str, Any]) -> Run:
    rule = values["optimizer"]
    if rule == "sgd":
        values["beta"] = 0.0
    if rule != "adam":
        values["beta2"] = values["eps"] = 0.0
    values["record_every"] = values["record_every"] or -(-values["steps"] // 20)
    return Run(**values)
