"""Recorded rollouts to a collector or to a file, from the first to the last, telling how far that went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentrl.disk import replacing
from agentrl.monitoring.content import Content
from agentrl.monitoring.otlp import SPANS_A_REQUEST, Collector, ExportError, resource, to_json_line
from agentrl.monitoring.recorded_context import Recording
from agentrl.monitoring.root_span import Span
from agentrl.monitoring.spans import spans_of


@dataclass(frozen=True)
class Exported:
    """What arrived."""

    rollouts: int = 0
    spans: int = 0

    def and_more(self, sessions: Sequence[Sequence[Span]]) -> Exported:
        return Exported(self.rollouts + len(sessions), self.spans + sum(map(len, sessions)))


def send(recordings: Iterable[Recording], collector: Collector, content: Content | None = None) -> Exported:
    """Send every rollout; a run may hold more of them than fit into memory.

    Raises:
        ExportError: the collector stopped taking them; says how many it has.
        ConfigError: a file cannot be read.
    """
    done = Exported()
    for sessions in _requests(_sessions(recordings, content)):
        try:
            collector.send([span for session in sessions for span in session])
        except ExportError as error:
            again = "what it has keeps its ids, so all of it can be sent again"
            raise ExportError(f"it took {done.rollouts} rollouts, then: {error}; {again}") from None
        done = done.and_more(sessions)
    collector.close()
    return done


def write(recordings: Iterable[Recording], out: Path, content: Content | None = None) -> Exported:
    """Write one line of OTLP/JSON a rollout; the file is whole or not there.

    Raises:
        OSError: it cannot be written.
        ConfigError: a file cannot be read.
    """
    done, sender = Exported(), resource()
    with replacing(out) as file:
        for session in _sessions(recordings, content):
            file.write(to_json_line(session, sender).encode() + b"\n")
            done = done.and_more([session])
    return done


def _sessions(recordings: Iterable[Recording], content: Content | None) -> Iterator[list[Span]]:
    for recording in recordings:
        for rollout in recording.rollouts():
            yield spans_of(rollout, recording.context, ended_at=recording.ended_at, content=content)


def _requests(sessions: Iterable[list[Span]]) -> Iterator[list[list[Span]]]:
    """Whole sessions, about as many as make a request."""
    some: list[list[Span]] = []
    for session in sessions:
        some.append(session)
        if sum(map(len, some)) >= SPANS_A_REQUEST:
            yield some
            some = []
    if some:
        yield some
