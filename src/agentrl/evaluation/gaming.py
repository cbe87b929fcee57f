"""Whether the score still means what it should, for report.html: the Goodhart plot, its figures, the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.evaluation.documents import text
from agentrl.evaluation.goodhart import goodhart_chart, goodhart_of
from agentrl.runs.files import finite

HEAD = ("step", "sqrt(KL)", "score", "hold-out", "gap", "fall since its best", "graded")


def gaming_section(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], stop: Mapping[str, Any]) -> str:
    """The section, or empty text for a run without a hold-out grader."""
    found = goodhart_of(rows)
    if not found.holdouts:
        return ""
    best = summary.get("best_step")
    lines = "".join(_line(row, is_best=row.get("step") == best) for row in rows if "holdout_coverage_validation" in row)
    head = "".join(f"<th>{cell}</th>" for cell in HEAD)
    names = ", ".join(text(name) for name in (summary.get("holdout") or {}).get("names", ()))
    who = f"Hold-out graders: {names}. " if names else ""
    chosen = "The best policy, marked, is the one that they score highest." if best is not None else ""
    return (
        "<h2>Against gaming</h2>"
        f'<div class="pair"><div>{goodhart_chart(found, best_step=best)}</div>'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></div>'
        f'<p class="note">{who}They have no part in the reward. Gap: score less hold-out score of the same episodes; '
        f"fall: with its paired standard error. {chosen}</p>{_samples(stop)}"
    )


def _line(row: Mapping[str, Any], *, is_best: bool) -> str:
    fall, error = finite(row.get("holdout_fall_validation")), finite(row.get("holdout_fall_validation_stderr"))
    shown = f"{fall:+.3f} \u00b1 {error:.3f}" if fall is not None and error is not None else ""
    coverage = finite(row.get("holdout_coverage_validation"))
    cells = [
        _number(row.get("sqrt_kl")),
        _number(row.get("reward_validation")),
        _number(row.get("holdout_score_validation")),
        _number(row.get("holdout_gap_validation"), sign="+"),
        shown,
        "" if coverage is None else f"{coverage:.0%}",
    ]
    name = "baseline" if row["step"] == 0 else f"{row['step']:g}"
    mark = ' class="best"' if is_best else ""
    return (
        f"<tr><td{mark}>{name}{' (best)' if is_best else ''}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    )


def _number(value: Any, sign: str = "") -> str:
    found = finite(value)
    return "" if found is None else f"{found:{sign}.3f}"


def _samples(stop: Mapping[str, Any]) -> str:
    """The episodes that a stop names: far above their hold-outs."""
    samples = stop.get("samples") or []
    if not samples:
        return ""
    lines = "".join(
        f"<tr><td>{text(each.get('rollout_id'))}</td><td>{text(each.get('task_id'))}</td>"
        f"<td>{_number(each.get('score'))}</td><td>{_number(each.get('holdout'))}</td>"
        f"<td>{text(each.get('answer'))}</td></tr>"
        for each in samples
    )
    head = "<tr><th>episode</th><th>task</th><th>score</th><th>hold-out</th><th>answer</th></tr>"
    caption = f"Episodes that score furthest above their hold-outs ({text(stop.get('rule'))} stopped the run)"
    table = f"<table><caption>{caption}</caption><thead>{head}</thead><tbody>{lines}</tbody></table>"
    return f'<div class="wide">{table}</div>'
