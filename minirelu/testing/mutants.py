"""Faults made mechanically: every place in a source where an operator, a sign, a comparison, a transpose, a slice or a term
could be another is changed, one at a time, and the checks must notice.

- `mutants(source)`: the changed trees, each with the function it is in and what was changed.
- `of_ops()`, `of_kernels()`: those of ops.py, and of the backward references of the kernels.
- `kill(mutant)`: "killed", "survived", "no verdict" or "no case".

The places are found by reading the source, so new primitives are mutated without a word here; they need a row in cases.py.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels, ops
from .cases import CASES
from .primitives import check_vjp
from .report import GradientMismatch, NoVerdict

BINARY = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Add}
BITS = {ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
COMPARED = {
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
TRANSPOSES = ("swap", "swapaxes", "transpose", "T")
# Nothing in these changes a number: messages, types, the order of evaluation.
PASSED_OVER = (ast.Raise, ast.Import, ast.ImportFrom, ast.AnnAssign, ast.JoinedStr)


@dataclass
class Mutant:
    module: str
    function: str
    line: int
    kind: str
    before: str
    after: str
    tree: ast.Module
    text: str = ""  # the line of the source

    def __str__(self) -> str:
        return f"{self.module}.{self.function}: {self.before} -> {self.after} in: {self.text}"


def mutants(module: str, source: str, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Mutant]:
    """All mutants of the top-level functions of `source` whose names are `wanted`."""
    tree, lines = ast.parse(source), source.splitlines()
    for position, node in enumerate(tree.body):
        if not isinstance(node, ast.FunctionDef) or not wanted(node.name):
            continue
        for path in list(_paths(node)):
            for kind, changed in _changes(_at(node, path)):
                mutated = ast.Module([*tree.body], [])
                mutated.body[position] = copy.deepcopy(node)
                before = ast.unparse(_at(node, path))
                _put(mutated.body[position], path, copy.deepcopy(changed))
                ast.fix_missing_locations(mutated.body[position])
                line = getattr(_at(node, path), "lineno", node.lineno)
                kind = "default" if len(path) > 1 and "defaults" in path[1][0] else kind
                yield Mutant(module, node.name, line, kind, before, ast.unparse(changed), mutated, lines[line - 1].strip())


Path = tuple[tuple[str, int | None], ...]


def _paths(node: ast.AST, path: Path = ()) -> Iterator[Path]:
    """Where expressions are inside `node`: fields and positions in them."""
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "returns", "annotation"):
            continue
        for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, PASSED_OVER) or not isinstance(child, ast.AST) or _is_docstring(child):
                continue
            here = (*path, (name, i))
            if isinstance(child, ast.expr):
                yield here
            yield from _paths(child, here)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _at(node: Any, path: Path) -> Any:
    for name, i in path:
        node = getattr(node, name) if i is None else getattr(node, name)[i]
    return node


def _put(node: Any, path: Path, new: ast.AST) -> None:
    parent, (name, i) = _at(node, path[:-1]), path[-1]
    if i is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[i] = new


# -------------------------------------------------------------------------------------------------------- changes


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(kind, another expression) for one expression."""
    if isinstance(node, ast.BinOp):
        yield from _of_binary(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
        if not isinstance(node.operand, ast.Constant):
            yield "sign", node.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for op in COMPARED.get(type(node.ops[0]), ()):
            yield "comparison", ast.Compare(node.left, [op()], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield "operator", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.IfExp):
        yield "branch", ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Slice):
        for end in ("lower", "upper"):
            if getattr(node, end) is not None:
                yield "slice", _replaced(node, end, ast.BinOp(getattr(node, end), ast.Add(), ast.Constant(1)))
    elif isinstance(node, ast.Lambda):
        yield "sign", ast.Lambda(node.args, ast.UnaryOp(ast.USub(), node.body))
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield "constant", ast.Constant(node.value + 1)  # type: ignore[operator]
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "constant", ast.Constant(not node.value)


def _of_binary(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    kind = type(node.op)
    if kind in BINARY or kind in BITS:
        yield "operator", _replaced(node, "op", {**BINARY, **BITS}[kind]())
        yield "dropped term", node.left
        if kind in (ast.Add, ast.Mult):
            yield "dropped term", node.right
    if kind is ast.MatMult:
        yield "operator", ast.BinOp(node.right, node.op, node.left)


def _of_call(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in TRANSPOSES:
        yield "transpose", node.func.value if isinstance(node.func, ast.Attribute) else node.args[0]
    if name == "where" and len(node.args) == 3:
        yield "branch", _replaced(node, "args", [node.args[0], node.args[2], node.args[1]])
    if name in ("minimum", "maximum", "min", "max"):
        other = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min"}[name]
        if isinstance(node.func, ast.Attribute):
            yield "operator", _replaced(node, "func", _replaced(node.func, "attr", other))
    if name in ("sum", "mean") and isinstance(node.func, ast.Attribute):
        yield "operator", _replaced(node, "func", _replaced(node.func, "attr", "mean" if name == "sum" else "sum"))


def _replaced(node: Any, field: str, value: Any) -> Any:
    changed = copy.copy(node)
    setattr(changed, field, value)
    return changed


# ------------------------------------------------------------------------------------------------ where they come from


def of_ops() -> list[Mutant]:
    """Every mutant of ops.py."""
    return list(mutants("ops", inspect.getsource(ops)))


def of_kernels() -> list[Mutant]:
    """Every mutant of the NumPy references of the kernels' backward paths, with the unpacking of masks."""
    found: list[Mutant] = []
    for name, module in backward_kernels().items():
        found += mutants(name, inspect.getsource(module), lambda function: "reference" in function or "backward" in function)
    return found


def backward_kernels() -> dict[str, types.ModuleType]:
    """The kernels with a file of their own that are a backward pass: their reference has an incoming gradient `g`."""
    files = {name: sys.modules.get(f"{kernels.__name__}.{name}") for name in kernels.KERNELS}
    return {
        name: module
        for name, module in files.items()
        if module is not None and "g" in inspect.signature(kernels.KERNELS[name].reference).parameters
    }


def load(mutant: Mutant, of: types.ModuleType) -> types.ModuleType:
    """The mutated source as a module beside the real one."""
    module = types.ModuleType(of.__name__)
    module.__package__ = of.__package__
    module.__file__ = of.__file__
    exec(compile(mutant.tree, f"<mutant of {of.__name__}>", "exec"), module.__dict__)
    return module


# ------------------------------------------------------------------------------------------------------- killing them


def kill(mutant: Mutant, seed: int = 0) -> str:
    """Run the checks that can see this mutant, at their default settings."""
    with np.errstate(all="ignore"):
        try:
            return _kill_op(mutant, seed) if mutant.module == "ops" else _kill_kernel(mutant, seed)
        except NoVerdict:
            return "no verdict"
        except (GradientMismatch, Exception):  # a mutant that crashes is found out as well
            return "killed"


def _kill_op(mutant: Mutant, seed: int) -> str:
    module = load(mutant, ops)
    names = [name for name in primitives() if name == mutant.function or mutant.function in _helpers(name)]
    if not any(CASES.get(name) for name in names):
        return "no case"
    for name in names:
        _check(getattr(module, name), name, seed)
        if name.startswith("affine"):  # small layers go another way
            with kernels.using("reference"):
                _check(getattr(module, name), name, seed)
    return "survived"


def _kill_kernel(mutant: Mutant, seed: int) -> str:
    kernel = kernels.KERNELS[mutant.module]
    changed = load(mutant, backward_kernels()[mutant.module])
    try:
        kernels.KERNELS[mutant.module] = kernel._replace(reference=changed.reference)
        with kernels.using("reference"):
            for name in ("affine_relu", "residual_relu"):
                _check(getattr(ops, name), name, seed)
    finally:
        kernels.KERNELS[mutant.module] = kernel
    return "survived"


def _check(op: Any, name: str, seed: int) -> None:
    for i, (make, options) in enumerate(CASES.get(name, [])):
        for dtype in (np.float64, np.float32):
            rng = np.random.default_rng([seed, i])
            check_vjp(op, *(np.asarray(x).astype(dtype) for x in make(rng)), rng=rng, shrink=False, **options(rng))


def primitives() -> list[str]:
    return [name for name, op in vars(ops).items() if hasattr(op, "raw") and op.__module__ == ops.__name__]


def _helpers(name: str) -> set[str]:
    """The functions of ops.py that a primitive uses, directly or through others."""
    found: set[str] = set()
    new = {name}
    while new:
        function: Any = getattr(ops, new.pop(), None)
        if not inspect.isfunction(getattr(function, "raw", function)):
            continue
        tree = ast.parse(inspect.getsource(getattr(function, "raw", function)))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & set(vars(ops))
        used = {u for u in used if getattr(getattr(ops, u), "__module__", "") == ops.__name__}
        new |= used - found - {name}
        found |= used
    return found
