"""The benchmarks: their statistics, their tables, and that every candidate computes the same step."""

import json

import numpy as np
import pytest

from benchmarks import engine, report, timing


def test_ratio_is_the_median_of_the_rounds_with_an_order_statistic_interval():
    base = np.ones(101)
    times = np.linspace(1, 3, 101)
    middle, low, high = timing.ratio(times, base)
    assert middle == 2.0
    # binomial(101, 1/2): 95 % of the mass lies within 50.5 ± 9.85 ranks
    assert low == pytest.approx(times[40])
    assert high == pytest.approx(times[61])


def test_interleaved_times_every_candidate_in_every_round():
    calls = {"a": 0, "b": 0}

    def call(name):
        calls[name] += 1

    times = timing.interleaved({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=3, seconds=1e-5)
    assert {name: t.shape for name, t in times.items()} == {"a": (3,), "b": (3,)}
    assert all((t > 0).all() for t in times.values())
    assert min(calls.values()) >= 50


@pytest.mark.parametrize("net", engine.NETS)
def test_candidates_take_the_same_steps(net):
    engine._check(engine._candidates(*engine.NETS[net]))


def test_a_wrong_candidate_is_found():
    steps = engine._candidates(*engine.NETS["8-200-1, batch 64"])
    steps["wrong"] = lambda: np.float32(0.5)
    with pytest.raises(AssertionError, match="wrong"):
        engine._check(steps)


RESULT = {
    "base": "NumPy by hand",
    "rounds": 7,
    "machine": {"date": "2026-01-01", "processor": "P", "python": "CPython", "libraries": {"numpy": "2.4", "jax": None}},
    "rows": [
        {"net": "n", "candidate": "minirelu", "median_us": 61.2, "fastest_us": 50.0}
        | {"ratio": 1.234, "ratio_low": 1.2, "ratio_high": 1.3}
    ],
}


def test_table_and_json(tmp_path):
    table = report.table(RESULT)
    assert "| n | **minirelu** | 61 | 50 | 1.23 [1.20, 1.30] |" in table
    assert "numpy 2.4" in table
    assert "jax" not in table
    report.write(tmp_path / "r.json", RESULT)
    assert json.loads((tmp_path / "r.json").read_text()) == RESULT


def test_renew_replaces_between_the_marks_only(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmark engine -->\nold\n<!-- end -->\nafter\n")
    report.renew(readme, "engine", "new")
    assert readme.read_text() == "before\n<!-- benchmark engine -->\nnew\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="no marks"):
        report.renew(readme, "kernels", "new")
