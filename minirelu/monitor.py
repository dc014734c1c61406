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

import warnings
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np

from . import kernels
from .backend import to_host
from .engine import Array, Node, Var
from .errors import GraphError, ShapeError
from .nn import Layer, evaluating

RELU_NODES = ("affine_relu", "relu", "residual_relu")
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


@dataclass
class _Counts:
    """Rows seen, and per unit (R, O) on how many of them it was active and non-finite.

    Counts of single batches wait in `pending`, and are added some dozens at a time: additions that follow each other find
    their code and their sums in the cache, which between two training steps they do not.
    """

    samples: int
    totals: np.ndarray  # (2, replicas, units): active and non-finite rows
    shape: tuple[int, ...]  # of the two halves as the kernels give them: without the replicas for one net
    pending: list[np.ndarray] = field(default_factory=list)

    def settled(self) -> _Counts:
        """These counts, with nothing pending."""
        totals = self.totals
        for both in self.pending:
            np.add(totals, both if both.shape == totals.shape else both.reshape(totals.shape), totals)
        self.pending.clear()
        return self

    @property
    def active(self) -> np.ndarray:
        return self.totals[0]

    @property
    def nonfinite(self) -> np.ndarray:
        return self.totals[1]


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
        outputs = _relu_outputs(loss)
        taken: set[str] | None = None if len(outputs) == 1 else set()
        for var in outputs:
            node: Any = var.node
            name = _layer_name(node)
            if taken is not None:
                if name in taken:
                    name = _unique(name, taken)
                taken.add(name)
            facts = node.facts
            active, nonfinite = (facts["active"], facts["nonfinite"]) if facts else kernels.count_units(var.data)
            counts = self._layers.get(name)
            # the usual case: the kernels' counts, which are the two halves of one array, once more
            if counts is not None and active.base is nonfinite.base is not None and active.base.shape == counts.shape:
                counts.samples += var.data.shape[-2]
                pending = counts.pending
                pending.append(active.base)
                if len(pending) >= PENDING:
                    counts.settled()
            else:
                self._add(name, active, nonfinite, var.data.shape[-2])
        if self.epoch is not None:
            self._warn(self.epoch)

    def reset(self) -> None:
        """Forget all counts."""
        self._layers.clear()

    @classmethod
    def over(cls, net: Layer, X: Array, batch: int = 4096, warn: bool = True) -> UnitActivity:
        """Exact counts of `net` over all rows of X (..., N, I), in evaluation mode, `batch` rows at a time.

        A `DeadUnitsWarning` is given unless `warn` is false.
        """
        activity = cls()
        with evaluating(net):
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
            shape = active.size // max(units, 1), units
            counts = self._layers[name] = _Counts(0, np.zeros((2, *shape), np.int64), (2, *active.shape))
        elif 2 * active.size != counts.totals.size or active.shape[-1] != counts.totals.shape[-1]:
            now = active.reshape(-1, active.shape[-1]).shape
            raise ShapeError(
                f"layer {name} had (replicas, units) = {counts.active.shape} before and has {now} now; "
                "use one UnitActivity for each net"
            )
        counts.samples += rows
        counts.pending.append(np.stack([active, nonfinite]))
        if len(counts.pending) >= PENDING:
            counts.settled()

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


def _relu_outputs(loss: Var) -> list[Var]:
    """The outputs of the ReLU nodes behind `loss`, in forward order."""
    found: list[Var] = []
    seen: set[Var] = set()
    stack = [loss]
    while stack:
        var = stack.pop()
        node: Any = var.node
        if node.op in RELU_NODES:
            found.append(var)
        for p in node.parents:
            if p is not None and p.node is not None and p not in seen:
                seen.add(p)
                stack.append(p)
    return found if len(found) < 2 else sorted(found, key=lambda var: var.node.born)  # type: ignore[union-attr]


def _layer_name(node: Any) -> str:
    """The name of the parameter that was used last on the way to a node, less its last part: "1.0.W" -> "1.0"."""
    for p in node.parents:
        if p is not None and p.node is None and p.name:  # the usual case, a fused layer
            return p.name.rpartition(".")[0] or p.name
    return _name_further_up(node)


def _name_further_up(node: Any) -> str:
    """The youngest node is asked first, so that relu(x + f(x)) belongs to the last layer of f, not to what made x."""
    queue: list[tuple[int, Node]] = []
    seen: set[Var] = set()
    while node is not None:
        for p in node.parents:
            if p is None:
                continue
            if p.node is None:
                if p.name:
                    return p.name.rpartition(".")[0] or p.name
            elif p not in seen:
                seen.add(p)
                heappush(queue, (-p.node.born, p.node))
        node = heappop(queue)[1] if queue else None
    return "relu"


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or name#2, name#3, … if a layer is used more than once."""
    candidate, k = name, 1
    while candidate in taken:
        k += 1
        candidate = f"{name}#{k}"
    return candidate
