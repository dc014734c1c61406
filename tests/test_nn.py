"""Layers against plain NumPy formulas; names, shapes, dtypes, batch norm's two modes, prediction, and what is refused."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import Tensor, init, losses, nn, ops, optim
from minirelu.errors import ShapeError


def make_rng(seed=0):
    return np.random.default_rng(seed)


def random_input(*shape, seed=1):
    return make_rng(seed).normal(size=shape)


def names(net):
    return [p.name for p in net.parameters()]


# ---------------------------------------------------------------------------------------------------------- affine


def test_linear_is_xw_plus_b():
    layer = nn.Linear(4, 3, rng=make_rng(), dtype=np.float64)
    x = random_input(5, 4)
    assert_allclose(layer(x).data, x @ layer.W.data + layer.b.data, rtol=1e-14, atol=1e-14)


def test_linear_with_one_input_is_an_outer_product():
    layer = nn.Linear(1, 3, rng=make_rng(), dtype=np.float64)
    x = random_input(5, 1)
    assert_array_equal(layer(x).data, x * layer.W.data + layer.b.data)


@pytest.mark.parametrize(
    ("activation", "options", "formula"),
    [
        ("relu", {}, lambda z: np.maximum(z, 0)),
        ("leaky_relu", {"slope": 0.2}, lambda z: np.where(z > 0, z, 0.2 * z)),
        ("leaky_relu", {}, lambda z: np.where(z > 0, z, 0.01 * z)),
        ("prelu", {}, lambda z: np.where(z > 0, z, 0.25 * z)),
        ("prelu", {"slope": -0.5, "units": 3}, lambda z: np.where(z > 0, z, -0.5 * z)),
        ("elu", {}, lambda z: np.where(z > 0, z, np.expm1(z))),
        ("elu", {"alpha": 0.5}, lambda z: np.where(z > 0, z, 0.5 * np.expm1(z))),
    ],
)
def test_dense_is_its_activation_of_xw_plus_b(activation, options, formula):
    layer = nn.Dense(4, 3, rng=make_rng(), activation=activation, dtype=np.float64, **options)
    x = random_input(50, 4)
    z = x @ layer.W.data + layer.b.data
    assert (z > 0).any()
    assert (z < 0).any()
    assert_allclose(layer(x).data, formula(z), rtol=1e-13, atol=1e-14)


def test_activation_alone_equals_the_one_inside_dense():
    dense = nn.Dense(4, 3, rng=make_rng(), dtype=np.float64)
    linear = nn.Linear(4, 3, rng=make_rng(), dtype=np.float64)
    x = random_input(20, 4)
    assert_array_equal(dense(x).data, nn.Activation("relu")(linear(x)).data)


def test_prelu_learns_its_slope():
    layer = nn.Dense(2, 3, rng=make_rng(), activation="prelu", units=3, dtype=np.float64)
    assert names(layer) == ["W", "b", "slope"]
    assert layer.parameters()[2].shape == (1, 3)
    x = random_input(20, 2)
    layer(x).sum().backward()
    z = x @ layer.W.data + layer.b.data
    # a sum of at most 20 numbers of size 1: 20 roundings
    assert_allclose(
        layer.parameters()[2].grad, np.where(z > 0, 0, z).sum(axis=0, keepdims=True), rtol=0, atol=20 * 2.3e-16 * 20
    )


def test_init_and_bias_can_be_chosen():
    layer = nn.Linear(3, 2, rng=make_rng(), init=init.he)
    assert_array_equal(layer.b.data, np.zeros((1, 2)))
    assert_array_equal(nn.Linear(3, 2, rng=make_rng(), bias=-2.0).b.data, np.full((1, 2), -2.0))
    drawn = nn.Linear(3, 2, rng=make_rng(), init=init.constant(1.0), bias=init.normal(1.0), dtype=np.float64)
    assert_array_equal(drawn.W.data, np.ones((3, 2)))
    assert_array_equal(drawn.b.data, make_rng().normal(size=(1, 2)))


@pytest.mark.parametrize("kind", [nn.Linear, nn.Dense])
@pytest.mark.parametrize("x", [np.ones((5, 2)), np.ones((5, 4)), np.ones((2, 5, 4))])
def test_input_of_the_wrong_shape_names_what_was_given_and_expected(kind, x):
    with pytest.raises(ShapeError) as error:
        kind(3, 2, rng=make_rng())(x)
    assert f"{kind.__name__}(3, 2" in str(error.value)
    assert "(..., B, 3)" in str(error.value)
    assert str(x.shape) in str(error.value)


def test_a_single_row_or_number_is_refused_in_the_same_words():
    for kind in (nn.Linear, nn.Dense):
        for x in (np.ones(3), np.ones(())):
            with pytest.raises(ShapeError, match=r"takes x of shape \(..., B, 3\), got"):
                kind(3, 2, rng=make_rng())(x)


@pytest.mark.parametrize("name", ["torch_default", "he", "xavier", "lecun", "rai"])
def test_initialisers_go_by_name_too(name):
    by_name, by_function = (nn.Linear(4, 3, rng=make_rng(), init=given) for given in (name, getattr(init, name)))
    assert_array_equal(by_name.W.data, by_function.W.data)
    assert_array_equal(by_name.b.data, by_function.b.data)


@pytest.mark.parametrize("given", ["He", None, 0.1])
def test_an_unknown_initialiser_is_refused(given):
    with pytest.raises(ValueError, match=r"init was given .*; expected one of torch_default, he, .*, or a function of init.py"):
        nn.Dense(4, 3, rng=make_rng(), init=given)


@pytest.mark.parametrize(("inputs", "outputs"), [(0, 1), (1, 0), (-1, 2)])
def test_a_layer_needs_inputs_and_outputs(inputs, outputs):
    with pytest.raises(ShapeError, match=f"at least one input and one output, got {inputs} and {outputs}"):
        nn.Dense(inputs, outputs, rng=make_rng())


def test_activations_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="'gelu' is not known; expected one of relu, leaky_relu, prelu, elu"):
        nn.Dense(2, 2, rng=make_rng(), activation="gelu")
    with pytest.raises(TypeError, match="'relu' has no option slope"):
        nn.Dense(2, 2, rng=make_rng(), slope=0.1)


@pytest.mark.parametrize("wrong", [None, 0, np.random.RandomState(0), np.random])
@pytest.mark.parametrize("make", [lambda rng: nn.Linear(2, 2, rng=rng), lambda rng: nn.BatchNorm(2, rng=rng)])
def test_a_wrong_rng_is_refused_with_what_to_write(make, wrong):
    with pytest.raises(TypeError, match=r"write rng=numpy.random.default_rng\(seed\)"):
        make(wrong)


# ---------------------------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "x",
    [
        np.arange(12).reshape(4, 3),
        [[1, 2, 3], [4, 5, 6]],
        np.ones((2, 3), np.float64),
        np.ones((2, 3), np.float32),
        [[True] * 3] * 2,
    ],
)
@pytest.mark.parametrize("activation", nn.ACTIVATIONS)
def test_raw_inputs_take_the_dtype_of_the_layer(dtype, x, activation):
    layer = nn.Dense(3, 2, rng=make_rng(), activation=activation, dtype=dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert_array_equal(y.data, layer(np.asarray(x, dtype)).data)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_takes_raw_inputs_too(training):
    layer = nn.BatchNorm(2, rng=make_rng())
    layer.training = training
    for x in ([[1, 2], [3, 5]], np.array([[1, 2], [3, 5]]), np.array([[1.0, 2.0], [3.0, 5.0]])):
        y = layer(x)
        assert y.dtype == np.float32
        assert y.shape == (2, 2)


def test_a_tensor_of_another_dtype_is_refused():
    with pytest.raises(TypeError, match="float64 and float32"):
        nn.Linear(3, 2, rng=make_rng())(Tensor(np.ones((4, 3))))


# -------------------------------------------------------------------------------------------------------- residual


def residual_parts():
    return nn.Dense(3, 5, rng=make_rng(1), dtype=np.float64), nn.Linear(5, 3, rng=make_rng(2), dtype=np.float64)


def test_residual_adds_its_input():
    first, second = residual_parts()
    x = random_input(6, 3)
    change = np.maximum(x @ first.W.data + first.b.data, 0) @ second.W.data + second.b.data
    assert_array_equal(nn.Residual(first, second)(x).data, x + change)
    assert_array_equal(nn.Residual(first, second, activation="relu")(x).data, np.maximum(x + change, 0))


def test_residual_gives_its_input_both_gradients():
    first, second = residual_parts()
    x = Tensor(random_input(6, 3))
    for activation in (None, "relu"):
        y = nn.Residual(first, second, activation=activation)(x)
        y.sum().backward()
        g = np.ones((6, 3)) if activation is None else (y.data > 0).astype(float)
        hidden = x.data @ first.W.data + first.b.data
        through = ((g @ second.W.data.T) * (hidden > 0)) @ first.W.data.T
        # the same products in the same order up to one addition: a few roundings of numbers below 4
        assert_allclose(x.grad, g + through, rtol=0, atol=1e-15 * 8)


def test_residual_refuses_changing_shapes_and_unknown_activations():
    with pytest.raises(ShapeError, match=r"its input \(6, 3\) to its output \(6, 2\)"):
        nn.Residual(nn.Linear(3, 2, rng=make_rng()))(np.ones((6, 3)))
    with pytest.raises(ShapeError, match=r"its input \(6, 3\) to its output \(6, 1\)"):  # would broadcast
        nn.Residual(nn.Linear(3, 1, rng=make_rng()))(np.ones((6, 3)))
    with pytest.raises(ValueError, match="None or 'relu', got 'elu'"):
        nn.Residual(nn.Linear(3, 3, rng=make_rng()), activation="elu")


# ---------------------------------------------------------------------------------------------- names and nesting


def nested_net(rng, dtype=np.float32):
    return nn.Sequential(
        nn.Dense(2, 4, rng=rng, dtype=dtype),
        nn.Residual(nn.Dense(4, 5, rng=rng, dtype=dtype), nn.Linear(5, 4, rng=rng, dtype=dtype)),
        nn.BatchNorm(4, rng=rng, dtype=dtype),
        nn.Dense(4, 3, rng=rng, activation="prelu", dtype=dtype),
        nn.Linear(3, 1, rng=rng, dtype=dtype),
    )


def test_parameters_come_in_forward_order_with_names():
    net = nested_net(make_rng())
    expected = "0.W 0.b 1.0.W 1.0.b 1.1.W 1.1.b 2.scale 2.shift 3.W 3.b 3.slope 4.W 4.b"
    assert names(net) == expected.split()
    assert [b.name for b in net.buffers()] == ["2.running_mean", "2.running_variance"]
    shapes = [(2, 4), (1, 4), (4, 5), (1, 5), (5, 4), (1, 4), (1, 4), (1, 4), (4, 3), (1, 3), (1, 1), (3, 1), (1, 1)]
    assert [p.shape for p in net.parameters()] == shapes
    assert repr(net).startswith("Sequential(Dense(2, 4, activation='relu'), Residual(Dense(4, 5")


def test_the_axis_of_replicas_leads_every_parameter_and_buffer():
    net = nested_net(init.replicas([3, 1, 4]))
    alone = nested_net(make_rng(1))
    for together, single in zip([*net.parameters(), *net.buffers()], [*alone.parameters(), *alone.buffers()], strict=True):
        assert together.shape == (3, *single.shape)
        assert_array_equal(together.data[1], single.data)


def test_a_shared_layer_is_listed_and_named_once():
    shared = nn.Dense(3, 3, rng=make_rng(), dtype=np.float64)
    net = nn.Sequential(shared, nn.Linear(3, 3, rng=make_rng(1), dtype=np.float64), shared)
    assert names(net) == ["0.W", "0.b", "1.W", "1.b"]
    x = random_input(5, 3)
    middle = np.maximum(x @ shared.W.data + shared.b.data, 0) @ net.layers[1].W.data + net.layers[1].b.data
    assert_allclose(net(x).data, np.maximum(middle @ shared.W.data + shared.b.data, 0), rtol=1e-13, atol=1e-14)
    net(x).sum().backward()
    assert shared.W.grad.shape == (3, 3)


def test_a_layer_of_two_nets_has_the_names_of_the_net_that_is_asked(tmp_path):
    first, second, norm = linear_of(3, 4, 0), linear_of(4, 4, 1), nn.BatchNorm(4, rng=make_rng(), dtype=np.float64)
    net = nn.Sequential(first, nn.Residual(second, norm))
    own = ["0.W", "0.b", "1.0.W", "1.0.b", "1.1.scale", "1.1.shift"]
    assert names(net) == own
    nn.save(tmp_path / "net.npz", net)
    whole, part = nn.Sequential(net, linear_of(4, 1, 2)), nn.Sequential(net.layers[1])
    assert names(part) == ["0.0.W", "0.0.b", "0.1.scale", "0.1.shift"]
    assert [b.name for b in part.buffers()] == ["0.1.running_mean", "0.1.running_variance"]
    assert names(whole) == [f"0.{name}" for name in own] + ["1.W", "1.b"]
    assert names(net) == own
    names(part)
    nn.load(tmp_path / "net.npz", net)
    assert names(second) == ["W", "b"]
    net(random_input(5, 3))  # a call asks too
    assert [p.name for p in second.own_parameters()] == ["1.0.W", "1.0.b"]


class Wrapped(nn.Layer):
    """A layer that a user might write around a net, which it calls as anybody would."""

    def __init__(self, *layers):
        self.inside = nn.Sequential(*layers)

    def children(self):
        return [self.inside]

    def forward(self, x):
        return self.inside(x)


def test_a_net_that_is_called_inside_another_has_the_names_of_the_outer_one():
    net = nn.Sequential(linear_of(3, 3, 0), Wrapped(linear_of(3, 3, 1)), linear_of(3, 3, 2))
    other = nn.Sequential(*net.layers[1:])
    for asked, W in ((net, "1.0.W"), (other, "0.0.W"), (net, "1.0.W")):
        asked(random_input(5, 3))
        assert net.layers[1].inside.layers[0].W.name == W


def linear_of(inputs, outputs, seed):
    return nn.Linear(inputs, outputs, rng=make_rng(seed), dtype=np.float64)


def test_replica_and_plain_parameters_do_not_mix():
    plain, two, three = (nn.Linear(2, 2, rng=rng) for rng in (make_rng(), init.replicas([1, 2]), init.replicas([1, 2, 3])))
    with pytest.raises(ShapeError, match="give every layer the same rng") as error:
        nn.Sequential(plain, two)
    assert "'1.W': (2,)" in str(error.value)
    with pytest.raises(ShapeError, match="share their replica axis"):
        nn.Residual(two, three)


def test_nets_take_layers_only():
    with pytest.raises(TypeError, match="Sequential takes layers, got ufunc"):
        nn.Sequential(np.tanh)


class Gated(nn.Layer):
    """A layer that a user might write: two affine maps, multiplied."""

    def __init__(self, inputs, outputs, rng):
        self.left = nn.Linear(inputs, outputs, rng=rng, dtype=np.float64)
        self.right = nn.Dense(inputs, outputs, rng=rng, dtype=np.float64)
        self.gain = Tensor(np.ones((1, outputs)), "gain")

    def children(self):
        return [self.left, self.right]

    def own_parameters(self):
        return [self.gain]

    def forward(self, x):
        return ops.mul(self.gain, self.left(x) * self.right(x))


def test_a_hand_written_layer_works_in_a_net():
    gated = Gated(3, 2, make_rng())
    net = nn.Sequential(
        gated, nn.BatchNorm(2, rng=make_rng(), dtype=np.float64), nn.Linear(2, 1, rng=make_rng(), dtype=np.float64)
    )
    assert names(net)[:5] == ["0.gain", "0.W", "0.b", "0.W", "0.b"]
    assert len(names(net)) == 9
    x = random_input(8, 3)
    left = x @ gated.left.W.data + gated.left.b.data
    right = np.maximum(x @ gated.right.W.data + gated.right.b.data, 0)
    assert_allclose(gated(x).data, left * right, rtol=1e-13, atol=1e-14)
    opt = optim.SGD(net.parameters(), lr=0.1)
    before = [p.data for p in net.parameters()]
    losses.mse(net(x), x[:, :1]).backward()
    opt.step()
    assert all(not np.array_equal(p.data, b) for p, b in zip(net.parameters()[:5], before[:5], strict=True))
    with nn.evaluating(net):
        assert not gated.left.training


def pickled(net):
    return pickle.loads(pickle.dumps(net))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copied_net_trains_like_the_first(copied):
    net = nested_net(make_rng(), np.float64)
    twin = copied(net)
    x = random_input(8, 2)
    for one in (net, twin):
        opt = optim.SGD(one.parameters(), lr=0.1)
        for _ in range(3):
            losses.mse(one(x), x[:, :1]).backward()
            opt.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert_array_equal(p.data, q.data)


# ------------------------------------------------------------------------------------------------------ batch norm


def test_batch_norm_in_training_is_the_formula_of_its_paper():
    layer = nn.BatchNorm(3, rng=make_rng(), dtype=np.float64)
    layer.scale.data, layer.shift.data = np.array([[1.0, -2.0, 0.5]]), np.array([[0.0, 3.0, -1.0]])
    x = random_input(9, 3)
    unit = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    # numbers of size 1 to 5, a handful of roundings each
    assert_allclose(layer(x).data, unit * layer.scale.data + layer.shift.data, rtol=0, atol=5e-15)


def test_running_statistics_follow_the_batches():
    layer = nn.BatchNorm(3, rng=make_rng(), momentum=0.25, dtype=np.float64)
    mean, variance = np.zeros((1, 3)), np.ones((1, 3))
    for seed in range(4):
        x = random_input(6, 3, seed=seed) * 2 + 1
        layer(x)
        mean = 0.75 * mean + 0.25 * x.mean(axis=0)
        variance = 0.75 * variance + 0.25 * x.var(axis=0, ddof=1)
    # numbers of size 1 to 5, a handful of roundings each
    assert_allclose(layer.running_mean.data, mean, rtol=0, atol=5e-15)
    assert_allclose(layer.running_variance.data, variance, rtol=0, atol=2e-14)
    with nn.evaluating(layer):
        x = random_input(2, 3, seed=9)
        expected = (x - layer.running_mean.data) / np.sqrt(layer.running_variance.data + 1e-5)
        assert_allclose(layer(x).data, expected, rtol=0, atol=5e-15)
        assert_allclose(layer(x[:1]).data, expected[:1], rtol=0, atol=5e-15)
    assert_allclose(layer.running_mean.data, mean, rtol=0, atol=5e-15)


def test_batch_norm_in_evaluation_has_gradients():
    layer = nn.BatchNorm(2, rng=make_rng(), dtype=np.float64)
    layer.running_mean.data, layer.running_variance.data = np.array([[1.0, 2.0]]), np.array([[4.0, 9.0]])
    x = Tensor(random_input(5, 2))
    with nn.evaluating(layer):
        layer(x).sum().backward()
    unit = (x.data - [[1.0, 2.0]]) / np.sqrt(np.array([[4.0, 9.0]]) + 1e-5)
    # sums of 5 numbers of size 1
    assert_allclose(layer.scale.grad, unit.sum(axis=0, keepdims=True), rtol=0, atol=1e-14)
    assert_allclose(layer.shift.grad, [[5.0, 5.0]], rtol=0, atol=1e-14)
    assert_allclose(x.grad, np.broadcast_to(1 / np.sqrt(np.array([4.0, 9.0]) + 1e-5), (5, 2)), rtol=1e-15)


def test_batch_norm_needs_two_rows_in_training():
    layer = nn.BatchNorm(3, rng=make_rng())
    with pytest.raises(ShapeError, match=r"at least 2 rows in training .* got x of shape \(1, 3\)"):
        layer(np.ones((1, 3)))
    assert_array_equal(layer.running_mean.data, np.zeros((1, 3)))
    with nn.evaluating(layer):
        assert layer(np.ones((1, 3))).shape == (1, 3)


@pytest.mark.parametrize("x", [np.ones((4, 2)), np.ones(3), np.ones((2, 4, 1))])
def test_batch_norm_refuses_other_shapes(x):
    with pytest.raises(ShapeError) as error:
        nn.BatchNorm(3, rng=make_rng())(x)
    assert "BatchNorm(3) takes x of shape (..., B, 3)" in str(error.value)
    assert str(x.shape) in str(error.value)


def test_a_plain_batch_norm_refuses_replicas():
    with pytest.raises(ShapeError, match=r"\(1, 3\), those of this batch \(2, 1, 3\)"):
        nn.BatchNorm(3, rng=make_rng())(random_input(2, 4, 3))


@pytest.mark.parametrize(("seeds", "rows"), [([1], (4, 8)), ([1, 2], (3, 8)), ([1, 2], (1, 2, 8))])
def test_batch_norm_refuses_a_batch_that_would_change_the_shape_of_its_statistics(seeds, rows):
    norm = nn.BatchNorm(3, rng=init.replicas(seeds))
    with pytest.raises(ShapeError, match=r"BatchNorm's statistics are \(., 1, 3\), those of this batch .* make the net with"):
        norm(random_input(*rows, 3))
    assert [b.shape for b in norm.buffers()] == [(len(seeds), 1, 3)] * 2


def test_replicas_of_batch_norm_share_raw_inputs():
    layer = nn.BatchNorm(3, rng=init.replicas([1, 2]), dtype=np.float64)
    x = random_input(5, 3)
    y = layer(x)
    single = nn.BatchNorm(3, rng=make_rng(), dtype=np.float64)
    expected = single(x).data
    for r in range(2):
        assert_array_equal(y.data[r], expected)
        assert_array_equal(layer.running_variance.data[r], single.running_variance.data)


# ------------------------------------------------------------------------------------------- evaluating and predict


def test_training_is_true_at_birth_and_evaluating_restores_it():
    net = nested_net(make_rng())
    assert all(layer.training for layer in net.walk())
    net.layers[2].training = False  # a layer frozen by hand stays frozen
    with nn.evaluating(net):
        assert not any(layer.training for layer in net.walk())
    assert [layer.training for layer in net.layers] == [True, True, False, True, True]
    with pytest.raises(KeyError), nn.evaluating(net):
        raise KeyError
    assert [layer.training for layer in net.layers] == [True, True, False, True, True]
    assert net.training


@pytest.mark.parametrize("batch", [1, 3, 7, 4096])
def test_predict_is_forward_in_evaluation_mode(batch):
    net = nested_net(make_rng(), np.float64)
    for seed in range(3):
        net(random_input(6, 2, seed=seed))  # so that the running statistics are not those of birth
    X = random_input(7, 2)
    statistics = [b.data for b in net.buffers()]
    with nn.evaluating(net):
        expected = np.concatenate([net(X[i : i + batch]).data for i in range(0, 7, batch)])
    predicted = net.predict(X, batch=batch)
    assert type(predicted) is np.ndarray
    assert_array_equal(predicted, expected)
    assert net.training
    assert all(b.data is s for b, s in zip(net.buffers(), statistics, strict=True))


def test_predict_keeps_no_graph():
    seen = []

    class Spy(nn.Layer):
        def forward(self, x):
            seen.append(x)
            return x

    net = nn.Sequential(nn.Dense(2, 3, rng=make_rng()), Spy(), nn.Linear(3, 1, rng=make_rng()))
    net.predict(np.ones((5, 2)))
    assert [x.node for x in seen] == [None]


@pytest.mark.parametrize("shape", [(5, 2), (3, 5, 2)])
def test_predict_with_replicas(shape):
    net = nested_net(init.replicas([3, 1, 4]), np.float64)
    X = random_input(*shape)
    predicted = net.predict(X, batch=2)
    assert predicted.shape == (3, 5, 1)
    for r, seed in enumerate([3, 1, 4]):
        alone = nested_net(make_rng(seed), np.float64)
        assert_array_equal(predicted[r], alone.predict(X if X.ndim == 2 else X[r], batch=2))


def test_predict_takes_empty_data_and_refuses_a_single_row():
    net = nn.Dense(2, 3, rng=make_rng())
    assert net.predict(np.ones((0, 2))).shape == (0, 3)
    with pytest.raises(ShapeError, match=r"\(..., N, I\), got \(2,\); one row is X\[None, :\]"):
        net.predict(np.ones(2))


@pytest.mark.parametrize(("batch", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("all", TypeError)])
def test_predict_needs_a_count_of_rows(batch, error):
    with pytest.raises(error, match=r"batch (is|must be) .*whole number"):
        linear_of(3, 1, 0).predict(np.ones((4, 3)), batch=batch)


def test_predict_takes_lists():
    net = nn.Dense(2, 3, rng=make_rng())
    assert_array_equal(net.predict([[1, 2], [3, 4]]), net.predict(np.array([[1, 2], [3, 4]])))


def test_predict_of_a_net_without_parameters_is_an_array():
    predicted = nn.Sequential(nn.Activation("relu")).predict(np.array([[-1.0, 2.0]]))
    assert type(predicted) is np.ndarray
    assert_array_equal(predicted, [[0.0, 2.0]])


def test_diverged_layers_do_not_warn():
    net = nested_net(make_rng(), np.float32)
    for p in net.parameters():
        p.data = np.full_like(p.data, 1e30)
    loss = losses.mse(net(random_input(4, 2) * 1e30), np.ones((4, 1)))  # warnings are errors in this suite
    loss.backward()
    assert not np.isfinite(loss.item())
