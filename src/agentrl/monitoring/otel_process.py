"""`python -m agentrl.monitoring.otel_process`: rollouts from a run directory to a collector, see `courier`.

It is told the names of files as they are written, and reads them itself: the run spends nothing on it, and what a
collector did not take is still there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from agentrl.errors import AgentRLError
from agentrl.monitoring.content import Content
from agentrl.monitoring.otlp import Collector, ExportError, resource
from agentrl.monitoring.receiver import serve
from agentrl.monitoring.recorded_context import context_of, run_hash
from agentrl.monitoring.spans import spans_of
from agentrl.runs.files import rollouts_path
from agentrl.runs.trace_files import read_traces
from agentrl.runs.traces import from_trace

ROLLOUTS_AT_ONCE = 50
MAX_WAITING = 50
"""Files that wait for a collector to come back; the oldest are given up first."""


@dataclass(frozen=True)
class WrittenFile:
    """A file of rollouts, when it was written, and how many are in it."""

    name: str
    at: float
    units: int


class OtelReceiver:
    """Sends file after file; what a collector did not take is sent before what comes next."""

    def __init__(self) -> None:
        self.waiting: list[WrittenFile] = []
        self.done = 0
        """Rollouts of the first file that the collector has."""
        self.lost = 0

    def start(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        self.run, options = Path(settings["run_dir"]), settings["options"]
        self.log_seconds: float = settings["log_seconds"]
        self.finish_seconds: float = settings["finish_seconds"]
        self.content = Content(options["content_max_chars"]) if options["content"] else None
        self.timeout_seconds: float = options["timeout_seconds"]
        self.collector = Collector(
            options["endpoint"],
            resource(environment=options["environment"], run_hash=run_hash(self.run)),
            headers=options["headers"],
            timeout_seconds=self.timeout_seconds,
            with_metrics=options["metrics"],
        )
        return {}

    def receive(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        self.waiting.append(WrittenFile(message["file"], message["at"], message["units"]))
        if len(self.waiting) > MAX_WAITING:
            self.drop()
        warning = self.send_waiting(self.log_seconds)
        return {"warning": warning, "waiting": self.n_waiting}

    def finish(self) -> Mapping[str, Any]:
        warning = self.send_waiting(self.finish_seconds)
        return {"lost": self.lost + self.n_waiting, "warning": warning}

    @property
    def n_waiting(self) -> int:
        """Rollouts that the collector does not have yet."""
        return sum(each.units for each in self.waiting) - self.done

    def send_waiting(self, seconds: float) -> str:
        """Send what waits, oldest first, for at most so long; what went wrong, or nothing."""
        until = time.monotonic() + seconds - 2 * self.timeout_seconds  # spans and histograms begun in time take these
        warning = ""
        while self.waiting:
            try:
                warning = self.send_file(self.waiting[0], until) or warning
                if self.done < self.waiting[0].units:
                    break
                self.waiting.pop(0)
                self.done = 0
            except ExportError as error:
                return str(error)
            except (AgentRLError, ValueError, KeyError) as error:  # of this file alone: the next one may be whole
                warning = str(error)
                self.drop()
        return warning

    def send_file(self, file: WrittenFile, until: float) -> str:
        """Send rollouts of a file from where it was left, some at a time, while there is time; a first few always.

        Raises:
            ExportError: the collector does not take them.
            ConfigError: the file, or what the run keeps beside it, cannot be read.
        """
        context, warning = context_of(self.run, file.name), ""
        rollouts = islice(read_traces(rollouts_path(self.run, file.name), from_trace), self.done, None)
        while some := list(islice(rollouts, ROLLOUTS_AT_ONCE)):
            spans = [span for each in some for span in spans_of(each, context, ended_at=file.at, content=self.content)]
            self.collector.send(spans)
            warning = self.collector.measure(spans) or warning
            self.done += len(some)
            if time.monotonic() >= until:
                break
        return warning

    def drop(self) -> None:
        """Give up the oldest file."""
        self.lost += self.waiting.pop(0).units - self.done
        self.done = 0


if __name__ == "__main__":
    serve(OtelReceiver())
