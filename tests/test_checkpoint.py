"""Saving and loading: a resumed run is the run that was never stopped; what does not fit changes nothing."""

import gc
import os
import sys
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minirelu import files, init, losses, nn, optim, train
from minirelu.errors import DataError, ShapeError


def make_net(rng=None, width=4, dtype=np.float32):
    rng = np.random.default_rng(1) if rng is None else rng
    return nn.Sequential(
        nn.Dense(3, width, rng=rng, dtype=dtype),
        nn.Residual(nn.Dense(width, 2, rng=rng, activation="prelu", dtype=dtype), nn.Linear(2, width, rng=rng, dtype=dtype)),
        nn.BatchNorm(width, rng=rng, dtype=dtype),
        nn.Linear(width, 1, rng=rng, dtype=dtype),
    )


OPTIMISERS = {
    "SGD": lambda p, lr=0.02: optim.SGD(p, lr),
    "HeavyBall": lambda p, lr=0.02: optim.HeavyBall(p, lr),
    "Nesterov": lambda p, lr=0.02: optim.Nesterov(p, lr),
    "EMAMomentum": lambda p, lr=0.02: optim.EMAMomentum(p, lr),
    "Adam": lambda p, lr=0.02: optim.Adam(p, lr),
}


def make_data(dtype=np.float32):
    X = np.random.default_rng(2).normal(size=(40, 3)).astype(dtype)
    return X, X[:, :1] * X[:, 1:2]


def loop(net, opt, steps, seeds):
    for x, t in train.minibatches(*make_data(net.parameters()[0].dtype), 8, seeds, steps, start=opt.steps):
        losses.mse(net(x), t).backward()
        opt.step()


def contents(net, opt=None):
    """Copies of everything that a step may depend on."""
    found = [(t.name, t.data.copy()) for t in (*net.parameters(), *net.buffers())]
    return dict(found) | ({} if opt is None else {name: array.copy() for name, array in opt.state_arrays().items()})


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert_array_equal(array, other[name], err_msg=name)
        assert array.dtype == other[name].dtype


# --------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", OPTIMISERS)
def test_a_resumed_run_is_the_run_that_was_never_stopped(kind, dtype, tmp_path):
    make = OPTIMISERS[kind]
    net = make_net(dtype=dtype)
    opt = make(net.parameters())
    loop(net, opt, 33, seeds=5)

    stopped = make_net(dtype=dtype)
    stopped_opt = make(stopped.parameters())
    loop(stopped, stopped_opt, 13, seeds=5)
    nn.save(tmp_path / "half", stopped, stopped_opt)

    resumed = make_net(np.random.default_rng(99), dtype=dtype)
    resumed_opt = make(resumed.parameters(), lr=0.5)
    nn.load(tmp_path / "half", resumed, resumed_opt)
    assert resumed_opt.steps == 13
    loop(resumed, resumed_opt, 20, seeds=5)
    assert_same(contents(resumed, resumed_opt), contents(net, opt))


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_replicas_with_their_own_rates_resume(kind, tmp_path):
    make, seeds, rates = OPTIMISERS[kind], [4, 5, 6], [0.01, 0.02, 1e20]  # the third diverges
    net = make_net(init.replicas(seeds))
    opt = make(net.parameters(), lr=rates)
    loop(net, opt, 9, seeds)
    nn.save(tmp_path / "half.npz", net, opt)
    loop(net, opt, 9, seeds)

    resumed = make_net(init.replicas([1, 2, 3]))
    resumed_opt = make(resumed.parameters())
    nn.load(tmp_path / "half.npz", resumed, resumed_opt)
    assert_array_equal(resumed_opt.lr, np.reshape(rates, (3, 1, 1)))
    loop(resumed, resumed_opt, 9, seeds)
    assert_same(contents(resumed, resumed_opt), contents(net, opt))


def test_fit_resumes(tmp_path):
    net, resumed = make_net(), make_net(np.random.default_rng(3))
    opt, resumed_opt = optim.Adam(net.parameters()), optim.Adam(resumed.parameters())
    X, y = make_data()
    train.fit(net, opt, X, y, steps=12, seeds=1)
    nn.save(tmp_path / "half", net, opt)
    train.fit(net, opt, X, y, steps=30, seeds=1)
    nn.load(tmp_path / "half", resumed, resumed_opt)
    train.fit(resumed, resumed_opt, X, y, steps=30, seeds=1)
    assert_same(contents(resumed, resumed_opt), contents(net, opt))


def test_a_net_alone_predicts_the_same(tmp_path):
    net, other = make_net(), make_net(np.random.default_rng(3))
    opt = optim.SGD(net.parameters(), 0.1)
    loop(net, opt, 5, seeds=0)
    nn.save(tmp_path / "net", net)
    nn.load(tmp_path / "net", other)
    X, _ = make_data()
    assert_array_equal(other.predict(X), net.predict(X))
    nn.save(tmp_path / "both", net, opt)
    fresh = make_net(np.random.default_rng(4))
    nn.load(tmp_path / "both", fresh)  # the optimiser in a file may be left there
    assert_array_equal(fresh.predict(X), net.predict(X))


def test_a_graph_stays_true_after_load(tmp_path):
    net = make_net()
    nn.save(tmp_path / "net", net)
    X, y = make_data()
    opt = optim.SGD(net.parameters(), 0.1)
    loop(net, opt, 3, seeds=0)
    loss = losses.mse(net(X), y)
    expected = {p: g.copy() for p, g in loss.backward().items()}
    nn.load(tmp_path / "net", net)
    assert all(p.grad is None for p in net.parameters())
    for p, g in loss.backward().items():
        assert_array_equal(g, expected[p])


# ------------------------------------------------------------------------------------------------ what does not fit


def saved_run(path, **options):
    net = make_net(**options)
    opt = optim.Adam(net.parameters())
    loop(net, opt, 3, seeds=0)
    nn.save(path, net, opt)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (lambda: make_net(width=5), r"net/0.W is .*\(3, 4\).* there and .*\(3, 5\).* here"),
        (lambda: make_net(init.replicas([1, 2])), r"net/0.W is .*\(3, 4\).* there and .*\(2, 3, 4\).* here"),
        (lambda: nn.Sequential(*make_net().layers[:3]), "another net"),
        (lambda: nn.Sequential(*make_net().layers, nn.Linear(1, 1, rng=np.random.default_rng(0))), "None there"),
    ],
    ids=["width", "replicas", "fewer layers", "more layers"],
)
def test_another_net_is_refused_and_nothing_changes(other, text, tmp_path):
    saved_run(tmp_path / "file")
    net = other()
    opt = optim.Adam(net.parameters())
    before = contents(net, opt)
    with pytest.raises(ShapeError, match=text):
        nn.load(tmp_path / "file", net, opt)
    assert_same(contents(net, opt), before)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (lambda net: optim.SGD(net.parameters(), 0.1), "holds Adam, expected SGD"),
        (lambda net: optim.Nesterov(net.parameters(), 0.1), "holds Adam, expected Nesterov"),
        (lambda net: optim.Adam(net.parameters()[:3]), "does not belong to this Adam over 3 parameters"),
        (lambda net: optim.Adam(net.parameters()[::-1]), "does not belong to this Adam"),
    ],
    ids=["SGD", "Nesterov", "fewer parameters", "another order"],
)
def test_another_optimiser_is_refused_and_nothing_changes(other, text, tmp_path):
    saved_run(tmp_path / "file")
    net = make_net(np.random.default_rng(3))
    opt = other(net)
    before = contents(net, opt)
    with pytest.raises(ShapeError, match=text):
        nn.load(tmp_path / "file", net, opt)
    assert_same(contents(net, opt), before)


def test_a_file_without_an_optimiser_is_refused_for_one(tmp_path):
    net = make_net()
    nn.save(tmp_path / "net", net)
    with pytest.raises(ShapeError, match="holds no optimiser, expected SGD"):
        nn.load(tmp_path / "net", net, optim.SGD(net.parameters(), 0.1))


def test_a_file_of_another_dtype_is_refused(tmp_path):
    """float64 weights rounded to float32 would not go on bit for bit."""
    saved_run(tmp_path / "file", dtype=np.float64)
    net = make_net(np.random.default_rng(3))
    before = contents(net)
    with pytest.raises((ShapeError, DataError, TypeError), match="float64"):
        nn.load(tmp_path / "file", net)
    assert_same(contents(net), before)


def test_equal_names_are_refused_on_saving(tmp_path):
    class Pair(nn.Layer):
        def __init__(self):
            self.parts = [nn.Linear(1, 1, rng=np.random.default_rng(0)) for _ in range(2)]

        def children(self):
            return self.parts

    with pytest.raises(ValueError, match="two parameters of this net have the same name"):
        nn.save(tmp_path / "net", Pair())
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        nn.load(tmp_path / "nothing", make_net())


# ---------------------------------------------------------------------------------------------------- damaged files


def assert_damaged(path):
    net = make_net(np.random.default_rng(3))
    opt = optim.Adam(net.parameters())
    before = contents(net, opt)
    with pytest.raises(DataError, match="is not a file of nn"):
        nn.load(path, net, opt)
    assert_same(contents(net, opt), before)


def test_an_empty_file_and_a_file_of_something_else(tmp_path):
    path = tmp_path / "file"
    for garbage in (b"", b"hello", bytes(1000), b"\x93NUMPY", b"\x80\x04K\x01."):
        path.write_bytes(garbage)
        assert_damaged(path)


def test_a_file_that_was_cut_off(tmp_path):
    path = tmp_path / "file"
    saved_run(path)
    whole = path.read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for share in (0.001, 0.1, 0.5, 0.9, 0.999):
            path.write_bytes(whole[: int(share * len(whole))])
            assert_damaged(path)
        gc.collect()
    assert caught == []


def test_a_file_of_one_array(tmp_path):
    np.save(tmp_path / "file.npy", np.ones(3))
    assert_damaged(tmp_path / "file.npy")


def test_a_flipped_byte_never_goes_unnoticed_in_the_data(tmp_path):
    """Every byte of an array's data is covered by a checksum; elsewhere damage is refused or has no effect."""
    path = tmp_path / "file"
    net = make_net()
    nn.save(path, net)
    whole, expected = path.read_bytes(), contents(net)
    for i in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[i] ^= 0xFF
        path.write_bytes(damaged)
        other = make_net(np.random.default_rng(3))
        before = contents(other)
        try:
            nn.load(path, other)
        except (DataError, ShapeError):
            assert_same(contents(other), before)
        else:
            assert_same(contents(other), expected)


# --------------------------------------------------------------------------------------------------- failing writes


def assert_untouched(folder, old):
    """The old file is as it was, and nothing else lies beside it."""
    assert [p.name for p in folder.iterdir()] == ["run"]
    assert (folder / "run").read_bytes() == old


def test_a_new_file_replaces_the_old_one(tmp_path):
    for seed in (1, 2):
        net = make_net(np.random.default_rng(seed))
        nn.save(tmp_path / "run", net)
        nn.save(str(tmp_path / "run"), net)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    other = make_net(np.random.default_rng(3))
    nn.load(tmp_path / "run", other)
    assert_same(contents(other), contents(net))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "interrupted"])
@pytest.mark.parametrize("stage", ["savez", "fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(stage, error, tmp_path, monkeypatch):
    net = make_net()
    nn.save(tmp_path / "run", net)
    old = (tmp_path / "run").read_bytes()

    def fail(*args, **kwargs):
        if stage == "savez":
            args[0].write(b"half a file")
        raise error

    monkeypatch.setattr(np if stage == "savez" else os, stage, fail)
    with pytest.raises(type(error)):
        nn.save(tmp_path / "run", net, optim.SGD(net.parameters(), 0.1))
    assert_untouched(tmp_path, old)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="the super-user may write to read-only folders")
def test_a_read_only_folder(tmp_path):
    net = make_net()
    nn.save(tmp_path / "run", net)
    old = (tmp_path / "run").read_bytes()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            nn.save(tmp_path / "run", net)
    finally:
        tmp_path.chmod(0o700)
    assert_untouched(tmp_path, old)


def test_a_folder_that_refuses_new_files(tmp_path, monkeypatch):
    """What a read-only folder does, for the super-user too."""
    net = make_net()
    nn.save(tmp_path / "run", net)
    old = (tmp_path / "run").read_bytes()

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(PermissionError, match="run"):
        nn.save(tmp_path / "run", net)
    assert_untouched(tmp_path, old)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        nn.save(tmp_path / "nowhere" / "run", make_net())
