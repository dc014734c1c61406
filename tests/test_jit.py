"""The variants of the compiled kernels: streaming, without vectors, on several threads, after fork, without a disk cache."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from exactness import assert_same_bits
from test_kernels import assert_backward, assert_forward, drawn, everything

from minirelu import kernels
from minirelu.kernels import _jit, _pool

pytestmark = pytest.mark.skipif(bool(_jit.missing()), reason=_jit.missing() or "Numba is there")
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("units", [64, 100, 33])
def test_streaming_kernels_give_the_same_bits(monkeypatch, units):
    """Rows that begin at multiples of 16 bytes are streamed, others are stored."""
    z, b, g = drawn((300, units), np.float32)
    z[3, 2], z[290, 31] = np.nan, np.inf
    expected = everything(z, b, g)
    monkeypatch.setattr(_jit, "PARALLEL_FROM", 1)
    monkeypatch.setattr(_jit, "STREAM_FROM", 1)
    streamed, share = [], kernels._share
    note = lambda kernel, loops, *_: streamed.append(loops is kernels._streaming.get(kernel))
    monkeypatch.setattr(kernels, "_share", lambda *a: note(*a) or share(*a))
    for _ in ("all checks in Python", "by compiled checks"):
        found = everything(z, b, g)
        assert streamed == [units % 4 == 0] * 2 + [False]
        for ours, theirs in zip(found, expected, strict=True):
            assert_same_bits(ours, theirs)
        work = z.copy()
        assert_forward(kernels.bias_relu_forward(work, b, out=work), z, b)
        assert streamed[3:] == [False]  # what was just read is in the cache
        streamed.clear()


@pytest.mark.parametrize(("beyond", "streams"), [(1, False), (0, True)])
def test_results_are_streamed_from_the_limit_on(monkeypatch, beyond, streams):
    z, b, g = drawn((300, 64), np.float32)
    monkeypatch.setattr(_jit, "PARALLEL_FROM", 1)
    monkeypatch.setattr(_jit, "STREAM_FROM", 1)
    everything(z, b, g)  # the loops that stream are there
    monkeypatch.setattr(_jit, "STREAM_FROM", z.nbytes + beyond)
    used, share = [], kernels._share
    note = lambda kernel, loops, *_: used.append(loops is kernels._streaming.get(kernel))
    monkeypatch.setattr(kernels, "_share", lambda *a: note(*a) or share(*a))
    for _ in ("all checks in Python", "by compiled checks"):
        everything(z, b, g)
    assert used == [streams, streams, False] * 2


def test_what_a_large_pass_raises_is_not_swallowed(monkeypatch):
    """The quick way leaves to the long way what it has not begun; a pass in place that has begun must not begin again."""
    z, b, g = (np.ones((600, 40), np.float32) for _ in range(3))
    mask = kernels.bias_relu_forward(z, b[:1])[1]
    monkeypatch.setattr(_jit, "PARALLEL_FROM", 1)
    for _ in range(2):
        kernels.relu_backward(g, kernels.bias_relu_forward(z, b[:1])[1])

    spread = _jit.spread

    def once(*arguments):
        monkeypatch.setattr(_jit, "spread", spread)
        raise TypeError("in the middle")

    for call in (lambda: kernels.bias_relu_forward(z, b[:1], out=z), lambda: kernels.relu_backward(g, mask, out=g)):
        monkeypatch.setattr(_jit, "spread", once)
        with pytest.raises(TypeError, match="in the middle"):
            call()


def test_a_thread_uses_the_memory_of_its_last_large_pass_again(monkeypatch):
    z, b, g = drawn((600, 40), np.float32)
    monkeypatch.setattr(_jit, "PARALLEL_FROM", 1)
    everything(z, b, g)
    memory = _pool._spare.memory
    assert memory is not None
    everything(z, b, g)
    assert _pool._spare.memory is memory


def test_without_vectors_the_bits_are_the_same(monkeypatch):
    z, b, g = drawn((150, 43), np.float32)
    z[:5, 40] = np.nan, np.inf, -np.inf, 0, -0.0
    expected = everything(z, b, g)
    monkeypatch.setattr(_jit.platform, "machine", lambda: "riscv64")
    _jit.words.cache_clear()
    _jit.compiled.cache_clear()
    monkeypatch.setattr(kernels, "_ready", {})
    monkeypatch.setattr(kernels, "_checked", {})
    try:
        assert _jit.words().__name__.endswith("_plain")
        found = everything(z, b, g)
        skip = kernels.residual_relu(z, g, b)
    finally:
        _jit.words.cache_clear()
        _jit.compiled.cache_clear()
    for ours, theirs in zip(found, expected, strict=True):
        assert_same_bits(ours, theirs)
    assert_forward(skip, z + g, b)


TRAIN_WITHOUT_VECTORS = """
import copy
import platform
import numpy as np
from test_train_mlp import NETS, make
platform.machine = lambda: "riscv64"
from minirelu import kernels
from minirelu.kernels import _panels
assert _panels.v.__name__.endswith("_plain")
for name in ("three layers", "residual, normalised"):
    job, state = make(NETS[name], "adam", dtype=np.float64)
    ours, theirs = (copy.deepcopy(state) for _ in range(2))
    found = kernels.train_mlp(job, ours, backend="numba")
    expected = kernels.train_mlp(job, theirs, backend="reference")
    assert (found.active == expected.active).all()
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    for a, b in zip(ours.parameters, theirs.parameters):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
"""


def test_training_without_vectors(tmp_path):
    """In a process of its own, as the words are chosen when the loops are imported."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", TRAIN_WITHOUT_VECTORS]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr


def test_words_fall_back_where_numba_lacks_the_vectors(monkeypatch):
    def missing(name):
        if name.endswith("_lanes"):
            raise ImportError("no such building block")
        return sys.modules[name] if name in sys.modules else __import__(name, fromlist=["x"])

    monkeypatch.setattr(_jit.importlib, "import_module", missing)
    assert _jit.words.__wrapped__().__name__.endswith("_plain")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_residual_relu_is_the_forward_kernel_of_the_sum(backend, leading, dtype):
    for shape in [(3, 5), (130, 40), (2, 32), (0, 4)]:
        z, b, skip = drawn((*leading, *shape), dtype)
        z.flat[:2], skip.flat[:2] = np.inf, -np.inf
        with np.errstate(invalid="ignore"):
            assert_forward(kernels.residual_relu(z, skip, b), z + skip, b)
            assert_forward(kernels.residual_relu(z, skip), z + skip, np.zeros_like(b))
        work = z.copy()
        kernels.residual_relu(work, skip, b, out=work)
        with np.errstate(invalid="ignore"):
            assert_forward((work, *kernels.residual_relu(z, skip, b)[1:]), z + skip, b)


def test_residual_relu_refuses_what_does_not_fit(backend):
    z, b, skip = drawn((4, 40), np.float32)
    with pytest.raises(ValueError, match="so skip must be the same, got float32 \\(3, 40\\)"):
        kernels.residual_relu(z, skip[:3], b)
    with pytest.raises(ValueError, match="out overlaps an input"):
        kernels.residual_relu(z, skip, b, out=skip)


def test_several_threads_at_once():
    z, b, g = drawn((2100, 130), np.float32)  # above the size of the parallel version
    assert z.size > _jit.PARALLEL_FROM
    small = z[:50].copy()
    expected, of_small, wrong = everything(z, b, g), everything(small, b, g[:50]), []

    def work():
        for _ in range(20):
            for found, right in ((everything(z, b, g), expected), (everything(small, b, g[:50]), of_small)):
                wrong.extend(1 for ours, theirs in zip(found, right, strict=True) if ours.tobytes() != theirs.tobytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


FORK = """
import os, sys
import numpy as np
from minirelu import kernels
z = np.random.default_rng(0).normal(size=(2100, 130)).astype(np.float32)
b = np.zeros((1, 130), np.float32)
expected = [a.tobytes() for a in kernels.bias_relu_forward(z, b)]
child = os.fork()
if child == 0:
    same = [a.tobytes() for a in kernels.bias_relu_forward(z, b)] == expected
    os._exit(0 if same else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same():
    """A child has none of its parent's threads and starts its own; Numba's pools would end it or hang."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_full_disk_costs_the_cache_and_nothing_else(monkeypatch, tmp_path):
    from numba.core import caching

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    loops = _jit.compiled.__wrapped__(kernels.KERNELS["count_units"].numba)
    y = np.ones((3, 2, 5), np.float64)
    active, nonfinite = np.empty((3, 5), np.int64), np.empty((3, 5), np.int64)
    loops(y, active, nonfinite, np.empty((0, 0), np.uint8), -1, -1)
    assert (active == 2).all()


CACHED = """
import numpy as np
from minirelu import kernels
from minirelu.kernels import _jit
z = np.ones((40, 33), np.float32)
y, mask, _, _ = kernels.bias_relu_forward(z, z[:1].copy())
kernels.relu_backward(z, mask)
kernels.optimiser_step("adam", z, z.copy(), [1.0] * 7, z.copy(), z.copy())
for name in ("bias_relu_forward", "relu_backward", "adam"):
    loops = _jit.compiled(kernels.KERNELS[name].numba)
    print(sum(loops.stats.cache_hits.values()), sum(loops.stats.cache_misses.values()))
"""


def test_another_process_finds_the_compiled_kernels(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    ran = [
        subprocess.run([sys.executable, "-c", CACHED], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert ran[0].split() == ["0", "1"] * 3
    assert ran[1].split() == ["1", "0"] * 3


def test_the_sums_of_the_parallel_version(monkeypatch):
    monkeypatch.setattr(_jit, "PARALLEL_FROM", 1)
    z, b, g = drawn((300, 40), np.float64)
    forward = kernels.bias_relu_forward(z, b)
    assert_backward(kernels.relu_backward(g, forward[1]), g, z + b > 0)


def doubling(njit, lanes, streaming):
    @njit
    def loops(x):
        return 2 * x

    return loops


def test_a_change_in_any_file_of_the_folder_compiles_again(monkeypatch, tmp_path):
    """Numba by itself looks at the one file that the loops are in, and would run what another file said before."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def found():
        loops = _jit.compiled.__wrapped__(doubling)
        assert loops(3) == 6
        return sum(loops.stats.cache_hits.values())

    assert [found(), found()] == [0, 1]
    files = {name: size for name, _, size in _jit._age()}
    assert files["_columns.py"] == (Path(_jit.__file__).parent / "_columns.py").stat().st_size
    monkeypatch.setattr(_jit, "_age", lambda: (("_columns.py", 0, 0),))
    assert [found(), found()] == [0, 1]


def test_a_file_that_leads_nowhere_is_passed_over(monkeypatch, tmp_path):
    """An editor's lock, or a file that is deleted at this moment."""
    (tmp_path / ".#_columns.py").symlink_to("nowhere")
    (tmp_path / "gone.py").symlink_to("nowhere")
    (tmp_path / "there.py").write_text("1")
    monkeypatch.setattr(_jit, "__file__", str(tmp_path / "_jit.py"))
    assert [(name, size) for name, _, size in _jit._age.__wrapped__()] == [("there.py", 1)]
