"""The span of a user's session: what is told of a release, to whom, and under which names."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentrl.errors import AgentRLError
from agentrl.monitoring import genai
from agentrl.monitoring.content import Content
from agentrl.monitoring.otlp import Collector, resource
from agentrl.monitoring.root_span import Span, user_span
from agentrl.monitoring.session_process import SessionReceiver, as_message
from agentrl.monitoring.session_record import SessionRecord, session_record
from tests.monitoring.collector import attributes, collecting
from tests.monitoring.episodes import CONTEXT, answered

PINNED = Path(__file__).with_name("genai_names.txt").read_text().split()
RECORD = replace(
    session_record(answered(), replace(CONTEXT, run_id="r1", agent="support", file="", tools=None), ended_at=1.7e9),
    session_id="order-17",
    rollout_id="order-17",
    policy_version="sha256:bundle",
    bundle_id="sha256:bundle",
    release_channel="canary",
    arm="candidate",
    grader="feedback",
    grader_version=None,
    reward_model_version=None,
    score=None,
    success=None,
    sub_scores={},
    holdout_scores={},
    holdout_missing=(),
    cost_usd=0.02,
    policy_kl=0.03,
    policy_kl_estimator="k3",
    policy_kl_tokens=40,
    human_approval=True,
    approval_timeouts=1,
    tool_calls_approved=2,
    kpi=1.5,
)
OPTIONS = {
    "endpoint": "http://127.0.0.1:9",
    "headers": {},
    "metrics": True,
    "content": False,
    "content_max_chars": 100,
    "environment": "test",
    "timeout_seconds": 0.2,
}


def records(count: int, **changes: Any) -> list[tuple[dict[str, Any], bool]]:
    return [(asdict(replace(RECORD, session_id=f"s{number}", **changes)), False) for number in range(count)]


def receiver(max_waiting: int = 100, **options: Any) -> SessionReceiver:
    made = SessionReceiver()
    made.start({"options": OPTIONS | options, "log_seconds": 10.0, "max_waiting": max_waiting})
    return made


def test_a_session_in_a_canary_is_told_as_golden() -> None:
    span = user_span(RECORD)
    assert span.name == "invoke_agent support"
    assert (span.end_ns - span.start_ns, span.end_ns) == (1_500_000_000, 1_700_000_000_000_000_000)
    assert span.error == ""
    assert span.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "agentrl",
        "gen_ai.conversation.id": "order-17",
        "gen_ai.agent.name": "support",
        "gen_ai.request.model": "support",
        "gen_ai.agent.version": "sha256:bundle",
        "gen_ai.usage.input_tokens": RECORD.tokens_in,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "agentrl.policy.version": "sha256:bundle",
        "agentrl.model.version": "sha256:abc",
        "agentrl.schema_version": 1,
        "agentrl.run.id": "r1",
        "agentrl.group.id": RECORD.group_id,
        "agentrl.rollout.id": "order-17",
        "agentrl.attempt": RECORD.attempt,
        "agentrl.task.id": "t1",
        "agentrl.file": "",
        "agentrl.turns": 3,
        "agentrl.tool_calls.count": 2,
        "agentrl.tool_calls.approved": 2,
        "agentrl.tool_calls.executed": 2,
        "agentrl.tool_calls.errors": 1,
        "agentrl.tool_calls.infra_errors": 0,
        "agentrl.tools": ("search", "cat"),
        "agentrl.retries": RECORD.retries,
        "agentrl.outcome": "completed",
        "agentrl.stop_reason": "final",
        "agentrl.cost.usd": 0.02,
        "agentrl.cost.price_table": "sha256:prices",
        "agentrl.release.channel": "canary",
        "agentrl.release.arm": "candidate",
        "agentrl.bundle.id": "sha256:bundle",
        "agentrl.approval.decision": True,
        "agentrl.approval.timeouts": 1,
        "agentrl.kpi": 1.5,
        "agentrl.policy.kl": 0.03,
        "agentrl.policy.kl.estimator": "k3",
        "agentrl.policy.kl.tokens": 40,
        "agentrl.context.digest": RECORD.context_digest,
        "agentrl.actions.digest": RECORD.actions_digest,
        "agentrl.output.digest": RECORD.output_digest,
    }


def test_the_assignment_of_its_arm_is_an_event() -> None:
    (event,) = user_span(RECORD).events  # nobody has judged it yet: no evaluation
    assert event.name == "feature_flag.evaluation"
    assert event.attributes == {
        "feature_flag.key": "agentrl.release",
        "feature_flag.result.variant": "candidate",
        "feature_flag.context.id": "order-17",
        "feature_flag.version": "sha256:bundle",
    }


def test_what_people_said_of_it_are_evaluations() -> None:
    judged = replace(RECORD, success=False, score=0.25, sub_scores={"refunds": 2.0})
    verdict, part, _ = user_span(judged).events
    assert verdict.attributes == {
        "gen_ai.evaluation.name": "feedback",
        "gen_ai.evaluation.score.value": 0.25,
        "gen_ai.evaluation.score.label": "fail",
    }
    assert part.attributes == {"gen_ai.evaluation.name": "feedback.refunds", "gen_ai.evaluation.score.value": 2.0}
    only_outcome = user_span(replace(RECORD, success=True)).events[0].attributes
    assert only_outcome["gen_ai.evaluation.score.label"] == "pass"
    assert "gen_ai.evaluation.score.value" not in only_outcome
    assert "error.type" not in only_outcome  # nobody was asked for a score


@pytest.mark.parametrize("value", [None, False, True])
def test_what_is_not_known_is_not_sent_and_false_is(value: bool | None) -> None:
    told = user_span(replace(RECORD, human_override=value, human_approval=value, success=value)).attributes
    for name in ("agentrl.human_override", "agentrl.approval.decision", "agentrl.success"):
        assert told.get(name, "absent") == ("absent" if value is None else value)


def test_all_names_are_pinned_or_ours() -> None:
    span = user_span(replace(RECORD, score=1.0, success=True, human_override=True), is_again=True)
    found = {name for each in (span, *span.events) for name in each.attributes} | {each.name for each in span.events}
    assert sorted(name for name in found - set(PINNED) if not name.startswith("agentrl.")) == []


def test_both_arms_of_a_session_in_shadow_have_traces_of_their_own() -> None:
    spans = [user_span(replace(RECORD, arm=arm, run_id=run)) for arm in ("baseline", "candidate") for run in ("a", "b")]
    assert len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == 4


def test_a_session_that_is_told_again_has_its_ids_and_says_so() -> None:
    first, again = user_span(RECORD), user_span(replace(RECORD, human_override=False), is_again=True)
    assert (first.trace_id, first.span_id) == (again.trace_id, again.span_id)
    assert "agentrl.relabelled" not in first.attributes
    assert again.attributes["agentrl.relabelled"] is True


def test_a_session_that_no_server_answered_is_an_error() -> None:
    span = user_span(replace(RECORD, failure_class="engine", outcome="infra_failed"))
    assert (span.error, span.attributes["error.type"]) == ("engine", "engine")


def test_a_session_without_an_end_is_refused() -> None:
    with pytest.raises(AgentRLError, match="has no end"):
        user_span(replace(RECORD, ended_at=None))


def test_t8_t9_what_was_said_is_sent_where_it_is_asked_for_redacted_and_cut() -> None:
    said = {"messages": ["write to jane@example.com", {"role": "assistant", "content": "x" * 200}]}
    span = user_span(RECORD, content=Content(100), said=said)
    (asked,) = json.loads(str(span.attributes["gen_ai.input.messages"]))
    assert asked == {"role": "user", "parts": [{"type": "text", "content": "write to [email]"}]}
    (answer,) = json.loads(str(span.attributes["gen_ai.output.messages"]))
    assert answer["parts"][0]["content"].endswith("(100 characters cut)")
    assert not {*genai.MESSAGES["input_messages"]} & user_span(RECORD, said=said).attributes.keys()


def test_the_in_memory_exporter_is_given_the_same_span() -> None:
    exporter = InMemorySpanExporter()
    Collector("http://127.0.0.1:9", resource(), spans_to=exporter).send([user_span(RECORD)])
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["agentrl.bundle.id"] == "sha256:bundle"
    assert "agentrl.human_override" not in span.attributes
    assert [event.name for event in span.events] == ["feature_flag.evaluation"]


# The process that sends them


def test_metrics_count_a_session_once_and_no_id_labels_one() -> None:
    with collecting() as stub:
        sender = receiver(endpoint=stub.url, timeout_seconds=1.0)
        sender.receive(as_message(records(3), with_content=False))
        again = [(record, True) for record, _ in records(3, human_override=False)]
        assert sender.receive(as_message(again, with_content=False)) == {"waiting": 0, "lost": 0, "warning": ""}
    assert len(stub.roots) == 6
    points = {metric.name: metric.histogram.data_points[0] for metric in stub.metrics}
    assert points.keys() == {"gen_ai.invoke_agent.duration", "agentrl.policy.kl"}
    assert (points["gen_ai.invoke_agent.duration"].count, points["gen_ai.invoke_agent.duration"].sum) == (3, 4.5)
    labels = {
        "gen_ai.agent.name": "support",
        "gen_ai.request.model": "support",
        "agentrl.release.channel": "canary",
        "agentrl.release.arm": "candidate",
    }
    assert attributes(points["gen_ai.invoke_agent.duration"]) == labels
    assert attributes(points["agentrl.policy.kl"]) == labels | {"agentrl.policy.kl.estimator": "k3"}
    assert points["agentrl.policy.kl"].sum == pytest.approx(0.09)


def test_f56_what_a_collector_did_not_take_waits_and_arrives_in_order() -> None:
    with collecting() as stub:
        stub.status = 400
        sender = receiver(endpoint=stub.url, timeout_seconds=1.0)
        refused = sender.receive(as_message(records(60), with_content=False))
        assert (refused["waiting"], refused["lost"]) == (60, 0)
        assert "code: 400" in refused["warning"]
        stub.status = 200
        assert sender.receive({"retry": True}) == {"waiting": 0, "lost": 0, "warning": ""}
        assert [root["gen_ai.conversation.id"] for root in stub.roots] == [f"s{number}" for number in range(60)]


def test_f56_beyond_the_bound_the_oldest_are_dropped_and_counted() -> None:
    sender = receiver(max_waiting=3)
    assert sender.receive(as_message(records(3), with_content=False))["lost"] == 0
    answer = sender.receive(as_message(records(2), with_content=False))
    assert (answer["waiting"], answer["lost"]) == (3, 2)
    assert [each["record"]["session_id"] for each in sender.waiting] == ["s2", "s0", "s1"]
    assert sender.finish()["lost"] == 3


def test_a_record_that_makes_no_span_is_counted_and_holds_up_no_other() -> None:
    with collecting() as stub:
        sender = receiver(endpoint=stub.url, timeout_seconds=1.0, content=True)
        odd = [(dict(records(1)[0][0], ended_at=None), False), *records(1)]
        unreadable = {"messages": [{"role": "user", "content": 7, "tool_calls": ["x"]}] * 2}
        odd.append((dict(records(1)[0][0], content=unreadable), False))
        answer = sender.receive(as_message(odd, with_content=True))
        assert (answer["waiting"], answer["lost"]) == (0, 1)
        assert len(stub.roots) == 2  # content that cannot be read goes, the session stays


def test_content_leaves_the_gateway_only_where_it_is_asked_for() -> None:
    kept = [({"session_id": "s", "content": {"messages": []}}, False)]
    assert "content" not in as_message(kept, with_content=False)["sessions"][0]["record"]
    assert "content" in as_message(kept, with_content=True)["sessions"][0]["record"]


def test_the_pure_function_takes_what_the_log_has() -> None:
    span: Span = user_span(SessionRecord(**json.loads(json.dumps(asdict(RECORD)))))
    assert span.attributes == {**user_span(RECORD).attributes, "agentrl.tools": ["search", "cat"]}
