"""The words of the command line become the plan they say, or a sentence."""

import pytest

from minirelu.errors import BackendUnavailableError
from minirelu.experiments import plans, study


def test_nothing_given_is_the_default():
    assert plans.from_options({"gamma": None, "residual": False}) == study.Plan()


def test_lists():
    plan = plans.from_options(
        {
            "gamma": "1, 1e-3",
            "delta": "0,4",
            "depth": "1,2,",
            "width": "50",
            "batch": "8,16",
            "seeds": "2",
            "steps": 7,
            "every": 3,
        }
    )
    assert (plan.gammas, plan.deltas, plan.depths, plan.widths, plan.batches) == ((1, 1e-3), (0, 4), (1, 2), (50,), (8, 16))
    assert (plan.seeds, plan.steps, plan.every) == ((0, 1), 7, 3)
    assert plans.from_options({"seeds": "5,9"}).seeds == (5, 9)
    assert plans.from_options({"seeds": "5,"}).seeds == (5,)
    assert plans.from_options({"gamma": "1,1,0.1,1.0"}).gammas == (1.0, 0.1)  # each once
    assert [rule.name for rule in plans.from_options({"optimizer": "adam,sgd,adam"}).rules] == ["Adam", "SGD"]


def test_optimisers_rates_and_momenta():
    def settings(**given):
        return {rule.name: rule.settings for rule in plans.from_options(given).rules}

    assert settings(optimizer="Adam,sgd") == {"Adam": {"lr": 0.001, "beta1": 0.9}, "SGD": {"lr": 0.1}}
    assert settings(optimizer="heavy-ball", lr="0.5") == {"heavy ball": {"lr": 0.5, "beta": 0.9}}
    assert settings(optimizer="sgd,ema-momentum", lr="1,2", beta="0.5") == {
        "SGD, lr 1": {"lr": 1},
        "SGD, lr 2": {"lr": 2},
        "EMA momentum, lr 1": {"lr": 1, "beta": 0.5},
        "EMA momentum, lr 2": {"lr": 2, "beta": 0.5},
    }
    assert settings(optimizer="heavy_ball,ema") == settings(optimizer="heavy-ball,ema-momentum")
    both = settings(optimizer="sgd,adam,adam-no-momentum", beta="0.5,0.9")
    assert list(both) == ["SGD", "Adam, β 0.5", "Adam, β 0.9", "Adam, no momentum"]
    assert both["Adam, no momentum"]["beta1"] == 0.0


def test_the_papers_settings_and_what_replaces_them():
    plan = plans.from_options({}, paper=True)
    assert (plan.data, plan.steps, len(plan.seeds), plan.batches, plan.widths) == ("airfoil", 250_000, 8, (64,), (200,))
    assert sorted(plan.gammas) == pytest.approx([10.0**k for k in range(-5, 5)], rel=1e-15)
    assert {rule.name: rule.settings["lr"] for rule in plan.rules}["Adam"] == 1e-3
    assert plans.from_options({"steps": 10, "data": "sine"}, paper=True).data == "sine"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gamma": "1;2"}, "--gamma takes numbers separated by commas, got '1;2'"),
        ({"depth": "1.5"}, "--depth takes whole numbers separated by commas, got '1.5'"),
        ({"seeds": "a"}, "--seeds takes a number of seeds, or seeds separated by commas"),
        ({"seeds": "0"}, "--seeds was given 0; expected how many seeds, at least 1, or seeds separated by commas"),
        ({"seeds": ","}, "--seeds takes a number of seeds, or seeds separated by commas, got ','"),
        ({"gamma": ","}, "--gamma takes numbers separated by commas, got ','"),
        ({"gamma": "0"}, "gamma = 0.0: expected a positive number"),
        ({"optimizer": "adm"}, r"--optimizer was given 'adm' \(did you mean 'adam'\?\); expected some of sgd, heavy_ball"),
        ({"lr": "-1"}, "lr = -1.0: expected a positive number"),
        ({"lr": "nan"}, "lr = nan: expected a positive number"),
        ({"optimizer": "adam", "beta": "1"}, "beta = 1.0: expected a number from 0 to below 1"),
        ({"dtype": "half"}, "dtype = 'half': expected one of float32, float64"),
        ({"steps": 5, "every": 6}, "record_every is larger than steps"),
    ],
)
def test_what_cannot_be_read(given, said):
    with pytest.raises(ValueError, match=said):
        plans.from_options(given).grid()


def test_machine():
    plans.check_machine(study.Plan())
    with pytest.raises(ValueError, match="expected one of auto, reference"):
        plans.check_machine(study.Plan(kernels="numbra"))
    with pytest.raises(BackendUnavailableError, match="asked for the cuda kernels"):
        plans.check_machine(study.Plan(kernels="cuda"))
    with pytest.raises(ValueError, match="--device was given 'tpu'; expected cpu or cuda"):
        plans.check_machine(study.Plan(device="tpu"))
    with pytest.raises(ValueError, match="on a GPU those in CUDA train: leave it out"):
        plans.check_machine(study.Plan(device="cuda", kernels="numba"))


def test_description():
    plan = plans.from_options(
        {"data": "/some/where/my.csv", "depth": "1,2", "batch_norm": True, "residual": True, "delta": "4"}
    )
    assert plans.describe(plan) == (
        "90 trainings: 1, 2 hidden layers of 200 ReLUs with residual blocks and batch norm, batch 64, 60,000 steps, 3 seeds; "
        "targets γ·y + δ, δ = 4 with y standardised."
    )
    assert plans.title(plan).startswith(
        "my.csv: 1, 2 x 200 ReLUs, residual, batch norm, 60,000 steps, mean of 3 seeds with 95 %"
    )
