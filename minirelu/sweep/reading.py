"""What is in a store, also while a sweep runs on it.

- `load(out)`: polars, one row a run. `history(out)`: one row a run, step and layer. `export(out, path)`: the first as a file.
- `status(out)`: how much is done.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import StoreError
from ..files import write_atomically
from . import manifest
from .grid import Run
from .store import SCHEMA, Contents, Store

if TYPE_CHECKING:
    from polars import DataFrame


def load(out: str | os.PathLike[str], columns: Sequence[str] | None = None) -> DataFrame:
    """One row a run, in the order of the settings: `run_id`, the axes, `data_checksum`, `backend`, and

    mse (÷ γ², over the rows measured on), dead_share, dead_share_worst_layer (both NaN if the run diverged), nonfinite
    (units), and what differs between undisturbed runs: wall_seconds (the shard's, divided by its runs), started, finished,
    host, pid. With `columns` these alone, in no order, which is quicker. Raises `StoreError` if `out` holds no sweep, or a file
    in it is damaged.
    """
    if columns is None:
        return _read(Store(out), [name for name in SCHEMA() if name != "history"])
    store = Store(out)
    wanted = list(dict.fromkeys(columns))
    return store.frame(_whole(store), list(dict.fromkeys(["run_id", *wanted]))).select(wanted)


def history(out: str | os.PathLike[str]) -> DataFrame:
    """One row a run, step and layer (1: the first hidden one): mse ÷ γ²; dead, nearly dead, linear and
    non-finite units of the layer."""
    return (
        _read(Store(out), ["run_id", *Run._fields, "history"]).select("run_id", "history").explode("history").unnest("history")
    )


def export(out: str | os.PathLike[str], path: str | os.PathLike[str]) -> int:
    """Write `load(out)` to one file, .parquet or .csv; the number of rows. Raises `ValueError` for another ending."""
    ending = os.path.splitext(os.fspath(path))[1]
    if ending not in (".parquet", ".csv"):
        raise ValueError(f"{os.fspath(path)} ends in {ending!r}; expected a name that ends in .parquet or .csv")
    frame = load(out)
    write = frame.write_csv if ending == ".csv" else frame.write_parquet
    write_atomically(path, write)
    return frame.height


def _read(store: Store, columns: list[str]) -> DataFrame:
    return store.frame(_whole(store), columns).sort(*Run._fields, nulls_last=True)


def _whole(store: Store) -> Contents:
    if not store.path.is_dir() or not (store.results.is_dir() or (store.path / "manifest.json").exists()):
        raise StoreError(f"{store.path} holds no sweep; `minirelu sweep GRID --out {store.path}` would make one")
    contents = store.contents()
    if contents.damaged:
        raise StoreError(
            f"files in {store.results} were cut off or altered: {len(contents.damaged)}, {contents.damaged[0].name} for one; "
            "the same sweep, run again, replaces them"
        )
    return contents


class Status(NamedTuple):
    """How far the last sweep on a folder is; `stored` counts all runs there, those of earlier grids too."""

    runs: int
    done: int
    shards: int
    shards_done: int
    failed: list[dict[str, Any]]
    damaged: list[Path]
    stored: int
    dead_share: float
    session: dict[str, Any]


def status(out: str | os.PathLike[str]) -> Status:
    """How far the last sweep on `out` is. Raises `StoreError` if there is none."""
    store = Store(out)
    asked, contents = manifest.read(store), store.contents()
    frame = store.frame(contents, ["run_id", "dead_share"])
    done = {key: shard["runs"] for key, shard in asked["shards"].items() if key in contents.whole}
    mean: Any = frame["dead_share"].fill_nan(None).mean()
    return Status(
        asked["runs"], asked["runs_before"] + sum(done.values()), len(asked["shards"]), len(done), store.failures(),
        contents.damaged, frame.height, float("nan") if mean is None else float(mean), asked["sessions"][-1],
    )  # fmt: skip
