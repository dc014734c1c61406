"""What the tests of experiments on nets have in common: the command, short, on a set that is drawn."""

from typer.testing import CliRunner

from minirelu import cli


def reproduced(out, name, *options, steps=30):
    """(folder, what was said) of `minirelu reproduce NAME` with two seeds on sine, which has written what it should."""
    size = ["--data", "sine", "--seeds", "2", "--steps", str(steps), "--workers", "1", *options]
    result = CliRunner().invoke(cli.app, ["reproduce", name, *size, "--out", str(out)], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {f"{name}.png", f"{name}.svg", f"{name}.parquet", "runs"}
    return out, result.output
