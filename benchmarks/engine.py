"""A full training step (forward, mse, backward, SGD) on small nets, one thread, all candidates in one interleaved run.

The ruler is the step that one writes by hand in NumPy for exactly this net, in two spellings: `NumPy by hand` as most
people write it, `NumPy, tuned` with in-place operations and an outer product where BLAS is slow. Candidates that are not
installed are left out. Before and after the timing all candidates must agree on the loss of the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.timing import interleaved, machine, ratio
from minirelu import losses, nn, optim

Step = Callable[[], Any]
NETS = {"1-16-16-1, batch 32": ((1, 16, 16, 1), 32), "8-200-1, batch 64": ((8, 200, 1), 64)}
LR = 1e-3
BASE, OWN = "NumPy by hand", "minirelu"


def run(rounds: int) -> dict[str, Any]:
    """The JSON of this benchmark (schema: benchmarks/README.md)."""
    about = machine()
    rows = []
    for net, (sizes, batch) in NETS.items():
        steps = _candidates(sizes, batch)
        _check(steps)
        times = interleaved(steps, rounds)
        _check(steps, fresh=False)
        for name, seconds in times.items():
            middle, low, high = ratio(seconds, times[BASE])
            ours = ratio(times[OWN], seconds)
            rows.append(
                {
                    "net": net,
                    "candidate": name,
                    "median_us": round(float(np.median(seconds)) * 1e6, 2),
                    "fastest_us": round(float(seconds.min()) * 1e6, 2),
                    "ratio": round(middle, 3),
                    "ratio_low": round(low, 3),
                    "ratio_high": round(high, 3),
                    "ours": round(ours[0], 3),
                    "ours_low": round(ours[1], 3),
                    "ours_high": round(ours[2], 3),
                }
            )
    return {"benchmark": "engine", "base": BASE, "rounds": rounds, "machine": about, "rows": rows}


def _check(steps: dict[str, Step], fresh: bool = True) -> None:
    """All candidates agree: on the losses of the first steps, and after the timing on a finite loss."""
    curves = {name: [step().item() for _ in range(5)] for name, step in steps.items()}
    for name, curve in curves.items():
        if fresh:
            np.testing.assert_allclose(curve, curves[BASE], rtol=1e-4, err_msg=name)
        assert np.isfinite(curve).all(), name


def _candidates(sizes: tuple[int, ...], batch: int) -> dict[str, Step]:
    """{name: a step that returns the loss}, all from the same parameters on the same batch."""
    rng = np.random.default_rng(0)
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bound = fan_in**-0.5
        W, b = (rng.uniform(-bound, bound, shape).astype(np.float32) for shape in ((fan_in, fan_out), (1, fan_out)))
        layers.append((W, b))
    x = rng.standard_normal((batch, sizes[0]), dtype=np.float32)
    t = rng.standard_normal((batch, sizes[-1]), dtype=np.float32)
    found: dict[str, Step] = {BASE: _numpy(layers, x, t), "NumPy, tuned": _numpy_tuned(layers, x, t)}
    found[OWN] = _minirelu(layers, x, t)
    for name, build in {"PyTorch eager": _torch, "JAX jit": _jax}.items():
        try:
            found[name] = build(layers, x, t)
        except ImportError:
            continue
    return found


Layers = list[tuple[np.ndarray, np.ndarray]]


def _numpy(layers: Layers, x: np.ndarray, t: np.ndarray) -> Step:
    layers = [(W.copy(), b.copy()) for W, b in layers]
    lr = np.float32(LR)

    def step() -> float:
        hidden = [x]
        for W, b in layers[:-1]:
            hidden.append(np.maximum(hidden[-1] @ W + b, 0))
        W, b = layers[-1]
        e = hidden[-1] @ W + b - t
        loss = (e * e).mean()
        g = (2 / e.size) * e
        for k in range(len(layers) - 1, -1, -1):
            (W, b), h = layers[k], hidden[k]
            dW, db = h.T @ g, g.sum(axis=0, keepdims=True)
            if k:
                g = (g @ W.T) * (h > 0)
            W -= lr * dW
            b -= lr * db
        return loss

    return step


def _numpy_tuned(layers: Layers, x: np.ndarray, t: np.ndarray) -> Step:
    layers = [(W.copy(), b.copy()) for W, b in layers]
    lr = np.asarray(LR, np.float32)  # 0-d arrays are quicker than scalars
    zero, factor = np.asarray(0, np.float32), np.asarray(2 / t.size, np.float32)

    def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * b if a.shape[1] == 1 else a @ b

    def step() -> float:
        hidden = [x]
        for W, b in layers[:-1]:
            z = times(hidden[-1], W)
            z += b
            hidden.append(np.maximum(z, zero, out=z))
        W, b = layers[-1]
        e = hidden[-1] @ W
        e += b
        e -= t
        flat = e.ravel()
        loss = flat @ flat / flat.size
        g = np.multiply(e, factor, e)
        for k in range(len(layers) - 1, -1, -1):
            (W, b), h = layers[k], hidden[k]
            dW, db = h.T @ g, np.add.reduce(g, 0, keepdims=True)
            if k:
                g = times(g, W.T)
                g *= h > zero
            dW *= lr
            db *= lr
            W -= dW
            b -= db
        return loss

    return step


def _minirelu(layers: Layers, x: np.ndarray, t: np.ndarray) -> Step:
    rng = np.random.default_rng(0)
    hidden = [nn.Dense(*W.shape, rng=rng) for W, _ in layers[:-1]]
    net = nn.Sequential(*hidden, nn.Linear(*layers[-1][0].shape, rng=rng))
    for parameter, array in zip(net.parameters(), [array for layer in layers for array in layer], strict=True):
        parameter.data = array.copy()
    opt = optim.SGD(net.parameters(), lr=LR)

    def step() -> Any:
        loss = losses.mse(net(x), t)
        loss.backward()
        opt.step()
        return loss

    return step


def _torch(layers: Layers, x: np.ndarray, t: np.ndarray) -> Step:
    import torch

    torch.set_num_threads(1)
    modules: list[Any] = []
    for W, b in layers:
        linear = torch.nn.Linear(*W.shape)
        linear.weight.data = torch.from_numpy(W.T.copy())
        linear.bias.data = torch.from_numpy(b[0].copy())
        modules += [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*modules[:-1])
    opt = torch.optim.SGD(net.parameters(), lr=LR)
    xs, ts = torch.from_numpy(x), torch.from_numpy(t)

    def step() -> Any:
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(net(xs), ts)
        loss.backward()
        opt.step()
        return loss

    return step


def _jax(layers: Layers, x: np.ndarray, t: np.ndarray) -> Step:
    import jax
    import jax.numpy as jnp

    xs, ts = jnp.asarray(x), jnp.asarray(t)

    def loss_of(parameters: Any) -> Any:
        h = xs
        for W, b in parameters[:-1]:
            h = jax.nn.relu(h @ W + b)
        W, b = parameters[-1]
        return ((h @ W + b - ts) ** 2).mean()

    @jax.jit
    def update(parameters: Any) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(parameters)
        return loss, jax.tree.map(lambda p, g: p - LR * g, parameters, gradient)

    state = [[(jnp.asarray(W), jnp.asarray(b)) for W, b in layers]]

    def step() -> Any:
        loss, state[0] = update(state[0])
        return jax.block_until_ready(loss)

    return step
