from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typer.testing import CliRunner

from agentrl.cli.export import export
from agentrl.errors import AgentRLError, ConfigError
from agentrl.evaluation.evaluation_files import Evaluation, write_evaluation
from agentrl.monitoring import otel_process, otlp
from agentrl.monitoring.otel_process import OtelReceiver
from agentrl.monitoring.otlp import Collector, ExportError, resource, signal_url
from agentrl.monitoring.recorded_context import context_of, recordings
from agentrl.monitoring.root_span import Span
from agentrl.monitoring.spans import spans_of
from agentrl.runs import RunDirectory
from agentrl.types import FailureClass
from tests.factories import make_rollout
from tests.monitoring.collector import attributes, collecting
from tests.monitoring.episodes import CONTEXT, answered, broken, misbehaved

NOWHERE = "http://127.0.0.1:9"
CONFIG = {
    "name": "finqa",
    "workflow": {"target": "finqa-agent", "reward_model": None},
    "grading": {"grader": {"name": "judge", "type": "endpoint"}, "pass_threshold": 0.5},
    "rollout": {"prices": {"usd_per_tool_call": 0.1}},
}
MANIFEST = {"versions": {"model": "sha256:m", "tools": {"search": None, "cat": "2"}}, "run_hash": "sha256:h"}
OPTIONS = {
    "headers": {},
    "metrics": True,
    "content": False,
    "content_max_chars": 100,
    "environment": "test",
    "timeout_seconds": 1.0,
}


def spans(count: int = 1) -> list[Span]:
    return [span for n in range(count) for span in spans_of(make_rollout(f"t{n}"), CONTEXT, ended_at=1.7e9)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with RunDirectory.create(tmp_path / "run", config_yaml=yaml.safe_dump(CONFIG), manifest=MANIFEST) as directory:
        directory.write_rollouts("train-000001", [answered(), misbehaved()])
        directory.write_rollouts("validation-000001", [broken(FailureClass.TOOL)])
    return tmp_path / "run"


def test_the_in_memory_exporter_is_given_the_same_spans() -> None:
    exporter = InMemorySpanExporter()
    Collector(NOWHERE, resource(), spans_to=exporter).send(spans_of(answered(), CONTEXT, ended_at=1.7e9))
    root, chat, *_ = exporter.get_finished_spans()
    assert root.name == "invoke_agent finqa-agent"
    assert root.parent is None
    assert chat.parent is not None
    assert root.context is not None
    assert chat.parent.span_id == root.context.span_id
    assert root.attributes is not None
    assert root.attributes["gen_ai.usage.output_tokens"] == 12
    assert root.events[0].name == "gen_ai.evaluation.result"
    assert root.end_time == 1_700_000_000_000_000_000
    assert root.resource.attributes["service.name"] == "agentrl"


def test_a_collector_decodes_what_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TOKEN", "canary-token")
    with collecting() as stub:
        collector = Collector(stub.url, resource(environment="test"), headers={"Authorization": "Bearer ${OTEL_TOKEN}"})
        collector.send(spans_of(answered(), CONTEXT, ended_at=1.7e9))
    assert len(stub.spans) == 6
    assert stub.headers[0]["authorization"] == "Bearer canary-token"
    assert stub.roots[0]["agentrl.tools"] == ["search", "cat"]
    assert stub.resources[0]["deployment.environment.name"] == "test"
    assert attributes(stub.spans[0].events[0])["gen_ai.evaluation.score.value"] == 0.75
    assert [span.kind for span in stub.spans[:3]] == [1, 3, 1]


def test_requests_are_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "SPANS_A_REQUEST", 10)
    with collecting() as stub:
        Collector(stub.url, resource()).send(spans(7))
        assert len(stub.spans) == 42
        assert len(stub.headers) == 5


@pytest.mark.parametrize("status", [400, 500])
def test_f56_a_collector_that_refuses_is_told(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TOKEN", "canary-token")
    with collecting() as stub:
        stub.status = status
        collector = Collector(stub.url, resource(), headers={"X-Api-Key": "${OTEL_TOKEN}"}, timeout_seconds=1.0)
        with pytest.raises(ExportError, match=f"code: {status}"):
            collector.send(spans())


def test_f56_a_collector_that_is_down_or_slow_is_told() -> None:
    with pytest.raises(ExportError, match="could not be reached"):
        Collector(NOWHERE, resource(), timeout_seconds=0.2).send(spans())
    with collecting() as stub:
        stub.seconds = 5.0
        with pytest.raises(ExportError, match="did not answer in time"):
            Collector(stub.url, resource(), timeout_seconds=0.2).send(spans())


def test_histograms_are_in_seconds_and_tokens_and_have_few_labels() -> None:
    with collecting() as stub:
        collector = Collector(stub.url, resource(), with_metrics=True)
        found = [
            span
            for rollout in (answered(), misbehaved(), broken(FailureClass.TOOL))
            for span in spans_of(rollout, CONTEXT, ended_at=1.7e9)
        ]
        assert collector.measure(found) == ""
        assert collector.measure([]) == ""  # sent whole each time
    metrics = {metric.name: metric for metric in stub.metrics}
    assert {(name, metric.unit) for name, metric in metrics.items()} == {
        ("gen_ai.invoke_agent.duration", "s"),
        ("gen_ai.execute_tool.duration", "s"),
        ("gen_ai.client.operation.duration", "s"),
        ("gen_ai.client.token.usage", "{token}"),
    }
    agents = {attributes(p).get("error.type"): p for p in metrics["gen_ai.invoke_agent.duration"].histogram.data_points}
    assert (agents[None].count, agents[None].sum) == (2, pytest.approx(1.5 + 1.0))
    assert (agents["tool"].count, agents["tool"].sum) == (1, pytest.approx(2.0))
    assert list(agents[None].explicit_bounds)[:2] == [0.1, 0.2]
    usage = {
        attributes(p)["gen_ai.token.type"]: p.sum for p in metrics["gen_ai.client.token.usage"].histogram.data_points
    }
    assert usage["output"] == 12 + 4 + 2
    labels = {
        (key, value)
        for metric in stub.metrics
        for point in metric.histogram.data_points
        for key, value in attributes(point).items()
    }
    assert labels == {
        ("gen_ai.agent.name", "finqa-agent"),
        ("gen_ai.request.model", "finqa-agent"),
        ("agentrl.release.channel", "offline_eval"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "agentrl"),
        ("gen_ai.tool.name", "search"),
        ("gen_ai.tool.name", "cat"),
        ("gen_ai.tool.type", "function"),
        ("gen_ai.token.type", "input"),
        ("gen_ai.token.type", "output"),
        ("error.type", "tool"),
        ("error.type", "tool_error"),
    }


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp", "https://h/otlp/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
        ("https://h/v1/metrics?a=b", "https://h/v1/traces?a=b"),
    ],
)
def test_the_path_of_a_signal(endpoint: str, url: str) -> None:
    assert signal_url(endpoint, otlp.TRACES) == url


def test_t5_t8_no_key_travels_in_clear_text_and_no_metadata_service_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TOKEN", "canary-token")
    headers = {"Authorization": "Bearer ${OTEL_TOKEN}"}
    for endpoint, message in (("http://example.org", "in clear text"), ("http://169.254.169.254", "metadata")):
        with pytest.raises(ConfigError, match=message):
            Collector(endpoint, resource(), headers=headers)
    Collector("http://10.0.0.7:4318", resource(), headers=headers)  # collectors stand on private networks


def test_without_the_extra_the_repair_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "find_spec", {}.get)
    with pytest.raises(ConfigError, match=r"pip install 'agentrl\[otel\]'"):
        Collector(NOWHERE, resource())


# What a run directory knows of its sessions


def test_the_context_of_a_run(run: Path) -> None:
    train, validation = context_of(run, "train-000001"), context_of(run, "validation-000001")
    assert (train.run_id, train.agent, train.grader, train.pass_threshold) == ("run", "finqa-agent", "judge", 0.5)
    assert (train.model_version, train.reward_model_version, train.tools) == ("sha256:m", "judge", ("search", "cat"))
    assert train.price_table is not None
    assert (train.release_channel, validation.release_channel) == (None, "offline_eval")


def test_recordings_of_a_run_of_a_file_and_of_nothing(run: Path, tmp_path: Path) -> None:
    assert {each.context.file for each in recordings(run)} == {"train-000001", "validation-000001"}
    (one,) = recordings(run, ["train-000001"])
    assert len(list(one.rollouts())) == 2
    assert recordings(one.path)[0].context == one.context
    alone = tmp_path / "some.jsonl.gz"
    alone.write_bytes(one.path.read_bytes())
    assert (recordings(alone)[0].context.run_id, recordings(alone)[0].context.tools) == ("some", None)
    for source, only, message in (
        (run, ["nope"], "found: train-000001, validation-000001"),
        (tmp_path, [], "holds no run|kept no rollouts"),
        (tmp_path / "missing", [], "no such run or file"),
    ):
        with pytest.raises(ConfigError, match=message):
            recordings(source, only)


# While it is written


Receiving = Callable[..., OtelReceiver]


@pytest.fixture
def receiving(run: Path) -> Receiving:
    def start(endpoint: str, **options: Any) -> OtelReceiver:
        receiver = OtelReceiver()
        settings = {"run_dir": str(run), "log_seconds": 30.0, "finish_seconds": 5.0}
        receiver.start({**settings, "options": {**OPTIONS, "endpoint": endpoint, **options}})
        return receiver

    return start


def message(file: str, units: int) -> dict[str, Any]:
    return {"file": file, "units": units, "at": 1.7e9}


def test_files_are_sent_as_they_are_written(receiving: Receiving) -> None:
    with collecting() as stub:
        receiver = receiving(stub.url)
        assert receiver.receive(message("train-000001", 2)) == {"warning": "", "waiting": 0}
        assert receiver.receive(message("validation-000001", 1)) == {"warning": "", "waiting": 0}
        assert receiver.finish() == {"lost": 0, "warning": ""}
    assert [root["agentrl.rollout.id"] for root in stub.roots] == [answered().id, misbehaved().id, "not-a-uuid"]
    assert {each["agentrl.run.hash"] for each in stub.resources} == {"sha256:h"}
    assert stub.metrics


def test_f56_what_a_collector_did_not_take_is_sent_when_it_is_back(receiving: Receiving) -> None:
    with collecting() as stub:
        receiver = receiving(stub.url)
        stub.status = 500
        answer = receiver.receive(message("train-000001", 2))
        assert answer["waiting"] == 2
        assert "500" in answer["warning"]
        stub.status = 200
        assert receiver.receive(message("validation-000001", 1)) == {"warning": "", "waiting": 0}
        assert len(stub.roots) == 3
        (metric,) = [each for each in stub.metrics if each.name == "gen_ai.invoke_agent.duration"]
        assert sum(point.count for point in metric.histogram.data_points) == 3  # each once


def test_f56_more_than_the_bound_is_dropped_and_counted(receiving: Receiving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel_process, "MAX_WAITING", 3)
    with collecting() as stub:
        stub.status = 500
        receiver = receiving(stub.url, metrics=False)
        for _ in range(5):
            answer = receiver.receive(message("train-000001", 2))
        assert answer["waiting"] == 6
        assert receiver.finish()["lost"] == 10


def test_a_file_that_is_gone_costs_nothing_but_itself(receiving: Receiving) -> None:
    with collecting() as stub:
        receiver = receiving(stub.url)
        answer = receiver.receive(message("train-000099", 4))
        assert "train-000099" in answer["warning"]
        receiver.receive(message("train-000001", 2))
        assert receiver.finish()["lost"] == 4
        assert len(stub.roots) == 2


def test_a_slow_collector_is_given_no_more_than_the_time_there_is(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otel_process, "ROLLOUTS_AT_ONCE", 1)
    with collecting() as stub:
        receiver = receiving(stub.url)
        receiver.log_seconds = 0.0  # some are always sent
        assert receiver.receive(message("train-000001", 2)) == {"warning": "", "waiting": 1}
        assert len(stub.roots) == 1
        receiver.log_seconds = 30.0
        assert receiver.receive(message("validation-000001", 1))["waiting"] == 0
        assert len(stub.roots) == 3
        assert len(stub.spans) == len({span.span_id for span in stub.spans})  # it went on where it had stopped


# The verb


def exported(*arguments: str) -> tuple[int, str, Any]:
    result = CliRunner().invoke(export, ["otel", *arguments])
    return result.exit_code, result.output, result.exception


def test_the_verb_sends_a_run(run: Path) -> None:
    with collecting() as stub:
        code, output, _ = exported(str(run), "--endpoint", stub.url, "--header", "X-Team=red", "--json")
    assert (code, json.loads(output)) == (0, {"files": 2, "rollouts": 3, "spans": len(stub.spans)})
    assert stub.headers[0]["x-team"] == "red"
    assert "gen_ai.input.messages" not in stub.roots[0]
    assert not stub.metrics  # a file that is sent twice would be counted twice


def test_the_verb_writes_lines_that_collectors_read(run: Path, tmp_path: Path) -> None:
    code, output, _ = exported(str(run), "--out", str(tmp_path / "s.jsonl"), "--content", "--only", "train-000001")
    assert (code, output) == (0, f"2 rollouts of 1 files, 10 spans, to {tmp_path / 's.jsonl'}\n")
    first, _ = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    root = first["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert root["traceId"] == "0123abcd00004000800000000000cafe"
    assert any(each["key"] == "gen_ai.input.messages" for each in root["attributes"])


def test_the_verb_sends_an_evaluation(tmp_path: Path) -> None:
    conditions = {"graders": {"judge": "sha256:j", "version": None}, "rollout": {"prices": {"usd_per_tool_call": 0.1}}}
    evaluation = Evaluation(
        name="runs/finqa@best",
        policy={"kind": "run", "name": "runs/finqa@best", "digest": "sha256:m"},
        conditions=conditions,
        pass_threshold=0.5,
        tools=("search", "cat"),
        rollouts=(answered(),),
    )
    with collecting() as stub:
        path = write_evaluation(tmp_path / "best.json", evaluation)
        code, output, _ = exported(str(path), "--endpoint", stub.url)
    assert (code, output) == (0, f"1 rollouts of 1 files, 6 spans, to {stub.url}\n")
    (root,) = stub.roots
    assert root["gen_ai.agent.version"] == "runs/finqa@best"
    assert root["agentrl.release.channel"] == "offline_eval"
    assert root["agentrl.success"] is True
    assert attributes(stub.spans[0].events[0])["gen_ai.evaluation.name"] == "judge"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --endpoint URL or --out"),
        (("--endpoint", "http://h:1", "--out", "x"), "either --endpoint URL or --out"),
        (("--endpoint", "h:4318"), "allowed: http://host:port"),
        (("--endpoint", "http://me:pw@h"), "allowed: http://host:port"),
        (("--endpoint", NOWHERE, "--header", "plain"), "allowed: NAME=VALUE"),
        (("--endpoint", NOWHERE, "--header", "A=${NO_SUCH_VARIABLE}"), "'NO_SUCH_VARIABLE' is not set"),
        (("--endpoint", NOWHERE, "--timeout-seconds", "0.2"), "it took 0 rollouts, then: it could not be reached"),
        (("--out", "/no/such/folder/s.jsonl"), "cannot be written"),
    ],
)
def test_the_verb_says_what_is_wrong(run: Path, arguments: tuple[str, ...], message: str) -> None:
    code, _, error = exported(str(run), *arguments)
    assert code == 1
    assert isinstance(error, AgentRLError)
    assert message in str(error)
    assert "pw" not in str(error)


def test_the_time_of_the_run_is_that_of_its_files(run: Path) -> None:
    with collecting() as stub:
        exported(str(run), "--endpoint", stub.url)
    assert all(abs(span.end_time_unix_nano / 1e9 - time.time()) < 3600 for span in stub.spans)


def test_a_redirect_is_a_refusal_and_takes_no_key_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTLP_KEY", "planted-canary")
    with collecting() as elsewhere, collecting() as collector:
        collector.status, collector.location = 308, elsewhere.url
        sender = Collector(collector.url, resource(), headers={"x-api-key": "${OTLP_KEY}"}, with_metrics=True)
        with pytest.raises(ExportError, match="answered 308 and leads elsewhere"):
            sender.send(spans())
        assert "308" in sender.measure(spans())
    assert (elsewhere.headers, [each["x-api-key"] for each in collector.headers]) == ([], ["planted-canary"] * 2)


def test_keys_for_other_collectors_are_not_sent_to_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer planted-canary")
    with collecting() as collector:
        sender = Collector(collector.url, resource(), headers={"X-Team": "a"}, with_metrics=True)
        sender.send(spans())
        sender.measure(spans())
    assert [each["x-team"] for each in collector.headers] == ["a", "a"]
    assert "canary" not in str(collector.headers)
    assert len(collector.spans) == len(spans())
