"""The trainings of benchmarks/train.py in PyTorch: an eager loop a replica, and an ensemble by torch.func."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from benchmarks.training import BETA, BETA2, EPS, LR, Arrays, Call, Task


def train(task: Task) -> Arrays:
    """The parameters after all steps of eager loops, one replica after another, one thread."""
    torch.set_num_threads(1)
    replicas = [_alone(task, r) for r in range(task.replicas)]
    return [np.stack(own) for own in zip(*replicas, strict=True)]


def eager(task: Task) -> Call:
    return lambda: train(task)


def _alone(task: Task, r: int) -> Arrays:
    modules: list[Any] = []
    for W, b in zip(task.parameters[::2], task.parameters[1::2], strict=True):
        linear = torch.nn.Linear(*W.shape[1:])
        linear.weight.data, linear.bias.data = torch.from_numpy(W[r].T.copy()), torch.from_numpy(b[r][0].copy())
        modules += [linear, torch.nn.ReLU()]
    net = torch.nn.Sequential(*modules[:-1])
    if task.rule == "heavy_ball":
        opt: Any = torch.optim.SGD(net.parameters(), lr=LR, momentum=BETA)
    else:
        opt = torch.optim.Adam(net.parameters(), lr=LR, betas=(BETA, BETA2), eps=EPS)
    X, targets, all_rows = torch.from_numpy(task.X), torch.from_numpy(task.targets[r][:, None]), torch.from_numpy(task.rows[r])
    for rows in all_rows:
        opt.zero_grad()
        torch.nn.functional.mse_loss(net(X[rows]), targets[rows]).backward()
        opt.step()
    return [p.detach().numpy().T.copy() if p.ndim == 2 else p.detach().numpy()[None] for p in net.parameters()]


def ensemble(task: Task) -> Call:
    """All replicas at once: vmap of grad, and the optimiser on the stacked parameters; on all cores."""
    X, targets = torch.from_numpy(task.X), torch.from_numpy(task.targets)
    rows = torch.from_numpy(task.rows)
    own = torch.arange(task.replicas)[:, None]

    def loss(theta: Any, x: Any, t: Any) -> Any:
        h = x
        for k in range(0, len(theta) - 2, 2):
            h = torch.relu(h @ theta[k] + theta[k + 1])
        return ((h @ theta[-2] + theta[-1])[:, 0] - t).square().mean()

    gradient = torch.func.vmap(torch.func.grad(loss))

    def call() -> Arrays:
        torch.set_num_threads(os.cpu_count() or 1)
        theta = tuple(torch.from_numpy(p.copy()) for p in task.parameters)
        m, v = ([torch.zeros_like(p) for p in theta] for _ in range(2))
        with torch.no_grad():
            for step in range(rows.shape[1]):
                at = rows[:, step]
                g = list(gradient(theta, X[at], targets[own, at]))
                _update(task.rule, list(theta), g, m, v, step + 1)
        return [p.numpy() for p in theta]

    return call


def _update(rule: str, theta: list[Any], g: list[Any], m: list[Any], v: list[Any], step: int) -> None:
    torch._foreach_mul_(m, BETA)
    if rule == "heavy_ball":
        torch._foreach_add_(m, g)
        torch._foreach_add_(theta, m, alpha=-LR)
        return
    torch._foreach_add_(m, g, alpha=1 - BETA)
    torch._foreach_mul_(v, BETA2)
    torch._foreach_addcmul_(v, g, g, 1 - BETA2)
    below = torch._foreach_sqrt(v)
    torch._foreach_mul_(below, (1 - BETA2**step) ** -0.5)
    torch._foreach_add_(below, EPS)
    torch._foreach_addcdiv_(theta, m, below, -LR / (1 - BETA**step))


SPELLINGS = {"PyTorch eager": eager, "torch.func ensemble": ensemble}
