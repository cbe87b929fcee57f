"""Watching a policy: harm is found and dated, outages blame nobody, and nothing is said twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from agentrl.config import MonitoringConfig
from agentrl.config.monitoring import SHIFTS
from agentrl.errors import ConfigError
from agentrl.monitoring.alarms import Watched, watch
from agentrl.monitoring.windows import windows

START, MINUTE = 1_780_000_000.0, 60.0


@dataclass(frozen=True)
class Session:
    """One, as gates' evidence has it."""

    at: float
    success: bool | None = None
    quality: float | None = None
    seconds: float | None = None
    cost_usd: float | None = None
    human_override: bool | None = None
    tool_calls: int | None = None
    tool_errors: int | None = None
    tool_infra_errors: int | None = None
    policy_kl: float | None = None


def sessions(
    n: int,
    seed: int,
    *,
    start: float = START,
    override: float = 0.05,
    error: float = 0.03,
    infra: float = 0.0,
    success: float = 0.9,
    slower: float = 1.0,
) -> list[Session]:
    """One a minute."""
    rng = np.random.default_rng(seed)
    calls = rng.integers(1, 6, n)
    return [
        Session(
            at=start + MINUTE * index,
            success=bool(rng.random() < success),
            quality=float(rng.beta(8, 2)),
            seconds=float(slower * rng.lognormal(2, 0.6)),
            cost_usd=float(rng.lognormal(-4, 0.5)),
            human_override=bool(rng.random() < override),
            tool_calls=int(calls[index]),
            tool_errors=int(rng.binomial(calls[index], error)),
            tool_infra_errors=int(rng.binomial(calls[index], infra)),
            policy_kl=float(rng.gamma(2, 0.02)),
        )
        for index in range(n)
    ]


def later(n: int, seed: int, after: Sequence[Session], **how: float) -> list[Session]:
    """Sessions that go on where others end."""
    return [*after, *sessions(n, seed, start=after[-1].at + MINUTE, **how)]


ALL = MonitoringConfig(metrics=tuple(SHIFTS))
REFERENCE = sessions(800, 1, start=START - 800 * MINUTE)
GOOD = sessions(400, 2)


def watched(own: list[Session], config: MonitoringConfig = ALL, concurrent: Sequence[Session] = ()) -> Watched:
    return watch(config, own, reference=REFERENCE, concurrent=concurrent, now=own[-1].at if own else START)


def test_a_policy_as_good_as_before_rings_no_alarm() -> None:
    found = watched(sessions(2000, 3))
    assert found == Watched((), False, ())


@pytest.mark.parametrize(
    ("metric", "harm"),
    [
        ("human_override_rate", {"override": 0.25}),
        ("tool_error_rate", {"error": 0.15}),
        ("latency", {"slower": 2.0}),
        ("reliability_score", {"success": 0.6}),
    ],
)
def test_harm_is_found_dated_and_brings_the_policy_back(metric: str, harm: dict[str, float]) -> None:
    found = watched(later(300, 4, GOOD, **harm), MonitoringConfig(metrics=(metric,)))
    first = found.alarms[0]
    began = GOOD[-1].at
    assert first.metric == metric
    assert first.may_roll_back
    assert began - 30 * MINUTE < first.since < first.at < began + 250 * MINUTE
    assert "was expected" in first.text
    assert "UTC" in first.text
    assert not found.is_shared_outage


def test_the_same_alarm_has_the_same_id_at_every_later_call() -> None:
    bad = later(300, 5, GOOD, override=0.4)
    config = MonitoringConfig(metrics=("human_override_rate",))
    whole = watched(bad, config).alarms
    cut = watched([each for each in bad if each.at <= whole[0].at], config).alarms
    assert [each.id for each in cut] == [whole[0].id]
    assert len({each.id for each in whole}) == len(whole)


def test_sessions_of_the_future_and_open_windows_do_not_count() -> None:
    bad = later(300, 6, GOOD, override=0.5)
    config = MonitoringConfig(metrics=("human_override_rate",))
    assert not watch(config, bad, reference=REFERENCE, now=GOOD[-1].at).alarms
    still_open = [replace(each, human_override=None) if each.at > GOOD[-1].at else each for each in bad]
    assert not watched(still_open, config).alarms


def test_an_outage_of_both_arms_blames_nobody() -> None:
    """F47: the baseline degrades at the same time."""
    own = later(200, 7, GOOD, success=0.4, slower=3.0)
    other = later(200, 8, sessions(400, 9), success=0.4, slower=3.0)
    found = watched(own, MonitoringConfig(metrics=("latency", "reliability_score")), other)
    assert found.is_shared_outage
    assert {alarm.kind for alarm in found.alarms} == {"infra"}
    assert not any(alarm.may_roll_back for alarm in found.alarms)
    assert "the other policy is worse since the same moment" in found.alarms[0].text


def test_harm_of_one_arm_is_its_own_while_the_other_goes_on_as_before() -> None:
    own = later(200, 10, GOOD, success=0.4)
    found = watched(own, MonitoringConfig(metrics=("reliability_score",)), sessions(600, 11))
    assert found.alarms[0].may_roll_back
    assert not found.is_shared_outage


def test_an_outage_of_the_tools_servers_explains_the_drift_it_causes() -> None:
    """F47: without a second arm, the errors that are the servers' own tell."""
    own = later(200, 12, GOOD, success=0.4, infra=0.5)
    found = watched(own, MonitoringConfig(metrics=("reliability_score",)))
    assert found.is_shared_outage
    assert {alarm.metric for alarm in found.alarms} == {"infra", "reliability_score"}
    assert not any(alarm.may_roll_back for alarm in found.alarms)


def test_an_outage_that_is_over_is_no_excuse_for_what_comes_later() -> None:
    outage = later(100, 13, GOOD, success=0.4, infra=0.5)
    over = later(400, 14, outage)
    assert not watched(over, MonitoringConfig(metrics=("reliability_score",))).is_shared_outage
    bad = later(300, 15, over, success=0.5)
    found = watched(bad, MonitoringConfig(metrics=("reliability_score",)))
    assert not found.is_shared_outage
    assert any(alarm.may_roll_back and alarm.since > over[-1].at - 60 * MINUTE for alarm in found.alarms)


def test_metrics_that_alert_but_do_not_roll_back() -> None:
    config = MonitoringConfig(metrics=("latency",), roll_back_on=())
    found = watched(later(300, 16, GOOD, slower=3.0), config)
    assert found.alarms
    assert not any(alarm.may_roll_back for alarm in found.alarms)


def test_a_limit_is_held_against_the_rolling_window() -> None:
    config = MonitoringConfig(metrics=("latency",), limits={"latency": 8.0}, window_hours=1)
    assert not watched(GOOD, config).alarms  # a geometric mean of 7.4 s
    found = watched(later(120, 17, GOOD, slower=1.6), config)
    assert "window" in {alarm.rule for alarm in found.alarms}
    alarm = next(alarm for alarm in found.alarms if alarm.rule == "window")
    assert alarm.expected == 8.0
    assert "above the limit of 8" in alarm.text
    assert alarm.at - alarm.since <= 3600


def test_what_cannot_be_watched_is_said_and_rings_nothing() -> None:
    """F45: no sessions, too small a reference, nothing measured."""
    assert len(watched([]).not_watched) == len(ALL.metrics)
    few = watch(ALL, GOOD, reference=REFERENCE[:99], now=GOOD[-1].at)
    assert few.alarms == ()
    assert few.not_watched[0] == "human_override_rate: 99 of at least 100 sessions say what is normal"
    blank = [Session(at=each.at) for each in GOOD]
    assert "no session was measured" in watched(blank).not_watched[0]
    broken = [replace(each, quality=float("nan"), seconds=0.0, cost_usd=-1.0) for each in GOOD]
    assert not watched(broken, MonitoringConfig(metrics=("completion_quality", "latency", "cost"))).alarms


def test_false_alarms_of_all_monitors_together_are_as_rare_as_stated() -> None:
    config = MonitoringConfig(metrics=tuple(SHIFTS), sessions_between_false_alarms=5000)
    found = watch(config, sessions(20_000, 18), reference=sessions(5000, 19), now=START + 1e9)
    assert len(found.alarms) <= 8


def test_windows_are_of_168_hours_in_utc_whatever_the_clocks_do() -> None:
    autumn = 1_792_886_400.0  # Sunday 25 October 2026, clocks go back in Europe
    own = [replace(each, at=autumn + 3600.0 * index) for index, each in enumerate(sessions(400, 20))]
    found = windows("human_override_rate", own, hours=168, step_hours=24, until=autumn + 168 * 3600, count=2)
    assert [each.sessions for each in found] == [144, 168]
    assert found[1].start == "2026-10-25T00:00:00Z"
    assert found[1].end == "2026-11-01T00:00:00Z"
    assert found[1].value is not None
    assert found[1].lower is not None
    assert found[1].lower < found[1].value


def test_an_empty_window_has_no_value() -> None:
    found = windows("latency", [], hours=1, step_hours=1, until=START, count=1)[0]
    assert (found.sessions, found.value, found.lower) == (0, None, None)


def test_keys_for_metrics_that_are_not_watched_are_refused() -> None:
    with pytest.raises((ConfigError, ValueError), match="which is not watched"):
        MonitoringConfig(metrics=("latency",), limits={"cost": 1.0})
