"""Data sets: shapes, standardisation, splits that keep the test rows apart, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import data
from minirelu.errors import DataError, ShapeError

SHAPES = {"diabetes": (442, 10), "friedman1": (1000, 10), "sine": (1000, 1), "gaussian": (1000, 5)}
every_set = pytest.mark.parametrize("name", SHAPES)

# A mean of 1000 numbers of size 1, and one division: far below 1000 roundings.
ROUNDING = 1000 * np.finfo(float).eps


def load(name, **options):
    if name == "diabetes":
        pytest.importorskip("sklearn", reason="the diabetes set lies inside scikit-learn")
    return data.load(name, **options)


def test_the_list_of_sets():
    assert set(data.SETS) == {*SHAPES, "airfoil", "real_estate", "superconductivity", "facebook"}


@every_set
@pytest.mark.parametrize("standardise", [True, False])
def test_shapes_and_dtype(name, standardise):
    X, y = load(name, standardise=standardise)
    assert X.shape == SHAPES[name]
    assert y.shape == (len(X), 1)
    assert X.dtype == y.dtype == np.float64
    assert np.isfinite(X).all()
    assert np.isfinite(y).all()


@every_set
def test_columns_have_mean_0_and_deviation_1(name):
    X, y = load(name)
    raw_X, raw_y = load(name, standardise=False)
    for columns, raw in ((X, raw_X), (y, raw_y)):
        scale = 1 + np.abs(raw.mean(axis=0)) / raw.std(axis=0)  # a mean far from 0 cancels
        assert (np.abs(columns.mean(axis=0)) <= ROUNDING * scale).all()
        assert_allclose(columns.std(axis=0), 1, rtol=ROUNDING)
        assert_allclose(columns, (raw - raw.mean(axis=0)) / raw.std(axis=0), rtol=0, atol=ROUNDING * scale.max())


@every_set
def test_repeatable_by_seed(name):
    for a, b in zip(load(name, seed=3), load(name, seed=3), strict=True):
        assert_array_equal(a, b)
    differs = any((a != b).any() for a, b in zip(load(name, seed=3), load(name, seed=4), strict=True))
    assert differs == (name != "diabetes")


def test_diabetes_is_scikit_learns():
    sklearn = pytest.importorskip("sklearn.datasets", reason="the diabetes set lies inside scikit-learn")
    X, y = sklearn.load_diabetes(return_X_y=True, scaled=False)
    ours_X, ours_y = data.load("diabetes", standardise=False)
    assert_array_equal(ours_X, X)
    assert_array_equal(ours_y[:, 0], y)


def test_friedman1_is_its_formula_plus_unit_noise():
    X, y = data.load("friedman1", standardise=False)
    assert X.min() >= 0
    assert X.max() < 1
    noise = y[:, 0] - (10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4])
    # five standard errors of a mean and of a variance of 1000 draws; the seed is fixed
    assert abs(noise.mean()) <= 5 / np.sqrt(1000)
    assert abs(noise.var() - 1) <= 5 * np.sqrt(2 / 1000)


def test_gaussian_is_a_linear_target_of_unit_length():
    X, y = data.load("gaussian", standardise=False)
    direction, *_ = np.linalg.lstsq(X, y)
    # least squares with a condition number near 1: some hundred roundings
    assert_allclose(X @ direction, y, rtol=0, atol=1e-13)
    assert_allclose(np.linalg.norm(direction), 1, rtol=1e-13)
    assert abs(X.mean()) <= 5 / np.sqrt(X.size)
    assert abs(X.var() - 1) <= 5 * np.sqrt(2 / X.size)


def test_sine_is_its_formula():
    X, y = data.load("sine", standardise=False)
    assert_array_equal(y, np.sin(2 * np.pi * X))
    assert -1 <= X.min() < -0.9 < 0.9 < X.max() < 1


@every_set
def test_a_table_names_its_columns_and_its_source(name):
    table = data.read(name)
    assert (len(table.inputs), table.X.shape) == (SHAPES[name][1], SHAPES[name])
    assert table.note.startswith(f"{name}: ")
    assert f"{len(table.X):,}" in table.note
    assert_array_equal(table.y, load(name, standardise=False)[1])


def test_another_column_may_be_the_target():
    X, y = data.load("gaussian", standardise=False)
    others, x2 = data.load("gaussian", target="x2", standardise=False)
    assert_array_equal(x2[:, 0], X[:, 1])
    assert_array_equal(others, np.column_stack([X[:, [0, 2, 3, 4]], y]))
    with pytest.raises(DataError, match=r"gaussian has no column 'x9'; it has x1, x2, x3, x4, x5, y"):
        data.load("gaussian", target="x9")


def test_constant_columns_become_0():
    X = np.column_stack([np.full(7, 0.1), np.arange(7.0), np.zeros(7), 1e9 + np.arange(7) * 1e-7, np.full(7, -3e-300)])
    (scaled,) = data.standardised(X)
    assert_array_equal(scaled[:, [0, 2, 4]], np.zeros((7, 3)))
    assert_array_equal(scaled[:, 3], np.zeros(7))  # the spread is rounding error of the mean
    assert_allclose(scaled[:, 1].std(), 1, rtol=ROUNDING)
    tiny = data.standardised(np.array([[1e-100], [3e-100]]))[0]
    assert_array_equal(tiny, [[-1.0], [1.0]])  # small is not constant


def test_others_are_standardised_with_the_training_rows():
    train, other = np.array([[0.0], [2.0]]), np.array([[5.0]])
    assert_array_equal(data.standardised(train, other)[1], [[4.0]])
    constant = data.standardised(np.ones((3, 1)), np.array([[7.0]]))
    assert_array_equal(constant[1], [[0.0]])


def test_split_uses_the_training_rows_alone():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3)) * 4 + 1, rng.normal(size=(50, 1))
    X_train, y_train, X_test, y_test = data.split(X, y, test=0.3, seed=2)
    assert (X_train.shape, y_train.shape, X_test.shape, y_test.shape) == ((35, 3), (35, 1), (15, 3), (15, 1))
    assert_allclose(X_train.mean(axis=0), 0, atol=ROUNDING)
    assert_allclose(X_train.std(axis=0), 1, rtol=ROUNDING)
    assert_allclose(y_train.std(), 1, rtol=ROUNDING)
    spoilt = X.copy()
    order = np.random.default_rng(2).permutation(50)
    spoilt[order[:15]] *= 1000  # rows that are set apart
    again, _, spoilt_test, _ = data.split(spoilt, y, test=0.3, seed=2)
    assert_array_equal(again, X_train)
    assert np.abs(spoilt_test).max() > 100 * np.abs(X_test).max()


def test_split_keeps_every_row_once_and_its_target_with_it():
    X = np.arange(20.0).reshape(-1, 1)
    X_train, y_train, X_test, y_test = data.split(X, 2 * X, test=0.25, seed=0)
    # both columns are standardised by their own numbers, which differ by the exact factor 2
    assert_array_equal(X_train, y_train)
    assert_array_equal(X_test, y_test)
    assert len(np.unique(np.concatenate([X_train, X_test]))) == 20
    assert_array_equal(X_train, data.split(X, 2 * X, test=0.25, seed=0)[0])
    assert (X_train != data.split(X, 2 * X, test=0.25, seed=1)[0]).any()


@pytest.mark.parametrize("test", [0.0, 0.01, 0.99, 1.0, 2.0, -0.5])
def test_a_split_must_leave_rows_on_both_sides(test):
    with pytest.raises(ValueError, match=f"test={test} of 10 rows"):
        data.split(np.ones((10, 1)), np.ones((10, 1)), test=test)


def test_a_split_needs_as_many_targets_as_rows():
    with pytest.raises(ShapeError, match="X has 10 rows and y has 9"):
        data.split(np.ones((10, 1)), np.ones((9, 1)))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="no data set called 'iris'; expected one of diabetes, friedman1, sine, gaussian, air"):
        data.load("iris")
    with pytest.raises(DataError, match=r"'airfoyl' \(did you mean 'airfoil'"):
        data.load("airfoyl")


def test_without_scikit_learn_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'minirelu\[lab\]'"):
        data.load("diabetes")
    assert data.load("gaussian")[0].shape == (1000, 5)


def test_importing_data_does_not_import_scikit_learn():
    code = "import sys, minirelu.data; sys.exit(any(m in sys.modules for m in ('sklearn', 'polars', 'gzip', 'csv')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_standardising_changes_no_digit_by_the_size_of_the_numbers():
    X = np.random.default_rng(0).normal(3, 2, (40, 3))
    (expected,) = data.standardised(X)
    assert_array_equal(expected, (X - X.mean(axis=0)) / X.std(axis=0))
    for exponent in (1020, -900):
        assert_array_equal(data.standardised(np.ldexp(X, exponent))[0], expected)
    (subnormal,) = data.standardised(np.array([[1e-320], [3e-320]]))
    assert_array_equal(subnormal, [[-1.0], [1.0]])


def test_what_is_not_finite_is_not_standardised():
    X, y = np.ones((10, 2)), np.arange(10.0)[:, None]
    X[3, 1] = np.nan
    with pytest.raises(DataError, match="NaN or an infinity"):
        data.split(X, y)
