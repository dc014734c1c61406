"""On a machine with a GPU: kernels and engine on CuPy arrays equal those on NumPy arrays. Elsewhere skipped, with the reason.

`make gpu` runs this file, and the tests whose names begin with test_sanitized under compute-sanitizer once more. It sets
MINIRELU_GPU=needed, and then a test that finds no GPU fails.
"""

import copy
import importlib
import importlib.util
import itertools
import os
import warnings

import numpy as np
import pytest
from exactness import HALVES, assert_same_bits, bits
from numpy.testing import assert_allclose, assert_array_equal
from test_cuda_kernels import (
    ALL,
    DTYPES,
    SHAPES,
    SHAPES_OF_HALVES,
    VERSIONS,
    check_backward,
    check_forward,
    check_special_values,
    check_step,
    every,
    normal,
    reference,
)
from test_train_mlp import NETS, make

from minirelu import Tensor, kernels, ops
from minirelu.backend import to_device, to_host
from minirelu.errors import BackendUnavailableError
from minirelu.kernels.optimiser_step import RULES


@pytest.fixture
def cupy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what CuPy says of itself when it is imported
        try:
            to_device(np.zeros(1))
        except BackendUnavailableError as error:
            (pytest.fail if os.environ.get("MINIRELU_GPU") == "needed" else pytest.skip)(str(error))
        return importlib.import_module("cupy")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fused_layer_on_the_device_equals_the_host(cupy, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((33, 7), (7, 65), (1, 65))]
    found = []
    for place in (np.asarray, to_device):
        x, W, b = (Tensor(place(array)) for array in arrays)
        y = ops.affine_relu(x, W, b)
        (y * y).sum().backward()
        found.append([to_host(a) for a in (y.data, x.grad, W.grad, b.grad)])
    # sums of at most 65 terms in another order: 2·65·eps of numbers of size below 100
    tolerance = 130 * np.finfo(dtype).eps
    for host, device in zip(*found, strict=True):
        np.testing.assert_allclose(device, host, rtol=tolerance, atol=100 * tolerance)


LARGE = [(1000, 4104), (4096, 1027), (7, 300, 200)]
CASES = [*itertools.product([*SHAPES, *LARGE], DTYPES), *itertools.product([*SHAPES_OF_HALVES, LARGE[0]], HALVES)]


@pytest.mark.gpu
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_every_step_of_the_ladder(cupy, shape, version, dtype):
    z, skip, g, b = (normal(s, dtype, k) for k, s in enumerate((shape, shape, shape, (*shape[:-2], 1, shape[-1]))))
    for in_place in (False, True):
        check_forward(cupy, z, skip, b, version, in_place)
        check_backward(cupy, g, reference("bias_relu_forward", z, b)[1], version, in_place)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_of_special_values(cupy, version, dtype):
    check_special_values(cupy, version, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_number_of_16_bits(cupy, version, dtype):
    """Through the two instructions that the execution on the CPU replaces: read, added, rounded, counted, kept to the bit."""
    z, b = every(dtype), normal((1, 256), dtype)
    check_forward(cupy, z, z[::-1].copy(), b, version)
    mask = kernels.mask.pack(np.random.default_rng(0).random(z.shape) < 0.5)
    check_backward(cupy, z, mask, version)
    dz, db = (cupy.empty(s, z.dtype) for s in (z.shape, b.shape))
    kernels.KERNELS["relu_backward"].cuda(cupy.asarray(z), cupy.asarray(mask), dz, db, version=version)
    on = kernels.mask.unpack(mask, 256)
    assert_array_equal(dz.get().view(np.uint16), np.where(on, z.view(np.uint16), 0))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALVES)
def test_tensors_of_16_bits_of_pytorch_are_taken_without_a_copy(cupy, dtype):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = importlib.import_module("torch")
    z, b = normal((64, 200), dtype), normal((1, 200), dtype, 1)
    right = reference("bias_relu_forward", z, b)
    kind = getattr(torch, np.dtype(dtype).name)
    on_device = [torch.from_numpy(x.view(np.int16)).cuda().view(kind) for x in (z, b)]
    found = kernels.bias_relu_forward(*on_device, out=on_device[0])
    assert found[0].data.ptr == on_device[0].data_ptr()
    for ours, expected in zip(found, right, strict=True):
        assert_same_bits(ours, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("rule", RULES)
def test_optimisers_have_the_bits_of_numpy(cupy, rule):
    for version in VERSIONS:
        for dtype in DTYPES:
            for shape in ((1, 1), (33, 5), (3, 4, 5), (2, 33, 40), (3, 700, 900)):
                check_step(cupy, rule, shape, dtype, version)


@pytest.mark.gpu
def test_db_is_the_same_at_every_call(cupy):
    g = np.random.default_rng(0).normal(size=(4096, 1000)).astype(np.float32)
    mask = cupy.asarray(kernels.mask.pack(g > -1))
    found = [kernels.relu_backward(cupy.asarray(g), mask)[1].get() for _ in range(20)]
    assert all((bits(again) == bits(found[0])).all() for again in found)


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_tensors_of_other_libraries_are_taken_without_a_copy(cupy, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    z, b = cupy.asarray(normal((64, 200), np.float32)), cupy.asarray(normal((1, 200), np.float32, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = importlib.import_module("torch" if library == "torch" else "jax.dlpack")
        theirs = [loaded.from_dlpack(a) for a in (z, b)]
    found, right = kernels.bias_relu_forward(*theirs), kernels.bias_relu_forward(z, b)
    for ours, expected in zip(found, right, strict=True):
        assert_array_equal(bits(ours.get()), bits(expected.get()))
    if library == "torch":
        assert kernels.bias_relu_forward(*theirs, out=theirs[0])[0].data.ptr == z.data.ptr


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("path", ["block", "batched"])
def test_training_is_the_references(cupy, name, path, monkeypatch):
    if path == "batched":
        monkeypatch.setattr("minirelu.kernels._train_mlp_cuda.LARGEST", 0)
        monkeypatch.setattr("minirelu.kernels._cuda.attribute", lambda name: 0 if "Shared" in name else 132)
    job, state = make(NETS[name], "adam", record_at=(0, 1, 20))
    sides = []
    for side in ("cuda", "reference"):
        own = copy.deepcopy(state)
        sides.append((kernels.train_mlp(job, own, backend=side), own))
    (found, theirs), (right, ours) = sides
    assert_allclose(found.loss, right.loss, rtol=1e-10)
    assert_array_equal(found.active, right.active)
    for a, b in zip(theirs.parameters, ours.parameters, strict=True):
        assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.fixture
def unpooled(cupy):
    """Each array has memory of its own, so that an access beside it is one that memcheck sees."""
    cupy.cuda.set_allocator(None)
    yield cupy
    cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)


@pytest.mark.gpu
def test_sanitized_kernels(unpooled):
    for shape in ((3, 33), (131, 40)):
        for version in VERSIONS:
            for dtype in (np.float32, HALVES[-1]):
                z, b = normal(shape, dtype), normal((1, shape[-1]), dtype, 1)
                check_forward(unpooled, z, z, b, version)
                check_backward(unpooled, z, reference("bias_relu_forward", z, b)[1], version)
            check_step(unpooled, "adam", shape, np.float32, version)


@pytest.mark.gpu
def test_sanitized_training(unpooled):
    job, state = make(NETS["residual, normalised"], R=2, batch=5, record_at=(1, 2))
    kernels.train_mlp(job, state, backend="cuda")
