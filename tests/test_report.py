"""The report: every claim has a row, whatever is missing; the page is whole, escaped and needs nothing from elsewhere."""

import json
import re
from functools import partial
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

from minirelu import cli
from minirelu.experiments import blocks, born_dead, fig1, fig4, fig5, fig6, momentum, page, panels, report, rescaling
from minirelu.experiments.networks import Size
from minirelu.experiments.verdicts import VERDICTS, Claim, Finding

CLAIM = Claim("a < b & c", "§1", "0.5")


class Tags(HTMLParser):
    """The open tags at any time, and all that were seen."""

    VOID = {"meta", "img", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(text):
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags.seen


def part(verdict="reproduced", picture=b"\x89PNG"):
    found = Finding(CLAIM, "0.51 [0.49, 0.53]", 8, verdict, "no data" if verdict == "not run" else "")
    return report.Part("x", 'A "title"', [found], "minirelu reproduce x", 12.0, "Note.", picture, "Points & lines")


def test_the_page_is_whole_escaped_and_self_contained():
    text = page.page([part(), part("not run", b"")], quick=False)
    seen = parsed(text)
    (image,) = [attrs for tag, attrs in seen if tag == "img"]
    assert image["alt"] == "Points & lines"
    assert image["src"].startswith("data:image/png;base64,iVBORw")
    targets = [attrs[name] for _, attrs in seen for name in ("src", "href") if name in attrs]
    assert all(target.startswith(("data:", "#x")) for target in targets), "something is fetched from elsewhere"
    assert "http" not in text
    assert "a &lt; b &amp; c" in text
    assert "2 claims: 1 reproduced, 0 not reproduced, 0 in part, 1 not run." in text
    assert '<html lang="en">' in text
    assert "@media print" in text
    for word in ("0.51 [0.49, 0.53]", "no data", "§1", "12.0 s", "minirelu reproduce x"):
        assert word in text


def test_claims_that_are_not_the_papers_are_counted_apart():
    text = page.page([part(), part("in part"), part("not run")._replace(paper=False)], quick=False)
    assert "minirelu.\n2 claims: 1 reproduced, 0 not reproduced, 1 in part, 0 not run." in text
    assert "dying ReLU: 1 claim: 0 reproduced, 0 not reproduced, 0 in part, 1 not run." in text


def test_quick_verdicts_say_so():
    text = page.page([part(), part("not run")], quick=True)
    assert "reproduced (quick)" in text
    assert "not run (quick)" not in text


@pytest.fixture
def small(monkeypatch):
    """Calculations of a few points and steps, which spares a minute; nets are as they come."""
    monkeypatch.setattr(report, "STARTS", {True: 4, False: 4})
    monkeypatch.setattr(report, "BORN", {True: 100, False: 100})
    monkeypatch.setattr(rescaling, "STEPS", 20)
    monkeypatch.setattr(rescaling, "FACTORS", 20)
    for module in (fig4, fig5):
        monkeypatch.setattr(module, "run", partial(panels.run, module.PANELS, max_steps=20))
    monkeypatch.setattr(report, "png", lambda figure: b"\x89PNG")
    monkeypatch.setattr(report.fig3, "draw", lambda columns: None)  # stream lines take seconds
    monkeypatch.setattr(report.causes, "QUICK", Size(("airfoil",), 2, 40))


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["report", "--workers", "1", *map(str, arguments)], env={"COLUMNS": "200"})


def test_without_data_every_claim_has_its_row_and_reason(tmp_path, monkeypatch, small):
    monkeypatch.delenv("MINIRELU_DATA", raising=False)
    result = invoke("--quick", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "report.json").read_text())
    calculations = {"fig2", "fig3", "fig4-5", "rescaling", "born_dead"}
    assert {row["part"] for row in rows} == {"fig1", "momentum", "fig6", "blocks", "causes"} | calculations
    nets = [row for row in rows if row["part"] in ("fig1", "momentum", "fig6", "blocks")]
    assert len(nets) == 4 * 5 + 4 * 2 + 2 * 6 + 2 * 4
    assert all(row["verdict"] == "not run" and "MINIRELU_DATA" in row["why"] for row in nets)
    assert all(row["why"] for row in rows if row["verdict"] == "not run")
    assert {row["verdict"] for row in rows} <= set(VERDICTS)
    text = (tmp_path / "report.html").read_text()
    parsed(text)
    assert len(re.findall(r"<tr><td", text)) == len(rows)


def test_what_is_there_is_reported_without_training(tmp_path, monkeypatch, small):
    monkeypatch.setattr(momentum, "EFFECTIVE", (1e-3, 1e-2))  # two steps of tuning would not find out that 30 diverges
    momentum.train(tmp_path / "runs", Size(("diabetes",), momentum.FULL.seeds, 20), 1, lambda done, total: None)
    for module in (fig1, fig6, blocks, momentum):
        monkeypatch.setattr(module, "train", None)
    monkeypatch.setattr(report, "calculated", lambda *_: iter(()))
    assert invoke("--no-train", "--out", tmp_path).exit_code == 0
    rows = json.loads((tmp_path / "report.json").read_text())
    own = [row for row in rows if row["text"].startswith("Diabetes")]
    assert [row["part"] for row in own] == ["momentum"] * 2
    assert all(row["n"] == 8 and row["verdict"] != "not run" and "20 steps" in row["note"] for row in own)
    text = (tmp_path / "report.html").read_text()
    assert text.count("4 layers, γ = 1e-4, n = 8 nets; layer by layer: born dead") == len(momentum.DEEP)
    parsed(text)


def test_the_rescaling_theorem_holds_on_trained_nets(monkeypatch):
    monkeypatch.setattr(rescaling, "STEPS", 200)
    monkeypatch.setattr(rescaling, "FACTORS", 300)
    single, layers = rescaling.errors(2, 2)
    assert min(single) > 1e-3
    assert max(layers) < 1e-12
    trivial, _ = rescaling.errors(1, 2, gamma=1.0)
    assert max(trivial) < 0.02  # ν = 1 is near one of the factors tried: the search finds what is there


def test_born_dead_nets_are_held_against_their_bounds(monkeypatch):
    found = born_dead.findings(2000)
    assert [f.verdict for f in found] == ["reproduced"] * 5
    monkeypatch.setattr(born_dead.theory, "upper_bound", lambda depth, width: 0.05)
    monkeypatch.setattr(born_dead.theory, "lower_bound", lambda depth, width: 0.0)
    assert [f.verdict for f in born_dead.findings(2000)][:4] == ["not reproduced"] * 4
