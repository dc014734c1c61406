"""The training kernel in CUDA C++, executed on the CPU, against the NumPy reference: batches, losses, counts, bits."""

import copy
import re

import cuda_on_cpu
import numpy as np
import pytest
import sweep_work
from numpy.testing import assert_allclose, assert_array_equal
from test_study import TINY, changed
from test_train_mlp import NETS, SHAPES, arrays, assert_same, make, picked
from typer.testing import CliRunner

from minirelu import cli, kernels, sweep, train
from minirelu.errors import BackendUnavailableError
from minirelu.experiments import study
from minirelu.kernels import _train_mlp_cuda, philox
from minirelu.kernels.optimiser_step import RULES
from minirelu.kernels.train_mlp import Net
from minirelu.sweep import running

pytestmark = pytest.mark.skipif(bool(cuda_on_cpu.missing()), reason=cuda_on_cpu.missing() or "g++ is there")
PATHS = ["shared", "split", "global", "batched"]
BOUND = {np.float64: 1e-10, np.float32: 1e-3}  # relative, of losses over 20 steps; kernels/train_mlp.py


def run(
    job, state, path="shared", seed=0, flavour=cuda_on_cpu.PLAIN, threads=64, change=lambda s: s, on_progress=lambda *_: None
):
    """(records, the state afterwards) of the CUDA training, by way of `path`."""
    state = copy.deepcopy(state)
    with pytest.MonkeyPatch.context() as patch, cuda_on_cpu.installed(seed=seed, flavour=flavour, change=change) as cupy:
        patch.setattr(_train_mlp_cuda, "THREADS", threads)
        if path != "shared":
            room = 12 * job.batch + 32 + _train_mlp_cuda.Layout.of(job, False).cells * job.X.itemsize if path == "split" else 0
            cupy.cuda.Device.attributes = {**cupy.cuda.Device.attributes, "MaxSharedMemoryPerBlockOptin": room}
            patch.setattr(_train_mlp_cuda, "LARGEST", 1 << 30 if path == "global" else 0)
        return kernels.train_mlp(job, state, backend="cuda", on_progress=on_progress), state


def reference(job, state):
    state = copy.deepcopy(state)
    return kernels.train_mlp(job, state, backend="reference"), state


def assert_close(found, right, dtype):
    assert_allclose(found[0].loss, right[0].loss, rtol=BOUND[dtype])
    assert_array_equal(found[0].active, right[0].active)
    assert_array_equal(found[0].nonfinite, right[0].nonfinite)
    for ours, theirs in zip(arrays(found[1]), arrays(right[1]), strict=True):
        assert_allclose(ours, theirs, rtol=BOUND[dtype], atol=BOUND[dtype])
    assert found[1].step == right[1].step


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", NETS)
def test_every_net_gives_what_the_reference_gives(name, path):
    job, state = make(NETS[name], "adam", record_at=(0, 1, 20))
    assert_close(run(job, state, path), reference(job, state), np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("net", "batch", "rows"), SHAPES)
def test_every_shape_gives_what_the_reference_gives(net, batch, rows, dtype):
    """Widths and batches that no block of 4x4 sums, and no warp of them, divides; 5 steps, a hundred times as close as 20."""
    job, state = make(net, "adam", dtype=dtype, R=2, rows=rows, batch=batch, record_at=(0, 5))
    found, right = run(job, state), reference(job, state)
    assert_allclose(found[0].loss, right[0].loss, rtol=BOUND[dtype] / 100)
    for ours, theirs in zip(arrays(found[1]), arrays(right[1]), strict=True):
        assert_allclose(ours, theirs, rtol=BOUND[dtype] / 10, atol=BOUND[dtype] / 10)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", PATHS)
def test_every_rule_in_float32(rule, path):
    job, state = make(NETS["residual, normalised"], rule, dtype=np.float32, record_at=(0, 5, 20))
    found, right = run(job, state, path), reference(job, state)
    assert_allclose(found[0].loss, right[0].loss, rtol=BOUND[np.float32])
    dead = [(records.active == 0).sum(axis=-1) for records in (found[0], right[0])]
    assert_array_equal(*dead)


def float64_only(source):
    return re.sub(r"^ENTRY\(\w+_f32.*$", "", source, flags=re.MULTILINE)


@pytest.mark.parametrize("path", PATHS[:3])
def test_no_race_no_access_outside_and_nothing_uninitialised(path):
    for name in ("one layer", "residual, normalised"):
        job, state = make(NETS[name], R=2, batch=5, record_at=(1, 2))
        found = run(job, state, path, seed=11, flavour=cuda_on_cpu.WATCHED_AT_ONCE, threads=32, change=float64_only)
        assert_same(found, run(job, state, path))


@pytest.mark.long
@pytest.mark.parametrize("path", PATHS[:3])
@pytest.mark.parametrize("name", NETS)
def test_no_race_in_many_schedules(name, path):
    """Every net and rule, one warp and several."""
    for seed, rule in enumerate(RULES):
        for dtype, threads in ((np.float32, 64), (np.float64, 32)):
            job, state = make(NETS[name], rule, R=2, batch=5 + seed, record_at=(0, 2), dtype=dtype)
            found = run(job, state, path, seed=seed, flavour=cuda_on_cpu.WATCHED, threads=threads)
            assert_same(found, run(job, state, path))


SANITIZED = """
import numpy as np, cuda_on_cpu, test_cuda_train_mlp as t
for name, net in t.NETS.items():
    for path in t.PATHS[:3]:
        for dtype in (np.float32, np.float64):
            t.run(*t.make(net, R=2, batch=5, record_at=(0, 2), dtype=dtype), path, seed=3, flavour=cuda_on_cpu.ADDRESS)
print("clean")
"""


@pytest.mark.long
def test_address_sanitizer_finds_nothing():
    said = cuda_on_cpu.sanitized(SANITIZED) or pytest.skip("g++ has no libasan.so")
    assert said.endswith("clean\n"), said


def test_no_sum_depends_on_the_threads_or_their_order():
    job, state = make(NETS["normalised"], dtype=np.float32)
    first = run(job, state)
    for seed, threads in ((1, 64), (5, 32), (9, 256)):
        assert_same(run(job, state, seed=seed, threads=threads), first)
    for path in ("split", "global"):
        assert_same(run(job, state, path), first)


@pytest.mark.parametrize("path", PATHS)
def test_a_replica_is_to_the_bit_what_it_is_alone(path):
    job, state = make(NETS["three layers"], "nesterov", R=3, dtype=np.float32)
    together = run(job, state, path)
    alone = run(*picked(job, state, slice(1, 2)), path)
    assert_array_equal(alone[0].loss, together[0].loss[1:2])
    for ours, theirs in zip(arrays(alone[1]), arrays(together[1]), strict=True):
        assert_array_equal(ours, theirs[1:2])


@pytest.mark.parametrize("path", PATHS)
def test_a_run_in_segments_is_the_whole_run(path):
    job, state = make(NETS["two layers"], "adam", record_at=(0, 7, 20))
    whole = run(job, state, path)
    _, half = run(job._replace(record_at=np.array([0, 7])), state, path)
    later, end = run(job._replace(record_at=np.array([20])), half, path)
    assert_array_equal(later.loss[:, 0], whole[0].loss[:, 2])
    for ours, theirs in zip(arrays(end), arrays(whole[1]), strict=True):
        assert_array_equal(ours, theirs)


def test_minibatches_are_those_of_the_cpu():
    """A net of one linear unit whose data are the powers of two: after one step of sgd its weight tells every row drawn."""
    rows, batch = 40, 7
    X = 2.0 ** np.arange(rows)[:, None]
    job, state = make(Net(1, (1,)), "sgd", R=3, record_at=(1, 2))
    ones = np.ones(3)
    job = job._replace(X=X, y=np.zeros(rows), batch=batch, lr=ones, gamma=ones, delta=-ones)  # targets -1
    for step in (0, 5, 2**32 - 3):
        for p, value in zip(state.parameters, (0.0, 1.0, 0.0, 1.0), strict=True):
            p[...] = value  # h = 1 everywhere: the gradient of c is Σ 2(1 + 1)/B, that of w the same, none reaches W
        state.parameters[2][...] = 1.0  # w = 1: that of W is Σ x·(1 + 1 + 1)·2/B
        state.step = step
        _, after = run(job._replace(record_at=np.array([step + 1])), state)
        drawn = philox.batch_rows(job.seeds, step, 1, batch, rows)[:, 0]
        assert_allclose(-after.parameters[0][:, 0, 0], X[drawn, 0].sum(axis=1) * 6 / batch, rtol=1e-14)


@pytest.mark.parametrize("path", PATHS)
def test_a_diverged_replica_is_non_finite_and_not_dead(path):
    job, state = make(NETS["one layer"], "sgd", record_at=(0, 60), lr=np.array([0.01, 1e6, 0.01]))
    records, _ = run(job, state, path)
    right, _ = reference(job, state)
    assert_array_equal(np.isnan(records.loss), np.isnan(right.loss))
    assert_array_equal(records.nonfinite[[0, 2]], 0)
    assert records.nonfinite[1, 1].any()


@pytest.mark.parametrize("path", PATHS)
def test_progress_is_heard_and_may_stop_the_run(path):
    job, state = make(NETS["one layer"], record_at=(0, 10, 20))
    heard = []
    run(job, state, path, on_progress=lambda *now: heard.append(now))
    assert heard[-1][:2] == (60, 60)
    assert 0 <= heard[-1][3] <= 1

    def stop(*now):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, state, path, on_progress=stop)


def test_long_runs_are_several_launches(monkeypatch):
    assert _train_mlp_cuda._segments([0, 1000, 2000, 3000, 9000, 9001], 0) == [(0, 3), (3, 4), (4, 5), (5, 6)]
    monkeypatch.setattr(_train_mlp_cuda, "SEGMENT", 4)
    job, state = make(NETS["one layer"], record_at=(0, 3, 9, 20))
    heard = []
    found = run(job, state, on_progress=lambda done, *_: heard.append(done))
    monkeypatch.undo()
    assert heard == [9, 27, 60]
    assert_same(found, run(job, state))


def test_each_border_between_the_placements_is_at_the_byte(monkeypatch):
    job = make(Net(81, (200,)), batch=10, dtype=np.float32)[0]
    head = 128  # 3 numbers a row of the batch, in 32s
    whole, without = (head + 4 * _train_mlp_cuda.Layout.of(job, beside).cells for beside in (True, False))
    assert head < without < whole
    found = {room: _train_mlp_cuda.placed(job, room) for room in (whole, whole - 1, without, without - 1, 0)}
    assert [(where, shared) for where, _, shared in found.values()] == [
        ("shared", whole), ("split", without), ("split", without), ("global", head), ("global", head)
    ]  # fmt: skip
    for where, layout, _ in found.values():
        assert layout.cells == _train_mlp_cuda.Layout.of(job, where == "shared").cells
    for largest, where in ((without - head, "global"), (without - head - 1, "batched")):
        monkeypatch.setattr(_train_mlp_cuda, "LARGEST", largest)
        assert _train_mlp_cuda.placed(job, 0)[0] == where
        assert _train_mlp_cuda.placed(job, whole)[0] == "shared"


def test_what_fits_no_block_goes_to_the_batched_products():
    fits = make(Net(5, (200,)), batch=64, dtype=np.float32)[0]
    block = _train_mlp_cuda.Layout.of(fits).cells * 4 + 12 * 64 + 1024  # the system takes the last
    assert 3 * block <= 228 << 10  # three blocks of Figure 1's net on a multiprocessor of an H200
    large = make(Net(8, (1000,) * 3), R=1, batch=64, dtype=np.float32)[0]
    assert _train_mlp_cuda.Layout.of(large).cells * 4 > _train_mlp_cuda.LARGEST


def test_the_optimisers_arrays_leave_the_block_first():
    job = make(Net(81, (200,)), batch=64, dtype=np.float32)[0]
    all_of_it, rest = (12 * 64 + _train_mlp_cuda.Layout.of(job, beside).cells * 4 for beside in (True, False))
    assert rest <= cuda_on_cpu.SHARED_LIMIT < all_of_it  # Figure 1's net on superconductivity


def test_blocks_that_share_a_multiprocessor_have_fewer_threads():
    with cuda_on_cpu.installed():
        assert [_train_mlp_cuda._threads(kib << 10) for kib in (1, 50, 74, 100, 200)] == [128, 128, 128, 256, 512]


def test_train_mlp_on_the_gpu_by_name():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    options = {"widths": (9,), "steps": 20, "seeds": range(3), "gamma": [1.0, 1e-3, 10.0], "record_every": 10, "batch": 8}
    with cuda_on_cpu.installed():
        found = train.train_mlp(X, X[:, 0] ** 2, backend="cuda", **options)
    right = train.train_mlp(X, X[:, 0] ** 2, backend="reference", **options)
    assert found.backend == "cuda"
    assert_allclose(found.loss, right.loss, rtol=1e-3)
    assert_array_equal(found.dead, right.dead)


def test_without_a_gpu_it_is_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(BackendUnavailableError, match=r"asked for the cuda kernels: .*minirelu\[cuda\]"):
        train.train_mlp(np.ones((9, 2)), np.arange(9.0), steps=1, seeds=0, backend="cuda", batch=2)


BARRIER = "__syncthreads();"
PREDICTED = "(prediction - e[i]) * share : prediction;\n        }\n        "
BACK = "store<T, 4>(D + c * stride + i, d);\n                }\n            });\n            "
UPDATED = "// three where that takes no more blocks\n        "
FAULTS = {
    "batches of another key": ("0x9E3779B9u, k1", "0x9E3779B8u, k1"),
    "missing barrier": (PREDICTED + BARRIER, PREDICTED),
    "weights moved before they were used": (BACK + BARRIER, BACK),
    "a tail off by one": ("&& j + u < out; u++", "&& j + u <= out; u++"),
    "activations masked before the update's product has read them": (UPDATED + BARRIER, UPDATED),
    "the step after": ("u64(step++)", "u64(++step)"),
    "a bias that stays": ("&& i <= in; u++", "&& i < in; u++"),
    "rows of another block of sums": ("group + a * side.groups()", "N * group + a"),
    "a sum that goes to another row": ("odd ? a : b, 8)", "odd ? b : a, 8)"),
    ">= at the kink": ("r[k] > T(0) ? D[k] : T(0)", "r[k] >= T(0) ? D[k] : T(0)"),
    "a gradient that is left for the next step": ("if (!residual) D[k] = 0;", ""),
    "a moving average of the biased variance": ("T(double(n) / (n - 1)) * spread", "spread"),
    "a gradient for the bias before batch norm": ("if (norm && i == in) sums[0] = {};", ""),
    "uninitialised errors": ("(first ? errors()[i] : 0) + e * e", "errors()[i] + e * e"),
}


def look_for(name, seed):
    """Raises where the fault is found: some by the watcher, some by comparison with the reference."""
    old, new = FAULTS[name]

    def change(source):
        assert source.count(old) == 1, "the text has changed: plant this fault anew"
        return (
            float64_only(source.replace(old, new))
            .replace("ENTRY(train_mlp_split", "//")
            .replace("ENTRY(train_mlp_global", "//")
        )

    job, state = make(
        NETS["residual, normalised"] if "norm" in name or "variance" in name else NETS["two layers"],
        R=2,
        batch=5,
        record_at=(0, 3),
    )
    found = run(job, state, seed=seed, flavour=cuda_on_cpu.WATCHED_AT_ONCE, change=change, threads=32)
    assert_close(found, reference(job, state), np.float64)


@pytest.mark.parametrize(
    "name", [*list(FAULTS)[:5], *(pytest.param(name, marks=pytest.mark.long) for name in list(FAULTS)[5:])]
)
def test_a_planted_fault_is_found(name):
    with pytest.raises((cuda_on_cpu.KernelError, AssertionError)):
        look_for(name, seed=4)


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_in_nearly_any_schedule(name):
    found = 0
    for seed in range(16):
        try:
            look_for(name, seed)
        except (cuda_on_cpu.KernelError, AssertionError):
            found += 1
    assert found >= 15


@pytest.mark.parametrize("asked", [{"device": "cuda"}, {"kernels": "cuda"}])
def test_a_study_on_the_gpu(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(running, "Processes", sweep_work.Serial)
    plan, rest = changed(TINY, steps=10, every=5, depths=(2,), gammas=(1e-3,)), {"kernels": "reference"}
    with cuda_on_cpu.installed():
        study.run(changed(plan, **asked), tmp_path / "cuda")
    study.run(changed(plan, **rest), tmp_path / "cpu")
    found, right = (study.collect(plan, tmp_path / name) for name in ("cuda", "cpu"))
    assert {o.backend for o in found} == {"cuda"}
    assert {o.backend for o in right} == {"engine"}
    for outcome, other in zip(found, right, strict=True):
        for ours, theirs in zip(outcome.course, other.course, strict=True):
            assert (ours.step, ours.layers) == (theirs.step, theirs.layers)
            assert_allclose(ours.mse, theirs.mse, rtol=1e-4)


def test_a_sweep_on_the_gpu(tmp_path, monkeypatch):
    """The same runs on both devices, in fewer shards on the card."""
    monkeypatch.setattr(running, "Processes", sweep_work.Serial)
    with cuda_on_cpu.installed():
        sweep.run(sweep_work.GRID, tmp_path / "cuda", device="cuda")
        sweep.run(sweep_work.GRID, tmp_path / "cpu", device="cpu")
    found, right = (sweep.load(tmp_path / name).sort("run_id") for name in ("cuda", "cpu"))
    assert set(found["backend"]) == {"cuda"} != set(right["backend"])
    assert_array_equal(found["run_id"], right["run_id"])
    assert_array_equal(found["dead_share"], right["dead_share"])
    assert_allclose(found["mse"].to_numpy(), right["mse"].to_numpy(), rtol=1e-3)


def test_a_sweep_that_wants_a_gpu_is_refused_without(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(BackendUnavailableError, match=r"minirelu\[cuda\]"):
        sweep.run(sweep_work.GRID, tmp_path, device="cuda")
    with pytest.raises(ValueError, match="device was given 'gpu'; expected one of auto, cpu, cuda"):
        sweep.run(sweep_work.GRID, tmp_path, device="gpu")
    assert not list(tmp_path.iterdir())
    (tmp_path / "grid.toml").write_text('data = "gaussian"\nlr = 0.1\noptimizer = "sgd"\nsteps = 1\nseed = 1\n')
    asked = ["sweep", str(tmp_path / "grid.toml"), "--out", str(tmp_path / "runs"), "--device", "cuda"]
    refused = CliRunner().invoke(cli.app, asked)
    assert refused.exit_code == 2
    assert "minirelu[cuda]" in refused.output
