"""Worker processes: one thread each, nothing changed in the parent, and no worker that outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minirelu.sweep.processes import Failed, Finished, Processes


def threads(task, common, report):
    """What a worker says of its threads."""
    import numba

    return numba.get_num_threads(), {name: os.environ[name] for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}


def forever(task, common, report):
    """Never reports, so it cannot notice by itself that nobody listens."""
    Path(task).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


def answers(pool):
    heard = []
    while pool.busy:
        heard += pool.events(timeout=1)
    return heard


def test_a_worker_has_one_thread_and_the_parent_keeps_its_own():
    before = dict(os.environ)
    with Processes(threads, None, workers=1) as pool:
        pool.submit("task")
        (event,) = answers(pool)
    assert event == Finished("task", (1, {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}))
    assert dict(os.environ) == before


def test_what_a_worker_raises_is_told_with_its_place():
    with Processes(threads, None, workers=1) as pool:
        pool.work = None  # what travels is taken at the start of a worker
        pool.submit("task")
        (event,) = answers(pool)
    assert isinstance(event, Failed)
    assert not event.lost
    assert "'NoneType' object is not callable" in event.why


def test_a_worker_has_its_next_task_before_its_last_answer_is_heard():
    with Processes(threads, None, workers=1) as pool:
        pool.submit("first")
        pool.submit("second")
        heard = (event for _ in range(100) for event in pool.events(timeout=1))
        assert next(heard).task == "first"
        assert pool._workers[0].task == "second"
        assert next(heard).task == "second"


SCRIPT = """
import sys
from test_sweep_processes import forever
from minirelu.sweep.processes import Processes

if __name__ == "__main__":
    with Processes(forever, None, workers=1) as pool:
        pool.submit(sys.argv[1])
        while pool.busy:
            list(pool.events(timeout=1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_worker_ends_when_its_parent_is_killed_in_the_middle_of_a_task(tmp_path):
    script, said = tmp_path / "sweep_script.py", tmp_path / "pid"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", ".", os.environ.get("PYTHONPATH", "")])}
    parent = subprocess.Popen([sys.executable, str(script), str(said)], env=environment)
    pid = int(wait_for(lambda: said.exists() and said.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not alive(pid))


def wait_for(condition):
    until = time.monotonic() + 60
    while not (answer := condition()):
        assert time.monotonic() < until, "waited for 60 seconds"
        time.sleep(0.02)
    return answer


def alive(pid):
    """Whether a process runs; an orphan that has ended but was not yet collected does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
