"""Every kernel on every backend against formulas written here; what is refused."""

import functools
import inspect
import itertools
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from exactness import HALVES, assert_same_bits, special_halves
from numpy.testing import assert_array_equal

from minirelu import kernels
from minirelu.errors import BackendUnavailableError, ShapeError
from minirelu.kernels import _jit, _plain, mask
from minirelu.testing.strategies import laid_out, special

DTYPES = [np.float32, np.float64]
UNITS = [0, 1, 31, 32, 33, 127, 128, 129, 1023]  # around the 32 bits of a word, and one long odd row
CHUNK = _jit.ROWS
ROWS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 44]  # around the rows of a chunk, and three chunks
SHAPES = [(3, units) for units in UNITS] + [(B, 5) for B in ROWS] + [(CHUNK + 1, 33)]
LEADING = [(), (3,), (2, 3)]

# -------------------------------------------------------------------------------------------------------- formulas


def formula(z, b):
    """y, mask, active, nonfinite as the docstrings define them; `packbits` does the packing."""
    with np.errstate(all="ignore"):
        s = z + b
    on = s > 0
    y = np.where(on | np.isnan(s), s, z.dtype.type(0))
    padded = np.zeros((*on.shape[:-1], 32 * math.ceil(on.shape[-1] / 32)), bool)
    padded[..., : on.shape[-1]] = on
    packed = np.packbits(padded, axis=-1, bitorder="little").view("<u4")
    return y, packed, np.count_nonzero(on, axis=-2), np.count_nonzero(~np.isfinite(y), axis=-2)


def drawn(shape, dtype, seed=0):
    """z (..., B, O), b (..., 1, O), g (..., B, O); a third of the pre-activations is 0, so that they are on the kink."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=shape).astype(dtype)
    b = rng.normal(size=(*shape[:-2], 1, shape[-1])).astype(dtype)
    z = np.where(rng.random(shape) < 1 / 3, -b, z)
    return z, b, rng.normal(size=shape).astype(dtype)


def assert_forward(found, z, b):
    y, packed, active, nonfinite = formula(z, b)
    assert_same_bits(found[0], y)
    assert_same_bits(found[1], packed.astype(np.uint32))
    assert_same_bits(found[2], active.astype(np.int64))
    assert_same_bits(found[3], nonfinite.astype(np.int64))


def assert_backward(found, g, on):
    """dz bit for bit; db within (B - 1)·eps·Σ|dz| of the exact sum (kernels/relu_backward.py)."""
    dz, db = found
    assert_same_bits(dz, np.where(on, g, g.dtype.type(0)))
    assert db.dtype == g.dtype
    assert db.shape == (*g.shape[:-2], 1, g.shape[-1])
    columns = dz.swapaxes(-1, -2).reshape(db.size, dz.shape[-2]).astype(np.float64)
    exact = np.array([math.fsum(column) for column in columns]).reshape(db.shape)
    size = np.array([math.fsum(column) for column in np.abs(columns)]).reshape(db.shape)
    bound = max(dz.shape[-2] - 1, 0) * np.finfo(g.dtype).eps * size
    assert (np.abs(db - exact) <= bound).all()  # NaN would fail


# ------------------------------------------------------------------------------------------- against the formulas


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("leading", LEADING)
def test_kernels_against_the_formulas(backend, leading, dtype):
    for shape in SHAPES:
        z, b, g = drawn((*leading, *shape), dtype)
        forward = kernels.bias_relu_forward(z, b)
        assert_forward(forward, z, b)
        assert_backward(kernels.relu_backward(g, forward[1]), g, z + b > 0)
        active, nonfinite = kernels.count_units(forward[0])
        assert_same_bits(active, forward[2])
        assert_same_bits(nonfinite, forward[3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_of_the_forward_pass(backend, dtype):
    """Every special value plus every special value, in each of the 40 positions of a row with padding."""
    z = np.resize(special(dtype), (len(special(dtype)), 40))
    for b in special(dtype):
        b = np.full((1, 40), b, dtype)
        found = kernels.bias_relu_forward(z, b)
        assert_forward(found, z, b)
        for ours, theirs in zip(kernels.count_units(found[0]), found[2:], strict=True):
            assert_same_bits(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_of_special_values(backend, dtype):
    """DESIGN §4.2, line by line: s, y, active, non-finite."""
    inf, nan, tiny = np.inf, np.nan, np.finfo(dtype).smallest_subnormal
    lines = [
        (-inf, 0.0, 0, 0),
        (-1.5, 0.0, 0, 0),
        (-tiny, 0.0, 0, 0),
        (-0.0, 0.0, 0, 0),
        (0.0, 0.0, 0, 0),
        (tiny, tiny, 1, 0),
        (1.5, 1.5, 1, 0),
        (inf, inf, 1, 1),
        (nan, nan, 0, 1),
    ]
    s, y, active, nonfinite = (np.array([column]) for column in zip(*lines, strict=True))
    found = kernels.bias_relu_forward(s.astype(dtype), np.full((1, len(lines)), -0.0, dtype))  # -0: the sum keeps its sign
    assert_same_bits(found[0], y.astype(dtype))
    assert found[1].tolist() == [[sum(int(on) << j for j, on in enumerate(active[0]))]]
    assert_array_equal(found[2], active[0])
    assert_array_equal(found[3], nonfinite[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_count_units_of_any_values(backend, dtype):
    """Also of values that no ReLU makes: -inf is non-finite, and not active."""
    y = np.array([[-np.inf, np.inf, np.nan, -1, 0, 2], [-np.inf, 1, 1, 1, -0.0, 2]], dtype)
    active, nonfinite = kernels.count_units(y)
    assert active.tolist() == [0, 2, 1, 1, 0, 2]
    assert nonfinite.tolist() == [2, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values_of_the_backward_pass(backend, dtype):
    """Every special value as a gradient, at an active and at an inactive unit; the sums follow IEEE arithmetic."""
    values = special(dtype)
    g = np.stack([np.repeat(values, 2)] * 2)
    on = np.stack([np.tile([True, False], len(values))] * 2)
    dz, db = kernels.relu_backward(g, mask.pack(on))
    assert_same_bits(dz, np.where(on, g, dtype(0)))
    with np.errstate(all="ignore"):
        assert_same_bits(db[0] + dtype(0), np.where(on[0], g[0] + g[1], dtype(0)) + dtype(0))  # + 0: -0 - 0 may be ±0
    assert not np.signbit(db[0, 1::2]).any()


# ------------------------------------------------------------------------------------------------- order of the sums


def everything(z, b, g):
    forward = kernels.bias_relu_forward(z, b)
    return [*forward, *kernels.relu_backward(g, forward[1]), *kernels.count_units(forward[0])]


@pytest.mark.parametrize("units", [1, 33])
def test_parallel_equals_serial_bit_for_bit(monkeypatch, units):
    """Three replicas in three chunks each, so that the threads share both; one compilation serves all these tests."""
    if _jit.missing():
        pytest.skip(_jit.missing())
    z, b, g = drawn((3, 600, units), np.float32)
    z[..., 5, 0] = np.inf
    with kernels.using("numba"):
        monkeypatch.setattr(_jit, "PARALLEL_FROM", z.size + 1)
        serial = everything(z, b, g)
        monkeypatch.setattr(_jit, "PARALLEL_FROM", 1)
        parallel = everything(z, b, g)
    assert_forward(parallel[:4], z, b)
    for ours, theirs in zip(parallel, serial, strict=True):
        assert_same_bits(ours, theirs)


def test_the_order_of_the_compiled_sums():
    """Rows in order within chunks of 128, chunks in order: it depends on (B, O) alone (DESIGN §4.7)."""
    if _jit.missing():
        pytest.skip(_jit.missing())
    _, _, g = drawn((2 * CHUNK + 44, 33), np.float32)
    with kernels.using("numba"):
        db = kernels.relu_backward(g, mask.pack(np.ones(g.shape, bool)))[1]
    chunks = [np.add.accumulate(g[first : first + CHUNK])[-1] for first in (0, CHUNK, 2 * CHUNK)]
    assert_same_bits(db[0], chunks[0] + chunks[1] + chunks[2])
    assert not np.array_equal(db[0], chunks[2] + chunks[1] + chunks[0])  # the order shows in the last bits


def test_above_the_size_of_the_parallel_version():
    z, b, g = drawn((1, _jit.PARALLEL_FROM // 128 + 1, 128), np.float32)
    forward = kernels.bias_relu_forward(z, b)
    assert_forward(forward, z, b)
    assert_backward(kernels.relu_backward(g, forward[1]), g, z + b > 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [1, 2, 40])
def test_a_replica_does_not_notice_the_others(backend, units, dtype):
    z, b, g = drawn((5, 600, units), dtype)
    stacked = everything(z, b, g)
    for r in range(5):
        for ours, theirs in zip(stacked, everything(z[r], b[r], g[r]), strict=True):
            assert_same_bits(ours[r], theirs)


def test_two_backends_stay_within_the_bound_of_db():
    if _jit.missing():
        pytest.skip(_jit.missing())
    _, _, g = drawn((600, 33), np.float32)
    packed = mask.pack(np.ones(g.shape, bool))
    found = []
    for name in ("reference", "numba"):
        with kernels.using(name):
            found.append(kernels.relu_backward(g, packed)[1])
    bound = 2 * 599 * np.finfo(np.float32).eps * np.abs(g).sum(axis=0, keepdims=True, dtype=np.float64)
    assert (np.abs(found[0].astype(float) - found[1]) <= bound).all()


@pytest.mark.parametrize("units", [1, 31, 33, 1023])
def test_padding_bits_are_0(backend, units):
    ones = np.ones((3, units), np.float32)
    packed = kernels.bias_relu_forward(ones, ones[:1])[1]
    assert packed[:, -1].tolist() == [(1 << units % 32) - 1] * 3


# ------------------------------------------------------------------------------------------------ outputs and inputs


@pytest.mark.parametrize("shape", [(257, 33), (2, 3, 40)])
def test_in_place(backend, shape):
    z, b, g = drawn(shape, np.float32)
    expected = everything(z, b, g)
    work = z.copy()
    y, packed, active, nonfinite = kernels.bias_relu_forward(work, b, out=work)
    assert np.shares_memory(y, work)
    for ours, theirs in zip((work, packed, active, nonfinite), expected, strict=False):
        assert_same_bits(ours, theirs)
    work = g.copy()
    dz, db = kernels.relu_backward(work, packed, out=work[...])  # another view of the same memory counts as in place
    assert np.shares_memory(dz, work)
    assert_same_bits(work, expected[4])
    assert_same_bits(db, expected[5])


def test_rectify_is_the_forward_pass_in_place(backend):
    """Where nothing is non-finite, the compiled version says so with the same read-only zeros each time."""
    for shape, odd in itertools.product([(3, 5), (CHUNK + 1, 33), (2, 4, 40)], [None, np.inf, np.nan]):
        z, b, _ = drawn(shape, np.float32)
        if odd is not None:
            z[..., -1, ::7] = odd
        kernels.bias_relu_forward(z, b)  # compiled by now
        found = kernels.rectify(z.copy(), b)
        assert_forward(found, z, b)
        if backend == "numba":
            assert (found[3] is kernels.no_rows(found[2].shape)) == (odd is None)


def test_outputs_of_ones_own(backend):
    z, b, g = drawn((6, 40), np.float32)
    kept = z.copy(), b.copy(), g.copy()
    expected = everything(z, b, g)
    out, packed, dz_out = np.full_like(z, 9), np.full((6, 2), 0xFFFFFFFF, np.uint32), np.full_like(z, 9)
    found = kernels.bias_relu_forward(z, b, out=out, mask=packed)
    back = kernels.relu_backward(g, packed, out=dz_out)
    assert found[0] is out
    assert found[1] is packed
    assert back[0] is dz_out
    for ours, theirs in zip([*found, *back], expected, strict=False):
        assert_same_bits(ours, theirs)
    for array, before in zip((z, b, g), kept, strict=True):
        assert_same_bits(array, before)


def test_inputs_of_any_layout(backend):
    z, b, g = drawn((2, 7, 40), np.float32)
    expected = everything(z, b, g)
    for layout in ("F", "negative", "sliced"):
        for ours, theirs in zip(everything(*(laid_out(a, layout) for a in (z, b, g))), expected, strict=True):
            assert_same_bits(ours, theirs)
    packed = expected[1]
    for layout in ("F", "negative", "sliced"):
        assert_same_bits(kernels.relu_backward(g, laid_out(packed, layout))[0], expected[4])


def test_inputs_may_be_read_only_and_broadcast(backend):
    z, b, g = drawn((2, 7, 40), np.float32)
    expected = everything(z, np.broadcast_to(b[:1], b.shape).copy(), g)
    for array in (z, b, g):
        array.flags.writeable = False
    for bias in (b[:1], b[0], np.broadcast_to(b[0], b.shape)):
        for ours, theirs in zip(everything(z, bias, g), expected, strict=True):
            assert_same_bits(ours, theirs)


def halves(dtype):
    """z, skip, b, g of 16 bits, special values among them."""
    rng = np.random.default_rng(0)
    z, skip, g = (rng.normal(size=(2, 9, 33)).astype(dtype) for _ in range(3))
    z[0, :, :28] = skip[1, :, -28:] = special_halves(dtype)
    return z, skip, rng.normal(size=(2, 1, 33)).astype(dtype), g


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("choice", ["auto", "reference"])
def test_the_reference_of_16_bits_against_the_formulas(choice, dtype):
    """Sums in float32, one rounding; mask and counts of what is stored; db rounded once."""
    z, skip, b, g = halves(dtype)
    floats = [x.astype(np.float32) for x in (z, skip, b)]
    with kernels.using(choice), np.errstate(all="ignore"):
        for found, s in (
            (kernels.bias_relu_forward(z, b), floats[0] + floats[2]),
            (kernels.residual_relu(z, skip, b), floats[0] + floats[1] + floats[2]),
        ):
            y, *_ = formula(s, np.float32(0))
            _, packed, active, nonfinite = formula(y.astype(dtype).astype(np.float32), np.float32(0))
            right = y.astype(dtype), packed.astype(np.uint32), active.astype(np.int64), nonfinite.astype(np.int64)
            for ours, theirs in zip(found, right, strict=True):
                assert_same_bits(ours, theirs)
        again = kernels.count_units(y.astype(dtype))
        assert_same_bits(again[1], right[3])
        dz, db = kernels.relu_backward(g, packed.astype(np.uint32))
    assert_same_bits(dz, np.where(y > 0, g, np.zeros((), dtype)))
    assert_same_bits(db, dz.astype(np.float64).sum(axis=-2, keepdims=True).astype(np.float32).astype(dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_no_loops_are_compiled_for_16_bits(dtype):
    if _jit.missing():
        pytest.skip(_jit.missing())
    z, skip, b, g = halves(dtype)
    packed = kernels.bias_relu_forward(*(x.astype(np.float32) for x in (z, b)))[1]  # and the quick way knows float32
    before = z.copy()
    calls = [
        lambda: kernels.bias_relu_forward(z, b, out=z),
        lambda: kernels.residual_relu(z, skip, out=z),
        lambda: kernels.relu_backward(g, packed),
        lambda: kernels.count_units(z),
    ]
    for call in calls:
        with (
            kernels.using("numba"),
            pytest.raises(BackendUnavailableError, match="numba kernels take float32 and float64, got"),
        ):
            call()
    assert_same_bits(z, before)
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got"):
        kernels.warm_up(dtype)
    assert kernels.bias_relu_forward(z[:0], b[:0])[0].dtype == dtype


def test_numbers_of_16_bits_in_the_other_order_of_bytes_are_refused():
    with pytest.raises(TypeError, match="y must be float32 or float64, float16 or bfloat16, got"):
        kernels.count_units(np.ones((2, 3), np.dtype(np.float16).newbyteorder()))


Z, BIAS, G = drawn((4, 40), np.float32)
WIDE = np.zeros((9, 40), np.float32)
PACKED = np.zeros((4, 2), np.uint32)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


REFUSED_FORWARD = {
    "z is a list": (lambda out: ([[1.0]], BIAS), {}, TypeError, "z must be a NumPy or CuPy array, or .*, got list"),
    "z is integers": (
        lambda out: (Z.astype(int), BIAS),
        {},
        TypeError,
        "z must be float32 or float64, float16 or bfloat16, got int64",
    ),
    "z has one axis": (lambda out: (Z[0], BIAS), {}, ShapeError, r"at least two axes, got shape \(40,\)"),
    "b has another dtype": (lambda out: (Z, BIAS.astype(float)), {}, TypeError, "z is float32 and b is float64"),
    "b has another width": (lambda out: (Z, BIAS[:, :39]), {}, ShapeError, r"b must be .*\(1, 40\), got \(1, 39\)"),
    "b is a vector": (lambda out: (Z, BIAS[0]), {}, ShapeError, r"got \(40,\)"),
    "b has rows": (lambda out: (Z, Z), {}, ShapeError, r"got \(4, 40\)"),
    "b has replicas": (lambda out: (Z, np.stack([BIAS] * 2)), {}, ShapeError, r"got \(2, 1, 40\)"),
    "out has another shape": (lambda out: (Z, BIAS), {"out": WIDE}, ShapeError, r"out must be float32 \(4, 40\)"),
    "out has another dtype": (lambda out: (Z, BIAS), {"out": np.zeros((4, 40))}, ShapeError, "got float64"),
    "out is not contiguous": (lambda out: (Z, BIAS), {"out": WIDE[::2][:4]}, ValueError, "C-contiguous"),
    "out is read-only": (lambda out: (Z, BIAS), {"out": read_only(Z)}, ValueError, "out is read-only"),
    "mask has another shape": (lambda out: (Z, BIAS), {"mask": np.zeros((4, 1), np.uint32)}, ShapeError, "mask must be"),
    "mask has another dtype": (lambda out: (Z, BIAS), {"mask": np.zeros((4, 2), np.int32)}, ShapeError, "got int32"),
    "mask is read-only": (lambda out: (Z, BIAS), {"mask": read_only(PACKED)}, ValueError, "mask is read-only"),
}


@pytest.mark.parametrize("case", REFUSED_FORWARD)
def test_what_the_forward_pass_refuses(backend, case):
    arguments, outputs, error, sentence = REFUSED_FORWARD[case]
    out, packed = np.full((4, 40), 7, np.float32), np.full((4, 2), 7, np.uint32)
    with pytest.raises(error, match=sentence):
        kernels.bias_relu_forward(*arguments(out), **{"out": out, "mask": packed, **outputs})
    assert (out == 7).all()
    assert (packed == 7).all()


@pytest.mark.parametrize("case", REFUSED_FORWARD)
def test_what_is_compiled_is_refused_all_the_same(case):
    """Loops that are ready check shapes and overlap by themselves, and leave what does not fit to the sentences."""
    if _jit.missing():
        pytest.skip(_jit.missing())
    kernels.bias_relu_forward(Z, BIAS)
    test_what_the_forward_pass_refuses("numba", case)


@pytest.mark.parametrize("shape", [(6, 40), (1100, 4096)], ids=["small", "past the cache"])
def test_arrays_that_are_right_go_the_quick_way_from_the_second_time_on(monkeypatch, shape):
    if _jit.missing():
        pytest.skip(_jit.missing())
    for known in ("_ready", "_streaming", "_checked", "_checked_large"):
        monkeypatch.setattr(kernels, known, {})
    monkeypatch.setattr(_jit, "compiled", functools.cache(_jit.compiled.__wrapped__))  # that know no types yet
    z, b, g = drawn(shape, np.float32)
    expected = [*everything(z, b, g), *kernels.residual_relu(z, g, b)]
    for check in ("forward", "backward", "given"):
        monkeypatch.setattr(kernels.checks, check, lambda *arguments: pytest.fail("the long way"))
    if z.size > _jit.PARALLEL_FROM:
        monkeypatch.setattr(kernels.checks, "given", lambda name, y: y)  # large arrays are counted the long way
    found = [*kernels.bias_relu_forward(z, b), *kernels.relu_backward(g, expected[1])]
    out, dz = z.copy(), g.copy()
    again = [*kernels.bias_relu_forward(out, b, out=out), *kernels.relu_backward(dz, expected[1], out=dz)]
    for ours, theirs in zip(again, found, strict=True):
        assert_same_bits(ours, theirs)
    found += [*kernels.count_units(out), *kernels.residual_relu(z, g, b)]
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_bits(ours, theirs)


@pytest.mark.parametrize("words", [1, 7, 16, 21])
def test_rows_of_a_mask_are_counted_bit_by_bit(words):
    if _jit.missing():
        pytest.skip(_jit.missing())
    from minirelu.kernels import _columns

    rng = np.random.default_rng(words)
    for rows in (1, 6, 7, 8, 64, 128, 255):
        packed = rng.integers(0, 2**32, (rows + 2) * words, np.uint32)
        packed[-words - 1] = 2**32 - 1
        counted = np.full(32 * words + 2, 9, np.uint8)
        planes = np.zeros(_columns.DIGITS * words, np.uint32)
        some = min(rows, _columns.GROUP)  # the first rows of a task, then the rest
        _columns.add(packed, words, some, words, planes)
        _columns.add(packed, (1 + some) * words, rows - some, words, planes)
        _columns.spell(planes, words, counted, 1)
        bits = np.unpackbits(packed.view(np.uint8).reshape(rows + 2, -1), axis=1, bitorder="little")
        assert_array_equal(counted, [9, *bits[1:-1].sum(axis=0), 9])


@pytest.mark.parametrize(
    ("arguments", "outputs", "error", "sentence"),
    [
        (([[1.0]], PACKED), {}, TypeError, "g must be a NumPy or CuPy array, or .*, got list"),
        ((G.astype(int), PACKED), {}, TypeError, "g must be float32 or float64, .*, got int64"),
        ((G, PACKED[:, :1]), {}, ShapeError, r"mask must be uint32 \(4, 2\), got uint32 \(4, 1\)"),
        ((G, PACKED[:3]), {}, ShapeError, r"got uint32 \(3, 2\)"),
        ((G, PACKED.astype(np.int64)), {}, ShapeError, "got int64"),
        ((G, PACKED), {"out": WIDE}, ShapeError, "out must be"),
        ((G, PACKED), {"out": read_only(G)}, ValueError, "read-only"),
        ((G, PACKED), {"out": WIDE[::2][:4]}, ValueError, "C-contiguous"),
    ],
)
def test_what_the_backward_pass_refuses(backend, arguments, outputs, error, sentence):
    with pytest.raises(error, match=sentence):
        kernels.relu_backward(*arguments, **outputs)


@pytest.mark.parametrize("what", ["rows shifted by one", "mask over z", "out over b"])
def test_overlaps_are_refused_and_nothing_is_written(backend, what):
    memory = np.random.default_rng(2).normal(size=(9, 32)).astype(np.float32)
    before = memory.copy()
    z, b = memory[:4], np.ones((1, 32), np.float32)
    outputs = {
        "rows shifted by one": {"out": memory[1:5]},
        "mask over z": {"mask": memory[0, :4].view(np.uint32).reshape(4, 1)},
        "out over b": {"out": memory[4:8]},
    }[what]
    if what == "out over b":
        b = memory[4:5]
    with pytest.raises(ValueError, match="overlaps an input or another output"):
        kernels.bias_relu_forward(z, b, **outputs)
    assert_same_bits(memory, before)


def test_outputs_that_overlap_each_other_are_refused(backend):
    out = np.full((4, 32), 5, np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        kernels.bias_relu_forward(Z[:, :32], BIAS[:, :32], out=out, mask=out[0, :4].view(np.uint32).reshape(4, 1))
    assert (out == 5).all()


def test_overlaps_of_the_backward_pass_are_refused(backend):
    memory = np.full((9, 32), 5, np.float32)
    packed = memory[0, :4].view(np.uint32).reshape(4, 1)
    for g, bitmask, out in ((memory[:4], packed.copy(), memory[1:5]), (memory[4:8], packed, memory[:4])):
        with pytest.raises(ValueError, match="overlaps"):
            kernels.relu_backward(g, bitmask, out=out)
    assert (memory == 5).all()


def test_an_input_that_is_copied_must_not_overlap_the_output_either(backend):
    """z and b that are not contiguous are copied; `out` over their memory would still overwrite the caller's input."""
    memory = np.full((4, 64), 5, np.float32)
    for arguments in ((memory[:, ::2], np.ones((1, 32), np.float32)), (np.ones((4, 32), np.float32), memory[:1, ::2])):
        with pytest.raises(ValueError, match="overlaps"):
            kernels.bias_relu_forward(*arguments, out=memory.reshape(8, 32)[:4])
    assert (memory == 5).all()


@pytest.mark.parametrize("values", [[[1.0]], np.zeros(3), np.zeros((2, 2), int)])
def test_what_count_units_refuses(backend, values):
    with pytest.raises((TypeError, ShapeError), match="y must be"):
        kernels.count_units(values)


# --------------------------------------------------------------------------------------------------------- dispatch


def plainly(function):
    return function


# the words of _plain.py as ordinary functions
WORDS = types.SimpleNamespace(**{n: getattr(f, "py_func", f) for n, f in vars(_plain).items() if callable(f)})


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_reference_and_compiled_loops_take_the_same_arguments(name):
    kernel = kernels.KERNELS[name]
    loops = kernel.numba(plainly, WORDS, False)
    assert list(inspect.signature(loops).parameters) == [
        *inspect.signature(kernel.reference).parameters,
        "scratch",
        "begin",
        "end",
    ]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
def test_the_compiled_loops_are_true_in_plain_python_too(in_place, streaming):
    """The same source without Numba: what is compiled is what is read, and no index is out of bounds."""
    rows = 2 * CHUNK + 2
    z, b, g = drawn((1, rows, 33), np.float64)
    z[0, 3, 2], z[0, 4, 2], z[0, 5, 32] = np.inf, np.nan, np.nan
    names = "bias_relu_forward", "relu_backward", "count_units"
    forward, backward, counts = (kernels.KERNELS[name].numba(plainly, WORDS, streaming) for name in names)
    given, y = z.copy(), np.empty_like(z)
    packed, active, nonfinite = np.empty((1, rows, 2), np.uint32), np.empty((1, 33), np.int64), np.empty((1, 33), np.int64)
    y = given if in_place else y
    with np.errstate(invalid="ignore"):  # 0·inf is how the loops notice an infinity
        forward(given, b, y, packed, active, nonfinite, z, np.empty((0, 0), np.uint8), -1, -1)
    assert_forward((y, packed, active, nonfinite), z, b)
    given = g.copy()
    dz, db = given if in_place else np.empty_like(g), np.empty((1, 1, 33))
    backward(given, packed, dz, db, np.empty((0, 0)), -1, -1)
    assert_backward((dz, db), g, z + b > 0)
    counts(y, active, nonfinite, np.empty((0, 0), np.uint8), -1, -1)
    assert_array_equal(active, np.count_nonzero(z + b > 0, axis=1))
    assert_array_equal(nonfinite, np.count_nonzero(~np.isfinite(y), axis=1))


def test_available_names_every_kernel_and_backend():
    table = kernels.available()
    assert set(table) == {*kernels.KERNELS, "train_mlp"}
    assert {"bias_relu_forward", "relu_backward", "count_units", "residual_relu", "sgd", "adam"} <= set(table)
    for row in table.values():
        assert set(row) == {"reference", "numba", "cuda"}
        assert row["reference"] == "ok"
        assert all(isinstance(why, str) and why for why in row.values())


def test_using_chooses_and_gives_back(monkeypatch):
    calls = []
    kernel = kernels.KERNELS["count_units"]
    noted = kernel._replace(reference=lambda *arrays: calls.append("reference") or kernel.reference(*arrays))
    monkeypatch.setitem(kernels.KERNELS, "count_units", noted)
    with kernels.using("reference"):
        kernels.count_units(Z)
        with kernels.using("auto"):
            kernels.count_units(Z)
        kernels.count_units(Z)
    if _jit.missing():
        pytest.skip(_jit.missing())
    kernels.count_units(Z)
    assert calls == ["reference", "reference"]


def test_using_gives_back_after_an_exception():
    with pytest.raises(ShapeError), kernels.using("reference"):
        kernels.count_units(np.zeros(3))
    assert kernels._choice.get() == kernels._DEFAULT


def test_a_backend_that_cannot_run_is_refused_and_not_replaced(monkeypatch):
    if kernels.available()["count_units"]["cuda"] != "ok":
        with (
            pytest.raises(BackendUnavailableError, match=r"kernels\.using asked for the cuda kernels: "),
            kernels.using("cuda"),
        ):
            pass
    monkeypatch.setattr(_jit, "missing", lambda: "Numba cannot be imported")
    with pytest.raises(BackendUnavailableError, match="asked for the numba kernels: Numba cannot"), kernels.using("numba"):
        pass
    assert kernels.available()["count_units"]["numba"] == "Numba cannot be imported"
    assert_array_equal(kernels.count_units(np.abs(Z) + 1)[0], np.full(40, 4))  # by default the reference steps in


@pytest.mark.parametrize("name", ["", "Numba", "gpu", None])
def test_a_backend_that_does_not_exist(name):
    with pytest.raises(ValueError, match="expected one of auto, reference, numba, cuda"), kernels.using(name):
        pass


COUNT = "import numpy as np; from minirelu import kernels; kernels.count_units(np.ones((2, 3)));"


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        ("reference", "print('compiled', kernels._jit.compiled.cache_info().misses)", "compiled 0"),
        ("cuda", "", "BackendUnavailableError: the variable MINIRELU_KERNELS asked for the cuda kernels"),
        ("fast", "", "ValueError: the variable MINIRELU_KERNELS was given 'fast'; expected one of"),
    ],
)
def test_the_variable(value, code, expected):
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "MINIRELU_KERNELS": value, "PYTHONPATH": str(root)}
    ran = subprocess.run([sys.executable, "-c", COUNT + code], env=environment, capture_output=True, text=True, check=False)
    assert expected in ran.stdout + ran.stderr


def test_warm_up_returns_seconds(monkeypatch):
    monkeypatch.setattr(_jit, "PARALLEL_FROM", 2)
    with kernels.using("reference"):
        seconds = kernels.warm_up()
    assert type(seconds) is float
    assert seconds >= 0


def test_kernels_compile_where_no_folder_can_hold_the_cache(monkeypatch):
    numba = pytest.importorskip("numba")
    tried, njit = [], numba.njit

    def without_locator(**options):
        def decorate(function):
            raise RuntimeError("cannot cache function 'loops': no locator available for file")

        tried.append(options.get("cache", False))
        return decorate if options.get("cache") else njit(**options)

    monkeypatch.setattr(numba, "njit", without_locator)
    loops = _jit.compiled.__wrapped__(kernels.KERNELS["count_units"].numba)
    active, nonfinite = np.empty(40, np.int64), np.empty(40, np.int64)
    loops(np.abs(Z), active, nonfinite, np.empty((0, 0), np.uint8), -1, -1)
    assert tried == [True, False]
    assert active.tolist() == [4] * 40
    assert nonfinite.tolist() == [0] * 40
