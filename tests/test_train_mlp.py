"""kernels.train_mlp: its reference against the engine, its backends against the reference, and what is promised to the bit."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minirelu import init, kernels, nn, optim, train
from minirelu.errors import BackendUnavailableError, ShapeError
from minirelu.kernels.optimiser_step import RULES
from minirelu.kernels.train_mlp import Job, Net, fresh, standing
from minirelu.train import with_engine
from minirelu.train.nets import build

WHY = kernels.available()["train_mlp"] | {"engine": "ok"}
KERNELS = [pytest.param(b, marks=pytest.mark.skipif(WHY[b] != "ok", reason=WHY[b])) for b in ("reference", "numba")]
FASTER = KERNELS[1:]
EVERY = [*KERNELS, "engine"]
NETS = {
    "one layer": Net(5, (12,)),
    "two layers": Net(5, (7, 12)),
    "three layers": Net(5, (9, 12, 7)),
    "residual": Net(5, (8, 8, 8), residual=True),
    "one layer, normalised": Net(5, (12,), batch_norm=True),
    "normalised": Net(5, (9, 7, 8), batch_norm=True),
    "residual, normalised": Net(5, (8, 8, 8), residual=True, batch_norm=True),
}
SHAPES = [  # net, batch, rows of the data
    (Net(5, (12,)), 11, 90),
    (Net(1, (1,)), 1, 2),
    (Net(2, (5,)), 30, 7),
    (Net(3, (17, 33, 7)), 6, 9),
    (Net(7, (33,)), 4, 4),
    (Net(53, (64, 33)), 64, 300),
    (Net(2, (17, 17, 17), residual=True), 13, 40),
    (Net(9, (33, 7), batch_norm=True), 3, 40),
    (Net(4, (33, 33), residual=True, batch_norm=True), 34, 77),
]
LR = {"sgd": 0.05, "heavy_ball": 0.01, "nesterov": 0.01, "ema": 0.05, "adam": 0.01}


def make(net, rule="adam", R=3, *, dtype=np.float64, rows=90, batch=11, record_at=(0, 20), **changed):
    """A job in which no two replicas share a setting, and its state at step 0."""
    rng = np.random.default_rng(7)
    X, X_eval = rng.normal(size=(rows, net.inputs)).astype(dtype), rng.normal(size=(70, net.inputs)).astype(dtype)
    y, y_eval = np.sin(X[:, 0] * 2.0) + X[:, -1] ** 2.0, np.sin(X_eval[:, 0] * 2.0) + X_eval[:, -1] ** 2.0
    seeds = np.arange(R, dtype=np.uint64) + 3
    up = 1 + np.arange(R) / 10
    numbers = {
        "lr": LR[rule] * up,
        "beta": 0.9 / up,
        "beta2": 1 - 1e-3 * up,
        "eps": 1e-8 * up,
        "gamma": 1 / up,
        "delta": up - 1,
    }
    at = np.array(record_at, np.int64)
    job = Job(net, rule, X, y.astype(float), X_eval, y_eval.astype(float), batch, seeds, **numbers, record_at=at)
    made = build(net, init.replicas(seeds), dtype)
    return job._replace(**changed), fresh(rule, *([t.data for t in own] for own in (made.parameters(), made.buffers())))


def run(backend, job, state, on_progress=lambda *standing: None):
    """(records, the state afterwards); `state` itself stays as it is."""
    state = copy.deepcopy(state)
    if backend == "engine":
        return with_engine.run(job, state, on_progress), state
    return kernels.train_mlp(job, state, backend=backend, on_progress=on_progress), state


def arrays(state):
    return [*state.parameters, *state.running, *(a for slot in state.slots for a in slot)]


def picked(job, state, which):
    """The replicas `which` alone."""
    own = {name: getattr(job, name)[which] for name in ("seeds", "lr", "beta", "beta2", "eps", "gamma", "delta")}
    cut = copy.deepcopy(state)
    cut.parameters, cut.running = ([np.ascontiguousarray(a[which]) for a in x] for x in (state.parameters, state.running))
    cut.slots = [[np.ascontiguousarray(a[which]) for a in slot] for slot in state.slots]
    return job._replace(**own), cut


def assert_same(one, other):
    """Records and states equal to the bit, NaN equal to NaN."""
    for a, b in zip([*one[0], *arrays(one[1])], [*other[0], *arrays(other[1])], strict=True):
        assert_array_equal(a, b)
    assert one[1].step == other[1].step


# ---------------------------------------------------------------------------------------------------- the formulas


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NETS)
def test_the_reference_is_the_engine_step_by_step(name, rule):
    """In float64 the two differ by the order of their sums alone: after 20 steps by far less than 1e-10."""
    job, state = make(NETS[name], rule)
    mine = theirs = state
    for step in range(20):
        one = job._replace(record_at=np.array([step + 1]))
        (ours, mine), (expected, theirs) = run("reference", one, mine), run("engine", one, theirs)
        for a, b in zip(arrays(mine), arrays(theirs), strict=True):
            assert_allclose(a, b, rtol=1e-10, atol=1e-10)
        assert_allclose(ours.loss, expected.loss, rtol=1e-10)
        assert_array_equal(ours.active, expected.active)
        assert_array_equal(ours.nonfinite, expected.nonfinite)


@pytest.mark.parametrize("rule", RULES)
def test_the_engine_runs_what_a_user_would_write(rule):
    """`fit` on a net without batch norm, solo, gives the same bits as a replica of the job."""
    job, state = make(NETS["residual"], rule, dtype=np.float32)
    _, after = run("engine", job, state)
    r = 1
    net = build(job.net, np.random.default_rng(int(job.seeds[r])), np.float32)
    made = {"sgd": ("SGD", "lr"), "heavy_ball": ("HeavyBall", "lr beta"), "nesterov": ("Nesterov", "lr beta")}
    made |= {"ema": ("EMAMomentum", "lr beta"), "adam": ("Adam", "lr beta beta2 eps")}
    name, hyper = made[rule]
    opt = getattr(optim, name)(net.parameters(), *(float(getattr(job, h)[r]) for h in hyper.split()))
    targets = (job.gamma[r] * job.y + job.delta[r])[:, None]
    train.fit(net, opt, job.X, targets, batch=job.batch, steps=20, seeds=int(job.seeds[r]))
    for mine, theirs in zip(net.parameters(), after.parameters, strict=True):
        assert_array_equal(mine.data, theirs[r])


@pytest.mark.parametrize("backend", FASTER)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("net", "batch", "rows"), SHAPES)
def test_backends_give_what_the_reference_gives(backend, net, batch, rows, rule, dtype):
    """Ten steps: a rounding of 1 part in 1/eps in each sum, some hundred times over where layers and steps multiply it."""
    job, state = make(net, rule, dtype=dtype, rows=rows, batch=batch, record_at=(0, 3, 10))
    (ours, after), (expected, reference) = run(backend, job, state), run("reference", job, state)
    tolerance = 2000 * np.finfo(dtype).eps
    for a, b in zip(arrays(after), arrays(reference), strict=True):
        assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, np.abs(b).max()))
    assert_allclose(ours.loss, expected.loss, rtol=tolerance, atol=tolerance)
    assert_array_equal(ours.nonfinite, expected.nonfinite)
    assert np.abs(ours.active - expected.active).max() <= 1  # a row on the kink may fall to either side
    assert after.step == reference.step == 10


# --------------------------------------------------------------------------------------------------------- the bits


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("name", ["three layers", "residual, normalised"])
@pytest.mark.parametrize("rule", ["nesterov", "adam"])
def test_a_replica_is_to_the_bit_what_it_is_alone(backend, name, rule):
    job, state = make(NETS[name], rule, 5, dtype=np.float32, batch=10, record_at=(0, 30))
    job.lr[2] = 1e20  # and whatever a diverging neighbour does
    together = run(backend, job, state)
    for which in ([0], [1, 3], [4, 2]):
        records, after = run(backend, *picked(job, state, which))
        for a, b in zip([*together[0], *arrays(together[1])], [*records, *arrays(after)], strict=True):
            assert_array_equal(a[which], b)


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("rule", RULES)
def test_a_run_in_segments_is_the_whole_run(backend, rule):
    job, state = make(NETS["residual, normalised"], rule, record_at=(0, 25, 50, 100))
    whole = run(backend, job, state)
    first, between = run(backend, job._replace(record_at=np.array([0, 25, 50])), state)
    second, after = run(backend, job._replace(record_at=np.array([100])), between)
    joined = [np.concatenate(parts, axis=1) for parts in zip(first, second, strict=True)]
    assert_same(whole, (joined, after))


@pytest.mark.parametrize("backend", EVERY)
def test_measuring_changes_nothing(backend):
    job, state = make(NETS["normalised"], record_at=(60,))
    often = job._replace(record_at=np.arange(0, 61, 7 - 1))
    (records, after), (all_records, watched) = run(backend, job, state), run(backend, often, state)
    for a, b in zip(arrays(after), arrays(watched), strict=True):
        assert_array_equal(a, b)
    assert_array_equal(records.loss[:, -1], all_records.loss[:, -1])


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_the_bias_before_batch_norm_stays(backend, rule):
    job, state = make(NETS["normalised"], rule)
    _, after = run(backend, job, state)
    for i in (1, 5, 9):
        assert_array_equal(after.parameters[i], state.parameters[i])
    assert (after.parameters[3] != state.parameters[3]).all()


# -------------------------------------------------------------------------------------------------- special values


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_diverged_replica_is_counted_as_non_finite_and_not_as_dead(backend, dtype):
    job, state = make(NETS["two layers"], "sgd", dtype=dtype, record_at=(0, 40))
    job.lr[1] = 1e30 if dtype == np.float32 else 1e150
    records, _ = run(backend, job, state)
    assert_array_equal(np.isnan(records.loss), [[False, False], [False, True], [False, False]])
    units = records.nonfinite[:, 1]
    assert units[1].any()
    assert not units[[0, 2]].any()
    assert records.active[1, 1][units[1] == 70].max(initial=0) <= 70
    reference, _ = run("reference", job, state)
    assert_array_equal(units > 0, reference.nonfinite[:, 1] > 0)


@pytest.mark.parametrize("backend", FASTER)
def test_a_hidden_value_that_overflows_stays_out_of_the_unused_lanes(backend):
    """The first layer is infinite, the second dead: predictions are finite, and no lane without a unit may spoil them."""
    job, state = make(Net(2, (3, 3)), "sgd", 1, dtype=np.float32, record_at=(0,))
    job = job._replace(X=np.abs(job.X) + 1, X_eval=np.abs(job.X_eval) + 1)
    for parameter, value in zip(state.parameters, (3e38, 0, -1, 0), strict=False):
        parameter[...] = value
    expected, found = run("reference", job, state)[0], run(backend, job, state)[0]
    assert found.nonfinite.sum() == 3 * len(job.y_eval)
    for a, e in zip(found[1:], expected[1:], strict=True):
        assert_array_equal(a, e)
    assert_allclose(found.loss, expected.loss, rtol=1e-12, equal_nan=False)


@pytest.mark.parametrize("backend", EVERY)
def test_dead_and_linear_units_are_counted_to_the_last(backend):
    """One input x > 0 on all rows: a unit with W > 0 is linear, with W < 0 dead, with W = NaN non-finite."""
    job, state = make(Net(1, (3,)), R=1, record_at=(0,))
    job = job._replace(X_eval=np.ascontiguousarray(np.abs(job.X_eval) + 1))
    state.parameters[0][0] = [[1.0, -1.0, np.nan]]
    state.parameters[1][:] = 0
    records, _ = run(backend, job, state)
    assert records.active[0, 0].tolist() == [70, 0, 0]
    assert records.nonfinite[0, 0].tolist() == [0, 0, 70]
    assert np.isnan(records.loss).all()


@pytest.mark.parametrize("backend", EVERY)
def test_more_rows_than_go_through_at_once_are_all_counted(backend):
    job, state = make(NETS["normalised"], record_at=(0, 2))
    rng = np.random.default_rng(1)
    many = job._replace(X_eval=rng.normal(size=(9001, 5)), y_eval=rng.normal(size=9001))
    records, after = run(backend, many, state)
    net = train.nets.rebuilt(job.net, (p[1] for p in after.parameters), (a[1] for a in after.running))
    with nn.evaluating(net):
        predictions = net.predict(many.X_eval)[:, 0]
    error = (((predictions - job.delta[1]) / job.gamma[1] - many.y_eval) ** 2).mean()
    assert_allclose(records.loss[1, 1], error, rtol=1e-12)
    hidden = nn.Sequential(*net.layers[:3])
    assert_array_equal(records.active[1, 1, :9], (hidden.predict(many.X_eval) > 0).sum(axis=0))


# ------------------------------------------------------------------------------------------------------ longer runs


def paper(rule, R, *, dtype=np.float32, widths=(200,), record_at=range(0, 101, 10), **options):
    """The paper's net on 8 inputs, half of the replicas at γ = 1e-4, at the paper's learning rate or like it."""
    job, state = make(Net(8, widths, **options), rule, R, dtype=dtype, rows=700, batch=64, record_at=tuple(record_at))
    gamma = np.where(np.arange(R) % 2, 1e-4, 1.0)
    lr = np.full(R, LR[rule] / 10)
    return job._replace(lr=lr, gamma=gamma, delta=np.zeros(R), beta=np.full(R, 0.9), beta2=np.full(R, 0.999)), state


@pytest.mark.parametrize("backend", FASTER)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("options", [{}, {"widths": (40,) * 4}, {"widths": (40,) * 3, "residual": True, "batch_norm": True}])
def test_the_first_100_steps_are_the_engines(backend, rule, options, dtype, bound):
    """The bound of kernels/train_mlp.py; and not one unit more or less is dead."""
    job, state = paper(rule, 2, dtype=dtype, **options)
    (ours, _), (expected, _) = run(backend, job, state), run("engine", job, state)
    assert_allclose(ours.loss, expected.loss, rtol=bound)
    assert_array_equal((ours.active == 0).sum(axis=-1), (expected.active == 0).sum(axis=-1))


def outcomes(backend, seeds, steps, width):
    """Dead share and error at the end of Adam at γ = 1e-4: small enough that between a tenth and all units die."""
    job, state = make(Net(5, (width,)), "adam", seeds, dtype=np.float32, rows=300, batch=32, record_at=(steps,))
    same = {"lr": 3e-2, "beta": 0.9, "beta2": 0.999, "eps": 1e-8, "gamma": 1e-4, "delta": 0.0}
    job = job._replace(**{name: np.full(seeds, value) for name, value in same.items()})
    records, _ = run(backend, job, state)
    return (records.active[:, 0] == 0).mean(axis=-1), np.log(records.loss[:, 0])


def assert_equal_distributions(ours, theirs):
    """Means within 4 standard errors, spreads within a factor 1.5."""
    error = np.hypot(ours.std(ddof=1), theirs.std(ddof=1)) / len(ours) ** 0.5
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert 1 / 1.5 < ours.std() / theirs.std() < 1.5


@pytest.mark.parametrize("backend", FASTER)
def test_outcomes_of_64_seeds_are_those_of_the_engine(backend):
    for ours, theirs in zip(outcomes(backend, 64, 800, 24), outcomes("engine", 64, 800, 24), strict=True):
        assert_equal_distributions(ours, theirs)
        assert theirs.std() > 0


@pytest.mark.long
@pytest.mark.parametrize("backend", FASTER)
def test_outcomes_of_long_runs_are_those_of_the_engine(backend):
    for ours, theirs in zip(outcomes(backend, 128, 5000, 60), outcomes("engine", 128, 5000, 60), strict=True):
        assert_equal_distributions(ours, theirs)


# ------------------------------------------------------------------------------------------- progress and refusals


@pytest.mark.parametrize("backend", EVERY)
def test_progress_is_heard_and_may_stop_the_run(backend):
    job, state = make(NETS["one layer"], record_at=(0, 300, 600))
    heard = []
    records, _ = run(backend, job, state, lambda *standing: heard.append(standing))
    done, total, losses, dead = zip(*heard, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == total[-1] == 3 * 600
    assert set(total) == {1800}
    assert_allclose(losses[-1], records.loss[:, -1].mean())
    assert dead[-1] == (records.active[:, -1] == 0).mean()

    def stop(*standing):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(backend, job, state, stop)


def test_what_is_not_finite_does_not_spoil_the_standing():
    active, nonfinite = np.array([[0, 5], [0, 0]]), np.array([[0, 0], [0, 9]])
    assert standing(np.array([2.0, np.nan]), active, nonfinite) == (2.0, 0.5)
    assert np.isnan(standing(np.array([np.nan]), active[1:], nonfinite[1:])).all()


JOB, STATE = make(NETS["residual, normalised"])


@pytest.mark.parametrize(
    ("changed", "error", "sentence"),
    [
        ({"net": Net(5, ())}, ShapeError, "at least one hidden layer"),
        ({"net": Net(5, (8, 7), residual=True)}, ShapeError, r"all widths must be equal, got \(8, 7\)"),
        ({"rule": "rprop"}, ValueError, "knows the rules sgd, .*, got 'rprop'"),
        ({"X": JOB.X.astype(np.float16)}, TypeError, "X must be a float32 or float64 array, got ndarray of float16"),
        ({"X": JOB.X.astype(np.float32)}, ShapeError, "X_eval must be float32"),
        ({"X": np.asfortranarray(JOB.X)}, ShapeError, "not C-contiguous"),
        ({"X": JOB.X.tolist()}, TypeError, "got list"),
        ({"y": JOB.y[:5]}, ShapeError, r"y must be float64 \(90\)"),
        ({"y_eval": JOB.y}, ShapeError, r"y_eval must be float64 \(70\)"),
        ({"lr": JOB.lr[:2]}, ShapeError, r"lr must be float64 \(3\), C-contiguous, got float64 \(2,\)"),
        ({"lr": -JOB.lr}, ValueError, "lr is -0.01 for replica 0; expected lr > 0, finite"),
        ({"beta": JOB.beta + np.array([0, 0, 1])}, ValueError, "beta is 1.75 for replica 2; expected 0 <= beta < 1"),
        ({"gamma": JOB.gamma * np.nan}, ValueError, "gamma is nan"),
        ({"seeds": JOB.seeds.astype(np.int64)}, ShapeError, "seeds must be uint64"),
        ({"batch": 0}, ValueError, "batch is 0; expected at least 1"),
        ({"batch": 1}, ValueError, "at least 2 rows"),
        ({"record_at": np.array([3, 3])}, ValueError, "ascending steps from 0, the state's"),
        ({"record_at": np.array([2**32])}, ValueError, "below"),
        ({"record_at": np.array([], np.int64)}, ValueError, "ascending"),
        ({"net": Net(5, (8, 8, 9), batch_norm=True)}, ShapeError, r"parameters\[8\] must be float64 \(3, 8, 9\)"),
        ({"rule": "sgd"}, ShapeError, "the rule sgd keeps 0 lists of arrays in slots, got 2"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_before_anything_moves(changed, error, sentence):
    state = copy.deepcopy(STATE)
    with pytest.raises(error, match=sentence):
        kernels.train_mlp(JOB._replace(**changed), state)
    for a, b in zip(arrays(state), arrays(STATE), strict=True):
        assert_array_equal(a, b)


def test_a_backend_asked_for_by_name_never_falls_back():
    with pytest.raises(BackendUnavailableError, match="train_mlp asked for the cuda kernels"):
        kernels.train_mlp(JOB, copy.deepcopy(STATE), backend="cuda")
    with pytest.raises(ValueError, match="expected one of auto"):
        kernels.train_mlp(JOB, copy.deepcopy(STATE), backend="fortran")
    with kernels.using("reference"):
        assert kernels.training_backend() == "reference"
