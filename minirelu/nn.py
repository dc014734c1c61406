"""Layers: small classes with parameters made in `__init__` from an explicit `rng`, and a formula in `forward`.

    Linear(I, O, rng=)    xW + b                     Dense(I, O, rng=, activation="relu")   activation(xW + b)
    Activation(name)      relu leaky_relu prelu elu  BatchNorm(O, rng=)                     Ioffe & Szegedy 2015
    Residual(*layers)     x + f(x)                   Sequential(*layers)                    one after the other

    save(path, net, opt)  load(path, net, opt)       see checkpoint.py

Inputs are (..., B, I); W is (I, O), b is (1, O), and all parameters carry a leading axis of R when `rng` is
`init.replicas(...)`. `parameters()` lists them in forward order, each with a name such as "1.0.W".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import init as initialisers
from . import ops
from .backend import array_module, is_array
from .checkpoint import load as load
from .checkpoint import save as save
from .engine import Array, Var, no_graph, quiet
from .errors import ShapeError, whole
from .init import Initialiser
from .tensor import Tensor

ACTIVATIONS = ("relu", "leaky_relu", "prelu", "elu")


class _Naming:
    """One naming of all tensors of a net, which its layers share; `outdated` once another net has named any of them."""

    outdated = False


def _without_place(name: str | None) -> str | None:
    """The name that a layer gave, without a net's numbers before it: "1.0.W" -> "W"."""
    return name and re.sub(r"^(\d+\.)+", "", name)


class Layer:
    """What every layer and net can do. `training` is True at birth; see `evaluating`.

    A layer of your own defines `forward(x)` and, where it has any, `own_parameters()`, `own_buffers()`, `children()`.
    """

    training = True
    forward: Callable[[Any], Any]
    _naming: _Naming | None = None

    @quiet
    def __call__(self, x: Any) -> Any:
        """`forward(x)` without floating-point warnings: a diverged replica must not warn for the healthy ones."""
        if self._naming is not None and self._naming.outdated:
            self._name_tensors()
        return self.forward(x)

    def children(self) -> list[Layer]:
        """The layers inside this one, in forward order."""
        return []

    def own_parameters(self) -> list[Tensor]:
        """The parameters of this layer itself, without its children's."""
        return []

    def own_buffers(self) -> list[Tensor]:
        """Arrays that are saved but not trained: batch norm's running statistics."""
        return []

    def walk(self) -> Iterator[Layer]:
        """This layer and all layers inside it, in forward order."""
        yield self
        for child in self.children():
            yield from child.walk()

    def parameters(self) -> list[Tensor]:
        """All parameters in forward order, named as in this net; a parameter that is used twice is listed once."""
        self._name_tensors()
        return list(dict.fromkeys(p for layer in self.walk() for p in layer.own_parameters()))

    def buffers(self) -> list[Tensor]:
        """All buffers in forward order, named as in this net."""
        self._name_tensors()
        return list(dict.fromkeys(b for layer in self.walk() for b in layer.own_buffers()))

    def _names(self) -> dict[Tensor, str | None]:
        """Parameters and buffers with the names they have in this net; what is used twice has the name of its first place."""
        found = {t: _without_place(t.name) for t in (*self.own_parameters(), *self.own_buffers())}
        for child in self.children():
            found = child._names() | found
        return found

    def _name_tensors(self) -> None:
        """Write these names. A layer may be in several nets: the one that was asked last, or called, has named it."""
        for tensor, name in self._names().items():
            tensor.name = name
        naming = _Naming()
        for layer in self.walk():
            if layer._naming is not None and layer._naming is not naming:
                layer._naming.outdated = True
            layer._naming = naming

    def predict(self, X: Array, batch: int = 4096) -> Array:
        """The outputs (..., N, O) for X (..., N, I), an array: in evaluation mode, no graph, `batch` rows at a time."""
        X, batch = X if is_array(X) else np.asarray(X), whole("batch", batch, 1)
        if X.ndim < 2:
            raise ShapeError(f"predict takes X of shape (..., N, I), got {X.shape}; one row is X[None, :]")
        with evaluating(self), no_graph():
            outputs = [self(X[..., i : i + batch, :]) for i in range(0, max(X.shape[-2], 1), batch)]
        parts = [y.data if isinstance(y, Var) else y for y in outputs]
        return parts[0] if len(parts) == 1 else array_module(*parts).concatenate(parts, axis=-2)


def _shape(x: Any) -> tuple[int, ...]:
    return x.shape if hasattr(x, "shape") else np.shape(x)


@contextmanager
def evaluating(net: Layer) -> Iterator[None]:
    """Inside this context batch norm in `net` uses its running statistics instead of the batch's."""
    before = [(layer, layer.training) for layer in net.walk()]
    try:
        for layer, _ in before:
            layer.training = False
        yield
    finally:
        for layer, training in before:
            layer.training = training


# ---------------------------------------------------------------------------------------------------------- affine


class Linear(Layer):
    """xW + b with x (..., B, I), W (I, O), b (1, O).

    `init` is an initialiser of shape (I, O) or the name of one (see init.py); `bias` replaces its biases: a number or an
    initialiser.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rng: Any,
        init: str | Initialiser = initialisers.torch_default,
        bias: float | Initialiser | None = None,
        dtype: Any = np.float32,
    ) -> None:
        if inputs < 1 or outputs < 1:
            raise ShapeError(f"{type(self).__name__} needs at least one input and one output, got {inputs} and {outputs}")
        drawn = initialisers.named(init)(rng, (inputs, outputs), dtype)
        W, b = drawn if isinstance(drawn, tuple) else (drawn, initialisers.zeros(rng, (1, outputs), dtype))
        if bias is not None:
            b = (bias if callable(bias) else initialisers.constant(bias))(rng, (1, outputs), dtype)
        self.inputs, self.outputs = inputs, outputs
        self.W, self.b = Tensor(W, "W", dtype), Tensor(b, "b", dtype)

    def own_parameters(self) -> list[Tensor]:
        return [self.W, self.b]

    def forward(self, x: Any) -> Any:
        try:
            return ops.affine(x, self.W, self.b)
        except ValueError as error:
            raise self._explained(x, error) from error

    def _explained(self, x: Any, error: ValueError) -> ValueError:
        """`error` itself, or a better one if x does not fit this layer."""
        shape = _shape(x)
        if len(shape) >= 2 and shape[-1] == self.inputs:
            return error
        return ShapeError(f"{self!r} takes x of shape (..., B, {self.inputs}), got {shape}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inputs}, {self.outputs})"


class Dense(Linear):
    """activation(xW + b); with "relu" one fused operation. `options` go to the `Activation`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rng: Any,
        activation: str = "relu",
        init: str | Initialiser = initialisers.torch_default,
        bias: float | Initialiser | None = None,
        dtype: Any = np.float32,
        **options: Any,
    ) -> None:
        super().__init__(inputs, outputs, rng=rng, init=init, bias=bias, dtype=dtype)
        self.activation = Activation(activation, rng=rng, dtype=dtype, **options)

    def own_parameters(self) -> list[Tensor]:
        return [self.W, self.b, *self.activation.own_parameters()]

    def forward(self, x: Any) -> Any:
        if self.activation.kind != "relu":
            return self.activation.forward(super().forward(x))
        try:
            return ops.affine_relu(x, self.W, self.b)
        except ValueError as error:
            raise self._explained(x, error) from error

    def __repr__(self) -> str:
        return f"Dense({self.inputs}, {self.outputs}, activation={self.activation.kind!r})"


class Activation(Layer):
    """A nonlinearity by name: "relu", "leaky_relu" (slope=0.01), "prelu" (slope=0.25, units=1, rng=), "elu" (alpha=1).

    PReLU learns one slope, or one a unit with `units=O`.
    """

    def __init__(self, kind: str, *, rng: Any = None, dtype: Any = np.float32, units: int = 1, **options: float) -> None:
        known = {"relu": set(), "leaky_relu": {"slope"}, "prelu": {"slope"}, "elu": {"alpha"}}
        if kind not in known:
            raise ValueError(f"activation {kind!r} is not known; expected one of {', '.join(ACTIVATIONS)}")
        if set(options) - known[kind]:
            raise TypeError(f"activation {kind!r} has no option {', '.join(sorted(set(options) - known[kind]))}")
        self.kind = kind
        self._function = getattr(ops, kind)
        self._options = options
        self.slope: Tensor | None = None
        if kind == "prelu":
            start = initialisers.constant(options.get("slope", 0.25))
            self._options = {}
            self.slope = Tensor(start(rng, (1, units), dtype), "slope", dtype)

    def own_parameters(self) -> list[Tensor]:
        return [] if self.slope is None else [self.slope]

    def forward(self, x: Any) -> Any:
        return self._function(x, **self._options) if self.slope is None else ops.prelu(x, self.slope)

    def __repr__(self) -> str:
        return f"Activation({self.kind!r})"


# ---------------------------------------------------------------------------------------------------- batch norm


class BatchNorm(Layer):
    """scale·(x − mean)/√(variance + eps) + shift over the batch, per unit of x (..., B, O).

    In training the batch's own mean and biased variance are used, and the running statistics move towards its mean and
    unbiased variance: running ← (1 − momentum)·running + momentum·batch (PyTorch's convention). In `evaluating` the
    running statistics are used.
    """

    def __init__(self, units: int, *, rng: Any, eps: float = 1e-5, momentum: float = 0.1, dtype: Any = np.float32) -> None:
        def filled(value: float, name: str) -> Tensor:
            return Tensor(initialisers.constant(value)(rng, (1, units), dtype), name, dtype)

        self.units, self.eps, self.momentum = units, eps, momentum
        self.scale, self.shift = filled(1.0, "scale"), filled(0.0, "shift")
        self.running_mean, self.running_variance = filled(0.0, "running_mean"), filled(1.0, "running_variance")

    def own_parameters(self) -> list[Tensor]:
        return [self.scale, self.shift]

    def own_buffers(self) -> list[Tensor]:
        return [self.running_mean, self.running_variance]

    def forward(self, x: Any) -> Any:
        data = x.data if isinstance(x, Tensor) else array_module(x).asarray(x, self.scale.dtype)
        if data.ndim < 2 or data.shape[-1] != self.units:
            raise ShapeError(f"BatchNorm({self.units}) takes x of shape (..., B, {self.units}), got {data.shape}")
        if not self.training:
            factor = ops.div(self.scale, (self.running_variance.data + self.eps) ** 0.5)
            return ops.add(ops.mul(ops.sub(x, self.running_mean.data), factor), self.shift)
        if data.shape[-2] < 2:
            raise ShapeError(
                f"BatchNorm needs at least 2 rows in training to have a variance, got x of shape {data.shape}; "
                "use a larger batch, or nn.evaluating(net) for prediction"
            )
        moments = ops.batch_moments(data)
        self._follow(*moments, rows=data.shape[-2])
        return ops.batch_norm(x, self.scale, self.shift, moments=moments, eps=self.eps)

    def _follow(self, mean: Array, variance: Array, rows: int) -> None:
        keep, take, shape = 1 - self.momentum, self.momentum, self.running_mean.shape
        if mean.shape != shape and not _broadcasts(mean.shape, shape):  # inputs with an axis that the parameters do not have
            raise ShapeError(
                f"BatchNorm's statistics are {shape}, those of this batch {mean.shape}; "
                "make the net with rng=init.replicas(...) of as many seeds to train on (R, B, I)"
            )
        self.running_mean.data = keep * self.running_mean.data + take * mean
        self.running_variance.data = keep * self.running_variance.data + take * (rows / (rows - 1)) * variance

    def __repr__(self) -> str:
        return f"BatchNorm({self.units})"


def _broadcasts(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether an array of `shape` broadcasts to `full`, and not both to something larger."""
    pairs = zip(reversed(shape), reversed(full), strict=False)
    return len(shape) <= len(full) and all(n in (1, m) for n, m in pairs)


# -------------------------------------------------------------------------------------------------------- nesting


class Sequential(Layer):
    """The layers one after the other. Names their parameters by position: "0.W", "0.b", "1.0.W", …"""

    def __init__(self, *layers: Callable[[Any], Any]) -> None:
        for layer in layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"{type(self).__name__} takes layers, got {type(layer).__name__}")
        self.layers: list[Layer] = list(layers)  # type: ignore[arg-type]
        self._check_replicas()

    def children(self) -> list[Layer]:
        return self.layers

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def _names(self) -> dict[Tensor, str | None]:
        found: dict[Tensor, str | None] = {}
        for i, layer in enumerate(self.layers):
            placed: dict[Tensor, str | None] = {tensor: f"{i}.{name}" for tensor, name in layer._names().items()}
            found = placed | found
        return found

    def _check_replicas(self) -> None:
        axes = {p.name: p.shape[:-2] for p in self.parameters()}
        if len(set(axes.values())) > 1:
            raise ShapeError(
                f"the parameters of one net must share their replica axis, got {axes}; give every layer the same rng"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


class Residual(Sequential):
    """x + f(x), where f is the layers one after the other; with activation="relu" relu(x + f(x)) in one operation."""

    def __init__(self, *layers: Callable[[Any], Any], activation: str | None = None) -> None:
        if activation not in (None, "relu"):
            raise ValueError(f"Residual's activation must be None or 'relu', got {activation!r}")
        super().__init__(*layers)
        self.activation = activation

    def forward(self, x: Any) -> Any:
        change = super().forward(x)
        if _shape(x)[-2:] != change.shape[-2:]:
            raise ShapeError(
                f"a residual block adds its input {_shape(x)} to its output {change.shape}; make their last axes equal"
            )
        return ops.residual_relu(x, change) if self.activation else ops.add(x, change)
