"""A collector on this machine: decodes what it is sent, or fails in the ways that collectors do."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class StubCollector:
    """What it was sent. `status` and `seconds` say how it answers, and may change, and so may `location`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.resources: list[dict[str, str]] = []
        self.status, self.seconds = 200, 0.0
        self.url = self.location = ""

    @property
    def roots(self) -> list[dict[str, Any]]:
        """The attributes of root spans."""
        return [attributes(span) for span in self.spans if not span.parent_span_id]

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(each.resource))
                self.spans += [span for scope in each.scope_spans for span in scope.spans]
        else:
            assert path == "/v1/metrics"
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics = [metric for scope in resource.scope_metrics for metric in scope.metrics]


def attributes(holder: Any) -> dict[str, Any]:
    """Of a span, an event, a resource or a data point."""

    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {each.key: plain(each.value) for each in holder.attributes}


@contextmanager
def collecting() -> Iterator[StubCollector]:
    stub = StubCollector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            stub.headers.append({name.lower(): value for name, value in self.headers.items()})
            time.sleep(stub.seconds)
            if stub.status == 200:
                stub.take(self.path, body)
            self.send_response(stub.status)
            if stub.location:
                self.send_header("Location", stub.location + self.path)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
