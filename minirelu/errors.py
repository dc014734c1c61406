"""The exceptions that a caller may want to catch; every message is a sentence that says what to do.

- `ShapeError`: arrays whose shapes do not fit together.
- `GraphError`: a question to a graph that is not there, or a write that would falsify one.
- `BackendUnavailableError`: a kernel backend was asked for by name and cannot run here.
- `NotFittedError`: a scaler was used before `fit`.
- `DataError`: a data set that cannot be loaded or trained on.
- `GridError`: the axes of a sweep that cannot be trained; `.problems` has a sentence for each.
- `StoreError`: a folder of results that cannot be written, read or shared.
- `whole(name, value, lowest)`: not an exception, but the sentence about a count that many functions raise.
"""

import operator
from typing import Any


class ShapeError(ValueError):
    """Shapes that do not fit together."""


class GraphError(RuntimeError):
    """A graph that is not there, or an operation that would make an existing graph untrue."""


class BackendUnavailableError(RuntimeError):
    """A kernel backend that was requested by name cannot run on this machine."""


class NotFittedError(ValueError, AttributeError):
    """A scaler was used before `fit`; the bases are those of scikit-learn's error of the same name."""


class DataError(ValueError):
    """A data set that cannot be loaded or trained on."""


class GridError(ValueError):
    """Axes of a sweep that cannot be trained: all that is wrong with them, in `problems`, a sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = f"{len(problems)} things are wrong with this grid" if len(problems) > 1 else "one thing is wrong with this grid"
        super().__init__("\n".join([f"{count}; nothing was run:", *(f"  {problem}" for problem in problems)]))


class StoreError(DataError):
    """A folder of results that cannot be written, read or shared."""


def whole(name: str, value: Any, lowest: int, below: int = 2**32) -> int:
    """`value` as an int from `lowest` to below `below`. Raises `TypeError` or `ValueError`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if not lowest <= number < below:
        raise ValueError(f"{name} is {number}; expected a whole number from {lowest} to below 2**{below.bit_length() - 1}")
    return number
