"""Replica r of a batched run is, bit for bit, the run that its seed makes alone, whatever its neighbours do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import init, losses, monitor, nn, ops, optim, products, train

ROWS, INPUTS, BATCH, STEPS = 37, 5, 11, 200
SEEDS = (11, 12, 13, 14)
RATES = np.array([0.01, 0.02, np.nan, 1e-5])
DIVERGING = {np.float32: 1e20, np.float64: 1e150}  # the rate of the third replica: its loss overflows at once
BETAS = np.array([0.9, 0.5, 0.9, 0.0])
GAMMAS = np.array([1.0, 0.01, 1.0, 100.0])  # the scale of each replica's target

OPTIMISERS = {
    "SGD": lambda p, lr, beta: optim.SGD(p, lr),
    "HeavyBall": optim.HeavyBall,
    "Nesterov": optim.Nesterov,
    "EMAMomentum": optim.EMAMomentum,
    "Adam": lambda p, lr, beta: optim.Adam(p, lr, beta1=beta),
}


def make_net(rng, dtype, width=8):
    return nn.Sequential(
        nn.Dense(INPUTS, width, rng=rng, dtype=dtype),
        nn.Residual(nn.Dense(width, 3, rng=rng, dtype=dtype), nn.Linear(3, width, rng=rng, dtype=dtype)),
        nn.BatchNorm(width, rng=rng, dtype=dtype),
        nn.Dense(width, 4, rng=rng, activation="prelu", dtype=dtype),
        nn.Linear(4, 1, rng=rng, dtype=dtype),
    )


def make_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, INPUTS)), rng.normal(size=(ROWS, 1))


def run(which, kind, dtype, width=8, steps=STEPS):
    """Train the replicas `which` (an index for one of them alone, or a list): everything that came of it, by name."""
    X, y = make_data()
    several = isinstance(which, list)
    seeds = [SEEDS[r] for r in which] if several else SEEDS[which]
    rng = init.replicas(seeds) if several else np.random.default_rng(seeds)
    targets = GAMMAS[which][:, None, None] * y if several else GAMMAS[which] * y
    net = make_net(rng, dtype, width)
    rates = np.where(np.isnan(RATES), DIVERGING[dtype], RATES)[which]
    opt = OPTIMISERS[kind](net.parameters(), rates, BETAS[which])
    activity = monitor.UnitActivity()
    history = []
    for x, t in train.minibatches(X.astype(dtype), targets.astype(dtype), BATCH, seeds, steps):
        loss = losses.mse(net(x), t)
        activity.update(loss)
        loss.backward()
        opt.step()
        history.append(loss.data)
    found = {f"{k}. {t.name}": t.data for k, t in enumerate([*net.parameters(), *net.buffers()])}
    found |= {f"optimiser {slot} {k}": a for slot, arrays in opt.state.items() for k, a in enumerate(arrays)}
    found["loss"] = np.stack(history, axis=-1)
    found["prediction"] = net.predict(X, batch=16)
    exact = monitor.UnitActivity.over(net, X)
    for title, counted in (("steps", activity), ("data", exact)):
        for layer in dict.fromkeys(row.layer for row in counted.report()):
            rows = [row for row in counted.report() if row.layer == layer]
            numbers = [[row.units, row.dead, row.nearly_dead, row.linear, row.nonfinite, row.samples] for row in rows]
            found[f"units of {layer} on {title}"] = np.array(numbers) if several else np.array(numbers[0])
    return found


def assert_replica_is_solo(together, r, alone):
    assert together.keys() == alone.keys()
    for name, expected in alone.items():
        # assert_array_equal takes NaN for equal to NaN and compares where they are
        assert_array_equal(together[name][r], expected, err_msg=f"{name} of replica {r}")
        assert together[name].dtype == expected.dtype


@pytest.mark.filterwarnings("ignore::minirelu.monitor.DeadUnitsWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_replica_equals_its_solo_run_bit_for_bit(kind, dtype):
    together = run([0, 1, 2, 3], kind, dtype)
    for r in range(4):
        assert_replica_is_solo(together, r, run(r, kind, dtype))
    healthy = np.isfinite(together["loss"]).all(axis=-1)
    assert list(healthy) == [True, True, False, True]  # the run is the one this test is about


@pytest.mark.filterwarnings("ignore::minirelu.monitor.DeadUnitsWarning")
@pytest.mark.parametrize("width", [1, 2, 7, 33])
def test_odd_widths(width):
    """Sums over the batch are made in another order by NumPy when there is one unit only."""
    together = run([0, 1, 2, 3], "HeavyBall", np.float32, width, steps=40)
    for r in range(4):
        assert_replica_is_solo(together, r, run(r, "HeavyBall", np.float32, width, steps=40))


@pytest.mark.filterwarnings("ignore::minirelu.monitor.DeadUnitsWarning")
def test_how_replicas_are_batched_does_not_matter():
    three = run([0, 1, 3], "Nesterov", np.float32)
    two, one = run([0, 1], "Nesterov", np.float32), run([3], "Nesterov", np.float32)
    reversed_order = run([3, 1, 0], "Nesterov", np.float32)
    for name, values in three.items():
        assert_array_equal(values[:2], two[name], err_msg=name)
        assert_array_equal(values[2:], one[name], err_msg=name)
        assert_array_equal(values[::-1], reversed_order[name], err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("units", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("batch", [2, 3, 8, 64, 129, 1000])
def test_sums_over_the_batch_have_one_order(batch, units, dtype):
    """The moments and gradients of one replica do not depend on how many stand beside it."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, batch, units)).astype(dtype)
    g = rng.normal(size=(5, batch, units)).astype(dtype)
    for many, one in (
        (ops.batch_moments(x), ops.batch_moments(x[3].copy())),
        (affine_gradients(x, g), affine_gradients(x[3], g[3])),
    ):
        for a, b in zip(many, one, strict=True):
            assert_array_equal(a[3], b)


LAYOUTS = {
    "rows apart": lambda a: np.repeat(a, 2, axis=-2)[..., ::2, :],
    "columns apart": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "part of the columns": lambda a: np.concatenate([a, a], axis=-1)[..., : a.shape[-1]],
    "columns first": lambda a: np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2),
    "columns first, apart": lambda a: np.repeat(a, 2, axis=-1).swapaxes(-1, -2).copy().swapaxes(-1, -2)[..., ::2],
    "rows reversed": lambda a: a[..., ::-1, :].copy()[..., ::-1, :],
    "columns reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "one row for all": lambda a: np.broadcast_to(a[..., :1, :], a.shape),
    "one column for all": lambda a: np.broadcast_to(a[..., :1], a.shape),
}
every_layout = pytest.mark.parametrize("lay", LAYOUTS.values(), ids=LAYOUTS.keys())


@every_layout
@given(st.integers(0, 2**32 - 1), *[st.integers(1, 40)] * 3, st.sampled_from([np.float32, np.float64]))
def test_products_of_strided_stacks_are_those_of_their_matrices(lay, seed, rows, inner, columns, dtype):
    rng = np.random.default_rng(seed)
    a, b = (lay(rng.normal(size=shape).astype(dtype)) for shape in ((3, rows, inner), (3, inner, columns)))
    for left, right in ((a, b), (a[1], b), (a, b[1]), (b.swapaxes(-1, -2), a.swapaxes(-1, -2))):
        together = products.times(left, right)
        for r in range(3):
            alone = products.times(left[r] if left.ndim > 2 else left, right[r] if right.ndim > 2 else right)
            assert_array_equal(together[r], alone)
    for r in range(3):
        assert_array_equal(products.row_sums(a)[r], products.row_sums(a[r]))


@every_layout
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("width", "batch"), [(3, 7), (64, 130)])
def test_a_replica_of_strided_inputs_is_the_net_alone(lay, width, batch, shared):
    rng = np.random.default_rng(3)
    x, t = (lay(rng.normal(size=(3, batch, n)).astype(np.float32)) for n in (6, 2))
    x = x[1] if shared else x

    def gradients(rng, x, t):
        layers = nn.BatchNorm(6, rng=rng), nn.Dense(6, width, rng=rng), nn.Residual(nn.Dense(width, width, rng=rng))
        net = nn.Sequential(*layers, nn.Linear(width, 2, rng=rng))
        losses.mse(net(x), t).backward()
        return [p.grad for p in net.parameters()] + [b.data for b in net.buffers()]

    together = gradients(init.replicas([5, 6, 7]), x, t)
    for r in range(3):
        for many, one in zip(together, gradients(np.random.default_rng(5 + r), x if shared else x[r], t[r]), strict=True):
            assert_array_equal(many[r], one)


def affine_gradients(x, g):
    W = np.ones((*x.shape[:-2], x.shape[-1], g.shape[-1]), x.dtype)
    b = np.zeros((*x.shape[:-2], 1, g.shape[-1]), x.dtype)
    value, pull = ops.affine.raw(x, W, b)
    return [value, *pull(g, (x, W, b))]


@pytest.mark.parametrize("loss", [losses.mse, losses.half_mse, losses.huber])
@pytest.mark.parametrize("shape", [(2, 1), (64, 1), (7, 3), (1000, 1), (129, 5)])
def test_the_loss_of_a_replica_is_its_own(loss, shape):
    rng = np.random.default_rng(2)
    p, t = rng.normal(size=(2, 4, *shape)).astype(np.float32)
    together, pull = loss.raw(p, t)
    for r in range(4):
        alone, pull_alone = loss.raw(p[r], t[r])
        assert together[r] == alone
        assert_array_equal(pull(np.ones(4, np.float32), (p, None))[0][r], pull_alone(np.ones((), np.float32), (p, None))[0])
