"""Means and their intervals, against tables and by counting how often they cover."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minirelu.estimates import Estimate, error_estimate, estimate


def test_estimate_is_students_interval():
    e = estimate([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2  # t table, 3 degrees of freedom
    np.testing.assert_allclose(e, [2.5, 2.5 - half, 2.5 + half, 4], rtol=1e-6)
    assert estimate([0.0, 0.0, 0.1], 0.0, 1.0).low == 0.0
    assert estimate([0.3], 0.0, 1.0) == Estimate(0.3, 0.0, 1.0, 1)
    assert estimate([]).n == 0


def test_equal_counts_do_not_make_an_interval_of_width_0():
    e = estimate([0.0, 0.0, 0.0], 0.0, 1.0, resolution=1 / 200)
    np.testing.assert_allclose(e.high, 4.302653 / 200 / 12**0.5 / 3**0.5, rtol=1e-6)  # t table, 2 degrees of freedom
    wide = [0.1, 0.2, 0.6]
    assert estimate(wide, resolution=1 / 200) == estimate(wide)


def test_the_interval_covers_the_mean_in_95_of_100():
    rng = np.random.default_rng(0)
    inside = [e.low <= 3.0 <= e.high for e in (estimate(rng.normal(3, 2, 4)) for _ in range(2000))]
    assert abs(np.mean(inside) - 0.95) < 4 * (0.95 * 0.05 / 2000) ** 0.5  # four standard errors


@given(st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=6))
def test_error_is_the_geometric_mean(errors):
    e = error_estimate(errors)
    np.testing.assert_allclose(e.mean, np.exp(np.mean(np.log(errors))), rtol=1e-12)
    assert 0 <= e.low <= e.mean * (1 + 1e-12)
    assert e.mean * (1 - 1e-12) <= e.high
