"""y = relu(z + skip + b), the end of a residual block, with a packed mask and counts per unit, in one pass.

    s = (z + skip) + b;   y = 0 where s <= 0, else s;   bit = s > 0;   counts as in bias_relu_forward.py

Backward `relu_backward` on the same mask: d skip = dz, which is one array for both branches, and db.
Shapes   z, skip, y (..., B, O); b (..., 1, O); mask uint32 (..., B, ceil(O/32)); active, nonfinite int64 (..., O).
Bytes    per element, with E bytes a number: read 2E, write E + 1/8 (float32: 12.125; 16.125 with a missing store).
Special  the table of bias_relu_forward.py for s; inf - inf is NaN: inactive and non-finite.
16 bits  as in bias_relu_forward.py: both sums in float32, one rounding at the end.
Exact    y, mask and counts are bit-equal on every backend. `y` may be `z` itself.
"""

from __future__ import annotations

from . import bias_relu_forward
from .narrow import wide


def reference(z, b, y, mask, active, nonfinite, skip):
    bias_relu_forward.rectify(wide(z) + wide(skip) + wide(b), y, mask, active, nonfinite)


def numba(njit, lanes, streaming):
    return bias_relu_forward.numba(njit, lanes, streaming, residual=True)


def cuda(z, b, y, mask, active, nonfinite, skip, version=3):
    bias_relu_forward.cuda(z, b, y, mask, active, nonfinite, skip, version, kernel="residual_relu")
