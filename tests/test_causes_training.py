"""Recipes trained: kernel and engine agree, seeds do not notice each other, deaths are told apart."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import data
from minirelu.causes import cases, training
from minirelu.causes.recipe import BASE, prepared
from minirelu.causes.with_engine import Training
from minirelu.data import standardised

TABLE = data.read("diabetes")
SMALL = BASE._replace(widths=(8, 8))


def measured(recipe, seeds=(0, 1), steps=40):
    return training.measured(recipe, TABLE.X, TABLE.y, seeds, steps)


@pytest.mark.parametrize("trained_by", [{}, {"pop_art": True}], ids=["kernel", "engine"])
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("activation", "rellu", r"activation was given 'rellu' \(did you mean 'relu'\?\); expected one of relu"),
        ("optimizer", "adamm", r"optimizer was given 'adamm' \(did you mean 'adam'\?\); expected one of"),
        ("optimizer", None, "optimizer was given None; expected one of"),
        ("batch_norm", "yes", "batch_norm was given 'yes'; expected True or False"),
        ("pop_art", 1, "pop_art was given 1; expected True or False"),
        ("clip", -1.0, "clip was given -1.0; expected a finite number, 0 .for any norm. or above"),
        ("clip", np.nan, "clip was given nan; expected a finite number"),
        ("clip", "1", "clip was given '1'; expected a finite number"),
        ("batch", 2.5, "batch must be a whole number, got 2.5"),
        ("batch", 0, "batch is 0; expected a whole number from 1"),
    ],
)
def test_wrong_fields_are_refused_whoever_trains(trained_by, field, value, words):
    with pytest.raises((ValueError, TypeError), match=words):
        measured(SMALL._replace(**{**trained_by, field: value}), steps=1)
    with pytest.raises(ValueError, match="from 2"):
        measured(SMALL._replace(**trained_by, batch_norm=True, batch=1), steps=1)


@pytest.mark.parametrize(
    "recipe",
    [
        SMALL._replace(init="rai", bias=-0.3, negative=0.8, gamma=0.1, delta=2.0),
        SMALL._replace(batch_norm=True, init="he", raw=1.0),
        cases.under_sgd(SMALL.deep(3)._replace(init_scale=0.5, shift=1.0)),
    ],
)
def test_kernel_and_engine_train_the_same_net(recipe):
    """Float32 over 40 steps; train_mlp's own bound is 1e-5 for the error over 100."""
    x, y = prepared(recipe, TABLE.X), standardised(TABLE.y)[0][:, 0]
    a, b = (run(recipe, x, y, [3, 4], 40, True) for run in (training._on_kernel, training._on_engine))
    assert_allclose(a.error, b.error, rtol=1e-4)
    for name in ("step", "born", "dead", "died", "course"):
        assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert_allclose(a.rank, b.rank, rtol=1e-3)


@pytest.mark.parametrize("change", [{}, {"activation": "prelu"}, {"pop_art": True, "clip": 0.1}])
def test_a_seed_is_what_it_is_alone(change):
    recipe = SMALL._replace(**change)
    together, alone = measured(recipe, seeds=(5, 6, 7)), measured(recipe, seeds=(6,))
    for name in training.Outcome._fields[1:]:
        assert_array_equal(getattr(together, name)[1:2], getattr(alone, name), err_msg=name)


def test_born_dead_and_died_in_training_are_told_apart():
    born = measured(SMALL._replace(bias=-9.0))
    assert (born.born == 1).all()
    assert (born.dead == 1).all()
    assert (born.died == 0).all()
    assert (born.rank == 0).all()
    later = measured(SMALL._replace(lr=0.5), steps=200)
    assert (later.born[:, 0] == 0).all()
    assert (later.died.max(axis=1) > 0.3).all()
    assert_allclose(later.worst, later.dead.max(axis=1))


def test_what_diverged_is_not_dead():
    wild = measured(cases.under_sgd(SMALL)._replace(lr=1e6), steps=40)
    assert np.isnan(wild.worst).all()
    assert np.isnan(wild.error[:, -1]).all()
    assert np.isnan(wild.rank).all()


def test_the_course_has_each_step_once_and_ends_with_the_last():
    assert measured(SMALL, steps=41).step.tolist() == [*range(0, 41, 2), 41]


def test_clipping_bounds_every_replicas_own_step():
    """SGD at rate 1 moves a net by its clipped gradient."""
    recipe = SMALL._replace(optimizer="sgd", lr=1.0, clip=1e-3)
    run = Training(recipe, prepared(recipe, TABLE.X), standardised(TABLE.y)[0][:, 0], [0, 1])
    before = [p.data.copy() for p in run.net.parameters()]
    run.go(1)
    moved = sum(((p.data - old) ** 2).sum(axis=(1, 2)) for p, old in zip(run.net.parameters(), before, strict=True)) ** 0.5
    assert_allclose(moved, 1e-3, rtol=1e-2)


def test_pop_art_does_not_notice_the_scale_of_targets():
    usual, tiny = (measured(SMALL._replace(pop_art=True, gamma=g, delta=d), steps=120) for g, d in ((1.0, 0.0), (1e-4, 5.0)))
    assert_allclose(tiny.error[:, -1], usual.error[:, -1], rtol=0.02)
    assert (usual.error[:, -1] < 0.9).all()
    assert (measured(SMALL._replace(gamma=1e-4, delta=5.0), steps=120).error[:, -1] > 100).all()


def test_pop_art_moves_its_targets_and_not_what_the_net_predicts():
    recipe = SMALL._replace(pop_art=True, gamma=3.0, delta=7.0)
    run = Training(recipe, prepared(recipe, TABLE.X), standardised(TABLE.y)[0][:, 0], [0, 1])
    run.go(5)

    def predicted():
        return run.scaler.inverse_transform(run.net(run.x).data[..., 0].astype(np.float64).T)

    before, scale = predicted(), run.scaler.scale_.copy()
    run._normalised(np.full((2, 4, 1), 40.0))
    assert (run.scaler.scale_ > 1.1 * scale).all()
    assert_allclose(predicted(), before, rtol=1e-4, atol=1e-4)  # of about 7; weights are float32


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_the_rank_is_of_some_4096_rows_evenly_spaced_and_only_where_it_is_asked_for(activation, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "effective_rank", lambda H: seen.append(H) or np.zeros(len(H)))
    x = np.linspace(-1, 1, 9001)[:, None]
    recipe = SMALL._replace(activation=activation)
    training.measured(recipe, x, x**2, [0, 1], 1)
    whole = training.measured(recipe, x[::3], x[::3] ** 2, [0, 1], 1)
    assert [H.shape for H in seen] == [(2, 3001, 8)] * 2
    assert_array_equal(whole.rank, [0, 0])
    assert np.isnan(training.measured(recipe, x, x**2, [0, 1], 1, ranked=False).rank).all()
    assert len(seen) == 2
