"""Sweeps as a whole: rows that equal single trainings, resuming after whatever may happen, retries, and what is refused."""

import errno
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sweep_work
from sweep_work import GRID, assert_equal, made_up, run

from minirelu import data, kernels, sweep, train
from minirelu.errors import BackendUnavailableError, GridError, StoreError
from minirelu.sweep import running, store, work


@pytest.fixture
def serial(monkeypatch):
    """Shards are done in this process, which spares the start of others."""
    monkeypatch.setattr(running, "Processes", sweep_work.Serial)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The made-up results of GRID."""
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Processes", sweep_work.Serial)
        run(GRID, out)
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return sweep_work.trained(tmp_path_factory.mktemp("trained"))


def parquet(out):
    return sorted(out.glob("results-*/*.parquet"))


def test_rows_are_those_of_single_trainings(tmp_path, serial):
    grid = GRID + sweep.Grid(**{**sweep_work.AXES, "lr": 1e20}, optimizer="ema", seed=3, block="residual", init="he")
    others = {**sweep_work.AXES, "width": 5}
    grid += sweep.Grid(**others, optimizer="nesterov", seed=1, delta=4.0, bias_shift=0.5, init_scale=2.0)
    grid += sweep.Grid(**others, optimizer="adam", seed=1, depth=2, block=["dense", "residual"], batch_norm=[True, False])
    run(grid, tmp_path, sweep_work.train_shard)
    X, y = data.load("gaussian")
    frame, courses = sweep.load(tmp_path), sweep.history(tmp_path)
    assert frame.height == 3 * 6 + 3 * 2 + 3 + 1 + 4
    for row in frame.iter_rows(named=True):
        alone = train.train_mlp(
            X, y, widths=(row["width"],) * row["depth"], block=row["block"], optimizer=row["optimizer"], lr=row["lr"],
            beta=row["beta"], beta2=row["beta2"], eps=row["eps"] or 1e-8, gamma=row["gamma"], batch=row["batch"],
            steps=20, seeds=[row["seed"]], init=row["init"], standardize=False, record_every=1, backend=row["backend"],
            delta=row["delta"], batch_norm=row["batch_norm"], init_scale=row["init_scale"], bias_shift=row["bias_shift"],
        )  # fmt: skip
        course = courses.filter(pl.col("run_id") == row["run_id"]).sort("step", "layer")
        assert course["step"].to_list() == [step for step in range(21) for _ in range(row["depth"])]
        for name in ("dead", "linear", "nonfinite"):
            assert course[name].to_list() == getattr(alone, name).reshape(-1).tolist()
        np.testing.assert_array_equal(course["mse"].to_numpy(), np.repeat(alone.loss[0], row["depth"]))
        np.testing.assert_array_equal(row["mse"], alone.loss[0, -1])
        assert math.isnan(row["dead_share"]) == (row["lr"] == 1e20)
        assert (row["nonfinite"] > 0) == (row["lr"] == 1e20)


@pytest.mark.parametrize(
    ("variable", "there", "expected"),
    [(None, "ok", "cuda"), (None, "no GPU", "auto"), ("numba", "ok", "auto"), ("auto", "ok", "cuda")],
)
def test_workers_take_the_cuda_kernel_where_it_is(monkeypatch, variable, there, expected):
    monkeypatch.setattr(kernels, "available", lambda: {"train_mlp": {"cuda": there}})
    monkeypatch.delenv("MINIRELU_KERNELS", raising=False)
    if variable:
        monkeypatch.setenv("MINIRELU_KERNELS", variable)
    assert work._backend("auto") == expected


def test_real_workers_give_the_same(tmp_path, undisturbed):
    heard = []
    report = run(GRID, tmp_path, on_progress=heard.append)
    assert_equal(tmp_path, undisturbed)
    assert report[:4] == (24, 0, 0, 0)
    pids = sweep.load(tmp_path)["pid"]
    assert pids.n_unique() == 2
    assert os.getpid() not in pids
    assert heard[-1].done == heard[-1].runs == 24
    assert heard[-1].shards_done == heard[-1].shards == len(parquet(tmp_path)) == 6
    assert heard[-1].seconds_left == 0
    assert 0 < heard[-1].dead_share < 1


def test_what_is_there_and_whole_is_not_done_again(tmp_path, serial, undisturbed):
    run(GRID, tmp_path)
    lost, cut_off, altered, *kept = parquet(tmp_path)
    lost.unlink()
    cut_off.write_bytes(cut_off.read_bytes()[:-100])
    content = bytearray(altered.read_bytes())
    content[len(content) // 2] ^= 1
    altered.write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert sweep.status(tmp_path).shards_done == 3
    assert len(sweep.status(tmp_path).damaged) == 2
    report = run(GRID, tmp_path)
    assert report.damaged == 2
    assert report.found == sum(pl.read_parquet(path).height for path in kept)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert_equal(tmp_path, undisturbed)
    assert run(GRID, tmp_path)[:4] == (24, 24, 0, 0)


def test_a_grid_that_grows_computes_what_is_new(tmp_path, serial, undisturbed):
    trained = []

    def counting(shard, sets, report):
        trained.extend(shard.ids)
        return made_up(shard, sets, report)

    first = sweep.Grid(**sweep_work.AXES, optimizer="sgd", gamma=1.0, seed=range(2))
    run(first, tmp_path, counting)
    assert len(trained) == 6
    for _ in range(2):
        run(GRID, tmp_path, counting)
        assert len(trained) == len(set(trained)) == 24
    assert sweep.load(tmp_path).drop(sweep.UNLIKE).equals(sweep.load(undisturbed).drop(sweep.UNLIKE), null_equal=True)
    assert (sweep.status(tmp_path).done, sweep.status(tmp_path).runs) == (24, 24)
    run(first, tmp_path, counting)
    assert len(trained) == 24
    assert (sweep.status(tmp_path).done, sweep.status(tmp_path).stored) == (6, 24)


def test_a_damaged_file_of_another_grid_does_not_stay(tmp_path, serial):
    run(GRID, tmp_path)
    path = parquet(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert run(sweep.Grid(**sweep_work.AXES, optimizer="ema", seed=0), tmp_path).damaged == 1
    assert not path.exists()
    assert 3 < sweep.load(tmp_path).height < 24 + 3


def test_a_shard_that_raises_is_tried_again_and_stops_nothing(tmp_path, serial, undisturbed):
    tries = []

    def raising(shard, sets, report):
        tries.append(shard.key)
        return sweep_work.raising(shard, sets, report)

    report = run(GRID, tmp_path, raising)
    assert report.failed == 2
    assert "ZeroDivisionError: width 5" in report.why
    assert sorted(tries.count(key) for key in set(tries)) == [1, 1, 1, 1, 3, 3]
    status = sweep.status(tmp_path)
    assert (status.done, status.runs, len(status.failed)) == (16, 24, 2)
    assert all("Traceback" in failure["why"] and failure["attempts"] == 3 for failure in status.failed)
    assert run(GRID, tmp_path)[:3] == (24, 16, 0)
    assert sweep.status(tmp_path).failed == []
    assert_equal(tmp_path, undisturbed)


def test_failures_of_a_grid_that_is_not_asked_for_any_more_are_forgotten(tmp_path, serial):
    run(GRID, tmp_path, sweep_work.raising)
    kept = os.listdir(tmp_path / "failed")
    run(GRID, tmp_path, sweep_work.raising)
    assert os.listdir(tmp_path / "failed") == kept != []
    run(sweep.Grid(**{**sweep_work.AXES, "width": 5, "lr": 0.01}, optimizer="sgd", seed=0), tmp_path)
    assert os.listdir(tmp_path / "failed") == []


def test_the_same_file_under_two_paths_is_trained_once(tmp_path, serial, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("a,b\n" + "".join(f"{k},{k * k}\n" for k in range(20)))
    paths = ["./my.csv", str(tmp_path / "my.csv")]
    axes = {**sweep_work.AXES, "data": paths, "target": "b", "seed": range(3)}
    for found in (0, 9):
        assert run(sweep.Grid(**axes, optimizer="sgd"), tmp_path / "runs")[:3] == (9, found, 0)
    assert sweep.load(tmp_path / "runs")["run_id"].n_unique() == sweep.load(tmp_path / "runs").height == 9
    assert (sweep.status(tmp_path / "runs").done, sweep.status(tmp_path / "runs").runs) == (9, 9)


def test_a_disk_that_fills_up_stops_the_sweep_and_keeps_what_is_whole(tmp_path, serial, undisturbed, monkeypatch):
    write, count = store.write_atomically, []

    def full(path, content):
        count.append(path)
        if len(count) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(store, "write_atomically", full)
    with pytest.raises(StoreError, match=r"writing to .* failed: No space left on device; what was finished is kept"):
        run(GRID, tmp_path)
    assert "No space left on device" in sweep.status(tmp_path).session["stopped"]
    monkeypatch.setattr(store, "write_atomically", write)
    assert len(parquet(tmp_path)) == 2
    assert run(GRID, tmp_path).found > 0
    assert_equal(tmp_path, undisturbed)


def test_the_manifest_records_versions_machine_seeds_and_sessions(tmp_path, serial):
    run(GRID, tmp_path)
    run(GRID, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["grid"] == GRID.axes()
    assert manifest["grid"][1]["seed"] == [0, 7]
    assert manifest["results_version"] == 2
    assert sum(shard["runs"] for shard in manifest["shards"].values()) == manifest["runs"] == 24
    assert manifest["data"]["gaussian"]["rows"] == 1000
    assert [session["failed_shards"] for session in manifest["sessions"]] == [0, 0]
    assert manifest["sessions"][0]["versions"]["numpy"] == np.__version__
    assert manifest["sessions"][0]["machine"]["cores"] == os.cpu_count()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (({"lr": 1},), TypeError, "takes a sweep.Grid, got dict"),
        ((GRID, "out", "threads"), ValueError, "executor was given 'threads'; expected 'processes', 'dask', or the address"),
        ((GRID, "out", "processes", 0), ValueError, "workers must be at least 1"),
        ((sweep.Grid(**{**sweep_work.AXES, "data": "airfoil"}, optimizer="sgd", seed=0),), GridError, "airfoil was looked for"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_written(tmp_path, monkeypatch, arguments, error, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIRELU_DATA", str(tmp_path))
    grid, out, *rest = (*arguments, "out")[: max(2, len(arguments))]
    with pytest.raises(error, match=said):
        sweep.run(grid, out, *rest)
    assert os.listdir(tmp_path) == []


def test_a_cluster_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("minirelu.sweep.cluster.CONNECT", 0.2)
    with pytest.raises(BackendUnavailableError, match=r"no Dask scheduler answers at .tcp://127.0.0.1:9|Dask is not installed"):
        sweep.run(GRID, tmp_path, "tcp://127.0.0.1:9")


# ----------------------------------------------------------------------------------------- workers and parents that die


def test_a_worker_that_ends_itself_costs_its_own_shards_only(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setattr(running, "RETRIES", 1)
    report = run(GRID, tmp_path, sweep_work.suicidal)
    assert report.failed == 2
    assert report.why == "its worker process ended with exit status 7"
    assert run(GRID, tmp_path)[1:3] == (16, 0)
    assert_equal(tmp_path, undisturbed)


def test_workers_that_are_killed_are_replaced(tmp_path, monkeypatch, trained):
    monkeypatch.setenv("MINIRELU_KERNELS", "reference")
    killed = []

    def kill(progress):
        if len(killed) < 2 and progress.done > len(killed):
            worker = random.choice(multiprocessing.active_children())
            os.kill(worker.pid, signal.SIGKILL)
            killed.append(worker.pid)

    assert run(GRID, tmp_path, sweep_work.slow, on_progress=kill).failed == 0
    assert len(killed) == 2
    assert_equal(tmp_path, trained)


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
import sweep_work
from pathlib import Path
if __name__ == "__main__":
    sweep_work.run(sweep_work.GRID, Path(sys.argv[1]), sweep_work.slow)
"""


def start(tmp_path, out):
    (tmp_path / "script.py").write_text(SCRIPT)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = {**os.environ, "MINIRELU_KERNELS": "reference", "PYTHONPATH": root}
    command = [sys.executable, tmp_path / "script.py", out, os.path.dirname(os.path.abspath(__file__))]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_a_sweep_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path, kills, trained):
    out, killed = tmp_path / "killed", 0
    for _ in range(10 * kills):
        until = len(parquet(out)) + random.randrange(3)  # files, and then a while
        with start(tmp_path, out) as process:
            try:
                while len(parquet(out)) < until and process.poll() is None:
                    time.sleep(0.01)
                process.wait(random.uniform(0.0, 1.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
        if killed == kills:
            break
        if len(parquet(out)) == 6:  # there is no more to disturb: begin with some of it gone
            for path in random.sample(parquet(out), 3):
                path.unlink()
    assert killed == kills
    with start(tmp_path, out) as process:
        assert process.wait(200) == 0, process.stderr.read()
    assert_equal(out, trained)
    assert sorted(os.listdir(out)) == [".lock", "failed", "manifest.json", "results-2"]
    assert os.listdir(out / "failed") == []


def test_ctrl_c_twice_stops_at_once_and_keeps_what_is_done(tmp_path):
    out = tmp_path / "out"
    for _ in range(20):  # on a busy machine a sweep may have ended before it is stopped
        with start(tmp_path, out) as process:
            while not parquet(out):
                assert process.poll() is None
                time.sleep(0.01)
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.02)
            ended, said = process.wait(60), process.stderr.read()
        if ended:
            break
        for path in parquet(out):
            path.unlink()
    assert ended != 0
    assert "KeyboardInterrupt" in said
    assert sweep.status(out).session["stopped"] == "Ctrl-C"
    assert 1 <= len(parquet(out)) < 6
    assert sweep.load(out).height > 0
