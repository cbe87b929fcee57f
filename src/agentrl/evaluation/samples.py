"""Three rollouts of the last evaluation to read turn by turn: what the figures are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.errors import CheckpointError
from agentrl.evaluation.documents import text
from agentrl.runs import read_rollouts
from agentrl.runs.files import ROLLOUTS

MAX_SHOWN_CHARS = 6000
"""Of one message or tool output; the trace on disk has the rest."""

Trace = Mapping[str, Any]


def last_evaluation(run: Path) -> str | None:
    """Name of the rollouts written last among validation's, else test's, else any; test rollouts are not for tuning."""
    files = sorted((run / ROLLOUTS).glob("*.jsonl.gz"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    names = [path.name.removesuffix(".jsonl.gz") for path in files]
    for word in ("validation", "test", ""):
        if found := [name for name in names if word in name]:
            return found[-1]
    return None


def samples_section(run: Path) -> str:
    """The HTML of the section, or empty text where no rollout was recorded."""
    name = last_evaluation(run)
    if name is None:
        return ""
    try:
        traces = read_rollouts(run, name)
    except CheckpointError as error:
        return f'<h2>Sample rollouts</h2><p class="note">{text(error)}</p>'
    chosen = choose_samples(traces)
    if not chosen:
        nothing = f"None of the {len(traces)} rollouts of {name} is graded."
        return f'<h2>Sample rollouts</h2><p class="note">{text(nothing)}</p>'
    articles = "".join(
        episode(f"{label} reward: {trace['grade']['score']:.3g}", trace, with_task=True) for label, trace in chosen
    )
    return (
        f'<h2>Sample rollouts</h2><p class="note">From {text(name)} ({len(traces)} rollouts): the lowest reward (of'
        " several the one with most calls), the median, and the highest (with fewest calls).</p>"
        f'<div class="samples">{articles}</div>'
    )


def choose_samples(traces: Sequence[Trace]) -> list[tuple[str, Trace]]:
    """Lowest, median and highest score among graded rollouts, as many as there are; infra_failed ones are left out."""
    valid = [trace for trace in traces if trace.get("outcome") != "infra_failed"]
    graded = [trace for trace in valid if (trace.get("grade") or {}).get("score") is not None]
    graded.sort(key=lambda trace: (trace["grade"]["score"], -trace.get("n_tool_calls", 0), str(trace.get("id"))))
    places = {"Lowest": 0, "Median": len(graded) // 2, "Highest": len(graded) - 1}
    if len(graded) < 3:
        places = dict(list({"Lowest": 0, "Highest": 1}.items())[: len(graded)])
    return [(label, graded[place]) for label, place in places.items()] if graded else []


def episode(title: str, trace: Trace, *, with_task: bool = False) -> str:
    """One episode as an article: its facts, then every message, turn and tool output; what is long is folded.

    Args:
        with_task: name the task among the facts.
    """
    facts = [
        *([f"task {trace.get('task_id', '?')}"] if with_task else []),
        f"{trace.get('n_tool_calls', '?')} tool calls",
        f"{trace.get('output_tokens', '?')} tokens",
        f"{trace.get('seconds', 0.0):.2f} s",
        f"ended: {trace.get('stop_reason', '?')}",
        trace.get("id", ""),
    ]
    parts = [
        f"<h3>{text(title)}</h3>",
        '<p class="facts">' + "".join(f"<span>{text(fact)}</span>" for fact in facts) + "</p>",
    ]
    parts += [_message(message) for message in trace.get("messages", ())]
    for number, turn in enumerate(trace.get("turns", ()), start=1):
        parts.append(_said("policy", f"turn {number} ({len(turn.get('token_ids', ()))} tokens)", turn.get("text", "")))
        calls = {call["id"]: call for call in turn.get("tool_calls", ())}
        parts += [_tool_result(result, calls.get(result.get("call_id"))) for result in turn.get("tool_results", ())]
    if trace.get("item"):
        parts.append(_folded("item", json.dumps(trace["item"], indent=1, ensure_ascii=False)))
    return f'<article class="sample">{"".join(parts)}</article>'


def _message(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    shown = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False)
    role = str(message.get("role", "?"))
    return _folded(role, shown) if role == "system" else _said("task", role, shown)


def _tool_result(result: Mapping[str, Any], call: Mapping[str, Any] | None) -> str:
    title = f"{result.get('name', '?')} answered in {result.get('seconds', 0.0):.2f} s"
    if call is None:
        title += " (to a call that is not recorded)"
    if result.get("is_error"):
        return _folded(f"{title}, an error", result.get("output", ""), "failed", is_open=True)
    return _folded(title, result.get("output", ""), "tool", is_open=True)


def _said(kind: str, title: str, content: str) -> str:
    return f'<div class="said {kind}"><b>{text(title)}</b><pre>{_shortened(content)}</pre></div>'


def _folded(title: str, content: str, kind: str = "", *, is_open: bool = False) -> str:
    attribute = " open" if is_open else ""
    return (
        f'<details class="said {kind}"{attribute}><summary>{text(title)}</summary>'
        f"<pre>{_shortened(content)}</pre></details>"
    )


def _shortened(content: str) -> str:
    if len(content) <= MAX_SHOWN_CHARS:
        return text(content)
    return f"{text(content[:MAX_SHOWN_CHARS])}\n[{len(content) - MAX_SHOWN_CHARS:,} more characters in the trace]"
