"""The command line: `minirelu study`, `minirelu reproduce`. Commands and their looks, nothing else."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Annotated, NoReturn

try:
    import typer
    from rich import box
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError as error:
    sys.exit(f"The command line needs typer and rich ({error}); install them with: pip install 'minirelu[lab]'")

import numpy as np

from . import data as data_sets
from .errors import DataError
from .experiments import study as experiment
from .experiments.figures import dead_and_error

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The laboratory for the dying ReLU.")


@app.callback()
def _root() -> None:
    """The laboratory for the dying ReLU."""


@app.command()
def study(
    data: Annotated[str, typer.Option(help=f"Data set: {', '.join(data_sets.SETS)}.")] = "diabetes",
    seeds: Annotated[int, typer.Option(help="Number of seeds a setting (replicas).", min=1)] = len(experiment.Plan.seeds),
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = experiment.Plan.steps,
    workers: Annotated[int, typer.Option(help="Processes, one BLAS thread each.", min=1)] = 2,
    figure: Annotated[Path | None, typer.Option(help="Draw dead share and error to this .png, .svg or .pdf.")] = None,
) -> None:
    """Train the paper's net at several target scales and count the units that die."""
    plan = experiment.Plan(data=data, seeds=tuple(range(seeds)), steps=steps)
    console = Console()
    if figure is not None:
        _check_figure(figure, console)
    try:
        X, _ = data_sets.load(data)
    except DataError as error:
        _fail(console, str(error))
    console.print(
        f"[bold]{data}[/bold]: {X.shape[0]} rows, {X.shape[1]} inputs. One hidden layer of {plan.width} ReLUs, "
        f"batch {plan.batch}, {steps:,} steps, {seeds} seed{'s' * (seeds > 1)}; targets are γ·y with y standardised."
    )
    try:
        outcomes = _run_with_progress(plan, workers, console)
    except KeyboardInterrupt:
        console.print("Stopped. Nothing was kept; fewer --steps or --seeds make a shorter study.")
        raise typer.Exit(130) from None
    rows = experiment.summary(outcomes)
    console.print(_table(rows))
    console.print(_verdict(rows))
    if figure is not None:
        dead_and_error(rows, figure, f"{data}: {plan.width} ReLUs, {steps:,} steps, mean of {seeds} seeds with 95 % intervals")
        console.print(f"Figure: {figure}")
    if data == "diabetes":
        console.print("Adam runs at lr 0.01 here; at the paper's 0.001 the effect needs more than 50,000 steps on this set.")


def _fail(console: Console, message: str) -> NoReturn:
    console.print(message, style="red", markup=False)
    raise typer.Exit(2)


def _check_figure(path: Path, console: Console) -> None:
    """Refuse a figure that could not be written, before hours of training rather than after."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        _fail(console, f"--figure was given {path}; its name must end in .png, .svg or .pdf")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        _fail(console, f"--figure cannot be written to {path.parent.resolve()}: {error.strerror}")


def _run_with_progress(plan: experiment.Plan, workers: int, console: Console) -> list[experiment.Outcome]:
    """Run `plan` below a bar for each optimiser: mean loss, and dead share at each γ. Plain lines if not a terminal."""
    bars = Progress(
        TextColumn("{task.description:<17}"),
        BarColumn(bar_width=7),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
    )
    parts = max(1, len(plan.shards()) // len(plan.rules))
    latest: dict[str, dict[tuple[int, ...], experiment.Progress]] = {rule.name: {} for rule in plan.rules}
    with bars:
        tasks = {rule.name: bars.add_task(rule.name, total=parts * plan.steps, state="") for rule in plan.rules}

        def show(progress: experiment.Progress) -> None:
            name = progress.shard.rule.name
            latest[name][progress.shard.seeds] = progress
            done = sum(p.step for p in latest[name].values())
            bars.update(tasks[name], completed=done, state=_state(list(latest[name].values())))
            if not console.is_terminal and progress.step >= plan.steps:
                console.print(f"{name}, seeds {', '.join(map(str, progress.shard.seeds))}: {_state([progress])}")

        return experiment.run(plan, workers=workers, on_progress=show)


def _state(parts: list[experiment.Progress]) -> str:
    """`dead 3 12 62 % loss 0.07 1 12`: the mean dead share and the mean loss ÷ γ² at each γ; at most 41 characters."""
    gammas = len(parts[0].shard.plan.gammas)
    loss, dead = ([_mean([kind(p).reshape(gammas, -1)[i] for p in parts]) for i in range(gammas)] for kind in (_MSE, _DEAD))
    return f"dead {' '.join(f'{100 * d:.0f}' for d in dead)} % loss {' '.join(f'{x:.1g}' for x in loss)}"


_MSE, _DEAD = attrgetter("mse"), attrgetter("dead")


def _mean(parts: list[np.ndarray]) -> float:
    values = np.concatenate([np.ravel(p) for p in parts])
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def _table(rows: list[experiment.SummaryRow]) -> Table:
    """One line a row, narrow enough for 80 columns: an optimiser's name, below it its settings."""
    table = Table(
        title="Dead units and fit on all training rows: mean [95 % interval] over n seeds",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("optimiser", no_wrap=True)
    for heading in ("γ", "dead %", "MSE ÷ γ²", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in dict.fromkeys(row.rule.name for row in rows):
        own = [row for row in rows if row.rule.name == name]
        options = own[0].rule.options()
        labels = [name, options] + [""] * len(own) if len(own) > 1 else [f"{name}, {options}"]
        for i, row in enumerate(own):
            n = f"{row.dead.n}" + (f" + {row.diverged} diverged" if row.diverged else "")
            dead, mse = _interval(row.dead, lambda share: f"{100 * share:.1f}"), _interval(row.mse, _short)
            table.add_row(labels[i], f"{row.gamma:g}", dead, mse, n, end_section=i == len(own) - 1)
    return table


def _interval(e: experiment.Estimate, text: Callable[[float], str]) -> str:
    return f"{text(e.mean)} [{text(e.low)}, {text(e.high)}]" if e.n else "–"


def _short(x: float) -> str:
    """Two significant digits, without an exponent while that is short."""
    return f"{x:,.0f}" if 100 <= abs(x) < 1e6 else f"{x:.2g}"


def _verdict(rows: list[experiment.SummaryRow]) -> str:
    """Which optimisers show more dead units at the smallest γ than at the largest, and which show no difference."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(row.rule.name for row in rows):
        own = sorted((row for row in rows if row.rule.name == name), key=lambda row: row.gamma)
        small, large = own[0], own[-1]
        if len(own) < 2 or small.dead.n < 2 or large.dead.n < 2:
            continue
        scales = f"at γ = {small.gamma:g} than at γ = {large.gamma:g} (the 95 % intervals do not overlap)"
        if small.dead.low > large.dead.high:
            says = f"more units are dead {scales}"
        elif small.dead.high < large.dead.low:
            says = f"fewer units are dead {scales}"
        else:
            says = f"no difference shown between γ = {small.gamma:g} and γ = {large.gamma:g}"
        found.setdefault(says, []).append(name)
    return "\n".join(f"{'; '.join(names)}: {says}." for says, names in found.items())


@app.command()
def reproduce(
    names: Annotated[list[str], typer.Argument(help="Figures of the paper: fig2, fig3, fig4, fig5.")],
    folder: Annotated[Path, typer.Option(help="Where name.png, .svg and .parquet (the numbers) are written.")] = Path("."),
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Draw figures of the paper again, exactly and as the paper drew them, and say how they compare."""
    from .experiments.reproduce import FIGURES, save

    console = Console()
    for name in names:
        if name not in FIGURES:
            _fail(console, f"there is no figure called {name!r}; expected {', '.join(FIGURES)}")
    _check_figure(folder / "figure.png", console)
    try:
        for name in dict.fromkeys(names):
            with Progress(console=console, disable=not console.is_terminal) as bar:
                task = bar.add_task(name, total=None)
                columns = FIGURES[name].run(workers, lambda done, total: bar.update(task, completed=done, total=total))
            for sentence in FIGURES[name].sentences(columns):
                console.print(sentence, markup=False, highlight=False)
            paths = save(name, FIGURES[name].draw(columns), columns, folder)
            console.print(f"Written: {', '.join(map(str, paths))}", markup=False, highlight=False)
    except KeyboardInterrupt:
        console.print("Stopped; figures that were finished are kept.")
        raise typer.Exit(130) from None


def main() -> None:
    """The entry point of the `minirelu` command."""
    app()


if __name__ == "__main__":
    main()
