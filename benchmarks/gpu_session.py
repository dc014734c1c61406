"""make gpu: all that a machine with a GPU is needed for, in one call of under ten minutes that loses nothing it has found.

    python -m benchmarks.gpu_session [--output benchmarks/results/gpu.json]

Each part is a process with a time limit of its own, and none waits for another's success: installing minirelu, the tests
marked gpu, the rows of every kernel, the training, compute-sanitizer's memcheck and racecheck. The JSON is written after each
part, and by the benchmarks after each case. The exit status is 0 if all that could run did well, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import report

ROOT = Path(__file__).parent.parent
TOTAL = 585.0  # seconds for everything
TAIL = 2000  # characters of a part's output that are kept
# without the project's own settings, which want plugins that may not be there; a warning of CuPy's is no error here
PYTEST = ("-m", "pytest", "-c", os.devnull, "--rootdir", str(ROOT), "-qW", "ignore", str(ROOT / "tests" / "test_gpu.py"))


class Part(NamedTuple):
    """A command and the seconds it may take; or why there is none."""

    name: str
    command: tuple[str, ...]
    limit: float
    missing: str = ""


def parts(output: Path) -> list[Part]:
    """What is to be done, the most important first."""
    python = sys.executable
    bench = (python, "-m", "benchmarks", "gpu", "--output", str(output), "--part")
    pip = (python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    return [
        Part("install", pip, 60),
        Part("tests", (python, *PYTEST), 150),
        Part("kernels", (*bench, "kernels", "--seconds", "190"), 230),
        Part("training", (*bench, "training"), 150),
        *(sanitizer(tool) for tool in ("memcheck", "racecheck")),
    ]


def sanitizer(tool: str) -> Part:
    """Some of the tests under one of compute-sanitizer's tools."""
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    options = ("--tool", tool, "--error-exitcode", "1", "--report-api-errors", "no", "--target-processes", "all")
    command = (found or "compute-sanitizer", *options, sys.executable, *PYTEST, "-k", "sanitized")
    return Part(tool, command, 60, "" if found else "compute-sanitizer is not here")


def main(arguments: list[str] | None = None) -> int:
    """Do all parts; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_session")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    output = parser.parse_args(arguments).output.resolve()
    return session(parts(output), output, TOTAL)


def session(todo: list[Part], output: Path, total: float) -> int:
    """Do `todo` within `total` seconds; each part's outcome is in the JSON at `output` under "parts"."""
    end = time.monotonic() + total
    output.parent.mkdir(parents=True, exist_ok=True)
    report.write(output, {"benchmark": "gpu", "parts": {}})
    bad = []
    for part in todo:
        outcome = _done(part, min(part.limit, end - time.monotonic()))
        result = json.loads(output.read_text())
        result["parts"] = result.get("parts", {}) | {part.name: outcome}
        report.write(output, result)
        if not outcome["well"]:
            bad.append(part.name)
        print(f"make gpu: {part.name}: {outcome['outcome']}, {outcome['seconds']:.0f} s", flush=True)
    print(f"make gpu: results in {output}; " + (f"not well: {', '.join(bad)}" if bad else "all well"), flush=True)
    return 1 if bad else 0


def _done(part: Part, limit: float) -> dict[str, Any]:
    """Run a part, show what it says, and say how it ended."""
    if part.missing or limit <= 0:
        why = part.missing or "no time was left"
        return {"well": bool(part.missing), "outcome": f"left out, {why}", "seconds": 0.0, "said": ""}
    start = time.monotonic()
    code, said = _run(part.command, limit)
    outcome = {None: f"stopped after its {limit:.0f} s", 0: "well"}.get(code, f"exit status {code}")
    seconds = round(time.monotonic() - start, 1)
    return {"well": code == 0, "outcome": outcome, "seconds": seconds, "said": said[-TAIL:]}


def _run(command: tuple[str, ...], limit: float) -> tuple[int | None, str]:
    """(exit status, None if it was stopped; all output), shown as it comes. Processes of its own are stopped with it."""
    said: list[str] = []
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "MINIRELU_GPU": "needed"}
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return 127, str(error)
    stopped = _Alarm(process, limit)
    with process, stopped:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
        code = process.wait()
    return (None if stopped.rang else code), "".join(said)


class _Alarm:
    """Kills a process and its children when its time is over, and in any case at the end of the context."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self.process, self.rang = process, False
        self.timer = threading.Timer(seconds, self._ring)

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        self._kill()

    def _ring(self) -> None:
        self.rang = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # start_new_session: the group has the process's number


if __name__ == "__main__":
    sys.exit(main())
