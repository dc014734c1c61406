"""Shares of nets with different widths are compared no more finely than either net can say."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minirelu import data
from minirelu.causes.compare import resolution
from minirelu.causes.diagnose import diagnose
from minirelu.causes.recipe import BASE


def test_the_step_is_that_of_the_worst_layer():
    assert resolution(np.array([[0.5, 0.25]]), (2, 32)) == 1 / 2
    assert resolution(np.array([[0.0, 0.25]]), (2, 32)) == 1 / 32
    assert resolution(np.zeros((3, 2)), (32, 2)) == 1 / 2  # of equally bad layers the coarsest
    assert_allclose(resolution(np.array([[0.5, 0.0], [0.0, 0.25]]), (2, 32)), math.sqrt((1 / 4 + 1 / 1024) / 2))
    assert resolution(np.empty((0, 2)), (2, 32)) == 0


@pytest.mark.parametrize(("words", "units"), [("layers of 32,32 units", 32), ("the learning rate 0.0003", 2)])
def test_a_narrow_net_keeps_its_coarse_steps_when_it_is_compared_with_a_wide_one(words, units):
    table, seeds = data.read("sine"), 12
    found = diagnose(table.X, table.y, BASE.wide(2)._replace(bias=-9.0), 3, range(seeds))
    (trial,) = (t for t in found.tested if t.change.words == words)
    step = lambda *of: math.hypot(*(1 / n for n in of)) / math.sqrt(12 * seeds)
    t_one, t_all = 2.200985, 2.980872  # t table, 11 degrees of freedom: .975, and for four suspects .99375
    assert len(found.tested) == 4
    assert_allclose([trial.dead.mean, trial.fewer.mean], [1, 0])
    assert_allclose(trial.dead.mean - trial.dead.low, t_one * step(units), rtol=1e-6)
    assert_allclose(trial.fewer.high, t_all * step(2, units), rtol=1e-6)
