"""What the experiments on nets share: data that is missing, runs that are there, rates that fit best."""

import math

import polars as pl
import pytest

from minirelu import sweep
from minirelu.errors import DataError
from minirelu.experiments import networks


def test_data_that_cannot_be_had_is_named_with_the_reason(monkeypatch):
    monkeypatch.delenv("MINIRELU_DATA", raising=False)
    there, reasons = networks.present(["sine", "airfoil"])
    assert there == ["sine"]
    assert "MINIRELU_DATA" in reasons["airfoil"]
    assert networks.needed(["airfoil", "sine"]) == ["sine"]
    with pytest.raises(DataError, match="MINIRELU_DATA"):
        networks.needed(["airfoil"])


def test_what_was_named_must_be_there_and_of_the_usual_sets_what_is(monkeypatch):
    monkeypatch.delenv("MINIRELU_DATA", raising=False)
    usual = ("sine", "airfoil")
    assert networks.asked(None, usual) == usual
    assert networks.asked(" sine, gaussian,sine,", usual) == ("sine", "gaussian")  # a set named twice is one
    with pytest.raises(DataError, match=r"MINIRELU_DATA.*; there is no data set called 'nosuch'"):
        networks.asked("sine,airfoil,nosuch", usual)
    with pytest.raises(ValueError, match="expected names of data sets"):
        networks.asked(" ,", usual)


def test_collect_takes_the_runs_asked_for_and_trains_none(tmp_path):
    common = {"data": "sine", "optimizer": "sgd", "lr": 0.01, "width": 3, "batch": 8, "steps": 4}
    small, large = (sweep.Grid(**common, seed=range(n)) for n in (1, 3))
    networks.train(large + sweep.Grid(**{**common, "steps": 5}, seed=0), tmp_path, 1, lambda done, total: None)
    assert networks.collect(small, tmp_path)["seed"].to_list() == [0]
    frame = networks.collect(large + sweep.Grid(**{**common, "lr": 0.5}, seed=0), tmp_path)
    assert (frame["seed"].to_list(), set(frame["steps"])) == ([0, 1, 2], {4})


def test_the_rate_with_the_least_error_is_taken_and_never_one_that_diverged():
    rows = [("a", 1e-3, 0.5), ("a", 1e-3, 0.5), ("a", 1e-2, 0.4), ("a", 1e-2, 0.41), ("a", 1e-1, 0.01), ("a", 1e-1, math.nan)]
    rows += [("b", 1e-3, math.nan)]
    columns = [(data, "sgd", 0.0, 1.0, rate, error) for data, rate, error in rows]
    frame = pl.DataFrame(columns, schema=["data", "optimizer", "beta", "gamma", "lr", "mse"], orient="row")
    assert networks.tuned(frame) == {("a", "sgd", 0.0, 1.0): 1e-2}


def test_pilots_share_no_seed_with_the_results_and_are_shorter():
    runs = networks.tuning(networks.Size(("sine",), 8, 1000), [("ema", 0.9), ("sgd", 0.0)], (1.0, 0.1), (0.1, 0.2)).runs()
    assert len(runs) == 2 * 2 * 2 * 2
    assert {run.steps for run in runs} == {100}
    assert not {run.seed for run in runs} & set(range(8))


def test_every_name_once_in_the_order_given():
    assert networks.in_order(["z", "b", "a", "b"], ["a", "c", "b"]) == ["a", "b", "z"]
