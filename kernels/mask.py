"""The packed mask: one bit per unit and row.

`mask` is uint32 (..., B, ceil(O/32)); unit j is bit j % 32 of word j // 32; the padding bits of the last word are 0.
"""

from __future__ import annotations

from typing import Any

from ..backend import array_module

BITS = 32


def words(units: int) -> int:
    """Words per row of a mask for `units` units."""
    return -(-units // BITS)


def pack(active: Any) -> Any:
    """bool (..., B, O) -> uint32 (..., B, ceil(O/32))."""
    xp = array_module(active)
    *rows, units = active.shape
    padded = xp.zeros((*rows, words(units) * BITS), xp.uint32)
    padded[..., :units] = active
    lanes = padded.reshape(*rows, words(units), BITS) << xp.arange(BITS, dtype=xp.uint32)
    return lanes.sum(axis=-1, dtype=xp.uint32)


def unpack(mask: Any, units: int) -> Any:
    """uint32 (..., B, ceil(O/32)) -> bool (..., B, O)."""
    xp = array_module(mask)
    lanes = (mask[..., None] >> xp.arange(BITS, dtype=xp.uint32)) & xp.uint32(1)
    return lanes.reshape(*mask.shape[:-1], mask.shape[-1] * BITS)[..., :units].astype(bool)
