"""A stand-in for CuPy on a machine without a GPU: an array type of its own around NumPy arrays, as strict as CuPy's.

Strict means: it never mixes with NumPy arrays (numbers and NumPy scalars are welcome), never turns into one without
`get()`, has no `flags.writeable`, and its reductions give 0-d arrays, not scalars. `installed()` registers it as the
module `cupy` while a context lasts.
"""

import contextlib
import sys
import types

import numpy as np

REFUSAL = "fake CuPy was given a NumPy array; CuPy does not convert between the two"


class Flags:
    def __init__(self, flags):
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, flags.owndata


class ndarray:
    __module__ = "cupy"
    __hash__ = None

    def __init__(self, array):
        self._array = array

    dtype = property(lambda self: self._array.dtype)
    shape = property(lambda self: self._array.shape)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    data = property(lambda self: types.SimpleNamespace(ptr=self._array.ctypes.data))
    strides = property(lambda self: self._array.strides)
    base = property(lambda self: None if self._array.base is None else ndarray(self._array.base))
    flags = property(lambda self: Flags(self._array.flags))
    T = property(lambda self: ndarray(self._array.T))

    def get(self):
        return self._array.copy()

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed; use .get()")

    def __array_ufunc__(self, *args, **kwargs):
        raise TypeError(REFUSAL)

    def __array_function__(self, *args, **kwargs):
        raise TypeError(REFUSAL)

    def __getitem__(self, key):
        return wrapped(self._array[unwrapped(key)])

    def __setitem__(self, key, value):
        self._array[unwrapped(key)] = unwrapped(value)

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (wrapped(row) for row in self._array)

    def __bool__(self):
        return bool(self._array)

    def __float__(self):
        return float(self._array)

    def __int__(self):
        return int(self._array)

    def __repr__(self):
        return repr(self._array)

    def item(self):
        return self._array.item()

    def tolist(self):
        return self._array.tolist()


def unwrapped(value):
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(REFUSAL)
    if isinstance(value, (tuple, list)):
        return type(value)(unwrapped(v) for v in value)
    return value


def wrapped(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))
    if isinstance(value, (tuple, list)):
        return type(value)(wrapped(v) for v in value)
    return value


def forwarded(function):
    def call(*args, **kwargs):
        return wrapped(function(*unwrapped(args), **{name: unwrapped(v) for name, v in kwargs.items()}))

    return call


ARITHMETIC = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"]
COMPARISONS = ["lt", "le", "gt", "ge", "eq", "ne"]
OPERATORS = [*ARITHMETIC, *(f"r{name}" for name in ARITHMETIC), *COMPARISONS, "neg", "pos", "abs", "invert"]
SHAPING = ["astype", "reshape", "transpose", "swapaxes", "squeeze", "ravel", "copy", "fill"]
REDUCING = ["sum", "mean", "max", "min", "any", "all", "argmax", "cumsum"]


def in_place(update):
    def call(self, other):
        update(self._array, unwrapped(other))
        return self

    return call


for _name in [*(f"__{name}__" for name in OPERATORS), *SHAPING, *REDUCING]:
    setattr(ndarray, _name, forwarded(getattr(np.ndarray, _name)))
for _name in ARITHMETIC:
    setattr(ndarray, f"__i{_name}__", in_place(getattr(np.ndarray, f"__i{_name}__")))


def asarray(value, dtype=None):
    """The one way from host to device."""
    if isinstance(value, ndarray):
        return value if dtype is None or value.dtype == dtype else value.astype(dtype)
    if hasattr(value, "__cuda_array_interface__"):
        return value.array
    return ndarray(np.array(value, dtype=dtype))


class Module(types.ModuleType):
    """Functions go to NumPy, types are NumPy's."""

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, np.ufunc):
            function = forwarded(found)
            function.at = lambda a, key, b: found.at(a._array, unwrapped(key), unwrapped(b))
            return function
        return forwarded(found) if callable(found) and not isinstance(found, type) else found


@contextlib.contextmanager
def installed(gpu=True):
    """`import cupy` finds this module; `gpu` is what `cupy.cuda.is_available()` says."""
    module = Module("cupy")
    module.ndarray, module.asarray, module.array = ndarray, asarray, asarray
    module.from_dlpack = lambda tensor: tensor.__dlpack__()
    module.cuda = types.SimpleNamespace(is_available=lambda: gpu)
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = module
    try:
        yield module
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before
