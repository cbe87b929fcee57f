"""What may be put side by side: two policies, measured under the same conditions, by the same graders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentrl.errors import ConfigError
from agentrl.evaluation.compare import refuse_other_graders
from agentrl.evaluation.conditions import differing_conditions, refuse_other_conditions, shown
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.runs.identity import Change

GRADERS = ("graders", "rubric")
"""Conditions that no option allows to differ: scores of other graders are of something else."""


def admit(first: Evaluation, second: Evaluation, allowed: Sequence[str]) -> list[Change]:
    """The differences that were allowed by name; raises where there are others.

    Raises:
        ConfigError: they are the same rollouts, or differ in more than the policy, or were graded by other graders.
    """
    _refuse_the_same(first, second)
    names = (first.name, second.name)
    found, permitted = differing_conditions(first.conditions, second.conditions, allowed)
    spoiled = _scored_by_others(first, second, [*found, *permitted])
    if spoiled:
        lines = "\n  ".join(f"{each.key}: {shown(each.before)} against {shown(each.after)}" for each in spoiled)
        raise ConfigError(
            f"{names[0]} and {names[1]} were graded by different graders:\n  {lines}\n"
            "No option allows that: grade one of them again (`agentrl grader run`), or measure both with one grader"
        )
    if first.rollouts and second.rollouts:
        refuse_other_graders(first.report, second.report)
    return refuse_other_conditions(names, first.conditions, second.conditions, allowed)


def _refuse_the_same(first: Evaluation, second: Evaluation) -> None:
    if not first.rollouts or {each.id for each in first.rollouts} != {each.id for each in second.rollouts}:
        return
    if first.rollouts == second.rollouts:
        both = {(side.policy.get("run"), side.policy.get("evaluation")) for side in (first, second)}
        hint = ""
        if len(both) == 1 and first.policy.get("kind") == "run":
            hint = f": both mean {first.policy['evaluation']} of {first.policy['run']}"
            hint += ", the policy before training" if first.policy.get("step") == 0 else ""
        raise ConfigError(f"{first.name} and {second.name} are the same rollouts{hint}; give two policies")


def _scored_by_others(first: Evaluation, second: Evaluation, found: Sequence[Change]) -> list[Change]:
    """The changes of whoever gave the scores: all below GRADERS but the hold-outs, which have no part in them."""
    holdouts = {
        name
        for side in (first, second)
        for rollout in side.rollouts
        for name in (*rollout.grade.holdout, *rollout.grade.holdout_missing)
    }
    return [each for each in found if each.is_below(GRADERS) and each.key.partition(".")[2] not in holdouts]


def without_holdouts(evaluation: Evaluation, changes: Sequence[Change]) -> Evaluation:
    """The evaluation less the scores of hold-outs that are not the same on both sides."""
    names = {each.key.partition(".")[2] for each in changes if each.is_below(GRADERS)}
    if not names:
        return evaluation

    def kept(scores: dict[str, Any]) -> dict[str, Any]:
        return {name: score for name, score in scores.items() if name not in names}

    rollouts = tuple(
        replace(each, grade=replace(each.grade, holdout=kept(each.grade.holdout))) for each in evaluation.rollouts
    )
    return replace(evaluation, rollouts=rollouts)
