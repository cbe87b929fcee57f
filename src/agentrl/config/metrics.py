"""What gates may measure: the closed list of metrics, and what each may be summed up as.

How a metric is read off a session is written in `release/gates/metrics.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

STATISTICS = ("mean", "rate", "ratio_of_sums", "geo_mean", "max", "count")
"""Besides quantile:0.95 and the like."""


@dataclass(frozen=True)
class MetricRow:
    """One metric of the list."""

    says: str
    """What it is, in one line, with its unit."""
    statistics: tuple[str, ...]
    """What its sessions may be summed up as; `quantile` stands for all of them."""
    unit: str = "session"
    baseline: float | None = None
    """What planning assumes of the baseline, in the statistic's own unit, where the row of a gate says nothing."""
    spread: float | None = None
    """What planning assumes of the spread between sessions, see `Assumed.spread`. Rates need none."""
    is_sampled: bool = False
    """Measured on some sessions by design: the others are not missing."""


METRICS: dict[str, MetricRow] = {
    "safety_violations": MetricRow(
        "sessions with a violation of safety (rate), or violations (mean, max, count)",
        ("rate", "mean", "max", "count"),
        baseline=0.002,
        spread=0.05,
    ),
    "task_success": MetricRow("sessions whose task was done", ("rate",), baseline=0.8),
    "completion_quality": MetricRow("a grader's score", ("mean", "quantile"), baseline=0.7, spread=0.3),
    "session_seconds": MetricRow(
        "what the user waited for, in seconds",
        ("geo_mean", "mean", "quantile", "max"),
        baseline=10.0,
        spread=0.8,  # of the logarithm
    ),
    "cost_per_success": MetricRow(
        "US dollars of all sessions over sessions that succeeded", ("ratio_of_sums",), baseline=0.01, spread=0.7
    ),
    "human_override_rate": MetricRow("sessions that a person overrode", ("rate",), baseline=0.05),
    "tool_error_rate": MetricRow(
        "tool calls that failed by the policy's doing over tool calls", ("ratio_of_sums",), baseline=0.03, spread=2.0
    ),
    "policy_kl_drift": MetricRow(
        "distance of the candidate from its frozen reference, in nats per token",
        ("mean", "ratio_of_sums", "quantile", "max"),
        baseline=0.05,
        spread=0.05,
        is_sampled=True,
    ),
    "rollback_seconds": MetricRow("seconds from the decision to the last answer, of a drill", ("max",), unit="drill"),
    "reliability_score": MetricRow(
        "success x (1 - override) x (1 - tool error)", ("mean",), baseline=0.75, spread=0.45
    ),
}
"""By the name that rows of gates use."""

CUSTOM_STATISTICS = ("mean", "rate", "geo_mean", "max", "count", "quantile")
"""Of a metric that a team adds: one number a session, so there is nothing to divide by."""
