"""Everybody who is told of a run while it goes on, as one object with two things to say to it.

with open_tracking(config, run.path, tell) as tracking:
    tracking.metrics(step, {"reward_train": 0.4})
    tracking.rollouts("train-000001", 256)
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig, TrackingConfig
from agentrl.disk import write_text
from agentrl.errors import AgentRLError, ConfigError
from agentrl.monitoring.courier import Courier, Deadlines
from agentrl.monitoring.hosted_names import with_hosted_names
from agentrl.monitoring.otlp import need_opentelemetry
from agentrl.monitoring.shared_config import shared_config
from agentrl.monitoring.trackers import KINDS
from agentrl.runs.files import METRICS, read_json, read_metrics, to_json

SILENT_SECONDS = 1.0
"""That the end of a run waits before it says for whom."""
PYTHON = (sys.executable, "-P", "-m")
"""Without the working directory, whose modules are none of ours, unless the run looks there itself."""
TRACKING = "tracking.json"
"""In a run directory: what each tracker calls the run, to go on with it after a resume."""


class Tracking:
    """The couriers of one run; without any, it says nothing to nobody.

    Args:
        last_step: the newest step that an earlier process of the run has told of; up to it, steps are taken again.
    """

    def __init__(
        self,
        tell: Callable[[str], None] = print,
        *,
        last_step: int = 0,
        hosted_names: bool = False,
        finish_seconds: float = 0.0,
    ) -> None:
        self.tell = tell
        self.trackers: list[Courier] = []
        self.exporter: Courier | None = None
        self.last_step, self.hosted_names, self.finish_seconds = last_step, hosted_names, finish_seconds

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Figures of a step: numbers alone, and those that are finite."""
        if not self.trackers:
            return
        numbers = {
            name: float(value)
            for name, value in values.items()
            if name != "step" and isinstance(value, int | float) and math.isfinite(value)
        }
        if self.hosted_names:
            numbers = with_hosted_names(numbers)
        for courier in self.trackers:
            courier.send({"step": step, "values": numbers, "is_again": step <= self.last_step})

    def rollouts(self, file: str, count: int) -> None:
        """A file of rollouts that is complete in the run directory."""
        if self.exporter is not None:
            self.exporter.send({"file": file, "units": count, "at": time.time()}, count)

    def close(self) -> None:
        """Let all of them send what is left, together for as long as the config says, and no longer."""
        until = time.monotonic() + self.finish_seconds
        for courier in self.couriers:
            courier.ask_to_finish()
        silent = min(until, time.monotonic() + SILENT_SECONDS)
        if busy := [courier.name for courier in self.couriers if not courier.wait(silent)]:
            self.tell(f"waiting up to {self.finish_seconds:g} s for {', '.join(busy)} (tracking.finish_seconds)")
        for courier in self.couriers:
            courier.close(until)

    @property
    def couriers(self) -> list[Courier]:
        return [*self.trackers, *([self.exporter] if self.exporter else [])]


@contextmanager
def open_tracking(
    config: RunConfig, run_dir: Path, tell: Callable[[str], None], *, is_first: bool = True
) -> Iterator[Tracking]:
    """Start whoever the config names, in processes of their own; the end of the block waits for them a stated time.

    Args:
        run_dir: of the run, with its config and manifest.
        tell: is told, once, of each that fails.
        is_first: whether this is the rank that speaks; the others tell nobody anything.
    """
    wanted = config.tracking if is_first else None
    if wanted is None:
        yield Tracking()
        return
    tracking = Tracking(
        tell, last_step=_last_step(run_dir), hosted_names=wanted.hosted_names, finish_seconds=wanted.finish_seconds
    )
    try:
        known = _Known(run_dir)
        for name in wanted.trackers:
            with _going_on_without(name, tell):
                if courier := _tracker(name, config, wanted, run_dir, known, tell):
                    tracking.trackers.append(courier)
        if wanted.opentelemetry is not None:
            with _going_on_without("opentelemetry", tell):
                tracking.exporter = _exporter(wanted, run_dir, tell)
        yield tracking
    finally:
        tracking.close()


@contextmanager
def _going_on_without(name: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Whatever is wrong with one of them, and with what we make of it, ends no run."""
    try:
        yield
    except Exception as error:
        tell(f"warning: {name}: {type(error).__name__}: {error}; the run goes on without it")


def _tracker(
    name: Any, config: RunConfig, wanted: TrackingConfig, run_dir: Path, known: _Known, tell: Callable[[str], None]
) -> Courier | None:
    kind = KINDS[name]
    spec = find_spec(kind.module)
    if spec is None or spec.origin is None:  # a folder of that name, which such a library may have left, is no package
        tell(f"warning: {name} is not installed, the run goes on without it: pip install {kind.package}")
        return None
    found = known.of(name)
    return Courier(
        name,
        [*PYTHON, "agentrl.monitoring.tracker_process"],
        {
            "name": name,
            "run_dir": str(run_dir.absolute()),
            "run_name": run_dir.resolve().name,
            "project": wanted.project or config.name,
            "options": wanted.options.get(name, {}),
            "config": shared_config(config.model_dump(mode="json")),
            "known": found or {},
            "is_resumed": found is not None,
        },
        Deadlines(wanted.start_seconds, wanted.log_seconds, wanted.finish_seconds),
        tell=tell,
        units="rows of metrics",
        kept=f"{run_dir / METRICS} has them",
        repair=kind.repair,
        on_started=lambda answer: known.note(name, answer.get("identity", {})),
        log=run_dir / f"tracking-{name}.log",
    )


def _exporter(wanted: TrackingConfig, run_dir: Path, tell: Callable[[str], None]) -> Courier | None:
    options = wanted.opentelemetry
    assert options is not None
    try:
        need_opentelemetry("tracking.opentelemetry")
    except ConfigError as error:
        tell(f"warning: {error}; the run goes on without it")
        return None
    return Courier(
        "opentelemetry",
        [*PYTHON, "agentrl.monitoring.otel_process"],
        {
            "run_dir": str(run_dir.absolute()),
            "options": options.model_dump(mode="json"),
            "log_seconds": wanted.log_seconds,
            "finish_seconds": wanted.finish_seconds,
        },
        Deadlines(wanted.start_seconds, wanted.log_seconds, wanted.finish_seconds),
        tell=tell,
        units="rollouts",
        kept=f"send them with `agentrl export otel {run_dir} --endpoint {options.endpoint}`",
        repair=f"does the collector at {options.endpoint} take OTLP over HTTP?",
        log=run_dir / "tracking-opentelemetry.log",
    )


class _Known:
    """tracking.json: read when the run is opened, written as trackers start, from their threads."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self._lock = run_dir, threading.Lock()
        self.found: dict[str, Any] = {}
        with suppress(AgentRLError, OSError):  # damaged: new runs are begun
            found = read_json(run_dir, TRACKING)
            self.found = found if isinstance(found, dict) else {}

    def of(self, name: str) -> dict[str, Any] | None:
        """What a tracker calls the run; None where it has not begun it."""
        found = self.found.get(name)
        return found if isinstance(found, dict) else None

    def note(self, name: str, identity: Mapping[str, Any]) -> None:
        with self._lock, suppress(OSError):  # a full disk is told of by those whom it stops
            self.found[name] = dict(identity)
            write_text(self.run_dir / TRACKING, to_json(self.found, indent=2) + "\n")


def _last_step(run_dir: Path) -> int:
    with suppress(AgentRLError, OSError):
        return max((int(row["step"]) for row in read_metrics(run_dir) if "step" in row), default=0)
    return 0
