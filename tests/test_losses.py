"""Losses against their formulas, for one net and for replicas, and the shapes they refuse."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import Tensor, losses
from minirelu.errors import ShapeError

# A mean of at most 100 numbers of one sign: 100 roundings of its size, in the worst order.
RELATIVE = 100 * np.finfo(float).eps

FORMULAS = {
    "mse": (losses.mse, lambda e: e**2, lambda e: 2 * e),
    "half_mse": (losses.half_mse, lambda e: e**2 / 2, lambda e: e),
    "huber": (losses.huber, lambda e: np.where(abs(e) <= 1, e**2 / 2, abs(e) - 0.5), lambda e: np.clip(e, -1, 1)),
}
every_loss = pytest.mark.parametrize(("loss", "value", "slope"), FORMULAS.values(), ids=FORMULAS.keys())


def pair(*shape):
    rng = np.random.default_rng(0)
    return Tensor(rng.normal(size=shape) * 2, "p"), rng.normal(size=shape)


@every_loss
@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (20, 5)])
def test_value_and_gradient(loss, value, slope, shape):
    p, t = pair(*shape)
    e = p.data - t
    made = loss(p, t)
    assert made.shape == ()
    assert_allclose(made.item(), value(e).mean(), rtol=RELATIVE)
    made.backward()
    assert_allclose(p.grad, slope(e) / e.size, rtol=RELATIVE)


@every_loss
def test_replicas_get_a_loss_each(loss, value, slope):
    p, t = pair(3, 7, 2)
    made = loss(p, t)
    assert made.shape == (3,)
    assert_allclose(made.data, value(p.data - t).mean(axis=(1, 2)), rtol=RELATIVE)
    made.backward()
    assert_allclose(p.grad, slope(p.data - t) / 14, rtol=RELATIVE)


@every_loss
def test_replicas_may_share_a_target(loss, value, slope):
    p, t = pair(3, 7, 2)
    assert_array_equal(loss(p, t[0]).data, loss(p, np.broadcast_to(t[0], t.shape)).data)


@every_loss
def test_the_target_gets_the_opposite_gradient(loss, value, slope):
    p, t = pair(7, 2)
    target = Tensor(t, "t")
    loss(p, target).backward()
    assert_array_equal(target.grad, -p.grad)


def test_huber_by_value():
    """½e² up to delta inclusive, then a straight line that joins it."""
    p = Tensor([[0.0, 0.5, -0.5, 2.0, -2.0, 3.0, -5.0]])
    made = losses.huber(p, np.zeros((1, 7)), delta=2.0)
    # 0, 1/8, 1/8, 2, 2, 2·(3 − 1), 2·(5 − 1): all exact
    assert made.item() == (0 + 0.125 + 0.125 + 2 + 2 + 4 + 8) / 7
    made.backward()
    assert_array_equal(p.grad, np.array([[0, 0.5, -0.5, 2, -2, 2, -2]]) / 7)


def test_dtype_is_that_of_the_prediction():
    p = Tensor(np.ones((3, 1), np.float32))
    for target in ([[1], [2], [3]], np.array([[1], [2], [3]]), np.array([[1.0], [2.0], [3.0]])):
        loss = losses.mse(p, target)
        assert loss.dtype == np.float32
        assert_allclose(loss.item(), 5 / 3, rtol=1e-6)  # float32 has 7 digits
        loss.backward()
        assert p.grad.dtype == np.float32


@every_loss
def test_shapes_that_would_broadcast_are_refused(loss, value, slope):
    p = Tensor(np.ones((5, 1)))
    for target in (np.ones(5), np.ones((1, 5)), np.ones((5, 2)), np.ones((1, 1)), np.float64(1.0), 1.0):
        with pytest.raises(ShapeError) as error:
            loss(p, target)
        assert "(5, 1)" in str(error.value)
        assert str(np.shape(target)) in str(error.value)
        assert "y.reshape(-1, 1)" in str(error.value)
    with pytest.raises(ShapeError, match=r"\(..., B, O\) = \(5,\)"):
        loss(Tensor(np.ones(5)), np.ones(5))


@every_loss
def test_diverged_replicas_leave_the_others_alone(loss, value, slope):
    p = Tensor(np.stack([np.full((4, 1), v, np.float32) for v in (1.0, np.nan, np.inf, 1e30)]))
    made = loss(p, np.zeros((4, 1), np.float32))  # warnings are errors in this suite
    made.backward()
    assert made.data[0] == value(np.float32(1))
    assert np.isnan(made.data[1])
    assert_array_equal(p.grad[0], np.full((4, 1), slope(np.float32(1)) / 4))


@pytest.mark.parametrize("delta", [0, -1.0, np.nan])
def test_huber_needs_a_positive_delta(delta):
    with pytest.raises(ValueError, match=r"huber was given delta=.*; expected delta > 0"):
        losses.huber(Tensor(np.ones((2, 1))), np.zeros((2, 1)), delta=delta)
