"""One flat record a session: what training, evaluations and, once released, users' sessions have in common.

A pure function of the rollout and of what its run used. Spans are made from it, and it is what is kept: names of
telemetry conventions change, this record has a version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from agentrl.chat import BUDGET_SPENT
from agentrl.monitoring.durations import milliseconds
from agentrl.types import FailureClass, Rollout, ToolCall, ToolResult, Turn

SCHEMA_VERSION = 1
UNKNOWN_TOOL = "unknown"
"""In the place of a name that the model made up."""
MAX_ID_CHARS = 128


class ReleaseChannel(StrEnum):
    """Where a session took place; sessions of training have none."""

    OFFLINE_EVAL = "offline_eval"
    SHADOW = "shadow"
    CANARY = "canary"
    GENERAL = "general"


@dataclass(frozen=True)
class SessionContext:
    """What all sessions of a file of rollouts, or of a deployment, have in common. None is what nobody tells."""

    run_id: str
    agent: str
    """What is trained or served, such as `finqa-agent`."""
    file: str = ""
    """Of rollouts, such as `validation-000005`."""
    policy_version: str | None = None
    """None: the run and the step whose weights sampled, such as `finqa@5`."""
    model_version: str | None = None
    """Digest of the weights that the policy was trained from."""
    reward_model_version: str | None = None
    grader: str = "grader"
    pass_threshold: float | None = None
    tools: tuple[str, ...] | None = None
    """Names of the tools that there were; calls of any other are told as unknown."""
    price_table: str | None = None
    """Digest of the prices; None where there are none, and then a session's cost is not known."""
    release_channel: ReleaseChannel | None = None
    arm: str | None = None
    """baseline or candidate."""
    bundle_id: str | None = None
    has_tool_policy: bool = False
    """Rules or people were asked before each call."""


@dataclass(frozen=True)
class SessionRecord:
    """One session. A field that is None was not measured, which is neither 0 nor false."""

    session_id: str
    run_id: str
    group_id: str
    """Of the sessions with the same task in the same file."""
    rollout_id: str
    attempt: int
    """Which of its group's samples this is, from 0."""
    task_id: str
    file: str
    agent: str
    model_version: str | None
    policy_version: str
    reward_model_version: str | None
    bundle_id: str | None
    release_channel: str | None
    arm: str | None
    ended_at: str | None
    """ISO 8601, UTC."""
    duration_ms: float
    """From the first token to the last, grading excluded."""
    generation_ms: float
    tools_ms: float
    """Calls of one turn run side by side: the slowest of each turn."""
    grading_ms: float
    turns: int
    tokens_in: int | None
    """Read by the model, summed over its calls; what a cache held is included."""
    tokens_out: int
    tokens_cached: int | None
    tokens_reasoning: int
    """Of `tokens_out`."""
    tool_calls_count: int
    """Proposed by the model; those that could not be read are included."""
    tool_calls_approved: int | None
    """None where no rule or person is asked."""
    tool_calls_executed: int
    tool_error_count: int
    """Executed, and answered with an error that is the model's to learn from."""
    tool_infra_error_count: int
    """Calls that ended the session because the tool or its sandbox broke."""
    tools: tuple[str, ...]
    """The sequence of actions: tools called, in order."""
    retries: int
    outcome: str
    stop_reason: str
    failure_class: str | None
    success: bool | None
    """None where the session has no grade, or nobody said what a success is."""
    score: float | None
    grader: str
    grader_version: str | None
    sub_scores: dict[str, float]
    holdout_scores: dict[str, float]
    holdout_missing: tuple[str, ...]
    """Names of the hold-out graders that gave no score."""
    cost_usd: float | None
    """Model, tools and grader; None where there is no price for one of them."""
    cost_rollout_usd: float | None
    cost_grader_usd: float
    price_table: str | None
    context_digest: str
    """Of the conversation that the session started from."""
    actions_digest: str
    """Of all tool calls with their arguments."""
    output_digest: str
    """Of the answer."""
    policy_kl: float | None = None
    policy_kl_estimator: str | None = None
    policy_kl_tokens: int | None = None
    kpi: float | None = None
    human_override: bool | None = None
    """None: the window in which people may override it is still open, or there is none."""
    human_override_kind: str | None = None
    human_override_by: str | None = None
    human_override_at: str | None = None
    human_approval: bool | None = None
    """A person approved every call that needed it; False: refused one. None: nobody was asked, or nobody answered."""
    approval_timeouts: int | None = None
    """Calls that nobody approved in time; they were not made, and are no fault of the policy. None as `approved`."""
    schema_version: int = field(default=SCHEMA_VERSION)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def session_record(
    rollout: Rollout, context: SessionContext, *, ended_at: float | None = None, session_id: str = ""
) -> SessionRecord:
    """The record of one session.

    Args:
        ended_at: seconds since 1970; None is not known.
        session_id: as a client gave it, of any length and in any script; empty where nobody did: the rollout's id.
    """
    grade = rollout.grade
    executed = [each for turn in rollout.turns for each in executed_calls(turn, context.tools)]
    denials = [result.denied for turn in rollout.turns for result in turn.tool_results if result.denied]
    was_asked = context.has_tool_policy or bool(denials)
    cost = rollout.cost_usd if context.price_table is not None else None
    is_broken_by_tool = rollout.failure_class in (FailureClass.TOOL, FailureClass.SANDBOX)
    task = safe_id(rollout.task.id) or "task"
    return SessionRecord(
        session_id=safe_id(session_id) or rollout.id,
        run_id=context.run_id,
        group_id="/".join(part for part in (context.run_id, context.file, task) if part),
        rollout_id=rollout.id,
        attempt=rollout.sample_index,
        task_id=task,
        file=context.file,
        agent=context.agent,
        model_version=context.model_version,
        policy_version=context.policy_version or _version(context.run_id, rollout.policy_versions),
        reward_model_version=context.reward_model_version,
        bundle_id=context.bundle_id,
        release_channel=context.release_channel and context.release_channel.value,
        arm=context.arm,
        ended_at=None if ended_at is None else datetime.fromtimestamp(ended_at, UTC).isoformat(timespec="milliseconds"),
        duration_ms=milliseconds(rollout.seconds),
        generation_ms=milliseconds(sum(turn.seconds for turn in rollout.turns)),
        tools_ms=milliseconds(sum(tool_seconds(turn) for turn in rollout.turns)),
        grading_ms=milliseconds(grade.seconds),
        turns=len(rollout.turns),
        tokens_in=sum(tokens_read(rollout)) if rollout.prompt_ids else None,
        tokens_out=rollout.output_tokens,
        tokens_cached=None,
        tokens_reasoning=rollout.reasoning_tokens,
        tool_calls_count=len(rollout.tool_calls) + rollout.malformed_calls,
        tool_calls_approved=len(executed) if was_asked else None,
        tool_calls_executed=len(executed),
        tool_error_count=sum(result.is_error for _, result in executed),
        tool_infra_error_count=int(is_broken_by_tool),
        tools=tuple(tool_name(call.name, context.tools) for call in rollout.tool_calls),
        retries=rollout.retries,
        outcome=rollout.outcome.value,
        stop_reason=rollout.stop_reason.value,
        failure_class=rollout.failure_class and rollout.failure_class.value,
        success=_success(rollout, context.pass_threshold),
        score=grade.score if rollout.is_valid else None,
        grader=context.grader,
        grader_version=grade.version or None,
        sub_scores=dict(grade.sub_scores),
        holdout_scores=dict(grade.holdout),
        holdout_missing=tuple(sorted(grade.holdout_missing)),
        cost_usd=None if cost is None else cost + grade.cost_usd,
        cost_rollout_usd=cost,
        cost_grader_usd=grade.cost_usd,
        price_table=context.price_table,
        context_digest=digest(rollout.task.messages),
        actions_digest=digest([[call.name, call.arguments] for call in rollout.tool_calls]),
        output_digest=digest(rollout.answer),
        human_approval=False if "refused" in denials else None,
        approval_timeouts=denials.count("approval_timeout") if was_asked else None,
    )


def executed_calls(turn: Turn, known: Sequence[str] | None = None) -> list[tuple[ToolCall, ToolResult]]:
    """The calls of a turn that a tool answered, in order: none over the budget, none that was denied, none of a tool
    that does not exist."""
    answered = (result for result in turn.tool_results if result.output != BUDGET_SPENT and not result.denied)
    results = {result.call_id: result for result in answered}
    sent = [call for call in turn.tool_calls if call.id in results and (known is None or call.name in known)]
    return [(call, results[call.id]) for call in sent]


def tool_seconds(turn: Turn) -> float:
    """How long a turn waited for its tools."""
    return max((result.seconds for result in turn.tool_results), default=0.0)


def tokens_read(rollout: Rollout) -> list[int]:
    """[turns] How many tokens stood before each turn."""
    counts, before = [], len(rollout.prompt_ids)
    for turn in rollout.turns:
        counts.append(before)
        before += turn.output_tokens + len(turn.observation_ids)
    return counts


def tool_name(name: str, known: Sequence[str] | None) -> str:
    """The name where there is such a tool: models call what does not exist, by names of any length."""
    return (safe_id(name) or UNKNOWN_TOOL) if known is None or name in known else UNKNOWN_TOOL


def safe_id(text: str) -> str:
    """An id as it may be kept and shown; of a long one, or one in other letters, the digest."""
    return text if len(text) <= MAX_ID_CHARS and text.isascii() and text.isprintable() else digest(text)


def digest(value: Any) -> str:
    """`sha256:...` of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _success(rollout: Rollout, threshold: float | None) -> bool | None:
    if not rollout.is_valid or rollout.grade.score is None or threshold is None:
        return None
    return rollout.grade.score >= threshold


def _version(run_id: str, steps: Iterable[int]) -> str:
    """`finqa@5`, or `finqa@5+6` where the weights changed between two turns."""
    return f"{run_id}@{'+'.join(map(str, steps)) or 'unknown'}"
