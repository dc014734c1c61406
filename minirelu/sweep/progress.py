"""How a sweep stands while it runs.

- `Course(shards, ...)`: hears of shards that advance and end; `.now()` is a `Progress`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from .shards import Shard
from .work import Standing


class Progress(NamedTuple):
    """`done` of `runs` (parts of runs included) and of `shards`; `seconds_left` is infinite until something is done.

    `dead_share` is the mean over the runs of this session, as last measured (NaN at the beginning), and `mse` that of the
    errors ÷ γ², geometric over shards, as they differ by orders of magnitude; `failed` counts shards.
    """

    done: float
    runs: int
    shards_done: int
    shards: int
    failed: int
    seconds: float
    seconds_left: float
    runs_per_second: float
    dead_share: float
    mse: float


class Course:
    """The shards of one session, and how far each is."""

    def __init__(self, todo: Sequence[Shard], runs: int, shards: int) -> None:
        self.runs, self.shards = runs, shards
        self._todo = todo
        self._before = runs - sum(len(shard.runs) for shard in todo), shards - len(todo)
        self._latest: dict[str, Standing] = {}
        self._ended = {"finished": 0, "failed": 0}
        self._begun = time.monotonic()
        self._cost = sum(shard.seconds for shard in todo)

    def advanced(self, shard: Shard, standing: Standing) -> None:
        """A worker has said how far it is."""
        self._latest[shard.key] = standing

    def begun_again(self, shard: Shard) -> None:
        """What was done of it is lost."""
        self._latest.pop(shard.key, None)

    def finished(self, shard: Shard, standing: Standing) -> None:
        """A shard is kept."""
        self._latest[shard.key] = standing
        self._ended["finished"] += 1

    def failed(self, shard: Shard) -> None:
        """A shard is given up."""
        self._latest.pop(shard.key, None)
        self._ended["failed"] += 1
        self._cost -= shard.seconds

    def now(self) -> Progress:
        """The sums; the time left from the costs of what is done and what is not."""
        seconds = time.monotonic() - self._begun
        known = [(shard, self._latest[shard.key]) for shard in self._todo if shard.key in self._latest]
        cost, runs = sum(s.seconds * of.share for s, of in known), sum(len(s.runs) * of.share for s, of in known)
        left = seconds * (self._cost - cost) / cost if cost > 0 else math.inf
        return Progress(
            self._before[0] + runs, self.runs, self._before[1] + self._ended["finished"], self.shards, self._ended["failed"],
            seconds, max(left, 0.0) if self._cost > 0 else 0.0, runs / seconds if seconds > 0 else 0.0,
            _mean([(of.dead, len(shard.runs)) for shard, of in known]),
            math.exp(_mean([(math.log(of.mse), len(shard.runs)) for shard, of in known if of.mse > 0])),
        )  # fmt: skip


def _mean(weighted: list[tuple[float, int]]) -> float:
    """The mean of values with weights, without those that are NaN; NaN if nothing is left."""
    kept = [(value, weight) for value, weight in weighted if not math.isnan(value)]
    return sum(value * weight for value, weight in kept) / sum(weight for _, weight in kept) if kept else math.nan
