"""Counts of dead, nearly dead, linear and non-finite units equal brute force in NumPy, wherever the ReLU comes from."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import Tensor, engine, init, losses, monitor, nn, ops, optim
from minirelu.errors import GraphError, ShapeError
from minirelu.monitor import DeadUnitsWarning, LayerActivity, UnitActivity

pytestmark = pytest.mark.filterwarnings("ignore::minirelu.monitor.DeadUnitsWarning")


def make_rng(seed=0):
    return np.random.default_rng(seed)


def dense(inputs, outputs, rng, **options):
    return nn.Dense(inputs, outputs, rng=rng, dtype=np.float64, **options)


def linear(inputs, outputs, rng, **options):
    return nn.Linear(inputs, outputs, rng=rng, dtype=np.float64, **options)


def spread_biases(layer, seed=5):
    """Biases from far below to far above, so that dead, nearly dead and linear units all occur."""
    layer.b.data = make_rng(seed).permuted(np.broadcast_to(np.linspace(-3, 3, layer.outputs), layer.b.shape), axis=-1)


def brute_force(layer, y):
    """Rows of a report, one a replica, counted unit by unit from outputs y (R, N, O)."""
    rows = []
    for r, replica in enumerate(y):
        dead = nearly = straight = wild = 0
        for unit in replica.T:
            active = sum(1 for v in unit if v > 0)
            if not all(np.isfinite(v) for v in unit):
                wild += 1
            elif active == 0:
                dead += 1
            elif active == len(unit):
                straight += 1
            elif active < 0.01 * len(unit):
                nearly += 1
        rows.append(LayerActivity(layer, r, y.shape[-1], dead, nearly, straight, wild, y.shape[-2]))
    return rows


def relu_affine(x, layer):
    return np.maximum(x @ layer.W.data + layer.b.data, 0)


def test_report_on_a_plain_net():
    rng = make_rng()
    net = nn.Sequential(dense(3, 20, rng), dense(20, 15, rng), linear(15, 1, rng))
    for layer in net.layers:
        spread_biases(layer)
    X = rng.normal(size=(300, 3))
    first = relu_affine(X, net.layers[0])
    second = relu_affine(first, net.layers[1])
    expected = brute_force("0", first[None]) + brute_force("1", second[None])
    activity = UnitActivity()
    activity.update(losses.mse(net(X), np.zeros((300, 1))))
    assert activity.report() == expected
    assert UnitActivity.over(net, X, batch=71).report() == expected
    row = expected[0]
    assert min(row.dead, row.linear) > 0  # the example shows every kind but
    assert any(r.nearly_dead for r in expected) or row.units - row.dead - row.linear > 0  # the rarest
    assert row == LayerActivity(
        layer="0", replica=0, units=20, dead=row.dead, nearly_dead=row.nearly_dead, linear=row.linear, nonfinite=0, samples=300
    )


def test_nearly_dead_is_active_on_fewer_than_one_row_in_a_hundred():
    y = np.zeros((200, 5))
    for unit, active in enumerate((0, 1, 2, 199, 200)):  # 2 of 200 is 1 %, which is not fewer
        y[:active, unit] = 1
    z = Tensor(np.where(y > 0, 1.0, -1.0), "net.W")
    activity = UnitActivity()
    activity.update(ops.relu(z))
    assert activity.report() == [LayerActivity("net", 0, 5, 1, 1, 1, 0, 200)]
    assert_array_equal(activity.dead_share()["net"], [0.2])


@pytest.mark.parametrize("activation", [None, "relu"])
def test_residual_blocks(activation):
    rng = make_rng(1)
    block = nn.Residual(dense(6, 8, rng), linear(8, 6, rng), activation=activation)
    net = nn.Sequential(dense(3, 6, rng), block, linear(6, 1, rng))
    spread_biases(net.layers[0])
    spread_biases(block.layers[0])
    spread_biases(block.layers[1])
    X = rng.normal(size=(150, 3))
    first = relu_affine(X, net.layers[0])
    inner = relu_affine(first, block.layers[0])
    expected = brute_force("0", first[None]) + brute_force("1.0", inner[None])
    if activation:
        outer = np.maximum(first + inner @ block.layers[1].W.data + block.layers[1].b.data, 0)
        expected += brute_force("1.1", outer[None])
    assert UnitActivity.over(net, X).report() == expected


def test_relu_after_batch_norm():
    rng = make_rng(2)
    norm = nn.BatchNorm(9, rng=rng, dtype=np.float64)
    norm.shift.data = np.linspace(-3, 3, 9).reshape(1, 9)
    net = nn.Sequential(linear(3, 9, rng), norm, nn.Activation("relu"), linear(9, 1, rng))
    X = rng.normal(size=(120, 3))
    z = X @ net.layers[0].W.data + net.layers[0].b.data
    unit = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
    activity = UnitActivity()
    activity.update(net(X))
    assert activity.report() == brute_force("1", np.maximum(unit + norm.shift.data, 0)[None])
    running = (z - norm.running_mean.data) / np.sqrt(norm.running_variance.data + 1e-5)
    assert UnitActivity.over(net, X).report() == brute_force("1", np.maximum(running + norm.shift.data, 0)[None])


def test_a_hand_written_function():
    rng = make_rng(3)
    W, x = Tensor(rng.normal(size=(3, 7)), "hidden.W"), rng.normal(size=(40, 3))
    hidden = ops.relu(x @ W)
    nameless = ops.relu(Tensor(x) - 1.0)
    again = ops.relu(hidden - 0.5)
    activity = UnitActivity()
    activity.update(again.sum() + nameless.sum())
    first = np.maximum(x @ W.data, 0)
    assert activity.report() == (
        brute_force("hidden", first[None]) + brute_force("relu", np.maximum(x - 1, 0)[None])
        + brute_force("hidden#2", np.maximum(first - 0.5, 0)[None])
    )  # fmt: skip


def test_leaky_units_are_not_counted():
    net = nn.Sequential(dense(2, 3, make_rng(), activation="leaky_relu"), dense(3, 3, make_rng(), activation="elu"))
    assert UnitActivity.over(net, np.ones((4, 2))).report() == []


def test_a_layer_used_twice_is_two_rows():
    shared = dense(4, 4, make_rng())
    net = nn.Sequential(shared, shared)
    X = make_rng(1).normal(size=(30, 4))
    first = relu_affine(X, shared)
    expected = brute_force("0", first[None]) + brute_force("0#2", relu_affine(first, shared)[None])
    assert UnitActivity.over(net, X).report() == expected


@pytest.mark.parametrize("shape", [(60, 3), (4, 60, 3)])
def test_replicas(shape):
    rng = init.replicas([1, 2, 3, 4])
    net = nn.Sequential(dense(3, 12, rng), dense(12, 5, rng), linear(5, 1, rng))
    spread_biases(net.layers[0])
    X = make_rng().normal(size=shape)
    first = relu_affine(X, net.layers[0])
    second = relu_affine(first, net.layers[1])
    assert UnitActivity.over(net, X, batch=7).report() == brute_force("0", first) + brute_force("1", second)


def test_diverged_replicas_are_not_dead():
    rng = init.replicas([1, 2, 3])
    net = nn.Sequential(dense(2, 4, rng), linear(4, 1, rng))
    W, b = net.layers[0].W.data.copy(), net.layers[0].b.data.copy()
    W[1], W[2] = np.nan, np.inf
    b[0, 0, :2] = -100.0  # two units of the healthy replica are dead
    net.layers[0].W.data, net.layers[0].b.data = W, b
    X = np.abs(make_rng().normal(size=(10, 2)))
    activity = UnitActivity.over(net, X)
    with np.errstate(invalid="ignore"):
        expected = brute_force("0", relu_affine(X, net.layers[0]))
    assert activity.report() == expected
    assert [(row.dead, row.nonfinite) for row in expected] == [(2, 0), (0, 4), (0, 4)]
    assert_array_equal(activity.dead_share()["0"], [0.5, np.nan, np.nan])


def test_updates_add_up_and_reset_forgets():
    rng = make_rng()
    net = nn.Sequential(dense(3, 10, rng), linear(10, 1, rng))
    spread_biases(net.layers[0])
    opt = optim.SGD(net.parameters(), 0.05)
    activity = UnitActivity()
    seen = []
    for rows in (5, 8, 3):  # batches may differ in size, and weights move between them
        x = rng.normal(size=(rows, 3))
        seen.append(relu_affine(x, net.layers[0]))
        loss = losses.mse(net(x), x[:, :1])
        activity.update(loss)
        loss.backward()
        opt.step()
    assert activity.report() == brute_force("0", np.concatenate(seen)[None])
    activity.reset()
    assert activity.report() == []
    activity.update(loss)
    assert activity.report() == brute_force("0", seen[-1][None])


def test_updating_twice_counts_twice_and_leaves_the_graph_alone():
    net = nn.Sequential(dense(3, 10, make_rng()), linear(10, 1, make_rng()))
    x = make_rng(1).normal(size=(6, 3))
    loss = losses.mse(net(x), x[:, :1])
    expected = {p: g.copy() for p, g in loss.backward().items()}
    activity = UnitActivity()
    for _ in range(3):
        activity.update(loss)
    y = relu_affine(x, net.layers[0])
    assert activity.report() == brute_force("0", np.concatenate([y, y, y])[None])
    for p, g in loss.backward().items():
        assert_array_equal(g, expected[p])
    fresh = UnitActivity()
    fresh.update(loss)  # the facts of the graph were not added to
    assert fresh.report() == brute_force("0", y[None])


def test_another_net_is_refused():
    activity = UnitActivity()
    activity.update(dense(2, 3, make_rng())(np.ones((4, 2))))
    with pytest.raises(ShapeError, match=r"layer W had .* = \(1, 3\) before and has \(1, 5\) now"):
        activity.update(dense(2, 5, make_rng())(np.ones((4, 2))))


def test_over_leaves_the_net_as_it_was():
    rng = make_rng()
    net = nn.Sequential(dense(3, 5, rng), nn.BatchNorm(5, rng=rng, dtype=np.float64), nn.Activation("relu"))
    net.layers[1].training = False
    held = [t.data for t in (*net.parameters(), *net.buffers())]
    copies = [a.copy() for a in held]
    UnitActivity.over(net, rng.normal(size=(20, 3)))
    assert [layer.training for layer in net.layers] == [True, False, True]
    for t, a, copy in zip((*net.parameters(), *net.buffers()), held, copies, strict=True):
        assert t.data is a
        assert t.grad is None
        assert_array_equal(a, copy)


def test_over_counts_under_no_graph_and_takes_lists():
    net = nn.Sequential(dense(3, 5, make_rng()), linear(5, 1, make_rng()))
    X = make_rng(1).normal(size=(20, 3))
    expected = UnitActivity.over(net, X, warn=False).report()
    with engine.no_graph():
        assert UnitActivity.over(net, X.tolist(), batch=7, warn=False).report() == expected
        assert net(X).node is None  # and it is no_graph still


@pytest.mark.parametrize(
    ("X", "batch", "error", "sentence"),
    [
        (np.ones((0, 3)), 4096, ShapeError, r"at least one, got shape \(0, 3\)"),
        (np.ones(3), 4096, ShapeError, r"rows X \(..., N, I\), at least one, got shape \(3,\)"),
        (np.ones((2, 3)), 0, ValueError, "batch is 0; expected a whole number from 1"),
        (np.ones((2, 3)), 1.5, TypeError, "batch must be a whole number, got 1.5"),
    ],
)
def test_over_refuses_what_it_cannot_count(X, batch, error, sentence):
    with pytest.raises(error, match=sentence):
        UnitActivity.over(nn.Sequential(dense(3, 5, make_rng())), X, batch=batch)


def test_layers_have_the_names_of_the_net_that_was_called():
    inner, outer = dense(3, 5, make_rng()), dense(5, 5, make_rng(1))
    net = nn.Sequential(inner, outer)
    part = nn.Sequential(outer)
    X = make_rng(2).normal(size=(20, 3))
    for _ in range(2):
        for asked, x, layers in ((net, X, ["0", "1"]), (part, X @ np.ones((3, 5)), ["0"])):
            activity = UnitActivity()
            activity.update(asked(x))
            assert [row.layer for row in activity.report()] == layers
            assert [row.layer for row in UnitActivity.over(asked, x, warn=False).report()] == layers


@pytest.mark.parametrize("what", ["array", "leaf", "no graph", "number"])
def test_update_needs_a_graph(what):
    net = dense(2, 3, make_rng())
    with engine.no_graph():
        things = {"array": np.ones((2, 3)), "leaf": net.W, "no graph": net(np.ones((2, 2))), "number": 1.0}
    with pytest.raises(GraphError, match="call it on the loss, outside no_graph"):
        UnitActivity().update(things[what])


# ---------------------------------------------------------------------------------------------------------- warning


def net_with_dead_units(dead, units=10):
    layer = dense(2, units, make_rng(), bias=0.5)
    b = layer.b.data.copy()
    b[0, :dead] = -100.0
    layer.b.data = b
    return nn.Sequential(layer, dense(units, 4, make_rng(), bias=100.0), linear(4, 1, make_rng()))


def warnings_of(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    assert all(w.category is DeadUnitsWarning for w in caught)
    return caught


def test_over_warns_of_more_than_40_percent():
    X = make_rng(1).normal(size=(30, 2))
    assert warnings_of(lambda: UnitActivity.over(net_with_dead_units(4), X)) == []
    (caught,) = warnings_of(lambda: UnitActivity.over(net_with_dead_units(5), X, batch=4))
    assert "50% of the 10 units of layer 0 (replica 0) are dead on these 30 rows" in str(caught.message)
    assert caught.filename == __file__


def test_update_warns_once_a_layer_and_only_after_an_epoch():
    net, X = net_with_dead_units(9), make_rng(1).normal(size=(8, 2))
    activity = UnitActivity(epoch=20)
    counts = [len(warnings_of(lambda: activity.update(net(X)))) for _ in range(6)]
    assert counts == [0, 0, 1, 0, 0, 0]  # 24 rows are the first to make an epoch of 20
    activity.reset()
    assert [len(warnings_of(lambda: activity.update(net(X)))) for _ in range(4)] == [0, 0, 0, 0]


def test_update_never_warns_without_an_epoch():
    net, X = net_with_dead_units(10), make_rng(1).normal(size=(50, 2))
    activity = UnitActivity()
    assert warnings_of(lambda: [activity.update(net(X)) for _ in range(5)]) == []
    assert activity.report()[0].dead == 10


def test_the_worst_replica_is_named_and_diverged_ones_do_not_warn():
    rng = init.replicas([1, 2, 3])
    layer = dense(2, 4, rng, bias=10.0)
    net = nn.Sequential(layer, linear(4, 1, rng))
    X = make_rng(1).normal(size=(30, 2))
    W = layer.W.data.copy()
    W[1] = np.nan
    layer.W.data = W
    assert warnings_of(lambda: UnitActivity.over(net, X)) == []
    b = layer.b.data.copy()
    b[2, 0, :3] = -100.0
    layer.b.data = b
    (caught,) = warnings_of(lambda: UnitActivity.over(net, X))
    assert "75% of the 4 units of layer 0 (replica 2)" in str(caught.message)


def test_names_of_what_is_counted():
    assert set(monitor.RELU_NODES) == {"affine_relu", "relu", "residual_relu"}
    for name in monitor.RELU_NODES:
        assert callable(getattr(ops, name))


# ------------------------------------------------------------------------------------------- any net, by brute force


@st.composite
def nets(draw):
    """A net of dense layers, residual blocks and batch norm before ReLU, some replicas of it diverged, and its inputs."""
    seeds = draw(st.sampled_from([None, [1], [1, 2, 3]]))
    rng = make_rng(draw(st.integers(0, 99))) if seeds is None else init.replicas(seeds)
    width = draw(st.integers(1, 5))

    def hidden(inputs):
        if draw(st.booleans()):
            return [dense(inputs, width, rng)]
        return [linear(inputs, width, rng), nn.BatchNorm(width, rng=rng, dtype=np.float64), nn.Activation("relu")]

    layers = hidden(3)
    for _ in range(draw(st.integers(0, 3))):
        outer = draw(st.sampled_from(["none", None, "relu"]))
        layers += hidden(width) if outer == "none" else [nn.Residual(*hidden(width), activation=outer)]
    net = nn.Sequential(*layers, linear(width, 1, rng))
    for layer in net.walk():
        if isinstance(layer, nn.Linear):
            spread_biases(layer, draw(st.integers(0, 9)))
    if seeds and draw(st.booleans()):  # the last replica has diverged
        W = net.parameters()[0]
        W.data = W.data.copy()
        W.data[-1] = draw(st.sampled_from([np.nan, np.inf, 1e200]))
    return net, make_rng(draw(st.integers(0, 99))).normal(size=(draw(st.integers(2, 120)), 3))


def by_hand(net, x, batch_statistics):
    """{layer: outputs (R, N, O)} of every ReLU of `net`, in plain NumPy, named by the last parameter before each."""
    found = {}

    def through(layers, x, prefix, name):
        for i, layer in enumerate(layers):
            if layer.own_parameters():
                name = f"{prefix}{i}"
            if isinstance(layer, nn.Residual):
                change, name = through(layer.layers, x, f"{prefix}{i}.", name)
                x = x + change
                if layer.activation:
                    x = relu(x, name)
            elif isinstance(layer, nn.BatchNorm):
                mean, variance = layer.running_mean.data, layer.running_variance.data
                if batch_statistics:
                    mean, variance = x.mean(axis=-2, keepdims=True), x.var(axis=-2, keepdims=True)
                x = layer.scale.data * ((x - mean) / np.sqrt(variance + layer.eps)) + layer.shift.data
            elif isinstance(layer, nn.Linear):
                x = x @ layer.W.data + layer.b.data
            if isinstance(layer, (nn.Dense, nn.Activation)):
                x = relu(x, name)
        return x, name

    def relu(x, name):
        y = np.where(x <= 0, 0, x)
        count = sum(known.partition("#")[0] == name for known in found)
        found[name if not count else f"{name}#{count + 1}"] = y if y.ndim == 3 else y[None]
        return y

    with np.errstate(all="ignore"):
        through(net.layers, x, "", "")
    return found


@given(nets(), st.integers(1, 50))
def test_counts_of_any_net_are_those_of_brute_force(drawn, batch):
    net, X = drawn
    activity = UnitActivity()
    activity.update(losses.mse(net(X), X[:, :1]))  # training: the batch's statistics
    assert activity.report() == [row for name, y in by_hand(net, X, True).items() for row in brute_force(name, y)]
    expected = [row for name, y in by_hand(net, X, False).items() for row in brute_force(name, y)]
    assert UnitActivity.over(net, X, batch).report() == expected


def test_many_updates_are_added_up_without_a_limit():
    net, X = nn.Sequential(dense(2, 6, make_rng()), linear(6, 1, make_rng())), make_rng(1).normal(size=(5, 2))
    activity = UnitActivity()
    for _ in range(3 * monitor.PENDING + 1):
        activity.update(net(X))
        assert len(activity._layers["0"].pending) < monitor.PENDING  # memory does not grow
    times = 3 * monitor.PENDING + 1
    assert activity.report() == brute_force("0", np.concatenate([relu_affine(X, net.layers[0])] * times)[None])
    assert_array_equal(activity.dead_share()["0"], [activity.report()[0].dead / 6])
