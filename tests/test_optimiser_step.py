"""kernels.optimiser_step: every rule and backend against its textbook formula in float64, and bit for bit among backends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import kernels
from minirelu.errors import ShapeError
from minirelu.kernels import _jit
from minirelu.kernels.optimiser_step import RULES

# coefficients that no two rules could mistake for each other
VALUES = {"lr": 0.1, "beta": 0.9, "rest": 0.3, "rate": 0.2, "beta1": 0.8, "rest1": 0.25, "beta2": 0.95, "rest2": 0.04}
VALUES |= {"root": 1.5, "eps": 1e-3}


def textbook(rule, x, g, state, c):
    """The new parameter and the new state, from the formulas of the papers, one number at a time."""
    if rule == "sgd":
        return x - c["lr"] * g, []
    if rule == "heavy_ball":
        v = c["beta"] * state[0] + g
        return x - c["lr"] * v, [v]
    if rule == "nesterov":
        v = c["beta"] * state[0] + g
        return x - c["lr"] * g - c["lr"] * c["beta"] * v, [v]
    if rule == "ema":
        m = c["beta"] * state[0] + c["rest"] * g
        return x - c["lr"] * m, [m]
    m = c["beta1"] * state[0] + c["rest1"] * g
    v = c["beta2"] * state[1] + c["rest2"] * g**2
    return x - c["rate"] * m / (np.sqrt(v) * c["root"] + c["eps"]), [m, v]


def drawn(rule, shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, g, *state = (np.array(rng.normal(size=shape), dtype) for _ in range(2 + len(RULES[rule][1])))
    return x, g, [np.array(np.abs(s)) for s in state]


def coefficients(rule, replicas=None):
    values = [VALUES[name] for name in RULES[rule][0]]
    return values if replicas is None else [np.full(replicas, v) * (1 + np.arange(replicas) / 10) for v in values]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (5,), (7, 33), (3, 4, 5), (2, 3, 4, 5), (0, 4)])
def test_the_rules_are_the_textbooks(backend, rule, dtype, shape):
    x, g, state = drawn(rule, shape, dtype)
    expected, moved = textbook(rule, *(a.astype(float) for a in (x, g)), [s.astype(float) for s in state], VALUES)
    before = x.copy(), g.copy()
    new = kernels.optimiser_step(rule, x, g, coefficients(rule), *state)
    tolerance = {"rtol": 20 * np.finfo(dtype).eps, "atol": 20 * np.finfo(dtype).eps}  # a dozen roundings of numbers near 1
    assert new.dtype == dtype
    assert_allclose(new, expected, **tolerance)
    for ours, theirs in zip(state, moved, strict=True):
        assert_allclose(ours, theirs, **tolerance)
    assert_array_equal(x, before[0])
    assert_array_equal(g, before[1])


@pytest.mark.parametrize("rule", RULES)
def test_each_replica_has_its_own_coefficients(backend, rule):
    x, g, state = drawn(rule, (3, 4, 5), np.float32)
    alone = []
    for r in range(3):
        own = [s[r].copy() for s in state]
        alone.append(kernels.optimiser_step(rule, x[r], g[r], [c[r] for c in coefficients(rule, 3)], *own))
    assert_array_equal(kernels.optimiser_step(rule, x, g, coefficients(rule, 3), *state), np.stack(alone))


@pytest.mark.parametrize("rule", RULES)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-30, 1.0, 1e30]), parallel=st.booleans())
def test_backends_agree_bit_for_bit(rule, seed, scale, parallel):
    if _jit.missing():
        pytest.skip(_jit.missing())
    found = []
    for name in ("reference", "numba"):
        x, g, state = drawn(rule, (5, 37), np.float32, seed)
        g *= np.float32(scale)
        g[0, :3] = np.nan, np.inf, -np.inf
        with pytest.MonkeyPatch.context() as patch, kernels.using(name), np.errstate(all="ignore"):
            patch.setattr(_jit, "PARALLEL_FROM", 1 if parallel else 1 << 20)
            new = kernels.optimiser_step(rule, x, g, coefficients(rule), *state)
        found.append(np.stack([new, *state]))
    assert_array_equal(np.isnan(found[0]), np.isnan(found[1]))
    assert_array_equal(np.nan_to_num(found[0]).view(np.uint32), np.nan_to_num(found[1]).view(np.uint32))


def test_out_is_written_and_returned(backend):
    x, g, _ = drawn("sgd", (4, 5), np.float64)
    out = np.zeros((4, 5))
    assert kernels.optimiser_step("sgd", x, g, [0.5], out=out) is out
    assert_array_equal(out, x - 0.5 * g)


X = np.zeros((3, 4, 5), np.float32)


@pytest.mark.parametrize(
    ("arguments", "out", "error", "sentence"),
    [
        (("rprop", X, X.copy(), [1.0]), None, ValueError, "knows sgd, heavy_ball, .*, got 'rprop'"),
        (("sgd", X, X.copy(), [1.0, 2.0]), None, ValueError, r"takes 1 coefficients \(lr\) and 0 state arrays"),
        (("ema", X, X.copy(), [1.0, 2.0, 3.0]), None, ValueError, r"1 state arrays \(m\), got 3 and 0"),
        (("sgd", X, X[0], [1.0]), None, ShapeError, r"x is float32 \(3, 4, 5\), so g must be the same"),
        (("sgd", X, X.astype(float), [1.0]), None, ShapeError, "so g must be the same, got float64"),
        (("sgd", X.astype(int), X, [1.0]), None, TypeError, "x must be float32 or float64, got int64"),
        (("sgd", X.astype(np.float16), X, [1.0]), None, TypeError, "x must be float32 or float64, got float16"),
        (("sgd", X, X.copy(), [[1.0, 2.0]]), None, ShapeError, r"2 values of each coefficient need x of shape \(2, I, O\)"),
        (("ema", X[0, 0, 0], X[0, 0, 1], [1.0] * 3, X[0, 0, 2]), None, TypeError, "x must be a NumPy or CuPy array"),
        (("sgd", X, X.copy(), [1.0]), X, ValueError, "out overlaps an input"),
        (("sgd", X, X.copy(), [1.0]), X[0], ShapeError, "out must be float32"),
        (("ema", X, X.copy(), [1.0, 2.0, 3.0], X), None, ValueError, "m overlaps an input"),
        (("ema", X, X.copy(), [1.0, 2.0, 3.0], X[..., :3]), None, ShapeError, "m must be float32"),
    ],
)
def test_what_is_refused(backend, arguments, out, error, sentence):
    before = X.copy()
    with pytest.raises(error, match=sentence):
        kernels.optimiser_step(*arguments, out=out)
    assert_array_equal(X, before)


def test_a_division_by_zero_is_no_error(backend):
    x = np.ones((2, 3), np.float32)
    values = dict(zip(RULES["adam"][0], [0.1, 0.9, 0.1, 0.9, 0.1, 1.0, 0.0], strict=True))
    zero = np.zeros_like(x)
    new = kernels.optimiser_step("adam", x, zero, list(values.values()), zero.copy(), zero.copy())
    assert np.isnan(new).all()  # 0/0, as IEEE arithmetic has it


@pytest.mark.parametrize("which", ["x", "g"])
@pytest.mark.parametrize("written", ["out", "state"])
def test_what_is_written_may_not_overlap_an_input_that_is_not_contiguous(backend, which, written):
    memory = np.arange(16.0).reshape(4, 4)
    inputs = {"x": np.ones((4, 4)), "g": np.ones((4, 4))} | {which: memory.T}
    out, v = (memory, np.zeros((4, 4))) if written == "out" else (None, memory)
    with pytest.raises(ValueError, match=f"{'out' if written == 'out' else 'v'} overlaps an input"):
        kernels.optimiser_step("heavy_ball", inputs["x"], inputs["g"], [0.1, 0.9], v, out=out)
    assert_array_equal(memory, np.arange(16.0).reshape(4, 4))
