"""Momentum or normalisation: what the switches are, verdicts on made-up numbers, and a very short form from end to end."""

import numpy as np
import pytest
from reproducing import reproduced

from minirelu import data, optim, train
from minirelu.experiments import momentum, networks, reproduce
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
    assert output.count("not yet dead at step 0") == len(momentum.WATCHED)
    assert all(f"sine, {arm}, 4 layers, γ = 1e-4, n = 2 nets; layer by layer: born dead" in output for arm in momentum.DEEP)


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
    assert set(columns["gamma"][~runs]) == {momentum.SMALL}
    assert {*zip(columns["layer"][runs], columns["depth"][runs], strict=True)} == {(0, 1)}
    deep = columns["depth"] == 4
    assert set(columns["arm"][~runs & ~deep]) == set(momentum.WATCHED)
    assert set(columns["arm"][deep]) == set(momentum.DEEP)
    for arm in momentum.WATCHED:
        own = ~runs & (columns["arm"] == arm)
        seen = [*zip(*(columns[name][own] for name in ("depth", "layer", "seed", "step")), strict=True)]
        assert len(seen) == len(set(seen))
        assert {layer for depth, layer, *_ in seen if depth == 4} == ({1, 2, 3, 4} if arm in momentum.DEEP else set())


def test_the_figure_has_a_row_more_for_each_rule_of_deep_nets(short):
    out, _ = short
    columns = momentum.collect(out / "runs", Size(("sine",), 2, 30))
    rows = [[line.get_label() for line in axes.lines] for axes in momentum.draw(columns).axes]
    assert rows[2] == list(momentum.WATCHED)
    assert rows[3:] == [[f"layer {k}" for k in (1, 2, 3, 4)]] * 2
    shallow = columns["depth"] == 1
    assert len(momentum.draw({name: column[shallow] for name, column in columns.items()}).axes) == 3


def test_the_cost_model_counts_what_is_watched_until_it_is_there(short, tmp_path, monkeypatch):
    monkeypatch.delenv("MINIRELU_DATA", raising=False)
    out, _ = short
    size = Size(("sine", "airfoil"), 2, 30)  # the latter is not there
    assert reproduce.predicted("momentum", out / "runs", size) == 0
    alone = networks.expected(momentum.planned(size), tmp_path)
    assert reproduce.predicted("momentum", tmp_path, size) > 1.5 * alone
    assert reproduce.predicted("momentum", tmp_path, Size(("airfoil",), 2, 30)) == 0
    assert reproduce.predicted("fig3", tmp_path, None) == 0


@pytest.mark.parametrize(("steps", "deep"), [(30, 30), (4000, 500), (10_000, 10_000), (250_000, 40_000)])
def test_deep_nets_are_trained_for_fewer_steps(steps, deep):
    courses = [c for _, c in momentum._courses(Size(("airfoil",), 2, steps), {}) if c.depth == momentum.DEPTH]
    assert [(c.steps, c.beta, c.lr) for c in courses] == [(deep, 0.0, 1e-3), (deep, 0.9, 1e-3)]


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
    watched = columns["step"] >= 0
    kinds = {*zip(columns["arm"][watched], columns["depth"][watched], strict=True)}
    assert len(kinds) == len(momentum.WATCHED) + len(momentum.DEEP) - 1
