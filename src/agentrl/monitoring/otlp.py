"""Our spans as OpenTelemetry's, and over OTLP/HTTP to a collector. What `pip install 'agentrl[otel]'` is for."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from agentrl import __version__
from agentrl.endpoint.address import resolve_headers, strike_out, usable_url
from agentrl.errors import AgentRLError, ConfigError
from agentrl.monitoring import genai
from agentrl.monitoring.durations import seconds_between
from agentrl.monitoring.genai import Operation, named
from agentrl.monitoring.root_span import Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from requests import Session

SPANS_A_REQUEST = 512
OTLP_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "user-agent"}
)
TRACES, METRICS = "/v1/traces", "/v1/metrics"
CAUSE = re.compile(r"Failed to (?:establish|resolve)[^\"]*|code: \d{3}, reason: [^,]*")
"""What the exporter's many words come down to."""


class ExportError(AgentRLError):
    """The collector did not take what it was sent."""


def need_opentelemetry(wanted_by: str) -> None:
    """Find out that the extra is installed.

    Raises:
        ConfigError: it is not; how to install it.
    """
    try:
        is_there = all(find_spec(f"opentelemetry.{part}") for part in ("sdk", "exporter.otlp.proto.http"))
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise ConfigError(f"{wanted_by} needs OpenTelemetry: pip install 'agentrl[otel]'")


def resource(*, environment: str | None = None, bundle_id: str | None = None, run_hash: str | None = None) -> Resource:
    """Who sends, as far as it is the same for all sessions."""
    from opentelemetry.sdk.resources import Resource

    values = {
        "service": "agentrl",
        "service_version": __version__,
        "environment": environment,
        "bundle_id": bundle_id,
        "run_hash": run_hash,
        "revision": genai.REVISION,
    }
    return Resource(named(genai.RESOURCE, values))  # type: ignore[arg-type]  # all of them are texts


def to_otel(span: Span, resource: Resource) -> ReadableSpan:
    """The same span as OpenTelemetry's own record."""
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    def context(span_id: int) -> SpanContext:
        return SpanContext(span.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    def plain(attributes: Mapping[str, object]) -> dict[str, Any]:
        return dict(attributes)

    return ReadableSpan(
        name=span.name,
        context=context(span.span_id),
        parent=None if span.parent_id is None else context(span.parent_id),
        resource=resource,
        attributes=plain(span.attributes),
        events=[Event(each.name, plain(each.attributes), each.at_ns) for each in span.events],
        kind=SpanKind.CLIENT if span.operation is Operation.CHAT else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope("agentrl", __version__),
    )


class Collector:
    """A collector that spans, and histograms of them, are sent to.

    Args:
        endpoint: its address; the paths of the protocol are added.
        headers: `${NAME}` is replaced from the environment here, once.
        timeout_seconds: for one request, its retries included.
        spans_to: another exporter than OTLP/HTTP.
        with_metrics: also keep histograms, see `measure`.

    Raises:
        ConfigError: OpenTelemetry is not installed, a variable of a header is not set, or the address may not be used:
            a key does not travel in clear text over the internet.
    """

    def __init__(
        self,
        endpoint: str,
        resource: Resource,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 10.0,
        spans_to: SpanExporter | None = None,
        with_metrics: bool = False,
    ) -> None:
        need_opentelemetry("the export")
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        sent = resolve_headers("opentelemetry", headers or {})
        usable_url("opentelemetry", endpoint, has_secrets=bool(sent.secrets))
        self._resource, self._secrets = resource, sent.secrets
        options: dict[str, Any] = {"headers": sent.values, "timeout": timeout_seconds}
        options["session"] = plain_session(frozenset(name.lower() for name in sent.values))
        self._spans = spans_to or OTLPSpanExporter(endpoint=signal_url(endpoint, TRACES), **options)
        self._histograms: Histograms | None = None
        if with_metrics:
            self._histograms = Histograms(
                resource, OTLPMetricExporter(endpoint=signal_url(endpoint, METRICS), **options)
            )

    def send(self, spans: Sequence[Span]) -> None:
        """Send spans, in requests of a bounded size.

        Raises:
            ExportError: the collector did not take one of them; those before it will be the same when sent again.
        """
        from opentelemetry.sdk.trace.export import SpanExportResult

        for start in range(0, len(spans), SPANS_A_REQUEST):
            batch = [to_otel(span, self._resource) for span in spans[start : start + SPANS_A_REQUEST]]
            with _reasons() as reasons:
                result = self._spans.export(batch)
            if result is not SpanExportResult.SUCCESS:
                raise ExportError(self._why(reasons))

    def measure(self, spans: Iterable[Span]) -> str:
        """Add spans to the histograms and send these, which hold all so far; why they could not be sent, or nothing."""
        if self._histograms is None:
            return ""
        with _reasons() as reasons:
            is_taken = self._histograms.send(spans)
        return "" if is_taken else f"metrics: {self._why(reasons)}"

    def close(self) -> None:
        """Let go of connections."""
        self._spans.shutdown()

    def _why(self, reasons: Sequence[str]) -> str:
        found = [match[0] for reason in reasons for match in CAUSE.finditer(reason)]
        why = found[0] if found else "it could not be reached, or did not answer in time"
        told: str = strike_out(why, self._secrets)
        return told


def plain_session(names: frozenset[str]) -> Session:
    """HTTP that sends our headers alone, and takes a redirect for the refusal that it is.

    Exporters add what OTEL_EXPORTER_OTLP_HEADERS says, a key for another collector perhaps, and take 308 for a success.
    """
    from requests import PreparedRequest, Response, Session

    class PlainSession(Session):
        def send(self, request: PreparedRequest, **options: Any) -> Response:
            for name in {each.lower() for each in request.headers} - names - OTLP_HEADERS:
                del request.headers[name]
            answer = super().send(request, **{**options, "allow_redirects": False})
            if 300 <= answer.status_code < 400:
                answer.reason = f"it answered {answer.status_code} and leads elsewhere; give the final address"
                answer.status_code = 400
            return answer

    return PlainSession()


class Histograms:
    """Durations and tokens, in the conventions' units. No id of a session ever labels one of them."""

    def __init__(self, resource: Resource, exporter: MetricExporter) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        # read when a batch is recorded, by ourselves: a reader with a thread would export on its own time
        self._reader = InMemoryMetricReader()
        self._exporter = exporter
        provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        meter = provider.get_meter("agentrl", __version__)
        self._instruments = {
            each: meter.create_histogram(
                each.name,
                unit=each.unit,
                description=each.description,
                explicit_bucket_boundaries_advisory=each.boundaries,
            )
            for each in genai.METRICS
        }

    def send(self, spans: Iterable[Span]) -> bool:
        """Add these, and send all so far; whether the collector took it."""
        from opentelemetry.sdk.metrics.export import MetricExportResult

        for span in spans:
            self._record(span)
        found = self._reader.get_metrics_data()
        return found is None or self._exporter.export(found) is MetricExportResult.SUCCESS

    def _record(self, span: Span) -> None:
        seconds = seconds_between(span.start_ns, span.end_ns)
        told = span.attributes
        kept: dict[str, Any] = {name: told[name] for name in LABELS[span.operation] if name in told}
        metric = {
            Operation.INVOKE_AGENT: genai.AGENT_DURATION,
            Operation.CHAT: genai.CHAT_DURATION,
            Operation.EXECUTE_TOOL: genai.TOOL_DURATION,
        }[span.operation]
        self._instruments[metric].record(seconds, kept)
        if genai.POLICY_KL_VALUE in told:
            kl: Any = told[genai.POLICY_KL_VALUE]
            how: Any = {genai.POLICY_KL_ESTIMATOR: told.get(genai.POLICY_KL_ESTIMATOR, "")}
            self._instruments[genai.POLICY_KL].record(kl, kept | how)
        if span.operation is Operation.CHAT:
            usage = {key: value for key, value in kept.items() if key != genai.ERROR_TYPE}
            for kind in ("input", "output"):
                (name,) = genai.TURN[f"tokens_{'in' if kind == 'input' else 'out'}"]
                if name in told:
                    tokens: Any = told[name]
                    self._instruments[genai.TOKEN_USAGE].record(tokens, {**usage, genai.TOKEN_TYPE: kind})


LABELS: Mapping[Operation, tuple[str, ...]] = {
    Operation.INVOKE_AGENT: (
        genai.AGENT_NAME,
        genai.REQUEST_MODEL,
        genai.CHANNEL,
        genai.RELEASE_ARM,
        genai.ERROR_TYPE,
    ),
    Operation.CHAT: (genai.OPERATION_NAME, genai.PROVIDER_NAME, genai.REQUEST_MODEL, genai.ERROR_TYPE),
    Operation.EXECUTE_TOOL: (genai.TOOL_NAME, genai.TOOL_TYPE, genai.ERROR_TYPE),
}
"""What a span's histogram is divided by: few values each."""


def signal_url(endpoint: str, path: str) -> str:
    """The address of one signal: the protocol's path behind the collector's, which may have been given with one."""
    parts = urlsplit(endpoint)
    base = parts.path.rstrip("/").removesuffix(TRACES).removesuffix(METRICS)
    return urlunsplit(parts._replace(path=f"{base}{path}"))


def to_json_line(spans: Sequence[Span], resource: Resource) -> str:
    """One request of OTLP/JSON, as collectors read it from files: ids in hexadecimal, not in base64."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # it has no stubs
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    request = MessageToDict(encode_spans([to_otel(span, resource) for span in spans]), use_integers_for_enums=True)
    for each in request.get("resourceSpans", ()):
        for scope in each["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(request, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def _reasons() -> Iterator[list[str]]:
    """What the exporters log while they export: the only place where they say why they failed."""
    said: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, handler = logging.getLogger("opentelemetry.exporter"), Listening(logging.WARNING)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
