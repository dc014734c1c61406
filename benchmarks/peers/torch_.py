"""The jobs in PyTorch: eager with fresh results, eager into given buffers (`reused`), and compiled.

`tuned` is eager with the mask in floats, whose columns BLAS sums seven times quicker than `sum` counts a bool mask.

`torch.compile` does the whole job with a bool mask, and in a row of its own `y only`: bias and ReLU, neither mask nor counts.
Both write y into the given array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.jobs import Job
from benchmarks.peers.arrays import Builder, Call, bool_mask, summands


def forward_fresh(job: Job) -> Call:
    inputs = _tensors(summands(job))

    def call() -> Any:
        y = torch.relu(sum(inputs[1:], start=inputs[0]))
        mask = y > 0
        return y, mask, mask.sum(-2), (~torch.isfinite(y)).sum(-2)

    return call


def forward_reused(job: Job) -> Call:
    (first, second, *rest), (y,) = _tensors(summands(job)), _tensors([job.arrays["y"]])
    mask = torch.empty(y.shape, dtype=torch.bool)
    active = torch.empty((*y.shape[:-2], y.shape[-1]), dtype=torch.int64)

    def call() -> Any:
        torch.add(first, second, out=y)
        for more in rest:
            y.add_(more)
        torch.relu_(y)
        torch.gt(y, 0, out=mask)
        torch.sum(mask, -2, out=active)
        if torch.isfinite(y.sum()):
            return y, mask, active, torch.zeros_like(active)
        return y, mask, active, (~torch.isfinite(y)).sum(-2)

    return call


def forward_tuned(job: Job) -> Call:
    (first, second, *rest), (y,) = _tensors(summands(job)), _tensors([job.arrays["y"]])
    mask, ones = torch.empty_like(y), torch.ones((*y.shape[:-2], 1, y.shape[-2]))

    def call() -> Any:
        torch.add(first, second, out=y)
        for more in rest:
            y.add_(more)
        torch.relu_(y)
        torch.gt(y, 0, out=mask)
        active = (ones @ mask).long()
        if torch.isfinite(y.sum()):
            return y, mask, active, torch.zeros_like(active)
        return y, mask, active, (~torch.isfinite(y)).sum(-2)

    return call


def compiled_y(job: Job) -> Call:
    inputs, (y,) = _tensors(summands(job)), _tensors([job.arrays["y"]])

    @_compile
    def forward(y: Any, *inputs: Any) -> None:
        y.copy_(torch.relu(sum(inputs[1:], start=inputs[0])))

    def call() -> Any:
        forward(y, *inputs)
        return (y,)

    return call


def compiled_forward(job: Job) -> Call:
    inputs, (y,) = _tensors(summands(job)), _tensors([job.arrays["y"]])
    mask = torch.empty(y.shape, dtype=torch.bool)

    @_compile
    def forward(y: Any, mask: Any, *inputs: Any) -> Any:
        value = torch.relu(sum(inputs[1:], start=inputs[0]))
        y.copy_(value)
        mask.copy_(value > 0)
        return (value > 0).sum(-2), (~torch.isfinite(value)).sum(-2)

    return lambda: (y, mask, *forward(y, mask, *inputs))


def counts(job: Job) -> Call:
    (y,) = _tensors([job.arrays["y"]])
    return lambda: ((y > 0).sum(-2), (~torch.isfinite(y)).sum(-2))


def backward_fresh(job: Job) -> Call:
    (g,), y = _tensors([job.arrays["g"]]), torch.from_numpy(bool_mask(job)).float()

    def call() -> Any:  # as autograd does it: from the output y, whose zeros are the mask
        dz = torch.ops.aten.threshold_backward(g, y, 0)
        return dz, dz.sum(-2, keepdim=True)

    return call


def backward_reused(job: Job) -> Call:
    (g, dz), y = _tensors([job.arrays["g"], job.arrays["dz"]]), torch.from_numpy(bool_mask(job)).float()
    db = torch.empty((*g.shape[:-2], 1, g.shape[-1]))

    def call() -> Any:
        torch.ops.aten.threshold_backward.grad_input(g, y, 0, grad_input=dz)
        torch.sum(dz, -2, keepdim=True, out=db)
        return dz, db

    return call


def compiled_backward(job: Job) -> Call:
    (g, dz), mask = _tensors([job.arrays["g"], job.arrays["dz"]]), torch.from_numpy(bool_mask(job))

    @_compile
    def backward(g: Any, mask: Any, dz: Any) -> Any:
        value = torch.where(mask, g, 0.0)
        dz.copy_(value)
        return value.sum(-2, keepdim=True)

    return lambda: (dz, backward(g, mask, dz))


def _tensors(arrays: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled for the shapes of its first call alone."""
    return torch.compile(function, dynamic=False)


FORWARD: dict[str, Builder] = {
    "PyTorch eager": forward_fresh,
    "PyTorch reused": forward_reused,
    "PyTorch tuned": forward_tuned,
    "torch.compile": compiled_forward,
    "torch.compile, y only": compiled_y,
}
BACKWARD: dict[str, Builder] = {
    "PyTorch eager": backward_fresh,
    "PyTorch reused": backward_reused,
    "torch.compile": compiled_backward,
}
COUNTS: dict[str, Builder] = {"PyTorch eager": counts}
