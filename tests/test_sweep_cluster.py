"""Dask: the same store as with processes, also when workers are killed, and a cluster of the user's own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sweep_work
from sweep_work import GRID, assert_equal, run
from typer.testing import CliRunner

from minirelu import cli, sweep
from minirelu.experiments import sweeps

distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install 'minirelu[dask]'")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sweep_work.trained(tmp_path_factory.mktemp("whole"))


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_dask_workers_that_are_killed_change_nothing(tmp_path, monkeypatch, whole):
    monkeypatch.setenv("MINIRELU_KERNELS", "reference")
    killed = []

    def kill(progress):
        if not killed and progress.done > 0:
            pids = distributed.default_client().run(os.getpid).values()
            killed.append(next(iter(pids)))
            os.kill(killed[0], signal.SIGKILL)

    report = run(GRID, tmp_path, sweep_work.slow, "dask", on_progress=kill)
    assert (report.failed, len(killed)) == (0, 1)
    assert_equal(tmp_path, whole)


CLUSTER = """
import time
from distributed import LocalCluster
cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None)
print(cluster.scheduler_address, flush=True)
time.sleep(600)
"""


@pytest.fixture
def cluster():
    """A process that is a scheduler and its worker, and the address."""
    command = [sys.executable, "-c", CLUSTER]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_killed_ends_the_sweep_with_a_sentence(tmp_path, cluster, monkeypatch, caplog):
    process, address = cluster
    monkeypatch.chdir(tmp_path)
    axes = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {**sweep_work.AXES, "steps": 50_000}.items())
    Path("grid.toml").write_text(f'{axes}\noptimizer = "adam"\nseed = [0, 1, 2]')

    def kill(progress):
        if progress.shards_done:
            process.kill()

    monkeypatch.setattr(sweeps, "_plainly", lambda console: kill)
    monkeypatch.setattr("sys.argv", ["minirelu", "sweep", "grid.toml"])
    result = CliRunner().invoke(cli.app, ["sweep", "grid.toml", "--out", "runs", "--dask", address])
    words = " ".join(result.output.split())
    assert result.exit_code == 2, words
    assert f"the connection to the Dask scheduler at {address} was lost" in words
    assert "Traceback" not in words + caplog.text
    assert 0 < sweep.status("runs").done < 9
    assert "BackendUnavailableError: the connection" in sweep.status("runs").session["stopped"]


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_at_an_address_is_left_as_it_was(tmp_path):
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        report = run(GRID, tmp_path, sweep_work.raising, cluster.scheduler_address)
        assert report.failed == 2
        assert "ZeroDivisionError: width 5" in report.why
        assert run(GRID, tmp_path, sweep_work.made_up, cluster.scheduler_address)[1:3] == (16, 0)
        with distributed.Client(cluster) as client:
            assert client.submit(abs, -1).result() == 1
            (worker,) = cluster.workers.values()
            assert not [name for name in worker.plugins if name.startswith("minirelu")]
