"""The study: its plan, its runs in a sweep's store, and outcomes that equal a training written out."""

import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sweep_work import Serial

from minirelu import data, init, losses, monitor, nn, optim, sweep, train
from minirelu.experiments import study
from minirelu.kernels.train_mlp import Net
from minirelu.sweep import running
from minirelu.train.nets import build

RULES = (study.Rule("SGD", "SGD", {"lr": 0.1}), study.Rule("Adam", "Adam", {"lr": 0.01, "beta1": 0.9}))
TINY = study.Plan(data="gaussian", gammas=(1.0, 1e-3), rules=RULES, seeds=(0, 1, 2), steps=40, widths=(12,), every=20)


def changed(plan, **fields):
    return study.Plan(**{**vars(plan), **fields})


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A function that gives all outcomes of a plan by replica, trained in this process."""
    monkeypatch.setattr(running, "Processes", Serial)

    def train_all(plan):
        assert study.run(plan, tmp_path).failed == 0
        return {key(o): o for o in study.collect(plan, tmp_path)}

    return train_all


def key(outcome):
    return outcome.replica.rule.name, *outcome.replica[1:]


def test_default_plan_is_the_papers_net_and_the_switches():
    plan = study.Plan()
    assert (plan.widths, plan.batches, plan.depths, plan.steps) == ((200,), (64,), (1,), 60_000)
    assert (plan.gammas, plan.deltas) == ((1.0, 1e-2, 1e-4), (0.0,))
    assert {rule.name for rule in plan.rules} == {"SGD", "heavy ball", "Nesterov", "Adam", "Adam, no momentum"}
    assert len(plan.seeds) >= 3
    assert len(plan.grid().runs()) == len(plan.replicas()) == 45
    assert {(run.optimizer, run.lr, run.beta) for run in plan.grid().runs()} == {
        ("sgd", 0.1, 0.0), ("heavy_ball", 0.01, 0.9), ("nesterov", 0.01, 0.9), ("adam", 0.001, 0.9), ("adam", 0.001, 0.0)
    }  # fmt: skip
    assert {(run.record_every, run.block, run.batch_norm, run.init) for run in plan.grid().runs()} == {
        (3000, "dense", False, "torch_default")
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gammas", ()), ("gammas", (0.0,)), ("gammas", (math.nan,)), ("deltas", (math.inf,)), ("seeds", ()), ("seeds", (-1,)),
        ("steps", 0), ("widths", (0,)), ("depths", (1, 0)), ("dtype", "float16"), ("every", -1), ("every", 10**6),
        ("rules", (study.Rule("SGD", "SGD", {"lr": -1.0}),)),
        ("rules", (study.Rule("heavy", "HeavyBall", {"lr": 1.0, "beta": 1.0}),)),
    ],
)  # fmt: skip
def test_bad_plan_is_refused(field, value):
    with pytest.raises(sweep.GridError, match=r"one thing is wrong .* nothing was run:\s+\w+ .*expected"):
        study.Plan(**{field: value}).grid()


def test_batch_norm_needs_two_rows():
    with pytest.raises(sweep.GridError, match="a batch of at least 2 rows"):
        study.Plan(batch_norm=True, batches=(1,)).grid()


def test_outcomes_are_those_of_the_plan_in_its_order(tmp_path):
    """Through processes; what the folder has of other plans, and of other data of that name, is not among them."""
    heard, found = [], []
    others = changed(TINY, seeds=(7,)), changed(TINY, depths=(2,), seeds=(0,)), changed(TINY, steps=20)
    for plan in (*others, TINY):
        report = study.run(plan, tmp_path, workers=2, on_progress=heard.append, on_start=found.append)
        assert (report.runs, report.found, report.failed) == (len(plan.replicas()), 0, 0)
    assert heard[-1].done == heard[-1].runs == 12
    outcomes = study.collect(TINY, tmp_path)
    assert [key(o) for o in outcomes] == [(r.rule.name, *r[1:]) for r in TINY.replicas()]
    assert all([m.step for m in o.course] == [0, 20, 40] for o in outcomes)
    assert study.run(TINY, tmp_path).found == 12
    assert study.collect(changed(TINY, seeds=(2, 9)), tmp_path) == [o for o in outcomes if o.replica.seed == 2]


def test_the_same_file_with_other_numbers_is_other_data(tmp_path, trained):
    def write(shift):
        rows = [f"{x},{x % 7 + shift * (x == 3)}" for x in range(30)]
        (tmp_path / "my.csv").write_text("\n".join(["x,y", *rows]) + "\n")

    plan = changed(TINY, data=str(tmp_path / "my.csv"), target="y", rules=RULES[:1], gammas=(1.0,), batches=(8,))
    write(0)
    first = trained(plan)
    write(1)
    assert study.collect(plan, tmp_path) == []
    second = trained(plan)
    assert first.keys() == second.keys()
    assert all(first[k].mse != second[k].mse for k in first)


def test_two_names_of_one_rule_have_the_same_run(trained):
    twins = (study.Rule("Adam, β 0", "Adam", {"lr": 0.01, "beta1": 0.0}), study.Rule("no", "Adam", {"lr": 0.01, "beta1": 0.0}))
    found = trained(changed(TINY, rules=twins, seeds=(0,), gammas=(1.0,)))
    ours, theirs = found.values()
    assert (ours.replica.rule.name, theirs.replica.rule.name) == ("Adam, β 0", "no")
    assert ours.course == theirs.course


@pytest.mark.parametrize("delta", [0.0, 16.0])
def test_outcome_equals_a_training_written_out(delta, trained):
    plan = changed(TINY, deltas=(delta,), rules=RULES[1:], seeds=(0, 1), batches=(16,))
    outcome = trained(plan)["Adam", study.Net(1, 12, 16), 1e-3, delta, 1]
    raw, y = data.load("gaussian")
    X = raw.astype(np.float32)
    rng = init.replicas([1])
    net = nn.Sequential(nn.Dense(5, 12, rng=rng), nn.Linear(12, 1, rng=rng))
    opt = optim.Adam(net.parameters(), lr=0.01)
    # y has mean 0 and deviation 1 but for rounding, which the scaler takes away once more
    targets = ((y - y.mean()) / y.std() * 1e-3 + delta).astype(np.float32)
    for x, t in train.minibatches(X, targets, 16, [1], 40):
        losses.mse(net(x), t).backward()
        opt.step()
    hidden = np.maximum(X @ net.layers[0].W.data[0] + net.layers[0].b.data[0], 0)
    prediction = hidden @ net.layers[1].W.data[0] + net.layers[1].b.data[0]
    assert outcome.dead == (hidden <= 0).all(axis=0).mean()
    errors = (prediction.astype(float) - delta) / 1e-3 - y
    # float32 predictions by another order of summation, and targets that may differ in their last bit: a few eps of
    # δ and of the prediction, divided by γ
    slack = 40 * 12 * np.finfo(np.float32).eps * (np.abs(prediction).max() + delta) / 1e-3
    assert abs(outcome.mse**0.5 - (errors**2).mean() ** 0.5) <= slack


NETS = {
    "depth 3": {"depths": (3,)},
    "residual": {"depths": (3,), "residual": True},
    "batch norm": {"depths": (2,), "batch_norm": True},
    "both": {"depths": (3,), "residual": True, "batch_norm": True, "batches": (2, 16)},
    "float64": {"dtype": "float64"},
    "reference kernels": {"kernels": "reference"},
}


@pytest.mark.parametrize("fields", NETS.values(), ids=NETS)
def test_options_of_the_net(fields, trained):
    """Every layer is counted; the first measurement is the net at initialisation, by brute force."""
    plan = changed(TINY, steps=3, every=3, seeds=(4,), gammas=(1.0,), rules=RULES[:1], **fields)
    (X, y), outcomes = data.load("gaussian"), trained(plan)
    assert len(outcomes) == len(plan.batches)
    for outcome in outcomes.values():
        depth = outcome.replica.net.depth
        assert [len(m.layers) for m in outcome.course] == [depth, depth]
        net = initial(plan, outcome)
        assert outcome.backend == ("engine" if plan.kernels == "reference" else "numba")
        assert {p.dtype for p in net.parameters()} == {np.dtype(plan.dtype)}
        with nn.evaluating(net):
            prediction, relus = forward_by_hand(net, X.astype(plan.dtype))
        assert [layer.dead for layer in outcome.course[0].layers] == [int((h <= 0).all(axis=0).sum()) for h in relus]
        np.testing.assert_allclose(outcome.course[0].mse, ((prediction - y) ** 2).mean(), rtol=1e-5)  # float32, 36 terms


def initial(plan, outcome):
    """The net of an outcome with seed 4 at step 0."""
    depth, width, _ = outcome.replica.net
    shape = Net(5, (width,) * depth, plan.residual, plan.batch_norm)
    return build(shape, np.random.default_rng(4), np.dtype(plan.dtype))


def test_units_are_counted_as_the_monitor_counts_them(trained):
    plan = changed(TINY, steps=1, every=1, seeds=(4,), gammas=(1.0,), rules=RULES[:1], depths=(4,), widths=(60,))
    (outcome,) = trained(plan).values()
    net = initial(plan, outcome)
    rows = monitor.UnitActivity.over(net, data.load("gaussian")[0].astype(np.float32), warn=False).report()
    expected = [study.Units(r.units, r.dead, r.nearly_dead, r.linear, r.nonfinite) for r in rows]
    assert list(outcome.course[0].layers) == expected
    assert all(any(getattr(units, kind) for units in expected) for kind in ("dead", "nearly_dead", "linear"))


def forward_by_hand(net, X):
    """The output, and every ReLU's, written out in NumPy (batch norm with its running statistics, which are 0 and 1)."""
    relus = []

    def through(layers, x):
        for layer in layers:
            if isinstance(layer, nn.Residual):
                x = x + through(layer.layers, x)
            elif isinstance(layer, nn.BatchNorm):
                x = x / np.sqrt(1 + 1e-5).astype(x.dtype)
            elif isinstance(layer, nn.Linear):
                x = x @ layer.W.data + layer.b.data
            if isinstance(layer, (nn.Dense, nn.Activation)):
                x = np.maximum(x, 0)
                relus.append(x)
        return x

    return through(net.layers, X), relus


def test_a_diverged_replica_is_neither_dead_nor_a_number(trained):
    plan = changed(TINY, rules=(study.Rule("SGD", "SGD", {"lr": 1e20}),), steps=10, every=10)
    for outcome in trained(plan).values():
        assert math.isnan(outcome.dead)
        assert math.isnan(outcome.mse)
        assert outcome.course[-1].layers[0].nonfinite > 0
        assert math.isfinite(outcome.course[0].mse)


def test_ctrl_c_twice_stops_the_workers_and_says_how_to_go_on(tmp_path):
    options = ["study", "--data", "gaussian", "--steps", "10000000", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-u", "-m", "minirelu.cli", *options]
    # a group of its own, so that the workers hear Ctrl-C as they do in a terminal
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        said = process.stdout.readline() + process.stdout.readline()  # the heading: it has begun
        time.sleep(3)  # long enough for the workers to be at work; any moment must do
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.05)
        said += process.communicate(timeout=60)[0]
    # CPython ends by the signal itself if that met exec() of a string, as in imports; a shell calls both 130
    assert process.returncode in (130, -signal.SIGINT), said
    words = " ".join(said.split())
    assert "Stopped. 0 of 45 trainings are finished and kept in" in words
    assert re.search(r"go on with: minirelu study --data gaussian --steps 10000000 --out \S+out$", words)
    assert sorted(os.listdir(tmp_path / "out")) == [".lock", "failed", "manifest.json", "results-2"]
