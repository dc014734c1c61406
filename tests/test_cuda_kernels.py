"""The .cu texts, executed on the CPU behind the launchers that start them on a GPU, against the NumPy references.

The stand-in for CuPy runs every launch of a fiber a CUDA thread, in an order shuffled by a seed (cuda_on_cpu.py).
"""

import functools
import itertools
import re
import sys
from pathlib import Path

import cuda_on_cpu
import fake_cupy
import numpy as np
import pytest
from exactness import HALVES, assert_same_bits, special_halves
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from minirelu import Tensor, kernels
from minirelu.errors import BackendUnavailableError
from minirelu.kernels import _cuda
from minirelu.kernels.optimiser_step import RULES
from minirelu.testing.strategies import special

pytestmark = pytest.mark.skipif(bool(cuda_on_cpu.missing()), reason=cuda_on_cpu.missing() or "g++ is there")
KERNELS = Path(_cuda.__file__).parent
DTYPES = [np.float32, np.float64]
ALL = [*DTYPES, *HALVES]
VERSIONS = [1, 2, 3]
# ragged and whole rows of 16 bytes; one slab of 128 rows and several; one strip of 1024 units and several
SHAPES = [(1, 1), (3, 33), (2, 36), (5, 4, 31), (129, 5), (2, 130, 132), (257, 64), (2, 1028), (1, 1025)]
SHAPES_OF_HALVES = [(3, 33), (2, 40), (5, 4, 31), (2, 130, 136), (257, 64), (2, 1032)]  # the same for 8 numbers in 16 bytes


def normal(shape, dtype, seed=0):
    """Normal numbers, some of them infinite, NaN or ±0; of 16 bits also the largest one, of which two overflow."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape).astype(dtype)
    largest = [65504.0] if dtype == np.float16 else []
    strange = rng.choice(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, *largest], dtype), shape)
    return np.where(rng.random(shape) < 0.1, strange, values)


def filled(cupy, like):
    """Device arrays full of what no kernel writes."""
    return [cupy.asarray(np.full_like(a, 7)) for a in like]


def reference(name, *arguments):
    with kernels.using("reference"), np.errstate(all="ignore"):
        return getattr(kernels, name)(*arguments)


def check_forward(cupy, z, skip, b, version, in_place=False):
    """Both forward kernels and the counts of their input."""
    check_rectifier(cupy, "bias_relu_forward", (z, b), z, skip, b, version, in_place)
    check_rectifier(cupy, "residual_relu", (z, skip, b), z, skip, b, version, in_place)
    check_counts(cupy, z, version)


def check_rectifier(cupy, name, inputs, z, skip, b, version, in_place=False):
    expected = reference(name, *inputs)
    source = cupy.asarray(z)
    y, *others = filled(cupy, expected)
    y = source if in_place else y
    kernels.KERNELS[name].cuda(source, cupy.asarray(b), y, *others, cupy.asarray(skip), version=version)
    for found, right in zip((y, *others), expected, strict=True):
        assert_same_bits(found, right)


def check_counts(cupy, y, version):
    expected = reference("count_units", y)
    counts = filled(cupy, expected)
    kernels.KERNELS["count_units"].cuda(cupy.asarray(y), *counts, version=version)
    for found, right in zip(counts, expected, strict=True):
        assert_same_bits(found, right)


def check_backward(cupy, g, mask, version, in_place=False):
    """dz bit for bit, db within the bound of kernels/relu_backward.py."""
    dz, db = reference("relu_backward", g, mask)
    source = cupy.asarray(g)
    found = [source, *filled(cupy, [db])] if in_place else filled(cupy, [dz, db])
    kernels.KERNELS["relu_backward"].cuda(source, cupy.asarray(mask), *found, version=version)
    assert_same_bits(found[0], dz)
    ours = found[1].get()
    if dz.itemsize == 2:
        check_rounded_sums(ours, dz)
        return
    sound = np.isfinite(dz).all(axis=-2, keepdims=True)
    with np.errstate(all="ignore"):
        bound = 2 * dz.shape[-2] * np.finfo(dz.dtype).eps * np.abs(dz).sum(axis=-2, keepdims=True)
        assert (np.abs(ours - db) <= bound)[sound].all()
    assert_array_equal(ours[~sound], db[~sound])  # infinities and NaN do not depend on the order


def check_rounded_sums(db, dz):
    """Rounding never changes the order of two numbers, so db lies between the rounded ends of what a float32 sum may be."""
    with np.errstate(all="ignore"):
        exact, size = (x.sum(axis=-2, keepdims=True) for x in (dz.astype(np.float64), np.abs(dz.astype(np.float64))))
        far = dz.shape[-2] * np.finfo(np.float32).eps * size
        low, high = ((exact + sign * far).astype(np.float32).astype(dz.dtype).astype(np.float32) for sign in (-1, 1))
        db = db.astype(np.float32)
    sound = size + far < np.finfo(np.float32).max  # no partial sum overflows
    assert ((low <= db) & (db <= high))[sound].all()
    strange = ~np.isfinite(exact)
    assert_array_equal(db[strange], exact[strange])  # infinities and NaN do not depend on the order


def check_step(cupy, rule, shape, dtype, version):
    x, g = normal(shape, dtype), normal(shape, dtype, 1)
    state = [np.abs(normal(shape, dtype, 2 + i)) for i in range(len(RULES[rule][1]))]
    for columns in {1, shape[0] if len(shape) == 3 else 1}:
        c = np.abs(np.random.default_rng(5).normal(size=(len(RULES[rule][0]), columns))).astype(dtype)
        moved, new = [s.copy() for s in state], np.empty_like(x)
        with np.errstate(all="ignore"):
            kernels.KERNELS[rule].reference(x, g, new, c, *moved)
        found, *on_device = filled(cupy, [new]) + [cupy.asarray(s) for s in state]
        kernels.KERNELS[rule].cuda(cupy.asarray(x), cupy.asarray(g), found, cupy.asarray(c), *on_device, version=version)
        for ours, right in zip((found, *on_device), (new, *moved), strict=True):
            assert_same_bits(ours, right)


# ------------------------------------------------------------------------------------------------------- every step


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_step_of_the_ladder_equals_the_reference(version, dtype):
    for seed, shape in enumerate(SHAPES_OF_HALVES if dtype in HALVES else SHAPES):
        z, skip, g = (normal(shape, dtype, s) for s in (0, 1, 2))
        b = normal((*shape[:-2], 1, shape[-1]), dtype, 3)
        mask = reference("bias_relu_forward", z, b)[1]
        with cuda_on_cpu.installed(seed=seed) as cupy:
            check_forward(cupy, z, skip, b, version, in_place=seed % 2 == 1)
            check_backward(cupy, g, mask, version, in_place=seed % 2 == 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("version", VERSIONS)
def test_optimiser_steps_have_the_bits_of_numpy(rule, version):
    for dtype in DTYPES:
        for shape in ((1, 1), (33, 5), (3, 4, 5), (2, 33, 40)):
            with cuda_on_cpu.installed(seed=3) as cupy:
                check_step(cupy, rule, shape, dtype, version)


def property_of_ragged_sizes(flavour, sizes, dtypes=ALL, change=lambda source: source):
    @given(data=st.data(), version=st.sampled_from(VERSIONS), dtype=st.sampled_from(dtypes), seed=st.integers(0, 2**16))
    def holds(data, version, dtype, seed):
        R, B, O = (data.draw(st.integers(1, high)) for high in sizes)  # noqa: E741
        z, skip, g = (normal((R, B, O), dtype, seed + s) for s in (0, 1, 2))
        b = normal((R, 1, O), dtype, seed + 3)
        multiprocessors = 1 + seed % 3
        with cuda_on_cpu.installed(seed, flavour, multiprocessors, change) as cupy:
            check_forward(cupy, z, skip, b, version)
            check_backward(cupy, g, reference("bias_relu_forward", z, b)[1], version)

    return holds


# by make test float32 alone under the watcher: what is not compiled takes no time
QUICK = {"dtypes": [np.float32], "change": cuda_on_cpu.float32_only}
test_ragged_sizes_in_any_order_of_threads = settings(max_examples=20)(property_of_ragged_sizes(cuda_on_cpu.PLAIN, (3, 300, 70)))
test_no_race_and_no_access_outside = settings(max_examples=6)(
    property_of_ragged_sizes(cuda_on_cpu.WATCHED_AT_ONCE, (2, 140, 40), **QUICK)
)
test_more_races_that_are_not_there = pytest.mark.long(
    settings(max_examples=1000)(property_of_ragged_sizes(cuda_on_cpu.WATCHED, (3, 400, 150)))
)


def check_that_optimisers_touch_nothing_else(rules, dtypes, seeds, change=lambda source: source):
    for rule, version, dtype, seed in itertools.product(rules, VERSIONS, dtypes, seeds):
        with cuda_on_cpu.installed(seed=seed, flavour=cuda_on_cpu.WATCHED_AT_ONCE, change=change) as cupy:
            check_step(cupy, rule, (2, 7, 12), dtype, version)


def test_optimisers_touch_nothing_else():
    check_that_optimisers_touch_nothing_else(["sgd", "adam"], [np.float32], [9], cuda_on_cpu.float32_only)


@pytest.mark.long
def test_no_optimiser_touches_anything_else_in_many_schedules():
    check_that_optimisers_touch_nothing_else(RULES, DTYPES, range(16))


def check_special_values(cupy, version, dtype):
    """Every special value plus every special value, in every place of a word; as a gradient at active and inactive units."""
    values = special_halves(dtype) if dtype in HALVES else special(dtype)
    if dtype not in HALVES:
        assert ((values != 0) & (np.abs(values) < np.finfo(dtype).tiny)).any(), "the table has subnormal numbers"
    z = np.resize(values, (len(values), 40))
    for b in values:
        check_forward(cupy, z, z[::-1].copy(), np.full((1, 40), b, dtype), version)
    mask = kernels.mask.pack(np.arange(40 * len(values)).reshape(z.shape) % 3 > 0)
    check_backward(cupy, z, mask, version)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_of_special_values(version, dtype):
    with cuda_on_cpu.installed() as cupy:
        check_special_values(cupy, version, dtype)


# ----------------------------------------------------------------------------------------------------------- 16 bits

# what no kernel has by itself: the conversions, each in an entry of its own
CONVERSIONS = """
template <class T> __device__ void convert(const T *x, float *wider, const float *s, T *nearest, i64 n, i64 m) {
    for (i64 i = threadIdx.x; i < n; i += blockDim.x) wider[i] = wide(x[i]);
    for (i64 i = threadIdx.x; i < m; i += blockDim.x) nearest[i] = narrow<T>(s[i]);
}
#define ENTRY(T, name) \\
    extern "C" __global__ void name(const T *x, float *w, const float *s, T *y, i64 n, i64 m) { convert(x, w, s, y, n, m); }
ENTRY(f16, float16)
ENTRY(bf16, bfloat16)
"""


def every(dtype):
    """All 65,536 numbers of `dtype`, as (256, 256)."""
    return np.arange(1 << 16, dtype=np.uint16).view(dtype).reshape(256, 256)


@pytest.mark.parametrize("dtype", HALVES)
def test_numbers_of_16_bits_are_converted_as_by_numpy(dtype):
    """All of them; and back from each, from the middle of two neighbours, and from the floats beside these."""
    x = every(dtype).ravel()
    with np.errstate(all="ignore"):
        wider = x.astype(np.float32)
        middle = ((wider[:-1].astype(float) + wider[1:]) / 2).astype(np.float32)
        near = np.concatenate([wider, middle])
        s = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
        nearest = s.astype(dtype)
    found = np.empty_like(wider), np.empty_like(nearest)
    arguments = (x, found[0], s, found[1], x.size, s.size)
    cuda_on_cpu.Library(_cuda.source() + CONVERSIONS).launch(np.dtype(dtype).name, (1,), (64,), arguments)
    assert_same_bits(found[0], wider)
    assert_same_bits(found[1], nearest)


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_16_bits_are_rounded_once(dtype):
    """All numbers, each plus a special one: in float64, where no digit is lost, and by the type's own addition."""
    z, b = every(dtype), np.resize(special_halves(dtype), (1, 256))
    with np.errstate(all="ignore"):
        exact = (z.astype(np.float64) + b.astype(np.float64)).astype(dtype)
        assert_same_bits(exact, z + b)
        on, strange, beyond = exact > 0, ~np.isfinite(exact) & (exact != -np.inf), np.isfinite(z) & np.isfinite(b)
        y = np.where(on | np.isnan(exact), exact, np.zeros((), dtype))
        counts = (z > 0).sum(0), (~np.isfinite(z)).sum(0)
    assert (strange & beyond).any(), "some sums overflow by rounding"
    with cuda_on_cpu.installed() as cupy:
        found = kernels.bias_relu_forward(cupy.asarray(z), cupy.asarray(b)) + kernels.count_units(cupy.asarray(z))
    for ours, right in zip(found, (y, kernels.mask.pack(on), on.sum(0), strange.sum(0), *counts), strict=True):
        assert_same_bits(ours, right)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_gradient_of_16_bits_keeps_every_bit(dtype):
    """Of NaN, too, quiet or not."""
    g = every(dtype)
    on = np.random.default_rng(0).random(g.shape) < 0.5
    with cuda_on_cpu.installed() as cupy:
        dz, _ = kernels.relu_backward(cupy.asarray(g), cupy.asarray(kernels.mask.pack(on)))
    assert_array_equal(dz.get().view(np.uint16), np.where(on, g.view(np.uint16), 0))


@given(data=st.data(), dtype=st.sampled_from(HALVES))
def test_no_positive_sum_of_16_bits_rounds_to_zero(data, dtype):
    """So the bit of the mask is s > 0 and y > 0 alike, also of three numbers that cancel (kernels/bias_relu_forward.py)."""
    patterns = st.lists(st.integers(0, 2**16 - 1), min_size=8, max_size=8)
    z, skip, b = (np.array(data.draw(patterns), np.uint16).view(dtype) for _ in range(3))
    if data.draw(st.booleans()):  # what cancels leaves the smallest numbers
        skip = -z
    with np.errstate(all="ignore"):
        s = z.astype(np.float32) + skip.astype(np.float32) + b.astype(np.float32)
        assert_array_equal(s > 0, s.astype(dtype) > 0)


# ------------------------------------------------------------------------------------------------------ order of sums


def sums(seed, multiprocessors, g, mask):
    with cuda_on_cpu.installed(seed=seed, multiprocessors=multiprocessors) as cupy, kernels.using("cuda"):
        return kernels.relu_backward(cupy.asarray(g), cupy.asarray(mask))[1].get()


@pytest.mark.parametrize("units", [5, 64, 132])
def test_db_depends_on_one_replica_alone(units):
    """Not on the schedule, the card or the replicas beside it (DESIGN §4.7)."""
    g = np.random.default_rng(0).normal(size=(3, 300, units)).astype(np.float32)
    mask = kernels.mask.pack(g > -0.5)
    first = sums(0, 1, g, mask)
    for seed, multiprocessors in ((1, 1), (2, 3), (7, 40)):
        assert_array_equal(sums(seed, multiprocessors, g, mask).view(np.uint32), first.view(np.uint32))
    assert_array_equal(sums(3, 2, g[1:2], mask[1:2]).view(np.uint32), first[1:2].view(np.uint32))


# ---------------------------------------------------------------------------------------------------------- dispatch


@pytest.mark.parametrize("dtype", [np.float32, *HALVES])
def test_device_arrays_run_the_cuda_kernels_by_default(monkeypatch, dtype):
    z, b, g = normal((2, 40, 36), dtype), normal((2, 1, 36), dtype, 1), normal((2, 40, 36), dtype, 2)
    with cuda_on_cpu.installed() as cupy:
        assert kernels.available()["relu_backward"]["cuda"] == "ok"
        launched = []
        for name in ("bias_relu_forward", "relu_backward", "count_units"):
            kernel = kernels.KERNELS[name]
            note = functools.partial(lambda made, *a: launched.append(a) or made.cuda(*a), kernel)
            monkeypatch.setitem(kernels.KERNELS, name, kernel._replace(cuda=note))
        found = kernels.bias_relu_forward(cupy.asarray(z), cupy.asarray(b))
        dz, _ = kernels.relu_backward(cupy.asarray(g), found[1])
        counts = kernels.count_units(found[0])
        assert len(launched) == 3
    for ours, right in zip(found, reference("bias_relu_forward", z, b), strict=True):
        assert_same_bits(ours, right)
    assert_same_bits(dz, reference("relu_backward", g, found[1].get())[0])
    assert_same_bits(counts[0], found[2].get())


@pytest.mark.parametrize("dtype", HALVES)
def test_device_arrays_of_16_bits_work_in_place_and_are_refused_elsewhere(dtype):
    z, skip, b = normal((40, 48), dtype), normal((40, 48), dtype, 1), normal((1, 48), dtype, 2)
    with cuda_on_cpu.installed() as cupy:
        on_device = cupy.asarray(z)
        found = kernels.residual_relu(on_device, cupy.asarray(skip), cupy.asarray(b), out=on_device)
        assert found[0] is on_device
        for ours, right in zip(found, reference("residual_relu", z, skip, b), strict=True):
            assert_same_bits(ours, right)
        with kernels.using("reference"):
            assert_same_bits(kernels.count_units(on_device)[0], found[2].get())
        with pytest.raises(TypeError, match="x must be float32 or float64, got"):
            kernels.optimiser_step("sgd", on_device, on_device, [0.1])
        with pytest.raises(TypeError, match="a Tensor holds float32 or float64, got"):
            Tensor(on_device)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("which", ["z", "b", "skip", "y", "g", "dz"])
def test_arrays_that_do_not_begin_at_16_bytes_go_a_number_at_a_time(which, dtype, monkeypatch):
    """A card faults where 16 bytes are read from elsewhere; rows of 16 bytes alone do not make an array's beginning one."""
    shape = {"b": (1, 32)}
    values = {
        name: normal(shape.get(name, (3, 32)), dtype, seed) for seed, name in enumerate(("z", "b", "skip", "y", "g", "dz"))
    }
    entries, launch = [], _cuda.launch
    monkeypatch.setattr(_cuda, "launch", lambda parts, name, *a, **k: entries.append(name) or launch(parts, name, *a, **k))
    with cuda_on_cpu.installed() as cupy:

        def placed(name, off):
            memory = kernels.empty(values[name].size + off, dtype)
            memory[off:] = values[name].ravel()
            return cupy.ndarray(memory[off:].reshape(values[name].shape))

        for off in (0, 1):
            a = {name: placed(name, off if name == which else 0) for name in values}
            found = kernels.residual_relu(a["z"], a["skip"], a["b"], out=a["y"])
            dz, _ = kernels.relu_backward(a["g"], found[1], out=a["dz"])
            expected = reference("residual_relu", values["z"], values["skip"], values["b"])
            for ours, right in zip(
                (*found, dz), (*expected, reference("relu_backward", values["g"], expected[1])[0]), strict=True
            ):
                assert_same_bits(ours, right)
    touched = [which in ("z", "b", "skip", "y"), which in ("g", "dz")]
    assert [name.endswith("_ragged") for name in entries] == [False, False, *touched]


def test_host_arrays_are_not_moved():
    with (
        cuda_on_cpu.installed(),
        kernels.using("cuda"),
        pytest.raises(BackendUnavailableError, match="the cuda kernels run on CuPy arrays, got a NumPy array; use to_device"),
    ):
        kernels.count_units(np.ones((2, 3)))


def test_without_a_gpu_the_reason_is_said():
    with fake_cupy.installed(gpu=False):
        assert kernels.available()["sgd"]["cuda"] == "CuPy is installed but finds no GPU"
        with (
            pytest.raises(BackendUnavailableError, match="asked for the cuda kernels: CuPy is installed but"),
            kernels.using("cuda"),
        ):
            pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", None)
        assert "minirelu[cuda]" in kernels.available()["sgd"]["cuda"]


class Exported:
    """Another library's tensor on the device, by DLPack or by `__cuda_array_interface__`."""

    def __init__(self, array, protocol):
        self.array = array
        if protocol == "dlpack":
            self.__dlpack__ = lambda **_: array
            self.__dlpack_device__ = lambda: (2, 0)
        else:
            self.__cuda_array_interface__ = {"shape": array.shape, "typestr": array.dtype.str, "data": (array.data.ptr, False)}


@pytest.mark.parametrize("protocol", ["dlpack", "cuda_array_interface"])
def test_tensors_of_other_libraries_are_taken_without_a_copy(protocol):
    z, b = normal((40, 36), np.float32), normal((1, 36), np.float32, 1)
    with cuda_on_cpu.installed() as cupy:
        y = cupy.asarray(np.zeros_like(z))
        tensors = [Exported(a, protocol) for a in (cupy.asarray(z), cupy.asarray(b), y)]
        found = kernels.bias_relu_forward(*tensors[:2], out=tensors[2])
        assert found[0].data.ptr == y.data.ptr
        for ours, right in zip((y, *found[1:]), reference("bias_relu_forward", z, b)[0:], strict=True):
            assert_same_bits(ours, right)


def test_a_tensor_that_cupy_does_not_know_is_refused_with_its_reason():
    """As CuPy does with bfloat16 where ml_dtypes is missing."""

    def unknown(tensor):
        raise NotImplementedError("please install ml_dtypes")

    with cuda_on_cpu.installed() as cupy:
        cupy.from_dlpack = unknown
        with pytest.raises(TypeError, match="y is a Exported that gives no array by DLPack: please install ml_dtypes"):
            kernels.count_units(Exported(cupy.asarray(np.ones((2, 3))), "dlpack"))


# -------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.cu")), ids=lambda p: p.name)
def test_a_text_includes_nothing_and_has_one_shared_array(path):
    text = path.read_text() + (KERNELS / "_words.h").read_text()
    assert not re.findall(r"^ *# *include", text, re.MULTILINE)
    assert re.findall(r"__shared__[^;]*;", re.sub(r"//.*", "", text)) == ["__shared__ __align__(32) unsigned char arena[];"]
    assert "fast" not in "".join(_cuda.OPTIONS + _cuda.CONTRACTED)


def test_nvrtc_is_given_text_and_options_as_they_are_and_once(tmp_path, monkeypatch):
    """By RawModule they would get -ftz=true behind them, and subnormal numbers would be 0."""
    asked = []
    with cuda_on_cpu.installed() as cupy:
        monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "new"))
        nvrtc = cupy.cuda.compiler.compile_using_nvrtc
        cupy.cuda.compiler.compile_using_nvrtc = lambda *a, **k: asked.append(a) or nvrtc(*a, **k)
        once, again, other = (_cuda.compiled(cupy, "text", o) for o in (_cuda.OPTIONS, _cuda.OPTIONS, _cuda.CONTRACTED))
    assert asked == [("text", _cuda.OPTIONS), ("text", _cuda.CONTRACTED)]
    assert once == again != other
    assert once.read_bytes() == b"text"
    assert not any("ftz" in option for option in _cuda.OPTIONS + _cuda.CONTRACTED)


def test_every_kernel_has_its_text_beside_it():
    assert {p.stem for p in KERNELS.glob("*.cu")} >= {
        "bias_relu_forward",
        "residual_relu",
        "relu_backward",
        "count_units",
        "optimiser_step",
    }


# ----------------------------------------------------------------------------------------------------------- sanitizer

SANITIZED = """
import numpy as np, cuda_on_cpu, test_cuda_kernels as t
with cuda_on_cpu.installed(seed=5, flavour=cuda_on_cpu.ADDRESS, change=lambda s: s.replace(OLD, NEW) if OLD else s) as cupy:
    for dtype in t.ALL:
        for version in t.VERSIONS:
            for shape in SHAPES:
                z, b = t.normal(shape, dtype), t.normal((*shape[:-2], 1, shape[-1]), dtype, 1)
                t.check_forward(cupy, z, z, b, version)
                t.check_backward(cupy, z, t.reference("bias_relu_forward", z, b)[1], version)
            for rule in t.RULES if dtype in t.DTYPES else ():
                t.check_step(cupy, rule, (2, 33, 40), dtype, version)
print("clean")
"""


def sanitized(shapes, old="", new=""):
    said = cuda_on_cpu.sanitized(f"SHAPES, OLD, NEW = {shapes!r}, {old!r}, {new!r}\n{SANITIZED}")
    return said or pytest.skip("g++ has no libasan.so")


@pytest.mark.long
def test_address_sanitizer_finds_nothing():
    assert sanitized(SHAPES + SHAPES_OF_HALVES).endswith("clean\n")


@pytest.mark.long
def test_address_sanitizer_would_have_found_it():
    assert "row < end" in _cuda.source("relu_backward"), "the text has changed: plant this fault anew"
    found = sanitized([(130, 33)], "row < end", "row <= end").splitlines()
    assert any("AddressSanitizer: heap-buffer-overflow" in line for line in found), found
    assert any("relu_backward.cu" in line for line in found), found
