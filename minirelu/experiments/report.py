"""All claims of the paper with what we measured: the parts of `minirelu report`, and its two files.

- `parts(folder, quick, ...)`: run what is missing, or with `train=False` only take what is there; a `Part` an experiment.
- `write(parts, out, quick)`: out/report.html, one page that needs no network, and out/report.json, the same rows as data.

A part that cannot be run, for want of data or because it is too long, has its rows all the same: "not run", with the reason.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .. import sweep
from ..errors import DataError, StoreError
from ..files import write_atomically
from . import (
    blocks,
    born_dead,
    causes,
    causes_report,
    fig1,
    fig2,
    fig3,
    fig4,
    fig5,
    fig6,
    momentum,
    networks,
    page,
    plane_claims,
    reproduce,
    rescaling,
)
from .verdicts import NOT_RUN, Claim, Finding, not_run

STARTS = {True: 24, False: 60}  # a side, of Figures 4 and 5
BORN = {True: 2000, False: 20_000}  # born-dead nets drawn


class Part(NamedTuple):
    """An experiment: its findings, how to get them, what they took (seconds), and its figure as PNG with what it shows."""

    name: str
    title: str
    findings: list[Finding]
    command: str
    seconds: float
    note: str = ""
    picture: bytes = b""
    shows: str = ""
    paper: bool = True  # whether its claims are the paper's
    besides: Sequence[str] = ()  # sentences on what no claim is about


OnPart = Callable[[str, int, int], object]


def parts(folder: Path, quick: bool, workers: int, on_progress: OnPart, train: bool = True) -> Iterator[Part]:
    """Every part, as soon as it is done: nets are trained into `folder` unless they are there, or with `train=False` only taken
    from there. Calculations are done anew, and so are the few short trainings of the rescaling theorem.
    """
    for name, (title, module, shows) in NETS.items():
        yield _nets(name, title, module, shows, folder, quick, workers, on_progress, train)
    yield causes_report.part(folder.parent / "causes", causes.QUICK if quick else causes.FULL, workers, on_progress, train)
    yield from calculated(quick, workers, on_progress)


def calculated(quick: bool, workers: int, on_progress: OnPart) -> Iterator[Part]:
    """The parts that need no sweep."""
    yield _calculated("fig2", "Figure 2: momentum makes the affine model oscillate", fig2, plane_claims.affine, SHOWS_2)
    yield _calculated("fig3", "Figure 3: the field of one ReLU", fig3, plane_claims.field, SHOWS_3)
    yield _basins(quick, workers, on_progress)
    yield _timed("rescaling", "The rescaling theorem on trained nets", lambda: rescaling.findings(2 if quick else 8))
    yield _timed("born_dead", "Born-dead nets (Lu et al. 2019)", lambda: born_dead.findings(BORN[quick]))


def predicted(folder: Path, quick: bool) -> float:
    """Seconds on one idle core that the cost model expects of the trainings that are missing."""
    return sum(reproduce.predicted(name, folder, m.QUICK if quick else m.FULL) for name, (_, m, _) in NETS.items())


def _timed(name: str, title: str, findings: Callable[[], list[Finding]]) -> Part:
    start = time.perf_counter()
    try:
        found, note = findings(), ""
    except (DataError, ImportError) as error:
        found, note = [not_run(Claim(title, "–", "–"), str(error))], ""
    return Part(name, title, found, "minirelu report", time.perf_counter() - start, note)


def _calculated(name: str, title: str, module: ModuleType, findings: Callable[[], list[Finding]], shows: str) -> Part:
    start = time.perf_counter()
    found, picture = findings(), png(module.draw(module.run()))
    return Part(name, title, found, f"minirelu reproduce {name}", time.perf_counter() - start, "A calculation.", picture, shows)


def _basins(quick: bool, workers: int, on_progress: OnPart) -> Part:
    start, n = time.perf_counter(), STARTS[quick]
    four, five = (
        module.run(workers, lambda done, total: on_progress("fig4, fig5", done, total), n=n) for module in (fig4, fig5)
    )
    found = plane_claims.basins(four, five)
    note = f"A calculation from {n} × {n} starts."
    command, title = "minirelu reproduce fig4 fig5", "Figures 4 and 5: basins of attraction"
    return Part("fig4-5", title, found, command, time.perf_counter() - start, note, png(fig5.draw(five)), SHOWS_5)


# --------------------------------------------------------------------------------------------------------------- nets


def _nets(
    name: str, title: str, module: ModuleType, shows: str, folder: Path, quick: bool, workers: int, on_progress: OnPart,
    train: bool,
) -> Part:  # fmt: skip
    size = module.QUICK if quick else module.FULL
    there, reasons = networks.present(size.data)
    if train and there:
        module.train(folder, size, workers, lambda done, total: on_progress(name, done, total))
    size, columns = _largest(module, folder, size) if not train else (size, _collected(module, folder, size))
    found = module.findings(columns, reasons)
    command = _command(name, quick, size, module.FULL, columns)
    if not len(columns["data"]):
        return Part(name, title, found, command, 0.0)
    seconds = float(np.sum(columns["wall_seconds"]))
    note = f"{size.steps:,} steps" + ("" if size.steps == module.FULL.steps else f"; in full {module.FULL.steps:,}")
    besides = module.besides(columns) if hasattr(module, "besides") else []
    return Part(name, title, found, command, seconds, f"{note}.", png(module.draw(columns)), shows, besides=besides)


def _command(name: str, quick: bool, size: Any, full: Any, columns: dict[str, Any]) -> str:
    """What makes these numbers, from the runs that there are."""
    if quick or not len(columns["data"]):
        return f"minirelu reproduce {name}" + " --quick" * quick
    data = networks.in_order(columns["data"], full.data)
    own = [] if tuple(data) == full.data else ["--data", ",".join(data)]
    own += [] if size.steps == full.steps else ["--steps", str(size.steps)]
    return " ".join(["minirelu reproduce", name, *own])


def _collected(module: ModuleType, folder: Path, size: Any) -> dict[str, Any]:
    try:
        return module.collect(folder, size)
    except StoreError:  # nothing was ever trained there
        names = "data arm block depth optimizer gamma delta lr seed mse dead_share step steps"
        return dict.fromkeys(names.split(), np.array([]))


def _largest(module: ModuleType, folder: Path, size: Any) -> tuple[Any, dict[str, Any]]:
    """The size with the most findings among those in the folder (of equals that with the most steps), and its columns."""
    lengths, names = _kept(module, folder)
    data = tuple(networks.in_order([*size.data, *names], size.data))
    sizes = [size._replace(steps=steps, data=data) for steps in lengths if steps >= 10]
    found = [(own, _collected(module, folder, own)) for own in sizes]
    return max(found, key=lambda pair: (_run(module, pair[1]), pair[0].steps), default=(size, _collected(module, folder, size)))


def _kept(module: ModuleType, folder: Path) -> tuple[list[int], set[str]]:
    """How long the trainings in the folder are, and their data sets where that is known."""
    if hasattr(module, "lengths"):  # what it trains is no sweep
        return module.lengths(folder), set()
    try:
        frame = sweep.load(folder, ["steps", "data"])
    except StoreError:
        return [], set()
    return sorted(set(frame["steps"])), set(frame["data"])


def _run(module: ModuleType, columns: dict[str, Any]) -> int:
    return sum(f.verdict != NOT_RUN for f in module.findings(columns, {}))


def png(figure: Any) -> bytes:
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=110)
    return made.getvalue()


# -------------------------------------------------------------------------------------------------------------- files


def write(found: list[Part], out: Path, quick: bool) -> list[Path]:
    """Both files, each whole or not at all."""
    paths = [out / "report.html", out / "report.json"]
    write_atomically(paths[0], lambda file: file.write(page.page(found, quick).encode()))
    rows = [
        {"part": part.name, **f.claim._asdict(), "ours": f.ours, "n": f.n, "verdict": f.verdict, "why": f.why,
         "quick": quick, "note": part.note, "command": part.command, "seconds": round(part.seconds, 1)}
        for part in found for f in part.findings
    ]  # fmt: skip
    write_atomically(paths[1], lambda file: file.write((json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()))
    return paths


SHOWS_1 = (
    "A row of panels for each data set: mean squared error against γ and against δ, and dead share against γ under Adam and "
    "under tuned SGD; our means with 95 % intervals over the paper's digitised points. The table above has the numbers."
)
SHOWS_M = (
    "For each data set: the dead share of every optimiser at γ = 1e-4 and γ = 1 with 95 % intervals, normalised ones below the "
    "dotted line; Adam's dead share against γ at three learning rates; survival curves of units at γ = 1e-4: those of "
    "nets of one layer under four rules, and of each layer of nets of four under Adam without and with momentum. A curve "
    "begins at the share of units that are not born dead."
)
SHOWS_2 = "Left: eigenvalues in the complex plane. Right: b/‖w‖ over 100 steps for β = 0, .7 and .9; only .9 dips below 0."
SHOWS_3 = "Stream lines of gradient descent in the plane (w, b) at four γ, exact above and as drawn in the paper below."
SHOWS_6 = (
    "Dead share of the worst layer over the steps at γ = 1e-4, a line for each depth of 1, 2, 4 and 8 hidden layers, with 95 % "
    "intervals and the paper's digitised points: MLPs above, residual nets below; Adam left, SGD right."
)
SHOWS_B = (
    "Dead share of the worst layer of residual nets over the steps at γ = 1e-4 under Adam, a panel for each layout of the "
    "blocks, a line for each of 1, 2 and 4 layers, with 95 % intervals and the paper's digitised points."
)
SHOWS_5 = "Starts in the plane (w, b) at γ = .001, yellow if they reach the optimum, blue if they die, for β = .7, .8, .9, .95."
# Experiments that train nets, {name: (title, module, what its figure shows)}: a new one is a line here.
NETS: dict[str, tuple[str, ModuleType, str]] = {
    "fig1": ("Figure 1: target scale, shift, and dead units", fig1, SHOWS_1),
    "momentum": ("Momentum or normalisation", momentum, SHOWS_M),
    "fig6": ("Figure 6: depth", fig6, SHOWS_6),
    "blocks": ("Figure 6: residual nets in other layouts", blocks, SHOWS_B),
}
