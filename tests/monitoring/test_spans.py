from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl.monitoring import genai
from agentrl.monitoring.content import Content
from agentrl.monitoring.genai import Operation
from agentrl.monitoring.otlp import resource, to_json_line
from agentrl.monitoring.redaction import redact_text
from agentrl.monitoring.root_span import Span, trace_id
from agentrl.monitoring.spans import spans_of
from agentrl.types import FailureClass, Rollout
from tests.factories import make_task
from tests.monitoring.episodes import CONTEXT, answered, broken, misbehaved

HERE = Path(__file__).parent
GOLDEN = HERE / "session.otlp.json"
PACKAGE = HERE.parents[1] / "src" / "agentrl"
PINNED = (HERE / "genai_names.txt").read_text().split()
"""All names of the conventions' registry at `genai.REVISION`."""
AT = 1_700_000_000.0
END = 1_700_000_000_000_000_000


def spans(rollout: Rollout, content: Content | None = None, **context: Any) -> list[Span]:
    return spans_of(rollout, replace(CONTEXT, **context), ended_at=AT, content=content)


def by_name(found: list[Span]) -> dict[str, list[Span]]:
    names: dict[str, list[Span]] = {}
    for span in found:
        names.setdefault(span.name, []).append(span)
    return names


def names_of(found: list[Span]) -> set[str]:
    return {name for span in found for each in (span, *span.events) for name in each.attributes}


EVERY_KIND = [answered(), misbehaved(), *(broken(failure) for failure in FailureClass)]


def test_a_session_is_an_agent_with_its_generations_and_tools_in_order() -> None:
    found = spans(answered())
    assert [span.name for span in found] == [
        "invoke_agent finqa-agent",
        "chat finqa-agent",
        "execute_tool search",
        "chat finqa-agent",
        "execute_tool cat",
        "chat finqa-agent",
    ]
    root, *below = found
    assert root.trace_id == int("0123abcd00004000800000000000cafe", 16)
    assert {span.trace_id for span in found} == {root.trace_id}
    assert {span.parent_id for span in below} == {root.span_id}
    assert len({span.span_id for span in found}) == len(found)


def test_durations_are_those_that_were_measured() -> None:
    root, first, search, second, cat, _ = spans(answered())
    assert (root.start_ns, root.end_ns) == (END - 1_500_000_000, END)
    assert first.start_ns == root.start_ns
    assert [span.end_ns - span.start_ns for span in (first, search, second, cat)] == [
        200_000_000, 10_000_000, 200_000_000, 250_000_000,
    ]  # fmt: skip
    assert search.start_ns == first.end_ns
    assert second.start_ns == search.end_ns


@pytest.mark.parametrize("rollout", EVERY_KIND)
def test_no_span_leaves_its_session(rollout: Rollout) -> None:
    root, *below = spans(replace(rollout, seconds=0.3))  # less than its parts: clocks are not what they seem
    assert all(root.start_ns <= span.start_ns <= span.end_ns <= root.end_ns for span in below)
    assert all(event.at_ns == root.end_ns for event in root.events)


def test_calls_of_one_turn_run_side_by_side() -> None:
    found = by_name(spans(broken(FailureClass.TOOL)))
    search, cat = found["execute_tool search"][0], found["execute_tool cat"][0]
    assert (search.start_ns, search.end_ns) == (cat.start_ns, cat.end_ns)
    assert search.end_ns == END  # what was under way when it broke
    assert {search.error, cat.error} == {"tool"}


@pytest.mark.parametrize("failure", FailureClass)
def test_what_broke_is_named_by_its_class(failure: FailureClass) -> None:
    root, *below = spans(broken(failure))
    assert root.error == root.attributes["error.type"] == failure.value
    assert {span.error for span in below if span.error} <= {failure.value}
    assert sum(bool(span.error) for span in below if span.operation is Operation.CHAT) == (
        failure is FailureClass.ENGINE
    )


def test_errors_are_of_few_kinds() -> None:
    found = [span.error for rollout in EVERY_KIND for span in spans(rollout)]
    assert set(found) <= {"", "tool_error", *FailureClass}


def test_a_session_that_failed_by_its_own_doing_is_no_error() -> None:
    root = spans(misbehaved())[0]
    assert root.error == ""
    assert "error.type" not in root.attributes
    assert root.attributes["agentrl.stop_reason"] == "tool_budget"


def test_calls_that_were_never_made_have_no_span_but_are_counted() -> None:
    root, *below = spans(misbehaved())
    assert [span.name for span in below if span.operation is Operation.EXECUTE_TOOL] == ["execute_tool search"]
    assert (root.attributes["agentrl.tool_calls.count"], root.attributes["agentrl.tool_calls.executed"]) == (4, 1)
    assert root.attributes["agentrl.tools"] == ("search", "unknown", "cat")


def test_every_grader_has_its_event() -> None:
    events = spans(answered())[0].events
    assert {event.name for event in events} == {"gen_ai.evaluation.result"}
    told = {event.attributes["gen_ai.evaluation.name"]: event.attributes for event in events}
    assert list(told) == ["judge", "judge.right", "judge.short", "strict", "slow"]
    assert told["judge"]["gen_ai.evaluation.score.value"] == 0.75
    assert told["judge"]["gen_ai.evaluation.score.label"] == "pass"
    assert told["judge"]["agentrl.grader.version"] == "sha256:judge"
    assert told["judge.short"]["gen_ai.evaluation.score.value"] == 0.5
    assert told["strict"]["agentrl.grader.is_holdout"] is True
    assert "gen_ai.evaluation.score.value" not in told["slow"]
    assert told["slow"]["error.type"] == "grader"


def test_a_grader_that_failed_gives_no_score_and_one_that_was_not_asked_no_event() -> None:
    (event,) = spans(broken(FailureClass.GRADER))[0].events
    assert "gen_ai.evaluation.score.value" not in event.attributes
    assert "gen_ai.evaluation.score.label" not in event.attributes
    assert event.attributes["error.type"] == "grader"
    assert spans(broken(FailureClass.TOOL))[0].events == ()


def test_the_arm_of_a_release_is_an_event() -> None:
    *_, event = spans(answered(), arm="candidate", bundle_id="sha256:bundle")[0].events
    assert event.name == "feature_flag.evaluation"
    assert event.attributes["feature_flag.result.variant"] == "candidate"
    assert event.attributes["feature_flag.version"] == "sha256:bundle"


def test_a_session_exported_again_has_the_same_ids() -> None:
    first, again = spans(answered()), spans_of(answered(), CONTEXT, ended_at=AT + 60)
    assert [(span.trace_id, span.span_id) for span in first] == [(span.trace_id, span.span_id) for span in again]
    assert trace_id("trace_t1-0") != trace_id("trace_t1-1")  # ids of another form have a place as well
    assert 0 < trace_id("anything") < 2**128


def test_t17_nothing_that_a_model_wrote_names_a_span() -> None:
    for span in spans(misbehaved(), tools=None):  # nobody knows which tools there were
        assert span.name.isascii()
        assert span.name.isprintable()
        assert len(span.name) < 200


# What was said


def test_without_content_no_text_of_the_session_is_sent() -> None:
    for rollout in EVERY_KIND:
        sent = to_json_line(spans(rollout), resource())
        assert not [text for text in ("What is", "query", "some text", "right;", "secret words") if text in sent]


def test_content_is_sent_in_the_form_of_the_conventions() -> None:
    root, first, search, second, *_ = spans(answered(), Content(1000))
    (message,) = json.loads(str(root.attributes["gen_ai.input.messages"]))
    assert message == {"role": "user", "parts": [{"type": "text", "content": "What is t1?"}]}
    (said,) = json.loads(str(first.attributes["gen_ai.output.messages"]))
    assert said["finish_reason"] == "tool_call"
    assert json.loads(str(search.attributes["gen_ai.tool.call.arguments"])) == {"query": "item 0"}
    assert search.attributes["gen_ai.tool.call.result"] == "some text"
    (read,) = json.loads(str(second.attributes["gen_ai.input.messages"]))  # what is new to it
    assert read["parts"] == [{"type": "tool_call_response", "id": "call_0", "response": "some text"}]
    verdict = root.events[0].attributes["gen_ai.evaluation.explanation"]
    assert verdict == "The number is right; ask [email]."


def test_content_of_other_roles_and_parts() -> None:
    task = make_task()
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
        {"role": "user", "content": [{"type": "text", "text": "And?"}, {"type": "image_url", "image_url": "x"}]},
    )
    rollout = replace(answered(), task=replace(task, messages=messages))
    found = json.loads(str(spans(rollout, Content(100))[0].attributes["gen_ai.input.messages"]))
    assert [message["role"] for message in found] == ["system", "assistant", "tool", "user"]
    assert found[1]["parts"] == [{"type": "tool_call", "id": "c1", "name": "f", "arguments": "{}"}]
    assert found[2]["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "7"}]
    assert found[3]["parts"] == [{"type": "text", "content": "And?"}]


def test_long_texts_are_cut() -> None:
    assert Content(10).text("x" * 25) == "xxxxxxxxxx ... (15 characters cut)"


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Bearer abc.DEF-123456",
        "my key is sk-proj-abcdefghijklmnop",
        "hf_abcdefghijklmnopqrst",
        "ghp_abcdefghijklmnopqrst",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl",
        "postgres://user:hunter22@db/x",
        'password = "hunter22"',
        '{"api_key": "abcdef0123"}',
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_t8_what_looks_like_a_secret_is_not_sent(secret: str) -> None:
    shown = redact_text(f"before {secret} after")
    assert "[secret]" in shown
    assert not re.search(r"abc\.DEF|abcdefghijklmnop|ABCDEFGHIJ|eyJhb|hunter22|abcdef0123|MIIEow", shown)
    assert shown.startswith("before")


def test_what_is_no_secret_stays() -> None:
    text = 'the token count is 12, {"query": "2017 goodwill"}, https://host/path?year=2017'
    assert redact_text(text) == text


# Names


def test_all_names_are_of_the_pinned_revision_or_ours() -> None:
    found = set[str]()
    for rollout in EVERY_KIND:
        found |= names_of(spans(rollout, Content(100), arm="baseline", bundle_id="b"))
    found |= set(resource(environment="test", bundle_id="b", run_hash="h").attributes)
    theirs = {name for name in found if not name.startswith("agentrl.")}
    assert sorted(theirs - set(PINNED)) == []
    tables = (genai.SESSION, genai.TURN, genai.CALL, genai.MESSAGES, genai.EVALUATION, genai.ARM, genai.RESOURCE)
    declared = {name for table in tables for names in table.values() for name in names}
    # declared for sessions of a release, which have what no training rollout has
    later = {"agentrl.human_override", "agentrl.approval.decision", "agentrl.approval.timeouts", "agentrl.kpi",
             "agentrl.policy.kl", "agentrl.policy.kl.estimator", "agentrl.policy.kl.tokens",
             "agentrl.tool_calls.approved",
             "agentrl.tool.result_cut", "gen_ai.usage.cache_read.input_tokens"}  # fmt: skip
    assert sorted(declared - found - later) == []


def test_events_operations_and_metrics_are_of_the_pinned_revision() -> None:
    named = {genai.EVALUATION_EVENT, genai.ARM_EVENT, *(metric.name for metric in genai.METRICS), genai.TOKEN_TYPE}
    assert sorted(named - set(PINNED)) == ["agentrl.policy.kl"]  # ours: the conventions know of none
    assert [metric.unit for metric in genai.METRICS] == ["s", "s", "s", "{token}", "{nat}/{token}"]
    assert genai.AGENT_DURATION.boundaries[-1] == 409.6
    assert genai.CHAT_DURATION.boundaries == genai.TOOL_DURATION.boundaries
    assert genai.CHAT_DURATION.boundaries[-1] == 81.92
    assert genai.TOKEN_USAGE.boundaries[-1] == 67108864


def test_the_names_stand_in_one_module() -> None:
    stray = re.compile(r"""["'](gen_ai|feature_flag|deployment\.environment)\.""")
    found = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "genai.py"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if stray.search(line)
    ]
    assert found == []


def test_every_field_of_the_table_is_one_of_the_record() -> None:
    from dataclasses import fields

    from agentrl.monitoring.session_record import SessionRecord

    assert set(genai.SESSION) <= {each.name for each in fields(SessionRecord)}


def test_a_session_as_otlp_json_is_the_golden_one() -> None:
    """`python -m tests.monitoring.test_spans` writes it anew, where a change was meant."""
    assert as_json() == json.loads(GOLDEN.read_text())


def as_json() -> dict[str, Any]:
    """What a collector is sent, but for our own version."""
    request: dict[str, Any] = json.loads(to_json_line(spans(answered(), Content(1000)), resource()))
    (sent,) = request["resourceSpans"]
    sent["scopeSpans"][0]["scope"]["version"] = "any"
    for attribute in sent["resource"]["attributes"]:
        if attribute["key"] == "service.version":
            attribute["value"] = {"stringValue": "any"}
    return request


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(as_json(), indent=1) + "\n")
