"""First deaths by layer: against a count by hand from what a training recorded, and what is said and drawn of them."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from minirelu.experiments import deaths, survival

ARM = "Adam, β₁ = 0"
DEEP = survival.Course("airfoil", "adam", 1e-3, 0.0, 1e-4, seeds=3, steps=1500, depth=3, width=6)


def recorded(course, active):
    """Its units, if `active` (nets, steps + 1, units) are the counts of every step."""

    def made(X, y, *, steps, record_every, **_):
        step = np.unique([*range(0, steps, record_every), steps])
        return SimpleNamespace(step=step, active=active[:, step], nonfinite_rows=np.zeros_like(active[:, step]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survival.data_sets, "load", lambda name: (None, None))
        patch.setattr(survival.train, "train_mlp", made)
        return survival._trained(course)


def life(course, rng):
    """Counts of units that live a while, of which some die and of those some come back; every layer has its own pace."""
    shape = course.seeds, course.depth, course.width
    ends = rng.integers(-200, course.steps * np.arange(1, course.depth + 1)[:, None] * 0.7, shape)
    back = ends + rng.integers(30, 3000, shape)
    step = np.arange(course.steps + 1)[:, None, None]
    return ((step < ends[:, None]) | (step > back[:, None])).reshape(course.seeds, -1, course.depth * course.width).astype(int)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 7, 60, 999, 1001, 1500]))
def test_shares_and_times_of_each_layer_are_those_counted_by_hand(seed, steps):
    course = DEEP._replace(steps=steps)
    active = life(course, np.random.default_rng(seed))
    columns = deaths.rows(course, recorded(course, active), ARM)
    early = min(steps, 1000)
    later = range(0, steps, max(steps // 100, 1)) if steps > 1000 else ()
    seen = sorted({*range(0, early, max(early // 50, 1)), early, *later, steps})
    for net in range(course.seeds):
        for layer in range(course.depth):
            units = [active[net, :, layer * course.width + k] for k in range(course.width)]
            first = [next((t for t in seen if unit[t] == 0), None) for unit in units]
            own = deaths.watched(columns, "airfoil", ARM, True, layer + 1) & (columns["seed"] == net)
            assert {0, early, steps} <= set(columns["step"][own])
            left = [np.mean([one is None or one > t for one in first]) for t in columns["step"][own]]
            assert_allclose(columns["alive"][own], left, atol=1e-12)
            times = sorted(np.inf if one is None else one for one in first if one != 0)
            half = times[(len(times) - 1) // 2] if times else np.inf
            mean = np.mean(np.minimum(times, steps)) if times else np.nan
            assert_allclose(columns["half_dead"][own], half if half < np.inf else np.nan)
            assert_allclose(columns["first_death"][own], mean)
            assert_allclose(columns["dead_share"][own], np.mean([unit[-1] == 0 for unit in units]))


def made(*layers, depth=None, steps=2000, nets=4):
    """Columns of nets in whose layers the units died at these steps (-1: never), one more a net to tell nets apart."""
    course = DEEP._replace(seeds=nets, steps=steps, depth=depth or len(layers), width=len(layers[0]))
    died = np.array([[np.array(own) + net * (np.array(own) > 0) for own in layers] for net in range(nets)])
    net, layer, _ = np.indices(died.shape)
    units = {"net": net.ravel(), "layer": layer.ravel() + 1, "died": died.ravel(), "dead": died.ravel() != survival.NEVER}
    return deaths.rows(course, units, ARM)


def words(columns):
    (sentence,) = deaths.sentences(columns, "airfoil", [ARM, "SGD"])
    return sentence


def test_born_dead_early_and_late_deaths_are_told_apart():
    said = words(made([0, 400, 1800, -1], [0, 0, 0, -1]))
    assert "2 layers, γ = 1e-4, n = 4 nets" in said
    assert "born dead 0.25 [0.25, 0.25] | 0.75" in said
    assert "have died by step 1,000 0.50 [0.50, 0.50] | 0.75" in said
    assert "have died by step 2,000 0.75 [0.75, 0.75] | 0.75" in said


def test_half_dead_is_said_of_units_alive_at_step_0_and_only_where_it_exists():
    said = words(made([0, 0, 0, 1200], [0, 300, -1, -1]))
    assert "have died: 1,202 [1,192, 1,211] | more than half never die. " in said  # of 1200 … 1203, read at every 20th step
    some = made([300, 300, 300, -1], [300, 300, 300, -1])
    some["half_dead"][(some["layer"] == 2) & (some["seed"] == 3)] = np.nan
    assert "| more than half never die in 1 of 4 nets. " in words(some)


def test_layers_are_in_the_order_of_their_deaths():
    assert "paired over nets: 2, before 3, before 1 (" in words(made([1500, 1600], [300, 400], [700, -1]))
    columns = made([1500, 1600], [700, -1], [300, 400])
    assert "paired over nets: 3, before 2, before 1 (" in words(columns)
    mixed = np.random.default_rng(0).permutation(len(columns["step"]))
    columns = {name: column[mixed] for name, column in columns.items()}
    seeds = deaths.of_nets(columns, deaths.watched(columns, "airfoil", ARM, True, 2), "seed")
    assert seeds.tolist() == [0, 1, 2, 3]  # net by net whatever the order of the rows


def test_no_layer_is_first_without_an_interval_that_says_so():
    times = [np.array([100.0, 900, 120, 880]), np.array([800.0, 150, 870, 190]), np.array([1500.0, 1550, 1600, 1650])]
    assert deaths.order([*times[:2], times[2] + 1000], 1) == ([1, 2, 3], [False, True])
    chain = [np.zeros(4), np.full(4, 20.0), np.array([0.0, 0, 60, 60])]  # 1 before 2, and 3 before neither nor after
    assert deaths.order(chain, 1) == ([1, 2, 3], [False, False])
    paired = np.array([100.0, 600, 1100, 1600])  # intervals of the means overlap, that of the difference is clear
    assert deaths.order([paired + np.array([20, 22, 24, 22]), paired], 1) == ([2, 1], [True])
    assert deaths.order([np.array([5.0, 5.0])] * 2, 1) == ([1, 2], [False])
    assert deaths.order([paired, paired + 100], 1) == ([1, 2], [True])
    assert deaths.order([paired, paired + 100], 400) == ([1, 2], [False])  # read at every 400th step alone
    barely = [np.zeros(4), np.array([1.0, 2, 3, 4]) * 10]  # at 95 % clear, not as one of the six pairs of four layers
    assert deaths.order(barely, 1)[1] == [True]
    assert deaths.order([*barely, np.full(4, 1e3), np.full(4, 2e3)], 1)[1] == [False, True, True]
    assert "the intervals leave open" in words(made([300, 400], [300, 400]))
    assert "these nets do not tell" in words(made([300, 400], [700, 800], nets=1))
    assert "these nets do not tell" in words(made([0, 0], [700, 800]))  # all born dead: nobody is left to die


@pytest.mark.parametrize("steps", [1, 30])
def test_short_runs_have_no_later_deaths_to_tell_apart(steps):
    said = words(made([0, -1], [1, -1], steps=steps))
    assert said.count("died by step") == 1
    assert f"have died by step {steps} 0.50 [" in said


def test_nets_of_one_layer_and_deep_ones_are_not_mixed():
    deep, one = made([300, 300], [0, 0]), made([-1, -1])
    both = {name: np.concatenate([deep[name], one[name]]) for name in deep}
    alone, by_layer = deaths.sentences(both, "airfoil", [ARM])
    assert [alone] == deaths.sentences(one, "airfoil", [ARM])
    assert [by_layer] == deaths.sentences(deep, "airfoil", [ARM])
    assert lines(deaths.draw_arms, both, [ARM]) == lines(deaths.draw_arms, one, [ARM]) != []
    assert lines(deaths.draw_layers, both, ARM) == lines(deaths.draw_layers, deep, ARM)


def test_a_line_a_layer():
    drawn = lines(deaths.draw_layers, made([300, -1], [0, -1], [-1, -1]), ARM)
    assert [(label, y[0], y[-1]) for label, y in drawn] == [("layer 1", 1, 0.5), ("layer 2", 0.5, 0.5), ("layer 3", 1, 1)]


def lines(draw, columns, arm):
    axes = Figure().subplots()
    draw(axes, columns, "airfoil", arm)
    return [(line.get_label(), line.get_ydata().tolist()) for line in axes.lines]
