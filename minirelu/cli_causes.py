"""`minirelu causes` and `minirelu diagnose`: options, tables and sentences, nothing else."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import data as data_sets
from .files import check_place, write_atomically
from .sweep.processes import CORES
from .terminal import print_table, progress, say, spoken

if TYPE_CHECKING:
    from .causes.recipe import Recipe

ROOM = 5 * 10**6  # bytes of results and figures, generously
_net, _data, _training = (
    functools.partial(typer.Option, rich_help_panel=panel) for panel in ("Net", "Data and targets", "Training")
)


def causes(
    remedies: Annotated[bool, typer.Option("--remedies", help="Also every remedy against every cause.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer steps and seeds, under 3 minutes on two cores.")] = False,
    data: Annotated[str | None, typer.Option(help="Data sets by commas.", show_default="diabetes,airfoil,real_estate")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds a setting.", show_default="8; quick: 3", min=2)] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.", show_default="4000; quick: 1000", min=40)] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = CORES,
    out: Annotated[Path, typer.Option(help="Folder of runs, tables and figures; goes on where it stopped.")] = Path("causes"),
) -> None:
    """Measure what kills ReLUs, dose by dose: dead units at birth and since, lost capacity, slower convergence."""
    from .experiments import causes as bench
    from .experiments import causes_words as words
    from .experiments.networks import asked, needed, present

    console = Console()
    with spoken(console, out):
        usual = bench.QUICK if quick else bench.FULL
        sets = asked(data, usual.data)
        size = usual._replace(data=tuple(needed(sets)), seeds=seeds or usual.seeds, steps=steps or usual.steps)
        for why in present(sets)[1].values():
            say(console, f"{why}.", "Left out: ")
        check_place(out, ROOM)
        with progress(console) as show:
            bench.train(out / "runs", size, workers, show, remedies)
        rows = bench.collect(out / "runs", size)
        for rule, name in words.RULE_NAMES.items():
            title = f"Causes, {name}, {size.steps:,} steps, on {words.sets(rows)}"
            print_table(console, _table(title, words.CAUSE_HEADS, words.cause_lines(rows, rule)))
        if remedies:
            _remedies(console, rows)
        paths = _written(out, rows, remedies)
        say(console, f"Written: {', '.join(map(str, paths))}")


def _table(title: str, heads: tuple[str, ...], lines: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left", overflow="fold")
    for line in lines:
        table.add_row(*line)
    return table


def _remedies(console: Console, rows: list[Any]) -> None:
    from .causes import cases
    from .experiments import causes_words as words

    heads = ("cause", "none", *(remedy.key.replace("_", " ") for remedy in cases.REMEDIES))
    title = f"Silent units in the worst layer, %, Adam, on {words.sets(rows)}"
    print_table(console, _table(title, heads, words.remedy_lines(rows)))
    for sentence in words.recommendations(rows):
        say(console, sentence)


def _written(out: Path, rows: list[Any], remedies: bool) -> list[Path]:
    from .experiments import causes_figures as figures
    from .experiments import causes_words as words

    paths = [out / "causes.json", out / "causes.md"]
    for path, text in zip(paths, (words.as_json(rows), words.markdown(rows)), strict=True):
        write_atomically(path, lambda file, t=text: file.write(t.encode()))  # type: ignore[misc]
    drawn = {"causes": figures.responses, "consequences": figures.consequences}
    drawn |= {"remedies": figures.remedies} if remedies else {}
    for name, draw in drawn.items():
        figure = draw(rows)
        paths.append(out / f"{name}.png")
        write_atomically(paths[-1], lambda file, f=figure: f.savefig(file, format="png", dpi=130))  # type: ignore[misc]
    return paths


# -------------------------------------------------------------------------------------------------------------- diagnose


def diagnose(
    data: Annotated[str, typer.Argument(help=f"{', '.join(data_sets.SETS)}; openml:NAME_OR_ID; or a CSV file.")],
    target: Annotated[str | None, _data(help="The column to predict.")] = None,
    inputs: Annotated[str, _data(help="standard, or raw: as they are.")] = "standard",
    targets: Annotated[str, _data(help="standard, or raw: as they are.")] = "standard",
    gamma: Annotated[float, _data(help="The targets are multiplied by this.")] = 1.0,
    delta: Annotated[float, _data(help="Then this is added to them.")] = 0.0,
    net: Annotated[Path | None, _net(help="A net of nn.save: its units are counted, its widths used.")] = None,
    widths: Annotated[str | None, _net(help="Units of the hidden layers.", show_default="64,64")] = None,
    activation: Annotated[str, _net(help="relu, leaky_relu, prelu or elu.")] = "relu",
    batch_norm: Annotated[bool, _net("--batch-norm", help="Before the activation.")] = False,
    init: Annotated[str, _net(help="torch_default, he, xavier, lecun, rai, or constant:VALUE.")] = "torch_default",
    init_scale: Annotated[float, _net(help="Factor of the hidden weights and biases.")] = 1.0,
    negative: Annotated[float, _net(help="Share of negative hidden weights.")] = 0.5,
    bias: Annotated[float, _net(help="Added to the hidden biases.")] = 0.0,
    optimizer: Annotated[str, _training(help="adam, sgd, heavy_ball, nesterov, ema.")] = "adam",
    lr: Annotated[float | None, _training(help="Learning rate.", show_default="adam 0.001, else 0.01")] = None,
    clip: Annotated[float, _training(help="Largest norm of the gradient; 0: any.")] = 0.0,
    batch: Annotated[int, _training(help="Rows a minibatch.")] = 32,
    steps: Annotated[int, _training(help="Training steps.", min=1)] = 5000,
    seeds: Annotated[int, _training(help="Runs, with the seeds 0, 1, …", min=2)] = 8,
    alarm: Annotated[float, typer.Option(help="Silent share of a layer that is to be explained.", min=0, max=1)] = 0.25,
) -> None:
    """Why units die in your own training: run it again, with one suspect changed at a time, from the same seeds."""
    from .causes import diagnose as diagnosis
    from .causes.settings import OPTIONS, recipe_of

    console, given = Console(), dict(locals())
    with spoken(console, "the terminal", lambda: "A diagnosis keeps nothing and begins anew"):
        table = data_sets.read(data, target)
        saved = None
        if net is not None:
            saved, shape = _saved(net, table, {name: given[name] for name in ("widths", "activation", "batch_norm")})
            given |= {"widths": ",".join(map(str, shape.widths)), "batch_norm": shape.batch_norm}
        given["widths"] = "64,64" if given["widths"] is None else given["widths"]
        recipe = recipe_of(table.y, **{name: given[name] for name in OPTIONS})
        say(console, f"{table.note}. {_described(recipe)}; {steps:,} steps, {seeds} seeds.")
        if saved is not None:
            say(console, _counted(saved, recipe, table))
        with progress(console) as show:
            found = diagnosis.diagnose(table.X, table.y, recipe, steps, range(seeds), alarm, show, saved is not None)
        for sentence in diagnosis.sentences(found):
            say(console, sentence)
        if found.tested:
            print_table(console, _table("Each change alone", diagnosis.HEADS, diagnosis.lines(found)))


def _saved(path: Path, table: Any, given: dict[str, Any]) -> tuple[Any, Any]:
    """The net and its shape, which `given` may repeat but not contradict."""
    from .causes.saved import opened

    net, shape = opened(path)
    if shape.inputs != table.X.shape[1]:
        raise ValueError(f"{path} takes {shape.inputs} inputs, the data has {table.X.shape[1]}; give the data it is for")
    own = {"widths": ",".join(map(str, shape.widths)), "activation": "relu", "batch_norm": shape.batch_norm}
    for name, value in given.items():
        if value not in (None, False, own[name]):
            is_ = "no batch norm" if name == "batch_norm" else own[name]
            raise ValueError(f"--{name.replace('_', '-')} was given, but {path} has {is_}; leave the option out")
    return net, shape


def _counted(net: Any, recipe: Recipe, table: Any) -> str:
    from .causes.recipe import prepared
    from .causes.saved import units

    found = units(net, prepared(recipe, table.X))
    layers = enumerate(zip(found, recipe.widths, strict=True), 1)
    said = [
        f"{dead} of {width} in layer {k}" + (f", where {wild} are not finite" if wild else "")
        for k, ((dead, wild), width) in layers
    ]
    counted = f"dead units on these {len(table.X):,} rows: {'; '.join(said)}"
    return f"The saved net: {counted}. Its settings, run again from other seeds:"


def _described(recipe: Recipe) -> str:
    """The settings in a line."""
    scaled = "raw" if recipe.raw else "standardised"
    return (
        f"Net {'-'.join(map(str, recipe.widths))} of {recipe.activation}{', batch norm' * recipe.batch_norm}; "
        f"{recipe.optimizer} at {recipe.lr:g}; {scaled} inputs; targets of spread {recipe.gamma:.3g} around {recipe.delta:.3g}"
    )
