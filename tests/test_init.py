"""Initialisers: the moments and bounds their papers state, and the random stream in which the replica axis is born."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import init

FAN_IN, FAN_OUT = 160, 250
COUNT = FAN_IN * FAN_OUT
# The seed is fixed, so these tests either always pass or never; five standard errors leave a right formula alone
# (two-sided chance 6e-7) and catch an error of 5·σ/√COUNT, that is 3 % of σ.
SIGMAS = 5


def weights(initialiser, **options):
    return initialiser(np.random.default_rng(0), (FAN_IN, FAN_OUT), np.float64, **options)


def assert_moments(sample, variance, kurtosis):
    """Mean 0 and the given variance, within SIGMAS standard errors; `kurtosis` is E[x⁴]/σ⁴ of the law."""
    n = sample.size
    assert abs(sample.mean()) <= SIGMAS * math.sqrt(variance / n)
    assert abs(sample.var() - variance) <= SIGMAS * variance * math.sqrt((kurtosis - 1) / n)


@pytest.mark.parametrize(
    ("initialiser", "variance"),
    [(init.he, 2 / FAN_IN), (init.xavier, 2 / (FAN_IN + FAN_OUT)), (init.lecun, 1 / FAN_IN)],
)
def test_variance_of_the_scaled_initialisers(initialiser, variance):
    assert_moments(weights(initialiser), variance, kurtosis=3)
    uniform = weights(initialiser, law="uniform")
    assert_moments(uniform, variance, kurtosis=1.8)
    bound = math.sqrt(3 * variance)
    assert np.abs(uniform).max() <= bound
    # the largest of COUNT draws misses the bound by more than 20/COUNT of it with chance e⁻²⁰
    assert np.abs(uniform).max() >= bound * (1 - 20 / COUNT)
    assert np.abs(weights(initialiser)).max() > bound  # the normal law is not the uniform one


def test_torch_default_draws_weights_and_biases_from_one_bound():
    W, b = weights(init.torch_default)
    bound = 1 / math.sqrt(FAN_IN)
    assert W.shape == (FAN_IN, FAN_OUT)
    assert b.shape == (1, FAN_OUT)
    assert_moments(W, bound**2 / 3, kurtosis=1.8)
    assert_moments(b, bound**2 / 3, kurtosis=1.8)
    assert np.abs(W).max() <= bound
    assert np.abs(b).max() <= bound
    assert not np.array_equal(W[0], b[0])


def test_plain_entries():
    rng = np.random.default_rng(0)
    assert_array_equal(init.constant(2.5)(rng, (2, 3), np.float32), np.full((2, 3), 2.5))
    assert_array_equal(init.zeros(rng, (2, 3), np.float32), np.zeros((2, 3)))
    assert_moments(init.normal(0.3)(rng, (200, 200), np.float64), 0.09, kurtosis=3)
    drawn = init.uniform(0.3)(rng, (200, 200), np.float64)
    assert_moments(drawn, 0.03, kurtosis=1.8)
    assert np.abs(drawn).max() <= 0.3


# ------------------------------------------------------------------------------------------------------------- rai


def test_rai_std_is_the_papers():
    assert_allclose(init.RAI_STD, 0.6007, rtol=0, atol=5e-5)  # printed with four digits


def test_rai_keeps_the_second_moment():
    """RAI_STD is the positive root of E[relu(z)²] = h² over all positions of the replaced entry (Lu et al. §4).

    With P from Beta(2, 1), of moments μ₁ = 2/3 and μ₂ = 1/2, the condition reads σ²/2 + μ₁σ√(2/π) + μ₂ = 1.
    """
    mu1, mu2, s = 2 / 3, 1 / 2, init.RAI_STD
    assert_allclose(s**2 / 2 + mu1 * s * math.sqrt(2 / math.pi) + mu2, 1, rtol=1e-14)


def test_rai_replaces_one_entry_of_each_row_by_a_beta():
    """The same generator draws the normal rows first, so the entries that differ from them are those replaced."""
    fan_in, fan_out = 9, 40_000
    W, b = init.rai(np.random.default_rng(0), (fan_in, fan_out), np.float64)
    rows = np.concatenate([W, b])
    assert W.shape == (fan_in, fan_out)
    assert b.shape == (1, fan_out)
    plain = np.random.default_rng(0).normal(0, init.RAI_STD / 3, (fan_in + 1, fan_out))
    replaced = rows != plain
    assert_array_equal(replaced.sum(axis=0), np.ones(fan_out))  # exactly one a unit
    share = replaced.mean(axis=1)
    assert_allclose(share, 0.1, rtol=0, atol=SIGMAS * math.sqrt(0.09 / fan_out))  # every entry alike, the bias too
    betas = rows[replaced]
    assert betas.min() > 0
    assert betas.max() < 1
    # Beta(2, 1) has mean 2/3, variance 1/18 and second moment 1/2 (whose own variance is 1/3 − 1/4)
    assert abs(betas.mean() - 2 / 3) <= SIGMAS * math.sqrt(1 / 18 / fan_out)
    assert abs((betas**2).mean() - 1 / 2) <= SIGMAS * math.sqrt(1 / 12 / fan_out)
    assert_moments(rows[~replaced], init.RAI_STD**2 / fan_in, kurtosis=3)


# -------------------------------------------------------------------------------------------------------- replicas


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "initialiser",
    [init.torch_default, init.he, init.xavier, init.lecun, init.rai, init.zeros, init.normal(2.0), init.uniform(2.0)],
    ids=["torch_default", "he", "xavier", "lecun", "rai", "zeros", "normal", "uniform"],
)
def test_a_replica_draws_what_its_seed_draws_alone(initialiser, dtype):
    seeds = [7, 0, 7]
    together = initialiser(init.replicas(seeds), (4, 3), dtype)
    for r, seed in enumerate(seeds):
        alone = initialiser(np.random.default_rng(seed), (4, 3), dtype)
        parts = zip(together, alone, strict=True) if isinstance(together, tuple) else [(together, alone)]
        for many, one in parts:
            assert many.dtype == one.dtype == dtype
            assert many.shape == (3, *one.shape)
            assert_array_equal(many[r], one)


def test_the_stream_goes_on_from_draw_to_draw():
    rng = init.replicas([5])
    first, second = (init.normal(1.0)(rng, (2, 2), np.float64) for _ in range(2))
    alone = np.random.default_rng(5)
    assert_array_equal(first[0], alone.normal(size=(2, 2)))
    assert_array_equal(second[0], alone.normal(size=(2, 2)))


def test_constants_get_the_axis():
    assert init.constant(3.0)(init.replicas([1, 2]), (1, 4), np.float32).shape == (2, 1, 4)


def test_seeds_derived_from_one_are_repeatable_and_differ():
    rng = init.replicas(3, 64)
    assert len(rng) == 64
    assert rng.seeds == init.replicas(3, 64).seeds
    assert rng.seeds[:10] == init.replicas(3, 10).seeds  # more replicas do not change the first ones
    assert len({*rng.seeds, *init.replicas(4, 64).seeds}) == 128
    assert_array_equal(init.he(rng, (2, 2), np.float64)[63], init.he(np.random.default_rng(rng.seeds[63]), (2, 2), np.float64))


def test_replicas_take_all_64_bit_seeds():
    assert init.replicas([7, 2**63 + 1]).seeds == [7, 2**63 + 1]
    derived = init.replicas(3, 64).seeds
    assert init.replicas(derived).seeds == derived


def test_replicas_take_numpy_seeds():
    assert init.replicas(np.array([1, 2], np.uint32)).seeds == [1, 2]
    assert init.replicas(range(3)).seeds == [0, 1, 2]


@pytest.mark.parametrize(
    ("seeds", "n"),
    [
        (3, None),
        ([], None),
        ([1.5], None),
        ([-1], None),
        (-1, 2),
        ([1], 2),
        (True, 2),
        ([True], None),
        ([[1, 2]], None),
        ("ab", None),
    ],
)
def test_replicas_refuse_anything_else(seeds, n):
    with pytest.raises(ValueError, match="non-negative integer"):
        init.replicas(seeds, n)


def test_errors():
    with pytest.raises(ValueError, match="expected at least 1"):
        init.replicas(3, 0)
    with pytest.raises(ValueError, match="law must be 'normal' or 'uniform', got 'gauss'"):
        init.he(np.random.default_rng(0), (2, 2), np.float64, law="gauss")
    for wrong in (0, None, np.random.RandomState(0)):
        with pytest.raises(TypeError, match=f"got {type(wrong).__name__}"):
            init.he(wrong, (2, 2), np.float64)
