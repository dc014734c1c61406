"""The command line: `minirelu study`, `reproduce`, `report`, `sweep` (cli_sweep.py), `causes` and `diagnose` (cli_causes.py).

Commands and options, nothing else.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated, NoReturn

try:
    import typer
    from rich.console import Console
    from rich.progress import Progress
except ImportError as error:
    sys.exit(f"The command line needs typer and rich ({error}); install them with: pip install 'minirelu[lab]'")

from . import cli_causes, cli_sweep
from . import data as data_sets
from .errors import BackendUnavailableError, DataError
from .experiments import plans, screen
from .experiments import study as experiment
from .experiments.figures import dead_and_error, dead_over_time
from .experiments.folder import Folder, facts
from .experiments.summary import paragraph, summary
from .files import check_place

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The laboratory for the dying ReLU.")
app.add_typer(cli_sweep.app, name="sweep")
app.command()(cli_causes.causes)
app.command()(cli_causes.diagnose)


@app.callback()
def _root() -> None:
    """The laboratory for the dying ReLU."""


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
FIGURE_BYTES = 10**7  # more than any figure with its numbers needs
DATA, NET, TRAINING, MACHINE = "Data and targets", "Net", "Training", "Machine and output"


@app.command()
def study(
    data: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(data_sets.SETS)}; openml:NAME_OR_ID; or a CSV file [diabetes].", rich_help_panel=DATA),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict.", rich_help_panel=DATA)] = None,
    gamma: Annotated[str | None, typer.Option(help="Target scales γ [1,1e-2,1e-4].", rich_help_panel=DATA)] = None,
    delta: Annotated[str | None, typer.Option(help="Target shifts δ [0].", rich_help_panel=DATA)] = None,
    optimizer: Annotated[
        str | None, typer.Option(help=f"Some of {', '.join(plans.RULES)} [all but the last].", rich_help_panel=TRAINING)
    ] = None,
    lr: Annotated[
        str | None, typer.Option(help="Learning rates, for every optimiser [its own].", rich_help_panel=TRAINING)
    ] = None,
    beta: Annotated[str | None, typer.Option(help="Momenta, for those that have one [0.9].", rich_help_panel=TRAINING)] = None,
    depth: Annotated[str | None, typer.Option(help="Hidden layers [1].", rich_help_panel=NET)] = None,
    width: Annotated[str | None, typer.Option(help="ReLUs a hidden layer [200].", rich_help_panel=NET)] = None,
    residual: Annotated[bool, typer.Option("--residual", help="Residual blocks from layer 2 on.", rich_help_panel=NET)] = False,
    batch_norm: Annotated[bool, typer.Option("--batch-norm", help="Batch norm before each ReLU.", rich_help_panel=NET)] = False,
    batch: Annotated[str | None, typer.Option(help="Rows a minibatch [64].", rich_help_panel=TRAINING)] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps [60000].", min=1, rich_help_panel=TRAINING)] = None,
    seeds: Annotated[str | None, typer.Option(help="How many (8), or which (0,5,7) [3].", rich_help_panel=TRAINING)] = None,
    every: Annotated[
        int | None, typer.Option(help="Steps between two measurements [a 20th of all].", min=1, rich_help_panel=TRAINING)
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64 [float32].", rich_help_panel=MACHINE)] = None,
    kernels: Annotated[str | None, typer.Option(help="auto, reference, numba or cuda [auto].", rich_help_panel=MACHINE)] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda [cpu].", rich_help_panel=MACHINE)] = None,
    workers: Annotated[
        int, typer.Option(help="Processes, one thread each; one a core.", min=1, rich_help_panel=MACHINE)
    ] = CORES,
    out: Annotated[Path, typer.Option(help="Folder of the results; a study in it goes on.", rich_help_panel=MACHINE)] = Path(
        "study"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what the folder holds.", rich_help_panel=MACHINE)] = False,
    paper: Annotated[bool, typer.Option("--paper", help=plans.PAPER_SAYS, rich_help_panel=DATA)] = False,
) -> None:
    """Train the paper's net at several target scales, and count the units that die.

    Lists go by commas; every combination is trained. Without options it takes under a minute on two cores.
    """
    given = dict(locals())
    console = Console()
    try:
        plan = plans.from_options({name: given[name] for name in plans.OPTIONS}, paper)
        plans.check_machine(plan)
        found = data_sets.read(plan.data, plan.target)
        X, y = (data_sets.standardised(columns)[0] for columns in (found.X, found.y))
        folder = Folder(out, plan, facts(found.note, X, y))
        finished = folder.prepare(fresh)
    except (DataError, BackendUnavailableError, ValueError) as error:
        _fail(console, str(error))
    _introduce(console, plan, found.note, len(finished))
    shards = plan.shards(plan.missing(finished))
    try:
        with screen.progress(plan, shards, console) as show:
            outcomes = experiment.run(
                plan,
                workers=1 if plan.device == "cuda" else workers,
                on_progress=show,
                on_outcomes=folder.keep,
                finished=finished,
                loaded=(X, y),
            )
        _show(console, plan, outcomes, found.note, out)
    except KeyboardInterrupt:
        _stopped(console, folder)
    except BrokenProcessPool:
        _fail(console, f"A worker process was killed, perhaps for want of memory. What was finished is kept; {_again()}")
    except OSError as error:
        _fail(console, f"Writing to {out} failed: {error.strerror}. What was finished before is kept; {_again()}")


def _introduce(console: Console, plan: experiment.Plan, note: str, finished: int) -> None:
    console.print(f"[bold]Data[/bold]   {note}.", highlight=False)
    console.print(f"[bold]Study[/bold]  {plans.describe(plan)}", highlight=False)
    if finished:
        left = len(plan.replicas()) - finished
        console.print(f"{finished} finished trainings were found; {left or 'none'} left to do.", highlight=False)


def _show(console: Console, plan: experiment.Plan, outcomes: list[experiment.Outcome], note: str, out: Path) -> None:
    console.print(screen.table(summary(outcomes)))
    console.print(paragraph(outcomes, plans.name(plan)), highlight=False)
    title = plans.title(plan)
    paths = [*dead_and_error(outcomes, out, title), *dead_over_time(outcomes, out, title)]
    names = ", ".join(["results.parquet", "config.json", *(os.path.basename(path) for path in paths)])
    console.print(f"[bold]Written to {out}:[/bold] {names}.", highlight=False)


def _again() -> str:
    """The command that goes on where this one stopped."""
    options = [word for word in sys.argv[1:] if word != "--fresh"]
    return f"go on with:\n  minirelu {shlex.join(options)}"


def _stopped(console: Console, folder: Folder) -> NoReturn:
    done, all_of = len(folder.outcomes), len(folder.plan.replicas())
    console.print(f"Stopped. {done} of {all_of} trainings are finished and kept in {folder.path}; {_again()}", highlight=False)
    raise typer.Exit(130)


def _fail(console: Console, message: str) -> NoReturn:
    console.print(message, style="red", markup=False, highlight=False)
    raise typer.Exit(2)


@app.command()
def reproduce(
    names: Annotated[list[str], typer.Argument(help="Some of fig1, fig2, fig3, fig4, fig5, momentum.")],
    out: Annotated[Path, typer.Option(help="Folder for name.png, .svg, .parquet (the numbers), and the runs.")] = Path(
        "figures"
    ),
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    quick: Annotated[bool, typer.Option("--quick", help="Nets: fewer steps and seeds, some minutes.")] = False,
    data: Annotated[str | None, typer.Option(help="Nets: data sets by commas [the paper's four].")] = None,
    seeds: Annotated[int | None, typer.Option(help="Nets: seeds a setting [8].", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Nets: training steps [250000].", min=1)] = None,
) -> None:
    """Do figures of the paper again, and say how they compare. Those that train nets resume in the same folder."""
    from .experiments import reproduce as figures

    console = Console()
    for name in names:
        if name not in figures.EVERY:
            _fail(console, f"there is no figure called {name!r}; expected {', '.join(figures.EVERY)}")
    try:
        check_place(str(out), FIGURE_BYTES * len(names))
        for name in dict.fromkeys(names):
            size = figures.sized(name, quick, data, seeds, steps)
            with Progress(console=console, disable=not console.is_terminal) as bar:
                task = bar.add_task(name, total=None)
                columns = figures.numbers(
                    name, out / "runs", workers, lambda done, total: bar.update(task, completed=done, total=total), size
                )
            module = {**figures.FIGURES, **figures.NETWORKS}[name]
            for sentence in module.sentences(columns):
                console.print(sentence, markup=False, highlight=False)
            paths = figures.save(name, module.draw(columns), columns, out)
            console.print(f"Written: {', '.join(map(str, paths))}", markup=False, highlight=False)
    except ValueError as error:
        _fail(console, str(error))
    except KeyboardInterrupt:
        console.print("Stopped; what was finished is kept, and the same command goes on.")
        raise typer.Exit(130) from None


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json, and the runs.")] = Path("report"),
    quick: Annotated[bool, typer.Option("--quick", help="Every claim with fewer steps and seeds, under 10 minutes.")] = False,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train what is missing, or report what is there.")] = True,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Measure every claim of the paper that is not measured yet, and write one page about all of them."""
    from .experiments import report as reports

    console = Console()
    try:
        check_place(str(out), FIGURE_BYTES)
        found = []
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=None)
            show = lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
            for part in reports.parts(out / "runs", quick, workers, show, train):
                found.append(part)
                for f in part.findings:
                    said = f"{f.ours}; n = {f.n:,}" if f.n else f.why or f.ours
                    console.print(f"{f.verdict}: {f.claim.text}. {said}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"Written: {', '.join(map(str, reports.write(found, out, quick)))}", markup=False, highlight=False)
    except ValueError as error:
        _fail(console, str(error))
    except KeyboardInterrupt:
        console.print("Stopped; trainings that were finished are kept, and the same command goes on.")
        raise typer.Exit(130) from None


def main() -> None:
    """The entry point of the `minirelu` command. Ctrl-C is heard once: what keeps the results is not to be stopped half-way."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    app()


if __name__ == "__main__":
    main()
