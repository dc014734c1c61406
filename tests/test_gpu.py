"""On a machine with a GPU: the engine on CuPy arrays equals the engine on NumPy arrays. Elsewhere skipped, with the reason."""

import numpy as np
import pytest

from minirelu import Tensor, ops
from minirelu.backend import to_device, to_host
from minirelu.errors import BackendUnavailableError


def on_device(array):
    try:
        return to_device(array)
    except BackendUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fused_layer_on_the_device_equals_the_host(dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((33, 7), (7, 65), (1, 65))]
    found = []
    for place in (np.asarray, on_device):
        x, W, b = (Tensor(place(array)) for array in arrays)
        y = ops.affine_relu(x, W, b)
        (y * y).sum().backward()
        found.append([to_host(a) for a in (y.data, x.grad, W.grad, b.grad)])
    # sums of at most 65 terms in another order: 2·65·eps of numbers of size below 100
    tolerance = 130 * np.finfo(dtype).eps
    for host, device in zip(*found, strict=True):
        np.testing.assert_allclose(device, host, rtol=tolerance, atol=100 * tolerance)
