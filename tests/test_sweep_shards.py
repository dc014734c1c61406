"""Shards: every run once, one shape each, balanced, the same everywhere; and the names of runs."""

import numpy as np
import pytest
import sweep_work
from hypothesis import given
from hypothesis import strategies as st

from minirelu.errors import GridError
from minirelu.sweep import Grid, cost, shards

SETS = shards.load_sets(sweep_work.GRID.runs())
RUN = sweep_work.GRID.runs()[0]


@given(st.integers(1, 400), st.integers(1, 30_000), st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True))
def test_shards_have_every_run_once_and_one_shape_each(seeds, steps, widths):
    runs = Grid(**{**sweep_work.AXES, "width": widths, "steps": steps}, optimizer=["sgd", "adam"], seed=range(seeds)).runs()
    made = shards.cut(runs, SETS)
    assert sorted(run for shard in made for run in shard.runs) == sorted(runs)
    assert all(len({run.shape() for run in shard.runs}) == 1 for shard in made)
    assert len({shard.key for shard in made}) == len(made)
    assert made == shards.cut(runs, SETS)
    assert [shard.seconds for shard in made] == sorted((shard.seconds for shard in made), reverse=True)
    costs = [cost.seconds(run, 1000, 5) for run in runs]
    most = max(sum(costs) / shards.PARTS, shards.SECONDS[0])
    assert all(shard.seconds <= most + 2 * max(costs) for shard in made)  # evenly cut: a run more or less
    assert sum(shard.seconds for shard in made) == pytest.approx(sum(costs))


def test_long_sweeps_get_longer_shards_and_not_ever_more():
    runs = Grid(data="gaussian", optimizer="adam", lr=0.1, seed=range(20_000), steps=1_000_000).runs()
    made = shards.cut(runs, SETS)
    assert shards.MOST_SHARDS / 2 < len(made) <= shards.MOST_SHARDS + 1


def test_shards_for_a_gpu_are_few_and_large():
    runs = Grid(data="gaussian", optimizer="adam", lr=0.1, width=[4, 5], seed=range(1500), steps=100_000).runs()
    made = shards.cut(runs, SETS, for_gpu=True)
    assert sorted(run for shard in made for run in shard.runs) == sorted(runs)
    assert sorted(len(shard.runs) for shard in made) == [750] * 4


def test_shards_of_large_nets_fit_memory():
    runs = Grid(data="gaussian", optimizer="sgd", lr=0.1, seed=range(50), steps=1, width=1000, depth=3).runs()
    made = shards.cut(runs, SETS)
    assert all(len(shard.runs) * cost.memory(runs[0], 1000, 5) <= shards.MOST_BYTES for shard in made)


def test_the_name_of_a_run_stays_what_it_is():
    """If this fails, every store loses its results: either the change is a mistake, or RESULTS_VERSION must count up."""
    of = shards.Set("set", "", "0" * 20, np.zeros((1, 1)), np.zeros((1, 1)))
    assert shards.RESULTS_VERSION == 2
    assert shards.identity(RUN, of) == "699bd84d4d7d6a29cd31"


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(GridError, match=r"batch = 5000: gaussian has \d+ rows"):
        shards.load_sets([RUN._replace(batch=5000)])


OTHER = {
    "target": "t", "gamma": 2.0, "delta": 1.0, "optimizer": "ema", "lr": 0.2, "beta": 0.1, "beta2": 0.2, "eps": 0.1, "depth": 3,
    "width": 9, "block": "residual", "batch_norm": True, "batch": 3, "init": "he", "init_scale": 2.0, "bias_shift": 1.0,
    "dtype": "float64", "steps": 21, "record_every": 7, "seed": 99,
}  # fmt: skip


def test_every_setting_and_the_data_are_in_the_name(monkeypatch):
    of = SETS["gaussian", None]
    names = [shards.identity(RUN._replace(**{name: value}), of) for name, value in OTHER.items()]
    assert set(OTHER) == set(RUN._fields) - {"data"}
    names += [shards.identity(RUN, of._replace(checksum="0")), shards.identity(RUN, of._replace(name="other"))]
    monkeypatch.setattr(shards, "RESULTS_VERSION", 3)
    names.append(shards.identity(RUN, of))
    monkeypatch.undo()
    assert len({shards.identity(RUN, of), *names}) == len(names) + 1


def test_a_file_may_be_moved_and_its_content_counts(tmp_path):
    table = "a,b\n" + "".join(f"{k},{k * k}\n" for k in range(20))
    for place, text in (("one", table), ("two", table), ("three", table.replace("19,361", "19,362"))):
        (tmp_path / place).mkdir()
        (tmp_path / place / "my.csv").write_text(text)
    runs = [RUN._replace(data=str(tmp_path / place / "my.csv"), target="b") for place in ("one", "two", "three")]
    sets = shards.load_sets(runs)
    first, second, third = (shards.identity(run, sets[run.data, "b"]) for run in runs)
    assert first == second != third
    assert sets[runs[0].data, "b"].name == "my.csv"
    np.testing.assert_allclose(sets[runs[0].data, "b"].X.std(), 1)


def test_all_data_sets_and_nets_that_cannot_be_trained_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRELU_DATA", str(tmp_path))
    (tmp_path / "short.csv").write_text("a,b\n1,2\n")
    base = {"optimizer": "sgd", "lr": 0.1, "seed": 0, "steps": 10}
    grid = Grid(data=["airfoil", str(tmp_path / "short.csv")], **base) + Grid(data="sine", width=10**6, depth=2, **base)
    with pytest.raises(GridError) as caught:
        shards.load_sets(grid.runs())
    said = caught.value.problems
    assert len(said) == 3
    assert "airfoil was looked for" in said[0]
    assert "short.csv" in said[1]
    assert "width = 1000000: a net that takes 32,001 GB to train" in said[2]


def test_without_takes_out_single_runs_and_keeps_whole_shards():
    made = shards.cut(sweep_work.GRID.runs(), SETS)
    there = {made[0].ids[0], *made[1].ids}
    left = shards.without(made, there, SETS)
    assert left[1:] == made[2:]
    assert left[0].ids == made[0].ids[1:]
    assert left[0].key not in {shard.key for shard in made}
    assert shards.without(made, set(), SETS) == made
