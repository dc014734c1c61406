"""A step needs hardly more memory than the same step written by hand, and no run grows."""

import gc
import itertools
import sys
import tracemalloc

import numpy as np
import pytest

from minirelu import kernels, losses, nn, optim

WARM_UP = 5


def peak_of(step):
    """The highest number of traced bytes above the start during one warm `step()`."""
    for _ in range(WARM_UP):
        step()
    gc.collect()
    gc.disable()  # memory must come free by itself
    tracemalloc.start()
    try:
        for _ in range(2):  # what the first traced step holds was allocated untraced
            step()
        tracemalloc.reset_peak()
        start, _ = tracemalloc.get_traced_memory()
        step()
        return tracemalloc.get_traced_memory()[1] - start
    finally:
        tracemalloc.stop()
        gc.enable()


def by_hand(weights, biases, lr):
    """SGD on the mean squared error of a ReLU net, as one writes it in NumPy; returns step(x, t)."""

    def step(x, t):
        inputs, h = [], x
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            inputs.append(h)
            h = np.maximum(h @ W + b, 0)
        inputs.append(h)
        e = h @ weights[-1] + biases[-1] - t
        loss = (e**2).mean()
        g = 2 * e / e.size
        for k in reversed(range(len(weights))):
            dW, db = inputs[k].T @ g, g.sum(axis=0, keepdims=True)
            if k > 0:
                g = (g @ weights[k].T) * (inputs[k] > 0)
            weights[k] -= lr * dW
            biases[k] -= lr * db
        return loss

    return step


NUMBA = kernels.available()["bias_relu_forward"]["numba"]


@pytest.mark.skipif(NUMBA != "ok", reason=NUMBA)
@pytest.mark.parametrize(
    ("sizes", "batch"), [((8, 200, 1), 64), ((200, 200, 200, 200, 200), 256)], ids=["8-200-1", "200-200-200-200-200"]
)
def test_the_peak_of_a_step(sizes, batch):
    rng = np.random.default_rng(0)
    layers = [nn.Dense(i, o, rng=rng) for i, o in itertools.pairwise(sizes[:-1])]
    net = nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1], rng=rng))
    opt = optim.SGD(net.parameters(), 0.01)
    x, t = (rng.normal(size=(batch, size)).astype(np.float32) for size in (sizes[0], sizes[-1]))
    parameters = sum(p.data.nbytes for p in net.parameters())

    def engine_step():
        losses.mse(net(x), t).backward()
        opt.step()

    weights = [p.data.copy() for p in net.parameters()[::2]]
    biases = [p.data.copy() for p in net.parameters()[1::2]]
    plain_step = by_hand(weights, biases, np.float32(0.01))
    with kernels.using("numba"):  # the reference, written for the reader, keeps more
        ours = peak_of(engine_step)
    plain = peak_of(lambda: plain_step(x, t))
    # the copy of the parameters is the gradients, which stay in p.grad until the next step
    ratio = ours / (plain + parameters)
    assert ratio <= 1.1, (
        f"a step of the engine peaks at {ours / 1024:.0f} KiB, one by hand at {plain / 1024:.0f} KiB and the parameters are "
        f"{parameters / 1024:.0f} KiB: ratio {ratio:.3f}, against the hand-written step alone {ours / plain:.3f}"
    )


def test_both_steps_compute_the_same():
    """So that the comparison above is fair."""
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Dense(3, 5, rng=rng, dtype=np.float64), nn.Linear(5, 1, rng=rng, dtype=np.float64))
    weights = [p.data.copy() for p in net.parameters()[::2]]
    biases = [p.data.copy() for p in net.parameters()[1::2]]
    x, t = rng.normal(size=(9, 3)), rng.normal(size=(9, 1))
    step, opt = by_hand(weights, biases, 0.1), optim.SGD(net.parameters(), 0.1)
    for _ in range(5):
        expected = step(x, t)
        loss = losses.mse(net(x), t)
        loss.backward()
        opt.step()
        np.testing.assert_allclose(loss.item(), expected, rtol=1e-13)  # some hundred roundings in another order


def every_layer(rng):
    inner = nn.Dense(8, 4, rng=rng, activation="prelu"), nn.Linear(4, 8, rng=rng)
    middle = nn.Residual(*inner, activation="relu"), nn.BatchNorm(8, rng=rng)
    return nn.Sequential(nn.Dense(3, 8, rng=rng), *middle, nn.Linear(8, 1, rng=rng))


def two_layers(rng):
    return nn.Sequential(nn.Dense(3, 8, rng=rng), nn.Linear(8, 1, rng=rng))


def growth(net, count, measure):
    """How much `measure()` grows over `count` steps, and how many unreachable objects they leave to the collector.

    A collection empties the interpreter's own lists of freed tuples and floats, which would look like growth.
    """
    opt = optim.Adam(net.parameters())
    x = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)

    def steps(n):
        for _ in range(n):
            losses.mse(net(x), x[:, :1]).backward()
            opt.step()

    steps(500)
    gc.collect()
    gc.disable()
    try:
        steps(20)
        before, objects = measure(), len(gc.get_objects())
        steps(count)
        tracked = len(gc.get_objects()) - objects
        unreachable = gc.collect()
        return measure() - before, tracked, unreachable
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [two_layers, every_layer])
def test_ten_thousand_steps_do_not_grow_the_process(make):
    """Counted in blocks of the interpreter's allocator: every array that is kept keeps at least one."""
    blocks, tracked, unreachable = growth(make(np.random.default_rng(0)), 10_000, sys.getallocatedblocks)
    assert (tracked <= 20, unreachable, blocks <= 100) == (True, 0, True), f"{blocks} blocks, {tracked} tracked objects"


def test_a_thousand_steps_do_not_grow_in_bytes():
    """One float kept a step would be 24 kB; the arrays of one step are 2 kB."""
    tracemalloc.start()
    try:
        grown, _, unreachable = growth(every_layer(np.random.default_rng(0)), 1000, lambda: tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert unreachable == 0
    assert grown <= 4096
