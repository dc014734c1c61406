"""Causes of dying ReLU as a part of `minirelu report`.

- `part(folder, size, workers, on_progress, train)`: the `Part`; the page of remedies is docs/causes-and-remedies.md.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import causes, causes_figures, causes_words
from .networks import Size, present
from .verdicts import not_run

if TYPE_CHECKING:
    from .report import Part

TITLE = "Causes of dying ReLU, one at a time"
SHOWS = (
    "A panel a cause: share of dead units in the worst layer at the end against the dose, under Adam and SGD, with 95 % "
    "intervals; dotted: dead at birth; crosses: doses at which some nets diverged; dashed: 40 %."
)


def part(folder: Path, size: Size, workers: int, on_progress: Callable[[str, int, int], object], train: bool = True) -> Part:
    """Findings on every cause; trained into folder/runs unless they are there, or only looked at with train=False.

    It is the folder of `minirelu causes --out FOLDER`.
    """
    from .report import Part, png

    start, (there, reasons) = time.perf_counter(), present(size.data)
    command = f"minirelu causes{' --quick' * (size == causes.QUICK)} --out {shlex.quote(str(folder))}"
    size = size._replace(data=tuple(there))
    if train and there:
        show = lambda done, total: on_progress("causes", done, total)
        causes.train(folder / "runs", size, workers, show, remedies=False)
    rows = [row for row in causes.collect(folder / "runs", size) if row.remedy == "none"]
    if not rows:
        why = "not trained in this folder" if there else "; ".join(reasons.values())
        return Part("causes", TITLE, [not_run(claim, why) for claim in causes_words.claims()], command, 0.0, paper=False)
    found = causes_words.findings(rows)
    note = f"{size.seeds} seeds on each of {', '.join(there)}; {size.steps:,} steps, five times as many for the target scale."
    picture = png(causes_figures.responses(rows))
    return Part("causes", TITLE, found, command, time.perf_counter() - start, note, picture, SHOWS, paper=False)
