"""A probe's report as one static page that works offline, and as a fragment for notebooks."""

from __future__ import annotations

from collections.abc import Iterator

from agentrl.evaluation.documents import framed, table, text, whole_page
from agentrl.evaluation.probe.lines import figures, large, rows
from agentrl.evaluation.probe.picture import by_mean, picture
from agentrl.evaluation.probe.report import ProbeReport

KINDS = {"trainable": "better", "not": "worse"}
SAID = {
    "trainable": "Trainable: answers differ, the best of them are better, and the grader means it.",
    "weak": "Weak: there is something to learn, but read the reasons first.",
    "not": "Not trainable as it is.",
    "unmeasured": "Not measured: what was seen cannot decide it.",
}
MORE_CSS = """
.reasons { margin: 12px 0 0; padding: 0; list-style: none; }
.reasons li { margin: 0 0 10px; overflow-wrap: anywhere; }
.reasons b { margin-right: 8px; } .reasons i { display: block; font-style: normal; color: var(--quiet); }
td.words { text-align: left; white-space: normal; overflow-wrap: anywhere; } .wide + .wide { margin-top: 12px; }
details > summary { cursor: pointer; margin: 36px 0 12px; font-size: 18px; font-weight: 700; }
.chart { max-width: 680px; }
"""
MAX_ROWS = 500


def page(report: ProbeReport) -> str:
    """The whole report."""
    body = f"{_header(report)}{_pictures(report)}{_figures(report)}{_plan(report)}{_items(report)}"
    return whole_page(f"{report.name}: agentrl probe", body, MORE_CSS)


def fragment(report: ProbeReport) -> str:
    """Verdict, pictures and figures for a notebook's cell."""
    body = f"{_header(report)}{_pictures(report)}{_figures(report)}"
    return framed(whole_page(f"{report.name}: agentrl probe", body, MORE_CSS), title="agentrl probe", height=900)


def _header(report: ProbeReport) -> str:
    facts = [
        f"policy {report.policy}",
        f"{len(report.items)} items x {report.samples}",
        f"{report.conduct.rollouts} rollouts in {report.seconds:.0f} s",
    ]
    spans = "".join(f"<span>{text(fact)}</span>" for fact in facts)
    return (
        f'<header><h1>{text(report.name)}: can it be learned?</h1><p class="facts">{spans}</p>'
        f'<div class="verdict {KINDS.get(report.verdict, "")}"><p>{text(SAID[report.verdict])}</p></div>'
        f'<ul class="reasons">{"".join(_reasons(report))}</ul></header>'
    )


def _reasons(report: ProbeReport) -> Iterator[str]:
    for reason in report.reasons:
        said = f"{text(reason.text)}.<i>{text(reason.advice)}</i>"
        yield f"<li><b>{text(reason.weight)}: {text(reason.code)}</b>{said}</li>"


def _pictures(report: ProbeReport) -> str:
    panels = [picture(split.split, report.items_of(split.split), report.samples) for split in report.splits]
    return (
        f'<h2>Variance</h2><div class="pair">{"".join(panels)}</div><p class="note">Each item once, the lowest mean '
        f"score first. Where the best of {report.samples} lies above the mean, there is something to learn; scores are "
        "shares of the grader's range.</p>"
    )


def _figures(report: ProbeReport) -> str:
    heads = ("", *(split.split for split in report.splits))
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>{"".join(map(_cell, cells))}</tr>' for name, cells in rows(report)
    )
    more = "".join(
        f'<tr><th scope="row">{text(name)}</th><td class="words">{text(said)}</td></tr>'
        for name, said in figures(report)
    )
    return (
        f"<h2>Figures</h2>{table('figures by split', heads, body)}{table('figures of the whole', (), more)}"
        '<p class="note">In brackets: 95 % intervals over items.</p>'
    )


def _cell(said: str) -> str:
    """The interval apart from the figure: below it where there is no room beside it."""
    value, bracket, interval = said.partition(" (")
    return f"<td>{text(value)}{f' <small>({text(interval)}</small>' if bracket else ''}</td>"


def _plan(report: ProbeReport) -> str:
    if report.plan is None:
        return ""
    lines = []
    for found in report.plan.figures:
        low, high = found.interval
        around = "" if low == high else f"{large(low)} to {large(high)}"
        name = f"{found.figure.name.replace('_', ' ')}{f', {found.figure.unit}' if found.figure.unit else ''}"
        lines.append(
            f'<tr><th scope="row">{text(name)}</th><td>{large(found.figure.value)}</td><td>{around}</td>'
            f'<td class="words">{text(found.figure.note)}</td></tr>'
        )
    given = "".join(
        f'<tr><th scope="row">{text(name.replace("_", " "))}</th><td>{large(each.value)}</td>'
        f'<td class="words">{text(each.source)}</td></tr>'
        for name, each in vars(report.plan.assumptions).items()
    )
    planned = table("the run that is planned", ("", "expected", "95 %", ""), "".join(lines))
    return (
        f"<h2>The run that is planned</h2>{planned}"
        f"<details><summary>What this rests on</summary>{table('what this rests on', (), given)}</details>"
    )


def _items(report: ProbeReport) -> str:
    found = [(split.split, item) for split in report.splits for item in by_mean(report.items_of(split.split))]
    lines = "".join(
        f'<tr><th scope="row">{text(item.task_id)}</th><td>{text(split)}</td><td>{item.mean:.3f}</td>'
        f"<td>{item.best:.3f}</td><td>{item.spread:.3f}</td>"
        f'<td class="words">{text(", ".join(f"{score:.3g}" for score in item.scores))}</td></tr>'
        for split, item in found[:MAX_ROWS]
    )
    cut = f'<p class="note">{len(found) - MAX_ROWS} more in the JSON file.</p>' if len(found) > MAX_ROWS else ""
    heads = ("item", "split", "mean", "best", "deviation", "scores")
    return f"<details><summary>Items</summary>{table('items', heads, lines)}{cut}</details>"
