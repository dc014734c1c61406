"""Sweeps: grids of trainings, in shards, on processes or a Dask cluster, into a folder of Parquet files that survives.

    grid = sweep.Grid(data="airfoil", gamma=[1.0, 1e-2, 1e-4], optimizer="adam", lr=1e-3, seed=range(8), steps=10_000)
    grid += sweep.Grid(data="airfoil", gamma=[1.0, 1e-2, 1e-4], optimizer="sgd", lr=0.01, seed=range(8), steps=10_000)
    sweep.run(grid, out="runs")                 # the same call goes on where it was stopped
    frame = sweep.load("runs")                  # polars, one row a run

- `Grid`, `run`, `Report`, `Progress`; `load(out)`, `history(out)`, `export(out, path)`, `status(out)`; `UNLIKE`: the columns
  that differ between undisturbed runs; `GridError`, `StoreError`.

docs/sweeps.md explains; from here on down: `axes` and `grid` (what is asked for), `cost` and `shards` (how it is cut), `work`
(what a worker does), `processes` and `cluster` (where), `store` and `manifest` (what is kept), `running` (all of it).
"""

from ..errors import GridError, StoreError
from .grid import Grid
from .progress import Progress
from .reading import Status, export, history, load, status
from .running import Report, run
from .store import UNLIKE

__all__ = [
    "UNLIKE",
    "Grid",
    "GridError",
    "Progress",
    "Report",
    "Status",
    "StoreError",
    "export",
    "history",
    "load",
    "run",
    "status",
]
