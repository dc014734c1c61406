"""Scalers: the formulas, exact streams, round trips within a derived bound, hard columns, and scikit-learn around them."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import scalers
from minirelu.errors import NotFittedError, ShapeError
from minirelu.scalers import IdentityScaler, MinMaxScaler, StandardScaler, TargetScaler

EPS = np.finfo(float).eps
TINY = np.finfo(float).smallest_subnormal
KINDS = [TargetScaler(0.01, 3.0), StandardScaler(), MinMaxScaler((-1, 2)), IdentityScaler()]
every_kind = pytest.mark.parametrize("scaler", KINDS, ids=lambda s: type(s).__name__)

# columns of every size: numbers, times a power of two, plus an offset, which makes some columns nearly constant
numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
columns = st.builds(
    lambda values, power, offset: np.ldexp(np.array(values) + offset, power).reshape(-1, 1),
    st.lists(numbers, min_size=1, max_size=20),
    st.integers(-1080, 960),
    st.sampled_from([0.0, 0.0, 1.0, 1e9, 1e17]),
)


@given(columns, st.floats(1e-6, 1e6), st.sampled_from([0.0, 4096.0, -0.1]))
def test_there_and_back_is_within_the_stated_bound(y, gamma, delta):
    for scaler in (TargetScaler(gamma, delta), StandardScaler(), MinMaxScaler((delta, delta + gamma)), IdentityScaler()):
        z = scaler.fit_transform(y)
        assert np.isfinite(z).all()
        back = scaler.inverse_transform(z)
        if isinstance(scaler, IdentityScaler):
            bound = 0.0 * y
        else:
            centre, scale, factor, _ = scaler._affine()
            # the last term: operations that end among the subnormal numbers round to a multiple of the smallest one
            bound = EPS * (4 * np.abs(y - centre) + np.abs(z) / factor * scale + np.abs(y)) + TINY * (4 + scale / factor)
        assert (np.abs(back - y) <= bound).all()
        if (y == y[0]).all():
            assert_array_equal(back, y)


@given(columns, st.integers(-300, 300))
def test_a_power_of_two_changes_nothing(y, power):
    """Hence huge and tiny columns are scaled as those of size 1."""
    y = y / max(np.abs(y).max(), 1e-300)
    y = np.where(np.abs(y) < 2.0**-200, 0.0, y)  # so that no power below makes a subnormal number
    for scaler in (TargetScaler(0.1, 2.0), StandardScaler(), MinMaxScaler()):
        usual = scaler.fit_transform(y)
        if not np.array_equal(scaler._affine()[1], [1.0]):  # a constant column keeps its unit
            assert_array_equal(scaler.fit_transform(np.ldexp(y, power)), usual)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 4000), max_size=6), st.sampled_from([1, 3]))
def test_a_stream_gives_the_same_bits_as_the_whole(seed, cuts, width):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(4000, width)) * 10.0 ** rng.integers(-8, 8, width) + rng.normal(size=width) * 1e3
    for kind in KINDS:
        whole, stream = pickle.loads(pickle.dumps(kind)).fit(y), pickle.loads(pickle.dumps(kind))
        for part in np.split(y, sorted(cuts)):
            if len(part):
                stream.partial_fit(part)
        assert fitted(stream).keys() == fitted(whole).keys()
        for name, value in fitted(whole).items():
            assert_array_equal(fitted(stream)[name], value, err_msg=name)


def fitted(scaler):
    return {name: value for name, value in vars(scaler).items() if name.endswith("_")}


def test_row_by_row():
    y = np.random.default_rng(1).normal(size=(3000, 1))
    stream = StandardScaler()
    for row in y:
        stream.partial_fit(row[None])
    assert_array_equal(stream.transform(y), StandardScaler().fit_transform(y))


def test_formulas():
    y = np.random.default_rng(0).normal(size=(2500, 2)) * [3.0, 1e-5] + [7.0, -2.0]
    unit = (y - y.mean(axis=0)) / y.std(axis=0)
    # sums of 2500 numbers of size 7, divided by a spread of 3 (of 2 by 1e-5 in the second column)
    rounding = 2500 * EPS * np.array([7 / 3, 2 / 1e-5])
    assert (np.abs(TargetScaler(0.01, 3.0).fit_transform(y) - (0.01 * unit + 3.0)) <= rounding).all()
    assert (np.abs(StandardScaler().fit_transform(y) - unit) <= rounding).all()
    low, high = y.min(axis=0), y.max(axis=0)
    assert_array_equal(MinMaxScaler((-1, 2)).fit_transform(y), (y - low) / (high - low) * 3 - 1)
    assert_array_equal(IdentityScaler().fit_transform(y), y)
    assert TargetScaler(0.01, 3.0).fit(y).n_samples_seen_ == 2500


def test_fit_forgets_what_came_before():
    scaler = TargetScaler().fit(np.ones((5, 3)))
    y = np.arange(6.0).reshape(-1, 1)
    assert_array_equal(scaler.fit_transform(y), TargetScaler().fit_transform(y))


@pytest.mark.parametrize("value", [0.0, 0.1, -3e-300, 5e-324, 1e307, 1e17])
@pytest.mark.parametrize("rows", [1, 7, 3000])
def test_constant_columns_become_delta_and_come_back(value, rows):
    y = np.full((rows, 1), value)
    for scaler, expected in ((TargetScaler(10.0, 3.0), 3.0), (StandardScaler(), 0.0), (MinMaxScaler((2, 5)), 2.0)):
        assert_array_equal(scaler.fit_transform(y), np.full((rows, 1), expected))
        assert_array_equal(scaler.inverse_transform(scaler.transform(y)), y)


def test_nearly_constant_columns_follow_scikit_learns_rule():
    sklearn = pytest.importorskip("sklearn.preprocessing")
    steps = np.arange(50.0)[:, None]
    y = np.hstack([1e9 + steps * 1e-7, 1e9 + steps * 1e-6, 1e9 + steps * 1e-4, 1e-9 * steps, 0.1 + 0 * steps, steps])
    theirs, ours = sklearn.StandardScaler().fit(y), StandardScaler().fit(y)
    assert_array_equal(ours.scale_ == 1, theirs.scale_ == 1)
    assert list(ours.scale_ == 1) == [True, False, False, False, True, False]
    # 50 steps of 1e-4 upon 1e9: the spread is known to 50·eps·1e9/1e-4
    assert_allclose(ours.scale_, theirs.scale_, rtol=50 * EPS * 1e9 / 1e-4)


def test_tiny_is_not_constant():
    for size in (1e-17, 1e-200, 1e-310):
        y = np.array([[1.0], [3.0], [2.0]]) * size
        # numbers near 1e-310 have some 13 digits left
        assert_allclose(MinMaxScaler().fit_transform(y), [[0.0], [1.0], [0.5]], rtol=1e-12)
        assert_allclose(StandardScaler().fit_transform(y)[:, 0], np.sqrt([1.5, 1.5, 0]) * [-1, 1, 0], rtol=1e-12, atol=1e-12)


@every_kind
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.5e307])
def test_non_finite_and_overflowing_values_are_named(scaler, bad):
    y = np.ones((4, 3))
    y[2, 1] = bad
    with pytest.raises(ValueError, match=r"row 2, column 1 \(counted from 0\) is .*fill the value in"):
        scaler.fit(y)
    fine = np.arange(12.0).reshape(4, 3)
    scaler.fit(fine)
    before = scaler.transform(fine)
    for use in (scaler.partial_fit, scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match="row 2, column 1"):
            use(y)
    assert_array_equal(scaler.transform(fine), before)  # the refused rows left no trace


@every_kind
def test_shapes_and_states_that_are_refused(scaler):
    fresh = pickle.loads(pickle.dumps(scaler)).set_params(**scaler.get_params())
    fresh.__dict__ = dict(scaler.get_params())
    for use in (fresh.transform, fresh.inverse_transform, lambda _: fresh.get_feature_names_out()):
        with pytest.raises(NotFittedError, match=f"this {type(scaler).__name__} is not fitted; call fit"):
            use(np.ones((2, 1)))
    with pytest.raises(ShapeError, match=r"got shape \(3,\).*y.reshape\(-1, 1\)"):
        fresh.fit([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="at least one row and one column, got 0"):
        fresh.fit(np.ones((0, 2)))
    with pytest.raises(TypeError, match="a dense array"):
        fresh.fit(None)
    with pytest.raises(ValueError, match="real numbers"):
        fresh.fit([["a"], ["b"]])
    fresh.fit(np.ones((3, 2)))
    with pytest.raises(ShapeError, match=r"X has 3 features, but .* is expecting 2"):
        fresh.transform(np.ones((3, 3)))


WRONG = [TargetScaler(0.0), TargetScaler(-1.0), TargetScaler(np.nan), TargetScaler(1.0, np.inf)]
WRONG += [MinMaxScaler((1, 1)), MinMaxScaler((0, np.nan))]


@pytest.mark.parametrize("scaler", WRONG, ids=repr)
def test_settings_that_make_no_sense_are_refused_by_fit(scaler):
    with pytest.raises(ValueError, match=re.escape(repr(scaler))):
        scaler.fit(np.ones((3, 1)))


@every_kind
def test_float32_stays_float32_and_is_computed_in_float64(scaler):
    y = np.random.default_rng(0).normal(size=(100, 1)).astype(np.float32) + np.float32(1000)
    z = scaler.fit_transform(y)
    assert z.dtype == scaler.inverse_transform(z).dtype == np.float32
    assert_array_equal(z, scaler.fit_transform(y.astype(np.float64)).astype(np.float32))
    assert scaler.fit_transform(np.arange(4).reshape(-1, 1)).dtype == np.float64


@every_kind
def test_nothing_is_written_to_the_rows_that_were_given(scaler):
    y = np.arange(6.0).reshape(3, 2)
    z = scaler.fit_transform(y)
    z += 100
    scaler.partial_fit(y)
    assert_array_equal(y, np.arange(6.0).reshape(3, 2))


def test_settings_by_name():
    scaler = TargetScaler(gamma=0.5)
    assert scaler.get_params() == {"gamma": 0.5, "delta": 0.0}
    assert repr(scaler.set_params(delta=2.0)) == "TargetScaler(gamma=0.5, delta=2.0)"
    with pytest.raises(ValueError, match="TargetScaler has no setting gama; expected some of: gamma, delta"):
        scaler.set_params(gama=1.0)


# ----------------------------------------------------------------------------------------------------- scikit-learn


@every_kind
@pytest.mark.filterwarnings("ignore:.*does not inherit from `sklearn.base.BaseEstimator`:UserWarning")
def test_scikit_learns_own_checks_pass(scaler):
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    # these two recognise scikit-learn's own scaler by its class name and give it a setting that only that one has
    only_theirs = ("check_estimator_sparse_array", "check_estimator_sparse_matrix")
    expected = dict.fromkeys(only_theirs, "with_mean") if type(scaler) is StandardScaler else {}
    results = checks.check_estimator(scaler, expected_failed_checks=expected, on_skip=None)
    assert len([r for r in results if r["status"] == "passed"]) > 40


def test_inside_transformed_target_regressor_pipeline_and_search():
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.utils import get_tags

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)) * [1, 100, 10], rng.normal(size=60) * 50 + 1000
    plain = LinearRegression().fit(X, y).predict(X)
    for scaler in KINDS:
        model = make_pipeline(StandardScaler(), TransformedTargetRegressor(LinearRegression(), transformer=scaler))
        # least squares does not care about scale; δ = 3 beside γ = 0.01 costs three digits
        assert_allclose(clone(model).fit(X, y).predict(X), plain, rtol=1e-10)
        copy = clone(scaler)
        assert copy is not scaler
        assert copy.get_params() == scaler.get_params()
        assert fitted(copy) == {}
        assert get_tags(scaler).transformer_tags.preserves_dtype == ["float64", "float32"]
    names = make_pipeline(StandardScaler(), MinMaxScaler()).fit(X).get_feature_names_out(["a", "b", "c"])
    assert list(names) == ["a", "b", "c"]
    grid = {"transformedtargetregressor__transformer": [TargetScaler(0.1), TargetScaler(1.0)]}
    assert GridSearchCV(model, grid, cv=3).fit(X, y).best_score_ <= 1


def test_scikit_learn_is_not_imported():
    code = (
        "import sys; sys.modules.update({'sklearn': None}); from minirelu.scalers import TargetScaler; "
        "TargetScaler().fit_transform([[1.0], [2.0]]); print([m for m in sys.modules if m.startswith(('scipy', 'numba'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


def test_the_list_of_public_scalers():
    public = {name for name, value in vars(scalers).items() if isinstance(value, type) and name.endswith("Scaler")}
    assert public - {"_Scaler"} == {"TargetScaler", "StandardScaler", "MinMaxScaler", "IdentityScaler"}
