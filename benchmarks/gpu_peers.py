"""The jobs of benchmarks/gpu.py by other libraries on the same card and the same memory: CuPy, PyTorch, JAX.

They do the same job: the activation, a mask (a byte an element), the counts of both kinds, and db.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import jobs, training

Call = Callable[[], Any]
LIBRARIES = ("torch", "jax", "ml_dtypes")
NAMES = ("CuPy", "PyTorch eager", "torch.compile")


def missing() -> list[str]:
    """The libraries that are not installed, and so have no rows; without ml_dtypes there are none of bfloat16."""
    return [library for library in LIBRARIES if importlib.util.find_spec(library) is None]


def found(cupy: Any, work: jobs.Job, arrays: dict[str, Any]) -> dict[str, Call]:
    """{name: call}; a call returns what `work.returns` names."""
    a = arrays | ({"on": _bool_mask(cupy, arrays, work)} if work.kernel == "relu_backward" else {})
    made = {"CuPy": _formulas(cupy, work.kernel, a)}
    if "torch" not in missing():
        import torch

        if torch.cuda.is_available():
            made |= _torch(cupy, torch, work.kernel, a)
    return made


def _bool_mask(cupy: Any, arrays: dict[str, Any], work: jobs.Job) -> Any:
    from minirelu.kernels.mask import unpack

    return unpack(arrays["mask"], work.source.shape[-1])


def _formulas(xp: Any, kernel: str, a: dict[str, Any]) -> Call:
    """In the words that CuPy has; what each word costs is a pass over memory."""

    def counted(y: Any) -> tuple[Any, Any]:
        return (y > 0).sum(axis=-2), (~xp.isfinite(y)).sum(axis=-2)

    def forward() -> Any:
        s = a["z"] + a["b"] if kernel == "bias_relu_forward" else a["z"] + a["skip"] + a["b"]
        y = xp.where(s <= 0, xp.zeros((), s.dtype), s)
        return y, y > 0, *counted(y)

    def backward() -> Any:
        dz = xp.where(a["on"], a["g"], xp.zeros((), a["g"].dtype))
        sums = np.float32 if dz.itemsize == 2 else dz.dtype
        return dz, dz.sum(axis=-2, keepdims=True, dtype=sums).astype(dz.dtype, copy=False)

    return {"relu_backward": backward, "count_units": lambda: counted(a["y"])}.get(kernel, forward)


def _torch(cupy: Any, torch: Any, kernel: str, a: dict[str, Any]) -> dict[str, Call]:
    """Eager as a user writes it, and the same function compiled for these shapes."""
    tensors = {letter: _tensor(torch, array) for letter, array in a.items() if letter != "mask"}

    def counted(y: Any) -> tuple[Any, Any]:
        return (y > 0).sum(-2), (~torch.isfinite(y)).sum(-2)

    def forward(z: Any, b: Any, skip: Any = None) -> Any:
        y = torch.relu(z + b if skip is None else z + skip + b)
        return y, y > 0, *counted(y)

    def backward(g: Any, on: Any) -> Any:
        dz = torch.where(on, g, 0.0)
        return dz, dz.sum(-2, keepdim=True)

    table: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
        "bias_relu_forward": (forward, ("z", "b")),
        "residual_relu": (forward, ("z", "b", "skip")),
        "relu_backward": (backward, ("g", "on")),
        "count_units": (counted, ("y",)),
    }
    function, letters = table[kernel]
    inputs = [tensors[letter] for letter in letters]
    compiled = torch.compile(function, dynamic=False)

    def handed_over(t: Any) -> Any:
        if t.dtype == torch.bfloat16:
            return cupy.from_dlpack(t.view(torch.int16)).view(jobs.number("bfloat16"))
        return cupy.from_dlpack(t.view(torch.uint8)).view(bool) if t.dtype == torch.bool else cupy.from_dlpack(t)

    def spelt(call: Callable[..., Any]) -> Call:
        return _Result(lambda: call(*inputs), lambda: [handed_over(t) for t in call(*inputs)])

    return {"PyTorch eager": spelt(function), "torch.compile": spelt(compiled)}


def _tensor(torch: Any, array: Any) -> Any:
    """PyTorch's tensor over the memory of CuPy's `array`; bfloat16 goes as int16, whatever CuPy's DLPack knows of it."""
    bfloat16 = array.dtype.name == "bfloat16"
    return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16) if bfloat16 else torch.from_dlpack(array)


class _Result:
    """A call for the clock that leaves its tensors alone, and one for the check that hands CuPy's arrays over."""

    def __init__(self, timed: Call, checked: Call) -> None:
        self.timed, self.checked = timed, checked

    def __call__(self) -> Any:
        return self.timed()


def trainings(task: training.Task) -> dict[str, Call]:
    """Whole runs by JAX, vmapped over the replicas, where it sees the card."""
    if "jax" in missing():
        return {}
    import jax

    if jax.default_backend() != "gpu":
        return {}
    from benchmarks.peers import train_jax

    return {"JAX scan, vmapped": train_jax.vmapped(task)}
