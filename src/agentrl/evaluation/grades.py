"""What the grades of a batch of rollouts say beside their score: its parts, its price, its faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from agentrl.grading.grader import add_tokens, known_cost_usd
from agentrl.types import Rollout

KINDS = ("prompt", "completion", "cached", "unpriced")


def grade_metrics(rollouts: Sequence[Rollout], suffix: str = "") -> dict[str, float]:
    """Figures for metrics.jsonl; what no grade has is missing.

    `score_part_NAME` is the mean of a sub-score, every task one vote, over what has a vote. Tokens and dollars are
    sums, those of gradings that failed included; dollars are missing where tokens have no price.

    Args:
        suffix: behind each name, to keep evaluations apart from training.
    """
    grades = [rollout.grade for rollout in rollouts]
    waited = [grade.seconds for grade in grades if grade.seconds > 0]
    by_model = add_tokens(grades)
    tokens = {
        f"judge_{kind}_tokens_{model}": float(counts[kind])
        for model, counts in sorted(by_model.items())
        for kind in KINDS
        if kind in counts
    }
    cost_usd = known_cost_usd(by_model, sum(grade.cost_usd for grade in grades))
    flags = Counter(flag for grade in grades for flag in grade.errors)
    figures = {
        **{f"score_part_{name}": score for name, score in _parts(rollouts).items()},
        **({"latency_grading_seconds": fmean(waited)} if waited else {}),
        **tokens,
        **({"grading_cost_usd": cost_usd} if tokens and cost_usd is not None else {}),
        **{f"grader_errors_{flag}": float(count) for flag, count in sorted(flags.items())},
    }
    return {f"{name}{suffix}": value for name, value in figures.items()}


def _parts(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Mean of each sub-score over tasks of its mean over samples."""
    by_name: dict[str, dict[str, list[float]]] = {}
    for rollout in rollouts:
        for name, score in rollout.grade.sub_scores.items() if rollout.is_valid else ():
            by_name.setdefault(name, {}).setdefault(rollout.task.id, []).append(score)
    return {name: fmean(map(fmean, tasks.values())) for name, tasks in sorted(by_name.items())}
