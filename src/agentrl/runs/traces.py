"""A rollout as one JSON object: all that is needed to read it, to check it and to train on it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentrl.types import FailureClass, Grade, Rollout, StopReason, Task, ToolCall, ToolResult, Turn


def to_trace(rollout: Rollout) -> dict[str, Any]:
    """`prompt_ids + token_ids[0] + observation_ids[0] + token_ids[1] + ...` is the sequence the policy saw.

    Of a model behind an API no ids are known: they are empty, and each turn has the number of its `unseen_tokens`.
    """
    return {
        "id": rollout.id,
        "task_id": rollout.task.id,
        "messages": list(rollout.task.messages),
        "item": rollout.task.item,
        "sample_index": rollout.sample_index,
        "seed": rollout.seed,
        "outcome": rollout.outcome.value,
        "stop_reason": rollout.stop_reason.value,
        "failure_class": rollout.failure_class and rollout.failure_class.value,
        "error": rollout.error,
        "answer": rollout.answer,
        "grade": {
            "score": rollout.grade.score,
            "reason": rollout.grade.reason,
            "seconds": round(rollout.grade.seconds, 6),
            "sub_scores": rollout.grade.sub_scores,
            "turn_scores": rollout.grade.turn_scores,
            "explanation": rollout.grade.explanation,
            "errors": rollout.grade.errors,
            "version": rollout.grade.version,
            "cost_usd": round(rollout.grade.cost_usd, 9),
            "tokens": rollout.grade.tokens,
            "holdout": rollout.grade.holdout,
            "holdout_missing": rollout.grade.holdout_missing,
        },
        "seconds": round(rollout.seconds, 6),
        "output_tokens": rollout.output_tokens,
        "reasoning_tokens": rollout.reasoning_tokens,
        "n_tool_calls": len(rollout.tool_calls),
        "malformed_calls": rollout.malformed_calls,
        "cut_outputs": rollout.cut_outputs,
        "retries": rollout.retries,
        "cost_usd": round(rollout.cost_usd, 9),
        "policy_versions": rollout.policy_versions,
        "prompt_ids": rollout.prompt_ids,
        "turns": [_turn(turn) for turn in rollout.turns],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "text": turn.text,
        "token_ids": turn.token_ids,
        "engine_logprobs": [round(logprob, 6) for logprob in turn.engine_logprobs],
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in turn.tool_calls],
        "tool_results": [
            {
                "call_id": result.call_id,
                "name": result.name,
                "output": result.output,
                "seconds": round(result.seconds, 6),
                "is_error": result.is_error,
                "attempts": result.attempts,
                "is_cut": result.is_cut,
                **({"denied": result.denied} if result.denied else {}),
            }
            for result in turn.tool_results
        ],
        "observation_ids": turn.observation_ids,
        "policy_version": turn.policy_version,
        "attempts": turn.attempts,
        "seconds": round(turn.seconds, 6),
        "reasoning_tokens": turn.reasoning_tokens,
        "malformed_calls": turn.malformed_calls,
        **({"unseen_tokens": turn.unseen_tokens} if turn.unseen_tokens else {}),
    }


def from_trace(trace: Mapping[str, Any]) -> Rollout:
    """The inverse of `to_trace`; log-probabilities and times are those that were written, rounded.

    Raises:
        KeyError, ValueError: it is no such record.
    """
    grade, broken_by = trace["grade"], trace["failure_class"]
    return Rollout(
        id=trace["id"],
        task=Task(trace["task_id"], tuple(trace["messages"]), trace["item"]),
        sample_index=trace["sample_index"],
        seed=trace["seed"],
        prompt_ids=tuple(trace["prompt_ids"]),
        turns=tuple(_turn_from(turn) for turn in trace["turns"]),
        stop_reason=StopReason(trace["stop_reason"]),
        answer=trace["answer"],
        seconds=trace["seconds"],
        grade=Grade(**{**grade, **{key: tuple(grade.get(key, ())) for key in ("turn_scores", "errors")}}),
        error=trace["error"],
        broken_by=FailureClass(broken_by) if broken_by else None,
        cost_usd=trace["cost_usd"],
    )


def _turn_from(turn: Mapping[str, Any]) -> Turn:
    return Turn(
        token_ids=tuple(turn["token_ids"]),
        engine_logprobs=tuple(turn["engine_logprobs"]),
        text=turn["text"],
        tool_calls=tuple(ToolCall(**call) for call in turn["tool_calls"]),
        tool_results=tuple(ToolResult(**result) for result in turn["tool_results"]),
        observation_ids=tuple(turn["observation_ids"]),
        policy_version=turn["policy_version"],
        seconds=turn["seconds"],
        reasoning_tokens=turn["reasoning_tokens"],
        malformed_calls=turn["malformed_calls"],
        attempts=turn["attempts"],
        unseen_tokens=turn.get("unseen_tokens", 0),
    )
