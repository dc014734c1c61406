"""The study: plan, shards, one run through processes, statistics, and what the command line says to wrong input."""

import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from minirelu import cli, data, init, losses, nn, optim, train
from minirelu.experiments import study

RULES = (study.Rule("SGD", "SGD", {"lr": 0.1}), study.Rule("Adam", "Adam", {"lr": 0.01, "beta1": 0.9}))
TINY = study.Plan(data="gaussian", gammas=(1.0, 1e-3), rules=RULES, seeds=(0, 1, 2), steps=40, width=12, every=20)


def test_shards_cover_every_setting_once():
    settings = [(shard.rule.name, *replica) for shard in TINY.shards() for replica in shard.replicas()]
    expected = [(rule.name, gamma, seed) for rule in RULES for gamma in TINY.gammas for seed in TINY.seeds]
    assert sorted(settings) == sorted(expected)


def test_default_plan_is_the_papers_net_and_the_switches():
    plan = study.Plan()
    assert (plan.width, plan.batch, plan.steps, plan.gammas) == (200, 64, 20_000, (1.0, 1e-2, 1e-4))
    assert {rule.name for rule in plan.rules} == {"SGD", "heavy ball", "Nesterov", "Adam", "Adam, no momentum"}
    assert len(plan.seeds) >= 3


@pytest.mark.parametrize(
    ("field", "value"),
    [("gammas", ()), ("gammas", (0.0,)), ("gammas", (math.nan,)), ("seeds", ()), ("rules", ()), ("steps", 0), ("width", 0)],
)
def test_bad_plan_is_refused(field, value):
    with pytest.raises(ValueError, match=r"at least|positive"):
        study.Plan(**{field: value})


@pytest.fixture(scope="module")
def outcomes_and_progress():
    heard = []
    return study.run(TINY, workers=2, on_progress=heard.append), heard


def test_run_gives_every_replica_in_the_order_of_the_plan(outcomes_and_progress):
    outcomes, heard = outcomes_and_progress
    found = [(o.rule.name, o.gamma, o.seed) for o in outcomes]
    assert found == [(rule.name, gamma, seed) for rule in RULES for gamma in TINY.gammas for seed in TINY.seeds]
    assert {p.step for p in heard} == {20, 40}
    assert all(p.mse.shape == p.dead.shape == (len(p.shard.replicas()),) for p in heard)


def test_outcomes_do_not_depend_on_the_shards(outcomes_and_progress):
    alone = study.Plan(**{**vars(TINY), "shard_seeds": 1})
    results = [o for shard in alone.shards() for o in study.train_shard(shard, lambda _: None)]
    by_key = {(o.rule.name, o.gamma, o.seed): o for o in results}
    for outcome in outcomes_and_progress[0]:
        assert outcome == by_key[outcome.rule.name, outcome.gamma, outcome.seed]  # bit for bit


def test_outcome_equals_a_training_written_out(outcomes_and_progress):
    outcome = next(o for o in outcomes_and_progress[0] if (o.rule.name, o.gamma, o.seed) == ("Adam", 1e-3, 1))
    X, y = (a.astype(np.float32) for a in data.load("gaussian"))
    rng = init.replicas([1])
    net = nn.Sequential(nn.Dense(5, 12, rng=rng), nn.Linear(12, 1, rng=rng))
    opt = optim.Adam(net.parameters(), lr=0.01)
    for x, t in train.minibatches(X, np.float32(1e-3) * y, 64, [1], 40):
        losses.mse(net(x), t).backward()
        opt.step()
    hidden = np.maximum(X @ net.layers[0].W.data[0] + net.layers[0].b.data[0], 0)
    prediction = hidden @ net.layers[1].W.data[0] + net.layers[1].b.data[0]
    assert outcome.dead == (hidden <= 0).all(axis=0).mean()
    # float32 predictions by another order of summation: 12 terms, so a few eps of the prediction
    np.testing.assert_allclose(outcome.mse, ((prediction / 1e-3 - y) ** 2).mean(), rtol=1e-4)


def test_stop_is_heard_at_the_next_report():
    with pytest.raises(study.Interrupted):
        study.train_shard(TINY.shards()[0], _stop)


def _stop(progress):
    raise study.Interrupted


def test_failure_in_a_worker_reaches_the_caller():
    with pytest.raises(Exception, match="no data set called"):
        study.run(study.Plan(**{**vars(TINY), "data": "nothing"}), workers=1)


def test_estimate_is_students_interval():
    e = study.estimate([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2  # t table, 3 degrees of freedom
    np.testing.assert_allclose([e.mean, e.low, e.high, e.n], [2.5, 2.5 - half, 2.5 + half, 4], rtol=1e-6)
    assert study.estimate([0.0, 0.0, 0.1], 0.0, 1.0).low == 0.0
    assert study.estimate([0.3], 0.0, 1.0) == study.Estimate(0.3, 0.0, 1.0, 1)
    assert study.estimate([]).n == 0


def test_diverged_replicas_are_counted_apart():
    rule = RULES[0]
    outcomes = [study.Outcome(rule, 1.0, seed, mse, dead) for seed, mse, dead in [(0, 0.5, 0.1), (1, math.nan, math.nan)]]
    (row,) = study.summary(outcomes)
    assert (row.dead.n, row.dead.mean, row.mse.mean, row.diverged) == (1, 0.1, 0.5, 1)


# --------------------------------------------------------------------------------------------------- command line


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["study", *arguments], env={"COLUMNS": "80"})


def test_command_prints_the_table_and_draws_the_figure(tmp_path):
    figure = tmp_path / "study.png"
    result = invoke("--data", "gaussian", "--seeds", "2", "--steps", "20", "--figure", str(figure))
    assert result.exit_code == 0, result.output
    assert re.search(r"dead %\s+MSE ÷ γ²\s+n\s*$", result.output, re.MULTILINE)
    for text in ("heavy ball", "Adam, no momentum", "0.0001"):
        assert text in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert [p.name for p in tmp_path.iterdir()] == ["study.png"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--data", "diabetis"), "no data set called 'diabetis'"),
        (("--figure", "x.jpg"), "must end in .png, .svg or .pdf"),
        (("--figure", "/no/such/folder/x.png"), "cannot be written"),
        (("--steps", "0"), "steps"),
    ],
)
def test_bad_input_is_refused_before_training(arguments, text):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert text in result.output.replace("\n", " ")


def test_ctrl_c_twice_stops_the_workers_and_the_program():
    command = [sys.executable, "-u", "-m", "minirelu.cli", "study", "--data", "gaussian", "--steps", "10000000"]
    # a group of its own, so that the workers hear Ctrl-C as they do in a terminal
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        said = process.stdout.readline() + process.stdout.readline()  # the heading: it has begun
        time.sleep(3)  # long enough for the workers to be at work; any moment must do
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.05)
        said += process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert "Stopped." in said


def test_ctrl_c_is_one_sentence(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run", interrupted)
    result = invoke("--data", "gaussian")
    assert result.exit_code == 130
    assert "Stopped." in result.output
