"""`evaluation:` when and how the policy is measured. `checkpoint:` when it is saved."""

from __future__ import annotations

from pydantic import Field

from agentrl.config.section import PositiveInt, Section


class EvaluationConfig(Section):
    """The baseline, the best and the last policy get `samples_per_item`; evaluations on the way are lighter."""

    every_steps: PositiveInt = Field(default=5, description="PPO steps between two evaluations on validation.")
    samples_per_item: PositiveInt = Field(default=3, description="Rollouts an item in the before/after evaluations.")
    validation_items: PositiveInt | None = Field(
        default=None, description="Validation items to evaluate on, the first ones; null is all."
    )
    periodic_samples_per_item: PositiveInt = Field(
        default=1, description="Rollouts an item in the evaluations on the way; they choose the best checkpoint."
    )
    test_samples_per_item: PositiveInt = Field(default=1, description="Rollouts an item of the test split.")
    run_test: bool = Field(default=True, description="Evaluate baseline and best on the test split, once, at the end.")


class CheckpointConfig(Section):
    """The best by validation is kept beside the last ones."""

    every_steps: PositiveInt = Field(default=5, description="PPO steps between two checkpoints.")
    keep_last: PositiveInt = Field(default=2, description="Checkpoints to keep, the newest ones.")
