"""The record of a user's session, from its row: the same record that training and evaluations write."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agentrl.config import GatewayConfig
from agentrl.gateway.policy_kl import ESTIMATOR
from agentrl.gateway.sessions import ABORTED, FAILED
from agentrl.monitoring.durations import milliseconds
from agentrl.monitoring.session_record import SessionRecord, digest
from agentrl.release.approval_counts import ApprovalCounts
from agentrl.types import FailureClass, Outcome

OUTCOMES = {ABORTED: "aborted", FAILED: Outcome.INFRA_FAILED.value}
"""Of a session that did not end by itself; `aborted`: its user left in the middle of an answer."""
NOTHING = digest("")


def record_of(row: Mapping[str, Any], config: GatewayConfig, asked: ApprovalCounts | None = None) -> SessionRecord:
    """The record.

    Args:
        asked: what became of its calls under the tool policy; None where that was not asked.

    The gateway sees the model's calls of tools and not their execution: how long tools took is not known here, and how
    many calls failed is what feedback says.
    """
    upstream = config.upstreams.get(row["upstream"])
    draft = row["record"] or {}
    closed_at = row["closed_at"] if row["closed_at"] is not None else row["last_at"]
    tool_calls, errors, infra_errors = row["tool_calls"] or 0, row["tool_errors"] or 0, row["tool_infra_errors"] or 0
    return SessionRecord(
        session_id=row["session_id"],
        run_id=row["release_id"] or row["workflow"],
        group_id=row["cluster"] or row["session_id"],
        rollout_id=row["session_id"],
        attempt=0,
        task_id=row["intent"] or "session",
        file="",
        agent=row["workflow"],
        model_version=upstream.model if upstream else None,
        policy_version=row["bundle"] or row["upstream"],
        reward_model_version=None,
        bundle_id=row["bundle"] or None,
        release_channel=row["channel"],
        arm=row["arm"],
        ended_at=_time(closed_at),
        duration_ms=milliseconds(row["seconds"] or 0.0),
        generation_ms=milliseconds(row["seconds"] or 0.0),
        tools_ms=0.0,
        grading_ms=0.0,
        turns=row["requests"],
        tokens_in=row["tokens_in"],
        tokens_out=row["tokens_out"] or 0,
        tokens_cached=None,
        tokens_reasoning=0,
        tool_calls_count=row["proposed_calls"],
        tool_calls_approved=asked.approved if asked else None,
        tool_calls_executed=tool_calls,
        tool_error_count=errors,
        tool_infra_error_count=infra_errors,
        tools=tuple(draft.get("tools") or ()),
        retries=row["fallbacks"],
        outcome=OUTCOMES.get(row["status"], Outcome.COMPLETED.value),
        stop_reason=row["status"],
        failure_class=FailureClass.ENGINE.value if row["status"] == FAILED else None,
        success=row["success"],
        score=row["quality"],
        grader="feedback",
        grader_version=None,
        sub_scores=dict(row["extra"] or {}),
        holdout_scores={},
        holdout_missing=(),
        cost_usd=row["cost_usd"],
        cost_rollout_usd=row["model_cost_usd"] if not row["unpriced"] else None,
        cost_grader_usd=0.0,
        price_table=row["price_table"],
        context_digest=draft.get("context_digest") or NOTHING,
        actions_digest=digest(draft.get("tools") or []),
        output_digest=draft.get("output_digest") or NOTHING,
        policy_kl=row["policy_kl"],
        policy_kl_estimator=None if row["policy_kl"] is None else ESTIMATOR,
        policy_kl_tokens=row["policy_kl_tokens"],
        human_override=row["human_override"],
        human_override_kind=row["human_override_kind"],
        human_override_by=row["human_override_by"],
        human_override_at=_time(row["human_override_at"]),
        human_approval=asked.human_approval if asked else None,
        approval_timeouts=asked.timeouts if asked else None,
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
