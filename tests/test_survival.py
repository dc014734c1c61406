"""Survival curves against a count by hand, and units that are watched while they train."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import data, train
from minirelu.errors import ShapeError
from minirelu.experiments import survival

ARM = survival.Course("sine", "adam", 0.05, 0.9, 1e-4, seeds=2, steps=1500, depth=2, width=8)


def test_kaplan_meier_by_hand():
    at, alive = survival.kaplan_meier([3, 5, 5, 8, 9, 9], [True, True, False, True, True, False])
    assert_array_equal(at, [3, 5, 8, 9])
    assert_allclose(alive, np.cumprod([5 / 6, 4 / 5, 2 / 3, 1 / 2]))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_without_censoring_it_is_the_share_still_alive(times):
    at, alive = survival.kaplan_meier(times, np.ones(len(times)))
    assert_allclose(alive, [np.mean(np.array(times) > t) for t in at], atol=1e-12)


def test_vectors_must_fit():
    with pytest.raises(ShapeError, match=r"\(2,\) and \(3,\)"):
        survival.kaplan_meier([1, 2], [True, False, True])


def test_first_deaths():
    dead = np.array([[[False, True, False], [True, False, False], [True, True, False]]])
    assert_array_equal(survival.first_deaths(np.array([0, 10, 20]), dead), [[10, 0, -1]])


def test_alive_counts_the_born_dead_and_is_one_curve_a_net():
    units = {"net": np.array([0, 0, 0, 0, 1, 1]), "died": np.array([0, 20, -1, -1, 10, 10])}
    assert_allclose(survival.alive(units, 100, [0, 10, 20, 100]), [[0.75, 0.75, 0.5, 0.5], [1, 0, 0, 0]])


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=30))
def test_first_deaths_of_a_layer_are_its_order_statistics_without_the_born_dead(died):
    median, mean = survival.first_death(np.array(died), 9)
    times = sorted(9.5 if t == survival.NEVER else t for t in died if t)
    if times:
        middle = times[(len(times) - 1) // 2]
        assert_allclose(median, middle if middle < 9.5 else np.nan)
        assert_allclose(mean, np.mean(np.minimum(times, 9)))
    else:
        assert np.isnan([median, mean]).all()


def test_the_cost_grows_with_what_is_trained():
    one = survival.seconds(ARM)
    assert_allclose(survival.seconds(ARM._replace(seeds=6)), 3 * one)
    early = survival.seconds(ARM._replace(steps=1000))
    assert 0 < early < one < 2 * early + survival.seconds(ARM._replace(steps=500))
    assert survival.seconds(ARM._replace(depth=4, width=200)) > 10 * survival.seconds(ARM._replace(depth=1, width=200))


def test_watching_agrees_with_the_counts_of_a_training_and_is_done_once(tmp_path, monkeypatch):
    units = survival.watch(ARM, tmp_path)
    X, y = data.load("sine")
    result = train.train_mlp(X, y, widths=(8, 8), lr=0.05, gamma=1e-4, steps=1500, seeds=[0, 1], standardize=False)
    assert result.dead[:, -1].sum() > 0
    for net in (0, 1):
        own = units["net"] == net
        dead = [units["dead"][own & (units["layer"] == layer)].sum() for layer in (1, 2)]
        assert_array_equal(dead, result.dead[net, -1])
    assert (units["died"][units["dead"]] != survival.NEVER).all()

    def no(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(survival, "_trained", no)
    again = survival.watch(ARM, tmp_path)
    assert all((again[name] == units[name]).all() for name in units)


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut off", b"", b"\x93NUMPY"])
def test_a_damaged_file_is_replaced(tmp_path, monkeypatch, content):
    units = {"net": np.zeros(1), "died": np.zeros(1)}
    monkeypatch.setattr(survival, "_trained", lambda arm: units)
    path = tmp_path / f"{ARM.key()}.npz"
    path.write_bytes(content)
    assert survival.kept(ARM, tmp_path) is None
    assert survival.watch(ARM, tmp_path) is units
    with np.load(path) as kept:
        assert set(kept) == set(units)


def test_early_deaths_are_seen_every_20_steps_and_units_that_are_not_finite_are_not_dead(tmp_path, monkeypatch):
    asked = []

    def made(X, y, *, steps, record_every, seeds, **_):
        """Unit 0 is dead from step 340 on, unit 1 from 1200; unit 2 is NaN on one row from the start, unit 3 lives."""
        asked.append((steps, record_every))
        step = np.unique([*range(0, steps, record_every), steps])
        active = np.ones((1, len(step), 4), np.int64)
        active[0, step >= 340, 0] = active[0, step >= 1200, 1] = active[0, :, 2] = 0
        nonfinite = np.zeros_like(active)
        nonfinite[..., 2] = 1
        return SimpleNamespace(step=step, active=active, nonfinite_rows=nonfinite)

    monkeypatch.setattr(survival.train, "train_mlp", made)
    units = survival.watch(ARM._replace(seeds=1, depth=1, width=4, steps=10_000), tmp_path)
    assert asked == [(1000, 20), (10_000, 100)]
    assert_array_equal(units["died"], [340, 1200, survival.NEVER, survival.NEVER])
    assert_array_equal(units["dead"], [True, True, False, False])


def test_other_numbers_under_the_name_are_other_courses(tmp_path, monkeypatch):
    of = data.read("sine")
    for table in (of, of._replace(y=of.y + 1)):
        monkeypatch.setattr(survival.data_sets, "read", lambda name, table=table: table)
        assert survival.kept(ARM, tmp_path) is None
        survival.write_arrays(tmp_path / f"{ARM.key()}.npz", dict.fromkeys(survival.FIELDS, np.zeros(1)))
        assert survival.kept(ARM, tmp_path) is not None
    monkeypatch.setattr(survival.data_sets, "read", data.read)
    assert survival.kept(ARM._replace(data="no such set"), tmp_path) is None


@pytest.mark.parametrize(("steps", "spacing"), [(1, 1), (500, 10), (1000, 20), (1001, 10), (40_000, 400)])
def test_times_are_as_exact_as_the_last_records(steps, spacing):
    assert survival.spacing(steps) == spacing
    assert survival._stretches(steps)[-1] == (steps, spacing)


def test_a_file_that_lacks_something_counts_as_missing(tmp_path):
    arm = survival.Course("sine", "sgd", 0.1, 0.0, 1.0, 1, 2, 1, 3)
    units = survival.watch(arm, tmp_path)
    assert survival.kept(arm, tmp_path).keys() == units.keys()
    survival.write_arrays(tmp_path / f"{arm.key()}.npz", {name: units[name] for name in ("net", "layer", "died")})
    assert survival.kept(arm, tmp_path) is None
