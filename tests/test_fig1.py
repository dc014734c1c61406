"""Figure 1: the paper's grid, its verdicts on made-up numbers, and a very short form of it from end to end."""

import numpy as np
import pytest
from reproducing import reproduced
from typer.testing import CliRunner

from minirelu import cli
from minirelu.experiments import fig1
from minirelu.experiments.networks import Size


def made(dead, seeds=8, names=("airfoil",)):
    """Columns in which the dead share is `dead(name, optimizer, gamma)` and the error the paper's, with a small spread."""
    rows = []
    for name in names:
        for seed in range(seeds):
            jitter = 1 + 0.01 * (seed - seeds / 2)
            for k, gamma in enumerate(fig1.GAMMAS):
                for rule in ("adam", "sgd"):
                    share = dead(name, rule, gamma) + 0.001 * (seed % 2)
                    rows.append((name, rule, gamma, 0.0, fig1.ERROR[name][k] * jitter, share))
            rows += [
                (name, "adam", 1.0, d, e * jitter, 0.0) for d, e in zip(fig1.DELTAS, fig1.ERROR_DELTA[name], strict=True) if d
            ]
    names_ = ("data", "optimizer", "gamma", "delta", "mse", "dead_share")
    columns = {name: np.array(column) for name, column in zip(names_, zip(*rows, strict=True), strict=True)}
    size = len(rows)
    return {
        **columns,
        "lr": np.full(size, 0.01),
        "seed": np.zeros(size, int),
        "steps": np.full(size, 9),
        "wall_seconds": np.ones(size),
    }


def papers(name, rule, gamma):
    return fig1.DEAD[name][fig1.GAMMAS.index(gamma)] if rule == "adam" else 0.0


def verdicts(columns, name="airfoil"):
    return [f.verdict for f in fig1.findings(columns, {}) if f.claim.text.startswith(fig1.networks.title(name))]


def test_the_grid_is_the_papers():
    runs = fig1.adam(fig1.FULL).runs()
    assert len(runs) == 4 * (10 + 6) * 8  # γ = 1, δ = 0 is on both axes
    one = runs[0]
    assert (one.width, one.depth, one.batch, one.steps, one.lr, one.beta, one.init) == (
        200,
        1,
        64,
        250_000,
        1e-3,
        0.9,
        "torch_default",
    )
    (grid,) = fig1.sgd(fig1.QUICK, {("airfoil", "sgd", 0.0, 10.0): 0.03})
    assert {(run.lr, run.gamma, run.data) for run in grid.runs()} == {(0.03, 10.0, "airfoil")}


def test_the_papers_own_numbers_are_reproduced():
    for name in fig1.FULL.data:
        assert verdicts(made(papers, names=(name,)), name) == ["reproduced"] * 5


def test_other_numbers_are_not():
    columns = made(lambda name, rule, gamma: 0.5)
    assert verdicts(columns) == ["not reproduced"] * 3 + ["reproduced"] * 2
    columns["mse"] = 1 / columns["mse"]
    assert verdicts(columns) == ["not reproduced"] * 5


def test_what_was_not_run_says_why():
    found = fig1.findings(made(papers, seeds=1), {"facebook": "no such file"})
    assert {f.verdict for f in found} == {"not run"}
    assert {f.why for f in found if "Facebook" in f.claim.text} == {"no such file"}
    assert all(f.why for f in found)
    assert len(found) == 20


def test_where_sgd_has_no_rate_the_rest_is_told():
    columns = made(lambda name, rule, gamma: 0.3 * (rule == "sgd" and gamma == 1.0))
    gone = (columns["optimizer"] == "sgd") & (columns["gamma"] == fig1.SGD_GAMMAS[-1])
    columns = {name: column[~gone] for name, column in columns.items()}
    (found,) = (f for f in fig1.findings(columns, {}) if "Airfoil: dead share with SGD" in f.claim.text)
    assert found.verdict == "not run"
    assert found.why.startswith("at γ = 100 SGD diverged at every rate tried, or was not run; elsewhere at most 0.30")


def test_diverged_runs_are_left_out():
    columns = made(papers)
    columns["dead_share"][0] = np.nan
    assert fig1.at(columns, "airfoil", "adam", fig1.GAMMAS[0])[0].n == 7


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return reproduced(tmp_path_factory.mktemp("fig1"), "fig1")


def test_the_command_trains_draws_and_speaks(short):
    _, output = short
    assert "sine: dead share with Adam " in output
    assert "After 30 steps" in output


def test_resuming_trains_nothing(short, monkeypatch):
    out, _ = short
    sizes = []
    monkeypatch.setattr(fig1.networks, "train", lambda grid, *_: sizes.append(len(grid.runs())))
    size = Size(("sine",), 2, 30)
    fig1.train(out / "runs", size, 1, lambda done, total: None)
    columns = fig1.collect(out / "runs", size)
    assert sizes[1] == len(columns["data"]) == 2 * (16 + 8)
    assert set(columns["optimizer"]) == {"adam", "sgd"}
    assert np.isin(columns["lr"][columns["optimizer"] == "sgd"], fig1.RATES).all()


def test_data_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("MINIRELU_DATA", raising=False)
    result = CliRunner().invoke(cli.app, ["reproduce", "fig1", "--data", "airfoil", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "MINIRELU_DATA" in result.output
