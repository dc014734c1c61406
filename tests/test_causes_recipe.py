"""Recipes: what the net sees and begins with, and that causes and remedies change one thing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import init
from minirelu.causes import cases
from minirelu.causes.recipe import BASE, Draw, prepared, signed
from minirelu.data import standardised
from minirelu.errors import ShapeError

RNG = np.random.default_rng(0)
X = RNG.normal([5.0, -300.0, 0.0], [2.0, 0.1, 40.0], (50, 3))


def drawn(recipe, inputs=3, seed=0):
    rng, draw = init.replicas([seed]), Draw(recipe)
    sides = (inputs, *recipe.widths, 1)
    return [draw(rng, shape, np.float64) for shape in pairwise(sides)]


def test_raw_goes_from_standardised_to_the_columns_as_they_are():
    assert_allclose(prepared(BASE, X), standardised(X)[0], rtol=1e-5, atol=1e-6)
    assert_array_equal(prepared(BASE._replace(raw=1.0), X), X.astype(np.float32))
    half = prepared(BASE._replace(raw=0.5), X)
    assert_allclose(half.std(0), X.std(0) ** 0.5, rtol=1e-3)
    assert_allclose(half.mean(0), 0.5 * X.mean(0) / X.std(0) ** 0.5, rtol=1e-3, atol=1e-4)
    assert_allclose(prepared(BASE._replace(shift=7.0), X).mean(0), 7.0, rtol=1e-5)


@pytest.mark.parametrize("raw", [0.0, 0.25, 0.5, 1.0])
def test_a_constant_column_stays_one_whatever_its_rounding(raw):
    tenths = np.full((60, 1), 0.1)
    assert tenths.std() > 0  # of rounding alone
    assert_allclose(prepared(BASE._replace(raw=raw), tenths), raw * tenths, rtol=1e-6, atol=1e-12)


def test_the_base_draws_what_the_layers_draw():
    rng = np.random.default_rng(3)
    expected = [init.torch_default(rng, shape, np.float64) for shape in ((3, 32), (32, 32), (32, 1))]
    for (W, b), (V, c) in zip(drawn(BASE, seed=3), expected, strict=True):
        assert_array_equal(W[0], V)
        assert_array_equal(b[0], c)


def test_what_is_done_to_hidden_layers_leaves_the_output_alone():
    changed = BASE._replace(init_scale=10.0, bias=-1.0, negative=1.0)
    for (W, b), (V, c), hidden in zip(drawn(changed), drawn(BASE), (True, True, False), strict=True):
        assert_array_equal(W, -10 * np.abs(V) if hidden else V)
        assert_array_equal(b, 10 * c - 1 if hidden else c)


def test_constant_weights_are_constant_and_the_output_is_drawn():
    (W, b), (V, _), (out, _) = drawn(BASE._replace(init="constant", constant=-0.1))
    assert (W == -0.1).all()
    assert (V == -0.1).all()
    assert (b == 0).all()
    assert len(np.unique(out)) == 32


def test_the_first_layer_of_rai_is_hes():
    (W, b), (_, c), _ = drawn(BASE._replace(init="rai"), inputs=32)
    assert (b == 0).all()
    assert not (c == 0).all()
    assert_array_equal(W, init.he(init.replicas([0]), (32, 32), np.float64))


def test_a_draw_begins_anew_after_the_last_layer():
    draw = Draw(BASE._replace(init="rai"))
    for _ in range(2):
        biases = [draw(np.random.default_rng(0), shape, float)[1] for shape in ((32, 32), (32, 32), (32, 1))]
        assert [bool((b == 0).all()) for b in biases] == [True, False, False]


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 1))
def test_signed_keeps_sizes_and_has_the_share_asked_for(seed, share, more):
    W = np.random.default_rng(seed).normal(size=(2, 6, 5))
    made = signed(W, share)
    assert_array_equal(np.abs(made), np.abs(W))
    if share != 0.5:
        assert_array_equal((made < 0).sum(axis=(1, 2)), round(share * 30))
    low, high = (signed(W, s) < 0 for s in sorted((share, more)))
    if 0.5 not in (share, more):
        assert (high | ~low).all()  # what is negative stays so as the share grows
    assert_array_equal(signed(W[0], share), made[0])  # a replica as alone


def test_signed_refuses_what_is_no_share_and_no_matrix():
    with pytest.raises(ValueError, match=r"share of negative weights is 1\.5"):
        signed(np.zeros((2, 2)), 1.5)
    with pytest.raises(ShapeError):
        signed(np.zeros(3), 0.7)


def test_every_dose_changes_one_thing_and_the_first_none():
    for cause in cases.CAUSES:
        first = cause.doses[0].recipe
        assert first == BASE if cause.key != "deep_narrow" else first == BASE.wide(4)
        for dose in cause.doses[1:]:
            fields = {name for name in BASE._fields if getattr(dose.recipe, name) != getattr(first, name)}
            assert len(fields - {"constant"}) == 1, (cause.key, dose.label)
        assert 0 < cause.lethal < len(cause.doses)
    assert len({cause.key for cause in cases.CAUSES}) == len(cases.CAUSES)


def test_a_remedy_takes_its_cause_away_and_nothing_else():
    remedies = {remedy.key: remedy.change for remedy in cases.REMEDIES}
    doses = {cause.key: cause.dose.recipe for cause in cases.CAUSES}
    for cause in ("scale_large", "scale_small", "sign", "constant"):
        assert remedies["he"](doses[cause]) == BASE._replace(init="he")
    assert remedies["he"](doses["bias"]).bias == doses["bias"].bias
    for cause in ("gamma", "delta"):
        assert remedies["targets"](doses[cause]) == BASE
    for cause in ("raw", "shift"):
        assert remedies["inputs"](doses[cause]) == BASE
    assert remedies["lower_lr"](doses["lr"]) == BASE
    assert remedies["sgd"](doses["lr"]).lr == pytest.approx(10 * cases.SGD_RATE)
    for cause in doses.values():
        assert remedies["targets"](cause) == cause._replace(gamma=1.0, delta=0.0)


ILL = BASE._replace(init="constant", init_scale=2.0, negative=0.9, constant=0.1, bias=-1.0, lr=10 * BASE.lr,
                    raw=1.0, shift=3.0, gamma=0.1, delta=5.0)  # fmt: skip
DRAWN = {"init_scale": 1.0, "negative": 0.5, "constant": 0.0}
CHANGED = {
    "none": {},
    **{name: {"init": name, **DRAWN} for name in ("he", "xavier", "rai")},
    **{name: {"activation": name} for name in ("leaky_relu", "prelu", "elu")},
    "batch_norm": {"batch_norm": True},
    "lower_lr": {"lr": BASE.lr},
    "clip": {"clip": 1.0},
    "sgd": {"optimizer": "sgd", "lr": 10 * cases.SGD_RATE},
    "targets": {"gamma": 1.0, "delta": 0.0},
    "pop_art": {"pop_art": True},
    "inputs": {"raw": 0.0, "shift": 0.0},
}


@pytest.mark.parametrize("remedy", [cases.NONE, *cases.REMEDIES], ids=lambda remedy: remedy.key)
def test_a_remedy_sets_its_fields_and_no_other(remedy):
    assert remedy.change(ILL) == ILL._replace(**CHANGED[remedy.key])
