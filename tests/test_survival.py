"""Survival curves against a count by hand, and units that are watched while they train."""

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


def test_a_damaged_file_is_replaced(tmp_path, monkeypatch):
    units = {"net": np.zeros(1), "died": np.zeros(1)}
    monkeypatch.setattr(survival, "_trained", lambda arm: units)
    path = tmp_path / f"{ARM.key()}.npz"
    path.write_bytes(b"PK\x03\x04 cut off")
    assert survival.watch(ARM, tmp_path) is units
    with np.load(path) as kept:
        assert set(kept) == set(units)
