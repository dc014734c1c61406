"""Every primitive: slopes, dtypes, layouts, ownership; kinks and special values pinned by value.

`testing.check_vjp` does the work of the tests named test_NAME_slopes, one for every primitive (the last test counts them).
Operands are entries of strategies.GRID: at most 4 in size, at least 1/64 away from 0 and 1/32 from one another.
"""

import re

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import Tensor, kernels, losses, ops, testing
from minirelu.engine import primitive, unbroadcast
from minirelu.errors import ShapeError
from minirelu.testing.primitives import pulled
from minirelu.testing.strategies import (
    axes,
    broadcast_points,
    broadcastable,
    laid_out,
    layouts,
    leading,
    points,
    shapes,
    special,
)

H = 2.0**-10  # a step that is exact, and small beside the distance of GRID to a kink

one_array = shapes().flatmap(points)


def check(op, *operands, **options):
    """In float64 and in float32: the entries of GRID are exact in both."""
    for dtype in (np.float64, np.float32):
        rng = np.random.default_rng(operands[0].size)
        testing.check_vjp(op, *(x.astype(dtype, copy=False) for x in operands), rng=rng, directions=2, **options)


def bits(array):
    """The bit patterns, so that -0 differs from +0; every NaN is one NaN."""
    array = np.array(array)
    array[np.isnan(array)] = np.nan
    return array.view(f"u{array.itemsize}")


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype
    assert_array_equal(bits(found), bits(expected))


# ---------------------------------------------------------------------------------------------------- arithmetic


@given(broadcast_points(2))
def test_add_slopes(xs):
    check(ops.add, *xs)


@given(broadcast_points(2))
def test_sub_slopes(xs):
    check(ops.sub, *xs)


@given(broadcast_points(2))
def test_mul_slopes(xs):
    check(ops.mul, *xs)


@given(broadcast_points(2))
def test_div_slopes(xs):
    check(ops.div, *xs)


@given(one_array)
def test_neg_slopes(xs):
    check(ops.neg, *xs)


@given(broadcast_points(2))
def test_pow_slopes(xs):
    a, b = xs
    check(ops.pow, np.abs(a) + 0.5, b)


@pytest.mark.parametrize(("a", "b", "slope"), [(0.0, 0, 0.0), (0.0, 1, 1.0), (0.0, 2, 0.0), (-3.0, 2, -6.0), (-3.0, 3, 27.0)])
def test_pow_with_a_number_at_and_below_zero(a, b, slope):
    x = Tensor(a)
    (x**b).backward()
    assert x.grad == slope


@pytest.mark.parametrize(("a", "b", "slope"), [(0.0, 2.0, 0.0), (2.0, 3.0, 8 * np.log(2.0)), (1.0, 5.0, 0.0)])
def test_pow_slope_in_the_exponent(a, b, slope):
    exponent = Tensor(b)
    (a**exponent).backward()
    assert exponent.grad == slope


@st.composite
def matmul_shapes(draw):
    lead = draw(broadcastable(2, max_dims=1, max_side=2))
    B, inner, O = draw(st.tuples(*[st.integers(0, 3)] * 3))  # noqa: E741
    a = draw(st.sampled_from([(inner,), (*lead[0], B, inner)]))
    b = draw(st.sampled_from([(inner,), (*lead[1], inner, O)]))
    return a, b


@given(matmul_shapes().flatmap(lambda found: points(*found)))
def test_matmul_slopes(xs):
    assert_array_equal(ops.matmul.raw(*xs)[0], np.matmul(*xs))
    check(ops.matmul, *xs)


@pytest.mark.parametrize(("a", "b"), [((), (3,)), ((3,), ())])
def test_matmul_refuses_numbers(a, b):
    with pytest.raises(ShapeError, match="at least one axis"):
        ops.matmul(Tensor(np.ones(a)), np.ones(b))


@st.composite
def affine_shapes(draw, min_side=0):
    lead_y, lead_W, lead_b = draw(leading(3, max_dims=1))
    B, I, O = draw(st.tuples(*[st.integers(min_side, 3)] * 3))  # noqa: E741
    return (*lead_y, B, I), (*lead_W, I, O), (*lead_b, 1, O)


@given(affine_shapes().flatmap(lambda found: points(*found)))
def test_affine_slopes(xs):
    x, W, b = xs
    np.testing.assert_allclose(ops.affine.raw(x, W, b)[0], np.matmul(x, W) + b, rtol=0, atol=4 * 3 * 16 * 2.3e-16)
    check(ops.affine, *xs)


@pytest.mark.parametrize("side", [1, 20])  # a small layer, and one that BLAS multiplies
@pytest.mark.parametrize("op", [ops.affine, ops.affine_relu])
def test_affine_refuses_biases_that_are_no_row_of_units(op, side, backend):
    x, W = Tensor(np.ones((8 * side, 3 * side))), np.ones((3 * side, 5 * side))
    for b in (0.0, np.ones(5 * side), np.ones((8 * side, 5 * side)), np.ones((4, 1, 5 * side)), np.ones((1, 1, 5 * side))):
        with pytest.raises(ShapeError, match=r"xW is \(..., B, O\) = .*, so b must be \(..., 1, O\) = .*, got"):
            op(x, W, b)


@pytest.mark.parametrize("op", [ops.affine, ops.affine_relu])
def test_affine_refuses_weights_that_are_no_matrix(op, backend):
    for W in (np.ones(3), 2.0, np.ones((3, 3, 2))[:, :2], np.float64(2)):
        with pytest.raises(ShapeError, match=r"xW \+ b needs x \(..., B, I\) and W \(..., I, O\), got \(7, 3\) and"):
            op(Tensor(np.ones((7, 3))), W, np.ones((1, 2)))


@pytest.mark.parametrize("op", [ops.affine, ops.affine_relu])
@pytest.mark.parametrize(("x", "W"), [((3,), (3, 5)), ((2, 7, 3), (4, 3, 5)), ((2, 7, 3), (3, 3, 3, 5))])
def test_affine_refuses_inputs_that_are_no_rows_and_replicas_that_differ(op, x, W, backend):
    needed = re.escape(f"xW + b needs x (..., B, I) and W (..., I, O), got {x} and {W}")
    with pytest.raises(ShapeError, match=needed):
        op(Tensor(np.ones(x)), np.ones(W), np.ones((1, 5)))


def test_affine_says_what_the_bias_must_be():
    said = re.escape("xW is (..., B, O) = (2, 7, 5), so b must be (..., 1, O) = (1, 5), got a number")
    with pytest.raises(ShapeError, match=said):
        ops.affine(Tensor(np.ones((2, 7, 3))), np.ones((3, 5)), 0.0)


def test_affine_relu_refuses_a_bias_of_another_dtype():
    x, W = np.ones((200, 30)), np.ones((30, 200))
    with pytest.raises(TypeError, match="z is float64 and b is float32; give both one dtype"):
        ops.affine_relu.raw(x, W, np.zeros((1, 200), np.float32))


@pytest.mark.parametrize("op", [ops.affine, ops.affine_relu])
@pytest.mark.parametrize(("x", "W"), [((3, 1), (3, 4)), ((1, 1), (3, 4)), ((5, 1), (5, 2)), ((4, 3), (2, 5))])
def test_affine_refuses_inner_axes_that_differ(op, x, W):
    with pytest.raises(ValueError):  # ShapeError is one, and so is NumPy's own
        op.raw(np.ones(x), np.ones(W), np.zeros((1, W[1])))


# ----------------------------------------------------------------------------------------------------- functions


@given(one_array)
def test_exp_slopes(xs):
    check(ops.exp, *xs)


@given(one_array)
def test_log_slopes(xs):
    check(ops.log, *map(np.abs, xs))


@given(one_array)
def test_sqrt_slopes(xs):
    check(ops.sqrt, *map(np.abs, xs))


@given(one_array)
def test_abs_slopes(xs):
    check(ops.abs, *xs)


@given(one_array)
def test_tanh_slopes(xs):
    check(ops.tanh, *xs)


@given(one_array)
def test_sigmoid_slopes(xs):
    check(ops.sigmoid, *xs)


# ---------------------------------------------------------------------------------------- reductions and selection


@st.composite
def reductions(draw, min_side=0):
    shape = draw(shapes(min_side=min_side))
    return draw(points(shape)), draw(axes(len(shape))), draw(st.booleans())


@given(reductions())
def test_sum_slopes(drawn):
    xs, axis, keepdims = drawn
    assert_array_equal(ops.sum.raw(*xs, axis=axis, keepdims=keepdims)[0], np.sum(*xs, axis=axis, keepdims=keepdims))
    check(ops.sum, *xs, axis=axis, keepdims=keepdims)


@given(reductions(min_side=1))  # the mean of nothing is NaN
def test_mean_slopes(drawn):
    xs, axis, keepdims = drawn
    assert_array_equal(ops.mean.raw(*xs, axis=axis, keepdims=keepdims)[0], np.mean(*xs, axis=axis, keepdims=keepdims))
    check(ops.mean, *xs, axis=axis, keepdims=keepdims)


@given(reductions(min_side=1))  # nothing has no maximum
def test_max_slopes(drawn):
    xs, axis, keepdims = drawn
    assert_array_equal(ops.max.raw(*xs, axis=axis, keepdims=keepdims)[0], np.max(*xs, axis=axis, keepdims=keepdims))
    check(ops.max, *xs, axis=axis, keepdims=keepdims)


@given(reductions(min_side=1))
def test_min_slopes(drawn):
    xs, axis, keepdims = drawn
    assert_array_equal(ops.min.raw(*xs, axis=axis, keepdims=keepdims)[0], np.min(*xs, axis=axis, keepdims=keepdims))
    check(ops.min, *xs, axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("op", [ops.sum, ops.max, ops.min])
def test_a_reduction_over_other_axes_than_the_empty_one(op):
    x = Tensor(np.ones((2, 0, 3)))
    y = op(x, axis=(0, 2))
    assert y.shape == (0,)
    ops.sum(y).backward()
    assert x.grad.shape == (2, 0, 3)


@given(broadcast_points(2))
def test_maximum_slopes(xs):
    check(ops.maximum, *xs)


@given(broadcast_points(2))
def test_minimum_slopes(xs):
    check(ops.minimum, *xs)


@given(broadcastable(3), st.data())
def test_choose_slopes(found, data):
    a, b = data.draw(points(*found[:2]))
    mask = data.draw(hnp.arrays(bool, found[2]))
    check(ops._choose, a, b, mask=mask)
    assert_array_equal(ops.where(mask, Tensor(a), b).data, np.where(mask, a, b))


def test_where_takes_numbers_and_stops_nan_in_the_branch_not_taken():
    x = Tensor([4.0, np.nan])
    y = ops.where(np.array([True, False]), x, 7)
    ops.sum(y).backward()
    assert y.data.tolist() == [4, 7]
    assert_array_equal(x.grad, [1, 0])


# -------------------------------------------------------------------------------------------------------- shapes


@given(one_array, st.data())
def test_reshape_slopes(xs, data):
    n = xs[0].size
    target = data.draw(st.sampled_from([(n,), (1, n), (n, 1), n, *([-1, (1, -1)] if n else [])]))
    check(ops.reshape, *xs, shape=target)


@given(one_array, st.data())
def test_transpose_slopes(xs, data):
    ndim = xs[0].ndim
    permuted = st.permutations(range(ndim)).map(lambda order: tuple(i - ndim * (i % 2) for i in order))
    order = data.draw(st.none() | permuted)
    check(ops.transpose, *xs, axes=order)


@given(shapes(min_dims=2).flatmap(points), st.integers(-2, 1), st.integers(-2, 1))
def test_swapaxes_slopes(xs, first, second):
    check(ops.swapaxes, *xs, first=first, second=second)


@given(broadcastable(2), st.data())
def test_broadcast_to_slopes(found, data):
    target = np.broadcast_shapes(*found)
    check(ops.broadcast_to, *data.draw(points(found[0])), shape=target)


@given(shapes(), st.data())
def test_index_slopes(shape, data):
    some = hnp.basic_indices(shape, allow_newaxis=True) | hnp.arrays(bool, shape)
    if shape and 0 not in shape:
        some |= hnp.integer_array_indices(shape, result_shape=shapes(max_dims=2))
    check(ops.index, *data.draw(points(shape)), key=data.draw(some))


@pytest.mark.parametrize("key", [np.array([0, 2, 0, 0]), [0, 2, 0, 0], ([0, 2, 0, 0],), (np.array([0, 2, 0, 0]), slice(None))])
def test_indexing_adds_up_over_repeated_entries(key):
    x = Tensor(np.zeros((3, 2)))
    ops.sum(x[key] * np.array([[1.0], [10], [100], [1000]])).backward()
    assert x.grad.tolist() == [[1101, 1101], [0, 0], [10, 10]]


@pytest.mark.parametrize("key", [((0, 2, 0, 0), slice(None)), ((0, 2, 0, 0),)])
def test_indexing_by_tuples_adds_up_over_repeated_entries(key):
    x = Tensor(np.zeros((3, 2)))
    ops.sum(x[key] * np.array([[1.0], [10], [100], [1000]])).backward()
    assert x.grad.tolist() == [[1101, 1101], [0, 0], [10, 10]]


def test_indexing_by_a_mask():
    x = Tensor(np.arange(4.0))
    ops.sum(x[np.array([True, False, True, False])] * np.array([5.0, 7])).backward()
    assert x.grad.tolist() == [5, 0, 7, 0]


@st.composite
def joinable(draw):
    shape = draw(shapes(min_dims=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = []
    for n in lengths:
        part = list(shape)
        part[axis] = n
        parts.append(tuple(part))
    return draw(points(*parts)), axis


@given(joinable())
def test_join_slopes(drawn):
    parts, axis = drawn
    check(ops._join, *parts, axis=axis)
    assert_array_equal(ops.concatenate([Tensor(parts[0]), *parts[1:]], axis).data, np.concatenate(parts, axis))


# --------------------------------------------------------------------------------------------------------- units


@given(one_array)
def test_relu_slopes(xs):
    check(ops.relu, *xs)


@given(one_array, st.sampled_from([0.01, 0.3, 0]))
def test_leaky_relu_slopes(xs, slope):
    check(ops.leaky_relu, *xs, slope=slope)


@given(broadcast_points(2))
def test_prelu_slopes(xs):
    check(ops.prelu, *xs)


@given(one_array, st.sampled_from([1.0, 0.5]))
def test_elu_slopes(xs, alpha):
    check(ops.elu, *xs, alpha=alpha)


@given(affine_shapes(min_side=1).flatmap(lambda found: points(*found)))
def test_affine_relu_slopes(xs):
    x, W, b = xs
    z = np.matmul(x, W) + b
    np.testing.assert_allclose(ops.affine_relu.raw(x, W, b)[0], np.maximum(z, 0), rtol=0, atol=4 * 3 * 16 * 2.3e-16)
    check(ops.affine_relu, *xs)


@given(affine_shapes())
def test_affine_relu_of_empty_arrays(found):
    x, W, b = (np.zeros(shape, np.float32) for shape in found)
    y, vjp, facts = ops.affine_relu.raw(x, W, b)
    assert y.shape == np.broadcast_shapes((*x.shape[:-1], 1), (*W.shape[:-2], 1, 1), b.shape)
    dx, dW, db = pulled(vjp, np.ones_like(y), (x, W, b))
    for d, array in zip((dx, dW, db), (x, W, b), strict=True):
        assert unbroadcast(d, array.shape).shape == array.shape
    assert facts["active"].shape == facts["nonfinite"].shape == (*y.shape[:-2], y.shape[-1])


@given(broadcast_points(2))
def test_residual_relu_slopes(xs):
    check(ops.residual_relu, *xs)


@st.composite
def batches(draw):
    B, O = draw(st.integers(1, 4)), draw(st.integers(0, 3))  # noqa: E741
    lead = draw(shapes(max_dims=1, min_side=1, max_side=2))
    return draw(points((*lead, B, O), (*lead, 1, O), (*lead, 1, O)))


@given(batches())
def test_batch_norm_slopes(xs):
    check(ops.batch_norm, *xs)


@given(batches())
def test_batch_norm_takes_moments(xs):
    x, scale, shift = xs
    moments = x.mean(axis=-2, keepdims=True), x.var(axis=-2, keepdims=True)
    y, vjp = ops.batch_norm.raw(x, scale, shift, moments=moments)
    plain, plain_vjp = ops.batch_norm.raw(x, scale, shift)
    assert_array_equal(y, plain)
    for d, expected in zip(pulled(vjp, x, xs), pulled(plain_vjp, x, xs), strict=True):
        assert_array_equal(d, expected)


def test_batch_norm_normalises():
    x = np.array([[1.0], [3.0]])
    y = ops.batch_norm.raw(x, np.array([[2.0]]), np.array([[10.0]]), eps=0.0)[0]
    assert y.tolist() == [[8], [12]]  # mean 2, deviation 1


# -------------------------------------------------------------------------------------------------------- losses


@st.composite
def predictions(draw):
    lead = draw(leading(2, max_dims=1))
    B, O = draw(st.integers(1, 3)), draw(st.integers(1, 3))  # noqa: E741
    return draw(points((*lead[0], B, O), (*lead[1], B, O)))


@given(predictions())
def test_mse_slopes(xs):
    assert_loss_is(losses.mse, xs, (xs[0] - xs[1]) ** 2)
    check(losses.mse, *xs)


@given(predictions())
def test_half_mse_slopes(xs):
    assert_loss_is(losses.half_mse, xs, 0.5 * (xs[0] - xs[1]) ** 2)
    check(losses.half_mse, *xs)


@given(predictions())
def test_huber_slopes(xs):
    delta = 1 + 1 / 64  # p − t is a multiple of 1/32: never on the joint
    e = np.abs(xs[0] - xs[1])
    assert_loss_is(losses.huber, xs, np.where(e <= delta, e * e / 2, delta * (e - delta / 2)), delta=delta)
    check(losses.huber, *xs, delta=delta)


def assert_loss_is(loss, xs, entries, **options):
    """One mean of at most 9 entries of at most 64 per replica."""
    found = loss.raw(*xs, **options)[0]
    np.testing.assert_allclose(found, entries.mean(axis=(-2, -1)), rtol=16 * 2.3e-16, atol=0)


@pytest.mark.parametrize("loss", [losses.mse, losses.half_mse, losses.huber])
@pytest.mark.parametrize("shape", [(0, 1), (2, 0, 3), (2, 3, 0)])
def test_the_loss_of_no_data_is_zero(loss, shape):
    p = Tensor(np.ones(shape))
    y = loss(p, np.ones(shape))
    assert_array_equal(y.data, np.zeros(shape[:-2]))
    y.backward()
    assert p.grad.shape == shape


@pytest.mark.parametrize("loss", [losses.mse, losses.half_mse, losses.huber])
@pytest.mark.parametrize(("p", "t"), [((3, 1), (3,)), ((3, 1), (1, 3)), ((3,), (3,)), ((2, 3, 1), (2, 1))])
def test_losses_refuse_shapes_that_would_broadcast(loss, p, t):
    with pytest.raises(ShapeError, match=r"y\.reshape\(-1, 1\)"):
        loss(Tensor(np.ones(p)), np.ones(t))


# ------------------------------------------------------------------------------------------ kinks, pinned by value


def slope_at(op, *operands, wrt=0, **options):
    y, vjp = op.raw(*(np.array(x) for x in operands), **options)[:2]
    return float(np.sum(pulled(vjp, np.ones_like(y), operands)[wrt]))


def one_sided(op, *operands, wrt=0, **options):
    """The slopes to the left and to the right in one operand."""

    def f(step):
        moved = [np.array(x) + step * (i == wrt) for i, x in enumerate(operands)]
        return op.raw(*moved, **options)[0]

    return sorted([((f(0.0) - f(-H)) / H).item(), ((f(H) - f(0.0)) / H).item()])


@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize(
    ("op", "options", "slope"),
    [
        (ops.relu, {}, 0.0),
        (ops.abs, {}, 0.0),
        (ops.leaky_relu, {"slope": 0.25}, 0.25),
        (ops.elu, {"alpha": 0.5}, 0.5),
    ],
)
def test_slope_at_the_kink(op, options, slope, zero):
    assert slope_at(op, zero, **options) == slope
    low, high = one_sided(op, zero, **options)
    truncation = H if op is ops.elu else 0  # alpha·(eˣ − 1) is curved: half its second derivative, times H
    assert low - truncation <= slope <= high + truncation
    assert low < high  # it is a kink


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_prelu_and_residual_relu_at_the_kink(zero):
    assert slope_at(ops.prelu, zero, 0.25) == 0.25
    assert one_sided(ops.prelu, zero, 0.25) == [0.25, 1]
    assert slope_at(ops.prelu, zero, 0.25, wrt=1) == 0
    for wrt in (0, 1):
        assert slope_at(ops.residual_relu, 1.5, -1.5, wrt=wrt) == 0
        assert slope_at(ops.residual_relu, zero, zero, wrt=wrt) == 0


def test_affine_relu_at_the_kink():
    x, W, b = [[1.0]], [[2.0]], [[-2.0]]
    assert [slope_at(ops.affine_relu, x, W, b, wrt=i) for i in range(3)] == [0, 0, 0]
    assert one_sided(ops.affine_relu, x, W, b, wrt=2) == [0, 1]


@pytest.mark.parametrize("op", [ops.maximum, ops.minimum])
@pytest.mark.parametrize("wrt", [0, 1])
def test_maximum_and_minimum_share_ties(op, wrt):
    assert slope_at(op, 3.0, 3.0, wrt=wrt) == 0.5
    assert slope_at(op, 0.0, -0.0, wrt=wrt) == 0.5
    assert one_sided(op, 3.0, 3.0, wrt=wrt) == [0, 1]


@pytest.mark.parametrize(("op", "row"), [(ops.max, [5.0, 1, 5, 5, 5]), (ops.min, [5.0, 9, 5, 5, 5])])
def test_max_and_min_share_ties(op, row):
    x = Tensor([row, [7.0, 7, 7, 7, 7]])
    ops.sum(op(x, axis=1)).backward()
    assert x.grad.tolist() == [[0.25, 0, 0.25, 0.25, 0.25], [0.2] * 5]
    op(x).backward()
    assert x.grad.sum() == pytest.approx(1, abs=1e-15)  # at most five shares of rounding eps/2


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_huber_joins_smoothly(side):
    p, t = [[2.0 * side]], [[0.0]]
    assert slope_at(losses.huber, p, t, delta=2.0) == 2 * side
    assert slope_at(losses.huber, p, t, wrt=1, delta=2.0) == -2 * side


# --------------------------------------------------------------------------- the table of special values, bit for bit


def table(dtype):
    """s and what becomes of it: y and whether the gradient passes (DESIGN §4.2), written without the library."""
    s = special(dtype)
    y = np.array([0.0 if v <= 0 else v for v in s], dtype)
    return s, y, np.array([bool(v > 0) for v in s])


def gradients_at(dtype, active):
    """Every special value as a gradient against every s, and what has to arrive."""
    g = np.broadcast_to(special(dtype)[:, None], (len(special(dtype)), len(active))).copy()
    return g, np.array([[v if on else 0.0 for v, on in zip(row, active, strict=True)] for row in g], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_special_values(dtype):
    s, y, active = table(dtype)
    g, passed = gradients_at(dtype, active)
    value, (vjp,) = ops.relu.raw(np.broadcast_to(s, g.shape))
    assert_same_bits(value, np.broadcast_to(y, g.shape))
    assert_same_bits(vjp(g), passed)


@pytest.mark.parametrize("fused", [True, False])  # the kernel, and the way for operands that broadcast
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_residual_relu_special_values(dtype, fused):
    s, _, _ = table(dtype)
    skip, z = map(np.ascontiguousarray, np.broadcast_arrays(s[:, None], s)) if fused else (s[:, None], s)
    with np.errstate(all="ignore"):
        total = s[:, None] + s
        value, vjp, *facts = ops.residual_relu.raw(skip, z)
    assert bool(facts) == fused
    assert_same_bits(value, np.where(total <= 0, dtype(0), total))
    for g in special(dtype):
        expected = np.where(total > 0, g, dtype(0))
        for d in pulled(vjp, np.full(total.shape, g, dtype), (s[:, None], s)):
            assert_same_bits(np.asarray(d), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_affine_relu_special_values(dtype, backend):
    s, y, active = table(dtype)
    g, passed = gradients_at(dtype, active)
    x, W, b = np.ones((len(g), 1), dtype), s[None, :], np.zeros((1, len(s)), dtype)
    value, vjp, facts = ops.affine_relu.raw(x, W, b)
    assert_same_bits(value, np.broadcast_to(y, g.shape))
    assert facts["active"].tolist() == [len(g) * int(on) for on in active]
    assert facts["nonfinite"].tolist() == [len(g) * int(not np.isfinite(v)) for v in y]
    with np.errstate(all="ignore"):
        _, dW, db = pulled(vjp, g, (x, W, b))
        expected = passed.sum(axis=0, keepdims=True)  # NaN, an infinity or a number of a few roundings
    finite = np.isfinite(expected)
    assert_array_equal(db[~finite], expected[~finite])
    assert_array_equal(dW[:, ~active[None][0]], 0)
    assert not np.signbit(db[:, ~active]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_of_an_inactive_unit_is_plus_zero_through_the_engine(dtype):
    for g in special(dtype):
        x, W, b = np.ones((1, 1), dtype), Tensor(np.ones((1, 1), dtype)), Tensor(np.full((1, 1), -2, dtype))
        with np.errstate(all="ignore"):
            ops.sum(ops.affine_relu(x, W, b) * g).backward()
        for leaf in (W, b):
            assert_same_bits(leaf.grad, np.zeros((1, 1), dtype))


# ----------------------------------------------------------------------------------------- layouts and the fused path


@given(layouts, layouts, layouts, st.sampled_from([1, 2]), st.sampled_from([1, 3]))
def test_affine_relu_equals_relu_of_affine_in_any_layout(lx, lW, lg, inner, units):
    """Small integers: every sum is exact, so the fused path equals the plain one bit for bit."""
    rng = np.random.default_rng(inner)
    x = laid_out(rng.integers(-4, 5, (2, 5, inner)).astype(np.float32), lx)
    W = laid_out(rng.integers(-4, 5, (2, inner, units)).astype(np.float32), lW)
    weights = laid_out(rng.integers(-4, 5, (2, 5, units)).astype(np.float32), lg)
    b = rng.integers(-4, 5, (2, 1, units)).astype(np.float32)
    assert_equal_gradients(x, W, b, weights)


@pytest.mark.parametrize("shared_W", [False, True])
@pytest.mark.parametrize("shared_b", [False, True])
def test_affine_relu_of_a_column_whose_rows_are_the_slow_axis(shared_W, shared_b):
    """x (R, B, 1) seen through (B, R, 1): the product with W (1, O) inherits that order from NumPy."""
    rng = np.random.default_rng(1)
    x = rng.integers(-4, 5, (5, 2, 1)).astype(np.float32).swapaxes(0, 1)
    W = rng.integers(-4, 5, (1, 3) if shared_W else (2, 1, 3)).astype(np.float32)
    b = rng.integers(-4, 5, (1, 3) if shared_b else (2, 1, 3)).astype(np.float32)
    assert_equal_gradients(x, W, b, np.ones((2, 5, 3), np.float32))


def assert_equal_gradients(x, W, b, weights):
    found = [Tensor(a) for a in (x, W, b)]
    plain = [Tensor(a) for a in (x, W, b)]
    fused = ops.affine_relu(*found)
    unfused = ops.relu(ops.affine(*plain))
    assert_array_equal(fused.data, unfused.data)
    ops.sum(fused * weights).backward()
    ops.sum(unfused * weights).backward()
    for ours, theirs in zip(found, plain, strict=True):
        assert_array_equal(ours.grad, theirs.grad)


def test_affine_relu_counts_in_its_facts():
    x = Tensor(np.array([[1.0], [2], [3], [np.inf]]))
    y = ops.affine_relu(x, np.array([[1.0, -1, 1]]), np.array([[-2.0, 0, 0]]))
    assert y.node.facts["active"].tolist() == [2, 0, 4]
    assert y.node.facts["nonfinite"].tolist() == [1, 0, 1]
    active, nonfinite = kernels.count_units(y.data)
    assert_array_equal(active, y.node.facts["active"])
    assert_array_equal(nonfinite, y.node.facts["nonfinite"])


# ------------------------------------------------------------------------------------------------------ complete


def primitives(module):
    return {name for name, op in vars(module).items() if hasattr(op, "raw") and op.__module__ == module.__name__}


def test_every_primitive_has_its_slopes_checked():
    names = primitives(ops) | primitives(losses)
    assert len(names) >= 35  # 32 of ops.py and 3 of losses.py when this was written: an empty search would pass
    missing = {name for name in names if f"test_{name.strip('_')}_slopes" not in globals()}
    assert not missing, f"write a test_NAME_slopes for {sorted(missing)}"


def test_the_check_itself_finds_a_wrong_slope():
    @primitive
    def wrong(x):
        return x * x, (lambda g: g * x,)  # half of 2x

    with pytest.raises(testing.GradientMismatch, match="the gradient is not the slope"):
        check(wrong, np.array([1.5, -0.25]))
