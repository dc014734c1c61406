"""The code in README.md and docs/ runs, and says what it claims to say."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.mark.filterwarnings("ignore::minirelu.monitor.DeadUnitsWarning")
def test_readme_example_runs(capsys):
    (example,) = blocks("README.md")
    assert "steps=5000" in example
    exec(compile(example.replace("steps=5000", "steps=50"), "README.md", "exec"), {})
    assert "LayerActivity(layer='0', replica=0, units=200" in capsys.readouterr().out


def test_tour_of_the_engine_is_true():
    names = {}
    for block in blocks("docs/how-it-works.md"):
        if "@primitive" not in block:  # those two quote ops.py
            exec(compile(block, "how-it-works.md", "exec"), names)
    W, b, y = names["W"], names["b"], names["y"]
    assert y.item() == 1.5
    assert y.node.op == "affine_relu"
    assert y.node.parents == [None, W, b]
    assert {key: value.tolist() for key, value in y.node.facts.items()} == {"active": [1], "nonfinite": [0]}
    np.testing.assert_array_equal(W.grad, [[1.0], [2.0]])
    np.testing.assert_array_equal(b.grad, [[1.0]])
    assert names["net"].parameters()[0].shape == (3, 2, 8)


def test_the_page_on_testing_is_true():
    pytest.importorskip("hypothesis")
    names = {}
    for block in blocks("docs/testing.md"):
        exec(compile(block, "testing.md", "exec"), names)
    assert names["report"].comparisons >= 6
    assert "right on both sides of this point" in names["no_verdict"]
    assert "pre-activation (1,) of layer 0 is at its kink, and the gradient goes 2 of the way" in names["finding"]


def test_links_in_the_documents_lead_somewhere():
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
