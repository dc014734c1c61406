"""Figures of causes: that all are drawn, and that what they show are the rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minirelu.causes import cases
from minirelu.estimates import Estimate, estimate
from minirelu.experiments import causes, causes_figures, causes_words
from minirelu.experiments.causes import Row

QUANTITIES = ("born", "dead", "died", "rank", "error", "steps", "fewer", "fit")


def sure(x):
    return Estimate(x, x, x, 4)


@pytest.fixture(scope="module")
def numbers():
    """Every dose and every remedy, each quantity of each row with a number of its own; of SGD some diverged."""
    rng = np.random.default_rng(0)

    def drawn(**names):
        values = {name: sure(rng.uniform(0.1, 0.9)) for name in QUANTITIES}
        return Row("sine", **names, n=4, diverged=int(names["rule"] == "sgd"), never=0, **values)

    rows = []
    for cause in cases.CAUSES:
        rows += [
            drawn(cause=cause.key, rule=rule, dose=dose.label, remedy="none") for rule in causes.RULES for dose in cause.doses
        ]
        rows += [drawn(cause=cause.key, rule="adam", dose=cause.dose.label, remedy=r.key) for r in cases.REMEDIES[1:]]
    rows[3] = rows[3]._replace(n=0, dead=estimate([]), error=estimate([]))
    return rows


def heights(axes, label):
    return next(line.get_ydata() for line in axes.lines if line.get_label() == label)


def means(rows, name):
    return [getattr(r, name).mean for r in rows if getattr(r, name).n]


def test_the_responses_are_the_dead_shares(numbers):
    for cause, axes in zip(cases.CAUSES, causes_figures.responses(numbers).axes, strict=False):
        adam, sgd = (causes.doses(numbers, cause, rule) for rule in ("adam", "sgd"))
        assert_allclose(heights(axes, "Adam"), means(adam, "dead"))
        assert_allclose(heights(axes, "SGD"), means(sgd, "dead"))
        assert_allclose(heights(axes, "at birth"), means(adam, "born"))
        assert len(heights(axes, "some runs diverged")) == len(sgd)
        assert axes.get_title() == cause.title


def test_the_consequences_are_rank_error_and_steps(numbers):
    panels = [np.reshape(part.axes, (3, -1)) for part in causes_figures.consequences(numbers).subfigs]
    for cause, column in zip(cases.CAUSES, np.concatenate([grid.T for grid in panels]), strict=False):
        assert column[0].get_title().replace("\n", " ") == cause.title
        for axes, name in zip(column, ("rank", "error", "steps"), strict=True):
            for rule, label in causes_words.RULE_NAMES.items():
                assert_allclose(heights(axes, label), means(causes.doses(numbers, cause, rule), name))


def test_the_cells_of_the_matrix_are_the_rows(numbers):
    left, right = causes_figures.remedies(numbers).axes
    dead, error = ({cell.get_position(): cell.get_text() for cell in axes.texts} for axes in (left, right))
    for k, cause in enumerate(cases.CAUSES):
        by, healthy = causes.remedied(numbers, cause), causes.doses(numbers, cause, "adam")[0]
        for i, key in enumerate(("none", *(r.key for r in cases.REMEDIES))):
            there = key in by and by[key].n
            assert dead[i, k] == (f"{100 * by[key].dead.mean:.0f}" if there else "div." if key in by else "–")
            assert error[i, k] == (f"{by[key].error.mean / healthy.error.mean:.2g}" if there else "div." if key in by else "–")
