"""Kernels take the tensors of other libraries as they are: no copy in, results in the memory that was given."""

import importlib
import importlib.util
import tracemalloc

import numpy as np
import pytest

from minirelu import kernels

B, O = 1024, 256  # noqa: E741  1 MiB an array in float32


class Exporter:
    """An array that only knows DLPack, on the device `kind` (1 is the CPU, 2 CUDA)."""

    def __init__(self, array, kind=1):
        self.array, self.kind = array, kind

    def __dlpack_device__(self):
        return self.kind, 0

    def __dlpack__(self, **options):
        assert self.kind == 1, "a tensor on another device must not be asked for its memory"
        return self.array.__dlpack__(**options)


class Interface:
    """An array that only knows NumPy's older protocol."""

    def __init__(self, array):
        self.array, self.__array_interface__ = array, array.__array_interface__


def torch_tensor(array):
    return importlib.import_module("torch").from_numpy(array)


def needs(library):
    missing = importlib.util.find_spec(library) is None
    return pytest.mark.skipif(missing, reason=f"{library} is not installed; it comes with minirelu[bench]")


WRITABLE = [
    pytest.param(Exporter, id="dlpack"),
    pytest.param(Interface, id="array_interface"),
    pytest.param(torch_tensor, marks=needs("torch"), id="torch"),
]


@pytest.fixture(params=WRITABLE)
def wrap(request):
    """A function that shows a NumPy array as another library's tensor over the same memory."""
    return request.param


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert type(a) is np.ndarray
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def calls(wrap):
    """{kernel: (its result on `wrap`ped arrays, on plain ones, the array that the first was to write)}."""
    z, skip, b, y, mask = (
        normal(B, O),
        normal(B, O, seed=1),
        normal(1, O, seed=2),
        normal(B, O),
        np.zeros((B, O // 32), np.uint32),
    )
    words = kernels.bias_relu_forward(z, b)[1]
    lr = (np.float32(0.1),)
    return {
        "bias_relu_forward": (
            lambda: kernels.bias_relu_forward(wrap(z), wrap(b), out=wrap(y), mask=wrap(mask)),
            lambda: kernels.bias_relu_forward(z, b),
            y,
        ),
        "residual_relu": (
            lambda: kernels.residual_relu(wrap(z), wrap(skip), wrap(b), out=wrap(y), mask=wrap(mask)),
            lambda: kernels.residual_relu(z, skip, b),
            y,
        ),
        "relu_backward": (
            lambda: kernels.relu_backward(wrap(z), wrap(words), out=wrap(y)),
            lambda: kernels.relu_backward(z, words),
            y,
        ),
        "count_units": (lambda: kernels.count_units(wrap(z)), lambda: kernels.count_units(z), None),
        "optimiser_step": (
            lambda: [kernels.optimiser_step("sgd", wrap(z), wrap(skip), lr, out=wrap(y))],
            lambda: [kernels.optimiser_step("sgd", z, skip, lr)],
            y,
        ),
    }


KERNELS = ["bias_relu_forward", "residual_relu", "relu_backward", "count_units", "optimiser_step"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_tensor_gives_what_its_array_gives_in_the_memory_of_the_tensor(wrap, kernel):
    on_tensors, on_arrays, written = calls(wrap)[kernel]
    found = on_tensors()
    same(found, on_arrays())
    if written is not None:
        np.testing.assert_array_equal(written, found[0])
        assert np.shares_memory(written, found[0])


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_is_copied(wrap, kernel):
    on_tensors, _, _ = calls(wrap)[kernel]
    on_tensors()  # compiles, and whatever is kept for the next call
    tracemalloc.start()
    try:
        on_tensors()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # counters and partial sums of 256 rows of O units at most; a copy of an input would be B·O numbers of 4 bytes
    assert peak < B * O


def test_in_place_on_a_tensor(wrap):
    z, b = normal(B, O), normal(1, O, seed=1)
    expected = kernels.bias_relu_forward(z, b)
    tensor = wrap(z)
    same(kernels.bias_relu_forward(tensor, wrap(b), out=tensor), expected)
    np.testing.assert_array_equal(z, expected[0])


def test_the_state_of_an_optimiser_is_updated_in_the_tensor(wrap):
    x, g, v = normal(3, 5), normal(3, 5, seed=1), normal(3, 5, seed=2)
    coefficients, expected = (np.float32(0.1), np.float32(0.9)), v.copy()
    kernels.optimiser_step("heavy_ball", x, g, coefficients, expected)
    kernels.optimiser_step("heavy_ball", wrap(x), wrap(g), coefficients, wrap(v))
    np.testing.assert_array_equal(v, expected)


def test_overlap_is_seen_through_a_tensor(wrap):
    memory = normal(3, O)
    z, before = memory[:2], memory.copy()
    with pytest.raises(ValueError, match="overlaps"):
        kernels.bias_relu_forward(wrap(z), normal(1, O), out=wrap(memory[1:]))
    np.testing.assert_array_equal(memory, before)


def test_a_wrong_dtype_is_refused_with_a_sentence(wrap):
    with pytest.raises(TypeError, match=r"float32 or float64.*int32"):
        kernels.count_units(wrap(np.ones((2, 3), np.int32)))


def test_a_tensor_on_another_device_is_refused_before_its_memory_is_touched():
    with pytest.raises((TypeError, ValueError), match="CPU"):
        kernels.count_units(Exporter(normal(2, 3), kind=2))


def test_residual_relu_needs_no_bias(wrap):
    z, skip = normal(6, 5), normal(6, 5, seed=1)
    same(kernels.residual_relu(wrap(z), wrap(skip)), kernels.residual_relu(z, skip, np.zeros((1, 5), np.float32)))
    out = np.empty_like(z)
    assert np.shares_memory(kernels.residual_relu(wrap(z), wrap(skip), out=wrap(out))[0], out)
    with pytest.raises(TypeError, match=r"z must be a NumPy or CuPy array.* got list"):
        kernels.residual_relu([[1.0]], [[1.0]])


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="list"):
        kernels.count_units([[1.0, 2.0]])


@needs("torch")
def test_strided_torch_tensors_are_read_as_they_are():
    z = normal(O, B)
    same(kernels.count_units(torch_tensor(z).T), kernels.count_units(z.T))


@needs("torch")
def test_a_torch_tensor_that_wants_a_gradient_is_refused_with_advice():
    tensor = torch_tensor(normal(2, 3)).requires_grad_()
    with pytest.raises((TypeError, ValueError, BufferError), match="detach"):
        kernels.count_units(tensor)


@needs("jax")
def test_jax_arrays_are_read_without_a_copy():
    jnp = importlib.import_module("jax.numpy")
    z, b = normal(B, O), normal(1, O, seed=1)
    y, mask = np.empty_like(z), np.empty((B, O // 32), np.uint32)
    expected = kernels.bias_relu_forward(z, b)
    tensors = jnp.asarray(z), jnp.asarray(b)
    same(kernels.bias_relu_forward(*tensors, out=y, mask=mask), expected)
    tracemalloc.start()
    try:
        kernels.bias_relu_forward(*tensors, out=y, mask=mask)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < B * O
    same(kernels.relu_backward(tensors[0], jnp.asarray(expected[1])), kernels.relu_backward(z, expected[1]))


@needs("jax")
def test_jax_arrays_cannot_be_written():
    jnp = importlib.import_module("jax.numpy")
    z, before = jnp.asarray(normal(4, O)), normal(4, O)
    with pytest.raises(ValueError, match="read-only"):
        kernels.bias_relu_forward(z, normal(1, O), out=z)
    np.testing.assert_array_equal(np.asarray(z), before)
