"""train.train_mlp: what it trains, what comes back, and what it refuses."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import init, kernels, monitor, nn, optim, train
from minirelu.errors import BackendUnavailableError, ShapeError
from minirelu.train import mlp

RNG = np.random.default_rng(5)
X = RNG.normal(3.0, 2.0, size=(120, 4))
Y = X[:, 0] ** 2 - X[:, 1] + 40
SHORT = {"widths": (9, 7), "steps": 30, "seeds": [3, 8, 5], "batch": 10, "record_every": 20}
BACKENDS = ["engine", "reference", *(["numba"] if kernels.available()["train_mlp"]["numba"] == "ok" else [])]


def standardised(a):
    return (a - a.mean(axis=0)) / a.std(axis=0)


def trained(**changed):
    return train.train_mlp(X, Y, **{**SHORT, **changed})


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_replica_is_the_net_its_seed_makes(backend):
    """Written out for seed 8 with float64: the same net, targets, minibatches and optimiser."""
    result = trained(backend=backend, dtype="float64", gamma=[1, 0.1, 1], delta=2.0, lr=[0.01, 0.02, 0.03])
    rng = np.random.default_rng(8)
    layers = [nn.Dense(4, 9, rng=rng, dtype=float), nn.Dense(9, 7, rng=rng, dtype=float), nn.Linear(7, 1, rng=rng, dtype=float)]
    net = nn.Sequential(*layers)
    opt = optim.Adam(net.parameters(), 0.02)
    targets = 0.1 * standardised(Y)[:, None] + 2
    train.fit(net, opt, standardised(X), targets, batch=10, steps=30, seeds=8)
    for p in net.parameters():
        assert_allclose(result.parameters[p.name][1], p.data, rtol=1e-9, atol=1e-9)
    error = ((net.predict(standardised(X)) - targets) ** 2).mean() / 0.1**2
    assert_allclose(result.loss[1, -1], error, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"block": "residual", "widths": (9, 9), "batch_norm": True}])
def test_the_result_says_what_the_nets_do(backend, options):
    result = trained(backend=backend, units=True, bias_shift=-1.0, dtype="float64", **options)
    widths = options.get("widths", (9, 7))
    assert result.step.tolist() == [0, 20, 30]
    assert result.samples == 120
    assert result.loss.shape == (3, 3)
    for counts in (result.dead, result.linear, result.nonfinite):
        assert counts.shape == (3, 3, 2)
        assert counts.dtype == np.int64
    for r in range(3):
        net = result.net(r)
        rows = monitor.UnitActivity.over(net, standardised(X), warn=False).report()
        assert [row.dead for row in rows] == result.dead[r, -1].tolist()
        assert [row.linear for row in rows] == result.linear[r, -1].tolist()
        predictions = result.predict(r, X)
        assert_allclose(((predictions - Y) ** 2).mean() / Y.var(), result.loss[r, -1], rtol=1e-9)
        assert [p.name for p in net.parameters()] == list(result.parameters)
        assert all(p.shape == result.parameters[p.name].shape[1:] for p in net.parameters())
    assert result.active.shape == result.nonfinite_rows.shape == (3, 3, sum(widths))
    assert_array_equal((result.active[..., : widths[0]] == 0).sum(axis=-1), result.dead[..., 0])
    assert result.dead.any()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_initial_parameters_are_drawn_scaled_and_shifted(batch_norm):
    result = trained(steps=0, init="he", batch_norm=batch_norm, init_scale=[1, 2, 0.5], bias_shift=[0, -1, 3])
    for r, (seed, scale, shift) in enumerate([(3, 1, 0), (8, 2, -1), (5, 0.5, 3)]):
        rng = np.random.default_rng(seed)
        expected = train.nets.build(kernels_net(batch_norm), rng, np.float32, init.he)
        assert_array_equal(result.parameters["0.W"][r], np.float32(scale) * expected.layers[0].W.data)
        names = ["1.shift", "4.shift"] if batch_norm else ["0.b", "1.b"]
        for name in names:
            assert_array_equal(result.parameters[name][r], np.full_like(result.parameters[name][r], shift))
        last = list(result.parameters)[-2]
        assert_array_equal(result.parameters[last][r], np.float32(scale) * expected.layers[-1].W.data)
        if batch_norm:
            assert (result.parameters["0.b"][r] == 0).all()
            assert (result.parameters["1.scale"][r] == 1).all()
    assert result.step.tolist() == [0]


def kernels_net(batch_norm):
    from minirelu.kernels.train_mlp import Net

    return Net(4, (9, 7), batch_norm=batch_norm)


def test_biases_before_batch_norm_are_not_moved():
    net = train.nets.build(kernels_net(True)._replace(residual=True), np.random.default_rng(0), activation="prelu")
    names = [p.name for p in net.parameters()]
    still = [name for i, name in enumerate(names) if i not in train.nets.moved(net)]
    assert still == ["0.b", "3.0.b"], names
    plain = train.nets.build(kernels_net(False), np.random.default_rng(0))
    assert train.nets.moved(plain) == list(range(len(plain.parameters())))


def test_rai_begins_with_he():
    result = trained(steps=0, init="rai")
    rng = np.random.default_rng(3)
    assert_array_equal(result.parameters["0.W"][0], init.he(rng, (4, 9), np.float32))
    assert_array_equal(result.parameters["1.W"][0], init.rai(rng, (9, 7), np.float32)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_do_not_show(backend, monkeypatch):
    heard, whole = [], trained(backend=backend, batch_norm=True, units=True)
    monkeypatch.setattr(mlp, "MEMORY", 1)
    chunked = trained(backend=backend, batch_norm=True, units=True, on_progress=lambda *standing: heard.append(standing))
    for name in ("loss", "dead", "linear", "nonfinite", "active", "nonfinite_rows"):
        assert_array_equal(getattr(chunked, name), getattr(whole, name))
    for name in whole.parameters:
        assert_array_equal(chunked.parameters[name], whole.parameters[name])
    for name in whole.buffers:
        assert_array_equal(chunked.buffers[name], whole.buffers[name])
    done, total, *_ = zip(*heard, strict=True)
    assert list(done) == sorted(done)
    assert (done[-1], set(total)) == (90, {90})


def test_single_values_are_for_all_replicas():
    one = trained(seeds=4, gamma=[1.0, 0.1])
    assert_array_equal(one.loss[1], trained(seeds=[4], gamma=0.1).loss[0])
    assert trained(seeds=4).loss.shape == (1, 3)


def test_columns_of_targets_and_lists_are_taken():
    expected = trained()
    for given in (Y[:, None], Y.tolist()):
        assert_array_equal(train.train_mlp(X.tolist(), given, **SHORT).loss, expected.loss)


def test_unstandardised_data_is_taken_as_it_is():
    expected = trained(dtype="float64")
    as_is = train.train_mlp(expected.x_scaler.transform(X), standardised(Y), standardize=False, dtype="float64", **SHORT)
    assert_allclose(as_is.loss, expected.loss, rtol=1e-9)
    assert_allclose(
        as_is.predict(0, expected.x_scaler.transform(X)), as_is.net(0).predict(expected.x_scaler.transform(X))[:, 0]
    )


def test_everything_is_measured_where_it_is_asked_for():
    X_eval, y_eval = X[:50] + 1, Y[:50] - 3
    result = trained(X_eval=X_eval, y_eval=y_eval)
    assert result.samples == 50
    assert_allclose(((result.predict(2, X_eval) - y_eval) ** 2).mean() / Y.var(), result.loss[2, -1], rtol=1e-4)
    alone = trained(X_eval=X_eval)
    assert np.isnan(alone.loss).all()
    assert_array_equal(alone.dead, result.dead)


def test_of_many_rows_4096_are_measured():
    rng = np.random.default_rng(1)
    many = rng.normal(size=(5000, 2))
    result = train.train_mlp(many, many[:, 0], widths=3, steps=1, seeds=[0, 1])
    assert result.samples == 4096
    rows = np.sort(np.random.default_rng(0).choice(5000, 4096, replace=False))
    chosen = train.train_mlp(many, many[:, 0], widths=3, steps=1, seeds=[0, 1], X_eval=many[rows], y_eval=many[rows, 0])
    assert_array_equal(result.loss, chosen.loss)


def test_auto_is_the_compiled_loop_where_it_can_run():
    assert trained().backend == ("numba" if "numba" in BACKENDS else "engine")
    with kernels.using("reference"):
        assert trained().backend == "engine"


def test_auto_is_the_backend_that_was_chosen(monkeypatch):
    monkeypatch.setattr(kernels._cuda, "missing", lambda: "")
    monkeypatch.setattr(mlp.kernels, "train_mlp", lambda job, state, *, backend, on_progress: pytest.fail(f"ran {backend}"))
    with kernels.using("cuda"), pytest.raises(pytest.fail.Exception, match="ran cuda"):
        trained()


def test_float32_rows_are_predicted_as_they_were_trained():
    rows = X.astype(np.float32)
    result = train.train_mlp(rows, Y, **SHORT, dtype="float64", backend="reference")
    assert_array_equal(result.predict(0, rows), result.predict(0, rows.astype(np.float64)))
    assert_allclose(((result.predict(2, rows) - Y) ** 2).mean() / Y.var(), result.loss[2, -1], rtol=1e-9)


@pytest.mark.parametrize("targets", [np.zeros(120), np.ones(120)])
def test_constant_targets_are_trained_on_where_they_are_taken_as_they_are(targets):
    assert np.isfinite(train.train_mlp(X, targets, **SHORT, standardize=False, backend="reference").loss).all()


def test_long_records_are_made_in_stretches(monkeypatch):
    """Counts of 16 units of 3 replicas are 768 bytes a record: 2,000 bytes hold two."""
    sizes, run = [], mlp.kernels.train_mlp
    monkeypatch.setattr(mlp, "MEMORY", 2000)
    monkeypatch.setattr(kernels._jit, "thread_count", lambda: 3)

    def noted(job, state, **options):
        records = run(job, state, **options)
        sizes.append(records.active.nbytes + records.nonfinite.nbytes)
        return records

    monkeypatch.setattr(mlp.kernels, "train_mlp", noted)
    backend = BACKENDS[-1]
    result = trained(backend=backend, record_every=4)
    assert result.step.tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    assert max(sizes) <= 2000
    assert result.loss.shape == (3, 9)
    assert np.isfinite(result.loss).all()


BAD_X, BAD_Y = X.copy(), Y.copy()
BAD_X[3, 1], BAD_Y[7] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("data", "changed", "error", "sentence"),
    [
        ((X[:5], Y), {}, ShapeError, "X has 5 rows and y 120; give one target a row"),
        ((X[0], Y), {}, ShapeError, r"X must be rows and columns \(N, I\), at least one of each, got shape \(4,\)"),
        ((X[:0], Y[:0]), {}, ShapeError, "at least one of each"),
        ((X, X), {}, ShapeError, r"y must be one target a row, \(N,\) or \(N, 1\), got shape \(120, 4\)"),
        ((BAD_X, Y), {}, ValueError, r"row 3, column 1 of X \(counted from 0\) is nan"),
        ((X, BAD_Y), {}, ValueError, r"row 7, column 0 of y \(counted from 0\) is -inf"),
        ((X, np.full(120, 0.1)), {}, ValueError, r"y is constant \(0.1 up to rounding\)"),
        ((X, ["a"] * 120), {}, TypeError, "y must hold real numbers"),
        ((X * 1e300, Y), {"standardize": False}, ValueError, "X holds numbers beyond float32"),
        ((X, Y), {"X_eval": X[:, :2]}, ShapeError, "X_eval has 2 columns and X 4"),
        ((X, Y), {"X_eval": X, "y_eval": Y[:3]}, ShapeError, "X_eval has 120 rows and y_eval 3"),
        ((X, Y), {"y_eval": Y}, ValueError, "y_eval was given without X_eval"),
        ((X, Y), {"optimizer": "adm"}, ValueError, r"optimizer was given 'adm' \(did you mean 'adam'\?\); expected one of sgd"),
        ((X, Y), {"block": "resdual"}, ValueError, r"did you mean 'residual'\?"),
        ((X, Y), {"init": "xaver"}, ValueError, r"did you mean 'xavier'\?"),
        ((X, Y), {"backend": "nmba"}, ValueError, r"did you mean 'numba'\?"),
        ((X, Y), {"backend": "cuda"}, BackendUnavailableError, "asked for the cuda kernels"),
        ((X, Y), {"lr": 0}, ValueError, "lr is 0.0 for replica 0; expected lr > 0"),
        ((X, Y), {"lr": [0.1, -1, 0.1]}, ValueError, "lr is -1.0 for replica 1"),
        ((X, Y), {"lr": [[0.1]]}, ShapeError, "lr must be a number or one for each replica"),
        ((X, Y), {"lr": "fast"}, TypeError, "got 'fast'"),
        ((X, Y), {"beta": 1}, ValueError, "beta is 1.0 for replica 0; expected 0 <= beta < 1"),
        ((X, Y), {"beta2": -0.1}, ValueError, "expected 0 <= beta2 < 1"),
        ((X, Y), {"eps": 0}, ValueError, "eps is 0.0"),
        ((X, Y), {"gamma": 0}, ValueError, "gamma is 0.0"),
        ((X, Y), {"gamma": 1e39}, ValueError, "targets beyond float32"),
        ((X, Y), {"delta": np.nan}, ValueError, "delta must be finite"),
        ((X, Y), {"init_scale": np.inf}, ValueError, "init_scale must be finite"),
        ((X, Y), {"gamma": [1, 2]}, ShapeError, "got 3 of seeds, 2 of gamma; give all the same length"),
        ((X, Y), {"batch": 121}, ValueError, "batch is 121, the data has 120 rows"),
        ((X, Y), {"batch": 1, "batch_norm": True}, ValueError, "at least 2 rows"),
        ((X, Y), {"batch": 2.5}, TypeError, "batch must be a whole number, got 2.5"),
        ((X, Y), {"block": "residual"}, ShapeError, r"all widths must be equal, got \(9, 7\)"),
        ((X, Y), {"widths": ()}, ShapeError, "widths is empty"),
        ((X, Y), {"widths": (3, 0)}, ValueError, "a width is 0"),
        ((X, Y), {"steps": -1}, ValueError, "steps is -1"),
        ((X, Y), {"eps": 1e-50}, ValueError, "eps is 1e-50 for replica 0, which rounds to 0 in float32; expected eps > 0"),
        ((X, Y), {"beta": 1 - 1e-9}, ValueError, "beta is 0.999999999 for replica 0, which rounds to 1 in float32"),
        (
            (X, Y),
            {"beta2": [0.9, 1 - 1e-9, 0.9]},
            ValueError,
            "beta2 is 0.999999999 for replica 1, which rounds to 1",
        ),
        ((X, Y), {"lr": 1e39}, ValueError, "lr is 1e[+]39 for replica 0, which rounds to inf in float32"),
        (
            (X, Y),
            {"gamma": [1, 1e-50, 1]},
            ValueError,
            "1e-50 and delta 0 of replica 1 give targets that are all 0 in float32",
        ),
        ((X, Y), {"gamma": 1e-9, "delta": 1}, ValueError, "delta 1 of replica 0 give targets that are all 1 in float32"),
        ((X, np.ones(120)), {"gamma": 1e-50, "standardize": False}, ValueError, "targets that are all 0 in float32"),
        ((X, Y), {"record_every": 0}, ValueError, "record_every is 0"),
        ((X, Y), {"seeds": [1, 1]}, ValueError, "replicas 0 and 1 both have the seed 1 and the same settings"),
        ((X, Y), {"seeds": [1, -1]}, ValueError, "non-negative integer"),
        ((X, Y), {"seeds": [0.5, 1]}, ValueError, "non-negative integer"),
        ((X, Y), {"seeds": []}, ValueError, "non-negative integer"),
        ((X, Y), {"dtype": "float16"}, TypeError, "dtype must be float32 or float64, got 'float16'"),
        ((X, Y), {"dtype": "real"}, TypeError, "got 'real'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(data, changed, error, sentence, monkeypatch):
    monkeypatch.setattr(mlp, "_trained", lambda *_: pytest.fail("something ran"))
    with pytest.raises(error, match=sentence) as caught:
        train.train_mlp(*data, **{**SHORT, **changed})
    assert "\n" not in str(caught.value)
