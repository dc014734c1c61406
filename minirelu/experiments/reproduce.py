"""The paper's figures by name: what `minirelu reproduce` runs.

A figure is a module with `run(workers, on_progress)`, which gives its numbers as columns, `draw(columns)`, which gives a
matplotlib figure, and `sentences(columns)`, which says what came out. A new one is a new line in `FIGURES`.

An experiment that trains nets has `train(folder, size, workers, on_progress)` and `collect(folder, size)` in place of `run`,
`planned(size)` for the cost model, the sizes `FULL` and `QUICK`, and `findings(columns, reasons)`; if not all that it trains
is a sweep, `predicted(folder, size)` in seconds; if nothing is, `lengths(folder)`, the steps of what is there; if it has
more to say than its claims, `besides(columns)`, sentences. A new one is a new line in `NETWORKS`, and one in `report.NETS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..files import write_atomically
from . import blocks, fig1, fig2, fig3, fig4, fig5, fig6, momentum, networks
from .networks import OnProgress

FIGURES: dict[str, ModuleType] = {"fig2": fig2, "fig3": fig3, "fig4": fig4, "fig5": fig5}
NETWORKS: dict[str, ModuleType] = {"fig1": fig1, "fig6": fig6, "blocks": blocks, "momentum": momentum}
EVERY = tuple(sorted([*FIGURES, *NETWORKS]))


def numbers(name: str, folder: Path, workers: int, on_progress: OnProgress, size: Any = None) -> dict[str, Any]:
    """The columns of a figure; for an experiment on nets those of `size`, trained into `folder` unless they are there.

    Raises `DataError` if none of its data can be read, and `StoreError` if `folder` cannot be used.
    """
    if name in FIGURES:
        return FIGURES[name].run(workers, on_progress)
    module = NETWORKS[name]
    module.train(folder, size or module.FULL, workers, on_progress)
    return module.collect(folder, size or module.FULL)


def check_given(names: Sequence[str], **given: Any) -> None:
    """Raises `ValueError` if something was given (neither None nor False) that is about nets, and no experiment has any."""
    if not any(name in NETWORKS for name in names):
        for key in (key for key, value in given.items() if value is not None and value is not False):
            raise ValueError(f"--{key.replace('_', '-')} was given, but {', '.join(names)}: no nets are trained; leave it out")


def sized(name: str, quick: bool, data: str | None, **given: Any) -> Any:
    """An experiment's full or quick size with what was given (not None) instead of its own; None for a figure without nets.

    Raises `ValueError` for an empty list of data, and for a setting that the experiment does not leave open; `DataError` for
    data that was named and cannot be read.
    """
    if name in FIGURES:
        return None
    own = NETWORKS[name].QUICK if quick else NETWORKS[name].FULL
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in own._fields:
            raise ValueError(f"--{key.replace('_', '-')} was given, but {name} has the paper's; leave it out")
    return own._replace(data=networks.asked(data, own.data), **given)


def predicted(name: str, folder: Path, size: Any) -> float:
    """Seconds on one idle core that an experiment on nets is expected to take, less what is in `folder`; else 0."""
    if name in FIGURES:
        return 0.0
    module = NETWORKS[name]
    if hasattr(module, "predicted"):  # it has nets that no sweep trains
        return module.predicted(folder, size)
    return networks.expected(module.planned(size), folder)


def save(name: str, figure: Any, columns: dict[str, Any], folder: Path) -> list[Path]:
    """Write folder/name .png, .svg and .parquet, each whole or not at all, and the same bytes for the same numbers."""
    import matplotlib
    import polars

    paths = [folder / f"{name}{end}" for end in (".png", ".svg", ".parquet")]
    with matplotlib.rc_context({"svg.hashsalt": name}):
        write_atomically(paths[0], lambda file: figure.savefig(file, format="png", dpi=160))
        write_atomically(paths[1], lambda file: figure.savefig(file, format="svg", dpi=160, metadata={"Date": None}))
    write_atomically(paths[2], polars.DataFrame(columns).write_parquet)
    return paths
