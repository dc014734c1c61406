"""What tests of sweeps have in common: works that spare the training, an executor in this process, and what equal means."""

import os
import platform
import time

import numpy as np
import pytest

from minirelu import kernels, sweep
from minirelu.sweep import running
from minirelu.sweep.processes import Advanced, Failed, Finished
from minirelu.sweep.work import Outcome, Standing, train_shard

AXES = {"data": "gaussian", "lr": 0.05, "width": [4, 5, 6], "steps": 20, "batch": 8}
GRID = sweep.Grid(**AXES, optimizer="sgd", gamma=[1.0, 1e-3], seed=range(3)) + sweep.Grid(
    **AXES, optimizer="adam", depth=2, gamma=1.0, seed=[0, 7]
)


def made_up(shard, sets, report, **how):
    """Numbers that depend on each run alone; the runs of seed 2 diverge."""
    run, started = shard.runs[0], time.time()
    step = np.array([0, run.steps])
    report(Standing(0.5, 1.0, 0.25))
    mse = np.array([[1.0, one.gamma / (1 + one.seed)] for one in shard.runs])
    dead = np.array([[[0] * run.depth, [one.seed % run.width] * run.depth] for one in shard.runs])
    wild = np.array([[[0] * run.depth, [int(one.seed == 2)] * run.depth] for one in shard.runs])
    mse[wild[:, :, 0] > 0] = np.nan
    return Outcome(step, mse, dead, dead // 3, dead // 2, wild, "made up", started, time.time(), platform.node(), os.getpid())


def raising(shard, sets, report, **how):
    """Shards of width 5 fail."""
    if shard.runs[0].width == 5:
        raise ZeroDivisionError(f"width {shard.runs[0].width}")
    return made_up(shard, sets, report)


def suicidal(shard, sets, report):
    """Shards of width 5 take their worker with them."""
    if shard.runs[0].width == 5:
        os._exit(7)
    return made_up(shard, sets, report)


def slow(shard, sets, report):
    """A training that takes a while, however quick the machine."""
    for tenth in range(3):
        report(Standing(tenth / 10, 1.0, 0.0))
        time.sleep(0.1)
    return train_shard(shard, sets, report)


class Serial:
    """An executor without processes."""

    def __init__(self, work, common, workers=1):
        self.work, self.common, self.tasks = work, common, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def busy(self):
        return bool(self.tasks)

    def submit(self, task):
        self.tasks.append(task)

    def events(self, timeout):
        task, heard = self.tasks.pop(0), []
        try:
            answer = Finished(task, self.work(task, self.common, heard.append))
        except Exception as error:
            answer = Failed(task, f"Traceback\n{type(error).__name__}: {error}", lost=False)
        return [*(Advanced(task, report) for report in heard), answer]


def run(grid, out, work=made_up, executor="processes", workers=2, on_progress=lambda progress: None):
    return running.run_with(grid, out, executor, workers, on_progress, lambda report: None, work)


def trained(out):
    """GRID in `out`, trained in this process by the reference kernels, which start quickly."""
    with pytest.MonkeyPatch.context() as patch, kernels.using("reference"):
        patch.setattr(running, "Processes", Serial)
        run(GRID, out, train_shard)
    return out


def assert_equal(out, other):
    """Two stores hold the same shards and, to the bit, the same rows but for the columns that may differ."""
    keys = [sorted(path.name[:32] for path in out.glob("results-*/*.parquet")) for out in (out, other)]
    assert keys[0] == keys[1]
    ours, theirs = (sweep.load(out).drop(sweep.UNLIKE) for out in (out, other))
    assert ours["run_id"].n_unique() == ours.height
    assert ours.equals(theirs, null_equal=True)
    assert sweep.history(out).equals(sweep.history(other), null_equal=True)
