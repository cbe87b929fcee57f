"""`release:` how a trained policy reaches users. A gate is one row of data; a bare name is short for a built-in row.

Here a row is only checked to make sense; reading it is the business of the release room.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from agentrl.config.costs import CostsConfig, OwnersConfig
from agentrl.config.durations import Duration
from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.metrics import CUSTOM_STATISTICS, METRICS, STATISTICS
from agentrl.config.section import (
    ALLOW_LISTS,
    BrokenRules,
    Count,
    FilePath,
    Fraction,
    NonEmpty,
    Positive,
    PositiveInt,
    Problem,
    Section,
    did_you_mean,
    repeated,
)

Stage = Literal["offline_eval", "shadow", "canary"]
Test = Literal["exact_paired", "newcombe", "bootstrap", "confidence_sequence", "group_sequential", "threshold"]
Alpha = Annotated[float, Field(gt=0, lt=0.5)]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,79}$")]

STATISTICS_OF_TEST: dict[str, tuple[str, ...]] = {
    "exact_paired": ("rate",),
    "newcombe": ("rate",),
    "bootstrap": ("mean", "rate", "ratio_of_sums", "geo_mean", "quantile"),
    "confidence_sequence": ("mean", "rate", "ratio_of_sums", "geo_mean"),
    "group_sequential": ("mean", "rate", "ratio_of_sums", "geo_mean"),
    "threshold": (*STATISTICS, "quantile"),
}
RELATIVE = ("ratio_of_sums", "geo_mean", "mean", "quantile")
"""Statistics that a margin may be a fraction of."""
FEEDBACK = "feedback"
"""In place of a function: the metric's number comes with the session, in `extra`."""


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


class Assumed(Section):
    """What planning takes for granted, as it counts sessions before there are any. No verdict rests on it."""

    baseline: float | None = Field(default=None, description="The statistic on the baseline, in its own unit.")
    spread: Positive | None = Field(
        default=None,
        description="Standard deviation between sessions: of a mean in the metric's unit, of a geo_mean that of the "
        "logarithm, of a ratio_of_sums as a fraction of the mean. Rates need none.",
    )


class MetricConfig(Section):
    """A metric that the team adds: one number a session, or None where it was not measured."""

    name: MetricName = Field(description="What rows of gates call it.")
    function: str | None = Field(
        default=None,
        pattern=r"^[^:]+:[^:]+$",
        description="package.module:function, which is given a SessionEvidence and returns a number or None. Null: the "
        "number of this name that came with the session's feedback.",
    )

    def problems(self) -> Iterator[Problem]:
        if self.name in METRICS:
            yield Problem(("name",), f"found '{self.name}', a metric that is there already; allowed: another name")


class GateConfig(Section):
    """What must be shown before a release goes on, and what brings it back."""

    name: NonEmpty = Field(description="The gate's name in verdicts and briefs.")
    stages: Annotated[tuple[Stage, ...], ALLOW_LISTS, Field(min_length=1)] = Field(
        default=("shadow", "canary"), description="Stages in which the gate is read."
    )
    metric: NonEmpty = Field(description="What is measured: one of the list, or of release.metrics.")
    function: str | None = Field(
        default=None, description="How a metric of the team's own is measured; filled in from release.metrics."
    )
    unit: Literal["session", "drill"] = Field(default="session", description="Unit of analysis, never the request.")
    statistic: NonEmpty = Field(description="How units become one number: mean, rate, ..., or quantile:0.95.")
    compare: Literal["candidate_vs_baseline", "absolute"] = Field(
        default="candidate_vs_baseline", description="Against the baseline, with a margin, or against a limit."
    )
    direction: Literal["lower_is_better", "higher_is_better"] = Field(description="Which way is better.")
    margin: Margin | None = Field(default=None, description="Allowed loss against the baseline; never zero.")
    limit: float | None = Field(default=None, description="Bound of an absolute gate, in the metric's own unit.")
    cap: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Of a rate: the candidate's own must be shown to be below it, too, by its exact upper bound.",
    )
    fail_at_events: PositiveInt | None = Field(
        default=None,
        description="Of a rate that is better lower: so many sessions of the candidate with an event fail the gate by "
        "themselves. Null: the bound decides.",
    )
    test: Test = Field(description="How the bound is computed; evidence in pairs is always compared within them.")
    alpha_promote: Alpha = Field(default=0.05, description="Chance of promoting a candidate at the margin.")
    alpha_rollback: Alpha = Field(
        default=0.01, description="Chance of rolling back an equal candidate; shared by the gates of a stage."
    )
    min_samples: MinSamples = Field(default=MinSamples(), description="Units before any verdict.")
    planned_sessions: PositiveInt | None = Field(
        default=None,
        description="Sessions of the candidate at which a confidence_sequence is sharpest and a group_sequential test "
        "ends. Null: computed from margin and `assume`.",
    )
    looks: Annotated[int, Field(ge=1, le=50)] = Field(default=5, description="Looks of a group_sequential test.")
    assume: Assumed = Field(default=Assumed(), description="What planning takes for granted.")
    max_wait: Duration = Field(default="P7D", description="Longest time to stay inconclusive, ISO 8601.")
    label_lag: Duration = Field(
        default="PT0S", description="Age from which on a session counts, when people have labelled it; ISO 8601."
    )
    max_missing: Fraction = Field(
        default=0.2, description="Share of an arm's sessions without the metric above which nothing is decided."
    )
    on_missing: Literal["inconclusive", "fail"] = Field(
        default="inconclusive", description="Verdict without data; it never passes."
    )
    severity: Literal["soft", "hard"] = Field(
        default="soft", description="hard: harm counts from zero on; soft: from the margin on."
    )

    def problems(self) -> Iterator[Problem]:
        yield from self._bound_problems()
        yield from self._statistic_problems()

    def _bound_problems(self) -> Iterator[Problem]:
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
        if self.test == "exact_paired" and self.compare == "absolute":
            yield Problem(("test",), "found exact_paired with compare: absolute; allowed: newcombe, or another test")
        kind = self.statistic.partition(":")[0]
        if self.margin is not None and self.margin.relative is not None and kind not in RELATIVE:
            yield Problem(("margin",), f"found relative with statistic: {self.statistic}; allowed: absolute")
        if self.margin is not None and self.margin.absolute is not None and kind == "geo_mean":
            yield Problem(("margin",), "found absolute with statistic: geo_mean; allowed: relative, it is a ratio")
        is_rate = kind == "rate"
        if self.cap is not None and not (is_rate and self.direction == "lower_is_better"):
            yield Problem(("cap",), "found; allowed with statistic: rate and direction: lower_is_better only")
        if self.fail_at_events is not None and not (is_rate and self.direction == "lower_is_better"):
            yield Problem(
                ("fail_at_events",), "found; allowed with statistic: rate and direction: lower_is_better only"
            )

    def _statistic_problems(self) -> Iterator[Problem]:
        kind, _, quantile = self.statistic.partition(":")
        is_quantile = kind == "quantile" and bool(re.fullmatch(r"0\.\d*[1-9]\d*", quantile))
        if self.function is None and self.metric not in METRICS:
            hint = did_you_mean(self.metric, METRICS)
            known = f"{', '.join(METRICS)}, or one of release.metrics"
            yield Problem(("metric",), f"found '{self.metric}'; allowed: {known}{hint}")
        elif (row := METRICS.get(self.metric)) is not None and self.function is not None:
            yield Problem(
                ("function",), f"found with metric: {self.metric}; allowed with metrics of the team's own only"
            )
        if not is_quantile and self.statistic not in STATISTICS:
            known = f"{', '.join(STATISTICS)} or quantile:0.95"
            hint = did_you_mean(self.statistic, STATISTICS)
            yield Problem(("statistic",), f"found '{self.statistic}'; allowed: {known}{hint}")
            return
        row = METRICS.get(self.metric)
        of_metric = row.statistics if row else CUSTOM_STATISTICS
        if kind not in STATISTICS_OF_TEST[self.test]:
            known = ", ".join(STATISTICS_OF_TEST[self.test])
            yield Problem(("statistic",), f"found '{self.statistic}' with test: {self.test}; allowed: {known}")
        elif kind not in of_metric and (row is not None or self.function is not None):
            yield Problem(("statistic",), f"found '{self.statistic}' of {self.metric}; allowed: {', '.join(of_metric)}")
        if row is not None and self.unit != row.unit:
            yield Problem(("unit",), f"found '{self.unit}' with metric: {self.metric}; allowed: {row.unit}")
        if self.metric == "rollback_seconds" and set(self.stages) == {"offline_eval"}:
            yield Problem(("stages",), "found offline_eval alone; allowed: shadow or canary, where there are drills")


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
    metrics: Annotated[tuple[MetricConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Metrics of the team's own, which rows of gates may name."
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
    look_seconds: Positive = Field(
        default=30.0,
        description="Seconds between looks at the gates; a violation by the candidate is looked at at once.",
    )
    min_canary: Duration = Field(default="P7D", description="Shortest time as a canary, ISO 8601: a full week.")
    rollback_window: Duration = Field(
        default="P7D", description="Time after a promotion in which the previous policy is kept ready, ISO 8601."
    )
    min_drills: Count = Field(default=3, description="Rollback drills that must have passed before a canary starts.")
    approvals: Annotated[tuple[Literal["shadow", "canary", "general"], ...], ALLOW_LISTS] = Field(
        default=("canary", "general"), description="States that a person must approve before a release enters them."
    )
    approval_valid: Duration = Field(
        default="P1D", description="Time for which an approval counts, as long as what was approved is unchanged."
    )
    approver_is_other: bool = Field(
        default=False, description="Whether who started a release is refused as its approver; a team of one cannot."
    )
    required_suites: Annotated[tuple[Literal["capability", "adversarial", "frozen"], ...], ALLOW_LISTS] = Field(
        default=("capability", "adversarial", "frozen"),
        description="Kinds of suites that must have been passed offline before a release enters shadow.",
    )
    promotion: Literal["automatic", "manual"] = Field(
        default="manual", description="Whether the controller promotes by itself what may be promoted."
    )
    count_by: Literal["failure", "incident"] = Field(
        default="failure", description="What two of within a week halt the workflow."
    )

    owners: OwnersConfig = Field(default=OwnersConfig(), description="Who answers for it; printed in briefs.")
    contact: str = Field(default="", description="Where people reach them, such as an address; printed in briefs.")
    limits: Annotated[tuple[NonEmpty, ...], ALLOW_LISTS] = Field(
        default=(), description="What is known to be untested or unfit, a sentence each; printed in briefs."
    )
    costs: CostsConfig = Field(default=CostsConfig(), description="What it costs beside its tokens, and is worth.")

    @model_validator(mode="before")
    @classmethod
    def _metrics_known(cls, values: Any) -> Any:
        """Rows of gates are told how a metric of the team's own is measured: a row is all that a verdict needs."""
        if not isinstance(values, dict) or not isinstance(values.get("gates"), list | tuple):
            return values
        listed = values.get("metrics")
        own = {}
        for each in listed if isinstance(listed, list | tuple) else ():
            metric = each.model_dump() if isinstance(each, MetricConfig) else each
            if isinstance(metric, dict) and isinstance(metric.get("name"), str):
                own[metric["name"]] = metric.get("function") or FEEDBACK
        gates = [
            {**gate, "function": own[gate["metric"]]}
            if isinstance(gate, dict) and isinstance(gate.get("metric"), str) and gate["metric"] in own
            else gate
            for gate in values["gates"]
        ]
        return {**values, "gates": gates}

    def problems(self) -> Iterator[Problem]:
        for index in repeated(metric.name for metric in self.metrics):
            yield Problem(("metrics", index), f"found '{self.metrics[index].name}' a second time; allowed: once")
        for index in repeated(gate.name for gate in self.gates):
            yield Problem(("gates", index), f"found '{self.gates[index].name}' a second time; allowed: once")
