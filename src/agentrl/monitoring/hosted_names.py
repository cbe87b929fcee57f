"""Metrics by the names of hosted reinforcement fine-tuning, beside ours: dashboards made for it go on working."""

from __future__ import annotations

from collections.abc import Mapping

HOSTED: Mapping[str, tuple[str, ...]] = {
    "score_train": ("train_mean_reward", "train_reward_mean"),
    "reward_validation": ("full_valid_mean_reward", "valid_reward_mean"),
    "output_tokens": ("completion_tokens_mean",),
    "reasoning_tokens": ("reasoning_tokens_mean",),
    "infra_failed_grader": ("mean_unresponsive_rewards",),
    "seconds_evaluation": ("timing/step/eval",),
    "seconds_rollout": ("timing/step/sampling",),
    "seconds_update": ("timing/step/training",),
    "tool_calls": ("tool_calls_per_rollout",),
}
"""Ours -> theirs. What they call reward is the grader's score; ours has penalties in it, and keeps its own name."""


def with_hosted_names(values: Mapping[str, float]) -> dict[str, float]:
    """The metrics, and those that hosted jobs report too once more by their names."""
    theirs = {name: values[ours] for ours, names in HOSTED.items() if ours in values for name in names}
    return {**values, **theirs}
