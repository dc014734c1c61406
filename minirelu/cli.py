"""The command line: `minirelu study`, `reproduce`, `report`, `sweep` (cli_sweep.py), `causes` and `diagnose` (cli_causes.py).

Commands and options, nothing else.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ImportError as error:
    sys.exit(f"The command line needs typer and rich ({error}); install them with: pip install 'minirelu[lab]'")

from . import cli_causes, cli_sweep, sweep
from . import data as data_sets
from .data.table import Table
from .errors import StoreError
from .experiments import folder, plans, screen
from .experiments import study as experiment
from .experiments import sweeps as looks
from .experiments.figures import dead_and_error, dead_over_time
from .experiments.summary import paragraph, summary
from .files import check_place
from .sweep.processes import CORES
from .terminal import again, check_installed, fail, print_table, progress, say, spoken

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The laboratory for the dying ReLU.")
app.add_typer(cli_sweep.app, name="sweep")
app.command()(cli_causes.causes)
app.command()(cli_causes.diagnose)


@app.callback()
def _root() -> None:
    """The laboratory for the dying ReLU."""
    check_installed()


FIGURE_BYTES = 10**7  # more than any figure with its numbers needs
_PANELS = "Data and targets", "Net", "Training", "Machine and output"
_data, _net, _training, _machine = (functools.partial(typer.Option, rich_help_panel=panel) for panel in _PANELS)


@app.command()
def study(
    data: Annotated[
        str | None,
        _data(help=f"{', '.join(data_sets.SETS)}; openml:NAME_OR_ID; or a CSV file.", show_default="diabetes"),
    ] = None,
    target: Annotated[str | None, _data(help="The column to predict.")] = None,
    gamma: Annotated[str | None, _data(help="Target scales γ.", show_default="1,1e-2,1e-4")] = None,
    delta: Annotated[str | None, _data(help="Target shifts δ.", show_default="0")] = None,
    optimizer: Annotated[
        str | None,
        _training(help=f"Some of {', '.join(plans.RULES)}.", show_default="all but the last"),
    ] = None,
    lr: Annotated[str | None, _training(help="Learning rates, for every optimiser.", show_default="its own")] = None,
    beta: Annotated[str | None, _training(help="Momenta, for those that have one.", show_default="0.9")] = None,
    depth: Annotated[str | None, _net(help="Hidden layers.", show_default="1")] = None,
    width: Annotated[str | None, _net(help="ReLUs a hidden layer.", show_default="200")] = None,
    residual: Annotated[bool, _net("--residual", help="Residual blocks from layer 2 on.")] = False,
    batch_norm: Annotated[bool, _net("--batch-norm", help="Batch norm before each ReLU.")] = False,
    batch: Annotated[str | None, _training(help="Rows a minibatch.", show_default="64")] = None,
    steps: Annotated[int | None, _training(help="Training steps.", show_default="60000", min=1)] = None,
    seeds: Annotated[str | None, _training(help="How many (8), or which (0,5,7).", show_default="3")] = None,
    every: Annotated[
        int | None,
        _training(help="Steps between two measurements.", show_default="a 20th of all", min=1),
    ] = None,
    dtype: Annotated[str | None, _machine(help="float32 or float64.", show_default="float32")] = None,
    kernels: Annotated[str | None, _machine(help="auto, reference, numba or cuda.", show_default="auto")] = None,
    device: Annotated[str | None, _machine(help="cpu or cuda.", show_default="cpu")] = None,
    workers: Annotated[int, _machine(help="Processes, one thread each; one a core.", min=1)] = CORES,
    out: Annotated[Path, _machine(help="Folder of the results; a study in it goes on.")] = Path("study"),
    fresh: Annotated[bool, _machine("--fresh", help="Replace what the folder holds.")] = False,
    paper: Annotated[bool, _data("--paper", help=plans.PAPER_SAYS)] = False,
) -> None:
    """Train the paper's net at several target scales, and count the units that die.

    Lists go by commas; every combination is trained. Without options it takes under a minute on two cores.
    """
    given = dict(locals())
    console = Console()
    with spoken(console, out):
        plan = plans.from_options({name: given[name] for name in plans.OPTIONS}, paper)
        plans.check_machine(plan)
        found = data_sets.read(plan.data, plan.target)
        experiment.check(plan)
        check_place(str(out), FIGURE_BYTES)
        if fresh:
            folder.clear(out)
    say(console, f"{found.note}.", "Data   ")
    say(console, plans.describe(plan), "Study  ")
    with spoken(console, out, lambda: _kept(plan, out)):
        with looks.progress(console) as show:
            report = experiment.run(
                plan, out, workers=workers, on_progress=show, on_start=lambda report: _resumed(console, report)
            )
        if report.failed:
            fail(console, f"{report.why}\nA training failed, as above. {_kept(plan, out)}; {again()}")
        _show(console, plan, experiment.collect(plan, out), found, out)


def _resumed(console: Console, report: sweep.Report) -> None:
    if report.found:
        left = report.runs - report.found
        say(console, f"{report.found} finished trainings were found; {left or 'none'} left to do.")


def _show(console: Console, plan: experiment.Plan, outcomes: list[experiment.Outcome], found: Table, out: Path) -> None:
    print_table(console, screen.table(summary(outcomes)))
    say(console, paragraph(outcomes, plans.name(plan)))
    folder.write(outcomes, plan, found, out)
    title = plans.title(plan)
    paths = [*dead_and_error(outcomes, out, title), *dead_over_time(outcomes, out, title)]
    names = ", ".join([*folder.TABLES, *(os.path.basename(path) for path in paths)])
    say(console, f"{names}.", f"Written to {out}: ")


def _kept(plan: experiment.Plan, out: Path) -> str:
    try:
        done = sweep.status(out).done
    except StoreError:  # it had not begun
        done = 0
    return f"{done} of {len(plan.replicas())} trainings are finished and kept in {out}"


@app.command()
def reproduce(
    names: Annotated[list[str], typer.Argument(help="Some of fig1, fig2, …, fig6, blocks, momentum.")],
    out: Annotated[Path, typer.Option(help="Folder for name.png, .svg, .parquet (the numbers), and the runs.")] = Path(
        "figures"
    ),
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = CORES,
    quick: Annotated[bool, typer.Option("--quick", help="Nets: fewer steps and seeds, some minutes.")] = False,
    data: Annotated[str | None, typer.Option(help="Nets: data sets by commas.", show_default="the paper's four")] = None,
    seeds: Annotated[int | None, typer.Option(help="Nets: seeds a setting.", show_default="8; fig6 4, blocks 2", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Nets: training steps.", show_default="the paper's", min=1)] = None,
    width: Annotated[int | None, typer.Option(help="fig6: units a layer.", show_default="200", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="fig6: rows a step.", show_default="64", min=2)] = None,
    lr: Annotated[float | None, typer.Option(help="fig6: Adam's learning rate.", show_default="0.001")] = None,
    sgd_lr: Annotated[float | None, typer.Option(help="fig6: SGD's learning rate.", show_default="0.001")] = None,
) -> None:
    """Do figures of the paper again, and say how they compare. Those that train nets resume in the same folder."""
    from .experiments import reproduce as figures

    console = Console()
    for name in names:
        if name not in figures.EVERY:
            fail(console, f"there is no figure called {name!r}; expected {', '.join(figures.EVERY)}")
    with spoken(console, out):
        open_ = {"width": width, "batch": batch, "lr": lr, "sgd_lr": sgd_lr}
        figures.check_given(names, quick=quick, data=data, seeds=seeds, steps=steps, **open_)
        sizes = {name: figures.sized(name, quick, data, seeds=seeds, steps=steps, **open_) for name in names}
        check_place(str(out), FIGURE_BYTES * len(names))
        for name, size in sizes.items():
            _foretell(console, figures.predicted(name, out / "runs", size), workers)
            with progress(console) as show:
                columns = figures.numbers(name, out / "runs", workers, functools.partial(show, name=name), size)
            module = {**figures.FIGURES, **figures.NETWORKS}[name]
            for sentence in module.sentences(columns):
                console.print(sentence, markup=False, highlight=False)
            paths = figures.save(name, module.draw(columns), columns, out)
            console.print(f"Written: {', '.join(map(str, paths))}", markup=False, highlight=False)


def _foretell(console: Console, seconds: float, workers: int, besides: str = "") -> None:
    """The cost model's prediction, where there is something to train."""
    if seconds:
        from .experiments.sweeps import duration

        said = f"The cost model expects {duration(seconds / workers)} of training on {workers} idle cores{besides}."
        console.print(said, markup=False, highlight=False)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder for report.html, report.json, and the runs.")] = Path("report"),
    quick: Annotated[bool, typer.Option("--quick", help="Every claim with fewer steps and seeds, under 10 minutes.")] = False,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train what is missing, or report what is there.")] = True,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = CORES,
) -> None:
    """Measure every claim of the paper that is not measured yet, and the known causes of dying ReLU; write one page."""
    from .experiments import report as reports

    console = Console()
    with spoken(console, out):
        check_place(str(out), FIGURE_BYTES)
        found = []
        if train:
            _foretell(console, reports.predicted(out / "runs", quick), workers, ", besides the causes")
        with progress(console) as show:
            on_progress = lambda name, done, total: show(done, total, name)
            for part in reports.parts(out / "runs", quick, workers, on_progress, train):
                found.append(part)
                for f in part.findings:
                    said = f"{f.ours}; n = {f.n:,}" if f.n else f.why or f.ours
                    console.print(f"{f.verdict}: {f.claim.text}. {said}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"Written: {', '.join(map(str, reports.write(found, out, quick)))}", markup=False, highlight=False)


def main() -> None:
    """The entry point of the `minirelu` command. Ctrl-C is heard once: what keeps the results is not to be stopped half-way."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    app()


if __name__ == "__main__":
    main()
