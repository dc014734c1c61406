"""out/manifest.json: what was asked for, and every session that worked on it: versions, machine, times, how it ended.

- `begin(store, ...)`, `end(store, how)`: write it, before and after. `told_if_stopped(store)`: a context for what is between.
- `read(store)`.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ..errors import StoreError
from ..files import write_atomically
from .grid import Grid
from .processes import deaf_to_ctrl_c
from .shards import RESULTS_VERSION, Sets, Shard
from .store import Store, now

LIBRARIES = ("numpy", "numba", "polars", "distributed", "cupy-cuda13x")


def begin(store: Store, grid: Grid, sets: Sets, shards: Sequence[Shard], before: int, ran_by: dict[str, Any]) -> None:
    """Write what is to be done: `shards` (done or not), besides `before` runs that are there in other shards."""
    sessions = [*read(store).get("sessions", []), {"started": now(), **ran_by, **_made_by()}] if _exists(store) else None
    manifest = {
        "results_version": RESULTS_VERSION,
        "grid": grid.axes(),
        "runs": before + sum(len(shard.runs) for shard in shards),
        "runs_before": before,
        "shards": {shard.key: {"runs": len(shard.runs), "seconds": round(shard.seconds, 3)} for shard in shards},
        "data": {of.name: {"note": of.note, "checksum": of.checksum, "rows": len(of.X)} for of in sets.values()},
        "sessions": sessions or [{"started": now(), **ran_by, **_made_by()}],
    }
    _write(store, manifest)


def end(store: Store, how: dict[str, Any]) -> None:
    """Add to the last session when and how it ended."""
    manifest = read(store)
    manifest["sessions"][-1] |= {"finished": now(), **how}
    _write(store, manifest)


@contextmanager
def told_if_stopped(store: Store) -> Iterator[None]:
    """What is raised inside ends the session, which says so: Ctrl-C, a full disk, a cluster that is lost."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError, StoreError), deaf_to_ctrl_c():  # on a full disk nothing can be written
            end(store, {"stopped": "Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"})
        raise


def read(store: Store) -> dict[str, Any]:
    """The manifest. Raises `StoreError` where there is none that can be read."""
    path = store.path / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {**manifest, "sessions": list(manifest["sessions"]), "shards": dict(manifest["shards"])}
    except FileNotFoundError:
        raise StoreError(f"{store.path} holds no sweep: there is no manifest.json in it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); delete it and run the sweep again: finished runs are kept"
        ) from error


def _exists(store: Store) -> bool:
    return (store.path / "manifest.json").exists()


def _write(store: Store, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    write_atomically(store.path / "manifest.json", lambda file: file.write(text.encode()))


def _made_by() -> dict[str, Any]:
    from importlib import metadata  # here, because `status` and `show` do without and should be quick

    import minirelu  # here, because it imports what this belongs to

    versions = {"minirelu": minirelu.__version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    machine = {"host": platform.node(), "machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    return {"versions": versions, "machine": machine}
