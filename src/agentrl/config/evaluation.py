"""`evaluation:` when and how the policy is measured. `checkpoint:` when it is saved."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from agentrl.config.section import PositiveInt, Problem, Section


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
    """What a run keeps on disk: checkpoints to go on from, and the policies that validation liked best."""

    every_steps: PositiveInt = Field(default=5, description="PPO steps between two checkpoints.")
    keep_last: PositiveInt = Field(default=2, description="Checkpoints to keep, the newest ones.")
    keep_every_steps: PositiveInt | None = Field(
        default=None,
        description="Also keep the checkpoints of every so many steps, for good; a multiple of `every_steps`.",
    )
    keep_best: PositiveInt = Field(
        default=3, description="Policies to keep, the best ones on validation, each as a Hugging Face directory."
    )
    token_facts: bool = Field(
        default=True,
        description="Whether to keep, for each batch that was learned from, every sampled token's advantage, value and "
        "log-probabilities: for the trace viewer.",
    )

    def problems(self) -> Iterator[Problem]:
        if self.keep_every_steps is not None and self.keep_every_steps % self.every_steps:
            yield Problem(
                ("keep_every_steps",),
                f"found {self.keep_every_steps}; allowed: a multiple of checkpoint.every_steps ({self.every_steps}), "
                "as there is no checkpoint at other steps",
            )
