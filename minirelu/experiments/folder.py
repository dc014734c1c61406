"""What a study leaves in its folder besides the runs of its sweep: `results.parquet`, `config.json`, and figures.

- `write(outcomes, plan, ran_on, out)`: the table and the configuration.
- `tidy(outcomes, plan)`: the table, one row a replica, measured step and hidden layer.
- `clear(out)`: removes all of it, and the runs.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.table import Table
from ..files import write_atomically
from ..sweep.store import Store
from .study import Outcome, Plan

if TYPE_CHECKING:
    from polars import DataFrame

TABLES = ("results.parquet", "config.json")
FIGURES = ("dead_and_error", "dead_over_time")


def write(outcomes: Sequence[Outcome], plan: Plan, ran_on: Table, out: str | os.PathLike[str]) -> None:
    """Write `TABLES` to `out`."""
    import minirelu  # here, because it imports what this belongs to

    frame = tidy(outcomes, plan)
    facts = {"note": ran_on.note, "rows": len(ran_on.X), "inputs": len(ran_on.inputs), "sha256": ran_on.checksum()}
    made_by = {"minirelu": minirelu.__version__, "python": platform.python_version(), "numpy": np.__version__}
    config = {"plan": asdict(plan), "data": facts, "made_by": made_by}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    write_atomically(Path(out, "results.parquet"), lambda file: frame.write_parquet(file, statistics=False))
    write_atomically(Path(out, "config.json"), lambda file: file.write(text.encode()))


def clear(out: str | os.PathLike[str]) -> None:
    """Remove a study from its folder. Raises `StoreError` if the folder cannot be written, or a sweep is running there."""
    Store(out).clear()
    for name in (*TABLES, *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg"))):
        Path(out, name).unlink(missing_ok=True)


def tidy(outcomes: Sequence[Outcome], plan: Plan) -> DataFrame:
    """The settings, seed, step, layer (1 is the first hidden one), counts of units, and the error ÷ γ² (NaN: diverged)."""
    import polars as pl

    fixed = {name: getattr(plan, name) for name in ("data", "target", "residual", "batch_norm", "dtype")}
    rows = []
    for (rule, net, gamma, delta, seed), course, backend in outcomes:
        settings = {"optimizer": rule.name, "lr": rule.settings["lr"], "beta": rule.beta(), "gamma": gamma, "delta": delta}
        for moment in course:
            for number, units in enumerate(moment.layers, 1):
                rows.append(
                    {**settings, **net._asdict(), "backend": backend, "seed": seed, "step": moment.step, "layer": number}
                    | {**units._asdict(), "mse": moment.mse}
                )
    frame = pl.DataFrame(rows, schema_overrides={"gamma": pl.Float64, "delta": pl.Float64, "mse": pl.Float64})
    columns = [pl.lit(value, pl.String if value is None else None).alias(name) for name, value in fixed.items()]
    return frame.select(*columns[:2], *frame.columns[:8], *columns[2:], pl.lit(plan.steps).alias("steps"), *frame.columns[8:])
