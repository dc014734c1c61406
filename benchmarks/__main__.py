"""`python -m benchmarks engine`: run a benchmark, show its table, write its JSON, and renew the table in the README."""

from __future__ import annotations

import os

# One thread for every library, set before any of them is imported.
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse  # noqa: E402
from pathlib import Path  # noqa: E402

from benchmarks import engine, report  # noqa: E402

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=["engine", "all"], help="which benchmark")
    parser.add_argument("--rounds", type=int, default=200, help="interleaved rounds (default 200)")
    parser.add_argument("--dry", action="store_true", help="write neither JSON nor README")
    arguments = parser.parse_args()
    result = engine.run(arguments.rounds)
    print(report.table(result))
    if not arguments.dry:
        report.write(RESULTS / "engine.json", result)
        report.renew(README, "engine", report.table(result))


if __name__ == "__main__":
    main()
