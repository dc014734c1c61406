"""The nets of `train_mlp` and of the study, built from layers of `nn`.

- `build(net, rng, dtype, initialiser)`: the `nn.Sequential` that a `kernels.train_mlp.Net` describes.
- `rebuilt(net, arrays)`: the same with given parameters and running statistics.
- `moved(net)`: which of its parameters training moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import init, nn
from ..engine import Array
from ..init import Initialiser
from ..kernels.train_mlp import Net


def build(
    net: Net, rng: Any, dtype: Any = np.float32, initialiser: Initialiser = init.torch_default, activation: str = "relu"
) -> nn.Sequential:
    """Hidden layers of ReLUs (or another `activation`), with batch norm before it and in residual blocks from the second on
    as `net` says, and one output without an activation.

    `init.rai` is meant for the layers after the first (Lu et al. 2019), so the first gets `init.he` then.
    """
    first = init.he if initialiser is init.rai else initialiser

    def hidden(fan_in: int, units: int, drawn: Initialiser) -> list[nn.Layer]:
        if not net.batch_norm:
            return [nn.Dense(fan_in, units, rng=rng, init=drawn, dtype=dtype, activation=activation)]
        affine = nn.Linear(fan_in, units, rng=rng, init=drawn, dtype=dtype)
        return [affine, nn.BatchNorm(units, rng=rng, dtype=dtype), nn.Activation(activation, rng=rng, dtype=dtype)]

    layers = hidden(net.inputs, net.widths[0], first)
    for fan_in, units in zip(net.widths, net.widths[1:], strict=False):
        block = hidden(fan_in, units, initialiser)
        layers += [nn.Residual(*block)] if net.residual else block
    return nn.Sequential(*layers, nn.Linear(net.widths[-1], 1, rng=rng, init=initialiser, dtype=dtype))


def rebuilt(net: Net, parameters: Iterable[Array], running: Iterable[Array], replicas: int | None = None) -> nn.Sequential:
    """The net with these arrays as they are: of `replicas` copies, or of one without the axis."""
    rng = np.random.default_rng(0) if replicas is None else init.replicas(range(replicas))
    parameters = list(parameters)
    made = build(net, rng, parameters[0].dtype, init.zeros)
    for tensor, array in zip((*made.parameters(), *made.buffers()), (*parameters, *running), strict=True):
        tensor.data = array
    return made


def moved(net: nn.Sequential) -> list[int]:
    """The positions among `net.parameters()` of those that training moves: all but the biases directly before batch norm.

    Their exact gradient is 0, and of the engine's rounding noise Adam would make whole steps.
    """
    still = {id(bias) for bias in _before_norm(net)}
    return [i for i, parameter in enumerate(net.parameters()) if id(parameter) not in still]


def _before_norm(net: nn.Sequential) -> Iterator[Any]:
    for layer, after in zip(net.layers, (*net.layers[1:], None), strict=True):
        if isinstance(layer, nn.Sequential):
            yield from _before_norm(layer)
        elif isinstance(layer, nn.Linear) and isinstance(after, nn.BatchNorm):
            yield layer.b
