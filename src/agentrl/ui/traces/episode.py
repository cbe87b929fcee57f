"""A trace of any age as its page shows it, see `views.py`: messages, turns with their calls and outputs, the grade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentrl.runs.files import finite
from agentrl.ui.traces.loose import (
    count_of,
    json_of,
    list_of,
    mapping_of,
    numbers_by_name,
    numbers_in,
    text_of,
)
from agentrl.ui.traces.said import Said, said_in
from agentrl.ui.traces.texts import arguments, passage
from agentrl.ui.traces.views import CallView, EpisodeView, GradeView, MessageView, ResultView, TokenCost, TurnView

Trace = Mapping[str, Any]
MAX_TURNS, MAX_CALLS = 1000, 500
"""That a page shows, and calls of one turn."""


def episode_view(trace: Trace, needle: str = "") -> EpisodeView:
    """What there is of it; never raises.

    Args:
        needle: text that is marked wherever it stands.
    """
    problems: list[str] = []
    turns = list_of(trace.get("turns"))
    if len(turns) > MAX_TURNS:
        problems.append(f"only the first {MAX_TURNS:,} of {len(turns):,} turns are shown and counted; the JSON has all")
    grade = mapping_of(trace.get("grade"))
    scores = numbers_in(grade.get("turn_scores"))
    answer = text_of(trace.get("answer"))
    views = []
    for index, turn in enumerate(turns[:MAX_TURNS]):
        if not isinstance(turn, dict):
            problems.append(f"turn {index + 1} is no object: {json_of(turn)[:80]}")
        score = finite(scores[index]) if index < len(scores) else None
        said = answer if index == len(turns) - 1 and trace.get("stop_reason") == "final" else None
        views.append(_turn(index + 1, mapping_of(turn), score, said, needle))
    known = {"turns": list | tuple, "grade": dict, "messages": list | tuple}
    problems += [f"found no {key}" for key, kind in known.items() if not isinstance(trace.get(key), kind)]
    calls = sum(len(view.calls) for view in views)
    item = trace.get("item")
    return EpisodeView(
        id=text_of(trace.get("id")),
        task_id=text_of(trace.get("task_id")),
        messages=tuple(_message(each, needle) for each in list_of(trace.get("messages"))),
        item=passage(json_of(item) if item else "", needle),
        turns=tuple(views),
        answer=passage(answer, needle),
        outcome=text_of(trace.get("outcome")),
        stop_reason=text_of(trace.get("stop_reason")),
        failure_class=text_of(trace.get("failure_class")),
        error=passage(text_of(trace.get("error")), needle),
        grade=_grade(grade, needle),
        seed=text_of(trace.get("seed")),
        sample_index=None if (found := finite(trace.get("sample_index"))) is None else int(found),
        seconds=finite(trace.get("seconds")),
        prompt_tokens=len(list_of(trace.get("prompt_ids"))),
        output_tokens=sum(view.tokens + view.unseen_tokens for view in views),
        reasoning_tokens=sum(view.reasoning_tokens for view in views),
        tool_calls=calls,
        malformed_calls=sum(view.malformed_calls for view in views),
        cut_outputs=sum(result.is_cut for view in views for result in view.results),
        retries=sum(view.attempts - 1 + sum(r.attempts - 1 for r in view.results) for view in views),
        cost_usd=finite(trace.get("cost_usd")),
        policy_versions=tuple(dict.fromkeys(str(v.policy_version) for v in views if v.policy_version is not None)),
        problems=tuple(problems),
    )


def _message(found: object, needle: str) -> MessageView:
    message = mapping_of(found)
    content = message.get("content")
    if isinstance(content, list):  # parts, of which those that are text are read as text
        content = "\n".join(
            text_of(part["text"]) if isinstance(part, dict) and "text" in part else json_of(part) for part in content
        )
    parts = [text_of(content)] if content else []
    if message.get("tool_calls"):
        parts.append(json_of(message["tool_calls"]))
    return MessageView(text_of(message.get("role")) or "?", passage("\n".join(parts), needle))


def _turn(number: int, turn: Trace, score: float | None, answer: str | None, needle: str) -> TurnView:
    results = [mapping_of(each) for each in list_of(turn.get("tool_results"))[:MAX_CALLS]]
    by_call: dict[str, list[Trace]] = {}
    for result in results:
        by_call.setdefault(text_of(result.get("call_id")), []).append(result)
    calls = []
    for call in map(mapping_of, list_of(turn.get("tool_calls"))[:MAX_CALLS]):
        own = by_call.get(text_of(call.get("id"))) if call.get("id") else None
        calls.append(_call(call, own.pop(0) if own else None, needle))
    written = text_of(turn.get("text"))
    reasoning = count_of(turn.get("reasoning_tokens"))
    malformed = count_of(turn.get("malformed_calls"))
    unseen = count_of(turn.get("unseen_tokens"))
    if unseen:  # an API told calls and text apart, and its thoughts to nobody
        said = Said("", written, is_taken_apart=True)
    else:
        said = said_in(written, calls=len(calls) + malformed, thinks=reasoning > 0, answer=answer)
    version = finite(turn.get("policy_version"))
    return TurnView(
        number=number,
        thoughts=passage(said.thoughts, needle),
        text=passage(said.text, needle),
        written=passage(written, needle),
        is_taken_apart=said.is_taken_apart,
        calls=tuple(calls),
        other_results=tuple(_result(each, needle) for left in by_call.values() for each in left),
        tokens=len(list_of(turn.get("token_ids"))),
        reasoning_tokens=reasoning,
        unseen_tokens=unseen,
        observation_tokens=len(list_of(turn.get("observation_ids"))),
        malformed_calls=malformed,
        attempts=max(1, count_of(turn.get("attempts"))),
        seconds=finite(turn.get("seconds")),
        policy_version=None if version is None else int(version),
        score=score,
    )


def _call(call: Trace, result: Trace | None, needle: str) -> CallView:
    name, written = text_of(call.get("name")), text_of(call.get("arguments"))
    return CallView(
        name=name or "?",
        written=passage(written, needle),
        arguments=arguments(written, needle),
        key=(name, written),
        result=None if result is None else _result(result, needle),
    )


def _result(result: Trace, needle: str) -> ResultView:
    output = text_of(result.get("output"))
    return ResultView(
        name=text_of(result.get("name")),
        output=passage(output, needle),
        chars=len(output),
        seconds=finite(result.get("seconds")),
        is_error=result.get("is_error") is True,
        is_cut=result.get("is_cut") is True,
        attempts=max(1, count_of(result.get("attempts"))),
    )


def _grade(grade: Trace, needle: str) -> GradeView:
    tokens = mapping_of(grade.get("tokens"))
    return GradeView(
        score=finite(grade.get("score")),
        reason=passage(text_of(grade.get("reason")), needle),
        explanation=passage(text_of(grade.get("explanation")), needle),
        sub_scores=numbers_by_name(grade.get("sub_scores")),
        holdout=numbers_by_name(grade.get("holdout")),
        holdout_missing={str(key): text_of(why) for key, why in mapping_of(grade.get("holdout_missing")).items()},
        errors=tuple(text_of(each) for each in list_of(grade.get("errors"))),
        tokens=tuple(TokenCost(str(model), numbers_by_name(kinds)) for model, kinds in tokens.items()),
        cost_usd=finite(grade.get("cost_usd")),
        seconds=finite(grade.get("seconds")),
        version=text_of(grade.get("version")),
    )
