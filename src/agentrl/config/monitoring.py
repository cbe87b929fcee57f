"""`monitoring:` what is watched once a policy serves users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from agentrl.config.section import ALLOW_LISTS, Positive, PositiveInt, Problem, Section, repeated

MonitoredMetric = Literal[
    "human_override_rate",
    "tool_error_rate",
    "policy_kl_drift",
    "completion_quality",
    "latency",
    "cost",
    "reliability_score",
]

SHIFTS: dict[MonitoredMetric, float] = {
    "human_override_rate": 0.05,
    "tool_error_rate": 0.03,
    "policy_kl_drift": 0.05,  # nats per token
    "completion_quality": 0.05,
    "latency": 0.25,  # of the geometric mean
    "cost": 0.25,
    "reliability_score": 0.05,
}
"""What is found soonest: the change to harm that a monitor is tuned to, where the config names none."""


class MonitoringConfig(Section):
    """A bare list of metric names is short for `metrics` alone."""

    metrics: Annotated[tuple[MonitoredMetric, ...], ALLOW_LISTS] = Field(
        default=(), description="Names of the metrics to watch."
    )
    window_hours: PositiveInt = Field(default=168, description="Length of the rolling window, in hours.")
    sessions_between_false_alarms: Annotated[int, Field(ge=1000)] = Field(
        default=100_000, description="Sessions between two false alarms of all monitors together, on average."
    )
    min_reference: Annotated[int, Field(ge=20)] = Field(
        default=100, description="Sessions that say what is normal; with fewer nothing is watched."
    )
    shifts: dict[MonitoredMetric, Positive] = Field(
        default={},
        description="Change to harm that a metric's monitor is tuned to find: points of a rate or a score, nats per "
        "token, for latency and cost a fraction. Others: 0.05, tool_error_rate 0.03, latency and cost 0.25.",
    )
    limits: dict[MonitoredMetric, float] = Field(
        default={},
        description="Worst value over a rolling window, in the metric's own unit: seconds, US dollars, a rate.",
    )
    roll_back_on: Annotated[tuple[MonitoredMetric, ...], ALLOW_LISTS] | None = Field(
        default=None, description="Metrics whose alarms bring a promoted policy back. Null: all that are watched."
    )

    def problems(self) -> Iterator[Problem]:
        for index in repeated(self.metrics):
            yield Problem(("metrics", index), f"found '{self.metrics[index]}' a second time; allowed: once")
        watched = ", ".join(self.metrics) or "none, as `metrics` is empty"
        for key, names in (("shifts", self.shifts), ("limits", self.limits), ("roll_back_on", self.roll_back_on or ())):
            for index, name in enumerate(names):
                if name not in self.metrics:
                    place = (key, index) if key == "roll_back_on" else (key, name)
                    yield Problem(place, f"found '{name}', which is not watched; allowed: {watched}")


def expand_metric_list(monitoring: Any) -> Any:
    """The short form to the long one."""
    return {"metrics": monitoring} if isinstance(monitoring, list | tuple) else monitoring
