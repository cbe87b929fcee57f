"""Rows of gates: what they may say, and what is said of those that may not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import load_config, to_yaml
from agentrl.config.durations import seconds_of
from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.metrics import METRICS
from agentrl.config.release import STATISTICS_OF_TEST, ReleaseConfig
from agentrl.errors import ConfigError

OWN: dict[str, Any] = {
    "name": "guard",
    "metric": "session_seconds",
    "statistic": "mean",
    "direction": "lower_is_better",
    "margin": {"relative": 0.1},
    "test": "confidence_sequence",
}
RATE = {**OWN, "metric": "task_success", "statistic": "rate", "margin": {"absolute": 0.1}}
LIMIT = {**OWN, "compare": "absolute", "margin": None, "limit": 1.0}
POLITE = {"name": "polite", "function": "team:polite"}


def refusal(tmp_path: Path, **release: Any) -> str:
    """As a person reads it: from a file."""
    import yaml

    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"workflow": {"target": "t", "baseline": "b"}, "release": release}))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "tool_error"}, "release.gates[0].metric: found 'tool_error'; allowed: safety_violations, "),
        ({"metric": "tool_error"}, "did you mean 'tool_error_rate'?"),
        ({"metric": "cost_per_success"}, "found 'mean' of cost_per_success; allowed: ratio_of_sums"),
        ({"statistic": "rate", "margin": {"absolute": 0.1}}, "found 'rate' of session_seconds; allowed: geo_mean"),
        ({"statistic": "quantile:0.95"}, "found 'quantile:0.95' with test: confidence_sequence; allowed: mean"),
        ({"statistic": "geo_mean", "margin": {"absolute": 1.0}}, "found absolute with statistic: geo_mean"),
        ({"margin": None}, "release.gates[0].margin: missing"),
        ({"margin": {"relative": 0.0}}, "release.gates[0].margin.relative"),
        ({"margin": {"relative": 0.1, "absolute": 0.1}}, "exactly one of relative and absolute"),
        ({"alpha_promote": 0.5}, "release.gates[0].alpha_promote"),
        ({"alpha_rollback": 0.0}, "release.gates[0].alpha_rollback"),
        ({"max_missing": 1.5}, "release.gates[0].max_missing"),
        ({"max_wait": "7 days"}, "found '7 days'; allowed: an ISO 8601 duration such as P7D"),
        ({"cap": 0.1}, "release.gates[0].cap: found; allowed with statistic: rate"),
        ({"fail_at_events": 1}, "release.gates[0].fail_at_events: found; allowed with statistic: rate"),
        ({"unit": "drill"}, "found 'drill' with metric: session_seconds; allowed: session"),
        ({"function": "team:f"}, "found with metric: session_seconds; allowed with metrics of the team's own"),
        ({"stages": []}, "release.gates[0].stages"),
        ({"stages": ["general"]}, "release.gates[0].stages[0]"),
        ({"looks": 0}, "release.gates[0].looks"),
        ({"assume": {"spread": 0.0}}, "release.gates[0].assume.spread"),
    ],
    ids=lambda value: ",".join(f"{key}={each}" for key, each in value.items())[:60] if isinstance(value, dict) else "",
)
def test_a_row_that_makes_no_sense_is_refused_with_what_is_allowed(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, gates=[{**OWN, **change}])


def test_what_a_rate_and_a_limit_may_say(tmp_path: Path) -> None:
    assert "found relative with statistic: rate; allowed: absolute" in refusal(
        tmp_path, gates=[{**RATE, "margin": {"relative": 0.1}}]
    )
    assert "found exact_paired with compare: absolute" in refusal(
        tmp_path, gates=[{**LIMIT, "metric": "task_success", "statistic": "rate", "test": "exact_paired"}]
    )
    assert ReleaseConfig(gates=({**RATE, "direction": "lower_is_better", "cap": 0.01, "fail_at_events": 3},))


@pytest.mark.parametrize("number", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize("key", ["limit", "alpha_promote", "max_missing"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, key: str, number: float) -> None:
    assert f"release.gates[0].{key}" in refusal(tmp_path, gates=[{**LIMIT, key: number}])


def test_names_of_gates_and_metrics_stand_once(tmp_path: Path) -> None:
    assert "found 'guard' a second time" in refusal(tmp_path, gates=[OWN, OWN])
    assert "found 'polite' a second time" in refusal(tmp_path, metrics=[POLITE, POLITE])
    assert "a metric that is there already" in refusal(tmp_path, metrics=[{"name": "task_success"}])
    assert "release.metrics[0].function" in refusal(tmp_path, metrics=[{"name": "polite", "function": "polite"}])


def test_a_row_is_told_how_a_metric_of_the_teams_own_is_measured() -> None:
    gates = ({**OWN, "metric": "polite"}, {**OWN, "name": "other", "metric": "stars"})
    release = ReleaseConfig(metrics=(POLITE, {"name": "stars"}), gates=gates)
    assert [gate.function for gate in release.gates] == ["team:polite", "feedback"]
    assert ReleaseConfig.model_validate(release.model_dump()) == release


def test_the_resolved_config_shows_the_long_form_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    gates = ", ".join(BUILT_IN_GATES)
    path.write_text(f"workflow: {{target: t, baseline: b}}\nrelease: {{gates: [{gates}]}}\n")
    config = load_config(path)
    (tmp_path / "resolved.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "resolved.yaml").release == config.release


def test_every_metric_has_a_statistic_that_some_test_reads() -> None:
    for name, metric in METRICS.items():
        read = {statistic for statistics in STATISTICS_OF_TEST.values() for statistic in statistics}
        assert set(metric.statistics) <= read, name


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("P7D", 604800.0), ("PT24H", 86400.0), ("PT0S", 0.0), ("P1DT12H", 129600.0), ("PT1H30M0.5S", 5400.5)],
    ids=str,
)
def test_durations_are_seconds(duration: str, seconds: float) -> None:
    assert seconds_of(duration) == seconds


@pytest.mark.parametrize("duration", ["", "P", "PT", "P1W", "P1M", "7D", "P-1D", "PT1H ", "P1DT"], ids=repr)
def test_what_is_no_duration_is_refused(duration: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        seconds_of(duration)
