"""Reverse-mode differentiation in one sitting.

- `Var`: an array, and the node that made it (none for a leaf).
- `@primitive`: lifts a plain function on arrays, which returns its value and its vjp, to Vars.
- `toposort(loss)`: the Vars that primitives made, each after everything it was computed from.
- `gradients(loss)`: {leaf: gradient}.
- `no_graph()`: compute values only; `with_graph()`: keep the graph after all.

A *vjp* (vector-Jacobian product) turns `g`, the gradient of the loss with respect to a primitive's value, into the
gradients with respect to its arguments: `g ↦ Jᵀg`. A primitive gives it in one of two forms:

- a tuple with one function `g -> d` per argument; the engine calls only those whose argument is tracked;
- one joint function `(g, wanted) -> (d, …)`, for fused kernels: where `wanted[i]` is None, argument i is not tracked
  and its entry may be anything; `g` is the function's to overwrite.

A vjp returns new arrays, each once, or views, or its own `g`; never an array that it keeps. So the engine knows which
arrays it may overwrite. Second derivatives are out of scope.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from heapq import heappop, heappush
from typing import Any

import numpy as np

from .backend import array_module, is_array, module_name
from .errors import GraphError, ShapeError
from .kernels import owns

ndarray, asarray = np.ndarray, np.asarray
Array = Any  # numpy.ndarray or cupy.ndarray

_recording: ContextVar[bool] = ContextVar("minirelu_recording", default=True)

# Layers, losses, the backward pass and optimisers follow IEEE arithmetic silently, as a GPU does: a diverged replica must
# not warn for the healthy ones.
quiet = np.errstate(all="ignore")


class Var:
    """An array in a graph. A *leaf* is made by the user and has no node; `grad` is assigned by backward()."""

    __slots__ = ("__weakref__", "data", "grad", "name", "node")

    data: Array
    node: Node | None
    grad: Array | None
    name: str | None

    def __init__(self, data: Array, name: str | None = None) -> None:
        self.data, self.node, self.grad, self.name = data, None, None, name


class Node:
    """How a Var was made: the primitive's name, its operands (None where untracked), its vjp and its facts.

    `born` counts up: what a Var was computed from was born before it, so the order of birth is a topological order.
    """

    __slots__ = ("born", "facts", "op", "parents", "vjp")

    def __init__(self, op: str, parents: list[Var | None], vjp: Any, facts: dict[str, Array] | None = None) -> None:
        self.op = op
        self.parents = parents
        self.vjp = vjp
        self.facts = facts
        self.born = next(_births)

    def __repr__(self) -> str:
        return f"Node({self.op})"


_births = itertools.count()


def primitive(function: Callable[..., tuple[Any, ...]]) -> Any:
    """Lift `function(*arrays, **options) -> (value, vjp)` or `(value, vjp, facts)` to Vars.

    Positional arguments are the operands (Vars, arrays or numbers), keyword arguments are constants. The first Var
    decides the type and the dtype of the result; raw operands are converted to that dtype. Without any Var the result
    is the raw value. `op.raw` is `function` itself, on arrays.

    Raises `TypeError` for Vars of different dtypes and for a mixture of NumPy and CuPy arrays.
    """
    name, new, recording = function.__name__, Var.__new__, _recording.get

    @functools.wraps(function)
    def op(*operands: Any, **options: Any) -> Any:
        first: Var | None = None
        arrays: list[Any] = []
        parents: list[Var | None] = []
        for x in operands:
            if isinstance(x, Var):
                parents.append(x)
                arrays.append(x.data)
                if first is None:
                    first = x
            else:
                parents.append(None)
                arrays.append(x)
        if first is None:
            return function(*operands, **options)[0]
        kind, dtype = type(first.data), first.data.dtype
        for array in arrays:
            if type(array) is not kind or array.dtype is not dtype:
                arrays = [_operand(x, first, name) for x in operands]
                break
        value, vjp, *facts = function(*arrays, **options)
        result = new(type(first))
        if type(value) is not kind:
            value = asarray(value) if kind is ndarray else array_module(first.data).asarray(value)
        result.data = value
        result.node = Node(name, parents, vjp, facts[0] if facts else None) if recording() else None
        result.grad = result.name = None
        return result

    op.raw = function  # type: ignore[attr-defined]
    return op


def _operand(x: Any, like: Var, op: str) -> Any:
    """The array (or Python number) of one operand, in the dtype and the array module of `like`."""
    if isinstance(x, Var):
        array_module(like.data, x.data)
        if x.data.dtype != like.data.dtype:
            raise TypeError(
                f"{op} was given tensors of {like.data.dtype} and {x.data.dtype}; make them one dtype, "
                "for instance with the dtype= of the layers or with Tensor(array, dtype=...)"
            )
        return x.data
    if type(x) in (int, float, bool):
        return x
    if not is_array(x):
        if module_name(x) not in ("builtins", "numpy"):
            raise TypeError(f"{op} was given a {type(x).__name__}; expected a Tensor, a NumPy or CuPy array, or a number")
        x = np.asarray(x)
        if x.ndim == 0 and module_name(like.data) != "numpy":
            return x.item()  # a NumPy scalar is a number to CuPy
    array_module(like.data, x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{op} was given an array of dtype {x.dtype}; expected real numbers")
    return x.astype(like.data.dtype, copy=False)


@contextmanager
def _set_recording(on: bool) -> Iterator[None]:
    token = _recording.set(on)
    try:
        yield
    finally:
        _recording.reset(token)


def no_graph() -> AbstractContextManager[None]:
    """Inside this context primitives compute values and keep nothing for a backward pass."""
    return _set_recording(False)


def with_graph() -> AbstractContextManager[None]:
    """Inside this context primitives make their graph, also where a context around it is `no_graph()`."""
    return _set_recording(True)


def toposort(loss: Var) -> list[Var]:
    """The Vars that primitives made on the way to `loss`, and `loss`, each after everything it was computed from."""
    seen: set[Var] = set()
    stack = [loss]
    while stack:
        var = stack.pop()
        if var.node is not None and var not in seen:
            seen.add(var)
            stack += [p for p in var.node.parents if p is not None]
    return sorted(seen, key=lambda var: var.node.born)  # type: ignore[union-attr]


@quiet
def gradients(loss: Var) -> dict[Var, Array]:
    """{leaf: gradient of the sum of `loss`'s entries}; no gradient shares memory with another or with the graph.

    A loss of shape (R,) thus gives each replica its own gradient. Raises `GraphError` where there is no graph.
    """
    if loss.node is None:
        raise GraphError(
            "there is no graph behind this tensor: it is a leaf or was computed under no_graph(); "
            "call backward() on a loss computed from tensors, outside no_graph()"
        )
    seed = array_module(loss.data).empty(loss.data.shape, loss.data.dtype)
    seed.fill(1)
    pending: dict[Var, Array] = {loss: seed}  # the sum of the contributions so far
    shared: set[Var] = set()  # the Vars whose pending array something else refers to
    leaves: dict[Var, Array] = {}
    queue = [(-loss.node.born, loss)]  # youngest first: a Var's turn comes when all its contributions are in
    while queue:
        var = heappop(queue)[1]
        node, g = var.node, pending.pop(var)
        pulls, parents = node.vjp, node.parents  # type: ignore[union-attr]
        separate = type(pulls) is tuple
        if not separate:
            pulls, g = pulls(g.copy() if var in shared else g, parents), None
        for i, parent in enumerate(parents):
            if parent is None:
                continue
            d, data = pulls[i](g) if separate else pulls[i], parent.data
            if type(d) is not type(data) or d.shape != data.shape or d.dtype is not data.dtype:
                d = _fit(d, data, node.op)  # type: ignore[union-attr]
            fresh = d is not g and (d.base is None or owns(d))
            if parent.node is None:
                if parent in leaves:
                    d = _sum(leaves[parent], d)
                elif not fresh:
                    d = d.copy()
                leaves[parent] = d
            elif parent in pending:
                pending[parent] = _sum(pending[parent], d)
                shared.discard(parent)
            else:
                pending[parent] = d
                if not fresh:
                    shared.add(parent)
                heappush(queue, (-parent.node.born, parent))
    return leaves


def _sum(a: Array, b: Array) -> Array:
    return array_module(a).asarray(a + b)  # asarray, because NumPy makes a 0-d sum a scalar


def _fit(d: Array, data: Array, op: str) -> Array:
    """`d` as an array with broadcasting summed back to the shape of `data`; the one checkpoint behind every vjp."""
    if type(d) is not type(data):
        array_module(data, d)
        d = array_module(data).asarray(d)
    if d.dtype != data.dtype:
        raise TypeError(f"the vjp of {op} returned {d.dtype} for an argument of {data.dtype}; cast it back in the vjp")
    return d if d.shape == data.shape else array_module(data).asarray(unbroadcast(d, data.shape, op))


def unbroadcast(g: Array, shape: tuple[int, ...], op: str = "a primitive") -> Array:
    """Sum `g` over the axes along which an array of `shape` was repeated to get g's shape."""
    extra = g.ndim - len(shape)
    tail = g.shape[extra:] if extra > 0 else g.shape
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and tail[i : i + 1] != (1,))
    if extra < 0 or any(n != m and n != 1 for n, m in zip(shape, tail, strict=False)):
        raise ShapeError(f"the vjp of {op} returned shape {g.shape} for an argument of shape {shape}")
    if extra:
        g = g.sum(axis=tuple(range(extra)))
    return g.sum(axis=repeated, keepdims=True) if repeated else g
