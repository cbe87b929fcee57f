"""Every name that telemetry conventions give us: our field on the left, the attribute on the right.

Attributes of OpenTelemetry's GenAI conventions as of `REVISION`; all of them are at development stability, so they may
be renamed: then this table changes and nothing else does. What the conventions have no name for is `agentrl.*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

REVISION = "open-telemetry/semantic-conventions-genai@002c8a6ea1c8a42b14a4527db83b3cabcded610a"

PROVIDER = "agentrl"
"""No well-known provider serves a policy in training."""


class Operation(StrEnum):
    """Values of `OPERATION_NAME`; with what it is about behind it, a span's name."""

    INVOKE_AGENT = "invoke_agent"
    CHAT = "chat"
    EXECUTE_TOOL = "execute_tool"


OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
AGENT_NAME = "gen_ai.agent.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
CONVERSATION_ID = "gen_ai.conversation.id"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOKEN_TYPE = "gen_ai.token.type"
ERROR_TYPE = "error.type"
CHANNEL = "agentrl.release.channel"
RELEASE_ARM = "agentrl.release.arm"
POLICY_KL_VALUE = "agentrl.policy.kl"
POLICY_KL_ESTIMATOR = "agentrl.policy.kl.estimator"
RELABELLED = "agentrl.relabelled"
"""Of a root span that was sent before: what is known of the session has changed since."""

SESSION: Mapping[str, tuple[str, ...]] = {
    "session_id": (CONVERSATION_ID,),
    "agent": (AGENT_NAME, REQUEST_MODEL),
    "policy_version": ("gen_ai.agent.version", "agentrl.policy.version"),
    "model_version": ("agentrl.model.version",),
    "reward_model_version": ("agentrl.reward_model.version",),
    "tokens_in": ("gen_ai.usage.input_tokens",),
    "tokens_out": ("gen_ai.usage.output_tokens",),
    "tokens_cached": ("gen_ai.usage.cache_read.input_tokens",),
    "tokens_reasoning": ("gen_ai.usage.reasoning.output_tokens",),
    "schema_version": ("agentrl.schema_version",),
    "run_id": ("agentrl.run.id",),
    "group_id": ("agentrl.group.id",),
    "rollout_id": ("agentrl.rollout.id",),
    "attempt": ("agentrl.attempt",),
    "task_id": ("agentrl.task.id",),
    "file": ("agentrl.file",),
    "turns": ("agentrl.turns",),
    "tool_calls_count": ("agentrl.tool_calls.count",),
    "tool_calls_approved": ("agentrl.tool_calls.approved",),
    "tool_calls_executed": ("agentrl.tool_calls.executed",),
    "tool_error_count": ("agentrl.tool_calls.errors",),
    "tool_infra_error_count": ("agentrl.tool_calls.infra_errors",),
    "tools": ("agentrl.tools",),
    "retries": ("agentrl.retries",),
    "outcome": ("agentrl.outcome",),
    "stop_reason": ("agentrl.stop_reason",),
    "failure_class": (ERROR_TYPE,),
    "success": ("agentrl.success",),
    "cost_usd": ("agentrl.cost.usd",),
    "price_table": ("agentrl.cost.price_table",),
    "release_channel": (CHANNEL,),
    "arm": (RELEASE_ARM,),
    "bundle_id": ("agentrl.bundle.id",),
    "human_override": ("agentrl.human_override",),
    "human_approval": ("agentrl.approval.decision",),
    "approval_timeouts": ("agentrl.approval.timeouts",),
    "kpi": ("agentrl.kpi",),
    "policy_kl": (POLICY_KL_VALUE,),
    "policy_kl_estimator": (POLICY_KL_ESTIMATOR,),
    "policy_kl_tokens": ("agentrl.policy.kl.tokens",),
    "context_digest": ("agentrl.context.digest",),
    "actions_digest": ("agentrl.actions.digest",),
    "output_digest": ("agentrl.output.digest",),
}
"""Field of `SessionRecord` -> attributes of the root span, `invoke_agent`."""

TURN: Mapping[str, tuple[str, ...]] = {
    "conversation": (CONVERSATION_ID,),
    "request_model": (REQUEST_MODEL,),
    "response_model": (RESPONSE_MODEL,),
    "tokens_in": ("gen_ai.usage.input_tokens",),
    "tokens_out": ("gen_ai.usage.output_tokens",),
    "tokens_reasoning": ("gen_ai.usage.reasoning.output_tokens",),
    "finish_reasons": ("gen_ai.response.finish_reasons",),
    "policy_version": ("agentrl.policy.version",),
    "index": ("agentrl.turn",),
    "attempts": ("agentrl.attempts",),
    "output_digest": ("agentrl.output.digest",),
    "error": (ERROR_TYPE,),
}
"""Of a `chat` span."""

MESSAGES: Mapping[str, tuple[str, ...]] = {
    "input_messages": ("gen_ai.input.messages",),
    "output_messages": ("gen_ai.output.messages",),
}
"""Of the root span and of `chat` spans: content, which is sent only where it was asked for."""

CALL: Mapping[str, tuple[str, ...]] = {
    "conversation": (CONVERSATION_ID,),
    "name": (TOOL_NAME,),
    "type": (TOOL_TYPE,),
    "id": ("gen_ai.tool.call.id",),
    "attempts": ("agentrl.attempts",),
    "is_cut": ("agentrl.tool.result_cut",),
    "error": (ERROR_TYPE,),
    "arguments_digest": ("agentrl.tool.arguments.digest",),
    "result_digest": ("agentrl.tool.result.digest",),
    "arguments": ("gen_ai.tool.call.arguments",),
    "result": ("gen_ai.tool.call.result",),
}
"""Of an `execute_tool` span. The last two are content."""

EVALUATION_EVENT = "gen_ai.evaluation.result"
EVALUATION: Mapping[str, tuple[str, ...]] = {
    "name": ("gen_ai.evaluation.name",),
    "score": ("gen_ai.evaluation.score.value",),
    "label": ("gen_ai.evaluation.score.label",),
    "error": (ERROR_TYPE,),
    "version": ("agentrl.grader.version",),
    "reward_model_version": ("agentrl.reward_model.version",),
    "is_holdout": ("agentrl.grader.is_holdout",),
    "explanation": ("gen_ai.evaluation.explanation",),
}
"""Of the event of one grader; a grader that failed gives no score. The explanation is content."""

ARM_EVENT = "feature_flag.evaluation"
ARM: Mapping[str, tuple[str, ...]] = {
    "flag": ("feature_flag.key",),
    "arm": ("feature_flag.result.variant",),
    "session_id": ("feature_flag.context.id",),
    "version": ("feature_flag.version",),
}
"""Of the event that puts a session into one arm of a release."""

RESOURCE: Mapping[str, tuple[str, ...]] = {
    "service": ("service.name",),
    "service_version": ("service.version",),
    "environment": ("deployment.environment.name",),
    "bundle_id": ("agentrl.bundle.id",),
    "run_hash": ("agentrl.run.hash",),
    "revision": ("agentrl.semconv.revision",),
}
"""Of everything that one process sends."""


class Histogram(NamedTuple):
    """A metric, with the unit and the bucket boundaries that the conventions advise."""

    name: str
    unit: str
    description: str
    boundaries: tuple[float, ...]


def _doubling(first: float, count: int) -> tuple[float, ...]:
    return tuple(round(first * 2**power, 6) for power in range(count))


AGENT_DURATION = Histogram("gen_ai.invoke_agent.duration", "s", "Duration of a session.", _doubling(0.1, 13))
TOOL_DURATION = Histogram("gen_ai.execute_tool.duration", "s", "Duration of a tool call.", _doubling(0.01, 14))
CHAT_DURATION = Histogram("gen_ai.client.operation.duration", "s", "Duration of a generation.", _doubling(0.01, 14))
TOKEN_USAGE = Histogram(
    "gen_ai.client.token.usage", "{token}", "Tokens that a generation read or wrote.", tuple(4.0**n for n in range(14))
)
POLICY_KL = Histogram(
    POLICY_KL_VALUE, "{nat}/{token}", "Of a session, from the frozen reference.", _doubling(0.001, 14)
)
METRICS = (AGENT_DURATION, TOOL_DURATION, CHAT_DURATION, TOKEN_USAGE, POLICY_KL)


def named(table: Mapping[str, tuple[str, ...]], values: Mapping[str, object]) -> dict[str, object]:
    """The values by their attributes' names; what is None has none, what the table lacks is not sent."""
    return {name: value for key, value in values.items() if value is not None for name in table.get(key, ())}
