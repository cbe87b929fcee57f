"""Metrics that no gate of the config reads, as verdicts that decide nothing: all numbers of a brief are stored ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.release import GateConfig, MinSamples
from agentrl.release.gates.judge import Evidence, judge
from agentrl.release.gates.look import Look
from agentrl.release.records import Outcome, Verdict

ALPHA = 0.025
"""Of each side: the interval is one of 95 %, at every look."""
FEWEST = 30
"""Sessions of each arm below which there is no interval."""
NOT_READ = "no gate of the config reads it"

_MEAN: dict[str, Any] = {
    "stages": ["shadow", "canary"],
    "compare": "candidate_vs_baseline",
    "margin": {"absolute": 1.0},
    "test": "confidence_sequence",
}
ROWS: dict[str, dict[str, Any]] = {
    "task_success": BUILT_IN_GATES["task_success_not_worse"],
    "completion_quality": {
        **_MEAN,
        "metric": "completion_quality",
        "statistic": "mean",
        "direction": "higher_is_better",
    },
    "safety_violations": BUILT_IN_GATES["no_safety_regression"],
    "human_override_rate": {**BUILT_IN_GATES["human_override_rate_not_worse"], "label_lag": "PT0S"},
    "tool_error_rate": BUILT_IN_GATES["tool_error_rate_not_worse"],
    "session_seconds": BUILT_IN_GATES["latency_delta_lt_15_percent"],
    "session_seconds_p95": {
        **_MEAN,
        "metric": "session_seconds",
        "statistic": "quantile:0.95",
        "direction": "lower_is_better",
        "margin": {"relative": 1.0},
        "test": "bootstrap",
    },
    "cost_per_success": BUILT_IN_GATES["cost_per_success_not_worse"],
    "policy_kl_drift": BUILT_IN_GATES["policy_kl_drift_below_ceiling"],
    "reliability_score": {**BUILT_IN_GATES["reliability_score_not_worse"], "label_lag": "PT0S"},
}
"""By the name that they are shown under."""


def shown_verdicts(gates: Iterable[GateConfig], evidence: Evidence, look: Look) -> list[Verdict]:
    """Estimates with 95 % intervals of the metrics that no gate of this stage reads with the same statistic."""
    read = {(gate.metric, gate.statistic) for gate in gates if look.stage in gate.stages}
    found = []
    for name, row in ROWS.items():
        gate = shown_row(name, row)
        if (gate.metric, gate.statistic) not in read:
            verdict = judge(gate, evidence, look)
            reason = NOT_READ if verdict.lower is not None else f"{NOT_READ}; {verdict.reason}"
            found.append(
                replace(
                    verdict,
                    verdict=Outcome.INCONCLUSIVE,
                    reason=reason,
                    margin=None,
                    severity="soft",
                    is_shown_only=True,
                )
            )
    return found


def shown_row(name: str, row: dict[str, Any]) -> GateConfig:
    """The row of a metric that is only shown."""
    return GateConfig.model_validate(
        {
            **row,
            "name": name,
            "alpha_promote": ALPHA,
            "alpha_rollback": ALPHA,
            "min_samples": MinSamples(candidate=FEWEST, baseline=FEWEST),
        }
    )
