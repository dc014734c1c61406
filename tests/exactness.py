"""What equal to the bit means in tests."""

import numpy as np
from numpy.testing import assert_array_equal


def bits(array):
    """The bit patterns, so that -0 differs from +0; every NaN is one NaN."""
    array = np.array(array)
    if array.dtype.kind == "f":
        array[np.isnan(array)] = np.nan
    return array.view(f"u{array.itemsize}")


def assert_same_bits(found, expected):
    """`found` may be on a device."""
    found = found.get() if hasattr(found, "get") else found
    assert found.dtype == expected.dtype
    assert_array_equal(bits(found), bits(expected))
