"""The benchmark of sweeps: its statistics, and that the page shows the results that are kept."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import __main__ as command
from benchmarks import sweep as benchmark

ROOT = Path(__file__).parent.parent


def test_the_page_shows_the_results_that_are_kept():
    result = json.loads((ROOT / "benchmarks/results/sweep.json").read_text())
    assert set(benchmark.PARTS) < set(result)
    assert benchmark.table(result) in (ROOT / "docs/sweeps.md").read_text()


def test_constants_are_found_again_and_none_is_negative():
    rng = np.random.default_rng(0)
    terms = rng.uniform(1, 2, (20, 3)) * [1, 1e6, 1e4]
    constants = np.array([2e-6, 1e-11, 0.0])
    found = benchmark._nonnegative(terms / (terms @ constants)[:, None])
    np.testing.assert_allclose(found, constants, atol=1e-14)


def test_the_rate_leaves_out_the_first_shard_of_each_worker():
    at = [datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC) for second in (5, 7, 11, 6, 16)]
    frame = pl.DataFrame({"pid": [1, 1, 1, 2, 2], "finished": at, "steps": [1000, 60, 60, 1000, 200]})
    assert benchmark._rate(frame) == pytest.approx(120 / 6 + 200 / 10)


def test_parts_are_those_of_the_benchmark_and_another_is_refused(capsys):
    for part in benchmark.PARTS:
        assert command._parser().parse_args(["sweep", "--part", part]).part == [part]
    before = dict(os.environ)
    with pytest.raises(SystemExit):
        command.main(["sweep", "--part", "coffee"])
    assert "invalid choice: 'coffee'" in capsys.readouterr().err
    assert dict(os.environ) == before  # numbers of threads are set once it is known that something will be measured
