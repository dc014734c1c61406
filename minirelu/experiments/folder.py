"""The folder of a study: `results.parquet`, `config.json`, and what to do if it holds something already.

- `Folder(path, plan, facts)`: `.prepare(fresh)` checks the place and gives the outcomes that are there; `.keep(outcomes)`
  adds a shard.
- `tidy(outcomes, plan)`: the table, one row a replica, measured step and hidden layer.

The Parquet file is rewritten whole, by rename, each time a shard is done; it holds finished replicas only. So a study that
was stopped goes on by the same command, and never mixes settings: config.json says what it belongs to.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..files import check_place, write_atomically
from .study import Moment, Net, Outcome, Plan, Replica, Units

if TYPE_CHECKING:
    from polars import DataFrame

# What may differ between two runs that share a folder: how far the grid reaches, and how it was spread.
GRID = ("gammas", "deltas", "rules", "depths", "widths", "batches", "seeds", "shard_replicas")
FIGURES = ("dead_and_error", "dead_over_time")


class Folder:
    """Where the results of `plan` go. `facts` says what it ran on: a note, and a checksum of the numbers."""

    def __init__(self, path: str | os.PathLike[str], plan: Plan, facts: dict[str, Any]) -> None:
        self.path, self.plan, self.facts = os.fspath(path), plan, facts
        self.outcomes: list[Outcome] = []

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def prepare(self, fresh: bool = False) -> list[Outcome]:
        """Make the folder, write config.json, and return the outcomes that are there already.

        Raises `DataError` before any training if the place cannot be written or is too full, or if it holds another study
        (with `fresh`, that is removed).
        """
        check_place(self.path, self._needed())
        there = not fresh and os.path.exists(self.file("config.json"))
        if there:
            self._compare(_read_json(self.file("config.json")))
            if os.path.exists(self.file("results.parquet")):
                self.outcomes = self._read()
        else:
            stale = ["results.parquet", *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg"))]
            for name in stale:
                if os.path.exists(self.file(name)):
                    if not fresh:
                        raise DataError(f"{self.file(name)} is there without its config.json; --fresh replaces it")
                    os.unlink(self.file(name))
        text = json.dumps(self.config(), indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.file("config.json"), lambda file: file.write(text.encode()))
        return self.outcomes

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Add finished outcomes to results.parquet."""
        place = {_name(replica): i for i, replica in enumerate(self.plan.replicas())}
        together = sorted([*self.outcomes, *outcomes], key=lambda o: place[_name(o.replica)])
        frame = tidy(together, self.plan)
        write_atomically(self.file("results.parquet"), lambda file: frame.write_parquet(file, statistics=False))
        self.outcomes = together

    def config(self) -> dict[str, Any]:
        """Everything the results depend on, and what made them."""
        import minirelu  # here, because it imports what this belongs to

        made_by = {"minirelu": minirelu.__version__, "python": platform.python_version(), "numpy": np.__version__}
        return {"plan": asdict(self.plan), "data": self.facts, "made_by": made_by}

    def _needed(self) -> int:
        """Bytes that the results will take at most: a row in the Parquet file, twice (it is replaced), and the figures."""
        rows = len(self.plan.replicas()) * len(self.plan.measured_at()) * max(self.plan.depths)
        return 2 * 40 * rows + 2_000_000

    def _compare(self, there: dict[str, Any]) -> None:
        here = json.loads(json.dumps(self.config()))
        mine, theirs = ({**c["plan"], "data set": c["data"], "version": c["made_by"]["minirelu"]} for c in (here, there))
        differing = [key for key in mine if key not in GRID and mine[key] != theirs.get(key)]
        # a grid may grow; replicas that are there and not asked for would be lost
        differing += [key for key in GRID[:-1] if any(value not in mine[key] for value in theirs.get(key, []))]
        if differing:
            named = "; ".join(f"{key}: {theirs.get(key)} there, {mine[key]} here" for key in differing[:2])
            raise DataError(f"{self.path} holds another study ({named}); give another --out, or --fresh to replace it")

    def _read(self) -> list[Outcome]:
        import polars as pl

        path = self.file("results.parquet")
        try:
            frame = pl.read_parquet(path)
            return outcomes_of(frame, self.plan)
        except (pl.exceptions.PolarsError, OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({_one_line(error)}); --fresh replaces it") from error


def _name(replica: Replica) -> tuple[Any, ...]:
    return replica.rule.name, *replica[1:]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _read_json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        return {key: config[key] for key in ("plan", "data", "made_by")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not the configuration of a study ({_one_line(error)}); --fresh replaces it") from error


def facts(note: str, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """What config.json says of the data."""
    return {"note": note, "rows": len(X), "inputs": X.shape[1], "sha256": sha256(X.tobytes() + y.tobytes()).hexdigest()}


# ---------------------------------------------------------------------------------------------------------- tables


def tidy(outcomes: Sequence[Outcome], plan: Plan) -> DataFrame:
    """The settings, seed, step, layer (1 is the first hidden one), counts of units, and the error ÷ γ² (NaN: diverged)."""
    import polars as pl

    fixed = {name: getattr(plan, name) for name in ("data", "target", "residual", "batch_norm", "dtype", "kernels", "device")}
    rows = []
    for (rule, net, gamma, delta, seed), course in outcomes:
        settings = {"optimizer": rule.name, "lr": rule.settings["lr"], "beta": rule.beta(), "gamma": gamma, "delta": delta}
        for moment in course:
            for number, units in enumerate(moment.layers, 1):
                rows.append(
                    {**settings, **net._asdict(), "seed": seed, "step": moment.step, "layer": number}
                    | {**units._asdict(), "mse": moment.mse}
                )
    frame = pl.DataFrame(rows, schema_overrides={"gamma": pl.Float64, "delta": pl.Float64, "mse": pl.Float64})
    columns = [pl.lit(value, pl.String if value is None else None).alias(name) for name, value in fixed.items()]
    return frame.select(*columns[:2], *frame.columns[:8], *columns[2:], pl.lit(plan.steps).alias("steps"), *frame.columns[8:])


def outcomes_of(frame: DataFrame, plan: Plan) -> list[Outcome]:
    """The outcomes that `tidy` made `frame` of."""
    rules = {rule.name: rule for rule in plan.rules}
    found: list[Outcome] = []
    keys = ["optimizer", *Net._fields, "gamma", "delta", "seed"]
    for (name, *rest), part in frame.group_by(keys, maintain_order=True):
        net, (gamma, delta, seed) = Net(*rest[:3]), rest[3:]
        course = []
        for (step,), layers in part.group_by(["step"], maintain_order=True):
            units = [Units(*values) for values in layers.select(Units._fields).rows()]
            course.append(Moment(int(step), float(layers["mse"][0]), tuple(units)))
        found.append(Outcome(Replica(rules[str(name)], net, gamma, delta, seed), tuple(course)))
    return found
