"""What a study writes beside its runs, and what is refused before training."""

import json
import os

import numpy as np
import polars as pl
from outcomes import ADAM, SGD, made

from minirelu.data.table import Table
from minirelu.experiments import folder, study

PLAN = study.Plan(
    data="gaussian", gammas=(1.0, 1e-4), rules=(SGD, ADAM), depths=(1, 2), widths=(10,), seeds=(0, 3), steps=60, every=20
)


def outcomes(plan=PLAN):
    return made(plan, lambda r: None if r.seed == 3 and r.gamma < 1 else 0.5, lambda r: 1 / 3 + r.seed)


def test_columns_of_the_table():
    frame = folder.tidy(outcomes(), PLAN)
    expected = (
        "data target optimizer lr beta gamma delta depth width batch residual batch_norm dtype steps backend "
        "seed step layer units dead nearly_dead linear nonfinite mse"
    )
    assert " ".join(frame.columns) == expected
    # 2 rules, 2 γ, 2 seeds, 4 moments; 1 layer and 2 layers
    assert frame.height == 2 * 2 * 2 * 4 * (1 + 2)
    row = frame.row(3, named=True)
    settings = {"optimizer": "SGD", "lr": 0.1, "beta": 0.0, "gamma": 1.0, "backend": "made up", "seed": 0}
    expected = settings | {"step": 60, "layer": 1, "units": 10, "dead": 5}
    assert {name: row[name] for name in expected} == expected
    assert row["mse"] == 1 / 3
    assert frame["target"].null_count() == frame.height
    wild = frame.filter(pl.col("nonfinite") > 0)
    assert wild["mse"].is_nan().all()
    assert wild["dead"].sum() == 0


def test_config_says_everything_and_the_same_study_makes_the_same_files(tmp_path):
    table = Table(np.arange(6.0).reshape(3, 2), np.ones((3, 1)), ("a", "b"), "c", "three rows")
    for name in "xy":
        (tmp_path / name).mkdir()
        folder.write(outcomes(), PLAN, table, tmp_path / name)
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["plan"]["rules"][1] == {"name": "Adam", "kind": "Adam", "settings": {"lr": 0.01, "beta1": 0.9}}
    assert config["plan"]["seeds"] == [0, 3]
    assert (config["data"]["note"], config["data"]["rows"], config["data"]["inputs"]) == ("three rows", 3, 2)
    assert config["data"]["sha256"] == table.checksum() != table._replace(X=table.X + 1).checksum()
    assert config["made_by"]["numpy"] == np.__version__
    assert sorted(os.listdir(tmp_path / "x")) == ["config.json", "results.parquet"]
    for name in folder.TABLES:
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()
