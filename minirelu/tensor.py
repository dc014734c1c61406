"""`Tensor`: a `Var` with operators.

    w = Tensor([1.0, -2.0], name="w")
    loss = (w * w).sum()
    loss.backward()            # assigns w.grad = [2, -4]; calling it again changes nothing

`backward()` assigns, it does not add up: there is no zero_grad. To add gradients, add losses. Comparisons give arrays of
bools. Two tensors are equal (==) only if they are the same object, so that they can be keys of a dict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from . import ops
from .backend import is_array, module_name
from .engine import Array, Var, gradients
from .errors import GraphError


class Tensor(Var):
    """An array that remembers how it was computed. A tensor made by the user is a leaf and gets a gradient.

    `data`: numbers, nested lists, NumPy or CuPy arrays; float32 and float64 stay as they are, integers and lists become
    float64 unless `dtype` says otherwise. The array is not copied.
    """

    __slots__ = ()
    __array_ufunc__ = None  # so that array + tensor comes to Tensor.__radd__

    def __init__(self, data: Any, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(_floating(data, dtype), name)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def T(self) -> Tensor:
        """All axes reversed, as in NumPy; for replicas use `swapaxes()`, which exchanges the last two."""
        return ops.transpose(self)

    def backward(self) -> dict[Var, Array]:
        """Assign `leaf.grad` for every leaf this tensor was computed from, and return {leaf: gradient}.

        A tensor of shape (R,) (a loss per replica) is seeded with ones, so each replica gets its own gradient.
        """
        found = gradients(self)
        for leaf, gradient in found.items():
            leaf.grad = gradient
        return found

    def item(self) -> float:
        """The one number in this tensor, as a Python float."""
        return float(self.data.item())

    __add__ = __radd__ = lambda self, other: ops.add(self, other)
    __mul__ = __rmul__ = lambda self, other: ops.mul(self, other)
    __sub__ = lambda self, other: ops.sub(self, other)
    __rsub__ = lambda self, other: ops.sub(other, self)
    __truediv__ = lambda self, other: ops.div(self, other)
    __rtruediv__ = lambda self, other: ops.div(other, self)
    __pow__ = lambda self, other: ops.pow(self, other)
    __rpow__ = lambda self, other: ops.pow(other, self)
    __matmul__ = lambda self, other: ops.matmul(self, other)
    __rmatmul__ = lambda self, other: ops.matmul(other, self)
    __neg__ = lambda self: ops.neg(self)
    __abs__ = lambda self: ops.abs(self)
    __lt__ = lambda self, other: self.data < _raw(other)
    __le__ = lambda self, other: self.data <= _raw(other)
    __gt__ = lambda self, other: self.data > _raw(other)
    __ge__ = lambda self, other: self.data >= _raw(other)

    def __getitem__(self, key: Any) -> Tensor:
        return ops.index(self, key=key)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def sum(self, axis: ops.Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: ops.Axis = None, keepdims: bool = False) -> Tensor:
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: ops.Axis = None, keepdims: bool = False) -> Tensor:
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: ops.Axis = None, keepdims: bool = False) -> Tensor:
        return ops.min(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        return ops.reshape(self, shape=shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        return ops.transpose(self, axes=(axes[0] if len(axes) == 1 else axes) or None)

    def swapaxes(self, first: int = -1, second: int = -2) -> Tensor:
        return ops.swapaxes(self, first=first, second=second)

    def __float__(self) -> float:
        return self.item()

    def __bool__(self) -> bool:
        return bool(self.data)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self) -> str:
        name = f"{self.name}: " if self.name else ""
        origin = f", from {self.node.op}" if self.node else ""
        return f"Tensor({name}{np.array2string(self.data, threshold=20) if self._on_host else self.data}{origin})"

    @property
    def _on_host(self) -> bool:
        return module_name(self.data) == "numpy"

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a Tensor is not turned into an array silently, as its graph would be lost; use tensor.data")

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise GraphError(
            "a Tensor cannot be written in place, as graphs that hold it would become untrue; "
            "build a new one with ops.where, or give a leaf a new array: tensor.data = array"
        )

    def _refuse_in_place(self, other: Any) -> NoReturn:
        raise GraphError(
            "a Tensor cannot be changed in place, as graphs that hold it would become untrue; "
            "write x = x + y instead of x += y, or give a leaf a new array: tensor.data = array"
        )

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imatmul__ = _refuse_in_place


def _raw(x: Any) -> Any:
    return x.data if isinstance(x, Var) else x


def _floating(data: Any, dtype: Any) -> Array:
    """`data` as a float32 or float64 array of its own array module."""
    if isinstance(data, Var):
        raise TypeError("a Tensor was made from a Tensor; use tensor.data to start a new graph from its values")
    if not is_array(data) or isinstance(data, np.ndarray):
        data = np.asarray(data)
    if dtype is not None:
        data = data.astype(dtype, copy=False)
    elif data.dtype.kind in "iub":
        data = data.astype(np.float64)
    if data.dtype != np.float32 and data.dtype != np.float64:
        raise TypeError(f"a Tensor holds float32 or float64, got {data.dtype}; convert it first")
    return data
