"""A step needs hardly more memory than the same step written by hand, and no run grows."""

import gc
import tracemalloc

import numpy as np
import pytest

from minirelu import losses, nn, optim, train

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


@pytest.mark.parametrize(
    ("sizes", "batch"), [((8, 200, 1), 64), ((200, 200, 200, 200, 200), 256)], ids=["8-200-1", "200-200-200-200-200"]
)
def test_the_peak_of_a_step(sizes, batch):
    rng = np.random.default_rng(0)
    layers = [nn.Dense(i, o, rng=rng) for i, o in zip(sizes[:-2], sizes[1:-1], strict=True)]
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
    ours, plain = peak_of(engine_step), peak_of(lambda: plain_step(x, t))
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


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_ten_thousand_steps_do_not_grow(kind):
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Dense(3, 8, rng=rng),
        nn.Residual(nn.Dense(8, 4, rng=rng), nn.Linear(4, 8, rng=rng), activation="relu"),
        nn.BatchNorm(8, rng=rng),
        nn.Linear(8, 1, rng=rng),
    )
    opt = kind(net.parameters(), 1e-3)
    X = rng.normal(size=(64, 3)).astype(np.float32)
    stream = train.minibatches(X, X[:, :1], 8, seeds=0)

    def steps(count):
        for _ in range(count):
            x, t = next(stream)
            losses.mse(net(x), t).backward()
            opt.step()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    # minibatches are drawn ahead, 2048 batches of 8 at a time; the counts are taken at the same place of that cycle
    cycle = train.DRAWN_AHEAD // 8
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        bytes_before, objects_before = steps(500)
        bytes_after, objects_after = steps(5 * cycle)
    finally:
        tracemalloc.stop()
        gc.enable()
    # a leak of one float a step would be 80 KiB
    assert bytes_after - bytes_before <= 8 * 1024
    assert objects_after - objects_before <= 20
