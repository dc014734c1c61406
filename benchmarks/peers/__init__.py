"""The same jobs by other libraries, each spelt as well as we could.

- `found(job)`: {name: call}; a call returns what `job.returns` names, or the first of it where the name says "y only".
- `MISSING`: the libraries that are not installed, and so have no rows.
"""

from __future__ import annotations

import importlib
import importlib.util

import numpy as np

from benchmarks.jobs import Job
from benchmarks.peers.arrays import Call

LIBRARIES = ("numpy", "torch", "jax")
MISSING = tuple(library for library in LIBRARIES if importlib.util.find_spec(library) is None)

_TABLES = {
    "bias_relu_forward": "FORWARD",
    "residual_relu": "FORWARD",
    "relu_backward": "BACKWARD",
    "count_units": "COUNTS",
}


def found(job: Job) -> dict[str, Call]:
    """{name: call} for every peer that is installed; of float64 NumPy alone, for which JAX needs a switch."""
    libraries = LIBRARIES if job.source.dtype == np.float32 else ("numpy",)
    calls: dict[str, Call] = {}
    for library in libraries:
        if library not in MISSING:
            spellings = importlib.import_module(f"benchmarks.peers.{library}_")
            calls |= {name: build(job) for name, build in getattr(spellings, _TABLES[job.kernel]).items()}
    return calls
