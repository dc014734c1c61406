"""Causes and remedies: rows and verdicts on made-up outcomes, and the command from end to end on a small bench."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from minirelu import cli, data
from minirelu.causes import cases
from minirelu.causes.training import Outcome
from minirelu.estimates import Estimate, estimate
from minirelu.experiments import causes, causes_figures, causes_report, causes_words
from minirelu.experiments.networks import Size

SIZE = Size(("sine",), 2, 40)


def outcome(dead, born=0.0, error=0.5, seeds=4):
    """R seeds, two layers, the second the worst with the share `dead`; the error falls by half at each of 3 moments."""
    spread = 0.01 * np.arange(seeds)
    shares = np.stack([0 * spread, dead - spread], axis=1)
    courses = np.stack([born + 0 * spread, shares[:, 1], shares[:, 1]], axis=1)
    died = shares - np.array([0.0, born])
    errors = np.repeat(error * np.array([[4.0, 2.0, 1.0]]), seeds, axis=0)
    return Outcome(np.array([0, 10, 20]), errors, courses, np.tile([0.0, born], (seeds, 1)), shares, died, np.full(seeds, 3.0))


def row(of, data="sine", cause="lr", rule="adam", dose="0.1", remedy="none", goal=1.0, without=None):
    return causes.judged(of, goal, (32, 32), without, data=data, cause=cause, rule=rule, dose=dose, remedy=remedy)


def test_a_row_has_birth_death_and_convergence():
    found = row(outcome(0.8, born=0.3))
    assert_allclose([found.born.mean, found.dead.mean, found.died.mean], [0.3, 0.785, 0.485])
    assert found.dead.low < 0.785 < found.dead.high
    assert (found.rank.mean, found.error.mean) == (3.0, pytest.approx(0.5))
    assert (found.n, found.diverged, found.never) == (4, 0, 0)
    assert found.steps.mean == 10
    never = row(outcome(0.8), goal=0.1)
    assert (never.steps.mean, never.never) == (20, 4)


def test_diverged_seeds_are_in_no_mean():
    of = outcome(0.8)
    of.course[1, -1] = np.nan
    of.error[2, -1] = np.nan
    found = row(of)
    assert (found.n, found.diverged) == (2, 2)
    assert_allclose(found.dead.mean, 0.785)
    of.course[:, -1] = np.nan
    assert row(of).n == 0
    assert np.isnan(row(of).dead.mean)


def test_the_mean_over_sets_and_its_interval():
    parts = [Estimate(0.2, 0.1, 0.3, 8), Estimate(0.6, 0.4, 0.7, 8)]
    mean = causes.pooled(parts)
    assert_allclose(mean[:3], [0.4, 0.4 - np.hypot(0.1, 0.2) / 2, 0.4 + np.hypot(0.1, 0.1) / 2])
    assert mean.n == 16
    assert_allclose(causes.pooled([Estimate(1, 0.5, 2, 3), Estimate(4, 2, 8, 3)], logarithmic=True)[0], 2.0)
    assert causes.pooled([*parts, Estimate(np.nan, np.nan, np.nan, 0)]) == mean
    assert np.isnan(causes.pooled([]).mean)


def test_errors_and_their_ratios_are_averaged_as_logarithms():
    halves = [row(outcome(0.1), data=name)._replace(fit=Estimate(fit, fit, fit, 4)) for name, fit in (("a", 0.25), ("b", 4.0))]
    (mean,) = causes.over_sets(
        [halves[0]._replace(error=Estimate(0.1, 0.1, 0.1, 4)), halves[1]._replace(error=Estimate(10, 10, 10, 4))]
    )
    assert_allclose([mean.fit.mean, mean.error.mean], 1.0)


def test_the_interval_over_sets_covers():
    """Means of 3 sets with their own levels: the interval of the mean covers the truth at least as often as it says."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        parts = [estimate(rng.normal(level, spread, 8)) for level, spread in ((0.2, 0.1), (0.5, 0.05), (0.6, 0.2))]
        mean = causes.pooled(parts)
        hits += mean.low <= 1.3 / 3 <= mean.high
    assert 0.93 <= hits / 400 <= 0.99  # 95 % of 400: a standard error of 1.1 points; three t of 7 degrees are a little wide


def doses(shares, cause="lr", rule="adam", diverged=0):
    labels = [dose.label for dose in next(c for c in cases.CAUSES if c.key == cause).doses]
    made = [row(outcome(share), cause=cause, rule=rule, dose=label) for label, share in zip(labels, shares, strict=True)]
    return [r._replace(diverged=diverged) for r in made]


def verdict(shares, **options):
    found = causes_words.findings(doses(shares, **options))
    return next(f for f in found if f.claim.text == "A high learning rate kills, with Adam")


def test_verdicts_of_the_folklore():
    assert verdict([0.05, 0.2, 0.6, 0.9, 0.9]).verdict == "reproduced"
    assert "at 0.03" in verdict([0.05, 0.2, 0.6, 0.9, 0.9]).ours
    assert verdict([0.05, 0.1, 0.1, 0.1, 0.2]).verdict == "not reproduced"
    assert verdict([0.05, 0.1, 0.1, 0.1, 0.41]).verdict == "in part"
    assert "5 nets diverged" not in verdict([0.05] * 5).ours
    assert "8 nets diverged, which is not dying" in verdict([0.05] * 5, diverged=2).ours
    assert verdict([0.9, 0.1, 0.1, 0.1, 0.1]).verdict == "not reproduced"  # the healthy dose is no dose
    others = [f.verdict for f in causes_words.findings(doses([0.05] * 5)) if "learning rate" not in f.claim.text]
    assert set(others) == {"not run"}


def kills_from(shares, **options):
    return causes_words.cause_lines(doses(shares, **options), "adam")[0][1]


def test_the_table_says_what_the_report_says():
    assert kills_from([0.05, 0.2, 0.6, 0.9, 0.9]) == "0.03"
    assert kills_from([0.05, 0.1, 0.1, 0.1, 0.2]) == "does not (0.3)"  # the strongest dose
    assert kills_from([0.05, 0.1, 0.41, 0.1, 0.2]) == "not shown (0.03)"  # the one with most dead
    gone = [r._replace(n=0, dead=estimate([])) for r in doses([0.5] * 5)]
    assert causes_words.cause_lines(gone, "adam")[0][1] == "diverges"


def test_a_line_of_the_table_goes_from_the_healthy_dose_to_the_one_that_kills():
    healthy, _, ill, *rest = doses([0.05, 0.2, 0.6, 0.9, 0.9])
    numbers = lambda rank, error, steps: {"rank": sure(rank), "error": sure(error), "steps": sure(steps)}
    rows = [healthy._replace(**numbers(17.0, 0.038, 1058.0)), ill._replace(**numbers(6.23, 0.11, 1500.0), never=2, diverged=1)]
    (line,) = causes_words.cause_lines([*rows, *rest], "adam")
    assert line[:2] == ("learning rate", "0.03")
    assert line[2:4] == (causes_words.share(ill.dead), causes_words.share(ill.died))
    assert line[4:] == ("17 → 6.2", "0.038 → 0.11", "1058 → 1500 (2 never)", "4, 1 diverged")


def sure(x):
    return Estimate(x, x, x, 4)


def tried(**remedies):
    return {key: row(of, remedy=key, without=remedies["none"]) for key, of in remedies.items()}


def test_what_is_recommended():
    none = outcome(0.8)
    best = lambda **remedies: (causes.recommended(tried(none=none, **remedies)) or row(none)).remedy
    assert best(he=outcome(0.1, error=0.5), elu=outcome(0.2, error=0.1)) == "elu"  # about as few: the better fit
    assert best(he=outcome(0.1, error=0.5), elu=outcome(0.5, error=0.1)) == "he"
    assert best(he=outcome(0.79)) == "none"  # not surely fewer
    assert best(he=outcome(0.2), elu=outcome(0.01, error=0.9)) == "he"  # alive, but fits worse than without a remedy
    mild = lambda **remedies: causes.recommended(tried(none=outcome(0.1), **remedies))
    assert mild(he=outcome(0.0)) is None  # hardly kills: the fit is what counts
    assert mild(he=outcome(0.0), elu=outcome(0.12, error=0.1)).remedy == "elu"
    wild = outcome(0.05)
    wild.error[0, -1] = np.nan
    assert best(he=outcome(0.2), elu=wild) == "he"  # what diverges for some is no remedy


def test_remedies_are_compared_seed_by_seed_and_all_together():
    best = lambda none, he: (causes.recommended(tried(none=none, he=he)) or row(none)).remedy
    seeds = np.array([0.45, 0.6, 0.75, 0.95])  # which differ by more than the remedy does
    assert best(outcome(seeds), outcome(seeds - 0.25)) == "he"
    fewer = np.array([0.15, 0.2, 0.3, 0.4])  # surely, if it were the one remedy that was tried
    assert estimate(fewer).low > 0
    assert best(outcome(0.8), outcome(0.8 - fewer)) == "none"
    slower = outcome(0.2, error=0.52)
    assert best(outcome(0.8), slower) == "none"  # every seed fits a little worse: surely worse
    slower.error[:, -1] *= [0.8, 1.1, 1.2, 0.9]
    assert best(outcome(0.8), slower) == "he"


def test_the_goal_is_the_error_at_a_quarter():
    of = outcome(0.1)._replace(step=np.array([0, 5, 20]))
    assert_allclose(causes.goal(of), 1.0)


DOCS = Path(__file__).parents[1] / "docs"
SAID = {  # what the page says outside its tables, and the row it is about: cause, rule, dose, remedy, share
    "at 100 times the usual size {} are dead": "scale_large adam 100 none dead",
    "With Adam: {} at γ = 1e-4, nearly all": "gamma adam 1e-4 none dead",
    "With SGD 3 or 4 % at every γ from .1 down to 1e-6 (at 1e-4 {})": "gamma sgd 1e-4 none dead",
    "Weights of a tenth of their size: {} born dead": "scale_small sgd 0.1 none born",
    "{} dead at the end with SGD": "scale_small sgd 0.1 none dead",
    "With Adam, whose steps do not shrink with the gradients, {}": "scale_small adam 0.1 none dead",
    "Eight layers of 32 have {} dead": "depth adam 8 none dead",
    "equal weights of 0.01 leave {} dead with SGD": "constant sgd 0.01 none dead",
    "With Adam about as many at δ = 10, {} of the worst layer": "delta adam 10 none dead",
    "as at 1000, {}": "delta adam 1000 none dead",
    "down to two units each ({})": "width adam 2 none dead",
    "of one unit a layer {} are dead": "width adam 1 none dead",
    "{} at 8 layers of 4 units": "deep_narrow adam 8 none dead",
    '"Inputs that are not normalised kill"**, {}': "raw adam 1 none dead",
    "Adam kills half ({} at 0.1,": "constant adam 0.1 none dead",
    "at 0.1, {} at 0.01": "constant adam 0.01 none dead",
    "With inputs shifted by 10 {} are dead": "shift sgd 10 none dead",
    "are dead, {} died in training (the 20 nets": "shift sgd 10 none died",
    "with half-raw inputs (0.5) {} and": "raw sgd 0.5 none dead",
    "and {} (5 nets)": "raw sgd 0.5 none died",
    "with weights ten times too large {} and": "scale_large sgd 10 none dead",
    "and {} (7 nets)": "scale_large sgd 10 none died",
    "with weights of a thousandth {} and": "scale_small sgd 0.001 none dead",
    "and {}. ![Dead share": "scale_small sgd 0.001 none died",
    "He's initialisation for any bad weights ({} dead": "scale_small adam 0.001 he dead",
    "a high rate ({}) and tiny": "lr adam 0.03 batch_norm dead",
    "and tiny targets ({}). It is": "gamma adam 1e-4 batch_norm dead",
    "with tiny targets {}, but the error is 990": "gamma adam 1e-4 sgd dead",
    "in 8 layers {} instead": "depth adam 8 sgd dead",
    "instead of {}, but .13": "depth adam 8 none dead",
    "with shifted inputs 4, and of the rest {} are dead": "shift adam 10 sgd dead",
    "with weights of a thousandth {} are, instead": "scale_small adam 0.001 sgd dead",
    "are, instead of {}": "scale_small adam 0.001 none dead",
    "against raw inputs ({})": "raw adam 1 he dead",
    "shifted inputs ({}) or": "shift adam 10 he dead",
    "in 8 layers of 4 units ({})": "deep_narrow adam 8 he dead",
    "little against a high rate: {} instead": "lr adam 0.03 he dead",
    "instead of {}, error .097": "lr adam 0.03 none dead",
    "Against a bias of −1 it leaves {}": "bias adam -1 he dead",
    "in 8 layers of 4 ELU is recommended (.27, {} silent)": "deep_narrow adam 8 elu dead",
    "of the three ({} at the high rate": "lr adam 0.03 elu dead",
    "at the high rate, {} with tiny targets": "gamma adam 1e-4 elu dead",
    "Against raw inputs it kills: {} instead": "raw adam 1 clip dead",
    "without knowing them: {} dead at γ = 1e-4 and": "gamma adam 1e-4 pop_art dead",
    "without knowing them: {} dead at γ = 1e-4 and at δ = 100": "delta adam 100 pop_art dead",
    "8 layers: RAI {} and He": "depth adam 8 rai dead",
    "and He {} dead instead": "depth adam 8 he dead",
    "dead instead of {}, at about the same fit": "depth adam 8 none dead",
    "PReLU {} silent": "depth adam 8 prelu dead",
    "with their means left in, kill {}": "48 % [44, 51]",  # these four are of runs that are not in the table
    "at their own sizes, {}": "27 % [23, 30]",
    "(friedman1's; 8 seeds) kill {}": "18 % [9, 26]",
    "between 100 and 130 {}": "62 % [56, 67]",
}


@pytest.fixture(scope="module")
def page():
    """Its text before and after the tables, without line ends; the tables; and the rows."""
    rows = causes_words.from_json((DOCS / "causes.json").read_text())
    before, table, after = re.split(r"<!-- results -->\n|<!-- end -->", (DOCS / "causes-and-remedies.md").read_text())
    return " ".join((before + after).split()), table, rows


def test_the_page_has_the_tables_of_its_rows(page):
    assert page[1] == causes_words.markdown(page[2])


def test_each_share_on_the_page_is_that_of_the_row_it_names(page):
    prose, _, rows = page
    table = {(r.cause, r.rule, r.dose, r.remedy): r for r in causes.over_sets(rows)}
    named = set()
    for words, of in SAID.items():
        *key, field = of.split()
        share = causes_words.share(getattr(table[tuple(key)], field)) if len(key) == 4 else of
        at = prose.find(words.format(share))
        assert at >= 0, f"the page does not say {words.format(share)!r} ({of})"
        named.add(at + words.index("{}"))
    assert named == {found.start() for found in re.finditer(r"\d+ % \[\d+, \d+\]", prose)}


class Bench(NamedTuple):
    out: object
    result: object
    words: str


ARGUMENTS = ["causes", "--remedies", "--data", "sine", "--seeds", "2", "--steps", "40", "--workers", "1"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Two causes and three remedies, in this process, so that it takes seconds."""
    out = tmp_path_factory.mktemp("causes")
    with pytest.MonkeyPatch.context() as patch:
        _shorten(patch)
        result = CliRunner().invoke(cli.app, [*ARGUMENTS, "--out", str(out)], env={"COLUMNS": "160"})
        yield Bench(out, result, " ".join(result.output.split()))


def _shorten(patch):
    few = [cause for cause in cases.CAUSES if cause.key in ("bias", "gamma")]
    patch.setattr(cases, "CAUSES", tuple(cause._replace(doses=cause.doses[:2], lethal=1) for cause in few))
    patch.setattr(cases, "REMEDIES", tuple(r for r in cases.REMEDIES if r.key in ("he", "targets", "clip")))


def test_the_command_measures_draws_and_speaks(bench):
    assert bench.result.exit_code == 0, bench.result.output
    assert {p.name for p in bench.out.iterdir()} == {
        "runs", "causes.json", "causes.md", "causes.png", "consequences.png", "remedies.png"
    }  # fmt: skip
    assert "Causes, Adam, 40 steps" in bench.words
    assert "Causes, SGD, 40 steps" in bench.words
    assert re.search(r"initial bias not shown \(-0\.1\) \d+ % \[", bench.words)
    assert re.search(
        r"initial bias, -0\.1: nothing tried (fits surely better|leaves surely fewer, and no worse a fit,) than no remedy",
        bench.words,
    )
    page = (bench.out / "causes.md").read_text()
    assert re.search(r"^\| none \| \d+ % \[\d+, \d+\]; [\d.e+-]+ \| ", page, re.MULTILINE)
    assert "| He initialisation |" in page
    rows = json.loads((bench.out / "causes.json").read_text())
    assert len(rows) == 2 * 2 * 2 + 2 * 3
    assert {r["remedy"] for r in rows} == {"none", "he", "targets", "clip"}
    for r in rows:
        assert r["n"] + r["diverged"] == 2
        assert r["dead"][1] <= r["dead"][0] <= r["dead"][2]


def test_a_remedy_that_changes_nothing_is_trained_once(bench):
    files = list((bench.out / "runs").iterdir())
    # Adam: base, bias, and the base and γ at five times the length; the same for SGD; He 2, clip 2; targets: the base twice
    assert len(files) == 4 + 4 + 2 + 2
    by = {(r.cause, r.remedy): r for r in causes.collect(bench.out / "runs", SIZE) if r.rule == "adam" and r.dose != "1"}
    same, none = by["bias", "targets"], by["bias", "none"]
    assert same._replace(remedy="none", fewer=none.fewer, fit=none.fit) == none
    assert (same.fewer.mean, same.fit.mean, same.fewer.n, none.fewer.n) == (0, 1, 2, 0)


def test_resuming_trains_nothing(bench, monkeypatch):
    monkeypatch.setattr("minirelu.causes.tasks.Processes", None)
    causes.train(bench.out / "runs", SIZE, 1, lambda *_: None)


def test_a_data_set_is_read_once_for_all_rows(tmp_path, monkeypatch):
    read, table = [], data.read("sine")
    monkeypatch.setattr(data, "read", lambda name, *_: read.append(name) or table)
    monkeypatch.setattr(causes, "train_tasks", lambda *_: None)
    assert causes.collect(tmp_path, SIZE) == []
    assert read == ["sine"]
    causes.train(tmp_path, SIZE, 1, lambda *_: None)
    assert read == ["sine", "sine"]


def test_other_numbers_under_the_name_are_other_trainings(monkeypatch):
    of, keys = data.read("sine"), []
    for table in (of, of._replace(y=of.y + 1)):
        monkeypatch.setattr(data, "read", lambda *_, table=table: table)
        sums = causes.checksums(SIZE)
        keys.append({task.key() for *_, task in (*causes.cause_tasks(SIZE, sums), *causes.remedy_tasks(SIZE, sums))})
    assert not keys[0] & keys[1]


def test_the_report_has_the_rows(bench):
    part = causes_report.part(bench.out, SIZE, 1, lambda *_: None, train=False)
    assert part.name == "causes"
    assert len(part.findings) == 4
    assert {f.verdict for f in part.findings} <= {"reproduced", "not reproduced", "in part"}
    assert part.picture.startswith(b"\x89PNG")
    empty = causes_report.part(bench.out / "nothing", SIZE, 1, lambda *_: None, train=False)
    assert {f.verdict for f in empty.findings} == {"not run"}
    assert empty.picture == b""


def test_wrong_options_are_refused_in_a_sentence(tmp_path):
    for options, words in ((["--data", ","], "expected names of data sets"), (["--data", "sinne"], "did you mean 'sine'")):
        result = CliRunner().invoke(cli.app, ["causes", *options, "--out", str(tmp_path)], env={"COLUMNS": "200"})
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())


def invoke(*arguments):
    result = CliRunner().invoke(cli.app, ["causes", *map(str, arguments)], env={"COLUMNS": "200"})
    return result, " ".join(result.output.split())


def test_a_data_set_that_was_named_must_be_there(tmp_path):
    result, words = invoke("--data", "sine,nosuch", "--quick", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "there is no data set called 'nosuch'" in words
    assert not (tmp_path / "out").exists()


def test_the_quick_form_says_which_of_the_usual_data_sets_it_goes_without(tmp_path, monkeypatch):
    monkeypatch.delenv("MINIRELU_DATA", raising=False)
    monkeypatch.setattr(causes, "QUICK", Size(("sine", "airfoil"), 2, 41))
    monkeypatch.setattr(causes, "FULL", Size(("gaussian",), 2, 40))
    _shorten(monkeypatch)
    for name in ("responses", "consequences"):  # which take seconds
        monkeypatch.setattr(causes_figures, name, lambda rows: Figure())
    result, words = invoke("--quick", "--workers", 1, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Left out: airfoil is read from the folder that the variable MINIRELU_DATA names, which is not set" in words
    assert "Causes, Adam, 41 steps, on sine" in words
    assert "**Adam**, on sine" in (tmp_path / "causes.md").read_text()
