"""Pop-Art: what it normalises by, that predictions survive every move, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import testing
from minirelu.errors import NotFittedError, ShapeError
from minirelu.pop_art import PopArt
from minirelu.scalers import StandardScaler

EPS = np.finfo(float).eps

values = st.floats(-1e3, 1e3, allow_subnormal=False)
batches = st.lists(st.lists(values, min_size=2, max_size=9), min_size=2, max_size=6)
scales = st.sampled_from([1e-9, 1e-3, 1.0, 1e6])


@given(batches, scales, st.sampled_from([0.0, 1e-3, 0.3]), st.integers(0, 2**32))
def test_predictions_stay_what_they_were_at_every_move(parts, scale, rate, seed):
    """σ'(hW' + b') + μ' = σ(hW + b) + μ; the bound is some roundings of the largest term on the way."""
    rng = np.random.default_rng(seed)
    h, W, b = rng.normal(size=(7, 4)), rng.normal(size=(4, 1)), rng.normal(size=(1, 1))
    scaler = PopArt(rate)
    before = None
    for part in parts:
        if before is not None:
            before = scaler.inverse_transform(h @ W + b)
        scaler.partial_fit(scale * np.array(part).reshape(-1, 1))
        factor, shift = scaler.correction()
        old = np.abs(h) @ np.abs(W) + np.abs(b)
        W, b = W * factor, b * factor + shift
        after = scaler.inverse_transform(h @ W + b)
        if before is not None:
            size = scaler.scale_ * (old * factor + np.abs(shift) + np.abs(b)) + np.abs(scaler.mean_)
            assert (np.abs(after - before) <= 20 * EPS * (size + np.abs(before))).all()
        before = after


@given(batches, scales)
def test_with_rate_0_it_is_the_statistics_of_all_rows(parts, scale):
    columns = [scale * np.array(part).reshape(-1, 1) for part in parts]
    scaler = PopArt(0.0)
    for column in columns:
        scaler.partial_fit(column)
    rows = np.concatenate(columns)
    whole = StandardScaler().fit(rows)
    largest = np.abs(rows).max()
    assert_allclose(scaler.mean_, whole.mean_, rtol=0, atol=50 * EPS * largest)
    if rows.std() > 1e-6 * largest:
        assert_allclose(scaler.scale_, whole.scale_, rtol=1e-8)


def test_moments_follow_the_formula_of_its_paper():
    """Eq. 3 by hand: μ and ν move towards the batch's by β once β is more than the batch's share of the rows."""
    rng = np.random.default_rng(0)
    scaler, mean, second = PopArt(0.2), None, None
    for k in range(20):
        rows = rng.normal(3.0 + k, 2.0, (10, 2))
        scaler.partial_fit(rows)
        weight = max(0.2, 1 / (k + 1))
        if mean is None:
            mean, second = rows.mean(0), (rows**2).mean(0)
        mean = (1 - weight) * mean + weight * rows.mean(0)
        second = (1 - weight) * second + weight * (rows**2).mean(0)
        assert_allclose(scaler.mean_, mean, rtol=1e-12)
        assert_allclose(scaler.scale_, np.sqrt(second - mean**2), rtol=1e-10)


def test_it_follows_targets_whose_scale_changes():
    rng = np.random.default_rng(1)
    scaler = PopArt(0.1)
    for size in [1.0] * 30 + [1e-4] * 400:
        scaler.partial_fit(5 * size + size * rng.normal(size=(32, 1)))
    assert_allclose(scaler.scale_, 1e-4, rtol=0.3)
    assert_allclose(scaler.mean_, 5e-4, rtol=0.1)


def test_there_was_nothing_to_preserve_before_the_first_batch():
    scaler = PopArt().partial_fit([[1.0], [3.0]])
    assert_array_equal(scaler.correction(), [[1.0], [0.0]])
    scaler.partial_fit([[9.0], [11.0]])
    assert scaler.correction()[0] < 1
    scaler.fit([[5.0], [7.0]])
    assert_array_equal(scaler.correction(), [[1.0], [0.0]])


@given(batches)
def test_a_bad_batch_moves_nothing(parts):
    scaler = PopArt()
    for part in parts:
        scaler.partial_fit(np.array(part).reshape(-1, 1))
    kept = scaler.mean_.copy(), scaler.scale_.copy(), scaler.n_samples_seen_
    for bad in ([[np.nan]], [[np.inf]], [[1.0, 2.0]], [1.0, 2.0]):
        with pytest.raises(ValueError):
            scaler.partial_fit(bad)
    assert (scaler.mean_, scaler.scale_, scaler.n_samples_seen_) == kept


def test_it_keeps_what_scalers_promise():
    testing.check_scaler(PopArt, rng=np.random.default_rng(0))


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1"):
        PopArt(rate).fit([[1.0], [2.0]])


def test_it_must_be_fitted_first():
    with pytest.raises(NotFittedError, match="call fit or partial_fit"):
        PopArt().correction()
    with pytest.raises(ShapeError):
        PopArt().fit([1.0, 2.0])
