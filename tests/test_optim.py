"""Optimisers against their textbook forms, per-replica hyper-parameters, what is refused, and graphs that stay true."""

import copy
import gc
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import Tensor, init, losses, nn, optim
from minirelu.errors import GraphError, ShapeError

STEPS = 50
# Fifty steps of a stable iteration of a few roundings each: 50·5·eps = 6e-14, with room for cancellation 1e-12.
RELATIVE = 1e-12

seeds = st.integers(0, 2**32 - 1)
betas = st.floats(0, 0.99)
rates = st.floats(1e-3, 0.3)  # curvatures lie in (0, 2), so lr·h < 0.6: stable for every form and every beta

ALL = {
    "SGD": lambda p, lr: optim.SGD(p, lr),
    "HeavyBall": lambda p, lr: optim.HeavyBall(p, lr, 0.9),
    "Nesterov": lambda p, lr: optim.Nesterov(p, lr, 0.9),
    "EMAMomentum": lambda p, lr: optim.EMAMomentum(p, lr, 0.9),
    "Adam": lambda p, lr: optim.Adam(p, lr),
}
every_optimiser = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())


class Quadratic:
    """½(θ − c)ᵀH(θ − c) with H symmetric, eigenvalues in (0, 2), in five dimensions."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        axes, _ = np.linalg.qr(rng.normal(size=(5, 5)))
        H = axes @ np.diag(rng.uniform(0.05, 2, 5)) @ axes.T
        self.H = (H + H.T) / 2
        self.centre, self.start = rng.normal(size=(2, 1, 5))

    def gradient(self, theta):
        return (theta - self.centre) @ self.H

    def path(self, make):
        """θ₀ … θ_STEPS of a library optimiser, with gradients made by the engine."""
        theta = Tensor(self.start.copy(), "theta")
        opt = make([theta])
        path = [self.start]
        for _ in range(STEPS):
            e = theta - self.centre
            (0.5 * (e @ self.H * e)).sum().backward()
            opt.step()
            path.append(theta.data)
        return np.array(path)


def assert_same_path(path, expected):
    """Equal within RELATIVE of the largest number on the path."""
    assert np.isfinite(expected).all()
    assert_allclose(path, np.array(expected), rtol=0, atol=RELATIVE * np.abs(expected).max())


# -------------------------------------------------------------------------------------------------- textbook forms


@given(seeds, rates)
def test_sgd_is_gradient_descent(seed, lr):
    q = Quadratic(seed)
    expected = [q.start]
    for _ in range(STEPS):
        expected.append(expected[-1] - lr * q.gradient(expected[-1]))
    assert_same_path(q.path(lambda p: optim.SGD(p, lr)), expected)


@given(seeds, rates, betas)
def test_heavy_ball_is_polyaks_two_step_form(seed, lr, beta):
    """θ_{t+1} = θ_t − η∇L(θ_t) + β(θ_t − θ_{t−1}), with θ_{−1} = θ₀ (Polyak 1964)."""
    q = Quadratic(seed)
    before, now = q.start, q.start
    expected = [now]
    for _ in range(STEPS):
        before, now = now, now - lr * q.gradient(now) + beta * (now - before)
        expected.append(now)
    assert_same_path(q.path(lambda p: optim.HeavyBall(p, lr, beta)), expected)


@given(seeds, rates, betas)
def test_nesterov_is_the_lookahead_sequence_of_the_two_sequence_form(seed, lr, beta):
    """y_t = θ_t + βu_t; u_{t+1} = βu_t − η∇L(y_t); θ_{t+1} = θ_t + u_{t+1} (Sutskever et al. 2013): ours walks the y_t."""
    q = Quadratic(seed)
    theta, u = q.start, np.zeros_like(q.start)
    expected = [theta + beta * u]
    for _ in range(STEPS):
        u = beta * u - lr * q.gradient(theta + beta * u)
        theta = theta + u
        expected.append(theta + beta * u)
    assert_same_path(q.path(lambda p: optim.Nesterov(p, lr, beta)), expected)


@given(seeds, rates, betas)
def test_ema_momentum_is_heavy_ball_at_a_smaller_rate(seed, lr, beta):
    q = Quadratic(seed)
    ema = q.path(lambda p: optim.EMAMomentum(p, lr, beta))
    assert_same_path(ema, q.path(lambda p: optim.HeavyBall(p, lr * (1 - beta), beta)))


@given(seeds, st.floats(1e-4, 0.1), betas, st.floats(0.5, 0.9999))
def test_adam_is_algorithm_1_of_its_paper(seed, lr, beta1, beta2):
    """Kingma & Ba 2015, Algorithm 1, coordinate by coordinate in Python floats.

    Adam on a quadratic is chaotic (one rounding grows to 1e-6 in 50 steps), so both are given the gradients of one path.
    """
    q = Quadratic(seed)
    eps = 1e-8
    parameter = Tensor(q.start, "theta")
    opt = optim.Adam([parameter], lr, beta1, beta2, eps)
    theta, m, v = q.start.ravel().tolist(), [0.0] * 5, [0.0] * 5
    path, expected = [], []
    for t in range(1, STEPS + 1):
        parameter.grad = q.gradient(parameter.data)
        g = parameter.grad.ravel().tolist()
        opt.step()
        for i in range(5):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            corrected, root = m[i] / (1 - beta1**t), math.sqrt(v[i] / (1 - beta2**t))
            theta[i] -= lr * corrected / (root + eps)
        path.append(parameter.data.ravel().tolist())
        expected.append(list(theta))
    assert_same_path(path, expected)


@given(st.floats(1e-3, 1.5), st.floats(0, 0.99))
def test_the_closed_form_of_ema_momentum_on_a_quadratic(q, beta):
    """a_t = r_t·a₀ with r₀ = 1, r₁ = 1 − q(1 − β), r_{t+1} = (1 + β − q(1 − β))r_t − βr_{t−1}; complex pairs in closed form."""
    theta = Tensor(np.array([[1.0]]), "theta")
    opt = optim.EMAMomentum([theta], q, beta)
    trace, first = 1 + beta - q * (1 - beta), 1 - q * (1 - beta)
    r = [1.0, first]
    path = [1.0]
    for _ in range(STEPS):
        theta.grad = theta.data.copy()
        opt.step()
        path.append(theta.data.item())
        r.append(trace * r[-1] - beta * r[-2])
    # |λ| < 1, so that rounding stays what it was made: 50 steps of five roundings, and growth at a double root
    assert_allclose(path, r[:-1], rtol=0, atol=1e-12)
    if trace**2 < 3.9 * beta:  # complex, and not so near a double root that sin ω cancels
        rho = math.sqrt(beta)
        w = math.acos(trace / (2 * rho))
        kappa = (first / rho - math.cos(w)) / math.sin(w)
        t = np.arange(STEPS + 1)
        assert_allclose(path, rho**t * (np.cos(w * t) + kappa * np.sin(w * t)), rtol=0, atol=1e-11)


def test_golden_overshoot_of_the_paper():
    """η = 0.1: the deepest undershoot for β = 0.9 is −0.15316 at t = 35 (the five digits that are printed)."""
    theta = Tensor(np.array([[1.0]]), "theta")
    opt = optim.EMAMomentum([theta], 0.1, 0.9)
    path = [1.0]
    for _ in range(100):
        theta.grad = theta.data.copy()
        opt.step()
        path.append(theta.data.item())
    assert int(np.argmin(path)) == 35
    assert_allclose(min(path), -0.15316, rtol=0, atol=5e-6)


# ------------------------------------------------------------------------------------------------ hyper-parameters


def replica_loss(net, X):
    return losses.mse(net(X), X[:, :1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_replica_has_its_own_hyper_parameters(dtype):
    X = np.random.default_rng(0).normal(size=(8, 2)).astype(dtype)
    lrs, beta1s, beta2s, epss = [0.1, 0.01, 0.0], [0.0, 0.9, 0.5], [0.9, 0.999, 0.99], [1e-8, 1e-3, 0.1]

    def train(rng, **hyper):
        net = nn.Sequential(nn.Dense(2, 3, rng=rng, dtype=dtype), nn.Linear(3, 1, rng=rng, dtype=dtype))
        opt = optim.Adam(net.parameters(), **hyper)
        for _ in range(20):
            replica_loss(net, X).backward()
            opt.step()
        return net

    together = train(init.replicas([1, 2, 3]), lr=lrs, beta1=np.array(beta1s), beta2=tuple(beta2s), eps=epss)
    for r in range(3):
        alone = train(np.random.default_rng(r + 1), lr=lrs[r], beta1=beta1s[r], beta2=beta2s[r], eps=epss[r])
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            assert p.data.dtype == dtype
            assert_array_equal(p.data[r], q.data)


def test_the_rate_can_be_set_between_steps():
    theta = Tensor(np.array([[1.0]]), "theta")
    opt = optim.SGD([theta], 0.5)
    for lr in (0.5, 0.25, 0.0):
        opt.lr = lr
        theta.grad = np.array([[1.0]])
        opt.step()
    assert theta.data.item() == 1 - 0.5 - 0.25
    with pytest.raises(ValueError, match="lr=-1"):
        opt.lr = -1
    assert opt.lr == 0.0


def test_a_new_rate_applies_to_the_whole_velocity():
    """PyTorch's convention: the velocity holds gradients, not steps. Powers of 2, so that every number is exact."""
    moved = []
    for kind in (optim.HeavyBall, optim.Nesterov, optim.EMAMomentum):
        theta = Tensor(np.array([[0.0]]), "theta")
        opt = kind([theta], 1.0, 0.5)
        for lr in (1.0, 0.25):
            opt.lr = lr
            theta.grad = np.array([[8.0]])
            opt.step()
        moved.append(theta.data.item())
    # v is 8, 12: −8 − 12/4;   steps along 8 + v/2: −12 − 14/4;   m is 4, 6: −4 − 6/4
    assert moved == [-11.0, -15.5, -5.5]


def test_replicas_can_be_given_rates_between_steps():
    p = nn.Linear(1, 1, rng=init.replicas([1, 2])).W
    opt = optim.SGD([p], 0.5)
    start = p.data
    opt.lr = [0.0, 1.0]
    p.grad = np.ones_like(start)
    opt.step()
    assert_array_equal(p.data, start - np.array([0.0, 1.0], np.float32).reshape(2, 1, 1))


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, -math.inf, [0.1, -0.1], [0.1, math.nan]])
@every_optimiser
def test_bad_rates_are_refused(make, lr):
    with pytest.raises(ValueError, match=r"was given lr=.*; expected 0.0 <= lr < inf"):
        make(nn.Linear(1, 1, rng=init.replicas([1, 2])).parameters(), lr)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (kind, "beta", value)
        for kind in (optim.HeavyBall, optim.Nesterov, optim.EMAMomentum)
        for value in (1, 1.5, -0.1, math.nan)
    ]
    + [(optim.Adam, name, value) for name in ("beta1", "beta2") for value in (1.0, -0.1, math.nan)]
    + [(optim.Adam, "eps", -1e-8)],
)
def test_bad_hyper_parameters_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"{kind.__name__} was given {name}="):
        kind(nn.Linear(1, 1, rng=np.random.default_rng(0)).parameters(), 0.1, **{name: value})


def test_the_number_of_values_must_be_that_of_the_replicas():
    pair = nn.Linear(1, 1, rng=init.replicas([1, 2])).parameters()
    with pytest.raises(ShapeError, match="3 values of lr, one a replica, but the parameters have the leading axes"):
        optim.SGD(pair, [0.1, 0.2, 0.3])
    with pytest.raises(ShapeError, match="2 values of beta"):
        optim.HeavyBall(nn.Linear(1, 1, rng=np.random.default_rng(0)).parameters(), 0.1, [0.1, 0.2])


@every_optimiser
def test_no_parameters_are_refused(make):
    with pytest.raises(ValueError, match="was given no parameters"):
        make([], 0.1)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (nn.Linear(1, 1, rng=np.random.default_rng(0)), "one Linear that is no list"),
        (Tensor([1.0, 2.0]), "one Tensor that is no list"),
        ([np.ones((1, 1))], "a ndarray at position 0"),
        ([Tensor([1.0]), 2 * Tensor([1.0])], "at position 1 a tensor computed by mul"),
    ],
)
def test_only_leaf_tensors_are_parameters(parameters, said):
    with pytest.raises(TypeError, match=f"SGD takes a list of leaf tensors, such as net.parameters.*; it was given {said}"):
        optim.SGD(parameters, 0.1)


def test_a_beta_that_is_1_in_the_dtype_of_the_parameters_is_refused():
    beta = 1 - 1e-9
    optim.HeavyBall([Tensor([1.0])], 0.1, beta)
    with pytest.raises(ValueError, match=r"HeavyBall was given beta=0\.999999999, which rounds to 1\.0 in float32"):
        optim.HeavyBall([Tensor([1.0], dtype="float32")], 0.1, beta)


# ------------------------------------------------------------------------------------------------------- gradients


def two_parameters():
    return Tensor(np.array([[1.0, 2.0]]), "first"), Tensor(np.array([[3.0]]), "second")


def missing(p):
    p.grad = None


def misshapen(p):
    p.grad = np.ones((1, 2))


def of_another_dtype(p):
    p.grad = np.ones((1, 1), np.float32)


@pytest.mark.parametrize(
    ("spoil", "error", "text"),
    [
        (missing, GraphError, "parameter second has no gradient; call loss.backward"),
        (misshapen, ShapeError, r"parameter second is float64 \(1, 1\), its gradient float64 \(1, 2\)"),
        (of_another_dtype, ShapeError, r"parameter second is float64 \(1, 1\), its gradient float32 \(1, 1\)"),
        (lambda p: None, GraphError, "the gradient of parameter second was already used by the previous step"),
    ],
    ids=["missing", "misshapen", "dtype", "used"],
)
@every_optimiser
def test_a_bad_gradient_is_refused_by_name_and_nothing_moves(make, spoil, error, text):
    first, second = two_parameters()
    opt = make([first, second], 0.1)
    (first.sum() * second).sum().backward()
    opt.step()
    first.grad = np.ones((1, 2))
    spoil(second)
    data, state = [first.data, second.data], opt.state_arrays()
    state = {name: array.copy() for name, array in state.items()}
    with pytest.raises(error, match=text):
        opt.step()
    assert first.data is data[0]
    assert second.data is data[1]
    assert opt.state_arrays().keys() == state.keys()
    for name, array in opt.state_arrays().items():
        assert_array_equal(array, state[name])
    (first.sum() * second).sum().backward()  # and after a true backward pass all goes on
    opt.step()
    assert opt.steps == 2


def test_a_parameter_that_is_listed_twice_moves_once():
    p = Tensor(np.array([[1.0]]), "p")
    opt = optim.SGD([p, p], 0.5)
    p.grad = np.array([[1.0]])
    opt.step()
    assert p.data.item() == 0.5


# ----------------------------------------------------------------------------------------------- graphs and buffers


def small_net(dtype=np.float64):
    rng = np.random.default_rng(3)
    return nn.Sequential(nn.Dense(3, 4, rng=rng, dtype=dtype), nn.Linear(4, 1, rng=rng, dtype=dtype))


def batches(count):
    rng = np.random.default_rng(4)
    return rng.normal(size=(count, 6, 3)), rng.normal(size=(count, 6, 1))


@every_optimiser
def test_a_graph_stays_true_after_steps(make):
    """The first loss, kept over several steps, gives its first gradients bit for bit every time."""
    net = small_net()
    opt = make(net.parameters(), 0.1)
    X, y = batches(6)
    old = losses.mse(net(X[0]), y[0])
    expected = {p: g.copy() for p, g in old.backward().items()}
    opt.step()
    for k in range(1, 6):
        for p, g in old.backward().items():
            assert_array_equal(g, expected[p])
        losses.mse(net(X[k]), y[k]).backward()
        opt.step()
    for p, g in old.backward().items():
        assert_array_equal(g, expected[p])


@every_optimiser
def test_all_of_many_graphs_stay_true(make):
    net = small_net()
    opt = make(net.parameters(), 0.1)
    kept = []
    for x, t in zip(*batches(5), strict=True):
        loss = losses.mse(net(x), t)
        kept.append((loss, {p: g.copy() for p, g in loss.backward().items()}))
        opt.step()
    for loss, expected in kept:
        for p, g in loss.backward().items():
            assert_array_equal(g, expected[p])


@every_optimiser
def test_arrays_that_others_hold_are_not_written(make):
    """Neither the user's array nor views of what a parameter once was."""
    mine = np.ones((2, 2))
    whole = Tensor(mine, "whole")
    opt = make([whole], 0.1)
    seen = []
    for _ in range(4):
        seen.append((whole.data[0], whole.data[0].copy()))
        whole.grad = np.ones((2, 2))
        opt.step()
    assert_array_equal(mine, np.ones((2, 2)))
    for view, then in seen:
        assert_array_equal(view, then)


@every_optimiser
def test_an_array_of_which_a_parameter_is_a_part_is_not_written(make):
    large = np.ones((3, 2, 2))
    part = Tensor(large[1], "part")
    opt = make([part], 0.1)
    for _ in range(4):
        part.grad = np.ones((2, 2))
        opt.step()
    assert_array_equal(large, np.ones((3, 2, 2)))


@every_optimiser
def test_a_read_only_array_is_a_parameter_that_is_never_written(make):
    mine = np.ones((3, 2))
    mine.flags.writeable = False
    p, twin = Tensor(mine, "p"), Tensor(np.ones((3, 2)), "twin")
    del mine  # so that nothing but the optimiser would hold it
    opts = make([p], 0.1), make([twin], 0.1)
    for _ in range(4):
        for parameter, opt in zip((p, twin), opts, strict=True):
            (parameter * parameter).sum().backward()
            opt.step()
    assert_array_equal(p.data, twin.data)


@pytest.mark.parametrize("new", [np.ones((2, 2)), np.ones((400, 400)), np.ones((4, 4), np.float32), np.ones(4)])
@pytest.mark.parametrize("kind", [optim.HeavyBall, optim.Nesterov, optim.EMAMomentum, optim.Adam])
def test_a_parameter_that_is_no_longer_what_its_state_was_made_for_is_refused(kind, new):
    first, second = two_parameters()
    second.data = np.ones((4, 4))
    opt = kind([second, first], 0.1)
    for data in (second.data, new, new):
        second.data = data
        (first.sum() * second.sum()).backward() if data.dtype == float else setattr(second, "grad", np.ones_like(data))
        if data is not new:
            opt.step()
            continue
        before, state = first.data, opt.state_arrays()
        with pytest.raises(ShapeError, match=r"parameter second was float64 \(4, 4\) .* is now float.*; make a new"):
            opt.step()
        assert first.data is before
        for name, array in opt.state_arrays().items():
            assert_array_equal(array, state[name])


@pytest.mark.parametrize("shape", [(3, 3, 1), (1, 3, 1), (3, 1), (2, 2, 3, 1)])
def test_a_parameter_of_other_replicas_than_the_rates_is_refused(shape):
    p = nn.Linear(3, 1, rng=init.replicas([1, 2])).W
    opt = optim.SGD([p], [0.1, 0.2])
    p.data = np.ones(shape, np.float32)
    p.grad = np.ones(shape, np.float32)
    with pytest.raises(ShapeError, match=r"parameter W is now of shape .*, but lr has 2 values, one a replica"):
        opt.step()
    assert (p.data == 1).all()


def test_without_state_a_parameter_may_change_its_shape():
    p = Tensor(np.ones((2, 2)), "p")
    opt = optim.SGD([p], 0.5)
    for shape in ((2, 2), (3, 1, 4), (5,)):
        p.data, p.grad = np.ones(shape), np.ones(shape)
        opt.step()
        assert_array_equal(p.data, np.full(shape, 0.5))


@every_optimiser
def test_a_loop_alternates_between_two_buffers(make):
    net = small_net()
    opt = make(net.parameters(), 0.1)
    X, y = batches(12)
    addresses = [set() for _ in net.parameters()]
    gc.disable()  # buffers must come free without the collector
    try:
        for x, t in zip(X, y, strict=True):
            losses.mse(net(x), t).backward()
            opt.step()
            for seen, p in zip(addresses, net.parameters(), strict=True):
                seen.add(p.data.__array_interface__["data"][0])
    finally:
        gc.enable()
    assert [len(seen) for seen in addresses] == [2] * len(addresses)


@every_optimiser
def test_state_goes_out_and_in(make):
    net, other = small_net(), small_net()
    opt, twin = make(net.parameters(), 0.1), make(other.parameters(), 0.7)
    X, y = batches(6)
    for k in range(3):
        losses.mse(net(X[k]), y[k]).backward()
        opt.step()
    twin.load_state_arrays({name: array.copy() for name, array in opt.state_arrays().items()})
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        q.data = p.data.copy()
    for k in range(3, 6):
        for one, o in ((net, opt), (other, twin)):
            losses.mse(one(X[k]), y[k]).backward()
            o.step()
    assert twin.steps == opt.steps == 6
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert_array_equal(p.data, q.data)


def test_a_state_of_others_is_refused_and_changes_nothing():
    two, three = (nn.Linear(2, 2, rng=init.replicas(range(n))).parameters() for n in (2, 3))
    adam = optim.Adam(three)
    with pytest.raises(ShapeError, match="does not belong to this Adam over 2 parameters"):
        adam.load_state_arrays(optim.Adam(two).state_arrays())
    with pytest.raises(ShapeError, match="does not belong"):
        adam.load_state_arrays(optim.HeavyBall(three, 0.1).state_arrays())
    assert adam.steps == 0


def test_rates_of_other_replicas_are_refused_and_change_nothing():
    two, three = (nn.Linear(2, 2, rng=init.replicas(range(n))).parameters() for n in (2, 3))
    saved = optim.SGD(two, [0.1, 0.2])
    saved.steps = 7
    opt = optim.SGD(three, 0.5)
    with pytest.raises(ShapeError):
        opt.load_state_arrays(saved.state_arrays())
    assert (opt.steps, opt.lr) == (0, 0.5)


@pytest.mark.parametrize("kind", [optim.HeavyBall, optim.Nesterov, optim.EMAMomentum, optim.Adam])
def test_a_state_that_was_taken_stays_what_it_was(kind):
    p = Tensor(np.ones((1, 2)), "p")
    opt, twin = kind([p], 0.1), kind([p], 0.1)
    taken = opt.state_arrays()
    copies = {name: array.copy() for name, array in taken.items()}
    twin.load_state_arrays(taken)
    for one in (opt, twin):
        p.grad = np.ones((1, 2))
        one.step()
    for name, array in taken.items():
        assert_array_equal(array, copies[name])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["deepcopy", "pickle"])
@every_optimiser
def test_a_copied_optimiser_goes_on_after_a_step(make, copied):
    net = small_net()
    opt = make(net.parameters(), 0.1)
    X, y = batches(4)
    losses.mse(net(X[0]), y[0]).backward()
    opt.step()
    both = (net, opt), copied((net, opt))
    with pytest.raises(GraphError, match="already used by the previous step"):
        both[1][1].step()
    for one, o in both:
        for k in range(1, 4):
            losses.mse(one(X[k]), y[k]).backward()
            o.step()
    for p, q in zip(net.parameters(), both[1][0].parameters(), strict=True):
        assert_array_equal(p.data, q.data)


def test_the_names_of_rules():
    names = {optim.rule_name(given) for given in ("heavy_ball", "heavy-ball", " Heavy ball")}
    assert names == {optim.HeavyBall.rule}
    assert {optim.rule_name(given) for given in ("ema", "EMA-momentum", "ema_momentum")} == {optim.EMAMomentum.rule}
    assert optim.rule_name("adamm") == "adamm"
