"""The folder of a study: what is written, how it goes on, and what is refused before training."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest
from outcomes import ADAM, SGD, made

from minirelu.errors import DataError
from minirelu.experiments import study
from minirelu.experiments.folder import Folder, facts, outcomes_of, tidy

PLAN = study.Plan(
    data="gaussian", gammas=(1.0, 1e-4), rules=(SGD, ADAM), depths=(1, 2), widths=(10,), seeds=(0, 3), steps=60, every=20
)
FACTS = {"note": "n", "rows": 3, "inputs": 2, "sha256": "abc"}


def changed(**fields):
    return study.Plan(**{**vars(PLAN), **fields})


def outcomes(plan=PLAN):
    return made(plan, lambda r: None if r.seed == 3 and r.gamma < 1 else 0.5, lambda r: 1 / 3 + r.seed)


def same(found, expected):
    """Equal, NaN where NaN is expected."""
    return repr(found) == repr(expected)


def test_columns_of_the_table():
    frame = tidy(outcomes(), PLAN)
    expected = (
        "data target optimizer lr beta gamma delta depth width batch residual batch_norm dtype kernels device steps "
        "seed step layer units dead nearly_dead linear nonfinite mse"
    )
    assert " ".join(frame.columns) == expected
    # 2 rules, 2 γ, 2 seeds, 4 moments; 1 layer and 2 layers
    assert frame.height == 2 * 2 * 2 * 4 * (1 + 2)
    row = frame.row(3, named=True)
    expected = {
        "optimizer": "SGD",
        "lr": 0.1,
        "beta": 0.0,
        "gamma": 1.0,
        "seed": 0,
        "step": 60,
        "layer": 1,
        "units": 10,
        "dead": 5,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["mse"] == 1 / 3
    assert frame["target"].null_count() == frame.height
    wild = frame.filter(pl.col("nonfinite") > 0)
    assert wild["mse"].is_nan().all()
    assert wild["dead"].sum() == 0


def test_outcomes_come_back_from_the_table():
    assert same(outcomes_of(tidy(outcomes(), PLAN), PLAN), outcomes())


def test_a_folder_goes_on_where_it_stopped(tmp_path):
    folder = Folder(tmp_path / "a" / "b", PLAN, FACTS)
    assert folder.prepare() == []
    every = outcomes()
    folder.keep(every[8:])
    folder.keep(every[:4])
    again = Folder(tmp_path / "a" / "b", PLAN, FACTS)
    assert same(again.prepare(), every[:4] + every[8:])
    again.keep(every[4:8])
    assert same(Folder(tmp_path / "a" / "b", PLAN, FACTS).prepare(), every)
    assert sorted(os.listdir(folder.path)) == ["config.json", "results.parquet"]
    direct = Folder(tmp_path / "c", PLAN, FACTS)
    direct.prepare()
    direct.keep(every)
    for name in ("results.parquet", "config.json"):
        assert (tmp_path / "c" / name).read_bytes() == (tmp_path / "a" / "b" / name).read_bytes()


def test_a_grid_may_grow(tmp_path):
    first = Folder(tmp_path, PLAN, FACTS)
    first.prepare()
    first.keep(outcomes())
    wider = changed(gammas=(1.0, 0.1, 1e-4), seeds=(0, 3, 5), shard_replicas=2)
    found = Folder(tmp_path, wider, FACTS).prepare()
    assert len(found) == len(outcomes())
    assert len(wider.missing(found)) == len(wider.replicas()) - len(found)


@pytest.mark.parametrize(
    ("plan", "about", "said"),
    [
        (changed(steps=80), FACTS, "steps: 60 there, 80 here"),
        (changed(seeds=(0,)), FACTS, r"seeds: \[0, 3\] there, \[0\] here"),
        (changed(dtype="float64"), FACTS, "dtype: float32 there, float64 here"),
        (PLAN, {**FACTS, "sha256": "abd"}, "data set: .*abc"),
    ],
)
def test_another_study_is_not_mixed_in(tmp_path, plan, about, said):
    Folder(tmp_path, PLAN, FACTS).prepare()
    Folder(tmp_path, PLAN, FACTS).keep(outcomes())
    before = (tmp_path / "results.parquet").read_bytes()
    with pytest.raises(DataError, match=f"holds another study .{said}.*give another --out, or --fresh to replace it"):
        Folder(tmp_path, plan, about).prepare()
    assert (tmp_path / "results.parquet").read_bytes() == before
    assert Folder(tmp_path, plan, about).prepare(fresh=True) == []
    assert sorted(os.listdir(tmp_path)) == ["config.json"]


def test_files_that_are_no_study(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"config.json is not the configuration of a study .*; --fresh replaces it"):
        Folder(tmp_path, PLAN, FACTS).prepare()
    Folder(tmp_path, PLAN, FACTS).prepare(fresh=True)
    (tmp_path / "results.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"results.parquet cannot be read .*; --fresh replaces it"):
        Folder(tmp_path, PLAN, FACTS).prepare()
    (tmp_path / "config.json").unlink()
    with pytest.raises(DataError, match=r"results.parquet is there without its config.json; --fresh replaces it"):
        Folder(tmp_path, PLAN, FACTS).prepare()


def test_config_says_everything(tmp_path):
    X, y = np.arange(6.0).reshape(3, 2), np.ones((3, 1))
    folder = Folder(tmp_path, PLAN, facts("three rows", X, y))
    folder.prepare()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["plan"]["rules"][1] == {"name": "Adam", "kind": "Adam", "settings": {"lr": 0.01, "beta1": 0.9}}
    assert config["plan"]["seeds"] == [0, 3]
    assert (config["data"]["note"], config["data"]["rows"], config["data"]["inputs"]) == ("three rows", 3, 2)
    assert config["made_by"]["numpy"] == np.__version__
    assert facts("", X, y)["sha256"] != facts("", X + 1, y)["sha256"]


@pytest.mark.parametrize("place", ["/proc/minirelu", "file/inside"])
def test_a_place_that_cannot_be_written_is_reported_before_training(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to \S+: .* are needed\); nothing was computed; .*--out DIR"):
        Folder(place, PLAN, FACTS).prepare()
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_is_too_full_is_reported_before_training(tmp_path):
    """The system itself refuses: no file may grow beyond 100 kB in this process."""
    code = textwrap.dedent(f"""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        from minirelu.experiments import folder, study
        try:
            folder.Folder({str(tmp_path / "out")!r}, study.Plan(), {{}}).prepare()
        except folder.DataError as error:
            print(error)
    """)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "cannot be written" in ran.stdout
    assert "(2 MB are needed); nothing was computed; make room" in ran.stdout
    assert os.listdir(tmp_path / "out") == []


def test_a_disk_that_fills_up_later_leaves_the_older_file(tmp_path, monkeypatch):
    folder = Folder(tmp_path, PLAN, FACTS)
    folder.prepare()
    folder.keep(outcomes()[:4])
    before = (tmp_path / "results.parquet").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        folder.keep(outcomes()[4:])
    assert (tmp_path / "results.parquet").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["config.json", "results.parquet"]
