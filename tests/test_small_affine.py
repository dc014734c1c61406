"""The small affine layer against exact sums, replicas against nets by themselves, and its two ways against each other."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import Tensor, kernels, ops
from minirelu.kernels import _jit, _plain, mask
from minirelu.kernels.small_affine import is_small
from minirelu.testing.strategies import special

SIZES = st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 25, 33])  # around half a vector, a vector and a word of the mask
WORDS = types.SimpleNamespace(**{n: getattr(f, "py_func", f) for n, f in vars(_plain).items() if callable(f)})


def drawn(lead, rows, inputs, units, dtype, seed=0):
    """x, W, b and g."""
    rng = np.random.default_rng(seed)
    shapes = (rows, inputs), (inputs, units), (1, units), (rows, units)
    return [rng.normal(size=(*lead, *shape)).astype(dtype) for shape in shapes]


def assert_near(found, a, b, n):
    """`found` is a @ b (n products a sum, their signs kept) within the n·eps·Σ|terms| of kernels/small_affine.py."""
    exact, size = (np.matmul(u.astype(np.longdouble), v.astype(np.longdouble)) for u, v in ((a, b), (abs(a), abs(b))))
    assert found.dtype == a.dtype
    assert found.shape == exact.shape
    assert (abs(found - exact) <= n * np.finfo(a.dtype).eps * size).all()  # NaN would fail


def assert_right(x, W, b, g, rectified, with_dx):
    y, packed, active, nonfinite = kernels.small_affine(x, W, b, rectified)
    ones = np.ones((*x.shape[:-1], 1), x.dtype)
    s = y
    if rectified:
        s = kernels.small_affine(x, W, b, False)[0]  # the same sums
        assert_array_equal(y, np.maximum(s, 0))
        assert_array_equal(packed, mask.pack(s > 0))
        assert_array_equal(active, (s > 0).sum(axis=-2))
        assert_array_equal(nonfinite, np.zeros_like(active))
    assert_near(s, np.concatenate([x, ones], -1), np.concatenate([W, b], -2), x.shape[-1] + 1)
    dz = g.copy()
    dx, dW, db = kernels.small_affine_backward(dz, packed, x, W, with_dx)
    assert_array_equal(dz, np.where(s > 0, g, 0) if rectified else g)
    assert_near(dW, x.swapaxes(-1, -2), dz, x.shape[-2])
    assert_near(db, ones.swapaxes(-1, -2), dz, x.shape[-2])
    if with_dx:
        assert_near(dx, dz, W.swapaxes(-1, -2), W.shape[-1])
    else:
        assert dx is None


@given(
    st.sampled_from([(), (3,)]), SIZES, SIZES, SIZES, st.sampled_from([np.float32, np.float64]), st.booleans(), st.booleans()
)
@pytest.mark.parametrize("name", ["reference", "numba"])
def test_against_exact_sums(name, lead, rows, inputs, units, dtype, rectified, with_dx):
    if name == "numba" and _jit.missing():
        pytest.skip(_jit.missing())
    with kernels.using(name):
        assert_right(*drawn(lead, rows, inputs, units, dtype), rectified, with_dx)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(backend, dtype):
    """With x = 0 the pre-activation is the bias: the table of DESIGN §4.2, in vectors and in the tail."""
    values = np.resize(special(dtype), (1, 33))
    x, W = np.zeros((2, 1), dtype), np.zeros((1, 33), dtype)
    expected = kernels.bias_relu_forward(np.zeros((2, 33), dtype), values)
    for found, right in zip(kernels.small_affine(x, W, values, True), expected, strict=True):
        assert_array_equal(found, right)
    g = np.full((2, 33), np.inf, dtype)
    kernels.small_affine_backward(g, expected[1], x, W, False)
    assert_array_equal(g, kernels.relu_backward(np.full_like(g, np.inf), expected[1])[0])


@pytest.mark.parametrize("rectified", [False, True])
def test_a_replica_has_the_bits_of_a_net_by_itself(backend, rectified):
    for rows, inputs, units in [(32, 16, 16), (5, 3, 33), (1, 1, 1), (64, 200, 30)]:
        x, W, b, g = drawn((3,), rows, inputs, units, np.float32)
        for shared in (False, True):  # the replicas have rows of their own, or the same
            own = [x[0]] * 3 if shared else x
            op = ops.affine_relu if rectified else ops.affine
            leaves = [Tensor(a) for a in (x[0] if shared else x, W, b)]
            y = op(*leaves)
            (y * g).sum().backward()
            for r in range(3):
                alone = [Tensor(a) for a in (own[r], W[r], b[r])]
                y_alone = op(*alone)
                (y_alone * g[r]).sum().backward()
                assert_array_equal(y.data[r], y_alone.data)
                for ours, theirs in zip(leaves[shared:], alone[shared:], strict=True):
                    assert_array_equal(ours.grad[r], theirs.grad)


def test_what_is_small_depends_on_one_replica():
    for lead in ((), (1,), (50,)):
        x, W, b, _ = drawn(lead, 32, 16, 16, np.float32)
        assert kernels.small_layer(x, W, b) == (x, W, b)
        assert kernels.small_layer(*drawn(lead, 64, 8, 200, np.float32)[:3]) is None
        assert kernels.small_layer(x, W, b.astype(np.float64)) is None
    spread = kernels.small_layer(x[0].T.copy().T, W, b)
    assert [a.shape for a in spread] == [(50, 32, 16), (50, 16, 16), (50, 1, 16)]
    assert all(a.flags.c_contiguous for a in spread)
    assert kernels.small_layer(x[:3], W[:2], b[:2]) is None  # the general way explains what is wrong
    assert kernels.small_layer(x[:, :0], W, b) is None


@pytest.mark.parametrize("streaming", [False, True])
def test_the_compiled_loops_are_true_in_plain_python_too(streaming, monkeypatch):
    def plainly(function):
        return function

    made = {name: kernels.KERNELS[name].numba(plainly, WORDS, streaming) for name in ("small_affine", "small_affine_backward")}
    monkeypatch.setattr(kernels, "_ready", kernels._ready | made)
    monkeypatch.setattr(kernels, "_choice", types.SimpleNamespace(get=lambda: "auto"))
    assert_right(*drawn((2,), 3, 9, 33, np.float64), True, True)


def test_wild_values_are_counted(backend):
    x, W, b, _ = drawn((2,), 5, 3, 20, np.float32)
    x[1, 2, 0] = np.inf
    y, _, active, nonfinite = kernels.small_affine(x, W, b, True)
    assert_array_equal(active, (y > 0).sum(axis=-2))
    assert_array_equal(nonfinite, (~np.isfinite(y)).sum(axis=-2))
    assert nonfinite[1].any()
    assert not nonfinite[0].any()


def test_at_most_64_rows_are_small():
    """So that counters of 8 bits are enough."""
    assert is_small(64, 16, 16)
    assert not is_small(65, 1, 1)
