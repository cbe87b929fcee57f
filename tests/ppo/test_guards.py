from __future__ import annotations

import pytest

from agentrl.config import GuardsConfig
from agentrl.ppo.guards import violation

GUARDS = GuardsConfig()
HEALTHY = {
    "kl_per_token": 0.02,
    "grad_norm": 1.0,
    "entropy": 1.0,
    "clip_fraction": 0.05,
    "explained_variance": 0.4,
}


def steps_until_stop(**bad: float) -> int | None:
    """Two healthy steps, then bad ones; how many bad ones it takes."""
    history = [HEALTHY, HEALTHY]
    for n in range(1, 13):
        history.append({**HEALTHY, **bad})
        if violation(history, GUARDS):
            return n
    return None


@pytest.mark.parametrize(
    ("rule", "bad", "steps"),
    [
        ("kl", {"kl_per_token": 0.21}, 1),
        ("grad_norm", {"grad_norm": 101.0}, 1),
        ("update_kl", {"abandoned_minibatches": 1.0}, 3),
        ("entropy_collapse", {"entropy": 0.19}, 5),
        ("entropy_blow_up", {"entropy": 2.1}, 5),
        ("clip_fraction", {"clip_fraction": 0.41}, 5),
        ("explained_variance", {"explained_variance": -0.51}, 5),
    ],
)
def test_each_rule_fires_at_its_step_and_says_what_it_saw(rule: str, bad: dict[str, float], steps: int) -> None:
    assert steps_until_stop(**bad) == steps
    fired = violation([HEALTHY, *[{**HEALTHY, **bad}] * steps], GUARDS)
    assert fired is not None
    assert fired.rule == rule
    (key, value), *_ = bad.items()
    assert fired.message.startswith(f"{key} is ")
    assert fired.message.endswith(f"{value:.4g}")


@pytest.mark.parametrize(
    "edge",
    [
        {"kl_per_token": 0.2},
        {"grad_norm": 100.0},
        {"entropy": 0.2},
        {"entropy": 2.0},
        {"clip_fraction": 0.4},
        {"explained_variance": -0.5},
    ],
)
def test_a_value_at_its_threshold_does_not_stop_a_run(edge: dict[str, float]) -> None:
    assert steps_until_stop(**edge) is None


def test_a_healthy_run_goes_on() -> None:
    history = [{**HEALTHY, "entropy": 1.0 - 0.005 * i, "kl_per_token": 0.001 * i} for i in range(100)]
    assert all(violation(history[:n], GUARDS) is None for n in range(1, 101))


def test_a_slow_signal_must_be_out_of_bounds_without_a_break() -> None:
    bad, history = {**HEALTHY, "clip_fraction": 0.9}, [HEALTHY]
    history += [bad] * 4 + [HEALTHY] + [bad] * 4
    assert all(violation(history[:n], GUARDS) is None for n in range(1, len(history) + 1))


def test_an_abandoned_update_now_and_then_does_not_stop_a_run() -> None:
    abandoned = {**HEALTHY, "abandoned_minibatches": 1.0}
    assert violation([abandoned, abandoned, HEALTHY, abandoned, abandoned], GUARDS) is None


def test_patience_comes_from_the_config() -> None:
    bad = {**HEALTHY, "entropy": 0.0}
    assert violation([HEALTHY, bad], GuardsConfig(patience_steps=1)) is not None
    assert violation([HEALTHY, bad], GuardsConfig(patience_steps=2)) is None


def test_entropy_is_judged_against_the_first_step_of_the_whole_run() -> None:
    history = [{**HEALTHY, "entropy": 10.0}, *[HEALTHY] * 5]
    assert violation(history, GUARDS) is not None
    assert violation(history[1:], GUARDS) is None
