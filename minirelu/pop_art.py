"""Pop-Art: targets normalised by running statistics, and an output layer that makes up for it when they move.

    scaler = PopArt()
    for x, t in batches:
        scaler.partial_fit(t)                                   # ART: adaptively rescale targets
        factor, shift = scaler.correction()                     # POP: preserve outputs precisely
        W.data, b.data = W.data * factor, b.data * factor + shift
        loss = losses.mse(net(x), scaler.transform(t))
    predictions = scaler.inverse_transform(outputs)

van Hasselt, Guez, Hessel, Mnih & Silver 2016, "Learning values across many orders of magnitude", Algorithm 1.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from .columns import constant
from .errors import NotFittedError
from .scalers import StandardScaler, _checked, _stats


class PopArt(StandardScaler):
    """(y − μ)/σ with statistics that follow the batches, for targets whose scale is not known in advance.

    `partial_fit` moves each column's mean and second moment towards the batch's, its Eq. 3: μ ← (1 − β)μ + βμ_batch, and so
    ν = σ² + μ². β is `rate`, but at least the batch's share of all rows so far, so that the first batches count alike (and with
    rate 0 all do). `correction` says what keeps the predictions. `fit` forgets everything, and so does the correction.
    Fitted: `mean_`, `scale_` (σ, or 1 for a column that is constant so far), `n_samples_seen_`, `n_features_in_`.
    """

    _std: np.ndarray
    _before: tuple[np.ndarray, np.ndarray]

    def __init__(self, rate: float = 0.01) -> None:
        self.rate = rate

    def _check_settings(self) -> None:
        if not 0 <= self.rate < 1:
            raise ValueError(f"{self!r}: rate must be at least 0 and below 1, the weight of a new batch")

    def fit(self, X: Any, y: Any = None) -> Self:
        """Take the statistics of X (N, O), forgetting earlier ones. Raises as the other scalers do."""
        self._check_settings()
        rows = _checked(X)
        own = _stats(rows.astype(np.float64))
        self.n_samples_seen_, self.n_features_in_ = len(rows), rows.shape[1]
        self._take(own.mean, own.std)
        self._before = self.mean_, self.scale_
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Follow the batch X (M, O); the first is taken as it is. Raises as `fit`, and then nothing has moved."""
        if not self._fitted():
            return self.fit(X)
        rows = self._ready(X)
        own, self._before = _stats(rows.astype(np.float64)), (self.mean_, self.scale_)
        self.n_samples_seen_ += len(rows)
        q = max(self.rate, len(rows) / self.n_samples_seen_)
        p, apart = 1 - q, own.mean - self.mean_
        # σ² + μ² as a sum of non-negative parts: nothing cancels
        spread = np.hypot(np.hypot(p**0.5 * self._std, q**0.5 * own.std), (p * q) ** 0.5 * apart)
        self._take(self.mean_ + q * apart, spread)
        return self

    def _take(self, mean: np.ndarray, std: np.ndarray) -> None:
        self.mean_, self._std, self.scale_ = mean, std, np.where(constant(mean, std, self.n_samples_seen_), 1.0, std)

    def correction(self) -> tuple[np.ndarray, np.ndarray]:
        """(factor, shift), each (O,): σ/σ' and (μ − μ')/σ' of the last move, from μ, σ to μ', σ' (its Eq. 4).

        With W' = factor·W and b' = factor·b + shift in the output layer, σ'(hW' + b') + μ' = σ(hW + b) + μ for every h: all
        predictions in the units of y stay what they were. (1, 0) after `fit` and the first batch, before which there were none.
        Raises `NotFittedError`.
        """
        if not self._fitted():
            raise NotFittedError("this PopArt is not fitted; call fit or partial_fit with the training rows")
        mean, scale = self._before
        return scale / self.scale_, (mean - self.mean_) / self.scale_
