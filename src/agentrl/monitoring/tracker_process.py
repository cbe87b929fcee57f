"""`python -m agentrl.monitoring.tracker_process`: one tracker in a process of its own, see `courier`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentrl.endpoint.address import VARIABLE, resolve_headers
from agentrl.monitoring.receiver import serve
from agentrl.monitoring.trackers import TrackedRun, Tracker


class TrackerReceiver:
    """Passes the metrics of steps on to a tracker."""

    def start(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        run = TrackedRun(
            run_dir=Path(settings["run_dir"]),
            project=settings["project"],
            name=settings["run_name"],
            known=settings["known"],
        )
        self.tracker = Tracker(settings["name"], run, resolved(settings["options"], settings["name"]))
        self.is_resumed: bool = settings["is_resumed"]
        if not self.is_resumed:
            self.tracker.configure(settings["config"])
        return {"identity": self.tracker.identity}

    def receive(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        is_again = self.is_resumed and message["is_again"]  # else this tracker has not seen the run's earlier steps
        return {"note": self.tracker.log(message["step"], message["values"], is_again=is_again)}

    def finish(self) -> Mapping[str, Any]:
        self.tracker.finish()
        return {}


def resolved(options: Any, where: str) -> Any:
    """Options with `${NAME}` replaced from the environment.

    Raises:
        ConfigError: a variable is not set.
    """
    if isinstance(options, dict):
        return {key: resolved(each, where) for key, each in options.items()}
    if isinstance(options, list):
        return [resolved(each, where) for each in options]
    if isinstance(options, str) and VARIABLE.search(options):
        return resolve_headers(f"tracking.options.{where}", {"option": options}).values["option"]
    return options


if __name__ == "__main__":
    serve(TrackerReceiver())
