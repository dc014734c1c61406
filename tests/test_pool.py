"""kernels.empty: aligned arrays from memory that is used again, and never while anything still refers to it."""

import gc
import threading

import numpy as np
import pytest

from minirelu import kernels
from minirelu.kernels import _jit, _pool

LARGE = (_pool.POOLED_FROM // 4 + 5,)


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def empty_pool(monkeypatch):
    monkeypatch.setattr(_pool, "_waiting", type(_pool._waiting)())


@pytest.mark.parametrize("shape", [5, (), (0,), (3, 7), LARGE, (2, 600, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "u4"])
def test_what_is_given(shape, dtype):
    array = kernels.empty(shape, dtype)
    assert type(array) is np.ndarray
    assert array.shape == (shape if isinstance(shape, tuple) else (shape,))
    assert array.dtype == dtype
    assert address(array) % 64 == 0
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert _pool.owns(array)
    array[...] = 3
    assert (array == 3).all()


def test_memory_is_used_again_when_the_array_is_gone():
    array = kernels.empty(LARGE)
    place = address(array)
    del array
    for _ in range(5):  # again and again
        array = kernels.empty(LARGE)
        assert address(array) == place
        del array


@pytest.mark.parametrize("view", [lambda a: a[3:], lambda a: a.reshape(1, -1), lambda a: a.view(np.uint32), memoryview])
def test_memory_is_not_used_again_while_a_view_lives(view):
    array = kernels.empty(LARGE)
    place, kept = address(array), view(array)
    del array
    gc.collect()
    assert address(kernels.empty(LARGE)) != place
    del kept
    assert address(kernels.empty(LARGE)) == place


def test_a_view_does_not_own_its_memory():
    array = kernels.empty(LARGE)
    assert not _pool.owns(array[:-1])
    assert _pool.owns(np.zeros(3))
    assert not _pool.owns(np.zeros(3)[1:])


def test_nearly_equal_sizes_serve_each_other_and_others_do_not():
    array = kernels.empty(LARGE)
    place = address(array)
    del array
    assert address(kernels.empty((LARGE[0] * 2,))) != place
    assert address(kernels.empty((LARGE[0] + 100,))) == place


def test_what_waits_is_bounded_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(_pool, "KEPT", 3 * _pool._room(4 * LARGE[0], True))
    arrays = [kernels.empty(LARGE) for _ in range(5)]
    places = [address(array) for array in arrays]
    while arrays:
        del arrays[0]
    assert [m.size for m in _pool._waiting.values()] == [_pool._room(4 * LARGE[0], True)] * 3
    assert address(kernels.empty(LARGE)) == places[-1]


def test_what_is_borrowed_is_nobody_elses_until_it_is_handed_back():
    first = _pool.borrow(1000)
    assert first.nbytes >= 1000
    assert address(first) % 64 == 0
    second = _pool.borrow(10)
    assert not np.may_share_memory(first, second)
    _pool.hand_back(first)
    assert _pool.borrow(15) is first
    assert _pool.borrow(15) is not first
    elsewhere = []
    _pool.hand_back(first)
    thread = threading.Thread(target=lambda: elsewhere.append(_pool.borrow(15)))
    thread.start()
    thread.join()
    assert elsewhere[0] is not first


def test_a_thread_keeps_no_large_memory(monkeypatch):
    monkeypatch.setattr(_pool, "SPARED", 1000)
    large = _pool.borrow(1001)
    _pool.hand_back(large)
    assert _pool.borrow(1) is not large


def test_two_threads_never_share_memory():
    wrong = []

    def work(number):
        for _ in range(200):
            array = kernels.empty(LARGE)
            array[::1000] = number
            again = kernels.empty(LARGE)
            again[::1000] = -1
            if not (array[::1000] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_large_products_of_layers_come_from_the_pool(monkeypatch):
    from minirelu import nn

    monkeypatch.setattr(_jit, "PARALLEL_FROM", 1 << 40)  # another thread may let go of an array a moment later
    net = nn.Dense(4, 1024, rng=np.random.default_rng(0))
    x = np.ones((600, 4), np.float32)
    y = net(x)
    place = address(y.data)
    assert place % 64 == 0
    del y
    assert address(net(x).data) == place
