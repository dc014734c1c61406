"""PyTorch trains the same net from the same start on the same batches to the same parameters."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from minirelu import losses, nn, optim, train

torch = pytest.importorskip("torch", reason="PyTorch is not installed; it comes with minirelu[bench]")

torch.set_num_threads(1)  # the matrices are tiny

STEPS, ROWS, BATCH = 300, 200, 16
INPUTS, WIDTH = 5, 12
# 300 steps of two libraries that add in different orders: a rounding (1e-16) grows by less than 1e5 on this run, except
# where a ReLU would change sides within it, which the fixed seeds exclude.
RELATIVE = 1e-10
# The bias before batch norm has the exact gradient 0, as the mean takes it out again. What both libraries compute for it is
# rounding of 1e-17, which Adam divides by its own size plus eps = 1e-8: up to 1e-9·lr·300 in all, and 1e-6 with a margin.
# (Batch norm stands first, for a later one cancels the biases of all units before it that are active on a whole batch.)
BEFORE_NORM = 1e-6


def make_net():
    rng = np.random.default_rng(1)
    options = {"rng": rng, "dtype": np.float64}
    return nn.Sequential(
        nn.Linear(INPUTS, WIDTH, **options),
        nn.BatchNorm(WIDTH, **options),
        nn.Activation("relu"),
        nn.Residual(nn.Dense(WIDTH, WIDTH, **options), nn.Linear(WIDTH, WIDTH, **options), activation="relu"),
        nn.Linear(WIDTH, 1, **options),
    )


class TorchNet(torch.nn.Module):
    """The same net in PyTorch, with the parameters of ours."""

    def __init__(self, net):
        super().__init__()
        double = {"dtype": torch.float64}
        self.first = torch.nn.Linear(INPUTS, WIDTH, **double)
        self.norm = torch.nn.BatchNorm1d(WIDTH, **double)
        self.inner, self.outer = (torch.nn.Linear(WIDTH, WIDTH, **double) for _ in range(2))
        self.last = torch.nn.Linear(WIDTH, 1, **double)
        with torch.no_grad():
            for theirs, ours in zip(self.parameters(), net.parameters(), strict=True):
                theirs.copy_(torch.tensor(like_torch(ours.data, theirs.shape)))

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.last(torch.relu(x + self.outer(torch.relu(self.inner(x)))))


def like_torch(array, shape):
    """Ours are W (I, O), b (1, O); PyTorch's are weight (O, I) and bias (O,)."""
    return array.T.copy() if len(shape) == 2 else array[0].copy()


OPTIMISERS = {
    "SGD": (lambda p: optim.SGD(p, 0.05), lambda p: torch.optim.SGD(p, lr=0.05)),
    "HeavyBall": (lambda p: optim.HeavyBall(p, 0.01, 0.9), lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
    "Nesterov": (
        lambda p: optim.Nesterov(p, 0.01, 0.9),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    ),
    "Adam": (lambda p: optim.Adam(p, 1e-3), lambda p: torch.optim.Adam(p, lr=1e-3, foreach=False)),
}


@pytest.mark.parametrize(("ours", "theirs"), OPTIMISERS.values(), ids=OPTIMISERS.keys())
def test_the_same_training(ours, theirs):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, INPUTS))
    y = np.sin(2 * X[:, :1]) + X[:, 1:2] * X[:, 2:3]
    net = make_net()
    twin = TorchNet(net)
    opt, twin_opt = ours(net.parameters()), theirs(twin.parameters())
    for x, t in train.minibatches(X, y, BATCH, seeds=3, steps=STEPS):
        loss = losses.mse(net(x), t)
        loss.backward()
        opt.step()
        twin_opt.zero_grad()
        twin_loss = torch.nn.functional.mse_loss(twin(torch.from_numpy(x)), torch.from_numpy(t))
        twin_loss.backward()
        twin_opt.step()
        assert_allclose(loss.item(), twin_loss.item(), rtol=RELATIVE)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        expected = q.detach().numpy()
        # relative to the largest entry of the array: entries near 0 are differences of larger numbers
        tolerance = BEFORE_NORM if p.name == "0.b" else RELATIVE * np.abs(expected).max()
        assert_allclose(like_torch(p.data, q.shape), expected, rtol=0, atol=tolerance, err_msg=p.name)

    norm = net.layers[1]
    mean, variance = twin.norm.running_mean.numpy(), twin.norm.running_var.numpy()
    # the running mean contains the bias, which prediction takes out again but for the running mean's lag
    assert_allclose(norm.running_mean.data[0], mean, rtol=0, atol=BEFORE_NORM)
    assert_allclose(norm.running_variance.data[0], variance, rtol=RELATIVE)
    twin.eval()
    with torch.no_grad():
        expected = twin(torch.from_numpy(X)).numpy()
    assert_allclose(net.predict(X), expected, rtol=0, atol=BEFORE_NORM)


ACTIVATIONS = {
    "leaky_relu": lambda: torch.nn.LeakyReLU(0.01),
    "prelu": lambda: torch.nn.PReLU(dtype=torch.float64),
    "elu": torch.nn.ELU,
}


@pytest.mark.parametrize(("kind", "theirs"), ACTIVATIONS.items())
def test_leaky_units_train_alike(kind, theirs):
    """Adam with clipped gradients on a net of one hidden layer, in float64: the same parameters after 100 steps."""
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(64, INPUTS)), rng.normal(size=(64, 1))
    net = nn.Sequential(
        nn.Dense(INPUTS, WIDTH, rng=rng, dtype=np.float64, activation=kind), nn.Linear(WIDTH, 1, rng=rng, dtype=np.float64)
    )
    linear = lambda i, o: torch.nn.Linear(i, o, dtype=torch.float64)
    twin = torch.nn.Sequential(linear(INPUTS, WIDTH), theirs(), linear(WIDTH, 1))
    shapes = lambda ours, q: ours.data.reshape(q.shape) if q.shape == (1,) else like_torch(ours.data, q.shape)
    with torch.no_grad():
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            q.copy_(torch.tensor(shapes(p, q)))
    opt, twin_opt = optim.Adam(net.parameters(), 1e-2), torch.optim.Adam(twin.parameters(), lr=1e-2, foreach=False)
    for _ in range(100):
        losses.mse(net(X), y).backward()
        norm = optim.clip_gradients(net.parameters(), 0.3)
        opt.step()
        twin_opt.zero_grad()
        torch.nn.functional.mse_loss(twin(torch.from_numpy(X)), torch.from_numpy(y)).backward()
        assert_allclose(norm, torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.3).item(), rtol=RELATIVE)
        twin_opt.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        expected = q.detach().numpy()
        assert_allclose(shapes(p, q), expected, rtol=0, atol=RELATIVE * np.abs(expected).max(), err_msg=p.name)


INITS = {
    "he": lambda w: torch.nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "xavier": torch.nn.init.xavier_normal_,
    "torch_default": lambda w: torch.nn.init.kaiming_uniform_(w, a=5**0.5),
}


@pytest.mark.parametrize("name", INITS)
def test_initialisers_have_the_same_law(name):
    """Two samples of 60,000 weights: the Kolmogorov-Smirnov distance is below its 0.1 % quantile 1.95·√(2/n)."""
    from scipy.stats import ks_2samp

    from minirelu import init

    torch.manual_seed(0)
    drawn = getattr(init, name)(np.random.default_rng(0), (200, 300), np.float64)
    ours = (drawn[0] if isinstance(drawn, tuple) else drawn).ravel()
    theirs = INITS[name](torch.empty(300, 200, dtype=torch.float64)).numpy().ravel()  # (O, I) there
    assert ks_2samp(ours, theirs).statistic < 1.95 * (2 / ours.size) ** 0.5
    assert ks_2samp(ours, 1.1 * theirs).statistic > 1.95 * (2 / ours.size) ** 0.5  # it would notice a tenth


def test_the_same_prediction():
    """One forward pass in evaluation mode with the same numbers everywhere: a few dozen roundings of numbers of size 1."""
    net = make_net()
    rng = np.random.default_rng(2)
    norm = net.layers[1]
    norm.running_mean.data, norm.running_variance.data = rng.normal(size=(1, WIDTH)), rng.uniform(0.5, 2, (1, WIDTH))
    norm.scale.data, norm.shift.data = rng.normal(size=(2, 1, WIDTH))
    twin = TorchNet(net).eval()
    with torch.no_grad():
        twin.norm.running_mean.copy_(torch.from_numpy(norm.running_mean.data[0]))
        twin.norm.running_var.copy_(torch.from_numpy(norm.running_variance.data[0]))
        X = rng.normal(size=(ROWS, INPUTS))
        expected = twin(torch.from_numpy(X)).numpy()
    assert_allclose(net.predict(X), expected, rtol=0, atol=1e-14 * np.abs(expected).max())
