"""How the commands speak: sentences as they are, tables that lose no column, errors in red, and the command that goes on.

- `say(console, text, head="")`: a sentence in which square brackets are square brackets.
- `print_table(console, table)`: as wide as it must be where nobody watches, folded where a terminal is too narrow.
- `fail(console, message)`: ends the command.           - `again()`: what to type to go on.
- `spoken(console, out)`: a context in which whatever stops a command becomes a sentence and an exit status.
- `progress(console)`: a bar; without a terminal a line every ten seconds.
- `check_installed()`: that what the commands need is there, before they begin.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NoReturn

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from .errors import BackendUnavailableError
from .seldom import seldom

NEEDED = ("matplotlib", "polars", "sklearn")


def say(console: Console, text: str, head: str = "", whole: bool = False) -> None:
    """Print `text`, after `head` in bold; `whole` leaves line ends to the terminal, so that commands can be copied."""
    console.print(Text.assemble((head, "bold"), text), highlight=False, soft_wrap=whole)


def fail(console: Console, message: str, status: int = 2) -> NoReturn:
    """Say what is wrong in red, and end with the exit status."""
    console.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(status)


@contextmanager
def spoken(console: Console, out: object, kept: Callable[[], str] = lambda: "What was finished is kept") -> Iterator[None]:
    """What stops a command, as a sentence and an exit status; `kept` says what there is in `out` for the next time."""
    try:
        yield
    except (ValueError, BackendUnavailableError) as error:  # wrong input
        fail(console, str(error))
    except KeyboardInterrupt:
        say(console, f"Stopped. {kept()}; {again()}", whole=True)
        raise typer.Exit(130) from None
    except OSError as error:
        fail(console, f"Writing to {out} failed: {error.strerror}. {kept()}; {again()}")


def again() -> str:
    """The command that goes on where this one stopped."""
    return f"go on with:\n  minirelu {shlex.join(word for word in sys.argv[1:] if word != '--fresh')}"


def print_table(console: Console, table: Table) -> None:
    """A pipe or a file takes any width; in a terminal that is too narrow, cells are folded and none is dropped."""
    if not console.is_terminal:
        needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
        console = Console(file=console.file, width=max(console.width, needed))
    console.print(table)


@contextmanager
def progress(console: Console) -> Iterator[Callable[..., None]]:
    """`show(done, total, name="trainings")` moves a bar; without a terminal it prints a line now and then, and at the end."""
    if not console.is_terminal:
        due = seldom()

        def line(done: int, total: int, name: str = "trainings") -> None:
            if total and due(done == total):
                say(console, f"{name}: {done:,} of {total:,}")

        yield line
        return
    with Progress(console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, name="trainings": bar.update(task, description=name, completed=done, total=total)


def check_installed() -> None:
    """Raise `SystemExit` with a sentence if a package of the extra `lab` is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SystemExit(f"The command line needs {', '.join(missing)}; install with: pip install 'minirelu[lab]'")
