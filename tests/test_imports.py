"""The arrows between the files of minirelu point downward (DESIGN §3), and importing it imports NumPy and nothing else."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "minirelu"

FLOORS = {
    **dict.fromkeys(["errors", "files", "backend", "columns", "seldom"], 0),
    **dict.fromkeys(["engine", "kernels", "products"], 1),
    "ops": 2,
    "tensor": 3,
    **dict.fromkeys(["init", "nn", "losses", "optim", "checkpoint"], 4),
    **dict.fromkeys(["monitor", "train", "testing", "scalers", "pop_art", "theory", "data", "estimates"], 5),
    **dict.fromkeys(["sweep", "causes"], 6),
    "experiments": 7,
    **dict.fromkeys(["cli", "cli_causes", "cli_sweep", "terminal", "__main__"], 8),
}
BESIDE = {"scalers", "theory", "data", "estimates"}  # on NumPy (and SciPy) alone: of minirelu they know floor 0


def files():
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def part(path):
    """The name in FLOORS that a file belongs to; the package's own __init__.py is above all floors."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """The names in FLOORS that a file imports, wherever in the file, also for type checkers alone."""
    package = ["minirelu", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            found = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for names in found:
            if names[0] == "minirelu" and len(names) > 1:
                yield names[1]


def arrows():
    """(file, its name in FLOORS, the name it imports), without the package's own __init__.py."""
    for path in files():
        if part(path) != "__init__":
            for name in imported(path):
                if name != part(path):
                    yield str(path.relative_to(ROOT)), part(path), name


def test_every_file_has_a_floor():
    unknown = {part(path) for path in files()} - set(FLOORS) - {"__init__"}
    assert not unknown, f"give {sorted(unknown)} a floor in FLOORS and in DESIGN §3"


def test_no_arrow_points_up():
    found = list(arrows())
    assert ("minirelu/ops.py", "ops", "engine") in found  # the search finds something
    up = [f"{file} imports {name}" for file, own, name in found if FLOORS[name] > FLOORS[own]]
    assert up == []


def test_what_stands_beside_knows_nothing_of_the_engine():
    inside = [f"{file} imports {name}" for file, own, name in arrows() if own in BESIDE and FLOORS[name] > 0]
    assert inside == []


def test_kernels_know_nothing_of_autograd():
    inside = [f"{file} imports {name}" for file, own, name in arrows() if own == "kernels" and FLOORS[name] > 0]
    assert inside == []


def test_the_search_reads_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "file.py"
    file.write_text(
        "import numpy\nfrom .. import nn\nfrom ..ops import relu\nfrom . import own\nimport minirelu.train as t\n"
        "from minirelu import data\ndef f():\n    from ..kernels.mask import pack\n"
    )
    assert list(imported(file)) == ["nn", "ops", "deep", "train", "data", "kernels"]


@pytest.mark.parametrize("statement", ["import minirelu", "from minirelu import Tensor; (Tensor(1.0) * 2).backward()"])
def test_importing_minirelu_imports_numpy_and_nothing_else(statement):
    heavy = ["numba", "llvmlite", "scipy", "cupy", "sklearn", "pandas", "matplotlib", "torch", "hypothesis", "typer"]
    code = f"{statement}; import sys; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
