"""The gradient checkers of others, at their default settings, on the same NumPy functions and hand-written gradients.

- `CHECKERS`: {name: check(f, vjp, args)}, which raises if the checker objects; those that are installed.
- `versions()`: {library: version, or None where it is not installed}.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Checker = Callable[[Callable[..., Any], Callable[..., Any], list[np.ndarray]], None]


def torch_gradcheck(f: Callable[..., Any], vjp: Callable[..., Any], args: list[np.ndarray], fast: bool = False) -> None:
    import torch

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *xs: Any) -> Any:
            ctx.save_for_backward(*xs)
            return torch.from_numpy(np.array(f(*(x.detach().numpy() for x in xs))))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            found = vjp(g.numpy(), *(x.detach().numpy() for x in ctx.saved_tensors))
            return tuple(torch.from_numpy(np.array(d)) for d in found)

    inputs = [torch.from_numpy(x.copy()).requires_grad_() for x in args]
    torch.autograd.gradcheck(Function.apply, inputs, fast_mode=fast)


def torch_fast(f: Callable[..., Any], vjp: Callable[..., Any], args: list[np.ndarray]) -> None:
    torch_gradcheck(f, vjp, args, fast=True)


def jax_check_grads(f: Callable[..., Any], vjp: Callable[..., Any], args: list[np.ndarray]) -> None:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    kinds = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in args]
    y = np.asarray(f(*args))

    def host(*xs: Any) -> Any:
        return np.asarray(f(*(np.array(x) for x in xs))).astype(y.dtype)

    def back(g: Any, *xs: Any) -> Any:
        found = vjp(np.array(g), *(np.array(x) for x in xs))
        return tuple(np.asarray(d, x.dtype) for d, x in zip(found, xs, strict=True))

    @jax.custom_vjp
    def op(*xs: Any) -> Any:
        return jax.pure_callback(host, jax.ShapeDtypeStruct(y.shape, y.dtype), *xs)

    op.defvjp(lambda *xs: (op(*xs), xs), lambda xs, g: jax.pure_callback(back, tuple(kinds), g, *xs))
    check_grads(op, [jax.numpy.asarray(x) for x in args], order=1, modes=["rev"])


def autograd_check_grads(f: Callable[..., Any], vjp: Callable[..., Any], args: list[np.ndarray]) -> None:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    op = primitive(f)
    defvjp(op, *(lambda ans, *xs, i=i: lambda g: np.asarray(vjp(g, *xs)[i]) for i in range(len(args))))
    check_grads(op, modes=["rev"], order=1)(*args)


ALL: dict[str, tuple[str, Checker]] = {
    "torch gradcheck": ("torch", torch_gradcheck),
    "torch gradcheck, fast": ("torch", torch_fast),
    "jax check_grads": ("jax", jax_check_grads),
    "autograd check_grads": ("autograd", autograd_check_grads),
}


def installed() -> dict[str, Checker]:
    return {name: check for name, (library, check) in ALL.items() if importlib.util.find_spec(library)}


def objects(check: Checker, f: Callable[..., Any], vjp: Callable[..., Any], args: list[np.ndarray]) -> bool:
    """Whether the checker says that the gradient is wrong, in whatever way."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            check(f, vjp, [x.copy() for x in args])
        except Exception:  # every library has its own: RuntimeError, AssertionError, TypeError …
            return True
    return False


def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for library in ("numpy", "numba", "torch", "jax", "autograd"):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = None
    return found
