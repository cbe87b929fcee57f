"""What came of a run, for report.html: the sentences on top, the before/after tables, the quadrants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentrl.evaluation.documents import text
from agentrl.evaluation.table import NOTE, Row, section_notes, section_title, table_rows
from agentrl.runs.files import finite


def verdict(summary: Mapping[str, Any], progress: str) -> tuple[str, list[str]]:
    """better, worse or empty, and the sentences that say it."""
    sentences, kind = [], ""
    if not summary:
        return "", [f"Not finished: the run has no summary yet, {progress} steps are recorded."]
    if stopped := summary.get("stopped_by"):
        sentences.append(f"Stopped early by {stopped} after {progress} steps.")
    for split, comparison in _comparisons(summary):
        lines = {row.label: row for row in table_rows(comparison)}
        if not (reward := lines.get("reward")):
            continue
        unclear = "went" if reward.interval == "n/a" else "shows no clear change:"
        what = {"better": "rose", "worse": "fell"}.get(reward.verdict, unclear)
        sentence = f"Reward on {split} {what} from {reward.baseline} to {reward.candidate} ({reward.change}"
        sentence += f", 95 % interval {reward.interval})" if reward.interval != "n/a" else ")"
        if calls := lines.get("tool calls"):
            sentence += f", tool calls from {calls.baseline} to {calls.candidate} ({calls.change})"
        sentences.append(sentence + ".")
        kind = reward.verdict  # that of the test, which comes last, where there is one
    for split, why in (summary.get("not_compared") or {}).items():
        sentences.append(f"Nothing is compared on {split}: {why}.")
    return kind, sentences or ["The summary holds no comparison with the baseline."]


def _comparisons(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Validation and test, each from `comparison` or, where that is missing, from the plain figures."""
    recorded = summary.get("comparison") or {}
    refused = summary.get("not_compared") or {}
    test = summary.get("test") or {}
    pairs = {
        "validation": (summary.get("baseline"), summary.get("best") or summary.get("final")),
        "test": (test.get("baseline"), test.get("best")),
    }
    found = []
    for split, (before, after) in pairs.items():
        if split in refused:  # the plain figures are of different graders too
            continue
        if recorded.get(split):
            found.append((split, recorded[split]))
        elif before and after:
            found.append((split, _plain_comparison(before, after)))
    return found


def _plain_comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    differences = {}
    for metric in before:
        old, new = finite(before[metric]), finite(after.get(metric))
        if old is not None and new is not None:
            relative = (new - old) / old if old else None
            differences[metric] = {"baseline": old, "candidate": new, "change": new - old, "relative": relative}
    return {
        "differences": {metric: each for metric, each in differences.items() if not metric.startswith("tool_calls_")},
        "n_items": after.get("n_items", "?"),
        "samples_per_item": after.get("samples_per_item", "?"),
    }


def before_after(summary: Mapping[str, Any]) -> str:
    """The section of the tables, or empty text where there is nothing to compare."""
    sections = _comparisons(summary)
    if not sections:
        return ""
    tables = "".join(
        f'<div class="wide"><table><caption>{text(section_title(split, comparison))}</caption>'
        "<thead><tr><th></th><th>baseline</th><th>best</th><th>change</th></tr></thead><tbody>"
        + "".join(_table_row(row) for row in table_rows(comparison))
        + "</tbody></table>"
        + "".join(f'<p class="note">{text(note)}</p>' for note in section_notes(comparison))
        + "</div>"
        for split, comparison in sections
    )
    return f'<h2>Before and after</h2><div class="pair">{tables}</div><p class="note">{text(NOTE)}</p>'


def _table_row(row: Row) -> str:
    interval = f" <small>{text(row.interval)}</small>" if row.interval != "n/a" else ""
    return (
        f'<tr{" class=detail" if row.is_detail else ""}><th scope="row">{text(row.label)}</th>'
        f"<td>{text(row.baseline)}</td><td>{text(row.candidate)}</td>"
        f'<td class="{row.verdict}"><b>{text(row.change)}</b>{interval}</td></tr>'
    )


def quadrants(summary: Mapping[str, Any]) -> str:
    """The section that counts items by reward and calls, or empty text."""
    validation = (summary.get("comparison") or {}).get("validation") or {}
    counts = summary.get("quadrants") or validation.get("quadrants")
    if not isinstance(counts, Mapping) or not counts:
        return ""
    marks = {"better_fewer": "best", "worse_more": "worst"}
    lines = ""
    for reward, label in (("better", "higher reward"), ("equal", "equal reward"), ("worse", "lower reward")):
        keys = [f"{reward}_{calls}" for calls in ("fewer", "equal", "more")]
        cells = ""
        for key in keys:
            mark = marks.get(key, "") if counts.get(key) else ""
            cells += f'<td class="{mark}">{text(counts.get(key, "n/a"))}</td>'
        lines += f'<tr><th scope="row">{label}</th>{cells}</tr>'
    return (
        '<h2>Validation items by what became of them</h2><div class="wide"><table class="quadrants">'
        "<thead><tr><th></th><th>fewer calls</th><th>equal calls</th><th>more calls</th></tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )
