"""Loss, gradient and Hessian of one ReLU: golden numbers, quadrature, differences, Monte Carlo, symmetries, tails, refusals."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

from minirelu.errors import ShapeError
from minirelu.theory import single_relu as sr
from minirelu.theory.normal import bivariate_cdf, rectified_mean, rectified_square

POINT = (np.array([0.3, -0.2, 0.5]), -0.1, np.array([0.0, 0.0, 0.7]), 0.2)  # w, b, Γ, Δ
both_targets = pytest.mark.parametrize("target", ["linear", "relu"])
targets = st.sampled_from(["linear", "relu"])
seeds = st.integers(0, 2**32 - 1)


def draw(seed, inputs=None):
    """A random unit and target in one to four dimensions, ‖w‖ ≥ 0.3."""
    rng = np.random.default_rng(seed)
    L = inputs or rng.integers(1, 5)
    w = rng.normal(size=L)
    w *= max(1, 0.3 / np.linalg.norm(w))
    return w, rng.normal(), rng.normal(size=L), rng.normal()


def theta_gradient(theta, Gamma, Delta, target):
    dw, db = sr.gradient(theta[:-1], theta[-1], Gamma, Delta, target)
    return np.append(dw, db)


def differences(f, theta, h=1e-3):
    """Central differences of fourth order: error h⁴ and eps/h, both below 1e-9 here."""
    steps = h * np.eye(len(theta))
    return np.array([(8 * (f(theta + e) - f(theta - e)) - (f(theta + 2 * e) - f(theta - 2 * e))) / (12 * h) for e in steps])


# ------------------------------------------------------------------------------------------------ golden numbers


def test_golden_numbers_linear_target():
    assert_allclose(sr.loss(*POINT), 0.1455211532667, atol=5e-14)
    dw, db = sr.gradient(*POINT)
    assert_allclose(dw, [0.074698538532, -0.049799025688, -0.180398457838], atol=5e-13)
    assert_allclose(db, -0.111508417092, atol=5e-13)
    assert_allclose(sr.active_probability(*POINT[:2]), 0.435565745799, atol=5e-13)


def test_golden_numbers_relu_target():
    assert_allclose(sr.loss(*POINT, target="relu"), 0.068445243647, atol=5e-13)
    dw, db = sr.gradient(*POINT, target="relu")
    assert_allclose(dw, [0.063742432974, -0.042494955316, -0.174691929616], atol=5e-13)
    assert_allclose(db, -0.118605880154, atol=5e-13)


@pytest.mark.parametrize(
    ("w", "b", "dw", "db"),
    [
        (0.5, -0.2, 0.123100497744, 0.078392404443),
        (-0.5, -0.2, -0.221477760646, 0.152046432504),
        (-0.5, 0.3, -0.415454653176, 0.417658826410),
    ],
)
def test_golden_numbers_in_the_plane(w, b, dw, db):
    assert_allclose(np.ravel(sr.gradient([w], b, [0.1], 0.0)[0])[0], dw, atol=5e-13)
    assert_allclose(sr.plane_gradient(w, b, 0.1), (dw, db), atol=5e-13)


# ------------------------------------------------------------------------------------- against independent methods


def by_quadrature(w, b, Gamma, Delta, target):
    """The gradient by adaptive quadrature over s = u·x; what lies across u is a normal variable inside the residual."""
    n = np.linalg.norm(w)
    u = w / n
    g = Gamma @ u
    across = Gamma - g * u
    tau = np.linalg.norm(across)

    def mean(s):  # E[y | s]
        m = g * s + Delta
        return m if target == "linear" else m * stats.norm.cdf(m / tau) + tau * stats.norm.pdf(m / tau)

    def slope(s):  # E[y · (x along `across`) | s] / τ
        return 1.0 if target == "linear" else stats.norm.cdf((g * s + Delta) / tau)

    low = max(-b / n, -12.0)

    def over(f):
        value, error = integrate.quad(
            lambda s: f(s) * math.exp(-s * s / 2) / math.sqrt(2 * math.pi),
            low,
            max(low, 0) + 12,
            epsabs=1e-14,
            epsrel=1e-13,
            limit=200,
        )
        assert error < 1e-12
        return value

    along = over(lambda s: (n * s + b - mean(s)) * s)
    return along * u - over(slope) * across, over(lambda s: n * s + b - mean(s))


@both_targets
@pytest.mark.parametrize("seed", range(4))
def test_gradient_is_that_of_adaptive_quadrature(target, seed):
    point = draw(seed, inputs=3)
    expected = by_quadrature(*point, target)
    found = sr.gradient(*point, target)
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=0, atol=1e-13)


@given(seeds, targets)
def test_gradient_is_the_derivative_of_the_loss(seed, target):
    w, b, Gamma, Delta = draw(seed)
    theta = np.append(w, b)
    found = differences(lambda x: sr.loss(x[:-1], x[-1], Gamma, Delta, target), theta)
    assert_allclose(theta_gradient(theta, Gamma, Delta, target), found, rtol=0, atol=1e-8)


@given(seeds, targets)
def test_hessian_is_the_derivative_of_the_gradient(seed, target):
    w, b, Gamma, Delta = draw(seed)
    # near w ∥ Γ the ReLU target's third derivatives are large, and in one dimension its Hessian jumps
    assume(target == "linear" or abs(w @ Gamma) < 0.995 * np.linalg.norm(w) * np.linalg.norm(Gamma))
    theta = np.append(w, b)
    found = differences(lambda x: theta_gradient(x, Gamma, Delta, target), theta, h=3e-4)
    H = sr.hessian(w, b, Gamma, Delta, target)
    assert_array_equal(H, np.swapaxes(H, -1, -2))
    assert_allclose(H, found, rtol=0, atol=1e-7)


@both_targets
def test_monte_carlo_agrees_within_its_interval(target):
    """Four standard errors, seven comparisons: a right formula fails with chance 4e-4, and the seed is fixed."""
    w, b, Gamma, Delta = POINT
    x = np.random.default_rng(0).normal(size=(400_000, 3))
    y = x @ Gamma + Delta
    y = np.maximum(y, 0) if target == "relu" else y
    z = x @ w + b
    e = (np.maximum(z, 0) - y) * (z > 0)
    samples = np.column_stack([0.5 * (np.maximum(z, 0) - y) ** 2, e[:, None] * x, e, z > 0])
    expected = [sr.loss(*POINT, target), *sr.gradient(*POINT, target)[0], sr.gradient(*POINT, target)[1]]
    expected.append(sr.active_probability(w, b))
    distance = np.abs(samples.mean(axis=0) - expected) / (samples.std(axis=0) / math.sqrt(len(x)))
    assert (distance < 4).all(), distance


@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(-1, 1))
def test_bivariate_normal_is_scipys(h, k, r):
    expected = stats.multivariate_normal.cdf([h, k], cov=[[1, r], [r, 1]], allow_singular=True)
    found = bivariate_cdf(h, k, r)
    if abs(r) < 1 - 1e-9:
        assert_allclose(found, expected, atol=1e-14)
    assert max(stats.norm.cdf(h) - stats.norm.cdf(-k), 0) <= found <= min(stats.norm.cdf(h), stats.norm.cdf(k))


def test_bivariate_normal_at_its_corners():
    assert_allclose(bivariate_cdf(0, 0, 0.5), 1 / 4 + math.asin(0.5) / (2 * math.pi), atol=1e-16)
    assert_allclose(bivariate_cdf(0.3, 0.7, 1.0), stats.norm.cdf(0.3), atol=1e-16)
    assert_allclose(bivariate_cdf(0.3, 0.7, -1.0), stats.norm.cdf(0.3) - stats.norm.cdf(-0.7), atol=1e-16)
    near = 1 - 1e-13
    assert_allclose(bivariate_cdf(0.3, 0.3, near), stats.norm.cdf(0.3), atol=1e-6)


# ----------------------------------------------------------------------------------------- optimum, critical points


@both_targets
def test_hessian_at_the_optimum(target):
    Gamma = np.array([0.3, -0.4, 1.2])
    phi = 1 / math.sqrt(2 * math.pi)
    found = np.linalg.eigvalsh(sr.hessian(Gamma, 0.0, Gamma, 0.0, target))
    assert_allclose(found, [0.5 - phi, 0.5, 0.5, 0.5 + phi], atol=1e-15)
    assert_allclose([0.5 + phi, 0.5 - phi], [0.89894, 0.10106], atol=5e-6)


@both_targets
def test_critical_points_and_their_kinds(target):
    Gamma, Delta = np.array([0.3, 0.4]), 0.1
    optimum, dead = sr.critical_points(Gamma, Delta, target)
    assert (optimum.kind, dead.kind, dead.half_line) == ("minimum", "flat saddle", True)
    assert_allclose(theta_gradient(np.append(optimum.w, optimum.b), Gamma, Delta, target), 0, atol=1e-16)
    assert (optimum.curvatures > 0).all()
    for b in (-1e-3, -0.5, -7.0):
        assert_array_equal(theta_gradient(np.array([0, 0, b]), Gamma, Delta, target), 0)
        assert_array_equal(sr.hessian([0, 0], b, Gamma, Delta, target), 0)
        assert_allclose(sr.loss([0, 0], b, Gamma, Delta, target), dead.loss, rtol=1e-15)
    # a saddle: lower on the side of the target, higher on the other
    assert sr.loss(0.1 * Gamma, -0.05, Gamma, Delta, target) < dead.loss < sr.loss(-0.1 * Gamma, -0.05, Gamma, Delta, target)
    rng = np.random.default_rng(1)
    assert (sr.loss(rng.normal(size=(1000, 2)), rng.normal(size=1000), Gamma, Delta, target) >= optimum.loss).all()


def test_saddle_in_numbers():
    """L − L_dead at b = −.5, γ = .5, for w = ±.2 and ±.1: so flat that no training would notice."""
    w = np.array([[0.2], [-0.2], [0.1], [-0.1]])
    found = sr.loss(w, -0.5, [0.5], 0.0) - 0.125
    assert_allclose(found, [-6.0e-4, 6.5e-4, -1.4e-8, 1.4e-8], rtol=0.05)


@both_targets
@pytest.mark.parametrize("Delta", [-0.6, 0.0, 0.6])
def test_there_is_no_other_critical_point(target, Delta):
    """In the plane, which holds all of them: the gradient is at least 1e-3 of its size away from 0 off the known ones."""
    w, b = np.meshgrid(np.linspace(-3, 3, 301), np.linspace(-3, 3, 301))
    dw, db = sr.plane_gradient(w, b, 1.0, Delta, target=target)
    size = np.hypot(dw, db)
    away = (np.hypot(w - 1, b - Delta) > 0.1) & (b > -2.5 * np.abs(w)) & (np.hypot(w, b) > 0.05)
    assert size[away].min() > 5e-4


def test_variance_of_the_truncated_normal():
    assert_allclose(sr.truncated_variance(-8.0), 0.01432, atol=5e-6)
    z = np.array([-5.0, -1.0, 0.0, 2.0])
    assert_allclose(sr.truncated_variance(z), [stats.truncnorm.var(-a, np.inf) for a in z], rtol=1e-6)
    assert (sr.truncated_variance(np.linspace(-25, 6, 500)) > 0).all()


# -------------------------------------------------------------------------------------------- the paper's own forms


@given(seeds)
def test_rotated_form_of_the_paper_is_the_invariant_one(seed):
    """Eq. 27–29 against population.py."""
    w, b, Gamma, Delta = draw(seed)
    U = sr.rotation(w)
    assert_allclose(U @ U.T, np.eye(len(w)), atol=1e-14)
    assert_allclose(U @ w, np.linalg.norm(w) * np.eye(len(w))[-1], atol=1e-14)
    dw, db = sr.gradient(w, b, Gamma, Delta)
    rotated, same = sr.rotated_gradient(w, b, Gamma, Delta)
    assert_allclose(rotated, U @ dw, atol=1e-14)
    assert_allclose(same, db, atol=1e-14)


@given(seeds, targets)
def test_plane_form_is_the_invariant_one(seed, target):
    """Eq. 31–32 with their factor ρ, for w_L of either sign."""
    rng = np.random.default_rng(seed)
    w, b, gamma, Delta = rng.normal(size=20), rng.normal(size=20), rng.uniform(0.01, 2, 20), rng.normal(size=20)
    dw, db = sr.gradient(w[:, None], b, gamma[:, None], Delta, target)
    assert_allclose(sr.plane_gradient(w, b, gamma, Delta, target=target), [dw[:, 0], db], atol=1e-14)


def test_relu_target_in_the_plane_is_the_closed_form_of_one_dimension():
    """Δ = 0: what is subtracted from (Φ(z)w, |w|φ(z) + bΦ(z)) for w > 0 and w < 0."""
    Phi, phi = stats.norm.cdf, stats.norm.pdf
    for w, b, gamma in ((0.5, -0.2, 0.3), (0.5, 0.4, 0.3), (-0.5, -0.2, 0.3), (-0.5, 0.4, 0.3)):
        z = b / abs(w)
        k, up = max(-z, 0), max(z, 0)
        if w > 0:
            less = gamma * (Phi(-k) + k * phi(k)), gamma * phi(k)
        else:
            less = gamma * (Phi(up) - 0.5 - up * phi(up)), gamma * (phi(0) - phi(up))
        expected = Phi(z) * w - less[0], abs(w) * phi(z) + b * Phi(z) - less[1]
        assert_allclose(sr.plane_gradient(w, b, gamma, target="relu"), expected, atol=1e-15)


def test_figure_form_differs_in_the_bias_gradient_of_the_left_half_alone():
    w, b = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 20))
    (dw, db), (same, drawn) = (sr.plane_gradient(w, b, 0.1, form=form) for form in ("exact", "figure"))
    assert_array_equal(dw, same)
    assert_array_equal(db[w > 0], drawn[w > 0])
    z = b / np.abs(w)
    assert_allclose((drawn - db)[w < 0], (2 * (w - 0.1) * stats.norm.pdf(z))[w < 0], atol=1e-15)


def test_inequality_of_eq_12_is_the_other_way_round():
    """y ≤ f(y), so ŷ − y ≥ ŷ − f(y); the paper prints ≤."""
    y, prediction = np.linspace(-2, 2, 41), 0.3
    assert (prediction - y >= prediction - np.maximum(y, 0)).all()
    assert not (prediction - y <= prediction - np.maximum(y, 0)).all()


# --------------------------------------------------------------------------------------------------------- symmetry


@given(seeds, targets)
def test_rotation_equivariance(seed, target):
    w, b, Gamma, Delta = draw(seed)
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(w), len(w))))
    dw, db = sr.gradient(w, b, Gamma, Delta, target)
    turned = sr.gradient(Q @ w, b, Q @ Gamma, Delta, target)
    assert_allclose(turned[0], Q @ dw, atol=1e-13)
    assert_allclose(turned[1], db, atol=1e-13)
    assert_allclose(sr.loss(Q @ w, b, Q @ Gamma, Delta, target), sr.loss(w, b, Gamma, Delta, target), atol=1e-13)


@given(seeds, targets, st.floats(1e-6, 1e6))
def test_homogeneity(seed, target, k):
    w, b, Gamma, Delta = draw(seed)
    dw, db = sr.gradient(w, b, Gamma, Delta, target)
    scaled = sr.gradient(k * w, k * b, k * Gamma, k * Delta, target)
    assert_allclose(scaled[0], k * dw, atol=1e-13 * k)
    assert_allclose(scaled[1], k * db, atol=1e-13 * k)
    assert_allclose(
        sr.loss(k * w, k * b, k * Gamma, k * Delta, target), k * k * sr.loss(w, b, Gamma, Delta, target), atol=1e-13 * k * k
    )


@given(seeds, targets)
def test_sign_symmetry(seed, target):
    """x and −x are alike: turning w and Γ round turns ∂L/∂w round and leaves ∂L/∂b and the loss."""
    w, b, Gamma, Delta = draw(seed)
    dw, db = sr.gradient(w, b, Gamma, Delta, target)
    assert_array_equal(sr.gradient(-w, b, -Gamma, Delta, target)[0], -dw)
    assert_array_equal(sr.gradient(-w, b, -Gamma, Delta, target)[1], db)
    assert_array_equal(sr.loss(-w, b, -Gamma, Delta, target), sr.loss(w, b, Gamma, Delta, target))


# ------------------------------------------------------------------------------------------------------------ tails


@both_targets
@pytest.mark.parametrize("scale", [1e-3, 1e-100, 1e-200, 5e-324])
def test_tails_are_silent_or_linear(target, scale):
    w, Gamma, Delta = np.array([scale, 0.0]), np.array([0.3, -0.4]), 0.2
    dw, db = sr.gradient(w, -1.0, Gamma, Delta, target)
    assert_array_equal([*dw, db], 0)
    assert_array_equal(sr.hessian(w, -1.0, Gamma, Delta, target), 0)
    dw, db = sr.gradient(w, 1.0, Gamma, Delta, target)
    covered = stats.norm.cdf(0.4) if target == "relu" else 1.0  # P(Γᵀx + Δ > 0) = Φ(Δ/γ)
    assert_allclose(dw, w - covered * Gamma, atol=1e-15)
    assert_allclose(sr.hessian(w, 1.0, Gamma, Delta, target), np.eye(3), atol=1e-15)
    mean = rectified_mean(np.array(Delta), np.array(0.5)) if target == "relu" else Delta
    assert_allclose(db, 1.0 - mean, atol=1e-15)


@both_targets
def test_no_weights_is_not_an_error(target):
    Gamma = [0.3, -0.4]
    assert_array_equal(sr.active_probability(np.zeros((3, 2)), [1.0, 0.0, -1.0]), [1.0, 0.0, 0.0])
    assert_array_equal(sr.gradient([0, 0], 0.0, Gamma, 0.2, target)[0], 0)  # the kink: f'(0) = 0
    assert np.isfinite(sr.loss(np.zeros((3, 2)), [1.0, 0.0, -1.0], Gamma, 0.2, target)).all()
    assert np.isfinite(sr.hessian(np.zeros((3, 2)), [1.0, 0.0, -1.0], Gamma, 0.2, target)).all()
    assert_array_equal(np.array(sr.gradient([0.3, 0.1], -0.2, [0, 0], -0.5, "relu")[1]) > 0, True)  # a target that is 0


def test_tails_keep_their_digits():
    """E[f(Z)] and E[f(Z)²] far below 0, against φ(z)/z² and 2φ(z)/|z|³ with their next terms."""
    z = -30.0
    phi = stats.norm.pdf(z)
    first = phi * (1 / z**2 - 3 / z**4 + 15 / z**6 - 105 / z**8)
    assert_allclose(rectified_mean(np.array(z), np.array(1.0)), first, rtol=1e-8)
    second = -phi * (2 / z**3 - 12 / z**5 + 90 / z**7 - 840 / z**9)
    assert_allclose(rectified_square(np.array(z), np.array(1.0)), second, rtol=1e-7)  # z⁴ = 8e5 rounding errors
    assert_allclose(sr.loss([1e-3], -1.0, [0.5], 0.0), 0.125, rtol=1e-15)


@both_targets
@pytest.mark.parametrize("k", [1e-200, 1e-150, 1e100])
def test_only_ratios_matter_at_any_scale(target, k):
    """Squares of such weights underflow or overflow; the ratio b/‖w‖ = 1/√2 does not."""
    w, b, Gamma, Delta = np.array([1.0, 1.0]), 1.0, np.array([0.3, -0.4]), 0.2
    assert_allclose(sr.active_probability(k * w, k * b), stats.norm.cdf(1 / math.sqrt(2)), rtol=1e-15)
    scaled = sr.gradient(k * w, k * b, k * Gamma, k * Delta, target)
    for one, other in zip(scaled, sr.gradient(w, b, Gamma, Delta, target), strict=True):
        assert_allclose(one / k, other, rtol=1e-13)


@given(seeds, targets)
def test_float32_and_broadcasting_change_nothing(seed, target):
    rng = np.random.default_rng(seed)
    w, b = rng.normal(size=(2, 3, 4)).astype(np.float32), rng.normal(size=(3,)).astype(np.float32)
    Gamma, Delta = rng.normal(size=4).astype(np.float32), np.float32(0.25)
    dw, db = sr.gradient(w, b, Gamma, Delta, target)
    assert (dw.shape, db.shape, dw.dtype, db.dtype) == ((2, 3, 4), (2, 3), np.float64, np.float64)
    assert sr.loss(w, b, Gamma, Delta, target).shape == (2, 3)
    assert sr.hessian(w, b, Gamma, Delta, target).shape == (2, 3, 5, 5)
    one = sr.gradient(w[1, 2].astype(float), float(b[2]), Gamma.astype(float), 0.25, target)
    assert_allclose(dw[1, 2], one[0], atol=1e-15)
    assert_allclose(db[1, 2], one[1], atol=1e-15)


def test_cones():
    z = stats.norm.ppf(1e-4)  # −3.72: the paper prints the cones with the other sign (§5)
    assert_array_equal(sr.cone([1.0], [z - 0.01, z + 0.01, 0.0, -z - 0.01, -z + 0.01]), [-1, 0, 0, 0, 1])
    assert sr.cone([1.0], -z - 0.01) == 0  # z < −Φ⁻¹(ε), as printed, would call this unit dead


# -------------------------------------------------------------------------------------------------------- rescaling


def random_net(rng, widths):
    return [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in itertools.pairwise(widths)]


@given(seeds, st.floats(1e-4, 1e4), st.integers(0, 3))
def test_factors_a_layer_scale_a_net_and_one_factor_does_not(seed, gamma, hidden):
    rng = np.random.default_rng(seed)
    layers = random_net(rng, [3, *[5] * hidden, 2])
    x = rng.normal(size=(7, 3))
    y = sr.network(x, layers)
    # the rescaled sums round differently, relative to the sizes that were added
    size = sr.network(np.abs(x), [(np.abs(W), np.abs(b)) for W, b in layers]).max()
    assert_allclose(sr.network(x, sr.rescaled(layers, gamma)), gamma * y, rtol=0, atol=1e-13 * gamma * size)
    nu, powers = sr.scale_factors(gamma, hidden)
    assert_allclose([nu ** (hidden + 1), powers[-1]], gamma, rtol=1e-12)
    unbiased = [(W, 0 * b) for W, b in layers]
    scaled = sr.network(x, [(nu * W, b) for W, b in unbiased])
    assert_allclose(scaled, gamma * sr.network(x, unbiased), rtol=0, atol=1e-13 * gamma * size)


def test_theorem_d1_needs_its_biases():
    """With biases no common factor scales a net with a hidden layer, γ = 1 apart; 400 factors over eight decades."""
    rng = np.random.default_rng(0)
    layers, x = random_net(rng, [3, 5, 1]), rng.normal(size=(50, 3))
    y = sr.network(x, layers)
    errors = [np.abs(sr.network(x, [(nu * W, nu * b) for W, b in layers]) - 0.1 * y).max() for nu in np.logspace(-4, 4, 400)]
    assert min(errors) > 0.01 * np.abs(0.1 * y).max()


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: sr.gradient([1.0, math.nan], 0.0, [1.0, 0.0], 0.0), r"w must be finite, got nan at \(1,\)"),
        (lambda: sr.loss([1.0], math.inf, [1.0], 0.0), "b must be finite"),
        (lambda: sr.loss([1.0], 0.0, [1.0], 0.0, target="tanh"), "target must be one of"),
        (lambda: sr.plane_gradient(1.0, 0.0, -0.5), "gamma must be at least 0, got -0.5"),
        (lambda: sr.plane_gradient(1.0, 0.0, 0.5, form="figure", target="relu"), "use form='exact'"),
        (lambda: sr.cone([1.0], 0.0, eps=0.7), "eps must be in"),
        (lambda: sr.critical_points([0.0, 0.0], 0.0), "Gamma is 0"),
        (lambda: sr.trajectory([1.0], 0.0, [1.0], 0.0, beta=1.0), r"beta must be in \[0, 1\)"),
        (lambda: sr.trajectory([1.0], 0.0, [1.0], 0.0, lr=-1.0), "lr must be at least 0"),
        (lambda: sr.trajectory([1.0], 0.0, [1.0], 0.0, steps=-1), "steps must be a whole number"),
        (lambda: sr.scale_factors(-1.0, 2), "gamma must be positive"),
        (lambda: sr.gradient(["a"], 0.0, [1.0], 0.0), "w must be real numbers"),
    ],
)
def test_bad_numbers_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: sr.gradient([1.0, 2.0], 0.0, [1.0, 2.0, 3.0], 0.0),
        lambda: sr.gradient(1.0, 0.0, 1.0, 0.0),
        lambda: sr.loss(np.ones((3, 2)), np.ones(4), np.ones(2), 0.0),
        lambda: sr.critical_points(np.ones((2, 2)), 0.0),
        lambda: sr.network(np.ones(3), [(np.ones((2, 2)), np.ones(2))]),
        lambda: sr.rescaled([(np.ones((2, 2)), np.ones(3))], 0.5),
        lambda: sr.trajectory([1.0], 0.0, [1.0], 0.0, lr=[0.1, 0.2]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ShapeError, match="got"):
        call()
