"""Momentum or normalisation: what the switches are, verdicts on made-up numbers, and a very short form from end to end."""

import numpy as np
import pytest
from reproducing import reproduced

from minirelu import data, optim, train
from minirelu.experiments import momentum
from minirelu.experiments.networks import Size
from minirelu.tensor import Tensor


def made(dead, seeds=8):
    """Columns in which the dead share is `dead(arm, gamma)`, with a small spread."""
    rows = [
        ("airfoil", arm.name, gamma, seed, dead(arm, gamma) + 0.002 * (seed % 2))
        for arm in momentum.ARMS
        for gamma in (momentum.SMALL, momentum.LARGE)
        for seed in range(seeds)
    ]
    names = ("data", "arm", "gamma", "seed", "dead_share")
    columns = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    n = len(rows)
    return {**columns, "lr": np.full(n, 1e-3), "step": np.full(n, -1), "alive": np.full(n, np.nan), "steps": np.full(n, 7)}


def verdicts(columns):
    return [f.verdict for f in momentum.findings(columns, {"facebook": "gone"})][:2]


def small(gamma):
    return gamma == momentum.SMALL


def test_momentum_alone_decides():
    assert verdicts(made(lambda arm, gamma: 0.8 * (small(gamma) and arm.momentum))) == ["reproduced", "reproduced"]


def test_normalisation_alone_decides():
    found = verdicts(made(lambda arm, gamma: 0.8 * (small(gamma) and arm.normalised)))
    assert found == ["not reproduced", "not reproduced"]


def test_some_rules_only_is_in_part():
    assert verdicts(made(lambda arm, gamma: 0.8 * (small(gamma) and arm.name.startswith("Nesterov"))))[0] == "in part"


def test_an_interval_that_reaches_over_the_bound_is_in_part():
    columns = made(lambda arm, gamma: 0.0)
    shift = np.where(columns["seed"] % 2 == 0, 0.0, 0.8) * small(columns["gamma"])  # mean .4, and an interval down to .05
    columns["dead_share"] = shift
    e = momentum.difference(columns, "airfoil", "SGD")
    assert e.low < momentum.MATTERS < e.mean
    assert verdicts(columns) == ["in part", "in part"]


def test_curves_have_every_step_once_and_every_net_counts_once():
    units = {"net": np.array([0, 0, 1, 1]), "died": np.array([0, -1, 3, -1]), "dead": np.array([True, False, True, False])}
    course = momentum.survival.Course("sine", "sgd", 0.1, 0.0, momentum.SMALL, seeds=2, steps=5, width=2)
    curves = momentum._curves(course, units)
    assert curves["step"].tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert curves["alive"].tolist() == [0.5] * 6 + [1.0] * 3 + [0.5] * 3


def test_what_was_not_run_has_a_reason():
    found = momentum.findings(made(lambda arm, gamma: 0.0, seeds=1), {"facebook": "gone"})
    assert {f.verdict for f in found} == {"not run"}
    assert [f.why for f in found if "Facebook" in f.claim.text] == ["gone", "gone"]


def test_rules_that_were_not_run_are_not_passed_over():
    columns = made(lambda arm, gamma: 0.0)
    kept = columns["arm"] != "EMA, β = 0.9"
    assert verdicts({name: column[kept] for name, column in columns.items()}) == ["not run"] * 2
    columns["dead_share"][~kept] = np.nan  # while those that diverged are left out
    assert verdicts(columns) == ["not reproduced", "reproduced"]


def test_differences_are_taken_seed_by_seed():
    columns = made(lambda arm, gamma: 0.0)
    columns["dead_share"] = columns["seed"] / 10 + 0.3 * small(columns["gamma"])
    e = momentum.difference(columns, "airfoil", "SGD")
    assert abs(e.mean - 0.3) < 1e-12
    assert e.high - e.low < 0.01
    columns["dead_share"][(columns["arm"] == "SGD") & (columns["seed"] == 3)] = np.nan
    assert momentum.difference(columns, "airfoil", "SGD").n == 7


def test_all_tuned_rules_are_tried_at_the_same_effective_step_sizes():
    """What a constant gradient of 1 moves a weight by in one step, after many."""
    for arm in (arm for arm in momentum.ARMS if arm.tuned):
        np.testing.assert_allclose([rate * settled(arm) for rate in arm.rates()], momentum.EFFECTIVE, rtol=1e-3)


def settled(arm):
    """The size of that step at a learning rate of 1."""
    w = Tensor(np.zeros((1, 1)))
    rules = {"sgd": optim.SGD, "ema": optim.EMAMomentum, "heavy_ball": optim.HeavyBall, "nesterov": optim.Nesterov}
    beta = () if arm.optimizer == "sgd" else (arm.beta,)
    opt = optim.Adam([w], 1.0, arm.beta, 0.999, arm.eps) if arm.optimizer == "adam" else rules[arm.optimizer]([w], 1.0, *beta)
    for _ in range(1500):
        before, w.grad = w.data.copy(), np.ones((1, 1))
        opt.step()
    return float((before - w.data)[0, 0])


def test_adam_with_a_huge_epsilon_is_momentum_without_the_second_moment():
    """Adam's bias correction is a learning rate η/(1 − βᵗ), which after some steps is η."""
    X, y = data.load("sine")
    common = {"widths": (8,), "steps": 400, "seeds": [0, 1], "standardize": False, "gamma": 1.0}
    adam = train.train_mlp(X, y, optimizer="adam", lr=0.01 * momentum.HUGE, eps=momentum.HUGE, beta=0.5, **common)
    ema = train.train_mlp(X, y, optimizer="ema", lr=0.01, beta=0.5, **common)
    sgd = train.train_mlp(X, y, optimizer="ema", lr=0.02, beta=0.5, **common)
    np.testing.assert_allclose(adam.loss[:, -1], ema.loss[:, -1], rtol=0.02)
    assert (np.abs(sgd.loss[:, -1] / ema.loss[:, -1] - 1) > 0.1).all()


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return reproduced(tmp_path_factory.mktemp("momentum"), "momentum")


def test_the_command_trains_draws_and_speaks(short):
    _, output = short
    assert all(f"sine, {arm.name}: " in output for arm in momentum.ARMS)
    assert "not yet dead at step 0" in output


def test_resuming_trains_nothing_and_the_grid_is_whole(short, monkeypatch):
    out, _ = short
    monkeypatch.setattr(momentum.networks, "train", lambda *_: None)
    monkeypatch.setattr(momentum.survival, "_trained", None)
    size = Size(("sine",), 2, 30)
    momentum.train(out / "runs", size, 1, lambda done, total: None)
    columns = momentum.collect(out / "runs", size)
    runs = columns["step"] < 0
    assert runs.sum() == (12 * 2 + 8) * 2  # arms at two γ, and the plane, which has γ = 1 at lr 1e-3 already
    for arm in momentum.ARMS:
        for gamma in (momentum.SMALL, momentum.LARGE):
            assert sorted(momentum.at(columns, "sine", arm.name, gamma)) == [0, 1]
    assert set(columns["arm"][~runs]) == set(momentum.WATCHED)
    assert set(columns["gamma"][~runs]) == {momentum.SMALL}


def test_a_damaged_file_of_survival_is_left_out_not_trained_again(short, monkeypatch):
    out, _ = short
    path = min((out / "runs" / "units").iterdir())
    content = path.read_bytes()
    monkeypatch.setattr(momentum.survival, "_trained", None)
    size = Size(("sine",), 2, 30)
    try:
        path.write_bytes(content[:40])
        columns = momentum.collect(out / "runs", size)
        assert path.read_bytes() == content[:40]
    finally:
        path.write_bytes(content)
    assert len(set(columns["arm"][columns["step"] >= 0])) == len(momentum.WATCHED) - 1
