"""Which array module an array belongs to; the engine, every op and the kernels on arrays that are not NumPy's."""

import sys

import fake_cupy
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import Tensor, kernels, losses, ops
from minirelu.backend import ALONE, array_module, is_array, module_name, to_device, to_host
from minirelu.engine import no_graph
from minirelu.errors import BackendUnavailableError

RNG = np.random.default_rng(5)
A, B, C = (RNG.normal(size=(2, 4, 3)).astype(np.float32) for _ in range(3))
SQUARE, ROW, COLUMN = A[:, :3], B[0, :1], C[1, :, :1]


@pytest.fixture
def cupy():
    with fake_cupy.installed() as module:
        yield module


# ------------------------------------------------------------------------------------------------ the engine and ops

CALLS = {
    "add": lambda: ([A, ROW], ops.add),
    "sub": lambda: ([ROW, A], ops.sub),
    "mul": lambda: ([A, COLUMN], ops.mul),
    "div": lambda: ([A, B], ops.div),
    "neg": lambda: ([A], ops.neg),
    "pow": lambda: ([np.abs(A), B], ops.pow),
    "square": lambda: ([A], lambda x: x**2),
    "matmul": lambda: ([A, SQUARE], ops.matmul),
    "matmul_vector": lambda: ([A, B[0, 0]], ops.matmul),
    "affine": lambda: ([A, SQUARE, ROW], ops.affine),
    "affine_one_input": lambda: ([A[..., :1], ROW, ROW], ops.affine),
    "exp": lambda: ([A], ops.exp),
    "log": lambda: ([np.abs(A)], ops.log),
    "sqrt": lambda: ([np.abs(A)], ops.sqrt),
    "abs": lambda: ([A], ops.abs),
    "tanh": lambda: ([A], ops.tanh),
    "sigmoid": lambda: ([A], ops.sigmoid),
    "sum": lambda: ([A], ops.sum),
    "sum_axis": lambda: ([A], lambda x: ops.sum(x, axis=-2)),
    "mean": lambda: ([A], lambda x: ops.mean(x, axis=(0, 2), keepdims=True)),
    "mean_all": lambda: ([A], ops.mean),
    "max": lambda: ([A], lambda x: ops.max(x, axis=1)),
    "min": lambda: ([A], ops.min),
    "maximum": lambda: ([A, B], ops.maximum),
    "maximum_number": lambda: ([A], lambda x: ops.maximum(x, 0)),
    "minimum": lambda: ([A, ROW], ops.minimum),
    "reshape": lambda: ([A], lambda x: x.reshape(-1, 6)),
    "transpose": lambda: ([A], lambda x: x.transpose(2, 0, 1)),
    "swapaxes": lambda: ([A], ops.swapaxes),
    "broadcast_to": lambda: ([ROW], lambda x: ops.broadcast_to(x, shape=(4, 3))),
    "index": lambda: ([A], lambda x: x[:, 1:, ::2]),
    "index_list": lambda: ([A], lambda x: x[[0, 1, 0]]),
    "concatenate": lambda: ([A, B], lambda a, b: ops.concatenate([a, b], axis=1)),
    "relu": lambda: ([A], ops.relu),
    "leaky_relu": lambda: ([A], ops.leaky_relu),
    "prelu": lambda: ([A, ROW], ops.prelu),
    "elu": lambda: ([A], ops.elu),
    "affine_relu": lambda: ([A, SQUARE, ROW], ops.affine_relu),
    "affine_relu_stacked": lambda: ([A, SQUARE, B[:, :1]], ops.affine_relu),
    "residual_relu": lambda: ([A, ROW], ops.residual_relu),
    "batch_norm": lambda: ([A, ROW, ROW * 2], ops.batch_norm),
    "mse": lambda: ([A, B], losses.mse),
    "half_mse": lambda: ([A, B], losses.half_mse),
    "huber": lambda: ([A, B], losses.huber),
    "numbers": lambda: ([A], lambda x: 1 - 2 * x / 3 + np.float64(0.5)),
    "reuse": lambda: ([A, ROW], lambda x, b: ops.tanh(x * x + b) * x + b),
}


def outcome(operands, call):
    tensors = [Tensor(x) for x in operands]
    y = call(*tensors)
    y.backward()
    return [y.data, *[t.grad for t in tensors]]


@pytest.mark.parametrize("name", CALLS)
def test_ops_give_the_same_on_another_array_type(name, cupy):
    operands, call = CALLS[name]()
    with kernels.using("reference"):  # which is what runs for CuPy arrays
        expected = outcome(operands, call)
        found = outcome([cupy.asarray(x) for x in operands], call)
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is fake_cupy.ndarray
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if name in ("mse", "half_mse"):  # NumPy sums the squares by BLAS, in another order
            assert_allclose(ours.get(), theirs, rtol=50 * np.finfo(theirs.dtype).eps)  # fewer than 50 terms
        else:
            assert_array_equal(ours.get(), theirs)


def test_every_primitive_is_called_above():
    names = {name for module in (ops, losses) for name, op in vars(module).items() if hasattr(op, "raw")}
    assert names - set(CALLS) == {"_choose", "_join"}  # by where (next test) and concatenate


def test_where_and_masks_on_another_array_type(cupy):
    mask = A > 0
    a, b = Tensor(cupy.asarray(A)), Tensor(cupy.asarray(B))
    y = ops.where(cupy.asarray(mask), a, b)
    y.sum().backward()
    assert_array_equal(y.data.get(), np.where(mask, A, B))
    assert_array_equal(a.grad.get(), mask.astype(np.float32))
    picked = a[cupy.asarray(mask)]
    picked.sum().backward()
    assert_array_equal(picked.data.get(), A[mask])
    assert_array_equal(a.grad.get(), mask.astype(np.float32))


def test_raw_numbers_lists_and_device_arrays_are_operands(cupy):
    x = Tensor(cupy.asarray(ROW))
    y = x * cupy.asarray(ROW.astype(np.float64)) + np.float32(1) - 2
    assert type(y.data) is fake_cupy.ndarray
    assert y.dtype == np.float32
    with no_graph():
        assert type((x + 1).data) is fake_cupy.ndarray
    assert "from add" in repr(x + 1)
    assert (x > 0).tolist() == (ROW > 0).tolist()
    assert x.sum().item() == float(ROW.sum())
    assert len(list(x)) == 1


def test_a_gradient_on_the_device_is_alone_too(cupy):
    x = Tensor(cupy.asarray(A))
    loss = (x + x * 2 + x.reshape(-1).reshape(2, 4, 3)).sum()
    first = loss.backward()[x]
    first.fill(7)
    assert_array_equal(loss.backward()[x].get(), np.full(A.shape, 4, np.float32))
    assert_array_equal(x.data.get(), A)


# -------------------------------------------------------------------------------------------------------- mixtures


@pytest.mark.parametrize("op", [ops.add, ops.mul, ops.matmul, ops.maximum, ops.residual_relu, losses.mse])
def test_mixtures_are_refused_with_advice(op, cupy):
    host, device = Tensor(SQUARE[0]), Tensor(cupy.asarray(SQUARE[0]))
    for pair in ((host, device), (device, host), (device, SQUARE[0]), (host, cupy.asarray(SQUARE[0])), (SQUARE[0], device)):
        with pytest.raises(TypeError, match=r"move them to one side with minirelu\.backend\.to_device or to_host"):
            op(*pair)


def test_mixtures_in_kernels_are_refused_and_write_nothing(cupy):
    z, b = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)
    mask = np.zeros((2, 1), np.uint32)
    for arguments in ((cupy.asarray(z), b), (z, cupy.asarray(b))):
        with pytest.raises(TypeError, match="move them to one side"):
            kernels.bias_relu_forward(*arguments)
    for arguments in ((cupy.asarray(z), mask), (z, cupy.asarray(mask))):
        with pytest.raises(TypeError, match="move them to one side"):
            kernels.relu_backward(*arguments)
    out = np.full((2, 3), 5, np.float32)
    with pytest.raises(TypeError):
        kernels.bias_relu_forward(cupy.asarray(z), cupy.asarray(b), out=out)
    assert (out == 5).all()


def test_a_vjp_that_changes_sides_is_refused(cupy):
    from minirelu.engine import primitive

    @primitive
    def stray(a):
        return a * 2, (lambda g: np.ones(3, np.float32),)

    with pytest.raises(TypeError, match="move them to one side"):
        stray(Tensor(cupy.asarray(ROW[0]))).backward()


# --------------------------------------------------------------------------------------------------------- kernels


def test_kernels_run_the_reference_on_another_array_type(cupy):
    z, b, g = A, ROW, B
    with kernels.using("reference"):
        expected = kernels.bias_relu_forward(z, b)
        expected_back = kernels.relu_backward(g, expected[1])
    found = kernels.bias_relu_forward(cupy.asarray(z), cupy.asarray(b))
    back = kernels.relu_backward(cupy.asarray(g), found[1])
    counts = kernels.count_units(found[0])
    for ours, theirs in zip([*found, *back, *counts], [*expected, *expected_back, *expected[2:]], strict=True):
        assert type(ours) is fake_cupy.ndarray
        assert ours.dtype == theirs.dtype
        assert_array_equal(ours.get(), theirs)


def test_kernels_work_in_place_on_another_array_type(cupy):
    z = cupy.asarray(A)
    y, mask, _, _ = kernels.bias_relu_forward(z, cupy.asarray(ROW), out=z)
    assert y is z
    dz, _ = kernels.relu_backward(z, mask, out=z)
    assert dz is z


def test_compiled_cpu_kernels_refuse_device_arrays(cupy):
    if kernels.available()["count_units"]["numba"] != "ok":
        pytest.skip(kernels.available()["count_units"]["numba"])
    with kernels.using("numba"), pytest.raises(BackendUnavailableError, match="NumPy arrays, got a CuPy array"):
        kernels.count_units(cupy.asarray(A))


# ------------------------------------------------------------------------------------------------ backend.py itself


def test_array_module(cupy):
    device = cupy.asarray(A)
    assert array_module() is array_module(A) is array_module(A, 1.0, np.float32(2)) is array_module(2) is np
    assert array_module(device) is array_module(1, device, device) is cupy
    with pytest.raises(TypeError, match=r"arguments \[1\] are NumPy arrays and arguments \[0, 2\] are CuPy arrays"):
        array_module(device, A, device)


def test_module_name_and_is_array(cupy):
    assert module_name(A) == "numpy"
    assert module_name(cupy.asarray(A)) == "cupy"
    assert module_name(1.0) == "builtins"
    assert is_array(A)
    assert is_array(cupy.asarray(A))
    for other in (1.0, [1.0], np.float32(1), Tensor(1.0), None):
        assert not is_array(other)


def test_there_and_back(cupy):
    device = to_device(A)
    assert type(device) is fake_cupy.ndarray
    assert to_device(device) is device
    assert type(to_host(device)) is np.ndarray
    assert_array_equal(to_host(device), A)
    assert to_host(A) is A


def test_to_device_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # import cupy raises ImportError
    with pytest.raises(BackendUnavailableError, match=r"CuPy is not installed; install minirelu\[cuda\]"):
        to_device(A)


def test_to_device_without_a_gpu():
    with fake_cupy.installed(gpu=False), pytest.raises(BackendUnavailableError, match="finds no GPU"):
        to_device(A)


def alone(items, i):
    """Outside of an assert, which pytest rewrites to hold a reference of its own."""
    return sys.getrefcount(items[i]) == ALONE


def test_alone():
    items = [np.zeros(3), np.zeros(3)]
    assert alone(items, 0)
    assert alone(items, 1)
    also = items[0]
    assert not alone(items, 0)
    view = items[1][1:]
    assert not alone(items, 1)
    del also, view
    assert alone(items, 0)
    assert alone(items, 1)
    leaf = Tensor(items[0])
    assert not alone(items, 0)
    del leaf
    assert alone(items, 0)
