"""`release:` how a trained policy reaches users. A gate is one row of data; a bare name is short for a built-in row.

Here a row is only checked to make sense; reading it is the business of the release room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.section import (
    ALLOW_LISTS,
    BrokenRules,
    Count,
    FilePath,
    NonEmpty,
    Positive,
    PositiveInt,
    Problem,
    Section,
    did_you_mean,
    repeated,
)

Stage = Literal["offline_eval", "shadow", "canary"]
Metric = Literal[
    "safety_violations",
    "task_success",
    "completion_quality",
    "session_seconds",
    "cost_per_success",
    "human_override_rate",
    "tool_error_rate",
    "policy_kl_drift",
    "rollback_seconds",
    "reliability_score",
]
Test = Literal["exact_paired", "newcombe", "bootstrap", "confidence_sequence", "group_sequential", "threshold"]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]
Duration = Annotated[str, Field(pattern=r"^P(\d+D|T\d+[HMS]|\d+DT\d+[HMS])$")]
"""ISO 8601, for example P7D or PT24H."""

STATISTICS = ("mean", "rate", "ratio_of_sums", "geo_mean", "max", "count")
STATISTICS_OF_TEST: dict[str, tuple[str, ...]] = {
    "exact_paired": ("rate",),
    "newcombe": ("rate",),
    "bootstrap": ("mean", "rate", "ratio_of_sums", "geo_mean", "quantile"),
    "confidence_sequence": ("mean", "rate", "ratio_of_sums", "geo_mean"),
    "group_sequential": ("mean", "rate", "ratio_of_sums", "geo_mean"),
    "threshold": (*STATISTICS, "quantile"),
}


class Margin(Section):
    """How much worse is still not worse: exactly one of the two."""

    relative: Positive | None = Field(default=None, description="As a fraction of the baseline's value.")
    absolute: Positive | None = Field(default=None, description="In the metric's own unit.")

    def problems(self) -> Iterator[Problem]:
        if (self.relative is None) == (self.absolute is None):
            yield Problem((), "allowed: exactly one of relative and absolute")


class MinSamples(Section):
    """Below these a gate is inconclusive."""

    candidate: Count = Field(default=100, description="Units seen on the candidate.")
    baseline: Count = Field(default=400, description="Units seen on the baseline.")


class GateConfig(Section):
    """What must be shown before a release goes on, and what brings it back."""

    name: NonEmpty = Field(description="The gate's name in verdicts and briefs.")
    stages: Annotated[tuple[Stage, ...], ALLOW_LISTS, Field(min_length=1)] = Field(
        default=("shadow", "canary"), description="Stages in which the gate is read."
    )
    metric: Metric = Field(description="What is measured.")
    unit: Literal["session", "drill"] = Field(default="session", description="Unit of analysis, never the request.")
    statistic: NonEmpty = Field(description="How units become one number: mean, rate, ..., or quantile:0.95.")
    compare: Literal["candidate_vs_baseline", "absolute"] = Field(
        default="candidate_vs_baseline", description="Against the baseline, with a margin, or against a limit."
    )
    direction: Literal["lower_is_better", "higher_is_better"] = Field(description="Which way is better.")
    margin: Margin | None = Field(default=None, description="Allowed loss against the baseline; never zero.")
    limit: float | None = Field(default=None, description="Bound of an absolute gate, in the metric's own unit.")
    test: Test = Field(description="How the bound is computed.")
    alpha_promote: Alpha = Field(default=0.05, description="Chance of promoting a candidate at the margin.")
    alpha_rollback: Alpha = Field(default=0.01, description="Chance of rolling back an equal candidate.")
    min_samples: MinSamples = Field(default=MinSamples(), description="Units before any verdict.")
    max_wait: Duration = Field(default="P7D", description="Longest time to stay inconclusive, ISO 8601.")
    label_lag: Duration = Field(default="PT24H", description="Time until a session's labels count, ISO 8601.")
    on_missing: Literal["inconclusive", "fail"] = Field(
        default="inconclusive", description="Verdict without data; it never passes."
    )
    severity: Literal["soft", "hard"] = Field(default="soft", description="hard: the first confirmed event rolls back.")

    def problems(self) -> Iterator[Problem]:
        if self.compare == "candidate_vs_baseline" and self.margin is None:
            yield Problem(("margin",), "missing; a gate against the baseline needs {relative: ...} or {absolute: ...}")
        if self.compare == "absolute" and self.limit is None:
            yield Problem(("limit",), "missing; a gate with compare: absolute needs its bound")
        if self.compare == "absolute" and self.margin is not None:
            yield Problem(("margin",), "found with compare: absolute; allowed: limit alone")
        if self.compare == "candidate_vs_baseline" and self.limit is not None:
            yield Problem(("limit",), "found with compare: candidate_vs_baseline; allowed: margin alone")
        if self.test == "threshold" and self.compare != "absolute":
            yield Problem(("test",), "found threshold; allowed with compare: absolute only, a comparison needs a bound")
        kind, _, quantile = self.statistic.partition(":")
        is_quantile = kind == "quantile" and bool(re.fullmatch(r"0\.\d*[1-9]\d*", quantile))
        if not is_quantile and self.statistic not in STATISTICS:
            known = f"{', '.join(STATISTICS)} or quantile:0.95"
            hint = did_you_mean(self.statistic, STATISTICS)
            yield Problem(("statistic",), f"found '{self.statistic}'; allowed: {known}{hint}")
        elif kind not in STATISTICS_OF_TEST[self.test]:
            known = ", ".join(STATISTICS_OF_TEST[self.test])
            yield Problem(("statistic",), f"found '{self.statistic}' with test: {self.test}; allowed: {known}")


def _expand(gate: Any) -> Any:
    """A bare name, or a row that names a built-in gate and changes some keys, to the full row."""
    row = {"name": gate} if isinstance(gate, str) else gate
    if isinstance(row, GateConfig):
        return row
    if not isinstance(row, dict):
        raise BrokenRules([Problem((), f"found {row!r}; allowed: the name of a gate, or a row with name and more")])
    if not isinstance(name := row.get("name"), str):
        return row
    if name in BUILT_IN_GATES:
        return {**BUILT_IN_GATES[name], **row}
    required = {key for key, field in GateConfig.model_fields.items() if field.is_required()}
    if required <= row.keys():
        return row
    known = ", ".join(BUILT_IN_GATES)
    hint = did_you_mean(name, BUILT_IN_GATES) or f"; allowed: {known}, or a row with {', '.join(sorted(required))}"
    raise BrokenRules([Problem((), f"unknown gate '{name}'{hint}")])


Gate = Annotated[GateConfig, BeforeValidator(_expand)]


class ReleaseConfig(Section):
    """Promotion needs every gate; any harm brings the release back."""

    canary_traffic_percent: Annotated[float, Field(gt=0, le=50)] = Field(
        default=5.0, description="Share of sessions that the canary serves, in percent."
    )
    gates: Annotated[tuple[Gate, ...], ALLOW_LISTS] = Field(
        default=(), description="Bare names of built-in gates, or rows."
    )
    folder: FilePath = Field(
        default="releases", description="Directory of bundles' files, the audit log, session records and briefs."
    )
    store: NonEmpty | None = Field(
        default=None,
        description="Database by URL, sqlite:///FILE or postgresql://...; ${NAME} is replaced from the environment. "
        "Null: SQLite in `folder`.",
    )
    sessions_per_week: PositiveInt | None = Field(
        default=None, description="Sessions of all users; planned sample sizes are told in days."
    )
    lease_seconds: Annotated[float, Field(ge=1, le=300)] = Field(
        default=30.0, description="Seconds for which a candidate is served after the controller last said so."
    )
    max_metrics_age_seconds: Positive = Field(
        default=30.0, description="Age at which what gateways report is too old to renew the lease on."
    )
    min_canary: Duration = Field(default="P7D", description="Shortest time as a canary, ISO 8601: a full week.")
    rollback_window: Duration = Field(
        default="P7D", description="Time after a promotion in which the previous policy is kept ready, ISO 8601."
    )
    min_drills: Count = Field(default=3, description="Rollback drills that must have passed before a canary starts.")
    approvals: Annotated[tuple[Literal["shadow", "canary", "general"], ...], ALLOW_LISTS] = Field(
        default=("canary", "general"), description="States that a person must approve before a release enters them."
    )
    promotion: Literal["automatic", "manual"] = Field(
        default="manual", description="Whether the controller promotes by itself what may be promoted."
    )
    count_by: Literal["failure", "incident"] = Field(
        default="failure", description="What two of within a week halt the workflow."
    )

    def problems(self) -> Iterator[Problem]:
        for index in repeated(gate.name for gate in self.gates):
            yield Problem(("gates", index), f"found '{self.gates[index].name}' a second time; allowed: once")
