"""The report as one HTML page: tables that become cards on a narrow screen, figures inside it, nothing from elsewhere.

- `page(parts, quick)`: the whole text.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from .verdicts import NOT_RUN, VERDICTS, Finding

if TYPE_CHECKING:
    from .report import Part

STYLE = """
:root { --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --card: #f7f8fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: var(--ink); background: #fff;
       font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem; }
p { max-width: 48rem; margin: .4rem 0; } .soft { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid var(--line);
         overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; } .claim { width: 26%; } .ours { width: 26%; }
.source { width: 21%; } td.paper { min-width: 5rem; } nav ul { padding-left: 1.2rem; margin: .6rem 0; }
.why { color: var(--soft); }
td.n, td.paper { font-variant-numeric: tabular-nums; } .verdict { white-space: nowrap; font-weight: 600; }
.reproduced { color: #0b6b3a; } .not-reproduced { color: #a3280f; } .in-part { color: #7a5200; }
.not-run { color: var(--soft); }
code { font-size: .88em; background: var(--card); padding: .1em .3em; border-radius: 3px; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .85rem; }
@media (max-width: 700px) {
  thead { position: absolute; left: -9999px; }
  table, tbody, tr, td { display: block; width: 100% !important; }
  tr { background: var(--card); border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .4rem .2rem; }
  td { border: 0; padding: .15rem .6rem; } td:empty { display: none; }
  td[data-head]::before { content: attr(data-head) ": "; color: var(--soft); font-weight: 400; }
  td.claim { font-weight: 600; }
  figure { overflow-x: auto; } img { max-width: none; width: 46rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } tr, figure { break-inside: avoid; } h2 { break-after: avoid; }
  thead { display: table-header-group; } .verdict { color: #000 !important; }
  nav { display: none; } table { font-size: 8.5pt; } td.paper { min-width: 0; } .verdict { white-space: normal; }
}
"""
COLUMNS = (
    ("claim", "Claim"),
    ("paper", "Paper"),
    ("ours", "Ours [95 %]"),
    ("n", "n"),
    ("verdict", "Verdict"),
    ("source", "Source"),
)


def page(parts: Sequence[Part], quick: bool) -> str:
    """The page. Everything that is not ours to write as HTML is escaped."""
    of_paper = _total([f for part in parts if part.paper for f in part.findings])
    others = [f for part in parts if not part.paper for f in part.findings]
    besides = f"\nBesides, what is commonly said of causes of dying ReLU: {_total(others)}." if others else ""
    said = "<strong>Quick form:</strong> fewer steps and seeds than the paper; a verdict here is a first look."
    kind = f"<p>{said}</p>" if quick else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>minirelu: the claims of arXiv 2005.06195</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>The effect of target normalization and momentum on dying ReLU: what we find</h1>
<p>The claims of arXiv 2005.06195, measured again by minirelu.
{of_paper}.{besides}</p>
{kind}
<p class="soft">n is the number of independent runs (nets, or starts); brackets are 95 % intervals.
<em>Reproduced</em>: the whole interval is where the claim says; <em>not reproduced</em>: none of it; <em>in part</em>: some
of it. A calculation without chance has n = 0 and no interval.</p>
{_contents(parts)}
{"".join(map(_section, parts, [quick] * len(parts)))}
</main>
</body>
</html>
"""


def _total(findings: Sequence[Finding]) -> str:
    counts = Counter(f.verdict for f in findings)
    counted = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    return f"{len(findings)} claim{'s' * (len(findings) != 1)}: {counted}"


def _contents(parts: Sequence[Part]) -> str:
    def line(part: Part) -> str:
        counts = Counter(f.verdict for f in part.findings)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        return f'<li><a href="#{escape(part.name)}">{escape(part.title)}</a> <span class="soft">{said}</span></li>'

    return f'<nav aria-label="Experiments"><ul>{"".join(map(line, parts))}</ul></nav>'


def _section(part: Part, quick: bool) -> str:
    heads = "".join(f'<th scope="col" class="{key}">{head}</th>' for key, head in COLUMNS)
    rows = "".join(_row(f, quick) for f in part.findings)
    took = f"Run time {_time(part.seconds)}" if part.seconds else "Not run"
    return f"""
<section id="{escape(part.name)}">
<h2>{escape(part.title)}</h2>
<p class="soft">{escape(part.note)} {took}. Command: <code>{escape(part.command)}</code></p>
<table>
<thead><tr>{heads}</tr></thead>
<tbody>{rows}</tbody>
</table>
{_figure(part)}
{_besides(part)}
</section>
"""


def _row(f: Finding, quick: bool) -> str:
    quickly = " (quick)" if quick and f.verdict != NOT_RUN else ""
    why = f'<div class="why">{escape(f.why)}</div>' if f.why else ""
    cells = {
        "claim": escape(f.claim.text), "paper": escape(f.claim.paper), "ours": escape(f.ours) + why, "n": f"{f.n:,}",
        "verdict": f'<span class="verdict {f.verdict.replace(" ", "-")}">{f.verdict}{quickly}</span>',
        "source": escape(f.claim.source),
    }  # fmt: skip
    named = dict(COLUMNS)
    heads = {key: "" if key == "claim" else f' data-head="{named[key]}"' for key in cells}
    return "<tr>" + "".join(f'<td class="{key}"{heads[key]}>{cell}</td>' for key, cell in cells.items()) + "</tr>\n"


def _figure(part: Part) -> str:
    if not part.picture:
        return ""
    source = base64.b64encode(part.picture).decode()
    shows = escape(part.shows, quote=True)
    return f'<figure><img alt="{shows}" src="data:image/png;base64,{source}"><figcaption>{shows}</figcaption></figure>'


def _besides(part: Part) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in part.besides)
    return f"<details><summary>In numbers</summary><ul>{items}</ul></details>" if items else ""


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.0f} min of one core"
