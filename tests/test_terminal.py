"""What the commands say: nothing is taken for markup, no column is lost, and commands can be copied."""

import io
import sys

import pytest
import typer
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from minirelu import cli, seldom, terminal
from minirelu.errors import BackendUnavailableError

BRACKETS = "prices[eur] of [/b] in [red]"


def printed(say, width=30, tty=False):
    file = io.StringIO()
    say(Console(file=file, width=width, force_terminal=tty, color_system=None))
    return file.getvalue()


def test_brackets_are_brackets():
    assert printed(lambda console: terminal.say(console, BRACKETS, "Head [1]  ", whole=True)) == f"Head [1]  {BRACKETS}\n"

    def fails(console):
        with pytest.raises(typer.Exit) as stopped:
            terminal.fail(console, BRACKETS)
        assert stopped.value.exit_code == 2

    assert BRACKETS in printed(fails)


def wide():
    table = Table()
    for name in ("first", "second", "third", "last"):
        table.add_column(name, overflow="fold")
    table.add_row(*(f"{k}{'x' * 12}" for k in range(4)))
    return table


def test_no_column_of_a_table_is_lost():
    piped = printed(lambda console: terminal.print_table(console, wide()))
    assert all(f"{k}{'x' * 12}" in piped for k in range(4))
    narrow = printed(lambda console: terminal.print_table(console, wide()), tty=True)
    assert max(map(len, narrow.splitlines())) <= 30
    assert narrow.count("x") == 4 * 12


def test_the_command_that_goes_on_does_not_begin_afresh(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["minirelu", "study", "--fresh", "--out", "a b"])
    assert terminal.again() == "go on with:\n  minirelu study --out 'a b'"


@pytest.mark.parametrize(
    ("stop", "status", "said"),
    [
        (ValueError("wrong [input]"), 2, "wrong [input]"),
        (KeyboardInterrupt(), 130, "Stopped. All of it; go on with: minirelu study"),
        (OSError(28, "No space left on device"), 2, "Writing to here failed: No space left on device. All of it; go on"),
        (BackendUnavailableError("no card"), 2, "no card"),
        (typer.Exit(3), 3, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stops_a_command_is_a_sentence(monkeypatch, stop, status, said):
    monkeypatch.setattr(sys, "argv", ["minirelu", "study"])

    def command(console):
        with pytest.raises(typer.Exit) as ended, terminal.spoken(console, "here", lambda: "All of it"):
            raise stop
        assert ended.value.exit_code == status

    assert " ".join(printed(command, width=200).split()).startswith(said)


@pytest.mark.parametrize("command", ["study", "sweep", "reproduce"])
def test_what_is_not_installed_is_said_before_anything_is_done(monkeypatch, command):
    monkeypatch.setattr(terminal, "find_spec", lambda name: None if name == "polars" else name)
    result = CliRunner().invoke(cli.app, [command, "fig2"])
    assert result.exit_code == 1
    assert "needs polars; install with: pip install 'minirelu[lab]'" in str(result.exception or result.output)


def test_the_help_shows_the_defaults():
    said = " ".join(CliRunner().invoke(cli.app, ["study", "--help"], env={"COLUMNS": "200"}).output.split())
    for default in ("(diabetes)", "(all but the last)", "(60000)", "(its own)"):
        assert f"[default: {default}]" in said


def test_progress_without_a_terminal_is_a_line_now_and_then_and_at_the_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(seldom.time, "monotonic", lambda: now[0])

    def run(console):
        with terminal.progress(console) as show:
            show(0, 0, "nothing to do")
            for done in range(6):
                now[0] += 4
                show(done, 5, "fig6")

    assert printed(run, 80).splitlines() == ["fig6: 2 of 5", "fig6: 5 of 5"]


def test_progress_in_a_terminal_is_a_bar():
    def run(console):
        with terminal.progress(console) as show:
            show(1, 4, "fig6")

    assert "fig6" in (said := printed(run, 80, tty=True))
    assert "25%" in said
