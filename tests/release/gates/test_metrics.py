from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from agentrl.config.gates import BUILT_IN_GATES
from agentrl.config.metrics import METRICS
from agentrl.config.release import ReleaseConfig
from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.gates import judge
from agentrl.release.gates.explain import explain, explanation_text
from agentrl.release.gates.metrics import load_metric, reading_of
from agentrl.release.gates.planned import needed, plan
from agentrl.release.records import Arm, Outcome, SessionEvidence
from tests.release.gates.sessions import both, look, row, rows, session

CANDIDATE = Arm.CANDIDATE
PYTHON = """
def politeness(session):
    return None if session.quality is None else session.quality / 2

def broken(session):
    raise KeyError("tone")

def text(session):
    return "polite"
"""


@pytest.fixture
def own_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "team_metrics.py").write_text(PYTHON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "team_metrics", raising=False)
    load_metric.cache_clear()


def own(function: str | None = "team_metrics:politeness", **keys: Any) -> ReleaseConfig:
    gate = {
        "name": "politeness_not_worse",
        "metric": "politeness",
        "statistic": "mean",
        "direction": "higher_is_better",
        "margin": {"absolute": 0.05},
        "test": "confidence_sequence",
        **keys,
    }
    return ReleaseConfig(metrics=({"name": "politeness", "function": function},), gates=(gate,))


@pytest.mark.parametrize("metric", [name for name, found in METRICS.items() if found.unit == "session"])
def test_a_session_of_which_nothing_is_known_is_missing(metric: str) -> None:
    gate = next(gate for gate in rows() if gate.metric == metric) if metric != "completion_quality" else None
    if gate is None:
        quality = {"metric": metric, "statistic": "mean", "direction": "higher_is_better", "margin": {"absolute": 0.1}}
        gate = row("quality", **quality, test="bootstrap")
    assert reading_of(gate)(SessionEvidence("s", CANDIDATE)) is None
    assert reading_of(gate)(session(1, CANDIDATE, policy_kl=0.1, policy_kl_tokens=5)) is not None


def test_what_metrics_read() -> None:
    one = session(1, CANDIDATE, success=False, safety_violations=3, cost_usd=0.5, tool_calls=4, tool_errors=1,
                  seconds=0.0, policy_kl=0.1, policy_kl_tokens=50)  # fmt: skip
    assert reading_of(row("no_safety_regression"))(one) == ((1.0, 1.0),)
    assert reading_of(row("cost_per_success_not_worse"))(one) == ((0.5, 0.0),)
    assert reading_of(row("tool_error_rate_not_worse"))(one) == ((1.0, 4.0),)
    assert reading_of(row("latency_delta_lt_15_percent"))(one) == ((0.001, 1.0),)
    assert reading_of(row("policy_kl_drift_below_ceiling"))(one) == ((0.1, 1.0),)
    assert reading_of(row("policy_kl_drift_below_ceiling", statistic="ratio_of_sums", test="bootstrap"))(one) == (
        (5.0, 50.0),
    )
    assert reading_of(row("reliability_score_not_worse"))(one) == ((0.0, 1.0), (1.0, 1.0), (3.0, 4.0))


def test_a_function_of_the_teams_own_is_a_metric(own_metrics: None) -> None:
    gate = own().gates[0]
    assert gate.function == "team_metrics:politeness"
    assert reading_of(gate)(session(1, CANDIDATE, quality=0.5)) == ((0.25, 1.0),)
    assert reading_of(gate)(session(1, CANDIDATE, quality=None)) is None
    assert judge(gate, both(1500), look()).verdict is Outcome.PASS


def test_a_function_that_changed_is_another_gate(own_metrics: None) -> None:
    before = judge(own().gates[0], both(5), look()).gate_digest
    Path("team_metrics.py").write_text(PYTHON.replace("/ 2", "/ 3"))
    after = judge(own().gates[0], both(5), look()).gate_digest
    assert before != after


def test_a_number_that_comes_with_feedback_is_a_metric() -> None:
    gate = own(None).gates[0]
    assert reading_of(gate)(session(1, CANDIDATE, extra={"politeness": 0.75})) == ((0.75, 1.0),)
    assert reading_of(gate)(session(1, CANDIDATE)) is None


def test_a_function_that_raises_or_gives_no_number_is_named(own_metrics: None) -> None:
    for function, found in (("broken", "raised KeyError"), ("text", "returned 'polite'")):
        with pytest.raises(ReleaseError, match=f"the metric politeness {found}"):
            judge(own(f"team_metrics:{function}").gates[0], both(5), look())
    with pytest.raises(ConfigError, match=r"politness does not exist .*did you mean 'politeness'"):
        reading_of(own("team_metrics:politness").gates[0])


@pytest.mark.parametrize(
    ("keys", "candidate"),
    [
        ({"name": "task_success_not_worse"}, 417),
        ({"name": "task_success_not_worse", "margin": {"absolute": 0.02}}, 2604),
        ({"name": "latency_delta_lt_15_percent"}, 214),
        ({"name": "task_success_not_worse", "planned_sessions": 1000}, 1000),
    ],
    ids=["5_points", "2_points", "latency", "given"],
)
def test_planned_sizes_are_those_of_the_formula(keys: dict[str, Any], candidate: int) -> None:
    found = plan(row(**keys), share=0.05)
    assert found is not None
    assert found.candidate == pytest.approx(candidate, rel=0.01)


def test_a_metric_without_assumptions_is_not_planned_and_says_which_key_is_missing() -> None:
    assert plan(own(None).gates[0], share=0.05).reason == "not planned: the row says no assume.spread"  # type: ignore[union-attr]
    planned = needed(own(None, assume={"spread": 0.2}).gates[0], "canary", share=0.05)
    assert planned is not None
    assert planned.candidate is not None


def test_every_built_in_row_is_explained_within_the_width() -> None:
    release = ReleaseConfig(gates=tuple(BUILT_IN_GATES), sessions_per_week=9000)
    for width in (80, 100, 120):
        text = explanation_text(release, explain(release), width=width)
        assert max(map(len, text.splitlines())) <= width
        assert all(f"\n{name}  (" in text for name in BUILT_IN_GATES)


def test_a_gate_that_cannot_decide_in_time_is_a_warning() -> None:
    release = ReleaseConfig(gates=("task_success_not_worse",), sessions_per_week=2000)
    canary = explain(release)[0].stages[-1]
    assert canary.warning.startswith("cannot decide in time: about 53.3 days at 2,000 sessions a week, max_wait is P7D")
    assert "  !            cannot decide in time" in explanation_text(release, explain(release), width=100)
    richer = ReleaseConfig(gates=("task_success_not_worse",), sessions_per_week=50_000)
    assert not any(stage.warning for stage in explain(richer)[0].stages)


def test_a_gate_that_nobody_can_measure_in_shadow_is_a_warning() -> None:
    stages = ["shadow"]
    release = ReleaseConfig(
        gates=(
            {"name": "tool_error_rate_not_worse", "stages": stages},
            {"name": "task_success_not_worse", "stages": stages},
        )
    )
    told = [each.stages[0].warning for each in explain(release, is_shadow_graded=False)]
    assert "leave shadow out of `stages`" in told[0]
    assert "where gateway.shadow.grade is on, and it is off" in told[1]
    assert explain(release, is_shadow_graded=True)[1].stages[0].warning == ""
