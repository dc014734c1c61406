"""Grids: which runs they have, in Python and TOML, and everything that is wrong with them at once."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirelu.errors import GridError
from minirelu.sweep import Grid
from minirelu.sweep.axes import AXES
from minirelu.sweep.grid import Run, from_tables

LEAST = {"data": "sine", "optimizer": "sgd", "lr": 0.1, "seed": 0, "steps": 100}


def test_defaults_are_those_of_the_papers_net():
    (run,) = Grid(data="airfoil", optimizer="adam", lr=1e-3, seed=3, steps=250_000).runs()
    assert run == Run(
        "airfoil", None, 1.0, 0.0, "adam", 1e-3, 0.9, 0.999, 1e-8, 1, 200, "dense", False, 64, "torch_default", 1.0, 0.0,
        "float32", 250_000, 12_500, 3,
    )  # fmt: skip
    assert Run._fields == tuple(AXES)


axes = st.fixed_dictionaries(
    {
        "gamma": st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=3, unique=True),
        "optimizer": st.lists(st.sampled_from(["ema", "adam", "nesterov"]), min_size=1, max_size=3, unique=True),
        "lr": st.lists(st.floats(1e-6, 1), min_size=1, max_size=2, unique=True),
        "width": st.lists(st.integers(1, 300), min_size=1, max_size=2, unique=True),
        "batch_norm": st.sampled_from([[True], [False], [True, False]]),
        "seed": st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3, unique=True),
    }
)


@given(axes)
def test_a_grid_is_the_product_of_its_lists(lists):
    runs = Grid(**{**LEAST, **lists}).runs()
    expected = set(itertools.product(*lists.values()))
    assert {tuple(getattr(run, name) for name in lists) for run in runs} == expected
    assert len(runs) == len(set(runs)) == len(expected)


@given(axes)
def test_what_was_given_can_be_given_again(lists):
    grid = Grid(**{**LEAST, **lists}) + Grid(**LEAST)
    again = from_tables({"grid": grid.axes()})
    assert again.runs() == grid.runs()


def test_settings_that_an_optimiser_ignores_are_zero_and_make_no_further_runs():
    grid = Grid(**{**LEAST, "optimizer": ["sgd", "heavy_ball", "adam"]}, beta=[0.0, 0.5, 0.9], beta2=[0.99, 0.999])
    found = [(run.optimizer, run.beta, run.beta2, run.eps) for run in grid.runs()]
    assert found == [
        ("sgd", 0.0, 0.0, 0.0),
        *(("heavy_ball", beta, 0.0, 0.0) for beta in (0.0, 0.5, 0.9)),
        *(("adam", beta, beta2, 1e-8) for beta in (0.0, 0.5, 0.9) for beta2 in (0.99, 0.999)),
    ]


def test_grids_add_and_runs_of_both_count_once():
    first, second = Grid(**{**LEAST, "seed": range(3)}), Grid(**{**LEAST, "seed": np.arange(2, 5), "lr": np.float32(0.5)})
    both = first + second + first
    assert [(run.seed, run.lr) for run in both.runs()] == [(0, 0.1), (1, 0.1), (2, 0.1), (2, 0.5), (3, 0.5), (4, 0.5)]
    assert all(type(run.lr) is float and type(run.seed) is int for run in both.runs())
    with pytest.raises(TypeError):
        first + 1


def test_toml_says_the_same_as_python(tmp_path):
    (tmp_path / "grid.toml").write_text(
        'data = "sine"\nsteps = 1e2\nseed = [0, 1]\n[[grid]]\noptimizer = "sgd"\nlr = [0.1, 1]\n'
        '[[grid]]\noptimizer = "adam"\nlr = 1e-3\nseed = 5\nbatch_norm = true\n'
    )
    expected = Grid(data="sine", steps=100, seed=[0, 1], optimizer="sgd", lr=[0.1, 1.0])
    expected += Grid(data="sine", steps=100, seed=5, optimizer="adam", lr=1e-3, batch_norm=True)
    assert Grid.from_toml(tmp_path / "grid.toml").runs() == expected.runs()


def problems(settings):
    with pytest.raises(GridError) as caught:
        Grid(**settings)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("gama", 1.0, "there is no axis 'gama' (did you mean 'gamma'?)"),
        ("lr", -0.1, "lr = -0.1: expected a positive number"),
        ("lr", [0.1, float("nan")], "lr = nan: expected a positive number"),
        ("lr", True, "lr = True: expected a positive number"),
        ("lr", "0.1", "lr = '0.1': expected a positive number"),
        ("gamma", 0.0, "gamma = 0.0: expected a positive number"),
        ("delta", float("inf"), "delta = inf: expected a finite number"),
        ("beta", 1.0, "beta = 1.0: expected a number from 0 to below 1"),
        ("width", 0, "width = 0: expected a whole number from 1 to below 2**32"),
        ("depth", 1.5, "depth = 1.5: expected a whole number from 1 to below 2**32"),
        ("seed", -1, "seed = -1: expected a whole number from 0 to 2**64 - 1"),
        ("seed", [], "seed is an empty list; expected at least one value"),
        ("seed", {"count": 3}, "seed = {'count': 3}: expected a whole number"),
        ("optimizer", "addam", "optimizer = 'addam' (did you mean 'adam'?): expected one of sgd, heavy_ball"),
        ("block", "residul", "(did you mean 'residual'?): expected one of dense, residual"),
        ("batch_norm", 1, "batch_norm = 1: expected True or False"),
        ("data", "airfol", "there is no such data set (did you mean 'airfoil'?); expected diabetes"),
        ("data", "no/such.csv", "data = 'no/such.csv': there is no such file"),
        ("record_every", 101, "record_every is larger than steps"),
        ("init", "hee", "(did you mean 'he'?)"),
    ],
)  # fmt: skip
def test_each_wrong_axis_is_a_sentence(name, value, said):
    (problem,) = problems({**LEAST, name: value})
    assert said in problem


def test_all_errors_are_told_at_once():
    found = problems({"gama": 1, "lr": [-1, 0.1, 0], "seed": (), "batch": 1, "batch_norm": True, "data": "sine", "steps": 0})
    words = [
        "'gama'",
        "lr = -1",
        "lr = 0",
        "seed is an empty",
        "batch = 1 with batch_norm",
        "optimizer is missing",
        "steps = 0",
    ]
    assert len(found) == len(words)
    assert all(any(word in problem for problem in found) for word in words)


def test_all_errors_of_a_file_are_told_at_once_with_the_number_of_the_table():
    with pytest.raises(GridError) as caught:
        from_tables({"steps": 10, "grd": [{"lr": 1}], "grid": [{**LEAST, "widht": 3}, {"lr": 2, "optimizer": "adam"}]})
    assert caught.value.problems == [
        "there is no table 'grd' (did you mean 'grid'?); expected [[grid]]",
        "grid 1: there is no axis 'widht' (did you mean 'width'?)",
        "grid 2: data is missing; expected the name of a data set or the path of a CSV file, or a list of such",
        "grid 2: seed is missing; expected a whole number from 0 to 2**64 - 1, or a list of such",
    ]


@pytest.mark.parametrize(("text", "said"), [("lr = ", "is not TOML"), ("grid = []", "headed"), ("grid = 3", "headed")])
def test_a_file_that_is_no_grid(tmp_path, text, said):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(GridError, match=said):
        Grid.from_toml(tmp_path / "grid.toml")


def test_rules_go_by_every_name_that_they_have():
    assert Grid(**{**LEAST, "optimizer": ["heavy-ball", "EMA-momentum"]}).runs() == (
        Grid(**{**LEAST, "optimizer": ["heavy_ball", "ema"]}).runs()
    )
