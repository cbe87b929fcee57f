"""`monitoring:` what is watched once a policy serves users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from agentrl.config.section import ALLOW_LISTS, PositiveInt, Problem, Section, repeated

MonitoredMetric = Literal[
    "human_override_rate",
    "tool_error_rate",
    "policy_kl_drift",
    "completion_quality",
    "latency",
    "cost",
    "reliability_score",
]


class MonitoringConfig(Section):
    """A bare list of metric names is short for `metrics` alone."""

    metrics: Annotated[tuple[MonitoredMetric, ...], ALLOW_LISTS] = Field(
        default=(), description="Names of the metrics to watch."
    )
    window_hours: PositiveInt = Field(default=168, description="Length of the rolling window, in hours.")

    def problems(self) -> Iterator[Problem]:
        for index in repeated(self.metrics):
            yield Problem(("metrics", index), f"found '{self.metrics[index]}' a second time; allowed: once")


def expand_metric_list(monitoring: Any) -> Any:
    """The short form to the long one."""
    return {"metrics": monitoring} if isinstance(monitoring, list | tuple) else monitoring
