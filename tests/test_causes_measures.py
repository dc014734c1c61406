"""Measures: silent units of every activation, effective rank against its formula, steps to an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import init, monitor, nn
from minirelu.causes.measures import effective_rank, hidden, silent, steps_to
from minirelu.errors import ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)


def net(activation, bias=-1.5, rng=None):
    rng = rng or init.replicas([1, 2])
    first = nn.Dense(3, 12, rng=rng, activation=activation, bias=bias)
    return nn.Sequential(first, nn.Dense(12, 9, rng=rng, activation=activation), nn.Linear(9, 1, rng=rng))


def test_for_relus_silent_is_what_the_monitor_counts_as_dead():
    own = net("relu")
    layers, output = hidden(own, X)
    shares = monitor.UnitActivity.over(own, X, warn=False).dead_share().values()
    for (z, h), share in zip(layers, shares, strict=True):
        assert_allclose(silent(z).mean(axis=-1), share)
        assert_array_equal(h, np.maximum(z, 0))
    assert 0 < silent(layers[0][0]).mean() < 1
    assert_allclose(output, own.predict(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ["leaky_relu", "prelu", "elu"])
def test_leaky_units_are_counted_by_their_side_not_by_their_output(activation):
    layers, _ = hidden(net(activation), X)
    (z, h), relu = layers[0], hidden(net("relu"), X)[0][0]
    assert_array_equal(silent(z), silent(relu[0]))
    assert (h[np.broadcast_to(silent(z)[:, None], h.shape)] != 0).all()


def test_batch_norm_is_counted_behind_its_shift():
    rng = np.random.default_rng(0)
    own = nn.Sequential(nn.Linear(3, 5, rng=rng), nn.BatchNorm(5, rng=rng), nn.Activation("relu"), nn.Linear(5, 1, rng=rng))
    own.layers[1].shift.data = np.array([[-99.0, 0, 0, 0, -99.0]], np.float32)
    (layer,), _ = hidden(own, X)
    assert_array_equal(silent(layer[0]), [True, False, False, False, True])


def test_what_is_not_finite_is_not_silent():
    z = np.array([[-1.0, -1.0, np.nan, -np.inf], [-2.0, 0.0, -1.0, -1.0]])
    assert_array_equal(silent(z), [True, True, False, False])


@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([1e-200, 1.0, 1e200]))
def test_effective_rank_of_orthogonal_directions_is_their_number(seed, rank, scale):
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(n, 6)))[0][:, :rank] for n in (30, 8))
    assert_allclose(effective_rank(scale * left @ right.T), rank, rtol=1e-6)


@given(st.integers(0, 2**32))
def test_effective_rank_is_the_formula(seed):
    H = np.random.default_rng(seed).gamma(0.3, size=(3, 20, 6))
    for own, found in zip(H, effective_rank(H), strict=True):
        values = np.sqrt(np.clip(np.linalg.eigvalsh(own.T @ own), 0, None))
        p = values / values.sum()
        assert_allclose(found, np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()), rtol=1e-5)
        assert 1 <= found <= 6


def test_effective_rank_of_nothing():
    H = np.zeros((3, 5, 4))
    H[1, 0, 0], H[2, 1, 1] = np.nan, 2.0
    assert_array_equal(effective_rank(H), [0.0, np.nan, 1.0])
    with pytest.raises(ShapeError, match="representations"):
        effective_rank(np.zeros(3))


def test_steps_to():
    errors = np.array([[3.0, 1.0, 2.0], [3.0, np.nan, 0.5], [3.0, np.nan, 2.0], [0.5, 9.0, 9.0]])
    assert_array_equal(steps_to(np.array([0, 10, 20]), errors, 1.0), [10, 20, np.inf, 0])
