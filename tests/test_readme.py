"""The code in README.md and docs/ runs, and says what it claims to say."""

import re
from pathlib import Path

import numpy as np
import pytest

from minirelu import Tensor, kernels, ops

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
        exec(compile(block, "how-it-works.md", "exec"), names)
    W, b, y = names["W"], names["b"], names["y"]
    assert y.item() == 1.5
    assert y.node.op == "affine_relu"
    assert y.node.parents == [None, W, b]
    assert {key: value.tolist() for key, value in y.node.facts.items()} == {"active": [1], "nonfinite": [0]}
    np.testing.assert_array_equal(W.grad, [[1.0], [2.0]])
    np.testing.assert_array_equal(b.grad, [[1.0]])
    assert names["net"].parameters()[0].shape == (3, 2, 8)
    x, W, b = (Tensor(a) for a in (np.array([[1.0, -2.0]]), np.ones((2, 3)), np.array([[0.0, 1.0, 2.0]])))
    for page, library in ((names["affine_relu"], ops.affine_relu), (names["mul"], ops.mul)):
        given = (x, W, b) if page is names["affine_relu"] else (W, W)
        np.testing.assert_array_equal(page(*given).data, library(*given).data)


@pytest.mark.filterwarnings("ignore::minirelu.monitor.DeadUnitsWarning")
@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("docs/monitor.md", r"^LayerActivity\(layer='0', .*samples=3200\)\n\{'0': .*'1.1': .*costs \d+\.\d % of a step"),
        (
            "docs/data.md",
            r"flats.csv: 20 rows, 2 inputs \('size', 'floor'\)\nflats.csv has no column 'prise' \(did you mean 'price'",
        ),
        ("docs/scalers.md", r"\[ *\d+\.\d+ +\d+\.\d+ *\]"),
        ("docs/causes-and-remedies.md", r"The cause is the bias\. .*Set --bias 0"),
        ("docs/sweeps.md", r"^20\n20 0 0\n20\n3\n420\n4 things are wrong .*'gama' \(did you mean 'gamma'\?\).*lr = -1: "),
    ],
)
def test_examples_of_the_pages_run_and_say_what_they_claim(page, said, capsys):
    names = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    assert re.search(said, capsys.readouterr().out, re.DOTALL)
    if page == "docs/scalers.md":
        np.testing.assert_allclose(names["z"].std(), 1e-4)
        np.testing.assert_allclose(names["back"][:, 0], names["y"], rtol=1e-12)
        assert names["stream"].mean_ == names["scaler"].mean_
        assert names["stream"].scale_ == names["scaler"].scale_


def test_theory_page_is_true():
    names = {}
    (example,) = blocks("docs/theory.md")
    exec(compile(example, "theory.md", "exec"), names)
    linear_system, single_relu, born_dead = (names[key] for key in ("linear_system", "single_relu", "born_dead"))
    assert round(float(linear_system.critical_beta("ema", lr=0.1)), 4) == 0.6694
    first, deepest, depth = linear_system.overshoot("ema", lr=0.1, beta=0.9)
    assert (first, deepest, round(depth, 3)) == (24, 35, -0.153)
    assert round(float(single_relu.active_probability([0.6, 0.8], b=-2.0)), 3) == 0.023
    assert names["found"].dead_share > 0.9
    assert round(born_dead.upper_bound(depth=10, width=3), 3) == 0.699


def test_checks_named_on_the_theory_page_exist():
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/theory.md").read_text())
    assert len(named) >= 10
    assert [name for name in named if f"def {name}(" not in tests] == []


def test_the_page_on_testing_is_true():
    pytest.importorskip("hypothesis")
    names = {}
    for block in blocks("docs/testing.md"):
        exec(compile(block, "testing.md", "exec"), names)
    assert names["report"].comparisons >= 6
    assert "right on both sides of this point" in names["no_verdict"]
    assert "pre-activation (1,) of layer 0 is at its kink, and the gradient goes 2 of the way" in names["finding"]


def test_the_example_of_the_page_on_training_runs(capsys):
    names = {}
    for block in blocks("docs/training.md"):
        exec(compile(block, "training.md", "exec"), names)
    result = names["result"]
    assert result.step.tolist() == [0, 15_000, 30_000, 45_000, 60_000]
    assert (result.dead[:3, -1] <= 2).all()
    assert (result.dead[3:, -1] >= 40).all()
    assert names["predictions"].shape == (442,)


def test_links_in_the_documents_lead_somewhere():
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_example_of_the_cuda_page_runs_with_and_without_a_gpu():
    (example,) = blocks("docs/cuda.md")
    names = {}
    exec(compile(example, "docs/cuda.md", "exec"), names)
    assert names["why"] == kernels.available()["relu_backward"]["cuda"]
    assert type(names["y"]).__module__.partition(".")[0] == ("cupy" if names["why"] == "ok" else "numpy")
