"""Users' sessions to an OpenTelemetry collector, where `tracking.opentelemetry` is configured.

Records are in the session log first. What becomes of them here delays nobody: they are put into a bounded queue, from
which a process of its own takes them. It is a collector's to be down, slow or wrong; what is then lost is counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrl.config import TrackingConfig
from agentrl.monitoring.courier import Courier, Deadlines
from agentrl.monitoring.otlp import need_opentelemetry
from agentrl.monitoring.session_process import as_message
from agentrl.monitoring.tracking import PYTHON

logger = logging.getLogger(__name__)

MAX_WAITING, MAX_WAITING_WITH_CONTENT = 10_000, 500
"""Sessions that the queue holds, and again those that the process holds while the collector does not take them."""
RETRY_SECONDS = 5.0
"""Until a collector that did not take sessions is asked again, where no others close meanwhile."""
AGAIN_SECONDS = 300.0
"""Until a process that was given up has a successor."""
FINISH_SECONDS = 2.0
"""That the end of a gateway waits for it; it waits no time for a collector that was in trouble before."""
LOG = "opentelemetry.log"
"""In the release's folder: what the process prints."""


class SessionExport:
    """Is told of records; begins and ends with the gateway.

    Args:
        folder: of the release, for the process's log.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """

    def __init__(self, tracking: TrackingConfig, folder: Path, *, again_seconds: float = AGAIN_SECONDS) -> None:
        need_opentelemetry("tracking.opentelemetry")
        assert tracking.opentelemetry is not None
        self._tracking, self._options, self._folder = tracking, tracking.opentelemetry, folder
        self._max_waiting = MAX_WAITING_WITH_CONTENT if self._options.content else MAX_WAITING
        self._again_seconds = again_seconds
        self._courier: Courier | None = None
        self._begun_at = 0.0
        self._taken = self._lost = 0  # of couriers that have ended

    def start(self) -> None:
        """Start the process."""
        self._courier = self._started()

    def tell(self, records: Sequence[tuple[Mapping[str, Any], bool]]) -> None:
        """Take records that are written, each with whether it was before; returns at once."""
        courier = self._courier
        if courier is None:
            return
        if courier.trouble and courier.has_ended and time.monotonic() - self._begun_at >= self._again_seconds:
            courier.close(time.monotonic())
            self._taken, self._lost = self._taken + courier.taken, self._lost + courier.lost
            courier = self._courier = self._started()
        courier.send(as_message(records, with_content=self._options.content), len(records))

    async def aclose(self) -> None:
        """Send what is left, within moments."""
        courier = self._courier
        if courier is not None:
            is_well = not (courier.trouble or courier.problem)
            until = time.monotonic() + (FINISH_SECONDS if is_well else 0.0)
            await asyncio.to_thread(courier.close, until)

    def counts(self) -> dict[str, int]:
        """Sessions that arrived, wait and were lost."""
        courier = self._courier
        if courier is None:
            return {"exported": 0, "waiting": 0, "dropped": 0}
        taken, lost, waiting = self._taken + courier.taken, self._lost + courier.lost, courier.waiting
        return {"exported": max(0, taken - lost - waiting), "waiting": waiting, "dropped": lost}

    def status(self) -> dict[str, Any]:
        """For operators."""
        courier = self._courier
        return {**self.counts(), "problem": "" if courier is None else courier.trouble or courier.problem}

    def gauges(self) -> dict[str, float]:
        """For Prometheus."""
        return {f"opentelemetry_{name}": float(count) for name, count in self.counts().items()}

    def _started(self) -> Courier:
        self._begun_at = time.monotonic()
        return Courier(
            "opentelemetry",
            [*PYTHON, "agentrl.monitoring.session_process"],
            {
                "options": self._options.model_dump(mode="json"),
                "log_seconds": self._tracking.log_seconds,
                "max_waiting": self._max_waiting,
            },
            Deadlines(self._tracking.start_seconds, self._tracking.log_seconds, FINISH_SECONDS),
            tell=logger.warning,
            units="sessions",
            kept="the session log has them",
            repair=f"does the collector at {self._options.endpoint} take OTLP over HTTP?",
            log=self._folder / LOG,
            max_units=self._max_waiting,
            retry_seconds=RETRY_SECONDS,
            whose="gateway",
        )
