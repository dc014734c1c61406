"""How a sweep looks: while it runs, how far it is, and its runs grouped by some of the axes, as a table and a figure.

- `progress(console)`: a context with a function that takes `sweep.Progress`: a bar, or plain lines where there is no terminal.
- `told(status)`: sentences.
- `grouped(frame, by)`: `Group`s; `table(groups, by)`; `draw(groups, by, folder, title)`; `drawing()`: `draw`, begun ahead.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from ..data.table import nearest
from ..estimates import Estimate, error_estimate, estimate
from ..files import write_atomically
from ..seldom import seldom
from ..sweep import Progress, Status
from ..sweep.grid import Run
from .figures import MARKERS, draw_line, plain, style, times
from .screen import interval, letter, short

if TYPE_CHECKING:
    from polars import DataFrame

NEEDED = (*Run._fields, "dead_share", "mse")  # columns of what is shown
DRAWN = 12  # lines of a figure, at most

# ---------------------------------------------------------------------------------------------------------- progress


@contextmanager
def progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar with runs/s, dead share, error and time left; without a terminal a line every ten seconds, and one at the end."""
    if not console.is_terminal:
        yield _plainly(console)
        return
    bars = Bars(
        BarColumn(bar_width=8), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.fields[said]}"), console=console
    )
    with bars:
        task = bars.add_task("", total=1.0, said="starting")
        yield lambda p: bars.update(task, completed=p.done, total=p.runs, said=_said(p))


def _plainly(console: Console) -> Callable[[Progress], None]:
    due = seldom()

    def show(p: Progress) -> None:
        if due(p.shards_done + p.failed == p.shards):
            console.print(f"{100 * p.done / p.runs:.0f} %, {_said(p)}", highlight=False, soft_wrap=True)

    return show


def _said(p: Progress) -> str:
    """`312 of 640 runs, 4 min left, dead 31 %, error 0.07, 1.2 runs/s`: a narrow terminal cuts the end off."""
    parts = [f"{p.done:,.0f} of {p.runs:,} runs"]
    parts += [f"{duration(p.seconds_left)} left"] if 0 < p.seconds_left < math.inf else []
    parts += [f"dead {100 * p.dead_share:.0f} %"] if not math.isnan(p.dead_share) else []
    parts += [f"error {short(p.mse)}"] if not math.isnan(p.mse) else []
    parts += [f"{p.failed} failed"] if p.failed else []
    return ", ".join([*parts, f"{p.runs_per_second:.3g} runs/s"])


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def told(status: Status, where: str) -> list[str]:
    """How far the last sweep on a folder is, in sentences."""
    share = 100 * status.done / status.runs if status.runs else 100.0
    lines = [
        f"Done: {status.done:,} of {status.runs:,} runs ({share:.0f} %), {status.shards_done:,} of {status.shards:,} shards. "
        f"Begun {status.session['started']} with {status.session['executor']}{_end(status.session)}."
    ]
    if status.stored != status.done:
        lines.append(f"{status.stored:,} runs are stored in {where} in all.")
    if not math.isnan(status.dead_share):
        lines.append(f"Mean dead share of the runs stored that have not diverged: {100 * status.dead_share:.1f} %.")
    if status.damaged:
        lines.append(f"Damaged files, which the next run replaces: {len(status.damaged)}, {status.damaged[0].name} for one.")
    for failure in status.failed[:3]:
        shard = f"shard {failure['shard'][:8]} of {failure['runs']} runs"
        lines.append(f"Failed after {failure['attempts']} attempts: {shard}. {failure['why'].strip().splitlines()[-1]}")
    if status.failed:
        lines.append(f"Failed: {len(status.failed)} shards. Tracebacks are in {where}/failed; the next run tries them again.")
    return lines


def _end(session: dict[str, Any]) -> str:
    if "stopped" in session:
        return f"; stopped {session['finished']} by {session['stopped']}"
    return "" if "finished" in session else "; it has not ended, or was killed"


# ------------------------------------------------------------------------------------------------------------ groups


class Group(NamedTuple):
    """Runs with the same values of the axes `by`: dead share and error ÷ γ² of those that have not `diverged`."""

    values: tuple[Any, ...]
    dead: Estimate
    mse: Estimate
    diverged: int


def axes_of(by: str) -> list[str]:
    """`gamma,optimizer` as a list. Raises `ValueError` for what is no axis."""
    names = [name.strip() for name in by.split(",") if name.strip()]
    for name in names:
        if name not in Run._fields:
            raise ValueError(f"--by was given {name!r}{nearest(name, Run._fields)}; expected some of {', '.join(Run._fields)}")
    if not names:
        raise ValueError(f"--by was given no axis; expected some of {', '.join(Run._fields)}")
    return list(dict.fromkeys(names))


def grouped(frame: DataFrame, by: Sequence[str]) -> list[Group]:
    """A `Group` for each combination of values, in their order."""
    import polars as pl

    fine = pl.col("dead_share").is_not_nan()
    parts = frame.group_by(by, maintain_order=True).agg(
        pl.col("dead_share").filter(fine), pl.col("mse").filter(fine), (~fine).sum().alias("diverged"),
        (1 / (pl.col("width") * pl.col("depth"))).max().alias("resolution"),
    ).sort(by, nulls_last=True)  # fmt: skip
    values = parts.select(by).rows()
    columns = (parts[name] for name in ("dead_share", "mse", "diverged", "resolution"))
    return [
        Group(of, estimate(dead.to_numpy(), 0.0, 1.0, resolution=step), error_estimate(mse.to_numpy()), diverged)
        for of, dead, mse, diverged, step in zip(values, *columns, strict=True)
    ]


def pooled(frame: DataFrame, by: Sequence[str]) -> list[str]:
    """The axes besides `by` and the seed in which runs of one group differ."""
    import polars as pl

    others = [name for name in Run._fields if name not in (*by, "seed")]
    several = frame.group_by(by).agg(pl.col(others).n_unique()).max()
    return [name for name in others if several[name].item() > 1]


def table(groups: Sequence[Group], by: Sequence[str]) -> Table:
    """One line a group."""
    made = Table(
        title="Dead units (mean) and error (geometric mean) [95 % interval] over n runs", title_justify="left",
        title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    diverged = any(group.diverged for group in groups)
    for name in by:
        made.add_column(name, justify="right", overflow="fold")
    for heading in ("dead %", "MSE ÷ γ², geom. mean", "n", *(["diverged"] if diverged else [])):
        made.add_column(heading, justify="right", overflow="fold")
    for group in groups:
        dead = interval(group.dead, lambda share: f"{100 * share:.1f}")
        end = [f"{group.dead.n:,}", *([f"{group.diverged or ''}"] if diverged else [])]
        made.add_row(*map(_value, group.values), dead, interval(group.mse, short), *end)
    return made


def _value(value: Any) -> str:
    return letter(value) if isinstance(value, float) else "–" if value is None else str(value)


# ------------------------------------------------------------------------------------------------------------ figure


def draw(groups: Sequence[Group], by: Sequence[str], folder: Path, title: str) -> Path:
    """Dead share and error against the first axis, a line for each combination of the others; a PNG in `folder`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2))
    left, right = figure.subplots(1, 2)
    lines: dict[tuple[Any, ...], list[Group]] = {}
    for group in groups:
        lines.setdefault(group.values[1:], []).append(group)
    places = _places([group.values[0] for group in groups])
    for k, (rest, own) in enumerate(list(lines.items())[:DRAWN]):
        label = ", ".join(f"{name} {_value(v)}" if not isinstance(v, str) else v for name, v in zip(by[1:], rest, strict=True))
        look = {**style(k), "marker": MARKERS[(k + k // 7) % 7], "markersize": 4.5, "label": label or None, "zorder": 3 + k}
        x = [places[group.values[0]] for group in own]
        draw = draw_line if _numbers(places) else _draw_points
        draw(left, x, [times(group.dead, 100) for group in own], look)
        draw(right, x, [group.mse for group in own], look)
    for axes in (left, right):
        _scale(axes, by[0], places)
        plain(axes, by[0])
    left.set(ylabel="dead units (%)", ylim=(-3, 103))
    right.set(yscale="log", ylabel="mean squared error ÷ γ²")
    right.yaxis.set_major_formatter(_tick)
    for axes in (left, right):  # when the scales are set, which bring them
        axes.minorticks_off()  # they take longer to draw than the lines
    more = f"; {len(lines) - DRAWN} more lines not drawn" if len(lines) > DRAWN else ""
    _arrange(figure, left, title + more, min(len(lines), DRAWN) if len(by) > 1 else 0)
    path = folder / f"by-{'-'.join(by)}.png"
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))
    return path


@contextmanager
def drawing() -> Iterator[Callable[..., Path]]:
    """`draw`, in a process of its own that imports matplotlib while the runs are read: half a second of two is saved so.

    In this process where that cannot be forked, or where a thread might hold a lock that the fork would never see released.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or threading.active_count() > 1:
        yield draw
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, of BLAS's threads, which expect forks
        ignored = signal.SIGINT, signal.SIG_IGN  # Ctrl-C is the parent's
        fork = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(1, fork, initializer=signal.signal, initargs=ignored) as beside:
            beside.submit(importlib.import_module, "matplotlib.figure")
            yield lambda *of: beside.submit(draw, *of).result()


def _arrange(figure: Any, axes: Any, title: str, entries: int) -> None:
    """Title above, legend below; margins by hand, because matplotlib's own take longer than everything else."""
    columns = 4
    rows = -(-entries // columns)
    if rows:
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="lower center", ncols=min(entries, columns), frameon=False, fontsize=9)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.91, bottom=0.13 + 0.055 * rows, wspace=0.2)
    figure.suptitle(title, fontsize=10.5)


def _draw_points(axes: Any, x: Sequence[float], estimates: Sequence[Estimate], look: dict[str, Any]) -> None:
    """Means with bars for their intervals: between words there is nothing to draw a line through."""
    kept = [(at, e) for at, e in zip(x, estimates, strict=True) if e.n]
    reach = np.array([[e.mean - e.low, e.high - e.mean] if e.n > 1 else [0, 0] for _, e in kept]).reshape(-1, 2).T
    axes.errorbar([at for at, _ in kept], [e.mean for _, e in kept], reach, capsize=3, **{**look, "linestyle": "none"})


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _places(values: Sequence[Any]) -> dict[Any, float]:
    """Where each value of the first axis stands: numbers at themselves, words side by side."""
    distinct = list(dict.fromkeys(values))
    numbers = _numbers(distinct)
    return {value: float(value) if numbers else float(i) for i, value in enumerate(distinct)}


def _scale(axes: Any, name: str, places: dict[Any, float]) -> None:
    """Logarithmic where the values are positive and far apart; words under words."""
    x = np.array(list(places.values()))
    if not _numbers(places):
        axes.set_xticks(x, [_value(value) for value in places])
    elif len(x) > 1 and x.min() > 0 and x.max() / x.min() >= 8:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_tick)
    elif name == "delta" and len(x) > 1:
        axes.set_xscale("symlog", linthresh=np.abs(x[x != 0]).min())


def _tick(value: float, _: object) -> str:
    """`1e-4`, like the table; mathematical type would take matplotlib longer than all the runs take to be read."""
    return letter(value)
