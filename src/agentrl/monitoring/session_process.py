"""`python -m agentrl.monitoring.session_process`: users' sessions from a gateway to a collector, see `courier`.

It is sent records and keeps them, up to a bound, while the collector does not take them; the oldest are dropped first
and counted. The session log has them all.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

from agentrl.errors import AgentRLError
from agentrl.monitoring.content import Content
from agentrl.monitoring.otlp import Collector, ExportError, resource
from agentrl.monitoring.receiver import serve
from agentrl.monitoring.root_span import Span, user_span
from agentrl.monitoring.session_record import SessionRecord

SESSIONS_AT_ONCE = 50
KNOWN = frozenset(each.name for each in fields(SessionRecord))


class SessionReceiver:
    """Sends session after session; what a collector did not take is sent before what comes next."""

    def __init__(self) -> None:
        self.waiting: deque[Mapping[str, Any]] = deque()

    def start(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        options = settings["options"]
        self.log_seconds: float = settings["log_seconds"]
        self.max_waiting: int = settings["max_waiting"]
        self.content = Content(options["content_max_chars"]) if options["content"] else None
        self.timeout_seconds: float = options["timeout_seconds"]
        self.collector = Collector(
            options["endpoint"],
            resource(environment=options["environment"]),
            headers=options["headers"],
            timeout_seconds=self.timeout_seconds,
            with_metrics=options["metrics"],
        )
        return {}

    def receive(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        self.waiting.extend(message.get("sessions", ()))
        lost = max(0, len(self.waiting) - self.max_waiting)
        for _ in range(lost):
            self.waiting.popleft()
        until = time.monotonic() + self.log_seconds - 2 * self.timeout_seconds  # what is begun in time takes these
        warning, unsendable = self.send_waiting(until)
        return {"waiting": len(self.waiting), "lost": lost + unsendable, "warning": warning}

    def finish(self) -> Mapping[str, Any]:
        warning, lost = self.send_waiting(float("inf"))  # the gateway ends it where it waits no longer
        return {"lost": lost + len(self.waiting), "warning": warning}

    def send_waiting(self, until: float) -> tuple[str, int]:
        """Send what waits, oldest first, while there is time, a first few always; what went wrong, what is lost."""
        warning, lost = "", 0
        while self.waiting:
            some = list(islice(self.waiting, SESSIONS_AT_ONCE))
            spans = [(each["is_again"], self.span(each)) for each in some]
            try:
                self.collector.send([span for _, span in spans if span is not None])
            except ExportError as error:
                return str(error), lost
            fresh = [span for is_again, span in spans if span is not None and not is_again]  # histograms add up
            warning = self.collector.measure(fresh) or warning
            lost += sum(span is None for _, span in spans)
            for _ in some:
                self.waiting.popleft()
            if time.monotonic() >= until:
                break
        return warning, lost

    def span(self, session: Mapping[str, Any]) -> Span | None:
        """Of one session; without what was said where that cannot be read, None where nothing can."""
        for content in dict.fromkeys((self.content, None)):
            try:
                return span_of(session, content)
            except (AgentRLError, ValueError, TypeError, KeyError, AttributeError) as error:
                print(f"a session cannot be made a span: {type(error).__name__}", file=sys.stderr, flush=True)
        return None


def span_of(session: Mapping[str, Any], content: Content | None) -> Span:
    """Of what a gateway sends: {record, is_again}; a record has `content` where it was kept."""
    record: Mapping[str, Any] = session["record"]
    known: dict[str, Any] = {name: value for name, value in record.items() if name in KNOWN}
    said = record.get("content")
    return user_span(SessionRecord(**known), is_again=session["is_again"], content=content, said=said)


def as_message(sessions: Sequence[tuple[Mapping[str, Any], bool]], *, with_content: bool) -> dict[str, Any]:
    """What such a process is sent: records, and whether they were sent before."""
    left_out = () if with_content else ("content",)
    return {
        "sessions": [
            {"record": {key: value for key, value in record.items() if key not in left_out}, "is_again": is_again}
            for record, is_again in sessions
        ]
    }


if __name__ == "__main__":
    serve(SessionReceiver())
