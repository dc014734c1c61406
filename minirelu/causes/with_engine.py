"""Recipes that the compiled kernel lacks, trained by the engine: R seeds as one net with the replica axis.

- `Training(recipe, x, y, seeds)`: `.go(stop)` trains up to a step, `.error(prediction)` judges.

With ReLUs, no clipping and no Pop-Art it is the training of the kernel up to rounding, which is tested.
"""

from __future__ import annotations

import numpy as np

from .. import init, losses, optim, train
from ..kernels.train_mlp import Net
from ..pop_art import PopArt
from ..train.nets import build, moved
from ..train.with_engine import optimiser
from .recipe import Draw, Recipe


class Training:
    """R replicas on inputs x (N, I) and standardised targets y (N,)."""

    def __init__(self, recipe: Recipe, x: np.ndarray, y: np.ndarray, seeds: list[int]) -> None:
        self.recipe, self.seeds, self.x, self.y = recipe, seeds, x, y
        targets = (recipe.gamma * y + recipe.delta)[:, None]
        self.targets = targets if recipe.pop_art else targets.astype(np.float32)
        shape = Net(x.shape[1], recipe.widths, False, recipe.batch_norm)
        self.net = build(shape, init.replicas(seeds), np.float32, Draw(recipe), recipe.activation)
        parameters = self.net.parameters()
        self.trained = [parameters[i] for i in moved(self.net)]
        self.opt = optimiser(recipe.optimizer, self.trained, recipe.lr)
        self.scaler = PopArt() if recipe.pop_art else None

    def go(self, stop: int) -> None:
        """Train up to step `stop`."""
        start = self.opt.steps
        for x, t in train.minibatches(self.x, self.targets, self.recipe.batch, self.seeds, stop - start, start):
            goal = t if self.scaler is None else self._normalised(t).astype(np.float32)
            losses.mse(self.net(x), goal).backward()
            if self.recipe.clip > 0:
                optim.clip_gradients(self.trained, self.recipe.clip)
            self.opt.step()

    def _normalised(self, t: np.ndarray) -> np.ndarray:
        """The batch's targets (R, B, 1) in units of the running statistics, a column a replica, which they move first."""
        assert self.scaler is not None
        columns = t[..., 0].T
        self.scaler.partial_fit(columns)
        W, b = self.net.parameters()[-2:]
        factor, shift = (a[:, None, None] for a in self.scaler.correction())
        W.data, b.data = (W.data * factor).astype(W.dtype), (b.data * factor + shift).astype(b.dtype)
        return self.scaler.transform(columns).T[..., None]

    def error(self, prediction: np.ndarray) -> np.ndarray:
        """(R,): mean squared error of outputs (R, N, 1), in units of the standardised target; NaN if not finite."""
        made = prediction[..., 0].astype(np.float64)
        if self.scaler is not None and self.opt.steps:
            made = self.scaler.inverse_transform(made.T).T
        with np.errstate(over="ignore", invalid="ignore"):
            error = (((made - self.recipe.delta) / self.recipe.gamma - self.y) ** 2).mean(axis=-1)
        return np.where(np.isfinite(error), error, np.nan)
