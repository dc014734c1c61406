"""Hypothesis profiles, chosen by HYPOTHESIS_PROFILE: dev (default), ci (repeatable), intense (many examples)."""

import os

import hypothesis
import pytest

from minirelu import kernels

_SHARED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("dev", max_examples=40, **_SHARED)
hypothesis.settings.register_profile("ci", max_examples=40, derandomize=True, **_SHARED)
hypothesis.settings.register_profile("intense", max_examples=500, **_SHARED)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(why != "ok", reason=why))
    for name, why in kernels.available()["bias_relu_forward"].items()
    if name != "cuda"  # which needs arrays of its own: tests/test_cuda_kernels.py and tests/test_gpu.py
]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Every kernel backend of NumPy arrays that runs here, chosen by name; the others are skipped with their reason."""
    with kernels.using(request.param):
        yield request.param
