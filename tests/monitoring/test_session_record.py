from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.monitoring.durations import milliseconds, nanoseconds, seconds_between
from agentrl.monitoring.session_record import (
    MAX_ID_CHARS,
    SCHEMA_VERSION,
    SessionRecord,
    safe_id,
    session_record,
    tokens_read,
)
from agentrl.runs.files import to_json
from agentrl.runs.traces import from_trace, to_trace
from agentrl.types import FailureClass
from tests.factories import make_rollout
from tests.monitoring.episodes import CONTEXT, ROLLOUT_ID, answered, broken, misbehaved


def test_an_answered_session() -> None:
    record = session_record(answered(), CONTEXT, ended_at=1_700_000_000.5)
    assert record.schema_version == SCHEMA_VERSION
    assert (record.session_id, record.rollout_id) == (ROLLOUT_ID, ROLLOUT_ID)
    assert (record.run_id, record.group_id, record.attempt) == ("finqa", "finqa/validation-000005/t1", 2)
    assert (record.policy_version, record.model_version) == ("finqa@5", "sha256:abc")
    assert record.ended_at == "2023-11-14T22:13:20.500+00:00"
    assert (record.duration_ms, record.generation_ms, record.tools_ms, record.grading_ms) == (1500, 600, 260, 125)
    assert (record.tokens_out, record.tokens_reasoning, record.tokens_cached) == (12, 2, None)
    assert (record.tool_calls_count, record.tool_calls_executed, record.tool_error_count) == (2, 2, 1)
    assert (record.tool_infra_error_count, record.tool_calls_approved, record.retries) == (0, None, 2)
    assert record.tools == ("search", "cat")
    assert (record.outcome, record.success, record.score, record.failure_class) == ("completed", True, 0.75, None)
    assert (record.grader, record.grader_version) == ("judge", "sha256:judge")
    assert (record.holdout_scores, record.holdout_missing) == ({"strict": 0.25}, ("slow",))
    assert record.cost_usd == pytest.approx(0.26)
    assert (record.human_override, record.human_approval, record.kpi, record.arm) == (None, None, None, None)


def test_each_generation_reads_all_that_was_before_it() -> None:
    rollout = answered()
    # prompt 3; each turn 4 tokens, each observation 2
    assert tokens_read(rollout) == [3, 9, 15]
    assert session_record(rollout, CONTEXT).tokens_in == 27


def test_an_api_model_tells_what_it_wrote_and_not_what_it_read() -> None:
    rollout = answered()
    turns = tuple(
        dataclasses.replace(turn, token_ids=(), engine_logprobs=(), unseen_tokens=7) for turn in rollout.turns
    )
    context = dataclasses.replace(CONTEXT, policy_version="gpt-x")
    record = session_record(dataclasses.replace(rollout, turns=turns, prompt_ids=()), context)
    assert (record.tokens_in, record.tokens_out, record.policy_version) == (None, 21, "gpt-x")


@pytest.mark.parametrize("failure", FailureClass)
def test_what_broke_has_no_score_and_no_success(failure: FailureClass) -> None:
    record = session_record(broken(failure), CONTEXT)
    assert (record.outcome, record.failure_class) == ("infra_failed", failure.value)
    assert (record.success, record.score) == (None, None)
    assert record.tool_infra_error_count == (failure in (FailureClass.TOOL, FailureClass.SANDBOX))


def test_f58_no_price_is_no_cost_rather_than_none_at_all() -> None:
    record = session_record(answered(), dataclasses.replace(CONTEXT, price_table=None))
    assert (record.cost_usd, record.cost_rollout_usd) == (None, None)
    assert record.cost_grader_usd == 0.01


def test_success_is_unknown_where_nobody_said_what_it_is() -> None:
    assert session_record(answered(), dataclasses.replace(CONTEXT, pass_threshold=None)).success is None
    assert session_record(answered(), dataclasses.replace(CONTEXT, pass_threshold=0.8)).success is False


def test_calls_proposed_and_executed_are_counted_apart() -> None:
    record = session_record(misbehaved(), CONTEXT)
    # one that ran, one made up, one over the budget, one that could not be read
    assert (record.tool_calls_count, record.tool_calls_executed, record.tool_error_count) == (4, 1, 0)
    assert record.tools == ("search", "unknown", "cat")


def test_a_record_keeps_no_text_of_the_session() -> None:
    rollout = broken(FailureClass.GRADER)
    text = json.dumps(session_record(rollout, CONTEXT).to_record())
    assert "secret words" not in text
    assert "What is" not in text
    other = dataclasses.replace(answered(), answer="43")
    assert session_record(answered(), CONTEXT).output_digest != session_record(other, CONTEXT).output_digest


@given(st.text())
def test_f60_any_session_id_is_taken(text: str) -> None:
    record = session_record(make_rollout(), CONTEXT, session_id=text)
    assert record.session_id == (safe_id(text) or "trace_t1-0")
    assert 1 <= len(record.session_id) <= MAX_ID_CHARS
    assert record.session_id.isascii()
    assert record.session_id.isprintable()


def test_f60_long_and_foreign_ids_stay_apart() -> None:
    ids = ["a" * 10_000, "a" * 10_001, "сессия", "session", "sess\x1bion"]
    assert len({safe_id(text) for text in ids}) == len(ids)
    assert safe_id("session") == "session"


def test_a_recorded_rollout_gives_the_same_record() -> None:
    for rollout in (answered(), misbehaved(), broken(FailureClass.TOOL)):
        again = from_trace(json.loads(to_json(to_trace(rollout))))
        assert session_record(again, CONTEXT) == session_record(rollout, CONTEXT)


def test_the_fields_are_those_of_the_schema_version() -> None:
    """Who adds a field may go on; who renames or removes one raises SCHEMA_VERSION and this list."""
    assert SCHEMA_VERSION == 1
    assert {
        "session_id", "run_id", "group_id", "rollout_id", "attempt", "task_id", "file", "agent", "model_version",
        "policy_version", "reward_model_version", "bundle_id", "release_channel", "arm", "ended_at", "duration_ms",
        "generation_ms", "tools_ms", "grading_ms", "turns", "tokens_in", "tokens_out", "tokens_cached",
        "tokens_reasoning", "tool_calls_count", "tool_calls_approved", "tool_calls_executed", "tool_error_count",
        "tool_infra_error_count", "tools", "retries", "outcome", "stop_reason", "failure_class", "success", "score",
        "grader", "grader_version", "sub_scores", "holdout_scores", "holdout_missing", "cost_usd", "cost_rollout_usd",
        "cost_grader_usd", "price_table", "context_digest", "actions_digest", "output_digest", "policy_kl",
        "policy_kl_estimator", "policy_kl_tokens", "kpi", "human_override", "human_override_kind", "human_override_by",
        "human_override_at", "human_approval", "schema_version",
    } <= {each.name for each in dataclasses.fields(SessionRecord)}  # fmt: skip


@given(st.floats(min_value=0, max_value=1e6))
def test_units_agree(seconds: float) -> None:
    assert milliseconds(seconds) == pytest.approx(seconds * 1000, abs=1e-3)
    assert seconds_between(5, 5 + nanoseconds(seconds)) == pytest.approx(seconds, abs=1e-9)
