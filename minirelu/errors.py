"""The exceptions that a caller may want to catch; every message is a sentence that says what to do.

- `ShapeError`: arrays whose shapes do not fit together.
- `GraphError`: a question to a graph that is not there, or a write that would falsify one.
- `BackendUnavailableError`: a kernel backend was asked for by name and cannot run here.
- `NotFittedError`: a scaler was used before `fit`.
- `DataError`: a data set that cannot be loaded or trained on.
"""


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
