"""How many units are dead: a query on the graph of a loss, or an exact pass over the data.

    activity = UnitActivity()
    loss = losses.mse(net(x), t)
    activity.update(loss)                  # this batch; adds up over calls
    activity.report()                      # one row a layer (and replica)

    UnitActivity.over(net, X).report()     # every row of X, in evaluation mode

*Dead on this data*: active (z > 0) for no row of it, at these weights. It is not a prophecy. *Non-finite* units are a
state of their own: a diverged replica is not a dead one, although NaN > 0 is false.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np

from . import kernels
from .backend import is_array, to_host
from .engine import Array, Node, Var, with_graph
from .errors import GraphError, ShapeError, whole
from .nn import Layer, evaluating

RELU_NODES = frozenset(("affine_relu", "relu", "residual_relu"))
NEARLY = 0.01  # nearly dead: active, but on fewer than this share of the rows
PENDING = 32
ALARM = 0.4  # a layer with a larger share of dead units gets a DeadUnitsWarning


class DeadUnitsWarning(UserWarning):
    """More than 40 % of a layer's units are dead."""


@dataclass(frozen=True)
class LayerActivity:
    """One row of a report: `dead`, `nearly_dead`, `linear` and `nonfinite` are numbers of units.

    dead: active on no row; nearly_dead: active on some but fewer than 1 %; linear: active on every row; nonfinite: inf or
    NaN on some row, and then counted as nothing else.
    """

    layer: str
    replica: int
    units: int
    dead: int
    nearly_dead: int
    linear: int
    nonfinite: int
    samples: int


@dataclass(slots=True)
class _Counts:
    """Rows seen, and per unit (R, O) on how many of them it was active and non-finite.

    The active rows of single batches wait in `pending`, and are added some dozens at a time: additions that follow each other
    find their code and their sums in the cache, which between two training steps they do not.
    """

    samples: int
    active: np.ndarray
    nonfinite: np.ndarray
    none: np.ndarray  # what the kernels give as the non-finite rows where there are none
    pending: list[np.ndarray] = field(default_factory=list)

    def settled(self) -> _Counts:
        """These counts, with nothing pending."""
        total = self.active
        for batch in self.pending:
            np.add(total, batch if batch.shape == total.shape else batch.reshape(total.shape), total)
        self.pending.clear()
        return self


@dataclass
class UnitActivity:
    """Integer counts per layer, replica and unit, added up over `update` calls.

    `epoch`: the number of rows after which `update` may warn of dead units; without it only `over` does.
    """

    epoch: int | None = None
    _layers: dict[str, _Counts] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    def update(self, loss: Any) -> None:
        """Add the ReLU outputs that `loss` (or any tensor computed from them) was computed from."""
        if not isinstance(loss, Var) or loss.node is None:
            raise GraphError("update takes a tensor with a graph; call it on the loss, outside no_graph()")
        found: list[tuple[str, Any]] = []  # (layer's name, output), the last first
        var: Any = loss
        while var is not None:  # most nets are a chain: a walk that need not remember where it has been
            node, here, var, name = var.node, var, None, ""
            for p in node.parents:
                if p is not None:
                    if p.node is None:
                        name = name or p.name
                    elif var is None or var is p:
                        var = p
                    else:
                        break
            else:
                if node.op in RELU_NODES:
                    found.append((_stem(name) if name else _name_further_up(node), here))
                continue
            found, var = _relus(loss)[::-1], None  # it branches
        if len(found) > 1:
            found = _told_apart(found[::-1])
        for name, var in found:
            facts = var.node.facts
            counts = self._layers.get(name)
            if counts is not None and facts and facts["nonfinite"] is counts.none:  # as before, and all finite: the usual case
                counts.samples += var.data.shape[-2]
                pending = counts.pending
                pending.append(facts["active"])
                if len(pending) >= PENDING:
                    counts.settled()
            else:
                counted = (facts["active"], facts["nonfinite"]) if facts else kernels.count_units(var.data)
                self._add(name, *counted, var.data.shape[-2])
        if self.epoch is not None:
            self._warn(self.epoch)

    def reset(self) -> None:
        """Forget all counts."""
        self._layers.clear()

    @classmethod
    def over(cls, net: Layer, X: Array, batch: int = 4096, warn: bool = True) -> UnitActivity:
        """Exact counts of `net` over all rows of X (..., N, I), in evaluation mode, `batch` rows at a time.

        The graph that is counted is that of one batch, and goes with it; under `no_graph()` too. A `DeadUnitsWarning` is
        given unless `warn` is false. Raises `ShapeError` where there are no rows.
        """
        X, batch = X if is_array(X) else np.asarray(X), whole("batch", batch, 1)
        if X.ndim < 2 or not X.shape[-2]:
            raise ShapeError(f"over counts on rows X (..., N, I), at least one, got shape {X.shape}")
        activity = cls()
        with evaluating(net), with_graph():
            for i in range(0, X.shape[-2], batch):
                activity.update(net(X[..., i : i + batch, :]))
        if warn:
            activity._warn(0)
        return activity

    def report(self) -> list[LayerActivity]:
        """A row for each layer in forward order and each replica."""
        return [row for name, counts in self._layers.items() for row in _rows(name, counts.settled())]

    def unit_counts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{layer: (active, nonfinite)}: on how many of the rows each unit was, int64 (R, units)."""
        return {name: (own.active, own.nonfinite) for name, counts in self._layers.items() for own in [counts.settled()]}

    def dead_share(self) -> dict[str, np.ndarray]:
        """{layer: share of dead units (R,)}; NaN for a replica that has non-finite units in that layer."""
        shares = {}
        for name, counts in self._layers.items():
            wild = counts.settled().nonfinite.any(axis=-1)
            dead = (counts.active == 0).mean(axis=-1)
            shares[name] = np.where(wild, np.nan, dead)
        return shares

    def _add(self, name: str, active: Array, nonfinite: Array, rows: int) -> None:
        if type(active) is not np.ndarray:
            active, nonfinite = to_host(active), to_host(nonfinite)
        counts = self._layers.get(name)
        if counts is None:
            units = active.shape[-1]
            totals = np.zeros((2, active.size // max(units, 1), units), np.int64)
            counts = self._layers[name] = _Counts(0, totals[0], totals[1], kernels.no_rows(active.shape))
        elif active.size != counts.active.size or active.shape[-1] != counts.active.shape[-1]:
            now = active.reshape(-1, active.shape[-1]).shape
            raise ShapeError(
                f"layer {name} had (replicas, units) = {counts.active.shape} before and has {now} now; "
                "use one UnitActivity for each net"
            )
        counts.samples += rows
        counts.active += active.reshape(counts.active.shape)
        counts.nonfinite += nonfinite.reshape(counts.active.shape)

    def _warn(self, epoch: int) -> None:
        for name, counts in self._layers.items():
            if counts.samples < max(epoch, 1) or name in self._warned:
                continue
            counts.settled()
            dead = ((counts.active == 0) & (counts.nonfinite == 0)).mean(axis=-1)
            if (dead > ALARM).any():
                self._warned.add(name)
                worst = int(dead.argmax())
                warnings.warn(
                    f"{dead[worst]:.0%} of the {counts.active.shape[-1]} units of layer {name} (replica {worst}) are dead on "
                    f"these {counts.samples} rows: no row makes them active, so they get no gradient from this data; usual "
                    "causes are a high learning rate, a large negative bias, or targets of tiny scale with Adam",
                    DeadUnitsWarning,
                    stacklevel=3,
                )


def _rows(name: str, counts: _Counts) -> list[LayerActivity]:
    n = counts.samples
    finite = counts.nonfinite == 0
    dead = finite & (counts.active == 0)
    nearly = finite & (counts.active > 0) & (counts.active < NEARLY * n)
    linear = finite & (counts.active == n)
    totals = (kind.sum(axis=-1).tolist() for kind in (dead, nearly, linear, ~finite))
    units = counts.active.shape[-1]
    return [LayerActivity(name, r, units, d, k, u, w, n) for r, (d, k, u, w) in enumerate(zip(*totals, strict=True))]


def _relus(loss: Var) -> list[tuple[str, Var]]:
    """(layer's name, output) of the ReLU nodes behind `loss`, in forward order, each once, whatever the branches."""
    todo, seen = [loss], {loss}
    for var in todo:  # which grows on the way
        for p in var.node.parents:  # type: ignore[union-attr]
            if p is not None and p.node is not None and p not in seen:
                seen.add(p)
                todo.append(p)
    relus = sorted((var for var in todo if var.node.op in RELU_NODES), key=lambda var: var.node.born)  # type: ignore[union-attr]
    return [(_name_further_up(var.node), var) for var in relus]


@functools.lru_cache(maxsize=1024)
def _stem(parameter: str) -> str:
    """A layer's name from its parameter's: "1.0.W" -> "1.0"."""
    return parameter.rpartition(".")[0] or parameter


def _name_further_up(node: Any) -> str:
    """The name of the layer whose parameter was used last on the way to a node.

    The youngest node is asked first, so that relu(x + f(x)) belongs to the last layer of f, not to what made x.
    """
    queue: list[tuple[int, Node]] = []
    seen: set[Var] = set()
    while node is not None:
        for p in node.parents:
            if p is None:
                continue
            if p.node is None:
                if p.name:
                    return _stem(p.name)
            elif p not in seen:
                seen.add(p)
                heappush(queue, (-p.node.born, p.node))
        node = heappop(queue)[1] if queue else None
    return "relu"


def _told_apart(found: list[tuple[str, Var]]) -> list[tuple[str, Var]]:
    """`found` with the names name#2, name#3, … where a layer is used more than once."""
    taken: set[str] = set()
    apart = []
    for name, var in found:
        candidate, k = name, 1
        while candidate in taken:
            k += 1
            candidate = f"{name}#{k}"
        taken.add(candidate)
        apart.append((candidate, var))
    return apart
