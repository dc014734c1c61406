"""The benchmarks: their statistics, rulers, jobs, tables and verdicts, and that every candidate computes the same."""

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import (
    cases,
    compare,
    copies,
    engine,
    goals,
    jobs,
    kernels,
    optimisers,
    peak,
    peers,
    reading,
    report,
    roofline,
    tables,
    timing,
    train,
    train_tables,
    training,
    without_counts,
)
from benchmarks.peers import processes

# -------------------------------------------------------------------------------------------------------------- timing


def test_ratio_is_the_median_of_the_rounds_with_an_order_statistic_interval():
    base = np.ones(101)
    times = np.linspace(1, 3, 101)
    middle, low, high = timing.ratio(times, base)
    assert middle == 2.0
    # binomial(101, 1/2): 95 % of the mass lies within 50.5 ± 9.85 ranks
    assert low == pytest.approx(times[40])
    assert high == pytest.approx(times[61])


def test_ratio_pairs_a_slow_candidate_with_the_rounds_it_was_timed_in():
    base = np.arange(1.0, 12)  # 11 rounds; the slow one is timed in rounds 0, 5 and 10
    slow = 3 * base[:: timing.SLOW]
    assert timing.ratio(slow, base) == (3.0, 3.0, 3.0)
    assert timing.ratio(base, slow)[0] == pytest.approx(1 / 3)


def test_the_interval_of_the_median_holds_it_in_95_of_100_samples():
    samples = np.random.default_rng(0).lognormal(size=(2000, 21))
    inside = [low <= 1 <= high for _, low, high in map(timing.middle, samples)]
    assert 0.94 < np.mean(inside) < 1  # the median of this distribution is 1


def test_interleaved_times_every_candidate_in_every_round():
    calls = {"a": 0, "b": 0}

    def call(name):
        calls[name] += 1

    times = timing.interleaved({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=3, seconds=1e-5)
    assert {name: t.shape for name, t in times.items()} == {"a": (3,), "b": (3,)}
    assert all((t > 0).all() for t in times.values())
    assert min(calls.values()) >= 50


def test_each_candidate_is_called_once_untimed_before_it_is_timed():
    log = []
    candidates = {name: lambda name=name: log.append(name) for name in "ab"}
    timing.interleaved(candidates, rounds=2, seconds=0)
    assert "".join(log) == "aabb" + "bbaa"
    timing.interleaved(candidates, rounds=1, seconds=0, settle=False)
    assert "".join(log[8:]) == "ab"


def test_a_cold_run_flushes_before_every_call_and_calls_the_slow_ones_rarely():
    log = []
    candidates = {name: lambda name=name: log.append(name) for name in "abc"}
    times = timing.interleaved(candidates, 11, flush=lambda: log.append("flush"), slow=frozenset("c"))
    assert {name: len(t) for name, t in times.items()} == {"a": 11, "b": 11, "c": 3}
    assert log[::2] == ["flush"] * 25
    assert log[1:6:2] == ["a", "b", "c"]
    assert log[7:10:2] == ["b", "a"]  # the next round begins with the next one


def test_a_plan_finds_the_slow_ones_and_ends_with_them():
    candidates = {"quick": lambda: None, "slow": lambda: sum(range(300_000))}
    rounds, slow = timing.plan(candidates, budget=0.1)
    assert slow == {"slow"}
    assert rounds % timing.SLOW == 1
    assert 16 <= rounds <= 101


# -------------------------------------------------------------------------------------------------------------- engine


@pytest.mark.parametrize("net", engine.NETS)
def test_candidates_take_the_same_steps(net):
    engine._check(engine._candidates(*engine.NETS[net]))


def test_a_wrong_candidate_is_found():
    steps = engine._candidates(*engine.NETS["8-200-1, batch 64"])
    steps["wrong"] = lambda: np.float32(0.5)
    with pytest.raises(AssertionError, match="wrong"):
        engine._check(steps)


# -------------------------------------------------------------------------------------------------------------- rulers


@pytest.mark.parametrize("width", copies.WIDTHS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_copy_copies_every_byte_and_none_besides(width, stream):
    copy = copies.compiled(width, stream, parallel=False)
    source = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)
    for first, size in ((0, 1000), (1, 0), (3, 1), (16, 63), (16, 200), (61, 129), (64, 64)):
        target = np.zeros(1100, np.uint8)
        copy(source[:size], target[first : first + size], 0)
        np.testing.assert_array_equal(target[first : first + size], source[:size])
        assert not target[:first].any()
        assert not target[first + size :].any()
    target = np.zeros(1000, np.uint8)
    copy(source, target, -1)  # the key is used, so the pass cannot be left out
    np.testing.assert_array_equal(target, ~source)


def test_the_rulers_are_not_calls_of_memcpy_and_store_as_they_say():
    copy = copies.compiled(32, True, parallel=False)
    copy(np.zeros(4, np.uint8), np.zeros(4, np.uint8), 0)
    (assembly,) = copy.inspect_asm().values()
    assert "movnt" in assembly
    assert "memcpy" not in assembly
    ordinary = copies.compiled(32, False, parallel=False)
    ordinary(np.zeros(4, np.uint8), np.zeros(4, np.uint8), 0)
    (assembly,) = ordinary.inspect_asm().values()
    assert "movnt" not in assembly
    assert "memcpy" not in assembly


def test_a_ruler_that_does_not_copy_is_found():
    source, target = np.ones(100, np.float32), np.empty(100, np.float32)
    calls = copies.rulers(source, target, threads=1)
    copies.check(source, target, calls)
    with pytest.raises(AssertionError, match="non-temporal copy is wrong"):
        copies.check(source, target, {**calls, copies.NON_TEMPORAL: lambda: None})


def test_the_flat_roof_is_a_possible_number():
    assert 1e8 < peak.additions_per_second(threads=1) < 1e12


# ---------------------------------------------------------------------------------------------------------------- jobs

SMALL = (300, 70)  # more than 255 rows, a ragged last word


@pytest.mark.parametrize("layout", ["aligned", "np.empty"])
@pytest.mark.parametrize("kernel", jobs.OPERATIONS)
def test_the_kernels_do_their_jobs(kernel, layout):
    for shape in (SMALL, (1, 1)):
        job = jobs.make(kernel, shape, "float32", layout)
        job.check("minirelu", jobs.public(job))
        job.check("again", jobs.public(job))


@pytest.mark.parametrize("kernel", jobs.OPERATIONS)
def test_the_reference_does_the_jobs_too(kernel):
    for shape in (SMALL, (2, 40, 33)):
        job = jobs.make(kernel, shape, "float64", "aligned")
        job.check("reference", kernels._with("reference", jobs.public(job)))


@pytest.mark.parametrize("kernel", ["bias_relu_forward", "relu_backward"])
def test_a_job_in_place_can_be_done_again(kernel):
    job = jobs.make(kernel, SMALL, "float32", "in place")
    for _ in range(3):
        job.check("minirelu", jobs.public(job))


@pytest.mark.parametrize("kernel", jobs.OPERATIONS)
def test_numpy_does_the_same_jobs(kernel):
    for shape in (SMALL, (2, 40, 33)):
        job = jobs.make(kernel, shape, "float64", "aligned")
        calls = peers.found(job)
        assert {"NumPy naive", "NumPy tuned"} <= calls.keys() <= {"NumPy naive", "NumPy out=", "NumPy tuned"}
        for name, call in calls.items():
            job.check(name, call)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_peers_of_other_libraries_do_the_same_jobs(library):
    if library in peers.MISSING:
        pytest.skip(f"{library} is not installed; it comes with minirelu[bench]")
    for kernel in jobs.OPERATIONS:
        job = jobs.make(kernel, SMALL, "float32", "aligned")
        for name, call in peers.found(job).items():
            if "compile" not in name:  # half a minute; every run of the benchmark checks them
                job.check(name, call)


WRONG = {
    "y": lambda y, mask, *counts: (y + np.float32(1e-6), mask, *counts),
    "mask": lambda y, mask, *counts: (y, mask ^ np.uint32(1), *counts),
    "active": lambda y, mask, active, wild: (y, mask, active + (np.arange(active.size) == 3), wild),
    "nonfinite": lambda y, mask, active, wild: (y, mask, active, wild + 1),
}


@pytest.mark.parametrize("letter", WRONG)
def test_a_wrong_result_of_a_kernel_is_found(letter):
    job = jobs.make("bias_relu_forward", SMALL, "float32", "aligned")
    call = jobs.public(job)
    with pytest.raises(AssertionError, match=f"{letter} of bias_relu_forward is wrong"):
        job.check("broken", lambda: WRONG[letter](*call()))


@pytest.mark.parametrize("error", [0.1, np.nan])
def test_a_sum_beyond_its_bound_is_found(error):
    job = jobs.make("relu_backward", SMALL, "float32", "aligned")
    dz, db = jobs.public(job)()
    job.check("right", lambda: (job.expected["dz"], db))
    with pytest.raises(AssertionError, match="beyond the bound"):
        job.check("broken", lambda: (job.expected["dz"], db + np.float32(error)))
    assert dz.shape == SMALL


def test_a_kernel_that_leaves_the_given_array_as_it_was_is_found():
    job = jobs.make("bias_relu_forward", SMALL, "float32", "aligned")
    jobs.public(job)()  # the right answer is in y now, and is poisoned before the check
    with pytest.raises(AssertionError, match="y of"):
        job.check("lazy", lambda: (job.arrays["y"],))


def test_bytes_come_from_the_arrays():
    n, words, counts = 300 * 70, 300 * 3 * 4, 2 * 70 * 8
    forward = jobs.make("bias_relu_forward", SMALL, "float32", "aligned")
    assert forward.bytes == 2 * 4 * n + words + 4 * 70 + counts
    assert jobs.make("bias_relu_forward", SMALL, "float32", "in place").bytes == forward.bytes
    assert jobs.make("relu_backward", SMALL, "float64", "np.empty").bytes == 2 * 8 * n + words + 8 * 70
    assert optimisers.make("adam", SMALL, "float32", "aligned").bytes == 7 * 4 * n  # x g m v -> new m v


def test_layouts():
    assert all(a.ctypes.data % 64 == 0 for a in jobs.make("residual_relu", (33, 5), "float32", "aligned").arrays.values())
    in_place = jobs.make("relu_backward", SMALL, "float32", "in place").arrays
    assert in_place["dz"] is in_place["g"]


def test_the_forward_without_counts_makes_y_and_mask_and_touches_no_counter():
    job = jobs.make("bias_relu_forward", SMALL, "float32", "aligned")
    job.arrays["z"][5, 5] = np.inf
    job.expected["y"][5, 5] = np.inf
    job.expected["mask"][5, 0] |= 1 << 5
    job.check("no counts", without_counts.call(job))
    counters = np.full((3, 70 + 64), 7, np.uint8)
    outputs = [job.arrays[letter] for letter in ("y", "mask")]
    counts = [np.full(70, 9) for _ in range(2)]
    without_counts._loops(False)(job.arrays["z"], job.arrays["b"], *outputs, *counts, job.arrays["z"], counters, 0, 3)
    assert (counters == 7).all()  # the flag of the non-finite among them
    assert (np.array(counts) == 9).all()


def test_what_counting_costs_is_timed_as_a_pair_by_itself(monkeypatch):
    monkeypatch.setattr(kernels, "LARGE", SMALL)
    monkeypatch.setattr(kernels, "PAIRED", 21)
    case = cases.Case("bias_relu_forward", SMALL, peers=True)
    job = jobs.make(case.kernel, SMALL, case.dtype, case.layout)
    own, without = kernels._pair(case, job)
    assert (own["candidate"], without["candidate"]) == ("minirelu", without_counts.NAME)
    assert len(own["seconds"]) == len(without["seconds"]) == 21
    assert own["bytes"] - without["bytes"] == sum(job.expected[letter].nbytes for letter in ("active", "nonfinite"))
    assert not kernels._pair(replace(case, peers=False), job)

    described = kernels._describe(replace(case, shape=cases.LARGE, threads=2), job, 21) | {"rows": [], "pair": [own, without]}
    own["seconds"], without["seconds"] = [1.04] * 21, [1.0] * 21
    (goal,) = goals.judged({"machine": {"threads": 2}, "cases": [described]})
    assert goal.measured == pytest.approx((4, 4, 4))
    assert goal.verdict == "yes"


@pytest.mark.parametrize("rule", optimisers.RULES)
def test_every_candidate_takes_the_same_optimiser_step(rule):
    update = optimisers.make(rule, (30, 7), "float32", "aligned")
    calls = {"minirelu": optimisers.minirelu(update), "NumPy naive": optimisers._numpy(update)}
    if "jax" not in peers.MISSING:
        calls["JAX jit"] = optimisers._jax(update)
    for name, call in calls.items():
        update.check(name, call)
        call()
        update.check(name, call)  # from the first state again
    with pytest.raises(AssertionError, match=f"new of {rule}_step is wrong"):
        update.check("broken", lambda: (update.expected["new"] + 1e-3, *list(update.expected.values())[1:]))


@pytest.mark.parametrize("rule", ["sgd", "ema", "adam"])
def test_the_rulers_of_the_optimisers_touch_the_same_arrays(rule):
    update = optimisers.make(rule, (3, 50), "float32", "aligned")
    before = {letter: array.copy() for letter, array in update.arrays.items()}
    (call,) = optimisers.streams(update, threads=1).values()
    call()
    changed = {letter for letter, array in update.arrays.items() if not np.array_equal(array, before[letter], equal_nan=True)}
    assert changed == {"new", *update.slots}


# --------------------------------------------------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def result():
    """A small run of everything, dressed up as the large one."""
    shown = []
    small = [
        cases.Case("bias_relu_forward", (64, 40), cache="warm", threads=1, peers=True, seconds=0.01),
        cases.Case("relu_backward", (64, 40), layout="np.empty", threads=1, seconds=0.01),
        cases.Case("sgd_step", (30, 40), threads=1, seconds=0.01),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "LIBRARIES", ("numpy",))
        found = kernels.run(small, first=False, show=shown.append)
    assert shown == found["cases"]
    return found


def test_a_kernel_that_is_measured_again_takes_its_cases_places():
    about = {"machine": timing.machine(2), "first_calls": {"cold": 1.0}}
    every = [{**dataclasses.asdict(case), "rows": "old"} for case in cases.all_cases()]
    every = json.loads(json.dumps(every))  # as they are read from a file
    again = [{**case, "rows": "new"} for case in every if case["kernel"] == "relu_backward"]
    gone = {**every[0], "shape": [3, 3]}  # is no case any more
    result = kernels.merged({**about, "cases": [gone, *every]}, {**about, "first_calls": {}, "cases": again[::-1]})
    assert result["cases"] == [{**case, "rows": "new"} if case["kernel"] == "relu_backward" else case for case in every]
    assert result["first_calls"] == {"cold": 1.0}
    assert kernels.merged({}, {"cases": again}) == {"cases": again}
    with pytest.raises(ValueError, match="measure everything"):
        kernels.merged({**about, "cases": every}, {"machine": {**about["machine"], "cores": 99}, "cases": again})


def test_a_run_has_every_candidate_with_every_time(result):
    forward, backward, step = result["cases"]
    names = [row["candidate"] for row in forward["rows"]]
    assert names == [*copies.RULERS, "minirelu", "minirelu reference", "NumPy naive", "NumPy out=", "NumPy tuned"]
    assert [row["group"] for row in forward["rows"]] == ["ruler"] * 3 + ["minirelu"] * 2 + ["peer"] * 3
    assert optimisers.STREAMS in [row["candidate"] for row in step["rows"]]
    for case in result["cases"]:
        few = len(range(0, case["rounds"], timing.SLOW))
        for row in case["rows"]:
            assert len(row["seconds"]) in (case["rounds"], few)
            assert min(row["seconds"]) > 0
    assert set(backward["offsets"]) == {"g", "mask", "dz"}
    assert result["machine"]["cache_bytes"] > 0


@pytest.mark.parametrize("right_calls", [0, 5])
def test_a_run_stops_at_a_kernel_that_is_wrong_or_becomes_wrong_while_it_is_timed(monkeypatch, right_calls):
    public, calls = jobs.public, []

    def broken(job):
        def call():
            calls.append(1)
            y, *rest = public(job)()
            return (y if len(calls) <= right_calls else y + 1, *rest)

        return call

    monkeypatch.setattr(jobs, "public", broken)
    with pytest.raises(AssertionError, match="minirelu: y of bias_relu_forward is wrong"):
        kernels.run([cases.Case("bias_relu_forward", (4, 4), cache="warm", threads=1, seconds=0.01)], first=False)
    assert (len(calls) > 50) == bool(right_calls)


def test_shares_and_speedups_are_taken_round_by_round():
    ruler = {"candidate": "r", "bytes": 100, "seconds": [1.0, 2.0, 4.0] * 7}
    own = {"candidate": "o", "bytes": 50, "seconds": [1.0, 2.0, 4.0] * 7}
    assert reading.share(own, ruler) == (0.5, 0.5, 0.5)
    assert reading.speedup(own, {**ruler, "seconds": [3.0, 6.0, 12.0] * 7}) == (3.0, 3.0, 3.0)
    assert reading.rate(own) == 25.0


def as_large(result):
    """The same numbers under the shapes that goals, README and figure ask for."""
    forward, backward, step = json.loads(json.dumps(result["cases"]))
    threads = result["machine"]["threads"]
    for case in (forward, backward):
        case |= {"shape": list(cases.LARGE), "layout": "aligned", "cache": "cold", "threads": threads}
    small = forward | {"shape": list(cases.LAYER), "cache": "warm", "threads": 1}
    step |= {"shape": list(cases.PARAMETERS), "threads": threads}
    return result | {"cases": [forward, backward, small, step]}


def test_readme_tables_and_figure(result, tmp_path):
    text = tables.readme(as_large(result))
    assert "| **minirelu** |" in text
    assert "| forward, aligned arrays: of non-temporal copy | ≥ 85 % |" in text
    assert re.search(r"\| non-temporal copy \| [\d.]+ \(100\) \|", text)  # it is what the others are a share of
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| NumPy tuned")}
    assert widths == {len(jobs.OPERATIONS) + 2}
    page = tables.page(as_large(result) | {"first_calls": {"count_units": {"compiled_s": 1.5, "cached_s": 0.123}}})
    assert text.splitlines()[0] in page
    assert "| count_units | 1.5 | 0.123 |" in page
    assert "| relu_backward 8192×4096 | float32, aligned, cold, " in page
    for form in ("png", "svg"):
        roofline.draw(as_large(result), tmp_path / f"roofline.{form}")
        drawn = (tmp_path / f"roofline.{form}").read_bytes()
        assert len(drawn) > 10_000
        roofline.draw(as_large(result), tmp_path / f"roofline.{form}")
        assert (tmp_path / f"roofline.{form}").read_bytes() == drawn
    with pytest.raises(ValueError, match="--quick"):
        roofline.draw(result, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_terminal_has_a_table_a_case_that_fits_80_columns(result, capsys, monkeypatch):
    terminal = pytest.importorskip("benchmarks.terminal", reason="rich is not installed; it comes with minirelu[lab]")
    monkeypatch.setenv("COLUMNS", "80")
    terminal.show_case(result["cases"][0])
    terminal.show_summary(as_large(result) | {"first_calls": {"count_units": {"compiled_s": 1.5, "cached_s": 0.1}}})
    printed = capsys.readouterr().out
    assert "bias_relu_forward 64×40 float32, aligned, warm, 1 thread" in printed
    assert "non-temporal copy" in printed
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


GOALS = [  # measured, goal, most, verdict
    ((0.9, 0.88, 0.92), 0.85, False, "yes"),
    ((0.9, 0.84, 0.92), 0.85, False, "yes?"),
    ((0.8, 0.78, 0.84), 0.85, False, "no"),
    ((0.8, 0.78, 0.92), 0.85, False, "no?"),
    ((2.5, 2.4, 2.6), 3.0, True, "yes"),
    ((3.5, 3.4, 3.6), 3.0, True, "no"),
]


@pytest.mark.parametrize(("measured", "goal", "most", "verdict"), GOALS)
def test_a_goal_is_judged_by_the_median_and_doubted_by_the_interval(measured, goal, most, verdict):
    assert goals.Goal("", measured, goal, most=most).verdict == verdict


def test_a_goal_counts_bytes_and_not_only_time():
    def case(own_bytes):
        rows = [
            {"candidate": copies.NON_TEMPORAL, "group": "ruler", "bytes": 100, "seconds": [1.0] * 21},
            {"candidate": "minirelu", "group": "minirelu", "bytes": own_bytes, "seconds": [1.0] * 21},
        ]
        found = {"kernel": "relu_backward", "shape": list(cases.LARGE), "dtype": "float32", "layout": "aligned"}
        return {"machine": {"threads": 2}, "cases": [found | {"cache": "cold", "threads": 2, "rows": rows}]}

    assert [goal.verdict for goal in goals.judged(case(95))] == ["yes"]
    assert [goal.verdict for goal in goals.judged(case(85))] == ["no"]


# ------------------------------------------------------------------------------------------------------------- compare


def run_of(relative, seed):
    """A kernels JSON whose candidates take these times relative to the ruler, on a machine with 3 % of noise."""
    rng = np.random.default_rng(seed)
    speed, cases_ = rng.uniform(0.5, 2), []  # the two runs' machines differ by any factor
    for i in range(6):
        rows = [{"candidate": copies.NON_TEMPORAL, "group": "ruler", "bytes": 1, "seconds": speed * rng.lognormal(0, 0.03, 41)}]
        for name, time in {"NumPy naive": 9.0, **relative}.items():
            rows.append({"candidate": name, "group": "", "bytes": 1, "seconds": speed * time * rng.lognormal(0, 0.03, 41)})
        place = {"kernel": f"k{i}", "shape": [2, 2], "dtype": "float32", "layout": "aligned", "cache": "cold", "threads": 1}
        cases_.append(place | {"rows": rows})
    return {"benchmark": "kernels", "machine": {"date": "d", "processor": "p"}, "cases": cases_}


def words(old, new):
    found = compare.verdicts(old, new)
    return [verdict.word(compare.noise(found)) for verdict in found if not verdict.control]


def test_compare_sees_a_change_and_not_the_machine():
    old = run_of({"minirelu": 1.0}, seed=0)
    assert words(old, run_of({"minirelu": 1.3}, seed=1)) == ["slower"] * 6
    assert words(old, run_of({"minirelu": 0.8}, seed=2)) == ["faster"] * 6


def test_compare_sees_that_counting_has_become_slower():
    runs = [run_of({"minirelu": 1.0}, seed) for seed in (0, 1)]
    for run, own in zip(runs, (1.03, 1.12), strict=True):
        pair = {"minirelu": own, without_counts.NAME: 1.0}
        run["cases"][0]["pair"] = [{"candidate": name, "bytes": 1, "seconds": [t] * 41} for name, t in pair.items()]
    assert words(*runs) == ["same", "slower", *["same"] * 5]


def test_compare_rarely_cries_wolf():
    changed = [
        word != "same"
        for seed in range(20)
        for word in words(run_of({"minirelu": 1.0}, seed), run_of({"minirelu": 1.0}, seed + 100))
    ]
    assert len(changed) == 120
    assert np.mean(changed) < 0.1


def test_compare_takes_the_noise_from_the_controls():
    old, new = run_of({"minirelu": 1.0}, seed=0), run_of({"minirelu": 1.2}, seed=1)
    for case, factor in zip(new["cases"], (1.5, 0.6, 1.4, 0.7, 1.6, 0.5), strict=True):  # the peers moved by ±50 %
        case["rows"][1]["seconds"] = factor * case["rows"][1]["seconds"]
    assert words(old, new) == ["same"] * 6


def test_compare_prints_a_verdict_and_fails_where_we_are_slower(tmp_path, capsys):
    paths = []
    for name, time, seed in (("old", 1.0, 0), ("new", 1.5, 1)):
        paths.append(str(tmp_path / f"{name}.json"))
        found = run_of({"minirelu": time}, seed)
        for case in found["cases"]:
            for row in case["rows"]:
                row["seconds"] = list(row["seconds"])
        report.write(tmp_path / f"{name}.json", found)
    assert command.main(["compare", *paths]) == 1
    assert "slower" in capsys.readouterr().out
    assert command.main(["compare", *reversed(paths)]) == 0
    assert "Ours: 6 faster, 0 slower, 0 same." in capsys.readouterr().out


def test_compare_knows_the_engine_benchmark_too():
    def of(ratio):
        row = {"net": "n", "ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0}
        own = {"net": "n", "ratio": ratio, "ratio_low": 0.98 * ratio, "ratio_high": 1.02 * ratio}
        return {"benchmark": "engine", "base": "b", "rows": [row | {"candidate": "b"}, own | {"candidate": "minirelu"}]}

    assert words(of(2.0), of(1.5)) == ["faster"]
    assert words(of(2.0), of(2.02)) == ["same"]
    with pytest.raises(ValueError, match="cannot compare"):
        compare.verdicts(of(2.0), run_of({}, 0))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [(None, "there is no file"), ("{", "is not a result"), ("[]", "is not a result"), ('{"a": 1}', "is not a result")],
)
def test_compare_refuses_what_is_no_result(tmp_path, capsys, text, sentence):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit):
        command.main(["compare", str(path), str(path)])
    assert sentence in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- command line


def test_the_axes_choose_cases():
    assert {case.kernel for case in cases.chosen(kernel=["relu_backward"])} == {"relu_backward"}
    assert {case.shape for case in cases.chosen(shape=["64x200"])} == {cases.LAYER}
    assert {case.dtype for case in cases.chosen(dtype=["float64"])} == {"float64"}
    with pytest.raises(ValueError, match="8192x4096"):
        cases.chosen(shape=["7x7"])
    every = cases.all_cases()
    assert len({replace(case, seconds=0) for case in every}) == len(every)
    assert sum(case.seconds for case in every) < 360


def test_the_commands_in_the_readme_are_commands():
    readme = Path(command.__file__).parent / "README.md"
    lines = re.findall(r"^    python -m benchmarks ([^#\n]+)", readme.read_text(), re.MULTILINE)
    assert {command._parser().parse_args(line.split()).command for line in lines} >= {"kernels", "all", "compare", "report"}


def test_a_narrowed_run_writes_nothing_but_its_output(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_renew", lambda result: pytest.fail("README would be renewed"))
    monkeypatch.setattr(cases, "all_cases", lambda: [cases.Case("count_units", (8, 8), threads=1, cache="warm", seconds=0.01)])
    output = tmp_path / "out.json"
    assert command.main(["kernels", "--kernel", "count_units", "--output", str(output)]) == 0
    assert [case["kernel"] for case in compare.load(output)["cases"]] == ["count_units"]
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    assert command.main(["kernels", "--kernel", "count_units"]) == 0
    assert not (tmp_path / "results").exists()
    assert "count_units 8×8" in capsys.readouterr().out


# -------------------------------------------------------------------------------------------------------------- report

RESULT = {
    "base": "NumPy by hand",
    "rounds": 7,
    "machine": {"date": "2026-01-01", "processor": "P", "python": "CPython", "libraries": {"numpy": "2.4", "jax": None}},
    "rows": [
        {"net": "n", "candidate": "minirelu", "median_us": 61.2, "fastest_us": 50.0}
        | {"ratio": 1.234, "ratio_low": 1.2, "ratio_high": 1.3, "ours": 1.0, "ours_low": 0.9, "ours_high": 1.1}
    ],
}


def test_table_and_json(tmp_path):
    table = report.table(RESULT)
    assert "| n | **minirelu** | 61 | 50 | 1.23 [1.20, 1.30] | 1.00 [0.90, 1.10] |" in table
    assert "numpy 2.4" in table
    assert "jax" not in table
    report.write(tmp_path / "r.json", RESULT)
    assert json.loads((tmp_path / "r.json").read_text()) == RESULT


def test_lists_of_numbers_stand_on_one_line(tmp_path):
    given = {"seconds": [1.5e-06, 2.0], "names": ["a, [b]", "c"], "none": [], "deep": [[1, 2], [3]]}
    report.write(tmp_path / "r.json", given)
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text) == given
    assert '"seconds": [ 1.5e-06, 2.0 ]' in text


def test_renew_replaces_between_the_marks_only(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmark engine -->\nold\n<!-- end -->\nafter\n")
    report.renew(readme, "engine", "new")
    assert readme.read_text() == "before\n<!-- benchmark engine -->\nnew\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="no marks"):
        report.renew(readme, "kernels", "new")


# ------------------------------------------------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def pool():
    made = processes.Processes()
    yield made
    made.close()


@pytest.mark.parametrize("sizes", [(3, 9, 1), (4, 7, 8, 1)])
@pytest.mark.parametrize("rule", train.RULES)
def test_every_candidate_makes_the_same_training(sizes, rule, pool):
    task = training.make(sizes, rule, 16, 30)
    calls = dict(train._candidates(task, pool))
    assert {"minirelu", "NumPy by hand"} <= calls.keys()
    expected = calls["minirelu"]()
    for name, call in calls.items():
        training.check(task, name, call(), training.losses(task, expected))
        for ours, theirs in zip(expected, call(), strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_candidate_that_trains_something_else_is_found():
    task = training.make((3, 9, 1), "adam", 2, 30)
    right = training.minirelu(task, 1)()
    expected = training.losses(task, right)
    training.check(task, "right", right, expected)
    with pytest.raises(AssertionError, match="idle"):
        training.check(task, "idle", task.parameters, expected)
    with pytest.raises(AssertionError, match="has trained nothing"):
        training.check(task, "idle", task.parameters, training.losses(task, task.parameters))


def test_the_cases_cover_what_they_should():
    full = train.cases(quick=False)
    assert {case.replicas for case in full if case.sizes == train.PAPER} == {1, 16, 128, 1024}
    assert {case.sizes[0] for case in full if len(case.sizes) == 3} == {5, 8, 53, 81}
    assert {len(case.sizes) - 2 for case in full} == {1, 4, 8}
    assert {case.rule for case in full} == set(train.RULES)
    assert set(train.cases(quick=True)) < set(full)


def test_a_case_that_is_measured_again_takes_its_place():
    about = {"machine": timing.machine(2), "steps": "before"}
    every = [{**case._asdict(), "rows": "old"} for case in train.cases(quick=False)]
    again = {**every[2], "rows": "new"}
    result = train.merged({**about, "cases": every}, {"machine": about["machine"], "cases": [again]})
    assert result["cases"] == [*every[:2], again, *every[3:]]
    assert result["steps"] == "before"
    assert train.merged({}, {"cases": [again]}) == {"cases": [again]}
    other = {"machine": {**about["machine"], "processor": "another"}, "cases": [again]}
    with pytest.raises(ValueError, match="measure everything"):
        train.merged({**about, "cases": every}, other)


def test_a_part_of_the_trainings_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["train", "--part", "adam-8-200-1-17"])
    assert "expected some of heavy_ball-8-200-1-1, heavy_ball-8-200-1-16" in capsys.readouterr().err


def test_the_tables_of_the_trainings():
    seconds = {
        "minirelu": [1.0, 1.1],
        "minirelu, one thread": [1.9, 2.0],
        "JAX scan": [3.5, 3.2],
        "PyTorch eager": [31.0, 34.0],
    }
    rows = [{"candidate": name, "seconds": times} for name, times in seconds.items()]
    cases_ = [{"sizes": [8, 200, 1], "rule": "adam", "replicas": 16, "steps": 100, "rows": rows}]
    cases_ += [{**cases_[0], "sizes": [8, *[200] * 4, 1]}]
    result = {"cases": cases_, "rounds": 2, "machine": timing.machine(2), "missing": [], "compile_s": 5.0}
    result |= {"steps": [{"steps": 100, "seconds": [0.01]}], "memory": [{"replicas": 16, "results_mb": 1, "peak_mb": 2}]}
    text = train_tables.page(result)
    assert "| **minirelu** | 656.2 |  |" in text
    assert "| PyTorch eager | 20312.5 | 30.95 [30.91, 31.00] |" in text
    verdicts = {goal.text.partition(": ")[2]: goal.verdict for goal in train_tables.judged(result)[:3]}
    assert verdicts == {"the best JAX ÷ ours": "yes?", "PyTorch eager ÷ ours": "yes", "one core to two": "yes?"}
    assert "8-4×200-1, adam, R = 16, 100 steps: the best peer ÷ ours" in text
