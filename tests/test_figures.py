"""The figures of a study show every line, panel and interval, and are the same bytes each time."""

from pathlib import Path

import numpy as np
import pytest
from outcomes import ADAM, SGD, made

from minirelu.experiments import figures, study

PLAN = study.Plan(data="gaussian", gammas=(1.0, 1e-2, 1e-4), rules=(SGD, ADAM), widths=(100,), steps=100)


def changed(**fields):
    return study.Plan(**{**vars(PLAN), **fields})


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """A function that draws outcomes and gives the matplotlib figure, which is not written (that takes a second)."""
    kept = []
    monkeypatch.setattr(figures, "write_both", lambda figure, *_: kept.append(figure))

    def draw(function, outcomes):
        function(outcomes, tmp_path, "title")
        return kept[-1]

    return draw


def lines(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_dead_share_and_error_against_gamma(drawn):
    outcomes = made(PLAN, lambda r: 0.9 if r.gamma < 0.1 and r.rule is ADAM else 0.1, lambda r: r.gamma)
    left, right = drawn(figures.dead_and_error, outcomes).axes
    assert (left.get_xscale(), right.get_xscale(), right.get_yscale()) == ("log", "log", "log")
    found = lines(left)
    assert list(found) == ["SGD", "Adam"]
    np.testing.assert_allclose(found["Adam"].get_xydata(), [[1e-4, 90], [1e-2, 90], [1, 10]])
    np.testing.assert_allclose(lines(right)["SGD"].get_xydata(), [[1e-4, 1e-4], [1e-2, 1e-2], [1, 1]])
    assert len(left.collections) == len(right.collections) == 2  # shaded intervals
    low, high = left.collections[1].get_datalim(left.transData).intervaly
    assert low < 10 < 90 < high


def test_one_seed_has_no_shade(drawn):
    left, _ = drawn(figures.dead_and_error, made(changed(seeds=(0,)), lambda r: 0.5)).axes
    assert not left.collections


def test_delta_is_the_axis_if_it_alone_varies(drawn):
    plan = changed(gammas=(1.0,), deltas=(0.0, 4.0, 256.0))
    left, _ = drawn(figures.dead_and_error, made(plan, lambda r: r.delta / 512)).axes
    assert left.get_xlabel() == "target shift δ"
    np.testing.assert_allclose(lines(left)["SGD"].get_xydata(), [[0, 0], [4, 1], [256, 50]])


def test_course_of_one_layer_has_a_panel_for_each_gamma(drawn):
    figure = drawn(figures.dead_over_time, made(PLAN, lambda r: 0.8 if r.rule is ADAM else 0.2))
    assert [axes.get_title() for axes in figure.axes] == ["γ = 0.0001", "γ = 0.01", "γ = 1"]
    course = lines(figure.axes[0])["Adam"].get_xydata()
    np.testing.assert_array_equal(course[:, 0], range(0, 101, 5))
    np.testing.assert_allclose(course[-1], [100, 80])


def test_course_by_layer_has_a_row_for_each_series(drawn):
    figure = drawn(figures.dead_over_time, made(changed(depths=(3,)), lambda r: 0.5))
    assert len(figure.axes) == 2 * 3
    assert list(lines(figure.axes[0])) == ["layer 1", "layer 2", "layer 3"]
    assert [axes.get_title() for axes in figure.axes[2:4]] == ["SGD, γ = 1", "Adam, γ = 0.0001"]


def test_of_many_scales_and_series_some_are_drawn_and_the_title_says_so(drawn):
    plan = changed(gammas=tuple(10.0**k for k in range(-5, 5)), depths=(1, 2, 3, 4), seeds=(0,))
    figure = drawn(figures.dead_over_time, made(plan, lambda r: 0.5))
    assert len(figure.axes) == figures.ROWS * figures.PANELS
    assert figure.axes[0].get_title().endswith("γ = 1e-05")
    assert figure.axes[figures.PANELS - 1].get_title().endswith("γ = 10000")
    assert figure.get_suptitle() == "title; 2 more not drawn"


def test_diverged_trainings_are_left_out(drawn):
    outcomes = made(PLAN, lambda r: None if r.rule is SGD or r.seed == 0 else 0.5)
    left, _ = drawn(figures.dead_and_error, outcomes).axes
    assert len(lines(left)["SGD"].get_xydata()) == 0
    np.testing.assert_allclose(lines(left)["Adam"].get_xydata()[:, 1], 50)
    panel = drawn(figures.dead_over_time, outcomes).axes[0]
    assert len(lines(panel)["SGD"].get_xydata()) == 0
    assert tuple(lines(panel)["Adam"].get_xydata()[-1]) == (100, 50)


def test_nothing_but_diverged_trainings_can_be_drawn(tmp_path):
    outcomes = made(changed(gammas=(1e4, 1.0), seeds=(0, 1)), lambda r: None)
    figures.dead_and_error(outcomes, tmp_path, "title")
    figures.dead_over_time(outcomes, tmp_path, "title")
    assert len(list(tmp_path.iterdir())) == 4


def test_the_same_study_gives_the_same_bytes(tmp_path):
    outcomes = made(changed(gammas=(1.0,), seeds=(0,)), lambda r: None if r.rule is SGD else 0.5)
    png, svg = (Path(path) for path in figures.dead_over_time(outcomes, tmp_path, "title"))
    first = png.read_bytes(), svg.read_bytes()
    assert first[0][:4] == b"\x89PNG"
    assert first[1].startswith(b"<?xml")
    figures.dead_over_time(outcomes, tmp_path, "title")
    assert (png.read_bytes(), svg.read_bytes()) == first
