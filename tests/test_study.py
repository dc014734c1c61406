"""The study: plan, shards, one run through processes, and outcomes that equal a training written out."""

import math
import os
import re
import signal
import subprocess
import sys
import time

import fake_cupy
import numpy as np
import pytest

from minirelu import data, init, losses, monitor, nn, optim, train
from minirelu.experiments import plans, study

RULES = (study.Rule("SGD", "SGD", {"lr": 0.1}), study.Rule("Adam", "Adam", {"lr": 0.01, "beta1": 0.9}))
TINY = study.Plan(data="gaussian", gammas=(1.0, 1e-3), rules=RULES, seeds=(0, 1, 2), steps=40, widths=(12,), every=20)


def changed(plan, **fields):
    return study.Plan(**{**vars(plan), **fields})


def ignore(progress):
    pass


def train_all(plan, report=ignore):
    """All outcomes of `plan` by replica, trained in this process."""
    X, y = data.load(plan.data)
    return {key(o): o for shard in plan.shards() for o in study.train_shard(shard, X, y, report)}


def key(outcome):
    return outcome.replica.rule.name, *outcome.replica[1:]


def test_shards_cover_every_setting_once():
    plan = changed(TINY, deltas=(0.0, 4.0), depths=(1, 2), shard_replicas=5)
    shards = plan.shards()
    assert all(len({(r.rule.name, r.net) for r in shard.replicas}) == 1 and len(shard.replicas) <= 5 for shard in shards)
    found = sorted((r.rule.name, *r[1:]) for shard in shards for r in shard.replicas)
    assert found == sorted((r.rule.name, *r[1:]) for r in plan.replicas())
    assert len(set(found)) == len(found) == 2 * 2 * 2 * 2 * 3


def test_default_plan_is_the_papers_net_and_the_switches():
    plan = study.Plan()
    assert (plan.widths, plan.batches, plan.depths, plan.steps) == ((200,), (64,), (1,), 60_000)
    assert (plan.gammas, plan.deltas) == ((1.0, 1e-2, 1e-4), (0.0,))
    assert {rule.name for rule in plan.rules} == {"SGD", "heavy ball", "Nesterov", "Adam", "Adam, no momentum"}
    assert len(plan.seeds) >= 3
    assert [len(shard.replicas) for shard in plan.shards()] == [5] * 5 + [4] * 5
    assert plan.measured_at() == list(range(0, 60_001, 3000))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gammas", ()), ("gammas", (0.0,)), ("gammas", (math.nan,)), ("gammas", (1.0, 1.0)), ("deltas", (math.inf,)),
        ("seeds", ()), ("seeds", (-1,)), ("rules", ()), ("steps", 0), ("widths", (0,)), ("depths", (1, 0)),
        ("dtype", "float16"), ("device", "tpu"), ("every", -1),
    ],
)  # fmt: skip
def test_bad_plan_is_refused(field, value):
    with pytest.raises(ValueError, match=r"at least|positive|finite|each once|negative|float32 or float64"):
        study.Plan(**{field: value})


def test_batch_norm_needs_two_rows():
    with pytest.raises(ValueError, match="a batch of at least 2 rows"):
        study.Plan(batch_norm=True, batches=(1,))


@pytest.fixture(scope="module")
def outcomes_and_progress():
    heard, kept = [], []
    return study.run(TINY, workers=2, on_progress=heard.append, on_outcomes=kept.append), heard, kept


def test_run_gives_every_replica_in_the_order_of_the_plan(outcomes_and_progress):
    outcomes, heard, kept = outcomes_and_progress
    expected = [(r.rule.name, *r[1:]) for r in TINY.replicas()]
    assert [key(o) for o in outcomes] == expected
    assert sorted(key(o) for part in kept for o in part) == sorted(expected)
    assert {0, 20, 40} <= {p.step for p in heard} <= set(range(41))
    assert all(len(p.moments) == len(p.shard.replicas) for p in heard)
    assert all([m.step for m in o.course] == [0, 20, 40] for o in outcomes)


@pytest.mark.parametrize("size", [1, 2])
def test_outcomes_do_not_depend_on_the_shards(outcomes_and_progress, size):
    alone = train_all(changed(TINY, shard_replicas=size))
    for outcome in outcomes_and_progress[0]:
        assert outcome.course == alone[key(outcome)].course  # bit for bit


def test_finished_outcomes_are_not_trained_again(outcomes_and_progress):
    outcomes = outcomes_and_progress[0]
    heard = []
    assert study.run(TINY, finished=outcomes, on_progress=heard.append) == outcomes
    assert heard == []
    left = [(r.rule.name, *r[1:]) for r in TINY.missing(outcomes[3:])]
    assert left == [key(o) for o in outcomes[:3]]


@pytest.mark.parametrize("delta", [0.0, 16.0])
def test_outcome_equals_a_training_written_out(delta):
    plan = changed(TINY, deltas=(delta,), rules=RULES[1:], seeds=(0, 1), batches=(16,))
    outcome = train_all(plan)["Adam", study.Net(1, 12, 16), 1e-3, delta, 1]
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
def test_options_of_the_net(fields):
    """Every layer is counted; the first measurement is the net at initialisation, by brute force."""
    plan = changed(TINY, steps=3, every=3, seeds=(4,), gammas=(1.0,), rules=RULES[:1], **fields)
    (X, y), outcomes = data.load("gaussian"), train_all(plan)
    assert len(outcomes) == len(plan.batches)
    for outcome in outcomes.values():
        depth = outcome.replica.net.depth
        assert [len(m.layers) for m in outcome.course] == [depth, depth]
        net = study.build(plan, outcome.replica.net, 5, np.random.default_rng(4))
        assert {p.dtype for p in net.parameters()} == {np.dtype(plan.dtype)}
        with nn.evaluating(net):
            prediction, relus = forward_by_hand(net, X.astype(plan.dtype))
        assert [layer.dead for layer in outcome.course[0].layers] == [int((h <= 0).all(axis=0).sum()) for h in relus]
        np.testing.assert_allclose(outcome.course[0].mse, ((prediction - y) ** 2).mean(), rtol=1e-5)  # float32, 36 terms


def test_units_are_counted_as_the_monitor_counts_them():
    plan = changed(TINY, steps=1, every=1, seeds=(4,), gammas=(1.0,), rules=RULES[:1], depths=(4,), widths=(60,))
    (outcome,) = train_all(plan).values()
    net = study.build(plan, outcome.replica.net, 5, np.random.default_rng(4))
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


def test_on_a_device_everything_lies_there():
    """With a stand-in for CuPy that is as strict as CuPy: nothing is mixed, and the counts are those of the host."""
    calm = tuple(rule for rule in TINY.rules if "Adam" not in rule.name)  # which divides by gradients that are rounding
    plan = changed(TINY, rules=calm, steps=10, every=5, depths=(2,), residual=True, batch_norm=True, kernels="reference")
    with fake_cupy.installed():
        plans.check_machine(changed(plan, device="cuda"))
        found = train_all(changed(plan, device="cuda"))
    host = train_all(plan)
    assert found.keys() == host.keys()
    for name, outcome in found.items():  # the host sums by BLAS, in another order: ten steps apart by rounding
        for ours, theirs in zip(outcome.course, host[name].course, strict=True):
            assert (ours.step, ours.layers) == (theirs.step, theirs.layers)
            np.testing.assert_allclose(ours.mse, theirs.mse, rtol=1e-4)


def test_a_diverged_replica_is_neither_dead_nor_a_number():
    plan = changed(TINY, rules=(study.Rule("SGD", "SGD", {"lr": 1e20}),), steps=10, every=10)
    outcomes = train_all(plan)
    for outcome in outcomes.values():
        assert math.isnan(outcome.dead)
        assert math.isnan(outcome.mse)
        assert outcome.course[-1].layers[0].nonfinite > 0
        assert math.isfinite(outcome.course[0].mse)


def test_stop_is_heard_at_the_next_report():
    X, y = data.load("gaussian")
    with pytest.raises(study.Interrupted):
        study.train_shard(TINY.shards()[0], X, y, _stop)


def _stop(progress):
    raise study.Interrupted


def test_failure_in_a_worker_reaches_the_caller():
    loaded = np.ones((20, 2)), np.ones((19, 1))
    with pytest.raises(Exception, match=r"y must be float64 \(20\)"):
        study.run(TINY, workers=1, loaded=loaded)


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
    assert sorted(os.listdir(tmp_path / "out")) == ["config.json"]
