"""How large the planned run will be, from what the probe's own episodes took; the arithmetic is `agentrl.sizing`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentrl.config import RunConfig
from agentrl.evaluation.intervals import Interval, percentile_interval, resampled_means
from agentrl.sizing import Assumption, Assumptions, Figure, ModelShape, forecast
from agentrl.types import Rollout

RESAMPLES = 300
TRAINED_PER_SECOND, SAMPLED_PER_SECOND = 2000.0, 500.0
CHARS_PER_TOKEN = 4.0
MEASURED = (
    "prompt_tokens",
    "calls_per_episode",
    "turns_per_episode",
    "sampled_tokens",
    "shown_tokens",
    "tool_seconds",
    "grader_seconds",
    "usd_per_grade",
)


@dataclass(frozen=True)
class PlannedFigure:
    """One line of the forecast, with what the probe leaves open about it."""

    figure: Figure
    interval: Interval
    """95 %, over items; a policy that changes while it learns is not in it."""


@dataclass(frozen=True)
class Plan:
    """What the run that the config describes comes to."""

    assumptions: Assumptions
    figures: tuple[PlannedFigure, ...]

    def __getitem__(self, name: str) -> PlannedFigure:
        return next(each for each in self.figures if each.figure.name == name)


def plan(
    config: RunConfig,
    shape: ModelShape,
    rollouts: Sequence[Rollout],
    *,
    seconds: float,
    validation: int,
    test: int,
    usd_per_hour: float = 0.0,
    trained_tokens_per_second: float | None = None,
) -> Plan | None:
    """The forecast, and how far it would move with other items; None where no rollout has a vote.

    Args:
        seconds: that all rollouts took together.
        validation, test: how many tasks the splits have.
    """
    by_item: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.is_valid:
            by_item.setdefault(rollout.task.id, []).append(rollout)
    if not by_item:
        return None
    rows = np.array([np.mean([_measured(each) for each in group], axis=0) for group in by_item.values()])
    valid = [each for group in by_item.values() for each in group]
    is_api = any(map(is_unseen, valid))
    speed = None if is_api else sum(each.output_tokens for each in valid) / max(seconds, 1e-9)
    source = f"{len(valid)} rollouts of {len(by_item)} items"
    if is_api:
        source += f", what is read at {CHARS_PER_TOKEN:g} characters a token"

    def forecast_of(means: Any) -> tuple[Assumptions, tuple[Figure, ...]]:
        given = _assumptions(config, dict(zip(MEASURED, map(float, means), strict=True)), source, speed)
        given = given.changed({"usd_per_hour": usd_per_hour or None}, "given")
        given = given.changed({"trained_tokens_per_second": trained_tokens_per_second}, "given")
        return given, forecast(config, given, shape, validation=validation, test=test).figures

    assumptions, figures = forecast_of(rows.mean(0))
    draws = [forecast_of(means)[1] for means in resampled_means(rows, resamples=RESAMPLES)]
    values = np.array([[figure.value for figure in drawn] for drawn in draws])
    return Plan(
        assumptions,
        tuple(PlannedFigure(figure, percentile_interval(values[:, column])) for column, figure in enumerate(figures)),
    )


def _measured(rollout: Rollout) -> list[float]:
    """Of one episode, in the order of MEASURED; tool and grader seconds are of one call."""
    results = [result for turn in rollout.turns for result in turn.tool_results if result.seconds > 0]
    prompt: float = len(rollout.prompt_ids)
    shown: float = sum(len(turn.observation_ids) for turn in rollout.turns)
    if is_unseen(rollout):
        prompt = sum(len(str(message.get("content") or "")) for message in rollout.task.messages) / CHARS_PER_TOKEN
        shown = sum(len(result.output) for result in results) / CHARS_PER_TOKEN
    return [
        prompt,
        len(results),
        len(rollout.turns),
        rollout.output_tokens,
        shown,
        sum(result.seconds for result in results),
        rollout.grade.seconds,
        rollout.grade.cost_usd,
    ]


def is_unseen(rollout: Rollout) -> bool:
    """Whether it is a model's behind an API, which tells how many tokens it wrote, but not which."""
    return any(turn.unseen_tokens for turn in rollout.turns)


def _assumptions(config: RunConfig, means: dict[str, float], source: str, speed: float | None) -> Assumptions:
    calls, turns = means["calls_per_episode"], max(means["turns_per_episode"], 1e-9)

    def measured(value: float) -> Assumption:
        return Assumption(value, source)

    return Assumptions(
        prompt_tokens=measured(means["prompt_tokens"]),
        calls_per_episode=measured(calls),
        turns_per_episode=measured(turns),
        tokens_per_turn=measured(means["sampled_tokens"] / turns),
        tool_output_tokens=measured(means["shown_tokens"] / calls if calls else 0.0),
        tool_seconds=measured(means["tool_seconds"] / calls if calls else 0.0),
        grader_seconds=measured(means["grader_seconds"]),
        sampled_tokens_per_second=Assumption(SAMPLED_PER_SECOND, "a default: an API's speed is not the run's")
        if speed is None
        else Assumption(max(speed, 1e-3), f"{source}, waiting for tools and grader included"),
        trained_tokens_per_second=Assumption(TRAINED_PER_SECOND, "a default"),
        usd_per_tool_call=Assumption(config.rollout.prices.usd_per_tool_call, "rollout.prices"),
        usd_per_grade=measured(means["usd_per_grade"]),
        usd_per_hour=Assumption(0.0, "a default"),
    )
