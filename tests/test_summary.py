"""Means, intervals, and a paragraph that claims no more than they allow."""

import numpy as np
import pytest
from outcomes import ADAM, SGD, made

from minirelu.experiments import study
from minirelu.experiments.summary import paragraph, series, summary

PLAN = study.Plan(data="gaussian", gammas=(1.0, 1e-4), rules=(SGD, ADAM), widths=(200,), steps=100)


def changed(**fields):
    return study.Plan(**{**vars(PLAN), **fields})


def test_diverged_replicas_are_counted_apart():
    outcomes = made(changed(gammas=(1.0,), rules=(SGD,), seeds=(0, 1)), lambda r: 0.1 if r.seed == 0 else None)
    (row,) = summary(outcomes)
    assert (row.dead.n, row.dead.mean, row.mse.n, row.diverged) == (1, 0.1, 1, 1)
    np.testing.assert_allclose(row.mse.mean, 0.5)
    (row,) = summary(outcomes[1:])
    assert (row.dead.n, row.diverged) == (0, 1)
    assert "SGD – (all diverged). 1 of 1 trainings diverged" in paragraph(outcomes[1:], "x")


def test_series_are_named_by_what_differs():
    def labels(**fields):
        return [line.label for line in series(made(changed(**fields), lambda r: 0.0))]

    assert labels() == ["SGD", "Adam"]
    assert labels(rules=(SGD,), depths=(1, 2)) == ["SGD, depth 1", "SGD, depth 2"]
    assert labels(rules=(SGD,), deltas=(0.0, 4.0)) == ["SGD, δ 0", "SGD, δ 4"]
    (line,) = series(made(changed(rules=(SGD,), gammas=(2.0,), deltas=(4.0, 0.0)), lambda r: 0.0))
    assert (line.label, list(line.at)) == ("SGD", [0.0, 4.0])  # only δ varies: it is the axis


# ------------------------------------------------------------------------------------------------------- paragraph


def says(share, **fields):
    return paragraph(made(changed(**fields), share), "gaussian")


def adam_dies(replica):
    return 0.9 + 0.01 * replica.seed if (replica.rule, replica.gamma) == (ADAM, 1e-4) else 0.0


def test_what_differs_is_said_with_its_numbers():
    assert says(adam_dies) == (
        "Seen on gaussian: after 100 steps, with 3 seeds a setting, the mean share of dead units at γ = 0.0001 and γ = 1 was: "
        "Adam 91.0% [88.5, 93.5] and 0.0% [0.0, 0.4]: more units dead at the smaller γ. "
        "SGD 0.0% [0.0, 0.4] and 0.0% [0.0, 0.4]: no difference shown. "
        "Brackets are 95 % intervals (Student's t); what is called more or fewer allows for 2 comparisons. "
        "All of it holds for these settings and the rows trained on, not beyond."
    )


def test_the_other_direction():
    said = says(lambda r: 0.5 + 0.01 * r.seed if r.gamma == 1 else 0.2)
    assert "SGD and Adam 20.0% [19.6, 20.4] and 51.0% [48.5, 53.5]: fewer at the smaller γ." in said


def test_what_the_intervals_do_not_allow_is_not_claimed():
    scattered = {0: 0.1, 1: 0.9, 2: 0.8}
    assert "more" not in says(lambda r: scattered[r.seed] if r.gamma < 1 else 0.0).partition("Brackets")[0]
    # one seed, however large the difference
    said = says(adam_dies, seeds=(0,))
    assert "no difference shown" in said
    assert "more units" not in said
    assert "One seed gives no interval, and shows nothing" in said
    # one unit of 200 in each of two seeds is within the rounding
    assert "no difference shown" in says(lambda r: 0.005 if r.gamma < 1 else 0.0, rules=(SGD,), seeds=(0, 1))


def test_seeds_are_compared_in_pairs():
    """Seeds that differ much among themselves, each with the same difference: the intervals overlap, the pairs tell."""
    said = says(lambda r: 0.2 * (r.seed + 1) + (0.1 if r.gamma < 1 else 0.0), rules=(ADAM,), seeds=(0, 1, 2))
    assert "Adam 50.0% [0.3, 99.7] and 40.0% [0.0, 89.7]: more units dead at the smaller γ" in said


def test_a_claim_allows_for_the_number_of_comparisons():
    """A difference that one comparison shows, and that twenty comparisons may show by chance."""

    def share(replica):
        return [0.15, 0.2, 0.25][replica.seed] if replica.gamma < 1 else 0.0

    # mean .2 and standard error .029: Student's t for n = 3 is 4.3 at 95 %, and 28 at 99.75 %
    assert "more units" in says(share, rules=(SGD,))
    many = tuple(study.Rule(f"SGD {k}", "SGD", {"lr": 0.1}) for k in range(20))
    assert "more units" not in says(share, rules=many)


def test_one_scale_is_described_and_not_compared():
    said = says(lambda r: 0.25, gammas=(1.0,))
    assert "and γ = 1, the mean share of dead units was: SGD 25.0% [24.6, 25.4]; Adam 25.0% [24.6, 25.4]." in said
    assert "difference" not in said


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_false_alarms_are_rare(seeds):
    """Where both scales have the same law, a difference is claimed in about 5 of 100 studies at most, not more."""
    rng = np.random.default_rng(seeds)
    trials, claimed = 200, 0
    for _ in range(trials):
        outcomes = made(changed(rules=(SGD,), seeds=tuple(range(seeds))), lambda r: float(np.clip(rng.normal(0.5, 0.1), 0, 1)))
        claimed += "no difference shown" not in paragraph(outcomes, "x")
    assert claimed <= trials * 0.05 + 4 * (trials * 0.05 * 0.95) ** 0.5
