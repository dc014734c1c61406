"""Philox4x32-10 against Random123's vectors, and the rows of minibatches against Python's integers."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minirelu.kernels import philox


def words_of(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # kat_vectors of Random123, philox4x32 10
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter, key, expected):
    counter, key, expected = words_of(counter), words_of(key), words_of(expected)
    assert plain_philox(counter, key) == expected
    found = philox.reference(tuple(map(np.uint64, counter)), tuple(map(np.uint64, key)))
    assert [int(word) for word in found] == expected


def plain_philox(counter, key):
    """Salmon et al. 2011, §3.3 and §4.2, in Python's integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = q // 2**32 ^ c1 ^ k0, q % 2**32, p // 2**32 ^ c3 ^ k1, p % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


@pytest.mark.parametrize("batch", [1, 4, 7])
@pytest.mark.parametrize("rows", [1, 10, 1000, 2**31 + 11])
def test_batch_rows_against_plain_integers(batch, rows):
    seeds, first = [0, 1, 2**32 + 5, 2**64 - 1], 2**32 - 2
    found = philox.batch_rows(np.array(seeds, np.uint64), first, 2, batch, rows)
    assert found.dtype == np.int64
    assert found.shape == (4, 2, batch)
    for r, seed in enumerate(seeds):
        for t in range(2):
            blocks = [plain_philox([first + t, block, 0, 0], [seed % 2**32, seed >> 32]) for block in range(2)]
            assert found[r, t].tolist() == [word * rows >> 32 for word in itertools.chain(*blocks)][:batch]


def test_batch_rows_depend_on_seed_and_step_alone():
    seeds = np.arange(5, dtype=np.uint64)
    together = philox.batch_rows(seeds, 0, 10, 6, 100)
    assert_array_equal(philox.batch_rows(seeds[2:4], 0, 10, 6, 100), together[2:4])
    assert_array_equal(philox.batch_rows(seeds, 7, 3, 6, 100), together[:, 7:])
    assert together.min() >= 0
    assert together.max() < 100
