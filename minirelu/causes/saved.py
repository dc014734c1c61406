"""A net of `nn.save`, whose layers are read off its arrays, and how many of its units are silent on some data.

- `opened(path)`: the net. `units(net, x)`: dead and non-finite units, a pair a hidden layer.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib

import numpy as np

from .. import nn
from ..errors import DataError, ShapeError
from ..kernels.train_mlp import Net
from ..train.nets import build
from .measures import hidden, silent

PLAIN = re.compile(r"net/\d+\.\w+")  # names in residual blocks have a second number
WEIGHTS = re.compile(r"net/(\d+)\.W")
Shapes = dict[str, tuple[tuple[int, ...], np.dtype]]  # of the file's arrays, and their dtypes


def opened(path: str | os.PathLike[str]) -> tuple[nn.Sequential, Net]:
    """The ReLU MLP that `nn.save` wrote to `path` (such as `train_mlp(...).net(r)`), with or without batch norm.

    Raises `DataError` for a file that `nn.save` did not write, and `ShapeError` for another kind of net.
    """
    arrays = _shapes(path)
    shape = _shape(path, arrays)
    net = build(shape, np.random.default_rng(0), next(iter(arrays.values()))[1])
    nn.load(path, net)
    return net, shape


def _shapes(path: str | os.PathLike[str]) -> Shapes:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array")
            return {name: (file[name].shape, file[name].dtype) for name in file.files if name.startswith("net/")}
    except FileNotFoundError:
        raise DataError(f"there is no file {os.fspath(path)}; --net takes a file of nn.save") from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, OSError, AttributeError, TypeError) as error:
        raise DataError(f"{os.fspath(path)} is not a file of nn.save ({error}); --net takes a file of nn.save") from error


def _shape(path: str | os.PathLike[str], arrays: Shapes) -> Net:
    places = sorted(int(found[1]) for found in map(WEIGHTS.fullmatch, arrays) if found)
    sides = [arrays[f"net/{k}.W"][0] for k in places]
    kinds = {dtype.name for _, dtype in arrays.values()}
    nested = [name for name in arrays if not PLAIN.fullmatch(name)]
    whole = len(sides) > 1 and all(len(side) == 2 for side in sides) and sides[-1][1] == 1
    if nested or not whole or not kinds <= {"float32", "float64"}:
        holds = f"weights {sides} of {', '.join(sorted(kinds))}" + (f" and {nested[0]}" if nested else "")
        raise ShapeError(
            f"{os.fspath(path)} holds {holds}; expected those of one ReLU MLP without residual blocks, with at least one "
            "hidden layer and one output, W (I, O) each; of replicas save one: train_mlp(...).net(r)"
        )
    return Net(sides[0][0], tuple(side[1] for side in sides[:-1]), False, any(n.endswith(".scale") for n in arrays))


def units(net: nn.Sequential, x: np.ndarray) -> list[tuple[int, int]]:
    """(dead, non-finite) units of each hidden layer on the rows x (N, I): above 0 on none; inf or NaN on some.

    Raises `ShapeError` for other inputs.
    """
    x = x.astype(net.parameters()[0].data.dtype, copy=False)
    return [(int(silent(z).sum()), int((~np.isfinite(z).all(axis=-2)).sum())) for z, _ in hidden(net, x)[0]]
