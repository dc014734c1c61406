"""The strategies draw what they say: sizes, layouts, special values, ties, patterns, and say clearly what is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from minirelu.testing import strategies

ROOT = Path(__file__).resolve().parents[1]
QUICK = settings(max_examples=2000, deadline=None, database=None)


def draws(strategy, condition):
    try:
        find(strategy, condition, settings=QUICK)
    except NoSuchExample:
        return False
    return True


@pytest.mark.parametrize("size", [1, 31, 32, 33, 127, 128, 129])
def test_ragged_sizes(size):
    assert draws(strategies.ragged_shapes(), lambda shape: shape[1] == size)


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: x.ndim == 0,
        lambda x: x.size == 0,
        lambda x: x.size > 1 and not x.flags.c_contiguous,
        lambda x: x.size > 1 and min(x.strides) < 0,
        lambda x: bool(np.isnan(x).any()),
        lambda x: bool(np.isposinf(x).any()) and bool(np.isneginf(x).any()),
        lambda x: bool(((x == 0) & np.signbit(x)).any()) and bool(((x == 0) & ~np.signbit(x)).any()),
        lambda x: bool(((x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny)).any()),
        lambda x: bool((np.abs(x[np.isfinite(x)]) > 1e60).any()),
        lambda x: x.size > 4 and bool((np.abs(x) < 1e-60).all()) and bool((x != 0).all()),
        lambda x: x.size > 4 and len(np.unique(x)) < x.size and bool(np.isfinite(x).all()),
    ],
    ids=["0-d", "empty", "strided", "negative", "nan", "inf", "zeros", "subnormal", "huge", "tiny", "ties"],
)
def test_arrays_draws(condition):
    assert draws(strategies.arrays(), condition)


@given(strategies.arrays(np.float32, shape=(3, 2), values="plain"))
def test_arrays_keep_dtype_and_shape(x):
    assert x.dtype == np.float32
    assert x.shape == (3, 2)
    assert np.isfinite(x).all()


@given(strategies.broadcastable(3))
def test_broadcastable_shapes_broadcast(shapes):
    np.broadcast_shapes(*shapes)


@pytest.mark.parametrize(
    "condition",
    [
        lambda on: not on.any(),
        lambda on: on.all(),
        lambda on: on.sum() == 1,
        lambda on: on[:, ::3].all() and on.sum() == on[:, ::3].size,
        lambda on: (~on.any(axis=0)).any() and on.any(axis=0).any() and not on.all(axis=0).any(),
    ],
    ids=["all dead", "all alive", "one alive", "every third", "dead units"],
)
def test_patterns_draws(condition):
    assert draws(strategies.patterns(4, 9), condition)


@given(strategies.pre_activations(np.float32))
def test_units_are_active_where_the_pattern_says(drawn):
    z, b, g, pattern = drawn
    assert z.dtype == b.dtype == g.dtype == np.float32
    np.testing.assert_array_equal(z + b > 0, pattern)
    assert not (g == 0).any()


def test_pre_activations_draws_exact_zeros():
    assert draws(strategies.pre_activations(np.float64, shape=(3, 33)), lambda drawn: bool((drawn[0] + drawn[1] == 0).any()))


@given(strategies.nets(np.float32), st.data())
@settings(max_examples=10)
def test_nets_take_their_batch(drawn, data):
    net, x = drawn
    assert net.predict(x).shape == (len(x), 1)
    assert x.dtype == net.parameters()[0].data.dtype == np.float32


def test_without_hypothesis_the_checks_work_and_the_strategies_say_what_is_missing():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import numpy as np\nfrom minirelu import ops, testing\n"
        "print(testing.check_vjp(ops.relu, np.ones(2), rng=np.random.default_rng(0)).comparisons > 0)\n"
        "try:\n    testing.strategies\nexcept ImportError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("True\nminirelu.testing.strategies needs Hypothesis")
    assert "pip install 'minirelu[test]'" in ran.stdout


def test_a_name_that_is_not_there():
    import minirelu.testing

    with pytest.raises(AttributeError, match="no attribute 'strategy'"):
        _ = minirelu.testing.strategy
