"""`minirelu sweep`: run a grid; status, show and export what it left. Commands and their options, nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from . import sweep
from .errors import GridError
from .experiments import sweeps as looks
from .files import check_place
from .terminal import again, fail, print_table, say, spoken

FIGURE_BYTES = 10**6


class _RunByDefault(TyperGroup):
    """`minirelu sweep grid.toml` is `minirelu sweep run grid.toml`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault, no_args_is_help=True, add_completion=False,
    help="Many trainings that resume and survive: `minirelu sweep GRID.toml --out runs/` runs a grid; docs/sweeps.md explains.",
)  # fmt: skip
Folder = Annotated[Path, typer.Argument(help="The folder of a sweep.")]


@app.command()
def run(
    grid: Annotated[Path, typer.Argument(help="A TOML file: axes as keys; several tables named grid add up.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; what is there is not done again.")],
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each.", show_default="one a core", min=1)] = None,
    dask: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, tcp://host:port; or `local`: start one here.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda (every worker needs a GPU), or auto: a GPU where a worker has one.")
    ] = "auto",
) -> None:
    """Train every run of a grid that is not in the folder yet (the default: `minirelu sweep grid.toml --out runs/`)."""
    console = Console()
    executor = "processes" if dask is None else "dask" if dask == "local" else dask

    def introduce(report: sweep.Report) -> None:
        left = f"{report.found:,} are in {out} already, {report.runs - report.found:,} are left to do"
        say(console, f"{report.runs:,} runs; {left}.", "Sweep  ", whole=True)
        if report.damaged:
            say(console, f"Files that were cut off or altered, and are computed again: {report.damaged}.")

    asked = _grid(console, grid)
    with spoken(console, out, lambda: f"Finished shards are kept in {out}"), looks.progress(console) as show:
        report = sweep.run(asked, out, executor, workers, device=device, on_progress=show, on_start=introduce)
    if report.failed:
        said = report.why.strip().splitlines()[-1]
        what = f"{report.failed} shards failed, the rest is done. The last one: {said}\nTracebacks: {out / 'failed'}"
        fail(console, f"{what}; {again()}", 1)
    done = f"Done: {report.runs - report.found:,} runs in {looks.duration(report.seconds)}."
    say(console, f"{done} Look at them:\n  minirelu sweep show {shlex.quote(str(out))}", whole=True)


def _grid(console: Console, path: Path) -> sweep.Grid:
    try:
        return sweep.Grid.from_toml(path)
    except GridError as error:
        fail(console, str(error))
    except OSError as error:
        fail(console, f"{path} cannot be read: {error.strerror}")


@app.command()
def status(folder: Folder) -> None:
    """How much is done, what failed, what is damaged."""
    console = Console()
    with spoken(console, folder):
        for line in looks.told(sweep.status(folder), str(folder)):
            console.print(line, markup=False, highlight=False)


@app.command()
def show(
    folder: Folder,
    by: Annotated[
        str, typer.Option(help="Axes to group by; the first is the horizontal one of the figure.")
    ] = "gamma,optimizer",
) -> None:
    """A table of dead units and errors by some axes, and a figure of it in the folder."""
    console = Console()
    with spoken(console, folder):
        axes = looks.axes_of(by)
        with looks.drawing() as draw:
            frame = sweep.load(folder, looks.NEEDED)
            if not frame.height:
                fail(console, f"{folder} has no finished runs yet")
            groups = looks.grouped(frame, axes)
            print_table(console, looks.table(groups, axes))
            if pooled := looks.pooled(frame, axes):
                differ = f"A row takes runs together that differ in {', '.join(pooled)}"
                say(console, f"{differ}: its interval is not one over seeds.")
            check_place(folder, FIGURE_BYTES)
            names = ", ".join(frame["data"].unique(maintain_order=True).to_list()[:4])
            path = draw(groups, axes, folder, f"{names}: {frame.height:,} runs, means with 95 % intervals")
        console.print(f"Drawn: {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def export(folder: Folder, path: Annotated[Path, typer.Argument(help="A file to write: .parquet, or .csv.")]) -> None:
    """All runs as one file, a row each."""
    console = Console()
    with spoken(console, path):
        rows = sweep.export(folder, path)
        console.print(f"{rows:,} runs written to {path}", markup=False, highlight=False)
