"""`python -m minirelu.testing score`: check the checks, print the tables, and publish them in docs/testing.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import score, tables

ROOT = Path(__file__).resolve().parents[2]
RESULT, PAGE = ROOT / "benchmarks/results/testing.json", ROOT / "docs/testing.md"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m minirelu.testing", description=__doc__)
    parser.add_argument("what", choices=["score"])
    parser.add_argument("--trials", type=int, default=10_000, help="false-alarm trials for each dtype (default 10000)")
    parser.add_argument("--power", type=int, default=40, help="trials for each point of a power curve (default 40)")
    parser.add_argument("--dry", action="store_true", help="print only: write neither JSON nor docs/testing.md")
    given = parser.parse_args(arguments)
    if given.trials < 1 or given.power < 1:
        parser.error(f"--trials and --power must be at least 1, got {given.trials} and {given.power}")
    if not given.dry and not (RESULT.parent.is_dir() and PAGE.is_file()):
        parser.error(f"there is no {PAGE.relative_to(ROOT)} beside this package; run it in a checkout, or with --dry")
    result = score.run(given.trials, given.power)
    print(tables.tables(result))
    if not given.dry:
        tables.publish(result, RESULT, PAGE)


if __name__ == "__main__":
    main()
