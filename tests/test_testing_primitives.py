"""check_vjp and check_layer: minirelu's ops, layers and kernels, its convention at kinks, and contracts that are broken."""

import re

import numpy as np
import pytest
from hypothesis import given, settings

from minirelu import Tensor, kernels, nn, ops, testing
from minirelu.engine import primitive
from minirelu.testing import GradientMismatch, NoVerdict
from minirelu.testing.cases import CASES
from minirelu.testing.mutants import primitives
from minirelu.testing.strategies import nets, pre_activations

DTYPES = [np.float32, np.float64]


def rng(seed=0):
    return np.random.default_rng(seed)


# ----------------------------------------------------------------------------------------------------- primitives


@pytest.mark.parametrize("name", primitives())
def test_every_primitive_at_its_cases(name):
    assert CASES.get(name), f"give {name} a row in minirelu/testing/cases.py"
    for i, (make, options) in enumerate(CASES[name]):
        for dtype in DTYPES:
            xs = [np.asarray(x).astype(dtype) for x in make(rng(i))]
            assert testing.check_vjp(getattr(ops, name), *xs, rng=rng(i), directions=1, **options(rng(i))).finding is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_fused_kernels_on_every_backend(backend, dtype):
    for seed, shape in enumerate([(3, 4, 31), (2, 3, 33), (5, 2, 1)]):
        rows, inputs, units = shape
        x, W = rng(seed).normal(size=(rows, inputs)), rng(seed).normal(size=(inputs, units))
        x[0] = 0
        b = np.zeros((1, units))
        report = testing.check_vjp(ops.affine_relu, *(a.astype(dtype) for a in (x, W, b)), rng=rng())
        assert report.kinks == units
        assert "one-sided differences" in report.oracles


@given(pre_activations(np.float32, shape=(3, 33)))
@settings(max_examples=10)
def test_any_pattern_of_active_units(drawn):
    z, b, _, pattern = drawn
    report = testing.check_vjp(ops.residual_relu, z, np.broadcast_to(b, z.shape).copy(), rng=rng(), directions=1)
    assert report.kinks == np.count_nonzero((z + b == 0) & ~pattern)


def made(name, f, slope):
    def op(x):
        return f(x), (lambda g: g * slope(x).astype(x.dtype),)

    op.__name__ = name
    return primitive(op)


@pytest.mark.parametrize("share", [0.5, 1.0, -1.0, 2.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_relu_with_another_slope_at_0_is_not_ours(share, dtype):
    wrong = made("relu", lambda x: np.where(x > 0, x, 0), lambda x: (x > 0) + share * (x == 0))
    with pytest.raises(GradientMismatch, match="not that of the inactive side"):
        testing.check_vjp(wrong, np.array([1.0, 0.0, -1.0], dtype), rng=rng())
    testing.check_vjp(wrong, np.array([1.0, 0.5, -1.0], dtype), rng=rng())


def test_an_abs_with_a_slope_at_0_is_valid_and_not_ours():
    wrong = made("abs", np.abs, lambda x: np.where(x >= 0, 1.0, -1.0))
    with pytest.raises(GradientMismatch, match="valid, but not the slope that minirelu takes there"):
        testing.check_vjp(wrong, np.array([1.0, 0.0, -1.0]), rng=rng())


KEPT = np.ones(3)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: (2 * x, (lambda g: (2 * g).astype(np.float32),)), "arrays of float64 gave float32"),
        (lambda x: (1 * x, (lambda g: KEPT,)), "differs from the first"),
        (lambda x: (x * x / 2, (lambda g: np.multiply(x, g, out=x),)), "shares memory with an operand"),
        (lambda x: (x.sum(), (lambda g: np.broadcast_to(g, (2, 2)),)), r"returned shape \(2, 2\)"),
    ],
)
def test_contracts_that_are_broken(function, why):
    KEPT[:] = 1
    with pytest.raises((GradientMismatch, ValueError), match=why):
        testing.check_vjp(primitive(function), np.array([1.0, 2.0, 3.0]), rng=rng(), shrink=False)


def test_an_operand_that_is_raw_data_must_not_matter():
    def op(x, y):
        def pull(g, wanted):
            return g * (1 if wanted[1] is not None else 2), g

        return x + y, pull

    with pytest.raises(GradientMismatch, match="operand 0 differs when the others are raw data"):
        testing.check_vjp(primitive(op), np.ones(2), np.ones(2), rng=rng(), shrink=False)


# --------------------------------------------------------------------------------------------------------- layers


@given(nets(np.float64))
@settings(max_examples=15)
def test_any_net(drawn):
    net, x = drawn
    before = [p.data for p in (*net.parameters(), *net.buffers())]
    copies = [array.copy() for array in before]
    testing.check_layer(net, x, rng(), directions=1)
    after = [p.data for p in (*net.parameters(), *net.buffers())]
    for array, was, copy in zip(after, before, copies, strict=True):
        assert array is was
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
def test_every_layer(activation, dtype):
    layers = [
        nn.Linear(3, 4, rng=rng(), dtype=dtype),
        nn.Dense(4, 4, rng=rng(), activation=activation, dtype=dtype),
        nn.Activation(activation, rng=rng(), dtype=dtype),
        nn.BatchNorm(4, rng=rng(), dtype=dtype),
        nn.Residual(nn.Dense(4, 4, rng=rng(), dtype=dtype)),
        nn.Residual(nn.Linear(4, 4, rng=rng(), dtype=dtype), activation="relu"),
    ]
    for layer in layers:
        x = rng(2).normal(size=(5, 3 if layer is layers[0] else 4))
        assert testing.check_layer(layer, x, rng()).finding is None
    assert testing.check_layer(nn.Sequential(*layers), rng(2).normal(size=(5, 3)), rng()).finding is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_deep_net_at_the_origin(dtype):
    """Every unit of the first row is exactly 0, layer after layer: the slope of each is that of its inactive side."""
    net = nn.Sequential(*(nn.Dense(4, 4, rng=rng(i), bias=0.0, dtype=dtype) for i in range(3)))
    x = rng().normal(size=(3, 4))
    x[0] = 0
    report = testing.check_layer(net, x, rng())
    assert report.kinks >= 12
    assert report.nearest["0"] == (0.0, (0, 0))
    assert list(report.nearest) == ["0", "1", "2"]


def test_a_layer_with_a_wrong_kernel_is_found(monkeypatch):
    """Slope 1 at 0: a mask made with >= instead of >."""
    plain = kernels.small_affine

    def wrong(x, W, b, rectified):
        y, right, *counts = plain(x, W, b, rectified)
        return y, kernels.mask.pack(x @ W + b >= 0) if rectified else right, *counts

    monkeypatch.setattr(kernels, "small_affine", wrong)
    net = nn.Sequential(nn.Dense(2, 3, rng=rng(), bias=0.0), nn.Linear(3, 1, rng=rng()))
    testing.check_layer(net, rng().normal(size=(4, 2)), rng())  # away from the kink nobody can see it
    with pytest.raises(GradientMismatch, match="not that of the inactive side") as caught:
        testing.check_layer(net, np.zeros((2, 2)), rng())
    assert re.search(r"nearest kink +0: 0 at \(0, 0\)", str(caught.value))
    assert "testing.check_layer(layer, x, rng=np.random.default_rng(0))" in str(caught.value)


class Doubled(nn.Layer):
    """A layer that tells one thing forward and another one back."""

    def forward(self, x):
        y = ops.relu(x)
        return Tensor(2 * y.data) + 0 * x if isinstance(x, Tensor) else 2 * y


def test_a_layer_of_ones_own():
    with pytest.raises(GradientMismatch, match="x, entry"):
        testing.check_layer(Doubled(), rng().normal(size=(2, 3)), rng())
    with pytest.raises(NoVerdict, match="holds NaN"):
        testing.check_layer(nn.Activation("relu"), np.array([[np.nan]]), rng())
