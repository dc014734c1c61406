"""Momentum on a quadratic: golden numbers, the spectrum against brute force, the closed form against iteration, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from minirelu.theory import linear_system as ls

forms = st.sampled_from(ls.FORMS)
betas = st.floats(0, 0.999)
rates = st.floats(1e-4, 4)
every_form = pytest.mark.parametrize("form", ls.FORMS)


def iterated(form, lr, beta, curvature, steps):
    """a_t of the update rule, written out, from a = 1 and m = 0."""
    m, a, path = 0.0, 1.0, [1.0]
    for _ in range(steps):
        g = curvature * a
        m = beta * m + (1 - beta) * g if form == "ema" else beta * m + g
        a -= lr * (g + beta * m) if form == "nesterov" else lr * m
        path.append(a)
    return np.array(path)


def test_golden_numbers():
    assert_allclose(ls.eigenvalues("ema", 0.1, 0.9), [0.945 + 0.083516j, 0.945 - 0.083516j], atol=5e-7)
    assert_allclose(ls.spectral_radius("ema", 0.1, 0.9), 0.948683, atol=5e-7)
    assert_allclose(2 * math.pi / np.angle(ls.eigenvalues("ema", 0.1, 0.9)[0]), 71.3, atol=0.05)
    assert_allclose(ls.critical_beta("ema", 0.1), 0.6694, atol=5e-5)
    curvatures = [0.5 + 1 / math.sqrt(2 * math.pi), 0.5, 0.5 - 1 / math.sqrt(2 * math.pi)]
    assert_allclose(ls.critical_beta("ema", 0.1, curvatures), [0.6973, 0.8186, 0.9604], atol=5e-5)


@pytest.mark.parametrize(
    ("form", "lr", "beta", "deepest", "depth", "digits"),
    [
        ("ema", 0.1, 0.7, 49, -0.00014, 5),
        ("ema", 0.1, 0.8, 31, -0.02964, 5),
        ("ema", 0.1, 0.9, 35, -0.15316, 5),
        ("ema", 0.1, 0.95, 46, -0.29983, 5),
        ("ema", 0.1, 0.99, 100, -0.60398, 5),
        ("nesterov", 0.01, 0.9, 35, -0.1205, 4),
    ],
)
def test_golden_overshoots(form, lr, beta, deepest, depth, digits):
    found = ls.overshoot(form, lr, beta)
    assert found.deepest == deepest
    assert round(found.depth, digits) == depth
    path = iterated(form, lr, beta, 1.0, deepest)
    assert found.first == np.argmax(path < 0)


@given(forms, rates, betas, st.floats(0.05, 2))
def test_spectrum_is_that_of_the_matrix(form, lr, beta, curvature):
    A = ls.matrix(form, lr, beta, curvature)
    found, brute = ls.eigenvalues(form, lr, beta, curvature), np.linalg.eigvals(A)
    # a double eigenvalue moves by the square root of a rounding error
    nearest = np.abs(found[:, None] - brute).min(axis=1)
    assert_allclose(nearest, 0, atol=1e-7 * max(1, np.abs(A).max()))
    assert_allclose([found.sum(), found.prod()], [np.trace(A), np.linalg.det(A)], atol=1e-12 * max(1, np.abs(A).max() ** 2))
    radius = np.abs(brute).max()
    if abs(radius - 1) > 1e-6:
        assert ls.stable(form, lr, beta, curvature) == (radius < 1)
    discriminant = np.trace(A) ** 2 - 4 * np.linalg.det(A)
    if abs(discriminant) > 1e-12 * max(1, np.abs(A).max() ** 2):
        assert ls.oscillates(form, lr, beta, curvature) == (discriminant < 0) == (abs(brute[0].imag) > 0)
        assert ls.oscillates(form, lr, beta, curvature) == (beta > ls.critical_beta(form, lr, curvature))


@given(forms, betas, st.floats(0.05, 2))
def test_stability_ends_where_an_eigenvalue_reaches_one(form, beta, curvature):
    limit = float(ls.stability_limit(form, beta, curvature))
    inside, outside = ((1 + e) * limit for e in (-1e-6, 1e-6))
    assert np.abs(np.linalg.eigvals(ls.matrix(form, inside, beta, curvature))).max() < 1
    assert np.abs(np.linalg.eigvals(ls.matrix(form, outside, beta, curvature))).max() > 1
    assert ls.stable(form, inside, beta, curvature)
    assert not ls.stable(form, outside, beta, curvature)


@given(forms, st.floats(0, 2), st.floats(0.05, 2), betas)
def test_response_in_closed_form_is_the_iteration(form, share, curvature, beta):
    lr = share / 2 * 0.999 * ls.stability_limit(form, beta, curvature)
    steps = 300
    path = iterated(form, lr, beta, curvature, steps)
    found = ls.response(form, lr, beta, np.arange(steps + 1), curvature)
    # rounding of the two coefficients moves r_t by up to t² eps where the eigenvalues are close, and both sides have it
    assert_allclose(found, path, rtol=0, atol=1e-14 + 4 * steps**2 * 2.3e-16 * np.abs(path).max())


@every_form
def test_response_is_sharp_at_the_papers_settings(form):
    for beta in (0.0, 0.3, 0.7, 0.9, 0.95):
        assert_allclose(ls.response(form, 0.1, beta, np.arange(200)), iterated(form, 0.1, beta, 1.0, 199), atol=1e-14, rtol=0)


@given(forms, st.floats(0.01, 0.9))
def test_response_at_a_double_eigenvalue(form, q):
    beta = float(ls.critical_beta(form, q))
    assert_allclose(ls.response(form, q, beta, np.arange(60)), iterated(form, q, beta, 1.0, 59), atol=1e-12, rtol=0)


@given(forms, rates, betas)
def test_overshoot_is_the_lowest_of_a_long_iteration(form, lr, beta):
    if not 0 < lr < 0.99 * ls.stability_limit(form, beta) or beta > 0.99:
        return
    path, found = iterated(form, lr, beta, 1.0, 2000), ls.overshoot(form, lr, beta)
    assert_allclose(found.depth, min(path.min(), 0), atol=1e-12)
    assert (found.first is None) == (found.depth == 0.0)


def test_real_positive_eigenvalues_never_overshoot_and_ripples_do_at_once():
    assert ls.overshoot("ema", 0.1, 0.6) == ls.Overshoot(None, None, 0.0)
    assert ls.overshoot("ema", 1.5, 0.0)[:2] == (1, 1)


@given(st.floats(1e-3, 0.5), betas, st.floats(0.05, 2))
def test_ema_is_heavy_ball_with_a_smaller_rate(lr, beta, curvature):
    t = np.arange(100)
    other = ls.convert("ema", "heavy_ball", lr, beta)
    assert_allclose(other, (lr * (1 - beta), beta), rtol=1e-15)
    found = ls.response("ema", lr, beta, t, curvature)
    assert_allclose(ls.response("heavy_ball", *other, t, curvature), found, atol=1e-10)
    assert_allclose(ls.convert("heavy_ball", "ema", *other), (lr, beta), rtol=1e-12)


@given(st.floats(1e-3, 0.4), st.floats(0, 0.99), st.floats(0.05, 2))
def test_nesterov_is_heavy_ball_with_less_momentum_looked_at_ahead(lr, beta, curvature):
    t = np.arange(1, 100)
    other = ls.convert("nesterov", "heavy_ball", lr, beta, curvature)
    assert_allclose(
        np.sort_complex(ls.eigenvalues("heavy_ball", *other, curvature)),
        np.sort_complex(ls.eigenvalues("nesterov", lr, beta, curvature)),
        atol=1e-7,
    )
    ahead = (1 + beta) * ls.response("heavy_ball", *other, t, curvature)
    found = ahead - beta * ls.response("heavy_ball", *other, t - 1, curvature)
    assert_allclose(found, ls.response("nesterov", lr, beta, t, curvature), atol=1e-10)
    assert_allclose(ls.convert("heavy_ball", "nesterov", *other, curvature), (lr, beta), atol=1e-12)


def test_eq_20_is_the_matrix_of_the_paper():
    assert_allclose(ls.matrix("ema", 0.1, 0.9), [[0.9, 0.1], [-0.09, 0.99]], rtol=1e-15)


def test_eigenvalues_have_no_negative_real_part_for_small_rates():
    """The paper says strictly positive; at β = 0 one eigenvalue is 0."""
    lr, beta = np.meshgrid(np.linspace(0.01, 0.99, 50), np.linspace(0, 0.99, 50))
    found = ls.eigenvalues("ema", lr, beta)
    assert (np.abs(found) < 1).all()
    assert (found.real[beta > 0] > 0).all()
    assert (found.real >= 0).all()
    assert (found.real[beta == 0].min(axis=-1) == 0).all()


def test_everything_broadcasts():
    lr, beta, t = np.full((3, 1, 1), 0.1), np.linspace(0, 0.9, 4)[:, None], np.arange(5)
    assert ls.matrix("ema", lr, beta).shape == (3, 4, 1, 2, 2)
    assert ls.eigenvalues("nesterov", lr, beta).shape == (3, 4, 1, 2)
    assert ls.response("heavy_ball", lr, beta, t).shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ls.matrix("adam", 0.1, 0.9), "form must be one of 'ema', 'heavy_ball', 'nesterov', got 'adam'"),
        (lambda: ls.matrix("ema", -0.1, 0.9), "lr must be at least 0, got -0.1"),
        (lambda: ls.eigenvalues("ema", 0.1, 1.0), r"beta must be in \[0, 1\), got 1"),
        (lambda: ls.eigenvalues("ema", 0.1, [0.5, -0.1]), r"beta must be in \[0, 1\), got -0.1 at \(1,\)"),
        (lambda: ls.response("ema", math.nan, 0.9, 3), "lr must be finite, got nan"),
        (lambda: ls.response("ema", 0.1, 0.9, -1), "t must be at least 0"),
        (lambda: ls.response("ema", 0.1, 0.9, 0.5), "t must be whole numbers"),
        (lambda: ls.matrix("ema", 0.1, 0.9, -1.0), "curvature must be at least 0"),
        (lambda: ls.matrix("ema", "fast", 0.9), "lr must be real numbers"),
        (lambda: ls.matrix("ema", [0.1, 0.2], [0.1, 0.2, 0.3]), "do not broadcast"),
        (lambda: ls.overshoot("ema", 50.0, 0.5), "is not stable; 0 < lr < 6 is"),
        (lambda: ls.overshoot("ema", [0.1], 0.5), "takes one lr"),
        (lambda: ls.convert("heavy_ball", "nesterov", 0.5, 0.9), "no nesterov"),
    ],
)
def test_bad_input_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()
