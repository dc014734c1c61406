"""Nets born dead: the bounds against their derivation and against drawn nets, RAI's spread, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from minirelu import init
from minirelu.theory import born_dead
from minirelu.theory.normal import rectified_square

GOLDEN = {(10, 2): (0.870, 0.925), (10, 3): (0.513, 0.699), (10, 5): (0.064, 0.249), (20, 4): (0.520, 0.707)}


@pytest.mark.parametrize("shape", GOLDEN)
def test_golden_bounds(shape):
    found = born_dead.lower_bound(*shape), born_dead.upper_bound(*shape)
    assert_allclose(found, GOLDEN[shape], atol=5e-4)


@given(st.integers(2, 40), st.integers(1, 12))
def test_lower_bound_is_its_chain_and_below_the_upper(depth, width):
    """Two rays, one ray, none: the chain of the docstring, multiplied out."""
    p = 2.0**-width
    two, none = (1 - p) ** 2 - width * p * p, p * p
    step = np.array([[two, 1 - two - none, none], [0, 1 - p, p], [0, 0, 1]])
    state = np.array([1 - 2 * p, 2 * p, 0]) @ np.linalg.matrix_power(step, depth - 2)
    lower, upper = born_dead.lower_bound(depth, width), born_dead.upper_bound(depth, width)
    assert_allclose(lower, state[2], atol=1e-14)
    assert -1e-15 <= lower <= upper <= 1


@pytest.mark.parametrize("shape", [*GOLDEN, (3, 1), (5, 4)])
def test_drawn_nets_lie_between_the_bounds(shape):
    found = born_dead.simulate_born_dead(*shape, n=10_000)
    assert born_dead.lower_bound(*shape) <= found.high
    assert born_dead.upper_bound(*shape) >= found.low
    assert found.low < found.mean < found.high
    assert found.high - found.low < 0.021


def test_bounds_are_not_far_and_one_does_not_do_the_work_of_the_other():
    """At depth 10 and width 3 both bounds exclude what the other allows: the interval of 10,000 nets is inside them."""
    found = born_dead.simulate_born_dead(10, 3)
    assert born_dead.lower_bound(10, 3) < found.low < found.high < born_dead.upper_bound(10, 3)


def test_upper_bound_takes_a_width_for_each_hidden_layer():
    assert_allclose(born_dead.upper_bound(4, [2, 3, 4]), 1 - (3 / 4) * (7 / 8) * (15 / 16), rtol=1e-15)
    assert born_dead.upper_bound(4, [3, 3, 3]) == born_dead.upper_bound(4, 3)
    found = born_dead.simulate_born_dead(4, [2, 3, 4])
    assert found.low < born_dead.upper_bound(4, [2, 3, 4])


@pytest.mark.parametrize(("width", "hidden"), [(2, 5), (3, 4), (4, 10)])
def test_point_survival(width, hidden):
    """The simulated share's 95 % interval, seed fixed."""
    found = born_dead.simulate_point_survival(width, hidden, n=20_000, seed=1)
    assert found.low <= born_dead.point_survival(width, hidden) <= found.high
    assert_allclose(born_dead.point_survival(width, hidden), 1 - born_dead.upper_bound(hidden + 1, width), rtol=1e-13)


@pytest.mark.parametrize(("width", "expected"), [(1, 1 / 4), (2, 1 / 64)])
def test_orthant_death(width, expected):
    assert born_dead.orthant_death(width) == expected
    found = born_dead.simulate_orthant_death(width, n=100_000)
    assert found.low <= expected <= found.high


def test_rai_sigma():
    assert_allclose(born_dead.rai_sigma(2 / 3, 1 / 2), 0.600747, atol=5e-7)
    assert_allclose(born_dead.rai_sigma(2 / 3, 1 / 2), init.RAI_STD, rtol=1e-15)
    assert_allclose(born_dead.rai_sigma(0, 0), math.sqrt(2), rtol=1e-15)  # no special entry: He


@given(st.floats(0, 0.99), st.floats(0, 1))
def test_rai_sigma_makes_the_second_moment_one(mean, share):
    second = mean**2 + share * (0.999 - mean**2)
    sigma = born_dead.rai_sigma(mean, second)
    assert_allclose(sigma**2 / 2 + math.sqrt(2 / math.pi) * mean * sigma + second, 1, atol=1e-12)


@given(st.floats(0, 20), st.floats(0.01, 20))
def test_bound_behind_rai_sigma(mean, std):
    """E[f(Z)²] ≤ ½τ² + 2φ(0)mτ + m²."""
    bound = std**2 / 2 + 2 * stats.norm.pdf(0) * mean * std + mean**2
    assert rectified_square(np.array(mean), np.array(std)) <= bound * (1 + 1e-14)


def test_rai_nets_are_born_dead_less_often():
    """Depth 10, width 2: He 88 %, RAI about 22 % (Lu et al.)."""
    found = born_dead.simulate_born_dead(10, 2, n=4000, law="rai")
    assert found.low - 0.01 < 0.22 < found.high + 0.01


@given(st.integers(0, 200), st.integers(1, 200))
def test_share_is_the_exact_interval(hits, n):
    hits = min(hits, n)
    expected = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    found = born_dead.share(hits, n)
    assert_allclose([found.mean, found.low, found.high], [hits / n, expected.low, expected.high], atol=1e-9)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: born_dead.upper_bound(1, 3), "depth must be a whole number, at least 2, got 1"),
        (lambda: born_dead.upper_bound(5, 0), "width must be a whole number, at least 1, got 0"),
        (lambda: born_dead.upper_bound(5, [3, 3]), "depth 5 has 4 hidden layers, got 2 widths"),
        (lambda: born_dead.lower_bound(5, -2), "width must be"),
        (lambda: born_dead.lower_bound(2.5, 2), "depth must be"),
        (lambda: born_dead.rai_sigma(-0.1, 0.5), "mean must be at least 0"),
        (lambda: born_dead.rai_sigma(0.9, 0.5), "second_moment must be in"),
        (lambda: born_dead.rai_sigma(0.5, 1.0), "second_moment must be in"),
        (lambda: born_dead.rai_sigma(math.nan, 0.5), "mean must be finite"),
        (lambda: born_dead.point_survival(3, -1), "hidden must be"),
        (lambda: born_dead.orthant_death(0), "width must be"),
        (lambda: born_dead.simulate_born_dead(3, 3, n=0), "n must be"),
        (lambda: born_dead.simulate_born_dead(3, 3, law="zero"), "law must be one of"),
        (lambda: born_dead.share(3, 2), "hits must be at most n = 2"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()
