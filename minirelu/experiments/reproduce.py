"""The paper's figures by name: what `minirelu reproduce` runs.

A figure is a module with `run(workers, on_progress)`, which gives its numbers as columns, `draw(columns)`, which gives a
matplotlib figure, and `sentences(columns)`, which says what came out. A new one is a new line in `FIGURES`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from ..files import write_atomically
from . import fig2, fig3, fig4, fig5

FIGURES: dict[str, ModuleType] = {"fig2": fig2, "fig3": fig3, "fig4": fig4, "fig5": fig5}


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
