"""Saving a net and its optimiser, and going on as if nothing had happened.

- `save(path, net, opt=None)`: parameters, running statistics, optimiser state and step, in one .npz file.
- `load(path, net, opt=None)`: the same back into a net (and an optimiser) built by the same code.

A run that is resumed with `train.minibatches(..., start=opt.steps)` is bit for bit the run that was never stopped.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import array_module, to_host
from .errors import DataError, ShapeError
from .files import write_atomically

if TYPE_CHECKING:
    from .nn import Layer
    from .optim import Optimiser


def save(path: str | os.PathLike[str], net: Layer, opt: Optimiser | None = None) -> None:
    """Write `net` (and `opt`) to `path`. The file appears whole or not at all; an older one stays until then."""
    arrays = {f"net/{name}": to_host(tensor.data) for name, tensor in _tensors(net).items()}
    if opt is not None:
        arrays |= {f"opt/{name}": array for name, array in opt.state_arrays().items()}
        arrays["opt/kind"] = np.asarray(type(opt).__name__)
    write_atomically(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def load(path: str | os.PathLike[str], net: Layer, opt: Optimiser | None = None) -> None:
    """Fill `net` (and `opt`) from a file of `save`.

    Raises `DataError` for a file that `save` did not write, and `ShapeError` if names or shapes differ; then nothing
    has been changed.
    """
    arrays = _read(path)
    tensors = {f"net/{name}": tensor for name, tensor in _tensors(net).items()}
    given = {name: f"{array.dtype} {array.shape}" for name, array in arrays.items() if name.startswith("net/")}
    expected = {name: f"{tensor.data.dtype} {tensor.data.shape}" for name, tensor in tensors.items()}
    if given != expected:
        differing = sorted(k for k in given.keys() | expected.keys() if given.get(k) != expected.get(k))
        differences = (f"{k} is {given.get(k)} there and {expected.get(k)} here" for k in differing)
        raise ShapeError(f"{path} holds another net: {', '.join(differences)}")
    if opt is not None:
        saved = {name[4:]: array for name, array in arrays.items() if name.startswith("opt/")}
        kind = str(saved.pop("kind", "no optimiser"))
        if kind != type(opt).__name__:
            raise ShapeError(f"{path} holds {kind}, expected {type(opt).__name__}; build the optimiser that was saved")
        opt.load_state_arrays(saved)
    for name, tensor in tensors.items():
        tensor.data = array_module(tensor.data).asarray(arrays[name], tensor.data.dtype)
        tensor.grad = None


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    from zipfile import BadZipFile  # here, because it would take a third of the time of `import minirelu`

    with open(path, "rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array")
            return {name: file[name] for name in file.files}
        except (BadZipFile, zlib.error, ValueError, EOFError, KeyError, OSError, RuntimeError) as error:
            raise DataError(
                f"{path} is not a file of nn.save ({error}); was it cut off or written by something else?"
            ) from error


def _tensors(net: Layer) -> dict[str, Any]:
    tensors = [*net.parameters(), *net.buffers()]
    named = {str(tensor.name): tensor for tensor in tensors}
    if len(named) < len(tensors):
        raise ValueError(
            "two parameters of this net have the same name; put its layers into one nn.Sequential, which names them"
        )
    return named
