"""The folder of a sweep. Whatever happens, a file in it is whole or is not there.

    out/manifest.json                              what was asked for, and what ran it when and where (manifest.py)
    out/results-V/SHARD-CHECKSUM.parquet           one file a shard: a row a run, its course in the column `history`
    out/failed/SHARD.json                          traceback of a shard of the last grid that failed
    out/.lock                                      held while a sweep runs

V is the version of the results, SHARD the hash of the shard's configuration and CHECKSUM that of the file's bytes: one rename
puts result and checksum there together, and a file that was cut off or altered is found out. Readers need no lock.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import StoreError
from ..files import check_place, write_atomically
from .axes import AXES
from .grid import Run
from .shards import RESULTS_VERSION, Sets, Shard
from .work import Outcome

if TYPE_CHECKING:
    from polars import DataFrame

BYTES_A_RUN, BYTES_A_MEASUREMENT = 300, 40  # of a file, at most, in practice
_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})\.parquet")


class Contents(NamedTuple):
    """The files of a store by the keys of their shards; those whose bytes are not what their names say are `damaged`."""

    whole: dict[str, Path]
    damaged: list[Path]


class Store:
    """The results in the folder `path`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.results = self.path / f"results-{RESULTS_VERSION}"
        self.failed = self.path / "failed"

    def prepare(self) -> None:
        """Make the folders. Raises `StoreError` if they cannot be written."""
        check_place(self.path, 0)
        for folder in (self.results, self.failed):
            folder.mkdir(exist_ok=True)

    def check_room(self, shards: Sequence[Shard]) -> None:
        """Raises `StoreError` if there is no room for the results of `shards`."""
        courses = sum(len(s.runs) * _measured(s.runs[0]) * s.runs[0].depth for s in shards)
        runs = sum(len(s.runs) for s in shards)
        check_place(self.path, 100_000 * bool(shards) + BYTES_A_RUN * runs + BYTES_A_MEASUREMENT * courses)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside, no other sweep writes here. The system ends the lock with the process, however that ends.

        Raises `StoreError` if another sweep has it.
        """
        with open(self.path / ".lock", "a+") as file:
            try:
                _lock(file)
            except OSError:
                file.seek(0)
                who = file.read().strip() or "another process"
                raise StoreError(
                    f"a sweep is running on {self.path} already ({who}); wait until it has ended, or give another folder"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename if hasattr(os, 'uname') else 'this machine'}")
            file.flush()
            for folder in (self.path, self.results, self.failed):
                for left in (*folder.glob(".*.part"), *folder.glob(".room.*")):
                    left.unlink(missing_ok=True)  # of a sweep that was killed while it wrote
            yield

    def clear(self) -> None:
        """Remove everything that sweeps have left here. Raises `StoreError` if one is running."""
        self.prepare()
        with self.locked():
            for path in (*self.results.iterdir(), *self.failed.iterdir(), self.path / "manifest.json"):
                path.unlink(missing_ok=True)

    def contents(self) -> Contents:
        """What is there, every file compared with its checksum."""
        whole: dict[str, Path] = {}
        damaged = []
        for path in sorted(self.results.glob("*.parquet")):
            named = _NAME.fullmatch(path.name)
            with suppress(FileNotFoundError):  # a sweep that runs meanwhile has replaced it
                if named and named[1] not in whole and _checksum(path.read_bytes()) == named[2]:
                    whole[named[1]] = path
                else:
                    damaged.append(path)
        return Contents(whole, damaged)

    def keep(self, shard: Shard, outcome: Outcome, sets: Sets) -> None:
        """Write the results of a shard; whatever was there under its key goes."""
        buffer = io.BytesIO()
        table(shard, outcome, sets).write_parquet(buffer)
        content = buffer.getvalue()
        path = self.results / f"{shard.key}-{_checksum(content)}.parquet"
        write_atomically(path, lambda file: file.write(content))
        for other in self.results.glob(f"{shard.key}-*.parquet"):
            if other != path:
                other.unlink()
        with suppress(FileNotFoundError):
            self._failure(shard).unlink()

    def keep_failure(self, shard: Shard, why: str, attempts: int) -> None:
        """Write down why a shard failed."""
        said = {"runs": len(shard.runs), "first_run": shard.runs[0]._asdict(), "attempts": attempts, "when": now(), "why": why}
        text = json.dumps({"shard": shard.key, **said}, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self._failure(shard), lambda file: file.write(text.encode()))

    def forget_failures(self, shards: Iterable[Shard]) -> None:
        """Remove what `keep_failure` wrote of any but these: of a grid that is not asked for any more."""
        own = {self._failure(shard) for shard in shards}
        for path in self.failed.glob("*.json"):
            if path not in own:
                path.unlink()

    def failures(self) -> list[dict[str, Any]]:
        """What `keep_failure` wrote, of the shards that have not been finished since."""
        return [json.loads(path.read_text()) for path in sorted(self.failed.glob("*.json"))]

    def _failure(self, shard: Shard) -> Path:
        return self.failed / f"{shard.key}.json"

    def frame(self, contents: Contents, columns: Sequence[str] | None = None) -> DataFrame:
        """The rows of all whole files, a run once, in the order of the settings. `columns` must have `run_id`."""
        import polars as pl

        if not contents.whole:
            return pl.DataFrame(schema=SCHEMA() if columns is None else {name: SCHEMA()[name] for name in columns})
        frame = pl.read_parquet(list(contents.whole.values()), columns=list(columns) if columns else None)
        return frame.unique("run_id", keep="first", maintain_order=True)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _checksum(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]


def _measured(run: Run) -> int:
    return -(-run.steps // run.record_every) + 1


def _lock(file: io.TextIOBase) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: the renames alone keep the files whole, and the work may be done twice
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ------------------------------------------------------------------------------------------------------------ tables

UNITS = ("dead", "nearly_dead", "linear", "nonfinite")
COURSE = ("step", "layer", "mse", *UNITS)


def SCHEMA() -> dict[str, Any]:
    """{column: type} of a file."""
    import polars as pl

    kinds = {str: pl.String, float: pl.Float64, int: pl.Int64, bool: pl.Boolean}
    axes = {name: kinds[AXES[name].kind] for name in Run._fields} | {"seed": pl.UInt64}
    stamp = pl.Datetime("us", "UTC")
    course = {name: pl.Float64 if name == "mse" else pl.Int64 if name == "step" else pl.Int32 for name in COURSE}
    return {
        "run_id": pl.String, **axes, "data_checksum": pl.String, "backend": pl.String,
        "mse": pl.Float64, "dead_share": pl.Float64, "dead_share_worst_layer": pl.Float64, "nonfinite": pl.Int64,
        "wall_seconds": pl.Float64, "started": stamp, "finished": stamp, "host": pl.String, "pid": pl.Int64,
        "history": pl.List(pl.Struct(course)),
    }  # fmt: skip


UNLIKE = ("wall_seconds", "started", "finished", "host", "pid")  # what differs between two undisturbed runs


def table(shard: Shard, outcome: Outcome, sets: Sets) -> DataFrame:
    """The rows of a shard: a run each."""
    import polars as pl

    of, R = sets[shard.source], len(shard.runs)
    axes = dict(zip(Run._fields, map(list, zip(*shard.runs, strict=True)), strict=True)) | {"data": [of.name] * R}
    started, finished = (datetime.fromtimestamp(t, UTC) for t in (outcome.started, outcome.finished))
    return pl.DataFrame(
        {
            "run_id": list(shard.ids), **axes, "data_checksum": [of.checksum] * R, "backend": [outcome.backend] * R,
            **_last(outcome, shard.runs[0].width),
            "wall_seconds": [(outcome.finished - outcome.started) / R] * R, "started": [started] * R,
            "finished": [finished] * R, "host": [outcome.host] * R, "pid": [outcome.pid] * R,
            "history": _courses(outcome),
        },
        schema=SCHEMA(),
    )  # fmt: skip


def _last(outcome: Outcome, width: int) -> dict[str, np.ndarray]:
    """The final error, dead shares and number of non-finite units; the shares of a run that diverged are NaN."""
    mse, dead, nonfinite = outcome.mse[:, -1], outcome.dead[:, -1] / width, outcome.nonfinite[:, -1].sum(axis=-1)
    wild = np.isnan(mse) | (nonfinite > 0)
    shares = {"dead_share": dead.mean(axis=-1), "dead_share_worst_layer": dead.max(axis=-1)}
    return {"mse": mse, **{name: np.where(wild, np.nan, values) for name, values in shares.items()}, "nonfinite": nonfinite}


def _courses(outcome: Outcome) -> Any:
    """For each run a list of `COURSE`, layer 1 being the first hidden one."""
    import polars as pl

    R, T, L = outcome.dead.shape
    columns = {
        "step": np.broadcast_to(outcome.step[:, None], (R, T, L)),
        "layer": np.broadcast_to(np.arange(1, L + 1, dtype=np.int32), (R, T, L)),
        "mse": np.broadcast_to(outcome.mse[:, :, None], (R, T, L)),
        **{name: getattr(outcome, name).astype(np.int32) for name in UNITS},
    }
    flat = pl.DataFrame({name: values.reshape(-1) for name, values in columns.items()}).to_struct("history")
    return flat.reshape((R, T * L)).arr.to_list()
