"""`minirelu sweep` from end to end: run, status, show, export, and what it says to wrong input."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest
import sweep_work
from typer.testing import CliRunner

from minirelu import cli, sweep
from minirelu.experiments import sweeps
from minirelu.sweep import running
from minirelu.sweep.progress import Progress

TOML = """
data = "gaussian"
gamma = [1.0, 1e-3]
seed = [0, 1, 2]
steps = 20
width = [4, 5]
[[grid]]
optimizer = "sgd"
lr = 0.1
[[grid]]
optimizer = "adam"
lr = 0.01
"""


@pytest.fixture(autouse=True)
def made_up(monkeypatch, tmp_path):
    """Made-up results, in this process."""
    monkeypatch.setattr(running, "Processes", sweep_work.Serial)
    monkeypatch.setattr(running, "train_shard", sweep_work.made_up)
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").write_text(TOML)


def invoke(*arguments):
    result = CliRunner().invoke(cli.app, ["sweep", *arguments], env={"COLUMNS": "80"})
    return result.exit_code, " ".join(result.output.split()), result.output


def test_run_status_show_and_export():
    status, words, _ = invoke("grid.toml", "--out", "runs")
    assert status == 0, words
    assert "Sweep 24 runs; 0 are in runs already, 24 are left to do." in words
    assert re.search(
        r"100 %, 24 of 24 runs, dead \d+ %, error \S+, \S+ runs/s "
        r"Done: 24 runs in \d+ s. Look at them: minirelu sweep show runs",
        words,
    )
    assert "24 are in runs already, 0 are left to do" in invoke("--workers", "1", "--out", "runs", "grid.toml")[1]
    assert "Done: 24 of 24 runs (100 %), 4 of 4 shards." in invoke("status", "runs")[1]

    status, words, output = invoke("show", "runs")
    assert status == 0, words
    assert max(map(len, output.split("Drawn")[0].splitlines())) <= 80
    assert re.search(r"gamma optimizer dead % MSE ÷ γ², geom. mean n diverged", words)
    # seeds 0 and 1 of widths 4 and 5 (seed 2 diverges): dead shares 0, 1/4, 0, 1/5
    assert re.search(r"0.001 +adam +11.2 \[0.0, 3\d.\d\] .* 4 +2 *$", output, re.MULTILINE)
    assert "A row takes runs together that differ in width: its interval is not one over seeds." in words
    assert "by-gamma-optimizer.png" in os.listdir("runs")
    assert "A row takes" not in invoke("show", "runs", "--by", "gamma,optimizer,width")[1]
    assert invoke("show", "runs", "--by", "optimizer,width,block")[0] == 0

    assert "24 runs written to all.csv" in invoke("export", "runs", "all.csv")[1]
    assert invoke("export", "runs", "all.parquet")[0] == 0
    assert pl.read_parquet("all.parquet").equals(sweep.load("runs"), null_equal=True)


SHOWN = """
import sys, threading
from minirelu import cli
from minirelu.experiments import sweeps

def full(*_):
    raise OSError(28, "No space left on device")

assert threading.active_count() == 1
if sys.argv[-1] == "full":
    sweeps.draw = full
cli.app(["sweep", "show", sys.argv[1]])
"""


def test_show_draws_in_a_process_of_its_own():
    invoke("grid.toml", "--out", "runs")
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    ran = [
        subprocess.run([sys.executable, "-c", SHOWN, *words], env=environment, capture_output=True, text=True, timeout=120)
        for words in (["runs"], ["runs", "full"], ["elsewhere"])
    ]
    assert [one.returncode for one in ran] == [0, 2, 2], ran
    assert "Drawn: runs/by-gamma-optimizer.png" in ran[0].stdout
    assert os.listdir("runs").count("by-gamma-optimizer.png") == 1
    assert "Writing to runs failed: No space left on device." in ran[1].stdout
    assert "elsewhere holds no sweep" in ran[2].stdout
    assert not any("Traceback" in one.stdout + one.stderr for one in ran)


def test_a_process_with_threads_is_not_forked():
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        with sweeps.drawing() as draw:
            assert draw is sweeps.draw
    finally:
        end.set()
        other.join()


def test_all_errors_of_a_grid_are_shown_and_nothing_is_made():
    Path("grid.toml").write_text(TOML.replace("gamma", "gama").replace("0.1", "-0.1").replace('"adam"', '"adan"'))
    status, words, _ = invoke("grid.toml", "--out", "runs")
    assert status == 2
    for said in ("'gama' (did you mean 'gamma'?)", "lr = -0.1", "optimizer = 'adan' (did you mean 'adam'?)"):
        assert said in words
    assert os.listdir() == ["grid.toml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no.toml", "--out", "runs"), "no.toml cannot be read: No such file or directory"),
        (("grid.toml",), "Missing option '--out'"),
        (("grid.toml", "--out", "/proc/runs"), "the results cannot be written to /proc/runs"),
        (("grid.toml", "--out", "runs", "--workers", "0"), "--workers"),
        (("status", "runs"), "runs holds no sweep"),
        (("show", "."), ". holds no sweep"),
        (("show", "runs", "--by", "gama"), "--by was given 'gama' (did you mean 'gamma'?)"),
        (("export", "runs", "x.parquet"), "runs holds no sweep"),
        (("export", "runs", "x.xlsx"), "x.xlsx ends in '.xlsx'; expected a name that ends in .parquet or .csv"),
    ],
)
def test_wrong_input_is_a_sentence(arguments, said):
    status, words, _ = invoke(*arguments)
    assert status == 2
    assert said in words
    assert "Traceback" not in words


def test_failed_shards_are_told_and_the_rest_is_there(monkeypatch):
    monkeypatch.setattr(running, "train_shard", sweep_work.raising)
    status, words, _ = invoke("grid.toml", "--out", "runs")
    assert status == 1
    assert "2 shards failed, the rest is done. The last one: ZeroDivisionError: width 5" in words
    words = invoke("status", "runs")[1]
    assert "Done: 12 of 24 runs (50 %), 2 of 4 shards." in words
    assert "Failed after 3 attempts: shard" in words
    monkeypatch.setattr(running, "train_shard", sweep_work.made_up)
    assert invoke("grid.toml", "--out", "runs")[0] == 0
    assert "Failed" not in invoke("status", "runs")[1]


def test_ctrl_c_says_how_to_go_on(monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "train_shard", stopped)
    monkeypatch.setattr("sys.argv", ["minirelu", "sweep", "grid.toml", "--out", "my runs"])
    status, words, _ = invoke("grid.toml", "--out", "my runs")
    assert status == 130
    assert "Stopped. Finished shards are kept in my runs; go on with: minirelu sweep grid.toml --out 'my runs'" in words
    assert re.search(r"stopped \S+ by Ctrl-C", invoke("status", "my runs")[1])
    killed = sweep.status("my runs")
    del killed.session["finished"], killed.session["stopped"]
    assert sweeps.told(killed, "my runs")[0].endswith("with processes; it has not ended, or was killed.")


def test_a_damaged_file_is_told():
    invoke("grid.toml", "--out", "runs")
    path = next(Path("runs").glob("results-*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    assert "Damaged files, which the next run replaces: 1" in invoke("status", "runs")[1]
    assert "were cut off or altered: 1" in invoke("show", "runs")[1]
    assert "Files that were cut off or altered, and are computed again: 1" in invoke("grid.toml", "--out", "runs")[1]


def test_words_of_progress_and_durations():
    p = Progress(312.4, 640, 3, 12, 1, 60.0, 250.0, 1.2345, 0.312, 0.0712)
    assert sweeps._said(p) == "312 of 640 runs, 4 min left, dead 31 %, error 0.071, 1 failed, 1.23 runs/s"
    assert [sweeps.duration(seconds) for seconds in (5, 100, 7200)] == ["5 s", "2 min", "2.0 h"]
