"""The strategies draw what they say: sizes, layouts, special values, ties, patterns, and say clearly what is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from minirelu.testing import strategies

ROOT = Path(__file__).resolve().parents[1]


def missing(strategy, conditions, examples=300):
    """The names of the conditions that no draw fulfils."""
    left = dict(conditions)

    @settings(max_examples=examples, derandomize=True, database=None)
    @given(strategy)
    def look(drawn):
        for name in [name for name, condition in left.items() if condition(drawn)]:
            del left[name]

    look()
    return set(left)


def test_ragged_sizes():
    sizes = {n: lambda shape, n=n: shape[1] == n for n in (0, 1, 31, 32, 33, 127, 128, 129)}
    assert missing(strategies.ragged_shapes(), sizes) == set()


def subnormal(x):
    return ((x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny)).any()


@np.errstate(invalid="ignore")
def test_what_arrays_draws():
    conditions = {
        "0-d": lambda x: x.ndim == 0,
        "empty": lambda x: x.size == 0,
        "not contiguous": lambda x: x.size > 1 and not x.flags.c_contiguous,
        "negative strides": lambda x: x.size > 1 and min(x.strides) < 0,
        "nan": lambda x: np.isnan(x).any(),
        "inf": lambda x: np.isposinf(x).any() and np.isneginf(x).any(),
        "both zeros": lambda x: ((x == 0) & np.signbit(x)).any() and ((x == 0) & ~np.signbit(x)).any(),
        "subnormal": subnormal,
        "huge": lambda x: x.size > 4 and np.isfinite(x).all() and (np.abs(x) > 1e60).any(),
        "tiny": lambda x: x.size > 4 and (np.abs(x) < 1e-60).all() and (x != 0).all(),
        "ties": lambda x: x.size > 4 and np.isfinite(x).all() and len(np.unique(x)) < x.size,
    }
    assert missing(strategies.arrays(), conditions) == set()


@given(strategies.arrays(np.float32, shape=(3, 2), values="plain"))
def test_arrays_keep_dtype_and_shape(x):
    assert x.dtype == np.float32
    assert x.shape == (3, 2)
    assert np.isfinite(x).all()


@given(strategies.broadcastable(3))
def test_broadcastable_shapes_broadcast(shapes):
    np.broadcast_shapes(*shapes)


def test_what_patterns_draws():
    conditions = {
        "all dead": lambda on: not on.any(),
        "all alive": lambda on: on.all(),
        "one alive": lambda on: on.sum() == 1,
        "every third": lambda on: on[:, ::3].all() and on.sum() == on[:, ::3].size,
        "dead units": lambda on: not on.any(axis=0).all() and on.any() and not on.all(axis=0).any(),
    }
    assert missing(strategies.patterns(4, 9), conditions) == set()


@given(strategies.pre_activations(np.float32))
def test_units_are_active_where_the_pattern_says(drawn):
    z, b, g, pattern = drawn
    assert z.dtype == b.dtype == g.dtype == np.float32
    np.testing.assert_array_equal(z + b > 0, pattern)
    assert not (g == 0).any()


def test_pre_activations_draws_exact_zeros():
    zeros = {"zeros": lambda drawn: (drawn[0] + drawn[1] == 0).any()}
    assert missing(strategies.pre_activations(np.float64, shape=(3, 33)), zeros, 20) == set()


@given(strategies.nets(np.float32))
@settings(max_examples=10)
def test_nets_take_their_batch(drawn):
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
