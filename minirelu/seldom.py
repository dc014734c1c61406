"""How often progress is a line, where no terminal shows a bar.

- `seldom()`: a function that says whether a line is due.
"""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 10.0  # seconds between two lines


def seldom() -> Callable[[bool], bool]:
    """Says whether a line is due: after `EVERY` seconds without one, and wherever it is told that something ended."""
    last = time.monotonic()

    def due(ended: bool) -> bool:
        nonlocal last
        if not ended and time.monotonic() - last < EVERY:
            return False
        last = time.monotonic()
        return True

    return due
