"""The packed mask: which unit is which bit."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minirelu.kernels import mask

UNITS = [0, 1, 31, 32, 33, 127, 128, 129, 1023]  # around the 32 bits of a word, and one long odd row


@pytest.mark.parametrize(("leading", "units"), [*itertools.product([(3,), (2, 3)], UNITS), *itertools.product([(0,)], UNITS)])
def test_masks_are_packed_and_unpacked(leading, units):
    active = np.random.default_rng(units).random((*leading, units)) < 0.5
    packed = mask.pack(active)
    assert packed.dtype == np.uint32
    assert packed.shape == (*leading, math.ceil(units / 32)) == (*leading, mask.words(units))
    assert_array_equal(mask.unpack(packed, units), active)


def test_where_the_bits_of_a_mask_are():
    for j in (0, 1, 31, 32, 63, 64):
        packed = mask.pack(np.arange(65) == j)
        assert packed.tolist() == [(1 << j % 32) if w == j // 32 else 0 for w in range(3)]
