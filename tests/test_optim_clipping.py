"""Clipping of gradients by their norm (optim.clip_gradients): formula, replicas, what it leaves alone and refuses.

PyTorch's `clip_grad_norm_` beside it: tests/test_torch.py.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import Tensor, optim
from minirelu.errors import GraphError


def with_gradients(shapes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    made = []
    for k, shape in enumerate(shapes):
        p = Tensor(np.zeros(shape, dtype), name=f"p{k}")
        p.grad = rng.normal(size=shape).astype(dtype)
        made.append(p)
    return made


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3), st.sampled_from([(), (3,)]))
def test_clipping_bounds_the_norm_and_keeps_the_direction(seed, largest, replicas):
    parameters = with_gradients([(*replicas, 4, 5), (*replicas, 1, 5)], seed)
    before = [p.grad.copy() for p in parameters]
    norm = optim.clip_gradients(parameters, largest)
    assert_allclose(norm, np.sqrt(sum((g**2).sum(axis=(-2, -1)) for g in before)), rtol=1e-12)
    after = np.sqrt(sum((p.grad**2).sum(axis=(-2, -1)) for p in parameters))
    assert (after <= largest).all()
    factor = np.minimum(1, largest / (norm + 1e-6))[..., None, None]
    for p, g in zip(parameters, before, strict=True):
        assert_allclose(p.grad, factor * g, rtol=1e-12)


def test_clipping_leaves_small_and_infinite_gradients_alone():
    parameters = with_gradients([(3, 2, 2)])
    parameters[0].grad[0] *= 1e-3
    parameters[0].grad[1, 0, 0] = np.inf
    before = parameters[0].grad.copy()
    optim.clip_gradients(parameters, 0.5)
    assert_array_equal(parameters[0].grad[:2], before[:2])
    assert np.linalg.norm(parameters[0].grad[2]) < 0.5 < np.linalg.norm(before[2])


def test_a_replica_is_clipped_as_it_is_alone():
    together, alone = with_gradients([(3, 2, 4)]), with_gradients([(1, 2, 4)])
    alone[0].grad = together[0].grad[1:2].copy()
    optim.clip_gradients(together, 0.1)
    optim.clip_gradients(alone, 0.1)
    assert_array_equal(together[0].grad[1:2], alone[0].grad)


def test_clipping_refuses_what_makes_no_sense():
    parameters = with_gradients([(2, 2)])
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="the norm not to be exceeded"):
            optim.clip_gradients(parameters, wrong)
    parameters[0].grad = None
    with pytest.raises(GraphError, match="without a gradient"):
        optim.clip_gradients(parameters, 1.0)
