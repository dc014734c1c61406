"""A verdict says no more than the interval allows."""

import pytest

from minirelu.estimates import Estimate
from minirelu.experiments.verdicts import Claim, below, near, not_run, said


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.92, 0.97, "reproduced"),
        (0.90, 0.96, "in part"),
        (0.97, 1.02, "in part"),
        (0.80, 0.90, "not reproduced"),
        (0.8, 1.0, "in part"),
    ],
)
def test_near(low, high, verdict):
    assert near(Estimate((low + high) / 2, low, high, 8), 0.959, 0.05) == verdict


def test_below():
    assert below(Estimate(0.001, 0.0, 0.002, 8), 0.01) == "reproduced"
    assert below(Estimate(0.2, 0.1, 0.3, 8), 0.01) == "not reproduced"
    assert below(Estimate(0.01, 0.0, 0.02, 8), 0.01) == "in part"


def test_one_seed_and_nothing_give_no_verdict():
    assert near(Estimate(0.959, 0.959, 0.959, 1), 0.959, 0.05) == "not run"
    assert below(Estimate(float("nan"), float("nan"), float("nan"), 0), 0.01) == "not run"


def test_words():
    assert said(Estimate(0.9594, 0.954, 0.9641, 8)) == "0.959 [0.954, 0.964]"
    found = not_run(Claim("a", "b", "c"), "no data")
    assert (found.verdict, found.n, found.why) == ("not run", 0, "no data")
