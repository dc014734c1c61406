"""What the tests of experiments on nets have in common: the command, short, on a set that is drawn."""

from typer.testing import CliRunner

from minirelu import cli


def reproduced(out, name, *options, steps=30):
    """(folder, result) of `minirelu reproduce NAME` with two seeds on sine."""
    size = ["--data", "sine", "--seeds", "2", "--steps", str(steps), "--workers", "1", *options]
    return out, CliRunner().invoke(cli.app, ["reproduce", name, *size, "--out", str(out)], env={"COLUMNS": "300"})
