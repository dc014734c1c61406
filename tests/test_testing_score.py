"""The score: mutants are made and killed, false alarms and power are counted, and the page is renewed."""

import ast
import json

import numpy as np
import pytest

from minirelu import kernels, ops
from minirelu.testing import GradientMismatch, NoVerdict, __main__, mutants, peers, score, tables
from minirelu.testing.explained import reason

SOURCE = '''
def f(x, *, keep=False):
    """A - B is not code."""
    if x > 0:
        raise ValueError("x + 1")
    return x[1:] @ swap(x) - 2 * where(x, -x, 0), lambda g: g + x
'''


def test_what_is_mutated():
    found = {(m.kind, m.before, m.after) for m in mutants.mutants("m", SOURCE)}
    assert ("comparison", "x > 0", "x >= 0") in found
    assert ("comparison", "x > 0", "x < 0") in found
    assert ("transpose", "swap(x)", "x") in found
    assert ("slice", "1:", "1 + 1:") in found
    assert ("operator", "g + x", "g - x") in found
    assert ("dropped term", "g + x", "g") in found
    assert ("sign", "-x", "x") in found
    assert ("sign", "lambda g: g + x", "lambda g: -(g + x)") in found
    assert ("branch", "where(x, -x, 0)", "where(x, 0, -x)") in found
    assert ("default", "False", "True") in found
    assert not any("A - B" in before or "x + 1" in before for _, before, _ in found)
    for mutant in mutants.mutants("m", SOURCE):
        assert ast.dump(mutant.tree) != ast.dump(ast.parse(SOURCE))
        compile(mutant.tree, "mutant", "exec")


def test_mutants_of_ops_and_of_the_kernels_die():
    """A sample; the whole is `python -m minirelu.testing score`."""
    chosen = mutants.of_ops()[::45] + mutants.of_kernels()[::2]
    with kernels.using("reference"):  # nothing to compile
        outcomes = [(mutant, mutants.kill(mutant)) for mutant in chosen]
    alive = [(str(mutant), how) for mutant, how in outcomes if how != "killed" and not reason(mutant)]
    assert len(outcomes) >= 10
    assert [how for _, how in outcomes].count("killed") >= 0.8 * len(outcomes)
    assert alive == []


@pytest.mark.long
def test_every_mutant_is_killed_or_explained():
    alive = [str(m) for m in mutants.of_ops() + mutants.of_kernels() if mutants.kill(m) != "killed" and not reason(m)]
    assert alive == []


def test_a_kernel_is_itself_again_after_its_mutants():
    before = dict(kernels.KERNELS)
    assert "relu_backward" in mutants.backward_kernels()
    mutants.kill(mutants.of_kernels()[0])
    assert before == kernels.KERNELS


def test_the_unmutated_source_survives():
    """Otherwise a crash of the machinery would count as a kill."""
    source = mutants.inspect.getsource(ops)
    for name in ("affine_relu", "max", "index"):
        same = mutants.Mutant("ops", name, 1, "none", "", "", ast.parse(source))
        assert mutants.kill(same) == "survived"


@pytest.mark.parametrize("dtype", score.DTYPES)
def test_no_false_alarms(dtype):
    outcomes = [score.outcome(lambda i=i: score.trial(i, dtype)) for i in range(60)]
    assert outcomes.count("caught") == 0
    assert outcomes.count("passed") >= 55


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dtype", score.DTYPES)
def test_no_false_alarms_in_ten_thousand_trials(dtype):
    assert [i for i in range(10_000) if score.outcome(lambda i=i: score.trial(i, dtype)) == "caught"] == []


def test_outcomes():
    def raises(error):
        raise error

    assert score.outcome(lambda: None) == "passed"
    assert score.outcome(lambda: raises(NoVerdict("why"))) == "no verdict"
    with pytest.raises(ZeroDivisionError):
        score.outcome(lambda: 1 / 0)


def test_power_grows_with_the_fault():
    assert not any(score._notices(None, 100, 0.0, np.float64, seed) for seed in range(5))
    assert not any(score._notices(None, 100, 1e-8, np.float32, seed) for seed in range(5))
    assert all(score._notices(None, 100, 1e-6, np.float64, seed) for seed in range(5))
    assert all(score._notices(None, 100, 1e-2, np.float32, seed) for seed in range(5))


def test_wilson_intervals():
    assert score.interval(0, 10_000) == (0.0, 3e-4)
    low, high = score.interval(5, 10)
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)
    assert score.interval(10, 10)[1] == 1.0


def test_peers_object_to_a_wrong_gradient_and_to_nothing_else():
    x = np.array([1.5, -0.5])
    for check in peers.installed().values():
        assert peers.objects(check, np.exp, lambda g, x: (-g * np.exp(x),), [x])
        assert not peers.objects(check, np.exp, lambda g, x: (g * np.exp(x),), [x])
    assert set(peers.versions()) == {"numpy", "numba", "torch", "jax", "autograd"}


RESULT = {
    "machine": {"date": "2026-01-01", "python": "CPython 3", "libraries": {"numpy": "2.4", "autograd": None}},
    "seconds": 12,
    "faults": [{"fault": "f", "dtype": "float64", "seeds": 2, "caught": {"minirelu": 2, "other": 1}}],
    "mutants": [
        {"source": "ops.py", "mutants": 9, "killed": 8}
        | {"not_killed": [{"mutant": "m in: l", "outcome": "survived", "why": "w"}]}
    ],
    "false_alarms": [
        {"checker": "minirelu", "dtype": "float64", "trials": 9, "alarms": 0, "no_verdict": 1, "low": 0.0, "high": 0.3}
    ],
    "power": [{"checker": "minirelu", "dtype": "float64", "entries": 10, "size": 1e-4, "trials": 4, "caught": 3}],
}


def test_tables_and_page(tmp_path):
    page, result = tmp_path / "testing.md", tmp_path / "testing.json"
    page.write_text("before\n<!-- testing score -->\nold\n<!-- end -->\nafter\n")
    tables.publish(RESULT, result, page)
    text = page.read_text()
    assert text.startswith("before\n<!-- testing score -->\n**Planted")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    for line in (
        "| float64 | 1 × 2 | 100% | 50% |",
        "| minirelu | float64 | 9 | 0 | 1 | 0.00% [0.00%, 30.00%] |",
        "| minirelu | 10 | 0.75 |",
        "| ops.py | 9 | 8 | 0 | 1 | 1 of 1 |",
        "- w: `m`",
        "autograd not installed",
    ):
        assert line in text
    assert json.loads(result.read_text()) == RESULT
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no marks"):
        tables.publish(RESULT, result, page)


def test_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(score, "run", lambda trials, power: {**RESULT, "seconds": trials + power})
    __main__.main(["score", "--dry", "--trials", "5", "--power", "2"])
    assert "7 s." in capsys.readouterr().out
    with pytest.raises(SystemExit):
        __main__.main(["score", "--trials", "0"])
    assert "must be at least 1, got 0 and 40" in capsys.readouterr().err
    monkeypatch.setattr(__main__, "ROOT", tmp_path)
    monkeypatch.setattr(__main__, "PAGE", tmp_path / "docs/testing.md")
    with pytest.raises(SystemExit):
        __main__.main(["score"])
    assert "run it in a checkout, or with --dry" in capsys.readouterr().err


def test_mismatches_are_assertions():
    assert issubclass(GradientMismatch, AssertionError)
