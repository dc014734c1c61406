"""check_gradient: what passes, what fails, where no verdict is possible, and what a failure says."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirelu import testing
from minirelu.testing import GradientMismatch, NoVerdict
from minirelu.testing.faults import d_relu, hidden, planted, relu
from minirelu.testing.strategies import arrays, dtypes, pre_activations, shapes

DTYPES = [np.float32, np.float64]


def rng(seed=0):
    return np.random.default_rng(seed)


def sloped(share):
    """The vjp of relu with that slope at 0."""
    return lambda g, x: ((np.where(x > 0, g, 0) + share * g * (x == 0)).astype(g.dtype),)


def with_zeros(dtype, shape=(4, 7)):
    x = rng(1).normal(size=shape).astype(dtype)
    x[:2, :3] = 0
    return x


# --------------------------------------------------------------------------------------------------------- kinks


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0, 0.5, 1, 0.123])
@pytest.mark.parametrize("mode", ["directions", "elementwise"])
def test_every_slope_between_the_two_is_valid(share, dtype, mode):
    x = with_zeros(dtype)
    assert testing.check_gradient(relu, sloped(share), x, rng=rng(), mode=mode).kinks == 6
    report = testing.check_gradient(relu, sloped(share), x, rng=rng(), mode=mode, preactivations=lambda x: x)
    assert report.kinks == 6
    assert report.nearest == {"layer 0": (0.0, (0, 0))}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [2, -1, 1.001, -0.001])
def test_a_slope_outside_is_never_passed(share, dtype):
    """A black box could hide several kinks there; with its pre-activations it cannot."""
    x = with_zeros(dtype)
    with pytest.raises(NoVerdict, match="right on both sides of this point"):
        testing.check_gradient(relu, sloped(share), x, rng=rng())
    with pytest.raises(GradientMismatch, match=f"pre-activation .* at its kink, and the gradient goes {share} of the way"):
        testing.check_gradient(relu, sloped(share), x, rng=rng(), preactivations=lambda x: x, shrink=False)


def test_kinks_of_mixed_sign_that_only_a_black_box_hides():
    """f = relu(x) - relu(-x) is x: slope 0 at both kinks gives the valid gradient 0, although f has the slope 1."""

    def f(x):
        return relu(x) - relu(-x)

    def vjp(g, x):
        return (np.where(x > 0, g, 0) + np.where(x < 0, g, 0),)

    testing.check_gradient(f, vjp, np.array([1.0, -2.0]), rng=rng())
    with pytest.raises(NoVerdict, match="a black box cannot tell"):
        testing.check_gradient(f, vjp, np.array([1.0, 0.0]), rng=rng())
    with pytest.raises(NoVerdict, match="move together"):  # nothing but x moves them, and it moves both
        testing.check_gradient(f, vjp, np.array([1.0, 0.0]), rng=rng(), preactivations=lambda x: [x, -x])


def two_units(x, a):
    return a[0] * relu(x[0] + x[1]) + a[1] * relu(x[0] - x[1])


def d_two_units(s):
    """Slopes s[0], s[1] at the two kinks; the derivative in `a` is the units' values."""

    def vjp(g, x, a):
        z = np.array([x[0] + x[1], x[0] - x[1]])
        c = g * a * np.where(z > 0, 1, np.where(z == 0, s, 0))
        return np.array([c[0] + c[1], c[0] - c[1]]), g * relu(z)

    return vjp


@pytest.mark.parametrize(("s", "valid"), [((0, 0), 1), ((1, 0), 1), ((0.3, 0.9), 1), ((1.2, 0), 0), ((0, -0.5), 0)])
def test_hidden_kinks_are_separated_through_the_pre_activations(s, valid):
    """With s = (1, 0) the gradient lies outside the one-sided slopes of x[0], and is valid all the same."""
    x, a = np.zeros(2), np.array([1.0, -3.0])

    def check(**options):
        return testing.check_gradient(two_units, d_two_units(np.array(s)), x, a, rng=rng(), shrink=False, **options)

    def z(x, a):
        return np.array([x[0] + x[1], x[0] - x[1]])

    if valid:
        assert check(preactivations=z).kinks == 2
    else:
        with pytest.raises(GradientMismatch):
            check(preactivations=z)
    if s == (1, 0):
        with pytest.raises(NoVerdict):
            check()


def test_entries_of_one_kink_take_one_share():
    """max(x, y) where they tie: (1, 0), (½, ½) and (0, 1) are valid, (1, 1) and (0, 0) are not, although each 0 or 1 is."""

    def f(x):
        return x.max()

    for share, valid in [((1, 0), True), ((0.5, 0.5), True), ((0, 1), True), ((1, 1), False), ((0, 0), False)]:
        vjp = lambda g, x, share=share: (g * np.array([*share, 0.0]) if x[0] == x[1] else g * (x == x.max()),)
        if valid:
            testing.check_gradient(f, vjp, np.array([2.0, 2.0, -1.0]), rng=rng())
        else:
            with pytest.raises(GradientMismatch, match="share one kink"):
                testing.check_gradient(f, vjp, np.array([2.0, 2.0, -1.0]), rng=rng(), shrink=False)


def test_kinks_of_two_entries_may_take_two_shares():
    """relu(x) - relu(y): each has its own kink, and the jumps cancel along (1, 1)."""

    def f(x):
        return relu(x[0]) - relu(x[1])

    testing.check_gradient(f, lambda g, x: (np.array([g * 0.25, -g * 0.75]),), np.zeros(2), rng=rng())


@given(pre_activations(np.float64, shape=(3, 5)), st.floats(0, 1))
@settings(max_examples=15)
def test_hidden_layers_of_any_pattern_pass(drawn, share):
    z, b, _, _ = drawn
    W = np.eye(5)

    def vjp(g, x, W, b):
        s = x @ W + b
        dz = np.where(s > 0, g, np.where(s == 0, share * g, 0))
        return dz @ W.T, x.T @ dz, dz.sum(axis=0, keepdims=True)

    testing.check_gradient(hidden, vjp, z, W, b, rng=rng(), preactivations=lambda x, W, b: x @ W + b)


# --------------------------------------------------------------------------------------------------- no verdict


@pytest.mark.parametrize(
    ("f", "x", "why"),
    [
        (relu, np.array([1.0, np.nan]), "holds NaN or inf"),
        (relu, np.array([1.0, -np.inf]), "holds NaN or inf"),
        (np.log, np.array([1.0, -1.0]), "NaN or infinite at this point"),
        (np.sign, np.array([1.0, 0.0]), "jumps"),
        (lambda x: np.where(x > 0, x + 1, x), np.array([1.0, 0.0]), "jumps"),
        (np.floor, np.array([1.5, 2.0]), "jump"),
    ],
)
def test_no_verdict_is_never_a_pass(f, x, why):
    for vjp in (lambda g, x: (g,), lambda g, x: (0 * g,)):
        with pytest.raises(NoVerdict, match=why):
            testing.check_gradient(f, vjp, x, rng=rng())
    assert not issubclass(NoVerdict, AssertionError)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_root_at_0_has_no_verdict_and_nan_elsewhere_is_a_mismatch():
    with pytest.raises(NoVerdict):
        testing.check_gradient(np.sqrt, lambda g, x: (g / (2 * np.sqrt(x)),), np.array([0.0, 1.0]), rng=rng())
    with pytest.raises(GradientMismatch, match="not finite"):
        testing.check_gradient(relu, lambda g, x: (g * (x * 0 / np.where(x > 0, 1, 0)),), np.array([1.0, -1.0]), rng=rng())


def test_noise_allows_no_verdict():
    draws = rng(3)
    with pytest.raises(NoVerdict):
        testing.check_gradient(lambda x: np.abs(x) + 0.1 * draws.normal(size=3), lambda g, x: (g,), np.ones(3), rng=rng())


def test_functions_that_are_not_analytic_do_without_the_complex_step():
    report = testing.check_gradient(np.abs, lambda g, x: (g * np.sign(x),), with_zeros(np.float64), rng=rng())
    assert report.oracles == {"extrapolated differences"}
    report = testing.check_gradient(np.exp, lambda g, x: (g * np.exp(x),), np.ones(3), rng=rng())
    assert report.oracles == {"extrapolated differences", "complex step"}


# ----------------------------------------------------------------------------------------------------- arguments


@given(arrays(values="tied") | arrays(values="plain"), dtypes)
@settings(max_examples=25)
def test_any_shape_and_layout(x, dtype):
    x = x.astype(dtype)
    if x.size > 300:
        x = x[:1]
    before = x.copy()
    testing.check_gradient(relu, d_relu, x, rng=rng(), directions=1)
    np.testing.assert_array_equal(x, before)


@given(shapes(max_side=2), st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=15)
def test_huge_and_tiny_numbers(shape, size):
    x = size * (rng().normal(size=shape) + 3)
    testing.check_gradient(np.square, lambda g, x: (2 * g * x,), x, rng=rng())
    with pytest.raises(GradientMismatch) if x.size else contextlib.nullcontext():
        testing.check_gradient(np.square, lambda g, x: (2.001 * g * x,), x, rng=rng(), shrink=False)


def test_what_is_no_function_is_refused_with_a_sentence():
    x = np.ones(3)
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, got int"):
        testing.check_gradient(relu, d_relu, x, rng=0)
    with pytest.raises(TypeError, match="argument 1 must be an array of float32 or float64, got int64; close over"):
        testing.check_gradient(relu, d_relu, x, np.arange(3), rng=rng())
    with pytest.raises(TypeError, match="vjp returned 2 gradients for 1 arguments"):
        testing.check_gradient(relu, lambda g, x: (g, g), x, rng=rng())
    with pytest.raises(TypeError, match="vjp returned a ndarray instead of a tuple"):
        testing.check_gradient(relu, lambda g, x: g, x, rng=rng())
    with pytest.raises(ValueError, match="mode was 'all'; expected one of directions, elementwise"):
        testing.check_gradient(relu, d_relu, x, rng=rng(), mode="all")


# ------------------------------------------------------------------------------------------------------- reports


def test_a_failure_says_where_and_can_be_pasted():
    def vjp(g, x):
        return (np.where(x > 0, g, 0) + 0.5 * (x > 2) * g,)

    x = np.array([[1.5, -2.0], [3.0, 0.25]])
    with pytest.raises(GradientMismatch) as caught:
        testing.check_gradient(relu, vjp, x, rng=rng())
    report, text = caught.value.report, str(caught.value)
    finding = report.finding
    assert (finding.argument, finding.index, finding.output) == ("argument 0", (1, 0), (1, 0))
    assert (finding.below, finding.above, finding.analytic) == (1.0, 1.0, 1.5)
    assert 0 < finding.tolerance < 1e-12
    assert "slope below     1\n  slope above     1\n  analytic value  1.5" in text
    names = {"f": relu, "vjp": vjp}
    with pytest.raises(GradientMismatch):
        exec(report.example.replace("\n  ", "\n").strip(), names)
    assert names["x0"].tolist() == [[3.0]]  # the smallest example


def test_the_tolerance_is_derived():
    """From the dtype, the number of terms and their size."""

    def tolerance(dtype, n, size=1.0):
        x = (size * rng(2).uniform(1, 2, n)).astype(dtype)
        return testing.check_gradient(relu, d_relu, x, rng=rng()).tolerance

    assert tolerance(np.float32, 10) > 1e6 * tolerance(np.float64, 10)
    assert tolerance(np.float64, 1000) > 5 * tolerance(np.float64, 10)
    assert 50 < tolerance(np.float64, 10, 100.0) / tolerance(np.float64, 10) < 200


def test_the_same_seed_gives_the_same_report():
    x = with_zeros(np.float32)
    assert testing.check_gradient(relu, d_relu, x, rng=rng(5)) == testing.check_gradient(relu, d_relu, x, rng=rng(5))


# ----------------------------------------------------------------------------------------------- planted faults


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("right", [False, True])
def test_planted_faults_are_caught_and_the_right_gradients_pass(dtype, right):
    assert len(planted(dtype)) >= 24
    for k, fault in enumerate(planted(dtype)):
        if right:
            assert fault.check(rng(k), dtype, right=True).finding is None
        else:
            with pytest.raises(GradientMismatch):
                fault.check(rng(k), dtype)
