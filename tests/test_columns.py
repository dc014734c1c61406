"""Constant up to rounding: data sets and scalers agree, however many rows there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import data
from minirelu.columns import EPS, constant
from minirelu.scalers import StandardScaler


@pytest.mark.parametrize("rows", [3, 1000, 100_000])
@pytest.mark.parametrize("value", [0.1, 1e7 / 3, -1e-300 / 7])
def test_a_column_that_is_constant_up_to_rounding_is_constant_beside_others(value, rows):
    X = np.full((rows, 3), value)
    X[1::2, 1] = np.nextafter(value, np.inf)  # 0.1 + 0.2 is not 0.3
    X[:, 2] = np.arange(rows)
    (scaled,) = data.standardised(X)
    assert_array_equal(scaled[:, :2], np.zeros((rows, 2)))
    assert_array_equal(data.moments(X)[1] == 0, [True, True, False])
    assert_array_equal(StandardScaler().fit(X).scale_ == 1, [True, True, False])


@given(st.integers(2, 400), st.floats(-1e6, 1e6), st.floats(-18, 0), st.integers(0, 99))
def test_data_sets_and_scalers_agree(rows, offset, exponent, seed):
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    X = offset * (1 + 10**exponent * noise)
    mean, spread = data.moments(X)
    near = np.abs(X.std(axis=0) - rows * EPS * np.abs(mean)) < 10 * rows * EPS**1.5 * np.abs(mean) + 4 * EPS * np.abs(mean)
    same = (spread == 0) == (StandardScaler().fit(X).scale_ == 1)
    assert (same | near).all()


def test_the_rule():
    mean, rows = np.full(3, 2.0), 100
    assert constant(mean, rows * EPS * np.array([1.9, 2.1, 0.0]), rows).tolist() == [True, False, True]
    assert constant(np.zeros(2), np.array([0.0, 1e-300]), rows).tolist() == [True, False]
    assert constant(np.ones(1), np.full(1, 1e300), 2**60).all()  # where rounding is all there is
