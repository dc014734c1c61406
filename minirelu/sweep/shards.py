"""Runs, named by hashes and cut into shards: replicas of one shape that are trained as one.

- `load_sets(runs)`: the data of all runs, standardised, each with a checksum.
- `identity(run, of)`: the name of a run: a hash of its settings, of the data and of the version of the results.
- `cut(runs, sets)`: `Shard`s of about equal cost, the same for the same grid wherever it is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from .. import data as data_sets
from ..errors import DataError, GridError
from . import cost
from .grid import Run

# Counts up when the numbers of a run change, or what is kept of them, not with each commit: results of another version are
# computed again, beside.
RESULTS_VERSION = 2

SECONDS = 2.0, 60.0  # of a shard, at least and at most: overhead against what is lost when one is interrupted
PARTS = 64  # that a sweep is cut into if that makes shards of such lengths: enough to keep some dozen workers busy
MOST_SHARDS = 4096  # from which on shards become longer instead
MOST_BYTES = 1 << 29  # for the replicas of a shard
CARD = 1024  # runs of a shard on a GPU, which trains a block of threads a run: more than a card holds at once
LARGEST_NET = 1 << 36


class Set(NamedTuple):
    """A data set as it travels: X (N, I) and y (N, 1), standardised; the name and the checksum of the table as it was read."""

    name: str
    note: str
    checksum: str
    X: np.ndarray
    y: np.ndarray


Sets = dict[tuple[str, str | None], Set]


class Shard(NamedTuple):
    """Runs of one shape. `key` is the hash of their names, `seconds` what they will take on one core, roughly."""

    key: str
    runs: tuple[Run, ...]
    ids: tuple[str, ...]
    seconds: float

    @property
    def source(self) -> tuple[str, str | None]:
        """The key of its data in `Sets`."""
        return self.runs[0].data, self.runs[0].target


def load_sets(runs: Iterable[Run]) -> Sets:
    """The data of `runs`. Raises `GridError` with a sentence for each set that cannot be trained on, and each net too large."""
    first = {run.shape(): run for run in runs}.values()
    found: Sets = {}
    problems: list[str] = []
    for source in dict.fromkeys((run.data, run.target) for run in first):
        try:
            found[source] = _load(*source)
        except DataError as error:
            problems.append(f"data = {source[0]!r}: {error}")
    for run in first:
        of = found.get((run.data, run.target))
        if of and run.batch > len(of.X):
            problems.append(f"batch = {run.batch}: {of.name} has {len(of.X)} rows; expected a batch of at most as many")
        if of and cost.memory(run, *of.X.shape) > LARGEST_NET:
            problems.append(
                f"depth = {run.depth} with width = {run.width}: a net that takes {cost.memory(run, *of.X.shape) / 1e9:,.0f} GB "
                f"to train; expected at most {LARGEST_NET / 1e9:.0f} GB"
            )
    if problems:
        raise GridError(list(dict.fromkeys(problems)))
    return found


def _load(name: str, target: str | None) -> Set:
    table = data_sets.read(name, target)
    (X,), (y,) = (data_sets.standardised(np.ascontiguousarray(columns)) for columns in (table.X, table.y))
    return Set(name.rpartition("/")[2], table.note, table.checksum()[:20], X, y)


def identity(run: Run, of: Set) -> str:
    """20 hexadecimal digits that name the run: its settings and its data, but not how it is sharded or where it is run."""
    settings = (of.name, *run[1:])  # a file may be moved
    return sha256(repr((RESULTS_VERSION, of.checksum, settings)).encode()).hexdigest()[:20]


def shard(runs: Sequence[Run], ids: Sequence[str], sets: Sets) -> Shard:
    """Runs of one shape as a shard."""
    of = sets[runs[0].data, runs[0].target]
    key = sha256("\n".join([str(RESULTS_VERSION), *ids]).encode()).hexdigest()[:32]
    return Shard(key, tuple(runs), tuple(ids), len(runs) * cost.seconds(runs[0], *of.X.shape))


def cut(runs: Sequence[Run], sets: Sets, for_gpu: bool = False) -> list[Shard]:
    """All `runs` in shards of about equal cost, the longest first; for a GPU in as few as hold at most `CARD` runs each.

    They depend on the runs alone and not on the number of workers, so that a sweep goes on anywhere where it was stopped.
    Runs of one name (the same file under two paths) are one run.
    """
    named: dict[str, Run] = {}
    for run in runs:
        named.setdefault(identity(run, sets[run.data, run.target]), run)
    groups: dict[tuple[object, ...], list[tuple[str, Run]]] = {}
    for name, run in named.items():
        groups.setdefault(run.shape(), []).append((name, run))
    whole = {shape: len(group) * _seconds(group[0][1], sets) for shape, group in groups.items()}
    each = max(min(max(sum(whole.values()) / PARTS, SECONDS[0]), SECONDS[1]), sum(whole.values()) / MOST_SHARDS)
    made = []
    for shape, group in groups.items():
        first = group[0][1]
        most = max(1, MOST_BYTES // cost.memory(first, *sets[first.data, first.target].X.shape))
        alike = -(-len(group) // CARD) if for_gpu else math.ceil(whole[shape] / each)
        parts = min(max(alike, -(-len(group) // most)), len(group))
        made += [_shard(group[i::parts], sets) for i in range(parts)]
    return sorted(made, key=lambda s: (-s.seconds, s.key))


def _seconds(run: Run, sets: Sets) -> float:
    return cost.seconds(run, *sets[run.data, run.target].X.shape)


def _shard(named: Sequence[tuple[str, Run]], sets: Sets) -> Shard:
    return shard([run for _, run in named], [name for name, _ in named], sets)


def without(shards: Iterable[Shard], there: set[str], sets: Sets) -> list[Shard]:
    """`shards` less the runs that are `there` already, under another shard's name."""
    made = []
    for whole in shards:
        left = [(name, run) for name, run in zip(whole.ids, whole.runs, strict=True) if name not in there]
        if len(left) == len(whole.runs):
            made.append(whole)
        elif left:
            made.append(_shard(left, sets))
    return made
