"""From a recipe to measurements: many seeds of one training at once, on the compiled kernel where it can, else on the engine.

- `measured(recipe, X, y, seeds, steps)`: an `Outcome`.

The kernel (train.train_mlp) knows ReLU nets and optimisers; leaky activations, clipping and Pop-Art run as nets of the
engine with the replica axis. Both draw the same first weights and the same minibatches from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .. import train
from ..data import standardised
from ..train.nets import rebuilt
from ..train.settings import check_targets
from .measures import effective_rank, hidden, silent
from .recipe import Draw, Recipe, check, prepared
from .with_engine import Training

POINTS = 40  # measurements on the way
RANK_ROWS = 4096  # that an effective rank is taken of, at most


class Outcome(NamedTuple):
    """R seeds at T steps and L hidden layers. Shares are of a layer's units, NaN where a unit is non-finite.

    `born`: silent at step 0; `dead`: silent at the end; `died`: silent at the end, but not at step 0. For ReLUs silent is
    dead; leaky units are counted if they never leave the negative side.
    """

    step: np.ndarray  # (T,)
    error: np.ndarray  # (R, T), in units of the standardised target; NaN if not finite
    course: np.ndarray  # (R, T): the share of silent units in the worst layer
    born: np.ndarray  # (R, L)
    dead: np.ndarray  # (R, L)
    died: np.ndarray  # (R, L)
    rank: np.ndarray  # (R,): effective rank of the last hidden layer at the end; NaN where it was not asked for

    @property
    def worst(self) -> np.ndarray:
        """(R,): the share of silent units in the worst layer at the end."""
        return self.course[:, -1]

    @property
    def finite(self) -> np.ndarray:
        """(R,): whether neither a unit nor the error is non-finite at the end."""
        return np.isfinite(self.worst) & np.isfinite(self.error[:, -1])

    def only(self, seeds: np.ndarray) -> Outcome:
        """That of some of the seeds, (R,) of bool."""
        return Outcome(self.step, *(values[seeds] for values in self[1:]))

    def worst_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """(R,), (R,): which layer has the most silent units at the end, and the share of it that was not silent at birth."""
        layer = self.dead.argmax(axis=1)
        return layer, np.take_along_axis(self.died, layer[:, None], axis=1)[:, 0]


def measured(recipe: Recipe, X: np.ndarray, y: np.ndarray, seeds: Sequence[int], steps: int, ranked: bool = True) -> Outcome:
    """Train a net a seed on raw columns X (N, I) and y (N, 1) for `steps` steps, and measure it on all rows on the way.

    The effective rank, which takes a singular value decomposition a seed, is that of every k-th row, so many that there are
    at most 4096, and left out where it is not `ranked`. Raises `ValueError` or `TypeError` for settings that
    make no sense, as `train.train_mlp` does.
    """
    check(recipe)
    x, target = prepared(recipe, X), standardised(y)[0][:, 0]
    run = _on_engine if on_engine(recipe) else _on_kernel
    return run(recipe._replace(batch=min(recipe.batch, len(x))), x, target, list(seeds), steps, ranked)


def on_engine(recipe: Recipe) -> bool:
    """Whether the compiled kernel lacks something that the recipe has."""
    return recipe.activation != "relu" or recipe.clip > 0 or recipe.pop_art


def _every(steps: int) -> int:
    return max(-(-steps // POINTS), 1)


def _on_kernel(recipe: Recipe, x: np.ndarray, y: np.ndarray, seeds: list[int], steps: int, ranked: bool) -> Outcome:
    result = train.train_mlp(
        x, y, widths=recipe.widths, batch_norm=recipe.batch_norm, optimizer=recipe.optimizer, lr=recipe.lr,
        gamma=recipe.gamma, delta=recipe.delta, batch=recipe.batch, steps=steps, seeds=seeds, init=Draw(recipe),
        standardize=False, record_every=_every(steps), units=True, X_eval=x, y_eval=y,
    )  # fmt: skip
    assert result.active is not None
    assert result.nonfinite_rows is not None
    quiet, wild = result.active == 0, result.nonfinite_rows > 0
    rank = np.full(len(seeds), np.nan)
    if ranked:
        net = rebuilt(result.shape, result.parameters.values(), result.buffers.values(), len(seeds))
        rank = effective_rank(hidden(net, _few(x))[0][-1][1])
    return outcome(recipe.widths, result.step, result.loss, quiet, wild, rank)


def _on_engine(recipe: Recipe, x: np.ndarray, y: np.ndarray, seeds: list[int], steps: int, ranked: bool) -> Outcome:
    if not recipe.pop_art:  # whose targets are normalised before they are rounded
        check_targets(y, np.array([recipe.gamma]), np.array([recipe.delta]), np.dtype(np.float32))
    run = Training(recipe, x, y, seeds)
    at = np.array([*range(0, steps, _every(steps)), steps])
    errors, quiet, wild, rank = [], [], [], np.full(len(seeds), np.nan)
    for stop in at.tolist():
        run.go(stop)
        layers, prediction = hidden(run.net, x)
        errors.append(run.error(prediction))
        quiet.append(np.concatenate([silent(z) for z, _ in layers], axis=-1))
        wild.append(np.concatenate([~np.isfinite(z).all(axis=-2) for z, _ in layers], axis=-1))
        if ranked and stop == steps:
            rank = effective_rank(_few(layers[-1][1]))
    return outcome(recipe.widths, at, np.stack(errors, 1), np.stack(quiet, 1), np.stack(wild, 1), rank)


def _few(rows: np.ndarray) -> np.ndarray:
    """Evenly spaced rows (..., n, O) of (..., N, O), n at most `RANK_ROWS`: all, if there are no more."""
    return rows[..., :: -(-rows.shape[-2] // RANK_ROWS), :]


def outcome(
    widths: tuple[int, ...], step: np.ndarray, error: np.ndarray, quiet: np.ndarray, wild: np.ndarray, rank: np.ndarray
) -> Outcome:
    """An `Outcome` of which units (R, T, units) were silent and non-finite at each step, and of the rank (R,)."""
    edges = np.cumsum((0, *widths))

    def shares(kind: np.ndarray, at: int) -> np.ndarray:
        sides = [slice(a, b) for a, b in pairwise(edges.tolist())]
        return np.stack([np.where(wild[:, at, s].any(axis=-1), np.nan, kind[:, s].mean(axis=-1)) for s in sides], axis=-1)

    course = np.stack([shares(quiet[:, t], t).max(axis=-1) for t in range(len(step))], axis=-1)
    end, start = quiet[:, -1], quiet[:, 0]
    return Outcome(step, error, course, shares(start, 0), shares(end, -1), shares(end & ~start, -1), rank)
