"""`check_vjp` and `check_layer`: all that minirelu promises of a primitive, and of a layer, at one point.

Their kinks are known, so that at a kink more is asked than a valid gradient: minirelu's own convention (ops.py), the slope of
the inactive side for relu and its relatives, the middle one for abs, maximum and minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import ops
from ..engine import Var, gradients, no_graph, toposort
from ..nn import Layer
from ..tensor import Tensor
from .gradient import MODES, Check
from .report import Finding, GradientMismatch, NoVerdict, Report, to_paste
from .shrink import shrunk

# What is compared with 0, from the operands; on the negative side lies the slope that minirelu takes at 0.
INACTIVE_SIDE: dict[str, Callable[..., Any]] = {
    "relu": lambda x: x,
    "leaky_relu": lambda x: x,
    "prelu": lambda x, slope: x,
    "elu": lambda x: x,
    "affine_relu": lambda x, W, b: np.matmul(x, W) + b,
    "residual_relu": lambda skip, z: skip + z,
}
MIDDLE = ("abs", "maximum", "minimum")
ONE_KINK = (*MIDDLE, "max", "min")  # in each coordinate; entries that tie share it


def check_gradient(
    f: Callable[..., Any],
    vjp: Callable[..., Any],
    *args: Any,
    rng: np.random.Generator,
    mode: str = "directions",
    directions: int = 3,
    preactivations: Callable[..., Any] | None = None,
    shrink: bool = True,
) -> Report:
    """Check `vjp(g, *args) -> tuple of gradients` against slopes of `f(*args) -> array`, at kinks too.

    `args`: arrays of float32 or float64 of any shape. `mode`: "directions" (a few random ones for each argument, drawn from
    `rng`) or "elementwise" (each coordinate alone). `preactivations(*args)`: the arrays, one or several, that f compares
    with 0, if you have them: they separate kinks that move together, and make the check of a large net quick. `shrink`:
    look for the smallest example of a failure, which takes a hundred more checks.

    ⟨vjp(g), v⟩ = ⟨g, Jv⟩ within a tolerance derived from dtype, fan-in, magnitude and step (rounding.py); at a kink the
    gradient must lie between the two slopes. Returns a `Report`. Raises `GradientMismatch` (an AssertionError) if the
    gradient is wrong, `NoVerdict` where that cannot be decided, `TypeError` or `ValueError` for what is no such function.
    """
    if mode not in MODES:
        raise ValueError(f"mode was {mode!r}; expected one of {', '.join(MODES)}")

    def run(*arrays: Any, rng: np.random.Generator = rng) -> Report:
        return Check(f, vjp, arrays, rng, preactivations).run(mode, directions)

    names = [f"x{i}" for i in range(len(args))]
    options = (f", mode={mode!r}" if mode != MODES[0] else "") + (", preactivations=preactivations" if preactivations else "")
    return explained(run, args, "testing.check_gradient(f, vjp", names, options, shrink)


def explained(
    run: Callable[..., Report], args: Any, call: str, names: list[str], options: str = "", shrink: bool = True
) -> Report:
    """`run(*args)`; if it finds a mismatch, the same with the smallest example of it, as code to paste."""
    try:
        return run(*args)
    except GradientMismatch as mismatch:
        if not shrink:
            raise
        smallest = shrunk(lambda *arrays: run(*arrays, rng=np.random.default_rng(0)), args)
        report = mismatch.report
        report.example = to_paste(call, dict(zip(names, smallest, strict=True)), options)
        raise GradientMismatch(report) from None


# ----------------------------------------------------------------------------------------------------- primitives


def check_vjp(
    primitive: Any,
    *arrays: Any,
    rng: np.random.Generator,
    mode: str = "directions",
    directions: int = 3,
    shrink: bool = True,
    **options: Any,
) -> Report:
    """Check one of minirelu's primitives (or your own `@engine.primitive`) at `arrays`; `options` are its keyword arguments.

    Slopes through the engine, broadcasting summed back; dtype in = dtype out; operands unchanged; gradients that alias
    nothing; a second call that equals the first; at kinks the convention. Raises as `check_gradient` does.
    """
    name = primitive.__name__

    def f(*xs: Any) -> Any:
        return primitive.raw(*xs, **options)[0]

    def vjp(g: Any, *xs: Any) -> list[Any]:
        leaves = [Tensor(x) for x in xs]
        found = gradients(ops.sum(ops.mul(primitive(*leaves, **options), g)))
        return [found[leaf] for leaf in leaves]

    def run(*xs: Any, rng: np.random.Generator = rng) -> Report:
        known = INACTIVE_SIDE.get(name)
        subject = Check(f, vjp, xs, rng, known, pinned=True)
        subject.convention = (lambda below, above: (below + above) / 2) if name in MIDDLE else None
        subject.one_kink = name in ONE_KINK
        _check_contract(subject, lambda: primitive.raw(*xs, **options), xs)
        _check_untracked(subject, lambda *ys: primitive(*ys, **options), xs)
        return subject.run(mode, directions)

    keywords = "".join(f", {key}={value!r}" for key, value in options.items())
    return explained(run, arrays, f"testing.check_vjp({name}", [f"x{i}" for i in range(len(arrays))], keywords, shrink)


def _check_contract(subject: Check, call: Callable[[], Any], arrays: Any) -> None:
    """dtype in = dtype out; what a vjp hands over is nobody else's (engine.py)."""
    y, vjp = call()[:2]
    dtype = np.result_type(*arrays)
    g = np.asarray(np.ones_like(y) * 0.625)
    first = pulled(vjp, g, arrays)
    kept = [np.array(d) for d in first]
    wrong = [str(np.asarray(a).dtype) for a in (y, *first) if np.asarray(a).dtype != dtype]
    if wrong:
        _broken(subject, f"arrays of {dtype} gave {', '.join(wrong)}; cast back in the primitive")
    given = [d for d in first if isinstance(d, np.ndarray) and d is not g]
    if any(np.shares_memory(d, x) for d in given for x in arrays):
        _broken(subject, "a gradient shares memory with an operand")
    fresh = [d for d in given if d.base is None]  # these the engine overwrites
    if any(np.shares_memory(d, other) for i, d in enumerate(fresh) for other in fresh[:i]):
        _broken(subject, "one array was handed over twice")
    for d in fresh:
        d.fill(np.nan)
    for again, before in zip(pulled(vjp, g, arrays), kept, strict=True):
        if not np.array_equal(again, before, equal_nan=True):
            _broken(subject, "the second call of the vjp differs from the first")


def _check_untracked(subject: Check, call: Callable[..., Any], arrays: Any) -> None:
    """An operand that is raw data changes nothing for the others, and one that is used alone gets the same gradient."""

    def found(tracked: Any) -> list[Any]:
        leaves = [Tensor(x) if i in tracked else x for i, x in enumerate(arrays)]
        gradient = gradients(ops.sum(call(*leaves)))
        return [gradient.get(leaf) if isinstance(leaf, Var) else None for leaf in leaves]

    together = found(range(len(arrays)))
    for i in range(len(arrays) if len(arrays) > 1 else 0):
        alone = found([i])[i]
        if alone is None or not np.array_equal(alone, together[i], equal_nan=True):
            _broken(subject, f"the gradient of operand {i} differs when the others are raw data")


def _broken(subject: Check, why: str) -> None:
    subject.fail(Finding.plain("the primitive", why))


def pulled(vjp: Any, g: Any, operands: Any) -> list[Any]:
    """The gradients of all operands from either form of vjp; `g` stays as it is."""
    if isinstance(vjp, tuple):
        return [pull(g) for pull in vjp]
    return list(vjp(np.array(g), list(operands)))


# --------------------------------------------------------------------------------------------------------- layers


def check_layer(
    layer: Layer, x: Any, rng: np.random.Generator, *, mode: str = "directions", directions: int = 2, shrink: bool = True
) -> Report:
    """Check a layer or net at the input `x` (..., B, I): the gradients of x and of every parameter, in the layer's dtype.

    The pre-activations are read from the graph, so kinks are known: units exactly at 0 must take the slope 0 (that of
    their inactive side); units within roundings of 0 are left out. Parameters, running statistics and `.grad` stay as they
    are. Raises as `check_gradient` does.
    """
    parameters = layer.parameters()
    dtype = parameters[0].data.dtype if parameters else np.asarray(x).dtype
    arrays = [np.asarray(x, dtype), *(p.data for p in parameters)]
    names = ["x", *(p.name or f"parameter {i}" for i, p in enumerate(parameters))]

    @contextmanager
    def output(xs: Any) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The layer's output and its leaves, while its parameters are xs[1:]."""
        kept = [(t, t.data) for t in (*parameters, *layer.buffers())]
        try:
            for p, value in zip(parameters, xs[1:], strict=True):
                p.data = value
            leaves = [Tensor(xs[0]), *parameters]
            yield layer(leaves[0]), leaves
        finally:
            for t, value in kept:
                t.data = value

    def f(*xs: Any) -> Any:
        with no_graph(), output(xs) as (y, _):
            return y.data

    def vjp(g: Any, *xs: Any) -> list[Any]:
        with output(xs) as (y, leaves):
            found = gradients(ops.sum(ops.mul(y, g)))
        return [found[leaf] if leaf in found else np.zeros_like(x) for leaf, x in zip(leaves, xs, strict=True)]

    def compared(*xs: Any) -> dict[str, np.ndarray]:
        with output(xs) as (y, _):
            return preactivations(y)

    def run(first: Any, rng: np.random.Generator = rng) -> Report:
        return Check(f, vjp, [first, *arrays[1:]], rng, compared, names, pinned=True).run(mode, directions)

    return explained(run, arrays[:1], "testing.check_layer(layer", ["x"], shrink=shrink)


def preactivations(y: Var) -> dict[str, np.ndarray]:
    """{layer: what its ReLU (or relative) compares with 0} for the graph behind `y`, in forward order."""
    found: dict[str, np.ndarray] = {}
    for var in toposort(y):
        node = var.node
        if node is None or node.op not in INACTIVE_SIDE or any(p is None for p in node.parents):
            continue
        parameter = node.parents[1].name if node.op == "affine_relu" else None  # type: ignore[union-attr]
        name = (parameter or "").rpartition(".")[0] or node.op
        while name in found:
            name += "'"
        found[name] = np.asarray(INACTIVE_SIDE[node.op](*(p.data for p in node.parents)))  # type: ignore[union-attr]
    return found


__all__ = ["GradientMismatch", "NoVerdict", "check_gradient", "check_layer", "check_vjp"]
