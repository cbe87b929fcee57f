"""A grade as a graders/run reply, and a request to graders/run as what a grader is shown.

The reply has the fields of the hosted route and, beside them, `agentrl`: what that route does not tell. There the
reason of an ungraded answer stands, whose `reward` is null: an outage is no score of 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentrl.config import GradingConfig
from agentrl.grading.grader import ERROR_FLAGS, known_cost_usd
from agentrl.grading.submission import Submission
from agentrl.types import Grade

DETAILS = {
    "python_grader_server_error_type": "python_grader_server_error",
    "python_grader_runtime_error_details": "python_grader_runtime_error",
    "model_grader_server_error_details": "model_grader_server_error",
}
"""Texts among the flags, by the flag that they are about; null where it is not raised."""


def to_response(grade: Grade, grading: GradingConfig) -> dict[str, Any]:
    """The reply of graders/run."""
    usage = {model: tokens_of(counts) for model, counts in grade.tokens.items()}
    return {
        "reward": grade.score,
        "sub_rewards": dict(grade.sub_scores),
        "model_grader_token_usage_per_model": usage,
        "metadata": {
            "name": grading.name,
            "type": grading.grader.type,
            "execution_time": round(grade.seconds, 6),
            "scores": {**({grading.name: grade.score} if grade.is_graded else {}), **grade.sub_scores},
            "token_usage": sum(counts["total_tokens"] for counts in usage.values()) if usage else None,
            "sampled_model_name": next(iter(usage), None) if len(usage) < 2 else ", ".join(usage),
            "errors": errors_of(grade),
        },
        "agentrl": {
            "is_graded": grade.is_graded,
            "reason": grade.reason,
            "explanation": grade.explanation,
            "version": grade.version,
            "cost_usd": known_cost_usd(grade.tokens, grade.cost_usd),
            "is_passed": None if grade.score is None else grade.score >= grading.pass_threshold,
        },
    }


def errors_of(grade: Grade) -> dict[str, bool | str | None]:
    """Every flag, and the texts that go with some of them. What has no score and no flag is an `other_error`."""
    raised = set(grade.errors)
    if not grade.is_graded and not raised:
        raised.add("other_error")
    found: dict[str, bool | str | None] = {flag: flag in raised for flag in ERROR_FLAGS}
    for key, flag in DETAILS.items():
        found[key] = (grade.reason or grade.explanation) if flag in raised else None
    return found


def tokens_of(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts of one model as replies name them: `prompt` becomes `prompt_tokens`; `total_tokens` is added."""
    named = {f"{kind.removesuffix('_tokens')}_tokens": count for kind, count in counts.items()}
    total = named.get("prompt_tokens", 0) + named.get("completion_tokens", 0)
    return {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "total_tokens": total} | named


def from_response(reply: Mapping[str, Any]) -> Grade:
    """The inverse of `to_response`, as far as a reply goes; one of a hosted route is read as well.

    A reward that stands beside a flag of a broken grader is no score: hosted routes say 0 there.

    Raises:
        KeyError, TypeError, ValueError: it is no such reply.
    """
    metadata, ours = reply["metadata"], reply.get("agentrl") or {}
    raised = tuple(flag for flag in ERROR_FLAGS if metadata["errors"].get(flag))
    details = (metadata["errors"].get(key) for key in DETAILS)
    is_graded = ours.get("is_graded", set(raised) <= {"sample_parse_error"}) and reply["reward"] is not None
    reason = ours.get("reason") or next(filter(None, details), "") or ", ".join(raised)
    usage = reply.get("model_grader_token_usage_per_model") or {}
    return Grade(
        score=float(reply["reward"]) if is_graded else None,
        reason="" if is_graded else reason or "the reply has no reward",
        seconds=float(metadata.get("execution_time") or 0.0),
        sub_scores={name: float(score) for name, score in (reply.get("sub_rewards") or {}).items()},
        explanation=ours.get("explanation", ""),
        errors=raised,
        version=ours.get("version", ""),
        cost_usd=float(ours.get("cost_usd") or 0.0),
        tokens={
            model: {kind.removesuffix("_tokens"): count for kind, count in counts.items() if kind != "total_tokens"}
            for model, counts in usage.items()
        },
    )


def to_submission(request: Mapping[str, Any]) -> Submission:
    """What is to be graded, of the body of graders/run or of a line of a file of samples.

    The answer is `model_sample` (or `answer`), a text; or `sample`, an object as endpoint graders receive it, or a
    text again. `output_json` is filled whenever the text is JSON.

    Raises:
        ValueError: what was found; what is allowed.
    """
    given = [key for key in ("model_sample", "answer", "sample") if key in request]
    if len(given) != 1:
        found = f"both {given[0]} and {given[1]}" if given else f"none (keys: {', '.join(request) or 'none'})"
        raise ValueError(f"found {found}; allowed: one of model_sample, answer and sample")
    item, trace_id = request.get("item"), request.get("trace_id")
    if item is not None and not isinstance(item, dict):
        raise ValueError(f"found item {item!r:.80}; allowed: an object")
    if trace_id is not None and not isinstance(trace_id, str):
        raise ValueError(f"found trace_id {trace_id!r:.80}; allowed: text")
    key, value = given[0], request[given[0]]
    if isinstance(value, str):
        return Submission.of_text(value, item or {}, trace_id or "")
    if key == "sample" and isinstance(value, dict):
        return _of_sample(value, item or {}, trace_id or "")
    allowed = "text, or an object with output_text" if key == "sample" else "text"
    raise ValueError(f"found {key} {value!r:.80}; allowed: {allowed}")


def _of_sample(sample: Mapping[str, Any], item: dict[str, Any], trace_id: str) -> Submission:
    """What a `sample` leaves out is filled in from its text."""
    text = sample.get("output_text")
    if not isinstance(text, str):
        raise ValueError(f"found sample.output_text {text!r:.80}; allowed: text")
    plain = Submission.of_text(text, item, trace_id)
    return Submission({**plain.sample, **sample}, item, trace_id)
