"""check_optimizer, check_scaler and check_affine_invariance: what passes, and what is found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirelu import optim, testing
from minirelu.testing import GradientMismatch
from minirelu.testing.optimizers import TEXTBOOK, quadratic
from minirelu.testing.strategies import largest_rate, seeds, stable_settings, unstable_settings

DTYPES = [np.float32, np.float64]


def rng(seed=0):
    return np.random.default_rng(seed)


@given(stable_settings(), seeds, st.sampled_from(DTYPES))
@settings(max_examples=25)
def test_stable_settings_follow_the_textbook(drawn, seed, dtype):
    kind, hyper = drawn
    report = testing.check_optimizer(lambda p: kind(p, **hyper), rng(seed), dtype=dtype)
    assert report.comparisons == 250


@given(unstable_settings(), seeds)
@settings(max_examples=15)
def test_unstable_settings_follow_it_too(drawn, seed):
    kind, hyper = drawn
    testing.check_optimizer(lambda p: kind(p, **hyper), rng(seed))


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_follows_algorithm_1(dtype):
    testing.check_optimizer(lambda p: optim.Adam(p, 0.1, 0.8, 0.95, 1e-6), rng(), dtype=dtype)


def wrong_step(kind, **change):
    """An optimiser whose update is that of others than it says."""

    class Wrong(kind):
        def coefficients(self):
            values = dict(zip(self.hyper, super().coefficients(), strict=False))
            return (*(change.get(name, lambda v: v)(v) for name, v in values.items()), *super().coefficients()[len(values) :])

    Wrong.__name__ = kind.__name__
    return Wrong


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (optim.SGD, {"lr": lambda v: -v}),
        (optim.HeavyBall, {"beta": lambda v: v * (1 - 1e-9)}),
        (optim.Nesterov, {"lr": lambda v: v * (1 + 1e-9)}),
        (optim.EMAMomentum, {"beta": lambda v: 1 - v}),
    ],
)
def test_a_wrong_optimiser_is_found(kind, change):
    hyper = {"lr": 0.1} if kind is optim.SGD else {"lr": 0.1, "beta": 0.7}
    with pytest.raises(GradientMismatch, match=f"not where the textbook form is: {kind.__name__} after step"):
        testing.check_optimizer(lambda p: wrong_step(kind, **change)(p, **hyper), rng())


def test_heavy_ball_is_not_nesterov_and_an_own_form_can_be_given():
    with pytest.raises(GradientMismatch):
        testing.check_optimizer(lambda p: optim.HeavyBall(p, 0.1, 0.5), rng(), textbook=TEXTBOOK["Nesterov"])

    class Mine(optim.SGD):
        pass

    with pytest.raises(ValueError, match="there is no textbook form of Mine; expected one of SGD"):
        testing.check_optimizer(lambda p: Mine(p, 0.1), rng())
    testing.check_optimizer(lambda p: Mine(p, 0.1), rng(), textbook=TEXTBOOK["SGD"])


@given(stable_settings() | unstable_settings())
@settings(max_examples=30)
def test_the_stable_range_ends_where_a_root_leaves_the_circle(drawn):
    """The companion matrix of the iteration on ½hθ², h = 2, has its largest eigenvalue inside or outside 1."""
    kind, hyper = drawn
    beta, q = hyper.get("beta", 0.0), 2 * hyper["lr"]
    if kind is optim.Nesterov:
        trace, product = (1 + beta) * (1 - q), beta * (1 - q)
    else:
        trace, product = 1 + beta - q * (1 - beta if kind is optim.EMAMomentum else 1), beta
    radius = np.abs(np.roots([1, -trace, product])).max()
    assert (radius < 1) == (q < largest_rate(kind, beta))


def test_quadratics_have_the_curvatures_they_claim():
    gradient, start = quadratic(rng())
    H = np.array([gradient(start + row) - gradient(start) for row in np.eye(5)[:, None]])[:, 0]
    eigenvalues = np.linalg.eigvalsh((H + H.T) / 2)
    assert eigenvalues.min() > 0.04
    assert eigenvalues.max() < 2.01


# --------------------------------------------------------------------------------------------------------- scalers

preprocessing = pytest.importorskip("sklearn.preprocessing")


class Off:
    """A scaler after scikit-learn's protocol, which may be spoiled."""

    def __init__(self, spoil=""):
        self.spoil = spoil

    def fit(self, X):
        self.mean_, std = X.mean(axis=0), X.std(axis=0)
        # a column whose spread is rounding error of its mean is constant
        self.std_ = np.where(std <= 1e-12 * np.abs(X).max(axis=0), 1.0, std) * (1 + 1e-9 * (self.spoil == "drifts"))
        if self.spoil == "writes":
            X[0] = 0
        return self

    def transform(self, X):
        return (X - self.mean_) / self.std_

    def inverse_transform(self, Z):
        return Z * self.std_ * (1 + 1e-9 * (self.spoil == "inverse")) + self.mean_ * (self.spoil != "forgets")


@pytest.mark.parametrize("make", [preprocessing.StandardScaler, preprocessing.MinMaxScaler, Off])
def test_scalers_keep_their_promises(make):
    for seed in range(10):
        testing.check_scaler(make, rng(seed))
    testing.check_affine_invariance(make, rng())


def test_scalers_that_keep_the_units():
    for make in (lambda: preprocessing.StandardScaler(with_std=False), lambda: preprocessing.FunctionTransformer()):
        testing.check_scaler(make, rng(), invariant=False)
        with pytest.raises(GradientMismatch, match=r"transform of aX \+ b"):
            testing.check_scaler(make, rng())
        with pytest.raises(GradientMismatch, match="the prediction in other units"):
            testing.check_affine_invariance(make, rng(), a=2.0)


@pytest.mark.parametrize("spoil", ["writes", "inverse", "forgets"])
def test_scalers_that_break_them_are_found(spoil):
    with pytest.raises(GradientMismatch, match="the scaler breaks its promise"):
        testing.check_scaler(lambda: Off(spoil), rng())
