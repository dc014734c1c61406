"""The command line from end to end: files, table, words, how it goes on, and what it says to wrong input."""

import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sweep_work import Serial
from typer.testing import CliRunner

from minirelu import cli
from minirelu.experiments import study
from minirelu.sweep import running, shards, store, work

STORE = [".lock", "failed", "manifest.json", "results-2"]
SHORT = ("--steps", "40", "--width", "12", "--seeds", "2")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch, tmp_path):
    """Shards are trained here, which spares the start of processes; tests/test_study.py has those."""
    monkeypatch.setattr(running, "Processes", Serial)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_figures(monkeypatch):
    """Figures take a second each; one test draws them."""
    for name in ("dead_and_error", "dead_over_time"):
        monkeypatch.setattr(cli, name, lambda *_: [])


def invoke(*arguments, columns=80):
    return CliRunner().invoke(cli.app, ["study", *map(str, arguments)], env={"COLUMNS": str(columns)})


def words(result):
    return " ".join(result.output.split())


def test_command_writes_everything_and_fits_80_columns(tmp_path):
    result = invoke("--data", "gaussian", *SHORT, "--out", "out")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert re.search(r"optimiser\s+γ\s+dead %\s+MSE ÷ γ², geom. mean\s+n *$", result.output, re.MULTILINE)
    for text in (
        "Data gaussian: drawn by its formula (seed 0), 1,000 rows",
        "30 trainings: 1 hidden layer of 12 ReLUs",
        "Seen on gaussian",
    ):
        assert text in words(result)
    figures = [f"{name}.{kind}" for name in ("dead_and_error", "dead_over_time") for kind in ("png", "svg")]
    assert sorted(os.listdir("out")) == sorted([*STORE, "config.json", "results.parquet", *figures])
    frame = pl.read_parquet("out/results.parquet")
    assert frame.height == 30 * 21
    assert frame["optimizer"].unique(maintain_order=True).to_list() == [rule.name for rule in study.RULES]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["plan"]["steps"] == 40


def test_the_same_seed_gives_the_same_table_however_it_is_batched(monkeypatch, no_figures):
    cut = []
    for out, seconds in (("a", 60.0), ("b", 60.0), ("c", 1e-9), ("d", 7e-3)):
        monkeypatch.setattr(shards, "SECONDS", (seconds, seconds))
        result = invoke("--data", "friedman1", *SHORT, "--depth", "1,2", "--batch-norm", "--optimizer", "adam", "--out", out)
        assert result.exit_code == 0, result.output
        cut.append(len(list(Path(out).glob("results-2/*"))))
    assert cut[0] == cut[1] == 2 < cut[3] < cut[2] == 12
    tables = [pl.read_parquet(f"{out}/results.parquet") for out in "abcd"]
    assert tables[0].height == 6 * 21 * (1 + 2)
    for table in tables[1:]:
        assert table.equals(tables[0], null_equal=True)
    assert Path("a/results.parquet").read_bytes() == Path("b/results.parquet").read_bytes()


def test_a_study_that_was_stopped_goes_on(monkeypatch, no_figures):
    arguments = ("--data", "gaussian", *SHORT, "--optimizer", "sgd,adam")
    monkeypatch.setattr(shards, "SECONDS", (1e-3, 1e-3))
    whole = invoke(*arguments, "--out", "whole")
    assert whole.exit_code == 0
    assert len(list(Path("whole/results-2").iterdir())) > 3

    kept = []
    keep = store.Store.keep

    def stopped(self, shard, *rest):
        kept.append(len(shard.runs))
        if len(kept) == 3:
            raise KeyboardInterrupt
        return keep(self, shard, *rest)

    monkeypatch.setattr(store.Store, "keep", stopped)
    monkeypatch.setattr("sys.argv", ["minirelu", "study", "--fresh", *arguments, "--out", "part"])
    result = invoke("--fresh", *arguments, "--out", "part")
    assert result.exit_code == 130
    done = sum(kept[:2])
    again = f"Stopped. {done} of 12 trainings are finished and kept in part; go on with: minirelu study {' '.join(arguments)}"
    assert f"{again} --out part" in words(result)
    assert sorted(os.listdir("part")) == STORE

    result = invoke(*arguments, "--out", "part")
    assert result.exit_code == 0
    assert f"{done} finished trainings were found; {12 - done} left to do." in words(result)
    assert sum(kept[3:]) == 12 - done
    assert pl.read_parquet("part/results.parquet").equals(pl.read_parquet("whole/results.parquet"))
    result = invoke(*arguments, "--out", "part")
    assert "12 finished trainings were found; none left to do." in words(result)
    assert "Seen on gaussian" in words(result)


def test_another_study_in_the_folder_is_kept_and_fresh_removes_all(no_figures):
    arguments = ("--data", "gaussian", *SHORT, "--optimizer", "sgd", "--out", "both")
    assert invoke(*arguments).exit_code == 0
    first = pl.read_parquet("both/results.parquet")
    result = invoke(*arguments, "--dtype", "float64", "--seeds", "1")
    assert "were found" not in words(result)
    assert pl.read_parquet("both/results.parquet")["dtype"].unique().to_list() == ["float64"]
    assert "6 finished trainings were found; none left to do." in words(invoke(*arguments))
    assert pl.read_parquet("both/results.parquet").equals(first)
    assert "batch = 2000: gaussian has 1000 rows" in words(invoke("--fresh", "--batch", "2000", *arguments))
    assert len(list(Path("both/results-2").iterdir())) == 2  # refused before anything is removed
    assert "were found" not in words(invoke("--fresh", *arguments))
    assert len(list(Path("both/results-2").iterdir())) == 1


def test_a_sweep_that_is_running_there_is_not_disturbed(no_figures):
    arguments = ("--data", "gaussian", *SHORT, "--optimizer", "sgd", "--out", "busy")
    assert invoke(*arguments).exit_code == 0
    with store.Store("busy").locked():
        for fresh in ([], ["--fresh"]):
            result = invoke(*arguments, *fresh)
            assert result.exit_code == 2
            assert "a sweep is running on busy already" in words(result)
    assert len(list(Path("busy/results-2").iterdir())) == 1


def write_csv(path, rows=30, **columns):
    rng = np.random.default_rng(0)
    table = {"size": rng.normal(size=rows), "age": rng.normal(size=rows), "price": rng.normal(size=rows), **columns}
    body = "\n".join(",".join(map(str, row)) for row in zip(*table.values(), strict=True))
    path.write_text(",".join(table) + "\n" + body + "\n")


def test_a_file_of_the_users_own(tmp_path, no_figures):
    write_csv(tmp_path / "my.csv")
    arguments = ("--data", "my.csv", "--target", "price", *SHORT, "--gamma", "1", "--optimizer", "adam")
    assert "batch = 64: my.csv has 30 rows; expected a batch of at most as many" in words(invoke(*arguments))
    result = invoke(*arguments, "--batch", "16")
    assert result.exit_code == 0, result.output
    assert "Data my.csv: 30 rows, 2 inputs." in words(result)
    frame = pl.read_parquet("study/results.parquet")
    assert frame.height == 2 * 21
    assert frame.row(0, named=True)["target"] == "price"


DEFECTS = {
    "text": ({"age": ["old"] * 30}, "column 'age' holds text, 'old' in row 1"),
    "nan": ({"age": [1.0] * 4 + [float("nan")] * 26}, "column 'age' is nan in row 5"),
    "inf": ({"size": [1.0] * 29 + [float("-inf")]}, "column 'size' is -inf in row 30"),
    "constant": ({"price": [7.5] * 30}, "the target 'price' is 7.5 in all 30 rows"),
    "missing": ({"price": [1, 2, ""] * 10}, "column 'price' is empty in row 3"),
}


@pytest.mark.parametrize(("columns", "said"), DEFECTS.values(), ids=DEFECTS)
def test_defects_of_a_file_are_one_sentence_before_training(tmp_path, columns, said):
    write_csv(tmp_path / "my.csv", **columns)
    result = invoke("--data", "my.csv", "--target", "price")
    assert result.exit_code == 2
    assert said in words(result)
    assert result.output.count("Traceback") == 0
    assert os.listdir(tmp_path) == ["my.csv"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--data", "diabetis"), "no data set called 'diabetis' (did you mean 'diabetes'?)"),
        (("--data", "my.csv"), "the file my.csv does not exist"),
        (("--data", "gaussian", "--target", "yy"), "gaussian has no column 'yy'"),
        (("--gamma", "1,x"), "--gamma takes numbers separated by commas, got '1,x'"),
        (("--optimizer", "adagrad"), "--optimizer was given 'adagrad'"),
        (("--out", "/proc/x"), "the results cannot be written to /proc/x"),
        (("--kernels", "cuda"), "asked for the cuda kernels"),
        (("--device", "cuda"), "CuPy is not installed"),
        (("--steps", "0"), "steps"),
        (("--residual", "--batch", "1", "--batch-norm"), "batch = 1 with batch_norm: a batch of at least 2 rows"),
    ],
)
def test_bad_input_is_refused_before_training(tmp_path, arguments, text):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert text in words(result)
    assert os.listdir(tmp_path) == []


def test_too_few_rows_and_a_wrong_checksum(tmp_path, monkeypatch):
    write_csv(tmp_path / "my.csv", rows=9)
    assert "my.csv has 9 rows of data; a study needs at least 10" in words(invoke("--data", "my.csv", "--target", "price"))
    monkeypatch.setenv("MINIRELU_DATA", str(tmp_path))
    write_csv(tmp_path / "airfoil.csv")
    result = invoke("--data", "airfoil")
    assert result.exit_code == 2
    assert "is not the file expected" in words(result)


def test_a_disk_that_fills_up_is_one_sentence(monkeypatch):
    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.Store, "keep", full)
    result = invoke("--data", "gaussian", *SHORT)
    assert result.exit_code == 2
    assert "writing to study failed: No space left on device; what was finished is kept, and the same call" in words(result)


def test_a_training_that_fails_keeps_its_traceback(monkeypatch):
    train = work.train_shard

    def broken(shard, *rest, **more):
        if shard.runs[0].optimizer == "adam":
            raise ZeroDivisionError("of all things")
        return train(shard, *rest, **more)

    monkeypatch.setattr(running, "train_shard", broken)
    result = invoke("--data", "gaussian", *SHORT)
    assert result.exit_code == 2
    said = (
        "ZeroDivisionError: of all things A training failed, as above. 18 of 30 trainings are finished and kept in study; go on"
    )
    assert said in words(result)
    assert os.listdir("study/failed")


@pytest.mark.skipif(not os.environ.get("MINIRELU_DATA"), reason="MINIRELU_DATA is not set")
@pytest.mark.parametrize("name", ["airfoil", "real_estate", "superconductivity", "facebook"])
def test_a_short_study_of_each_of_the_papers_sets(name, no_figures):
    result = invoke(
        "--data", name, "--steps", "20", "--seeds", "1", "--gamma", "1,1e-4", "--optimizer", "adam", "--every", "20"
    )
    assert result.exit_code == 0, result.output
    assert f"Data {name}: " in words(result)
    assert "checksum verified" in words(result)


def test_wide_terminals_and_more_columns(no_figures):
    result = invoke("--data", "gaussian", *SHORT, "--delta", "0,4", "--depth", "1,2", "--optimizer", "adam", columns=120)
    assert re.search(r"optimiser\s+δ\s+depth\s+γ\s+dead %", result.output)
    assert "Adam, depth 2, δ 4" in words(result)


def test_diverged_trainings_have_a_column_and_fit():
    result = invoke("--data", "gaussian", *SHORT, "--lr", "1e20", "--optimizer", "sgd", "--gamma", "1e4,1e-5")
    assert result.exit_code == 0, result.output
    assert re.search(r"n\s+diverged *$", result.output, re.MULTILINE)
    assert re.search(r"lr 1e\+20\s+1e-5\s+–\s+–\s+0\s+2 *$", result.output, re.MULTILINE)
    assert max(map(len, result.output.splitlines())) <= 80
    assert "4 of 4 trainings diverged" in words(result)
