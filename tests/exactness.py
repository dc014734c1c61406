"""What equal to the bit means in tests, and the numbers of 16 bits."""

import numpy as np
from numpy.testing import assert_array_equal

try:
    from ml_dtypes import bfloat16
except ImportError:  # a machine with a GPU may be without
    bfloat16 = None
HALVES = [np.float16] if bfloat16 is None else [np.float16, bfloat16]

# Of float16 and bfloat16: 0, subnormal numbers, the smallest normal one, half an ulp of 1, 1 and its neighbours, half an ulp of
# the largest number, that number, infinity, NaN.
PATTERNS = {
    "float16": [0, 1, 2, 0x3FF, 0x400, 0x1000, 0x3BFF, 0x3C00, 0x3C01, 0x4C00, 0x7BFF, 0x7C00, 0x7C01, 0x7E01],
    "bfloat16": [0, 1, 2, 0x7F, 0x80, 0x3B80, 0x3F7F, 0x3F80, 0x3F81, 0x7B00, 0x7F7F, 0x7F80, 0x7F81, 0x7FC1],
}


def special_halves(dtype):
    """PATTERNS with either sign: every sum of two of them is a tie, overflows by rounding, is subnormal, or ordinary."""
    positive = np.array(PATTERNS[np.dtype(dtype).name], np.uint16)
    return np.concatenate([positive, positive | 0x8000]).view(dtype)


def is_float(dtype):
    return dtype.kind == "f" or dtype.name == "bfloat16"


def bits(array):
    """The bit patterns, so that -0 differs from +0; every NaN is one NaN."""
    array = np.array(array)
    if is_float(array.dtype):
        with np.errstate(invalid="ignore"):  # ml_dtypes says so of a signalling NaN
            array[np.isnan(array)] = np.nan
    return array.view(f"u{array.itemsize}")


def assert_same_bits(found, expected):
    """`found` may be on a device."""
    found = found.get() if hasattr(found, "get") else found
    assert found.dtype == expected.dtype
    assert_array_equal(bits(found), bits(expected))
